/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/messages.h"

static struct termios before;
static volatile sig_atomic_t raw_fd = -1;

void terminal_restore(void) {
        int fd = (int)raw_fd;

        raw_fd = -1;
        if (fd >= 0)
                (void)tcsetattr(fd, TCSANOW, &before); /* safe in a handler: signal-safety(7) */
}

#ifdef __SANITIZE_ADDRESS__ /* whose handlers say more */

static void watch_crashes(void) {
}

#else

static void on_crash(int number) {
        terminal_restore();
        (void)raise(number); /* SA_RESETHAND: now it ends us as it would have */
}

static void watch_crashes(void) {
        static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
        const struct sigaction action = { .sa_handler = on_crash, .sa_flags = SA_RESETHAND | SA_NODEFER };

        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void)sigaction(signals[i], &action, NULL);
}

#endif

int terminal_make_raw(int fd, struct st_error **err) {
        static bool watched;
        struct termios raw;

        if (raw_fd < 0 && tcgetattr(fd, &before) < 0)
                return st_error_errno(err, errno, "cannot read the settings of the terminal");
        if (!watched) {
                watched = true;
                watch_crashes();
                (void)atexit(terminal_restore);
        }
        raw = before;
        cfmakeraw(&raw);
        raw_fd = fd;
        if (tcsetattr(fd, TCSANOW, &raw) < 0) {
                int number = errno;

                terminal_restore();
                return st_error_errno(err, number, "cannot change the settings of the terminal");
        }
        return 0;
}

bool terminal_is_ours(void) {
        return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

Daemon__TerminalSize *terminal_size(int fd) {
        Daemon__TerminalSize *message;
        struct winsize size;

        if (ioctl(fd, TIOCGWINSZ, &size) < 0)
                return NULL;
        message = message_new(&daemon__terminal_size__descriptor);
        message->has_rows = message->has_columns = 1;
        message->rows = size.ws_row;
        message->columns = size.ws_col;
        return message;
}
