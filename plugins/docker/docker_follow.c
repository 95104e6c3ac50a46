/* SPDX-License-Identifier: Apache-2.0 */

/* The command `docker-follow`: docker_follow.h says what for. */

#include "docker_follow.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>

#include "../common/cleanup.h"
#include "docker_target.h"
#include "engine_stream.h"

/* How often an engine that is away is looked for, and how long when the container's process is gone. */
#define AGAIN_MS 500
#define AWAY_SECONDS 60

struct follow {
        struct engine *calls;   /* not cancelled */
        struct engine *waiting; /* cancelled by a signal to us */
        const char *id;
        bool input, terminal;
        int signals, sync;
        pid_t pid; /* of the container, once it runs */
        time_t gone;
        struct engine_stream *stream;
        struct engine_frames frames;
        char in[16384]; /* input on its way to the container */
        size_t in_at, in_size;
        struct termios saved;
        bool raw;
};

static void clear(struct follow *follow) {
        if (follow->raw)
                (void)tcsetattr(STDIN_FILENO, TCSANOW, &follow->saved);
        engine_stream_close(follow->stream);
        engine_close(follow->calls);
        engine_close(follow->waiting);
        common_closep(&follow->signals);
}

static int watch_signals(void) {
        static const int numbers[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGWINCH };
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
                sigaddset(&set, numbers[i]);
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/** Bytes go through the terminal as they are: that of the container makes of them what it wants. */
static void open_terminal(struct follow *follow) {
        struct termios raw;

        if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &follow->saved) < 0)
                return;
        (void)ioctl(STDIN_FILENO, TIOCSCTTY, 0); /* so that we are told of a new size */
        raw = follow->saved;
        cfmakeraw(&raw);
        follow->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) >= 0;
}

static void resize(struct follow *follow) {
        struct winsize size;
        char *path = NULL;

        if (!follow->terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
                return;
        if (asprintf(&path, "/containers/%s/resize?h=%u&w=%u", follow->id, size.ws_row, size.ws_col) < 0)
                return;
        (void)engine_call(follow->calls, "POST", path, NULL, ENGINE_SHORT, NULL, NULL);
        free(path);
}

/** A signal to us means the container. */
static void take_signals(struct follow *follow) {
        struct signalfd_siginfo info;
        char number[16];

        while (read(follow->signals, &info, sizeof(info)) == sizeof(info)) {
                if (info.ssi_signo == SIGWINCH) {
                        resize(follow);
                        continue;
                }
                snprintf(number, sizeof(number), "%u", info.ssi_signo);
                (void)engine_container_kill(follow->calls, follow->id, number, NULL);
        }
}

/** Whoever does not take it any more does not stop the container. */
static void print(int fd, const uint8_t *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return;
                data += n;
                size -= (size_t)n;
        }
}

static void print_frames(struct follow *follow, const uint8_t *data, size_t size) {
        while (size > 0) {
                const uint8_t *at;
                int stream;
                size_t n, done = engine_frames_take(&follow->frames, data, size, &stream, &at, &n);

                print(stream == 2 ? STDERR_FILENO : STDOUT_FILENO, at, n);
                data += done;
                size -= done;
        }
}

/** @return false at the end */
static bool take_output(struct follow *follow) {
        uint8_t data[32768];

        for (;;) {
                ssize_t n = engine_stream_read(follow->stream, data, sizeof(data));

                if (n <= 0)
                        return n == -EAGAIN;
                if (follow->terminal)
                        print(STDOUT_FILENO, data, (size_t)n);
                else
                        print_frames(follow, data, (size_t)n);
        }
}

static void take_input(struct follow *follow) {
        ssize_t n = read(STDIN_FILENO, follow->in, sizeof(follow->in));

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        follow->in_at = 0;
        follow->in_size = n > 0 ? (size_t)n : 0;
        if (n <= 0) {
                follow->input = false;
                engine_stream_end_input(follow->stream);
        }
}

static void pass_input(struct follow *follow) {
        ssize_t n = engine_stream_write(follow->stream, follow->in + follow->in_at, follow->in_size - follow->in_at);

        if (n > 0)
                follow->in_at += (size_t)n;
        else if (n == -EPIPE)
                follow->in_at = follow->in_size; /* its end comes as that of the output */
}

