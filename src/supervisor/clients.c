/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "supervisor/supervisor.h"

/* Others wait for a slow client so long: milliseconds. */
#define PATIENCE_MS 1000

/* After the end, one that is attached and takes nothing of what is left; a pager may show it for a while. */
#define STALLED_MS (600 * 1000)

static bool is_there(const struct client *client) {
        return client->fd >= 0;
}

static bool takes_output(const struct client *client) {
        return is_there(client) && client->attached && !client->leaving;
}

static size_t lag(const struct client *client) {
        return supervisor_writer_pending(&client->writer);
}

static void drop(struct client *client) {
        close(client->fd);
        supervisor_reader_clear(&client->reader);
        supervisor_writer_clear(&client->writer);
        *client = (struct client){ .fd = -EBADF };
}

static void send_frame(struct client *client, enum supervisor_frame kind, const void *data, size_t size) {
        bool lagged = lag(client) > 0;

        if (supervisor_writer_send(&client->writer, client->fd, kind, data, size) < 0) {
                drop(client);
                return;
        }
        if (!lagged)
                client->lag_from = client->progress = clock_ms();
}

/* The connection ends when all has been sent. */
static void leave(struct client *client) {
        if (!is_there(client))
                return;
        client->leaving = true;
        if (lag(client) == 0)
                drop(client);
}

static void send_error(struct client *client, int number) {
        int32_t value = -number;

        send_frame(client, SUPERVISOR_ERROR, &value, sizeof(value));
}

static void send_exit(const struct supervisor *supervisor, struct client *client) {
        int32_t status = supervisor->status.exit_status;

        if (supervisor->status.exited)
                send_frame(client, SUPERVISOR_EXIT, &status, sizeof(status));
        leave(client);
}

void clients_listen(struct supervisor *supervisor) {
        /* By a descriptor of the directory its name is always short enough. */
        _cleanup_free_ char *path = xasprintf("/proc/self/fd/%d/" SUPERVISOR_SOCKET, supervisor->dir_fd);

        supervisor->listening = io_listen_unix(path, 0600, SUPERVISOR_CLIENTS);
        if (supervisor->listening < 0) {
                fprintf(stderr, "stasis-supervisor: cannot listen at %s/" SUPERVISOR_SOCKET ": %s\n", supervisor->dir,
                        strerror(-supervisor->listening));
                supervisor->listening = -EBADF;
                return;
        }
        (void)io_set_nonblocking(supervisor->listening, true);
}

static void refuse(int fd) {
        struct client guest = { .fd = fd };

        send_error(&guest, -EMFILE);
        if (is_there(&guest))
                drop(&guest);
}

static void accept_client(struct supervisor *supervisor) {
        const struct supervisor_hello hello = {
                .protocol = SUPERVISOR_PROTOCOL,
                .pid = supervisor->status.pid,
                .attachable = supervisor->attachable,
                .terminal = supervisor->terminal,
                .exited = supervisor->status.exited,
                .status = supervisor->status.exit_status,
        };
        int fd = io_accept(supervisor->listening);

        if (fd < 0)
                return;
        (void)io_set_nonblocking(fd, true);
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++) {
                struct client *client = &supervisor->clients[i];

                if (is_there(client))
                        continue;
                *client = (struct client){ .fd = fd };
                send_frame(client, SUPERVISOR_HELLO, &hello, sizeof(hello));
                return;
        }
        refuse(fd);
}

static void attach(struct supervisor *supervisor, struct client *client) {
        enum supervisor_frame kind;
        const char *data;
        size_t size;

        if (client->attached)
                return;
        client->attached = true;
        supervisor->ever_attached = true;
        while (is_there(client) && backlog_take(&supervisor->backlog, &kind, &data, &size))
                send_frame(client, kind, data, size);
        if (is_there(client) && supervisor->concluded)
                send_exit(supervisor, client);
}

static void handle(struct supervisor *supervisor, struct client *client, const struct supervisor_message *message) {
        struct supervisor_window window;
        int32_t number;
        int r = 0;

        switch (message->kind) {
        case SUPERVISOR_ATTACH:
                attach(supervisor, client);
                break;
        case SUPERVISOR_STDIN:
                if (supervisor->attachable)
                        input_add(supervisor, message->data, message->size);
                else
                        r = -EOPNOTSUPP;
                break;
        case SUPERVISOR_END:
                input_end(supervisor);
                break;
        case SUPERVISOR_SIGNAL:
                r = supervisor_message_get(message, &number, sizeof(number)) ? input_signal(supervisor, number)
                                                                             : -EINVAL;
                break;
        case SUPERVISOR_WINDOW:
                r = supervisor_message_get(message, &window, sizeof(window))
                            ? input_window(supervisor, &window, !client->sized)
                            : -EINVAL;
                client->sized = true;
                break;
        default:
                break; /* of a later version */
        }
        if (r < 0)
                send_error(client, r);
}

