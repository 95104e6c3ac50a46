/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The client's end of daemon.Daemon/Attach. On a terminal every key goes to the job, whose terminal makes signals of
 * them; without one, signals that come to us are passed on. Whatever the job writes is on our streams before we end.
 */

#include "cli/attach.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <daemon/daemon.pb-c.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/detach_keys.h"
#include "cli/interrupt.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "cli/sink.h"
#include "cli/terminal.h"
#include "rpc/client.h"

#define INPUT_SIZE 32768
/* A key that may begin the detach keys is passed on when no other key follows it for so long. */
#define KEY_PATIENCE_MS 700
/* How long what was typed before the detach keys has to leave. */
#define LEAVE_MS 100
/* Ctrl-C twice within this time: the user wants to get away. */
#define TWICE_MS 1000
#define CALL_MS 5000

const struct st_option attach_options[] = {
        { .flag = "detach-keys",
          .type = ST_OPTION_STRING,
          .value_name = "KEYS",
          .fallback = "ctrl-p,ctrl-q",
          .help = "keys that end an attach on a terminal and leave the job running; empty: none" },
        ST_OPTION_END,
};

enum watch { WATCH_SIGNALS, WATCH_INPUT, WATCH_KEYS, WATCH_LEAVE, WATCH_OUT, WATCH_ERR, WATCH_COUNT };

enum ending { ENDING_NONE, ENDING_EXIT, ENDING_DETACHED, ENDING_SIGNAL, ENDING_OUTPUT };

struct attach {
        struct cli *cli;
        const struct attaching *attaching;
        char *jid;     /* NULL: it has none */
        bool terminal; /* ours is the job's */
        bool answered; /* the daemon has said something */
        bool sent_input, leaving;
        struct detach_keys keys;
        struct sink out, err;
        struct rpc_watch watches[WATCH_COUNT];
        uint64_t last_interrupt; /* clock_ms() */
        enum ending ending;
        int code; /* of ENDING_EXIT the exit code, of ENDING_SIGNAL the signal */
};

static void attach_clear(struct attach *attach) {
        terminal_restore();
        sink_close(&attach->out);
        sink_close(&attach->err);
        cleanup_closep(&attach->watches[WATCH_SIGNALS].fd);
        cleanup_closep(&attach->watches[WATCH_KEYS].fd);
        cleanup_closep(&attach->watches[WATCH_LEAVE].fd);
        free(attach->jid);
}

int attach_check(const struct st_arguments *arguments, struct st_error **err) {
        struct detach_keys keys;

        return detach_keys_parse(st_arguments_string(arguments, "detach-keys"), &keys, err);
}

/* Ends the call from a watch; what it means is in `ending`. */
static int end(struct attach *attach, enum ending ending, struct st_error **err) {
        if (attach->ending == ENDING_NONE)
                attach->ending = ending;
        return st_error_set(err, ESHUTDOWN, "detached");
}

static int send_input(struct rpc_client *client, const void *data, size_t n, struct st_error **err) {
        Daemon__AttachReq req = DAEMON__ATTACH_REQ__INIT;
        int r;

        req.input_case = DAEMON__ATTACH_REQ__INPUT_STDIN;
        req.stdin = (ProtobufCBinaryData){ n, (uint8_t *)data };
        r = rpc_client_send(client, &req.base);
        return r < 0 ? st_error_errno(err, r, "cannot pass on the input") : 0;
}

static void arm(const struct rpc_watch *timer, unsigned ms) {
        const struct itimerspec when = { .it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L } };

        (void)timerfd_settime(timer->fd, 0, &when, NULL);
}

/* The daemon sees the end of our side after everything that was sent before, and ends the call. */
static void leave(struct attach *attach, struct rpc_client *client) {
        attach->leaving = true;
        attach->watches[WATCH_INPUT].fd = -1;
        rpc_client_close_send(client);
        arm(&attach->watches[WATCH_LEAVE], LEAVE_MS);
}

static int on_leave(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        (void)client;
        return end(watch->userdata, ENDING_DETACHED, err);
}

static int on_keys(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        struct attach *attach = watch->userdata;
        uint8_t held[DETACH_KEYS_MAX];
        size_t n = detach_keys_flush(&attach->keys, held);

        arm(watch, 0);
        return n > 0 && !attach->leaving ? send_input(client, held, n, err) : 0;
}

/* The end of the input; that of a terminal means that the terminal is gone, not that the job is to get an end. */
static int end_input(struct attach *attach, struct rpc_client *client, struct st_error **err) {
        uint8_t held[DETACH_KEYS_MAX];
        size_t n = detach_keys_flush(&attach->keys, held);
        int r = 0;

        attach->watches[WATCH_INPUT].fd = -1;
        if (attach->terminal) {
                leave(attach, client);
                return 0;
        }
        if (n > 0)
                r = send_input(client, held, n, err);
        return r < 0 ? r : send_input(client, NULL, 0, err);
}

