/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/attach.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <daemon/daemon.pb-c.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "base/text.h"
#include "supervisor/protocol.h"
#include "supervisor/status.h"

/* Output that waits for the client, and input that waits for the job: beyond it the other side is not read. */
#define OUTPUT_HIGH ((size_t)512 << 10)
#define INPUT_HIGH ((size_t)256 << 10)
#define INPUT_LOW ((size_t)64 << 10)

/* So many bytes are read at once: several frames. */
#define READ_SIZE (SUPERVISOR_FRAME_MAX + sizeof(struct supervisor_frame_head))

/* In one turn of the loop, so that others have theirs. */
#define READS_MAX 4

struct attach {
        struct rpc_call *call;
        sd_event_source *io;
        int fd;
        struct job_process process;
        bool welcome; /* asked for, and not sent yet */
        bool wait;    /* for the exit code, if for nothing else */
        bool greeted; /* HELLO is there */
        bool paused;  /* the client's messages */
        uint8_t *in;  /* READ_SIZE, a frame that is not complete yet at its beginning */
        size_t n_in;
        uint8_t *out; /* frames for the supervisor */
        size_t n_out, out_at, out_room;
};

static void attach_free(struct attach *attach) {
        sd_event_source_disable_unref(attach->io);
        if (attach->fd >= 0)
                close(attach->fd);
        job_process_clear(&attach->process);
        rpc_call_unref(attach->call);
        free(attach->in);
        free(attach->out);
        free(attach);
}

/** Ends the call, and everything of it. */
static void finish(struct attach *attach, struct st_error *error) {
        rpc_call_on_message(attach->call, NULL, NULL);
        rpc_call_on_drained(attach->call, NULL, NULL);
        rpc_call_on_cancel(attach->call, NULL, NULL);
        rpc_call_finish(attach->call, error);
        attach_free(attach);
}

static void send_welcome(struct rpc_call *call, const char *jid, bool streams, bool terminal) {
        Daemon__AttachResp resp = DAEMON__ATTACH_RESP__INIT;
        Daemon__AttachWelcome welcome = DAEMON__ATTACH_WELCOME__INIT;

        welcome.jid = (char *)jid;
        welcome.has_streams = welcome.has_terminal = 1;
        welcome.streams = streams;
        welcome.terminal = terminal;
        resp.output_case = DAEMON__ATTACH_RESP__OUTPUT_WELCOME;
        resp.welcome = &welcome;
        (void)rpc_call_send(call, &resp.base);
}

static void send_exit_code(struct rpc_call *call, int status) {
        Daemon__AttachResp resp = DAEMON__ATTACH_RESP__INIT;

        resp.output_case = DAEMON__ATTACH_RESP__OUTPUT_EXIT_CODE;
        resp.exitcode = spawn_exit_code(status);
        (void)rpc_call_send(call, &resp.base);
}

static void send_output(struct attach *attach, bool is_stderr, const uint8_t *data, size_t size) {
        Daemon__AttachResp resp = DAEMON__ATTACH_RESP__INIT;
        ProtobufCBinaryData bytes = { .len = size, .data = (uint8_t *)data };

        resp.output_case = is_stderr ? DAEMON__ATTACH_RESP__OUTPUT_STDERR : DAEMON__ATTACH_RESP__OUTPUT_STDOUT;
        *(is_stderr ? &resp.stderr : &resp.stdout) = bytes;
        (void)rpc_call_send(attach->call, &resp.base);
}

static void watch(struct attach *attach) {
        uint32_t events = 0;

        if (rpc_call_queued(attach->call) < OUTPUT_HIGH)
                events |= EPOLLIN;
        if (attach->n_out > attach->out_at)
                events |= EPOLLOUT;
        /* Off, not only without events: the end of a connection would be told again and again. */
        (void)sd_event_source_set_enabled(attach->io, events ? SD_EVENT_ON : SD_EVENT_OFF);
        if (events)
                (void)sd_event_source_set_io_events(attach->io, events);
}

/** How a job ended whose supervisor is gone. */
static void end_without_supervisor(struct attach *attach) {
        _cleanup_error_ struct st_error *error = NULL;
        struct supervisor_status status;

        if (attach->process.record && supervisor_status_read(attach->process.record, &status) >= 0 && status.exited) {
                attach->process.ended = true;
                attach->process.exit_status = status.exit_status;
        }
        if (attach->process.ended) {
                if (attach->welcome)
                        send_welcome(attach->call, attach->process.jid, true, false);
                send_exit_code(attach->call, attach->process.exit_status);
        } else
                st_error_set(&error, ECONNRESET,
                             "the supervisor of the job has closed the connection: nobody knows "
                             "what becomes of its output");
        finish(attach, error);
}