/** Carries both ways until the output ends. */
static void carry(struct follow *follow) {
        while (follow->stream) {
                bool pending = follow->in_at < follow->in_size;
                struct pollfd events[] = {
                        { .fd = engine_stream_fd(follow->stream), .events = (short)(POLLIN | (pending ? POLLOUT : 0)) },
                        { .fd = follow->signals, .events = POLLIN },
                        { .fd = follow->input && !pending ? STDIN_FILENO : -1, .events = POLLIN },
                };

                if (!take_output(follow)) {
                        follow->stream = engine_stream_close(follow->stream);
                        return;
                }
                if (poll(events, sizeof(events) / sizeof(*events), -1) < 0)
                        continue;
                if (events[1].revents)
                        take_signals(follow);
                if (events[2].revents)
                        take_input(follow);
                if (follow->in_at < follow->in_size)
                        pass_input(follow);
        }
}

static int attach(struct follow *follow, struct st_error **err) {
        follow->frames = (struct engine_frames){ 0 };
        return engine_stream_open(follow->calls, follow->id, follow->input, &follow->stream, err);
}

/** Tells that we are ready, or why not, and waits until the container runs. */
static int synchronise(struct follow *follow, int r, struct st_error **err) {
        const char *text = r < 0 && err ? st_error_message(*err) : "";
        char go;

        if (follow->sync < 0)
                return r;
        (void)!write(follow->sync, r < 0 ? "E" : "R", 1);
        (void)!write(follow->sync, text, strlen(text));
        if (r >= 0 && read(follow->sync, &go, 1) != 1)
                r = st_error_set(err, ECANCELED, "container %s was not started", follow->id);
        common_closep(&follow->sync);
        follow->sync = -EBADF;
        return r;
}

/** Is its process gone, and has been for so long that no engine is to be waited for any more? */
static bool is_lost(struct follow *follow) {
        time_t now = time(NULL);

        if (follow->pid <= 0 || kill(follow->pid, 0) == 0 || errno != ESRCH)
                follow->gone = 0;
        else if (follow->gone == 0)
                follow->gone = now;
        return follow->gone > 0 && now - follow->gone > AWAY_SECONDS;
}

/** Is the container still there? @return 1: it runs; 0: it has ended; -EAGAIN: nobody says so now; -errno with err */
static int look(struct follow *follow, int *ret_code, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_json_ json_t *inspect = NULL;
        int r = engine_container_inspect(follow->calls, follow->id, &inspect, &error);

        if (r == -ENOENT || (r < 0 && is_lost(follow)))
                return st_error_move(err, TAKE_PTR(error));
        if (r < 0)
                return -EAGAIN;
        if (docker_inspect_pid(inspect) > 0) {
                follow->pid = docker_inspect_pid(inspect);
                return 1;
        }
        *ret_code = (int)json_integer_value(json_object_get(json_object_get(inspect, "State"), "ExitCode"));
        return 0;
}

/** As look(), as often as it takes: the engine is away, or was. */
static int look_for(struct follow *follow, int *ret_code, struct st_error **err) {
        for (;;) {
                struct pollfd signals = { .fd = follow->signals, .events = POLLIN };
                int r;

                if (poll(&signals, 1, AGAIN_MS) > 0)
                        take_signals(follow);
                r = look(follow, ret_code, err);
                if (r != -EAGAIN)
                        return r;
        }
}

/** @return the container's exit code; -errno with err */
static int follow_to_end(struct follow *follow, struct st_error **err) {
        int code = 0;

        resize(follow);
        (void)look(follow, &code, NULL);
        for (;;) {
                int r;

                carry(follow);
                r = engine_container_wait(follow->waiting, follow->id, ENGINE_NO_LIMIT, &code, NULL);
                if (r >= 0)
                        return code;
                take_signals(follow);
                if (r == -ECANCELED)
                        continue;
                r = look_for(follow, &code, err);
                if (r <= 0)
                        return r < 0 ? r : code;
                (void)attach(follow, NULL);
        }
}

int docker_follow(const struct st_arguments *arguments, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        __attribute__((cleanup(clear))) struct follow follow = {
                .id = words[0],
                .input = st_arguments_bool(arguments, "input"),
                .terminal = st_arguments_bool(arguments, "terminal"),
                .sync = st_arguments_given(arguments, "sync") ? (int)st_arguments_int(arguments, "sync") : -EBADF,
                .signals = watch_signals(),
        };
        const char *host = st_arguments_string(arguments, "host");
        int r;

        if (!words[0] || words[1])
                return st_error_set(err, EINVAL, DOCKER_FOLLOW " takes one container");
        if (follow.signals < 0)
                return st_error_errno(err, errno, "cannot watch signals");
        r = docker_engine_open(host, NULL, -1, &follow.calls, err);
        if (r >= 0)
                r = docker_engine_open(host, NULL, follow.signals, &follow.waiting, err);
        if (r >= 0)
                r = attach(&follow, err);
        if (r >= 0 && follow.terminal)
                open_terminal(&follow);
        r = synchronise(&follow, r, err);
        if (r >= 0)
                r = follow_to_end(&follow, err);
        return r;
}
