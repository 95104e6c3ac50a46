/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of stasis-supervisor share. One thread; nothing here waits but the loop in main.c. */

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/backlog.h"
#include "supervisor/frames.h"
#include "supervisor/status.h"

/* Something that the job prints into. */
struct stream {
        int fd; /* -EBADF: ended, or never there */
        enum supervisor_frame kind;
        bool settled;        /* the root has ended, and all that it had printed by then is taken */
        size_t left;         /* until then: no more bytes than this can have been on their way */
        uint64_t hung_until; /* nobody has the terminal open; looked at again then (clock_ms()) */
};

/* What waits to become the job's input. */
struct input {
        char *buffer;
        size_t begin, end;
        char last;   /* byte that was written */
        bool ending; /* close it, or ^D, when that has been written */
};

struct client {
        int fd; /* -EBADF: a free place */
        bool attached;
        bool leaving;      /* EXIT or an ERROR was its last frame: the end comes when it is sent */
        bool waiting;      /* its next frame is input, for which there is no room */
        bool sized;        /* has told the size of its window */
        uint64_t lag_from; /* since when something waits for it (clock_ms()) */
        uint64_t progress; /* when it last took something */
        struct supervisor_reader reader;
        struct supervisor_writer writer;
};

struct supervisor {
        const char *dir, *log, *record;
        struct supervisor_status status;

        /* stdio.c */
        struct stream streams[2]; /* of a terminal only the first */
        struct backlog backlog;

        struct input input;                        /* input.c */
        struct client clients[SUPERVISOR_CLIENTS]; /* clients.c */

        uint64_t linger;     /* milliseconds */
        uint64_t full_since; /* the backlog is full and waits for the first client (clock_ms()); 0: no */
        uint64_t ended;      /* clock_ms(); 0: the root lives */

        pid_t child; /* ends with the root's exit code */
        int dir_fd, signals, listening, root, answer, socket, log_fd;
        int in;              /* of a terminal that of streams[0] */
        int memory, program; /* memory.h: its memory still comes; stasis */

        bool terminal, attachable, ever_attached;
        bool linger_over; /* nobody came */
        bool childless;
        bool concluded; /* the root has ended and all of its output is taken: clients get EXIT */
};

/** What poll(2) is to wait for. */
struct poll_set {
        struct pollfd items[5 + SUPERVISOR_CLIENTS];
        size_t n;
        uint64_t until; /* clock_ms() at the latest; UINT64_MAX: no limit */
};

/** fd -EBADF is passed over. */
void poll_set_add(struct poll_set *set, int fd, short events);
void poll_set_until(struct poll_set *set, uint64_t when);
/** What has happened to it. */
short poll_set_events(const struct poll_set *set, int fd);

/* stdio.c: output and the log */

/** Opens the log, unless a descriptor was given. */
void stdio_open(struct supervisor *supervisor);
void stdio_poll(struct supervisor *supervisor, struct poll_set *set);
/** Takes what is there. To be called after every poll. */
void stdio_take(struct supervisor *supervisor, const struct poll_set *set);
/** The root has ended. */
void stdio_root_ended(struct supervisor *supervisor);
/** Is all taken that the root had printed? */
bool stdio_settled(const struct supervisor *supervisor);

/* input.c: what clients send to the job. Results: 0 or -errno, for SUPERVISOR_ERROR */

/** Is there room for one more frame? */
bool input_has_room(const struct supervisor *supervisor);
void input_add(struct supervisor *supervisor, const void *data, size_t size);
/** The end of the input, behind what waits. */
void input_end(struct supervisor *supervisor);
void input_poll(struct supervisor *supervisor, struct poll_set *set);
void input_write(struct supervisor *supervisor);
int input_signal(struct supervisor *supervisor, int number);
/**
 * Without a terminal nothing happens.
 *
 * @param first the first one of a client: programs are to draw the screen anew, also when the size stays
 */
int input_window(struct supervisor *supervisor, const struct supervisor_window *window, bool first);

/* clients.c */

/** Listens; without a socket the job goes on, and nobody can attach. */
void clients_listen(struct supervisor *supervisor);
void clients_poll(struct supervisor *supervisor, struct poll_set *set);
void clients_serve(struct supervisor *supervisor, const struct poll_set *set);
/** Sends output to all that are attached. @return false: nobody is */
bool clients_output(struct supervisor *supervisor, enum supervisor_frame kind, const void *data, size_t size);
/** Is somebody attached? */
bool clients_attached(const struct supervisor *supervisor);
/**
 * Must the job wait for those who are attached? Drops those who keep others waiting for too long.
 *
 * @param set when to ask again, if that is not by an event
 */
bool clients_hold(struct supervisor *supervisor, struct poll_set *set);
/** EXIT to all that are attached. */
void clients_exit(struct supervisor *supervisor);
/** Has everybody got everything, or has not moved for too long? */
bool clients_done(const struct supervisor *supervisor, struct poll_set *set);