/** @return -1 when the attach is over and freed */
static int refuse(struct attach *attach, int number, const char *why) {
        _cleanup_error_ struct st_error *error = NULL;

        st_error_set(&error, number, "cannot attach to %s: %s", attach->process.jid ?: "the process", why);
        if (attach->process.jid && number == EBUSY)
                st_error_hint(&error, "see 'stasis job logs %s'", attach->process.jid);
        finish(attach, error);
        return -1;
}

static int on_hello(struct attach *attach, const uint8_t *data, size_t size) {
        struct supervisor_hello hello;

        if (size < sizeof(hello))
                return refuse(attach, EPROTO, "its supervisor greets with garbage");
        memcpy(&hello, data, sizeof(hello));
        attach->greeted = true;
        if (!hello.attachable && !hello.exited && !attach->wait)
                return refuse(attach, EBUSY, "it was not started with --attachable");
        if (attach->welcome)
                send_welcome(attach->call, attach->process.jid, hello.attachable, hello.terminal);
        attach->welcome = false;
        return 0;
}

/** @return -1 when the attach is over and freed */
static int on_frame(struct attach *attach, uint8_t kind, const uint8_t *data, size_t size) {
        int32_t number = 0;

        if (size >= sizeof(number))
                memcpy(&number, data, sizeof(number));
        if (!attach->greeted && kind != SUPERVISOR_HELLO)
                return refuse(attach, EPROTO, "its supervisor does not greet");
        switch (kind) {
        case SUPERVISOR_HELLO:
                return attach->greeted ? 0 : on_hello(attach, data, size);
        case SUPERVISOR_STDOUT:
        case SUPERVISOR_STDERR:
                send_output(attach, kind == SUPERVISOR_STDERR, data, size);
                return 0;
        case SUPERVISOR_EXIT:
                send_exit_code(attach->call, number);
                finish(attach, NULL);
                return -1;
        case SUPERVISOR_ERROR:
                return refuse(attach,
                              number == 0            ? EPROTO
                              : number == EOPNOTSUPP ? EBUSY
                                                     : number,
                              number == EOPNOTSUPP ? "it was not started with --attachable" : strerror(number));
        default:
                return 0; /* of a newer supervisor */
        }
}

/** Takes the whole frames out of the buffer. @return -1 when the attach is over and freed */
static int take_frames(struct attach *attach) {
        struct supervisor_frame_head head;
        size_t at = 0;

        while (attach->n_in - at >= sizeof(head)) {
                memcpy(&head, attach->in + at, sizeof(head));
                if (head.size > SUPERVISOR_FRAME_MAX)
                        return refuse(attach, EPROTO, "its supervisor sends garbage");
                if (attach->n_in - at - sizeof(head) < head.size)
                        break;
                if (on_frame(attach, head.kind, attach->in + at + sizeof(head), head.size) < 0)
                        return -1;
                at += sizeof(head) + head.size;
        }
        memmove(attach->in, attach->in + at, attach->n_in - at);
        attach->n_in -= at;
        return 0;
}

/** @return -1 when the attach is over and freed */
static int receive(struct attach *attach) {
        for (unsigned i = 0; i < READS_MAX && rpc_call_queued(attach->call) < OUTPUT_HIGH; i++) {
                ssize_t n = recv(attach->fd, attach->in + attach->n_in, READ_SIZE - attach->n_in, MSG_DONTWAIT);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return 0;
                if (n <= 0) {
                        end_without_supervisor(attach);
                        return -1;
                }
                attach->n_in += (size_t)n;
                if (take_frames(attach) < 0)
                        return -1;
        }
        return 0;
}