/* Handles what has come, up to input for which there is no room. */
static void handle_all(struct supervisor *supervisor, struct client *client) {
        struct supervisor_message message;
        int r = 0;

        client->waiting = false;
        while (is_there(client) && !client->leaving && (r = supervisor_reader_next(&client->reader, &message)) > 0) {
                if (message.kind == SUPERVISOR_STDIN && !input_has_room(supervisor)) {
                        client->reader.begin -= sizeof(struct supervisor_frame_head) + message.size;
                        client->waiting = true;
                        return;
                }
                handle(supervisor, client, &message);
        }
        if (is_there(client) && r < 0) {
                send_error(client, r);
                leave(client);
        }
}

static void serve(struct supervisor *supervisor, struct client *client, short events) {
        if (lag(client) > 0 && events) {
                size_t before = lag(client);
                int r = supervisor_writer_flush(&client->writer, client->fd);

                if (r < 0 || (r == 0 && client->leaving)) {
                        drop(client);
                        return;
                }
                if (lag(client) < before)
                        client->progress = clock_ms();
        }
        if (client->waiting)
                handle_all(supervisor, client);
        else if (events & ~POLLOUT && !client->leaving) {
                ssize_t n = supervisor_reader_fill(&client->reader, client->fd);

                if (n == 0 || (n < 0 && n != -EAGAIN))
                        drop(client);
                else
                        handle_all(supervisor, client);
        }
}

void clients_poll(struct supervisor *supervisor, struct poll_set *set) {
        poll_set_add(set, supervisor->listening, POLLIN);
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++) {
                const struct client *client = &supervisor->clients[i];
                bool reads = !client->waiting && !client->leaving;

                /* One that waits and has gone would be reported again and again. */
                if (is_there(client) && (reads || lag(client) > 0))
                        poll_set_add(set, client->fd, (short)((reads ? POLLIN : 0) | (lag(client) > 0 ? POLLOUT : 0)));
        }
}

void clients_serve(struct supervisor *supervisor, const struct poll_set *set) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++)
                if (is_there(&supervisor->clients[i]))
                        serve(supervisor, &supervisor->clients[i], poll_set_events(set, supervisor->clients[i].fd));
        /* Last: a new one may have the number of one that left. */
        if (supervisor->listening >= 0 && poll_set_events(set, supervisor->listening))
                accept_client(supervisor);
}

bool clients_attached(const struct supervisor *supervisor) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++)
                if (takes_output(&supervisor->clients[i]))
                        return true;
        return false;
}

bool clients_output(struct supervisor *supervisor, enum supervisor_frame kind, const void *data, size_t size) {
        bool taken = false;

        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++) {
                struct client *client = &supervisor->clients[i];

                if (!takes_output(client))
                        continue;
                send_frame(client, kind, data, size);
                taken |= is_there(client);
        }
        return taken;
}

bool clients_hold(struct supervisor *supervisor, struct poll_set *set) {
        uint64_t now = clock_ms();
        bool somebody_reads = false, hold = false;

        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++) {
                const struct client *client = &supervisor->clients[i];
                somebody_reads |= takes_output(client) && lag(client) == 0;
        }
        if (!somebody_reads)
                return true;
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++) {
                struct client *client = &supervisor->clients[i];

                if (!takes_output(client) || lag(client) <= SUPERVISOR_LAG)
                        continue;
                if (now >= client->lag_from + PATIENCE_MS) {
                        drop(client);
                        continue;
                }
                poll_set_until(set, client->lag_from + PATIENCE_MS);
                hold = true;
        }
        return hold;
}

void clients_exit(struct supervisor *supervisor) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++)
                if (takes_output(&supervisor->clients[i]))
                        send_exit(supervisor, &supervisor->clients[i]);
}

bool clients_done(const struct supervisor *supervisor, struct poll_set *set) {
        uint64_t now = clock_ms();
        bool done = true;

        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++) {
                const struct client *client = &supervisor->clients[i];

                if (!is_there(client) || lag(client) == 0 || now >= client->progress + STALLED_MS)
                        continue;
                poll_set_until(set, client->progress + STALLED_MS);
                done = false;
        }
        return done;
}