static int on_input(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        struct attach *attach = watch->userdata;
        uint8_t in[INPUT_SIZE], out[INPUT_SIZE + DETACH_KEYS_MAX];
        bool detached = false;
        ssize_t n = read(STDIN_FILENO, in, sizeof(in));
        int r = 0;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0)
                return end_input(attach, client, err);

        size_t size = detach_keys_feed(&attach->keys, in, (size_t)n, out, &detached);
        if (size > 0)
                r = send_input(client, out, size, err);
        attach->sent_input = true;
        arm(&attach->watches[WATCH_KEYS], attach->keys.held > 0 ? KEY_PATIENCE_MS : 0);
        if (r >= 0 && detached)
                leave(attach, client);
        return r;
}

static void send_window(struct rpc_client *client, uint32_t more_rows) {
        Daemon__AttachReq req = DAEMON__ATTACH_REQ__INIT;
        _cleanup_(message_freep) Daemon__TerminalSize *size = terminal_size(STDIN_FILENO);

        if (!size)
                return;
        size->rows += more_rows;
        req.input_case = DAEMON__ATTACH_REQ__INPUT_WINDOW;
        req.window = size;
        (void)rpc_client_send(client, &req.base);
}

/*
 * By a call of its own when there is input on its way: a job that does not read its input would never get a signal that
 * stands behind it.
 */
static bool signal_by_kill(struct attach *attach, int number) {
        Daemon__KillReq req = DAEMON__KILL_REQ__INIT;
        _cleanup_(daemon_link_freep) struct daemon_link *link = NULL;
        const struct rpc_options options = { .timeout_ms = CALL_MS };

        if (!attach->sent_input || !attach->jid)
                return false;
        req.n_jids = 1;
        req.jids = &attach->jid;
        req.has_signal = 1;
        req.signal = number;
        return daemon_link_open(attach->cli, &link, NULL) >= 0 &&
               rpc_client_call(daemon_link_client(link), "/daemon.Daemon/Kill", &req.base,
                               &daemon__kill_resp__descriptor, &options, NULL, NULL) >= 0;
}

static void pass_on(struct attach *attach, struct rpc_client *client, int number) {
        Daemon__AttachReq req = DAEMON__ATTACH_REQ__INIT;

        if (signal_by_kill(attach, number))
                return;
        req.input_case = DAEMON__ATTACH_REQ__INPUT_SIGNAL;
        req.signal = number;
        (void)rpc_client_send(client, &req.base);
}

static int interrupt(struct attach *attach, struct rpc_client *client, struct st_error **err) {
        uint64_t now = clock_ms(), last = attach->last_interrupt;

        attach->last_interrupt = now;
        if (last > 0 && now - last <= TWICE_MS)
                return end(attach, ENDING_DETACHED, err);
        pass_on(attach, client, SIGINT);
        return 0;
}

/* The terminal has another size, or is ours again after a stop. */
static int take_terminal(struct rpc_client *client, int number, struct st_error **err) {
        int r = number == SIGCONT ? terminal_make_raw(STDIN_FILENO, err) : 0;

        if (r >= 0)
                send_window(client, 0);
        return r;
}

static int take_signal(struct attach *attach, struct rpc_client *client, const struct signalfd_siginfo *info,
                       struct st_error **err) {
        int number = (int)info->ssi_signo;

        switch (number) {
        case SIGCONT:
        case SIGWINCH:
                return attach->terminal ? take_terminal(client, number, err) : 0;
        case SIGUSR1:
        case SIGUSR2:
                pass_on(attach, client, number);
                return 0;
        case SIGINT:
                if (interrupt_in_background() && info->ssi_code == SI_KERNEL)
                        return 0;
                if (!attach->terminal)
                        return interrupt(attach, client, err);
                break;
        default:
                if (!attach->terminal) {
                        pass_on(attach, client, number);
                        return 0;
                }
        }
        /* The job's own signals are keys; this one is for us. */
        attach->code = number;
        return end(attach, ENDING_SIGNAL, err);
}