/** What cannot be sent any more is dropped: the other direction tells why. */
static void transmit(struct attach *attach) {
        while (attach->n_out > attach->out_at) {
                ssize_t n = send(attach->fd, attach->out + attach->out_at, attach->n_out - attach->out_at,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        break;
                attach->out_at = n < 0 ? attach->n_out : attach->out_at + (size_t)n;
        }
        if (attach->n_out == attach->out_at)
                attach->n_out = attach->out_at = 0;
        if (attach->paused && attach->n_out - attach->out_at <= INPUT_LOW) {
                attach->paused = false;
                rpc_call_pause(attach->call, false);
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct attach *attach = userdata;

        (void)source;
        (void)fd;
        if (events & EPOLLOUT)
                transmit(attach);
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && receive(attach) < 0)
                return 0;
        watch(attach);
        return 0;
}

static void queue(struct attach *attach, enum supervisor_frame kind, const void *data, size_t size) {
        struct supervisor_frame_head head = supervisor_head(kind, size);
        size_t whole = sizeof(head) + size;

        if (attach->n_out + whole > attach->out_room && attach->out_at > 0) {
                memmove(attach->out, attach->out + attach->out_at, attach->n_out - attach->out_at);
                attach->n_out -= attach->out_at;
                attach->out_at = 0;
        }
        if (attach->n_out + whole > attach->out_room) {
                attach->out_room = (attach->n_out + whole) * 2;
                attach->out = xrealloc(attach->out, attach->out_room, 1);
        }
        memcpy(attach->out + attach->n_out, &head, sizeof(head));
        if (size > 0)
                memcpy(attach->out + attach->n_out + sizeof(head), data, size);
        attach->n_out += whole;
}

static void take_input(struct attach *attach, const Daemon__AttachReq *req) {
        struct supervisor_window window;
        int32_t number;

        switch (req->input_case) {
        case DAEMON__ATTACH_REQ__INPUT_STDIN:
                if (req->stdin.len == 0)
                        queue(attach, SUPERVISOR_END, NULL, 0);
                for (size_t at = 0, n; at < req->stdin.len; at += n) {
                        n = req->stdin.len - at < SUPERVISOR_FRAME_MAX ? req->stdin.len - at : SUPERVISOR_FRAME_MAX;
                        queue(attach, SUPERVISOR_STDIN, req->stdin.data + at, n);
                }
                break;
        case DAEMON__ATTACH_REQ__INPUT_SIGNAL:
                number = req->signal;
                if (number > 0 && number <= SIGRTMAX)
                        queue(attach, SUPERVISOR_SIGNAL, &number, sizeof(number));
                break;
        case DAEMON__ATTACH_REQ__INPUT_WINDOW:
                window.rows = (uint16_t)(req->window->rows > UINT16_MAX ? UINT16_MAX : req->window->rows);
                window.columns = (uint16_t)(req->window->columns > UINT16_MAX ? UINT16_MAX : req->window->columns);
                queue(attach, SUPERVISOR_WINDOW, &window, sizeof(window));
                break;
        default:
                break;
        }
        transmit(attach);
        if (!attach->paused && attach->n_out - attach->out_at > INPUT_HIGH) {
                attach->paused = true;
                rpc_call_pause(attach->call, true);
        }
        watch(attach);
}

/** Whoever closes its side may still want the output: the end of the job's input is a message of its own. */
static void on_message(struct rpc_call *call, const void *message, void *userdata) {
        (void)call;
        if (message)
                take_input(userdata, message);
}

static void on_drained(struct rpc_call *call, void *userdata) {
        (void)call;
        watch(userdata);
}

static void on_cancel(struct rpc_call *call, int reason, void *userdata) {
        _cleanup_error_ struct st_error *error = NULL;

        (void)call;
        st_error_set(&error, -reason, "detached");
        finish(userdata, error);
}

static void answer_ended(struct rpc_call *call, struct job_process *process, bool welcome) {
        if (welcome)
                send_welcome(call, process->jid, true, false);
        send_exit_code(call, process->exit_status);
        rpc_call_finish(call, NULL);
        job_process_clear(process);
}

/** @return the socket, or -errno with err */
static int connect_to(const struct job_process *process, struct st_error **err) {
        int fd = supervisor_connect(process->record);

        return fd < 0 ? st_error_errno(err, fd == -EAGAIN ? EMFILE : fd, "cannot reach the supervisor of %s",
                                       process->jid ?: "the process")
                      : fd;
}

void attach_start(sd_event *loop, struct rpc_call *call, struct job_process *process) {
        const Daemon__AttachReq *req = rpc_call_request(call);
        _cleanup_error_ struct st_error *error = NULL;
        bool welcome = req->has_welcome && req->welcome;
        struct attach *attach;
        int fd = process->record ? connect_to(process, &error) : -ENOENT, r;

        if (fd < 0 && process->ended) {
                answer_ended(call, process, welcome);
                return;
        }
        if (fd < 0) {
                rpc_call_finish(call, error);
                job_process_clear(process);
                return;
        }
        attach = NEW(struct attach);
        attach->call = rpc_call_ref(call);
        attach->fd = fd;
        attach->process = *process;
        *process = (struct job_process){ 0 };
        attach->welcome = welcome;
        attach->wait = req->has_wait && req->wait;
        attach->in = xmalloc(READ_SIZE);
        r = sd_event_add_io(loop, &attach->io, fd, EPOLLIN, on_io, attach);
        if (r < 0) {
                st_error_errno(&error, r, "cannot watch a supervisor");
                finish(attach, error);
                return;
        }
        queue(attach, SUPERVISOR_ATTACH, NULL, 0);
        rpc_call_on_message(call, on_message, attach);
        rpc_call_on_drained(call, on_drained, attach);
        take_input(attach, req);
        rpc_call_on_cancel(call, on_cancel, attach); /* may free it */
}
