/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor.h"

#define CONTROL_D 4

/* What waits is at most this and one frame. */
#define INPUT_ROOM SUPERVISOR_FRAME_MAX

static size_t pending(const struct input *input) {
        return input->end - input->begin;
}

bool input_has_room(const struct supervisor *supervisor) {
        return pending(&supervisor->input) < INPUT_ROOM;
}

static void forget(struct input *input) {
        free(input->buffer);
        input->buffer = NULL;
        input->begin = input->end = 0;
}

/* Nobody reads it any more, as after a job that closed its standard input: what comes is dropped, as a shell does. */
static void close_input(struct supervisor *supervisor) {
        forget(&supervisor->input);
        supervisor->input.ending = false;
        if (!supervisor->terminal && supervisor->in >= 0)
                close(supervisor->in);
        supervisor->in = -EBADF;
}

/* Twice after an unfinished line, which the first one only hands to who reads. */
static void send_control_d(struct supervisor *supervisor) {
        struct termios settings;
        char keys[2] = { CONTROL_D, CONTROL_D };
        bool lines = false;

        if (tcgetattr(supervisor->in, &settings) == 0) {
                lines = settings.c_lflag & ICANON;
                if (settings.c_cc[VEOF] != _POSIX_VDISABLE)
                        memset(keys, settings.c_cc[VEOF], sizeof(keys));
        }
        char last = supervisor->input.last;
        (void)!write(supervisor->in, keys, lines && last != '\0' && last != '\n' && last != keys[0] ? 2 : 1);
        supervisor->input.last = '\0';
}

void input_write(struct supervisor *supervisor) {
        struct input *input = &supervisor->input;

        while (pending(input) > 0 && supervisor->in >= 0) {
                ssize_t n = write(supervisor->in, input->buffer + input->begin, pending(input));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0) {
                        /* A terminal that nobody has open may be opened again. */
                        if (supervisor->terminal)
                                forget(input);
                        else
                                close_input(supervisor);
                        break;
                }
                input->begin += (size_t)n;
                input->last = input->buffer[input->begin - 1];
        }
        if (pending(input) > 0 && supervisor->in >= 0)
                return;
        forget(input);
        if (input->ending && supervisor->in >= 0) {
                input->ending = false;
                if (supervisor->terminal)
                        send_control_d(supervisor);
                else
                        close_input(supervisor);
        }
}

void input_add(struct supervisor *supervisor, const void *data, size_t size) {
        struct input *input = &supervisor->input;

        if (supervisor->in < 0 || size == 0)
                return;
        if (input->begin > 0)
                memmove(input->buffer, input->buffer + input->begin, pending(input));
        input->end -= input->begin;
        input->begin = 0;
        input->buffer = xrealloc(input->buffer, input->end + size, 1);
        memcpy(input->buffer + input->end, data, size);
        input->end += size;
        input_write(supervisor);
}

void input_end(struct supervisor *supervisor) {
        if (supervisor->in < 0)
                return;
        supervisor->input.ending = true;
        input_write(supervisor);
}

void input_poll(struct supervisor *supervisor, struct poll_set *set) {
        /* A terminal that nobody has open would be reported again and again. */
        if (supervisor->terminal && supervisor->streams[0].hung_until > clock_ms())
                return;
        if (pending(&supervisor->input) > 0)
                poll_set_add(set, supervisor->in, POLLOUT);
}

/* One that has ended needs no signal, and its exit code is on the way. */
static int signal_root(struct supervisor *supervisor, int number) {
        if (supervisor->ended || supervisor->root < 0)
                return 0;
        return syscall(SYS_pidfd_send_signal, supervisor->root, number, NULL, 0) < 0 && errno != ESRCH ? -errno : 0;
}

/* stasis-init passes a signal on, so its command must not get the same from us. */
static bool root_is_init(const struct supervisor *supervisor) {
        _cleanup_free_ char *path = xasprintf("/proc/%d/comm", supervisor->status.pid);
        _cleanup_free_ char *name = io_read_line(path);

        return name && streq(name, "stasis-init");
}

/* The group that reads from the terminal; 0: none that we see. */
static pid_t foreground(const struct supervisor *supervisor) {
        pid_t group = 0;

        if (!supervisor->terminal || supervisor->in < 0 || ioctl(supervisor->in, TIOCGPGRP, &group) < 0)
                return 0;
        return group > 1 ? group : 0;
}

int input_signal(struct supervisor *supervisor, int number) {
        pid_t group = foreground(supervisor);

        if (number < 1 || number > SIGRTMAX)
                return -EINVAL;
        if (group == 0)
                return signal_root(supervisor, number);
        /* By the terminal itself, as if by its keys. */
        if ((number == SIGINT || number == SIGQUIT || number == SIGTSTP) && ioctl(supervisor->in, TIOCSIG, number) == 0)
                return 0;
        if (root_is_init(supervisor) && getpgid(supervisor->status.pid) == group)
                return signal_root(supervisor, number);
        if (kill(-group, number) == 0)
                return 0;
        return errno == ESRCH ? signal_root(supervisor, number) : -errno;
}

int input_window(struct supervisor *supervisor, const struct supervisor_window *window, bool first) {
        const struct winsize size = { .ws_row = window->rows, .ws_col = window->columns };
        struct winsize before = { 0 };

        if (!supervisor->terminal || supervisor->in < 0)
                return 0;
        (void)ioctl(supervisor->in, TIOCGWINSZ, &before);
        if (before.ws_row != size.ws_row || before.ws_col != size.ws_col)
                return ioctl(supervisor->in, TIOCSWINSZ, &size) < 0 ? -errno : 0;

        /* The kernel tells programs of changes only. */
        pid_t group = foreground(supervisor);
        if (first && group > 0)
                (void)kill(-group, SIGWINCH);
        return 0;
}