static int on_signals(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        struct signalfd_siginfo info;
        int r = 0;

        while (r >= 0 && read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                r = take_signal(watch->userdata, client, &info, err);
        return r;
}

/* While our output is not taken, the daemon's is not either. */
static void balance(struct attach *attach, struct rpc_client *client) {
        int out = sink_wants(&attach->out), err = sink_wants(&attach->err);

        attach->watches[WATCH_OUT].fd = out;
        attach->watches[WATCH_ERR].fd = err;
        rpc_client_pause(client, out >= 0 || err >= 0);
}

static int on_writable(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        struct attach *attach = watch->userdata;

        (void)sink_push(watch == &attach->watches[WATCH_OUT] ? &attach->out : &attach->err);
        if (attach->out.error < 0)
                return end(attach, ENDING_OUTPUT, err);
        balance(attach, client);
        return 0;
}

static int take_welcome(struct attach *attach, struct rpc_client *client, const Daemon__AttachWelcome *welcome) {
        if (!isempty(welcome->jid))
                message_set_string(&attach->jid, welcome->jid);
        if (!welcome->terminal || !isatty(STDIN_FILENO))
                return 0;
        int r = terminal_make_raw(STDIN_FILENO, NULL);
        if (r < 0)
                return r;
        attach->terminal = true;
        if (!attach->attaching->fresh)
                send_window(client, 1); /* a change of size makes programs draw their screen anew */
        send_window(client, 0);
        return 0;
}

/* The daemon has answered: from now on it takes what we send. */
static void begin(struct attach *attach, struct rpc_client *client, bool takes_input) {
        attach->answered = true;
        if (!attach->leaving && takes_input)
                attach->watches[WATCH_INPUT].fd = STDIN_FILENO;
        if (interrupt_count() == 0)
                return;
        /* One that came when the start could not be cancelled any more. */
        attach->last_interrupt = clock_ms();
        pass_on(attach, client, SIGINT);
}

static int on_message(struct rpc_client *client, const void *message, void *userdata) {
        const Daemon__AttachResp *resp = message;
        struct attach *attach = userdata;
        int r = 0;

        if (!attach->answered)
                begin(attach, client,
                      resp->output_case != DAEMON__ATTACH_RESP__OUTPUT_WELCOME || resp->welcome->streams ||
                              !resp->welcome->has_streams);
        switch (resp->output_case) {
        case DAEMON__ATTACH_RESP__OUTPUT_WELCOME:
                r = take_welcome(attach, client, resp->welcome);
                break;
        case DAEMON__ATTACH_RESP__OUTPUT_STDOUT:
                if (sink_put(&attach->out, resp->stdout.data, resp->stdout.len) < 0) {
                        attach->ending = ENDING_OUTPUT;
                        return 1;
                }
                break;
        case DAEMON__ATTACH_RESP__OUTPUT_STDERR:
                (void)sink_put(&attach->err, resp->stderr.data, resp->stderr.len); /* talk, that may be lost */
                break;
        case DAEMON__ATTACH_RESP__OUTPUT_EXIT_CODE:
                attach->ending = ENDING_EXIT;
                attach->code = resp->exitcode;
                return 1;
        default: /* of a newer daemon */
                break;
        }
        balance(attach, client);
        return r;
}

static const int watched_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT };

static bool is_ignored(int number) {
        struct sigaction old;

        return sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
}

