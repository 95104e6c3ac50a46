/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is spoken at <record directory>/sock, a UNIX stream socket of mode 0600 at which a supervisor listens as long as
 * it lives. Both sides send frames: a 32-bit length of what follows the head, an 8-bit kind, three bytes of zero; all
 * numbers in the machine's byte order, for both ends are on it. The kinds never change their meaning: a job outlives
 * the program that started it, so a daemon meets supervisors of any version after 1.
 *
 * A client may send any number of frames at any time; up to SUPERVISOR_CLIENTS of them may be there. Each one that has
 * sent ATTACH gets all output from then on, and EXIT as the last frame. One that does not read is not waited for beyond
 * its socket's buffer when others do: see SUPERVISOR_LAG. A client leaves by closing its connection, or its direction.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SUPERVISOR_PROTOCOL 1

/* The socket's name in the record directory. */
#define SUPERVISOR_SOCKET "sock"

/* The longest frame, without its head. */
#define SUPERVISOR_FRAME_MAX 65536

/* Output that was not attached to when it came, and is sent to the first that attaches. Bytes, the last ones. */
#define SUPERVISOR_BACKLOG 65536

/*
 * Output that waits in the supervisor for one client. One that is there while others have got everything, for longer
 * than a second, loses its connection, without EXIT. When all are that slow the job waits for them.
 */
#define SUPERVISOR_LAG 131072

/* So many clients at once; the next one gets ERROR with EMFILE, and the end. */
#define SUPERVISOR_CLIENTS 32

enum supervisor_frame {
        /* of the supervisor */
        SUPERVISOR_HELLO = 1,  /* struct supervisor_hello; at once after accept */
        SUPERVISOR_STDOUT = 2, /* bytes */
        SUPERVISOR_STDERR = 3, /* bytes; never of a terminal */
        SUPERVISOR_EXIT = 4,   /* int32: the wait status of the root; the last frame */
        SUPERVISOR_ERROR = 5,  /* int32: errno; what the client asked for cannot be done */

        /* of a client */
        SUPERVISOR_ATTACH = 16, /* from here on it gets the output */
        SUPERVISOR_STDIN = 17,  /* bytes; of several clients in the order of their coming */
        SUPERVISOR_END = 18,    /* the end of the input: closes the job's standard input, on a terminal it is ^D */
        SUPERVISOR_SIGNAL = 19, /* int32: to the root; on a terminal to its foreground group */
        SUPERVISOR_WINDOW = 20, /* struct supervisor_window */
};

struct supervisor_frame_head {
        uint32_t size;
        uint8_t kind;
        uint8_t zero[3];
};

struct supervisor_hello {
        uint32_t protocol;  /* SUPERVISOR_PROTOCOL of the supervisor */
        int32_t pid;        /* of the root */
        uint8_t attachable; /* has its standard streams */
        uint8_t terminal;   /* on a terminal */
        uint8_t exited;     /* the root has ended; `status` tells how */
        uint8_t zero;
        int32_t status;
};

struct supervisor_window {
        uint16_t rows, columns;
};

/** <dir>/SUPERVISOR_SOCKET; malloc'ed. Maybe too long for an address: use supervisor_connect(). */
char *supervisor_socket_path(const char *dir);

/**
 * Connects to a supervisor, however long its path is. Does not wait.
 *
 * @return a non-blocking descriptor; -ECONNREFUSED or -ENOENT when it is gone, -EAGAIN when its queue is full
 */
int supervisor_connect(const char *dir);

/** The head of a frame. */
static inline struct supervisor_frame_head supervisor_head(enum supervisor_frame kind, size_t size) {
        return (struct supervisor_frame_head){ .size = (uint32_t)size, .kind = (uint8_t)kind };
}