static int watch_signals(struct st_error **err) {
        sigset_t set;
        int fd;

        sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(watched_signals); i++)
                if (!is_ignored(watched_signals[i])) /* as nohup(1) leaves SIGHUP */
                        sigaddset(&set, watched_signals[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return st_error_errno(err, errno, "cannot block signals");
        fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return fd < 0 ? st_error_errno(err, errno, "cannot watch for signals") : fd;
}

static int make_timer(struct st_error **err) {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

        return fd < 0 ? st_error_errno(err, errno, "cannot make a timer") : fd;
}

static void make_watches(struct attach *attach) {
        struct rpc_watch *watches = attach->watches;

        watches[WATCH_SIGNALS] = (struct rpc_watch){ .fd = -1, .ready = on_signals, .always = true };
        watches[WATCH_INPUT] = (struct rpc_watch){ .fd = -1, .ready = on_input };
        watches[WATCH_KEYS] = (struct rpc_watch){ .fd = -1, .ready = on_keys };
        watches[WATCH_LEAVE] = (struct rpc_watch){ .fd = -1, .ready = on_leave, .always = true };
        watches[WATCH_OUT] = (struct rpc_watch){ .fd = -1, .ready = on_writable, .events = POLLOUT, .always = true };
        watches[WATCH_ERR] = watches[WATCH_OUT];
        for (size_t i = 0; i < WATCH_COUNT; i++)
                watches[i].userdata = attach;
}

static int prepare(struct attach *attach, struct st_error **err) {
        struct rpc_watch *watches = attach->watches;

        sink_open(&attach->out, STDOUT_FILENO);
        sink_open(&attach->err, STDERR_FILENO);
        if (isatty(STDIN_FILENO)) {
                int r = detach_keys_parse(st_arguments_string(attach->cli->arguments, "detach-keys"), &attach->keys,
                                          err);
                if (r < 0)
                        return r;
        }
        watches[WATCH_KEYS].fd = make_timer(err);
        if (watches[WATCH_KEYS].fd < 0)
                return watches[WATCH_KEYS].fd;
        watches[WATCH_LEAVE].fd = make_timer(err);
        if (watches[WATCH_LEAVE].fd < 0)
                return watches[WATCH_LEAVE].fd;
        watches[WATCH_SIGNALS].fd = watch_signals(err);
        return watches[WATCH_SIGNALS].fd < 0 ? watches[WATCH_SIGNALS].fd : 0;
}

/* What came before the end must get out; a user who does not want to wait for its reader may interrupt. */
static void drain(struct attach *attach) {
        for (;;) {
                struct pollfd fds[] = {
                        { .fd = sink_wants(&attach->out), .events = POLLOUT },
                        { .fd = sink_wants(&attach->err), .events = POLLOUT },
                        { .fd = attach->watches[WATCH_SIGNALS].fd, .events = POLLIN },
                };
                struct signalfd_siginfo info;

                if (fds[0].fd < 0 && fds[1].fd < 0)
                        return;
                if (poll(fds, ELEMENTSOF(fds), -1) < 0 && errno != EINTR)
                        return;
                while (fds[2].revents && read(fds[2].fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                        if (info.ssi_signo != SIGWINCH && info.ssi_signo != SIGCONT)
                                return;
                (void)sink_push(&attach->out);
                (void)sink_push(&attach->err);
        }
}

static char *how_to_come_back(const struct attach *attach) {
        const char *jid = attach->jid ?: attach->attaching->jid;

        return jid ? xasprintf("job %s runs on, 'stasis attach %s' comes back to it", jid, jid)
                   : xasprintf("process %u runs on, 'stasis attach %u' comes back to it", attach->attaching->pid,
                               attach->attaching->pid);
}

static int conclude(struct attach *attach, int r, struct st_error **error, struct st_error **err) {
        _cleanup_free_ char *back = NULL;

        terminal_restore();
        drain(attach);
        if (attach->terminal && attach->ending != ENDING_EXIT) /* the cursor is wherever the job had it */
                (void)io_write_full(STDERR_FILENO, "\n", 1);
        back = how_to_come_back(attach);
        if (r >= 0 && attach->ending == ENDING_NONE && attach->leaving)
                attach->ending = ENDING_DETACHED;
        switch (attach->ending) {
        case ENDING_EXIT:
                return attach->out.error == -EPIPE ? EXIT_PIPE : attach->code;
        case ENDING_DETACHED:
                output_talk("detached: %s", back);
                return EXIT_OK;
        case ENDING_SIGNAL:
                output_talk("detached: %s", back);
                return 128 + attach->code;
        case ENDING_OUTPUT:
                if (attach->out.error == -EPIPE) {
                        output_talk("nobody reads the output: %s", back);
                        return EXIT_PIPE;
                }
                return st_error_errno(err, attach->out.error, "cannot write the output; %s", back);
        case ENDING_NONE:
                break;
        }
        if (r == -ECONNRESET || r == -ECONNREFUSED) {
                st_error_move(err, TAKE_PTR(*error));
                st_error_hint(err, "%s when a daemon is there", back);
                return r;
        }
        if (r < 0)
                return st_error_move(err, TAKE_PTR(*error));
        return st_error_set(err, EPROTO, "the daemon ended the attach and did not tell why; %s", back);
}

int attach(struct cli *cli, const struct attaching *attaching, struct st_error **err) {
        _cleanup_(attach_clear) struct attach attach = {
                .cli = cli,
                .attaching = attaching,
                .out = { .own = -EBADF },
                .err = { .own = -EBADF },
        };
        _cleanup_(daemon_link_freep) struct daemon_link *link = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        Daemon__AttachReq req = DAEMON__ATTACH_REQ__INIT;
        int r;

        make_watches(&attach);
        r = daemon_link_open(cli, &link, err);
        if (r >= 0)
                r = prepare(&attach, err);
        if (r < 0)
                return r;
        struct rpc_options options = {
                .on_message = on_message,
                .userdata = &attach,
                .streaming = true,
                .watches = attach.watches,
                .n_watches = WATCH_COUNT,
        };
        req.has_pid = req.has_welcome = req.welcome = 1;
        req.pid = attaching->pid;
        req.has_wait = req.wait = attaching->wait;
        r = rpc_client_call(daemon_link_client(link), "/daemon.Daemon/Attach", &req.base,
                            &daemon__attach_resp__descriptor, &options, NULL, &error);
        return conclude(&attach, r, &error, err);
}
