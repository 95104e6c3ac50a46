/* SPDX-License-Identifier: Apache-2.0 */

/* Waiting for a restored process: its exit code, its signals, its terminal; and the first and second Ctrl-C. */

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/wait.h"

/* wait_for_process() takes over the signals of its process: each test gets one of its own. @return its exit code */
static int run_in_child(int (*body)(int fd), int fd) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(body(fd));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static int wait_for_code(int fd) {
        (void)fd;
        pid_t other = fork();
        if (other == 0)
                _exit(1); /* somebody else's end is not the process's */
        pid_t pid = fork();
        if (pid == 0) {
                (void)poll(NULL, 0, 50);
                _exit(7);
        }
        return wait_for_process(pid, -EBADF, NULL);
}

static int wait_for_signal(int fd) {
        (void)fd;
        pid_t pid = fork();
        if (pid == 0) {
                raise(SIGKILL);
                _exit(0);
        }
        return wait_for_process(pid, -EBADF, NULL);
}

static int wait_for_stranger(int fd) {
        (void)fd;
        return wait_for_process(getppid(), -EBADF, NULL) == -ECHILD ? 42 : 0;
}

static void ends_with_its_code(void **state) {
        (void)state;
        assert_int_equal(run_in_child(wait_for_code, -1), 7);
        assert_int_equal(run_in_child(wait_for_signal, -1), 128 + SIGKILL);
        assert_int_equal(run_in_child(wait_for_stranger, -1), 42);
}

static void exit_9(int number) {
        (void)number;
        _exit(9);
}

/* The process tells by the pipe that it is ready; then the waiting one is sent a signal. */
static int wait_and_pass_on(int fd) {
        sigset_t none;

        pid_t pid = fork();
        if (pid == 0) {
                signal(SIGTERM, exit_9);
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                (void)!write(fd, "x", 1);
                for (;;)
                        pause();
        }
        return wait_for_process(pid, -EBADF, NULL);
}

static void passes_signals_on(void **state) {
        int fds[2], status;
        char byte;

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                sigset_t set; /* before the waiter watches, the signal waits */

                sigemptyset(&set);
                sigaddset(&set, SIGTERM);
                sigprocmask(SIG_BLOCK, &set, NULL);
                _exit(wait_and_pass_on(fds[1]));
        }
        assert_int_equal(read(fds[0], &byte, 1), 1);
        assert_int_equal(kill(pid, SIGTERM), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 9);
        close(fds[0]);
        close(fds[1]);
}

/* The process echoes a line from its terminal; what it writes before its end must not be lost. */
static int wait_with_terminal(int fd) {
        int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), input[2];

        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 || pipe2(input, O_CLOEXEC) < 0)
                return 99;
        int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0 || write(input[1], "hello\n", 6) != 6)
                return 99;
        pid_t pid = fork();
        if (pid == 0) {
                char line[64];
                ssize_t n = read(slave, line, sizeof(line));

                (void)!write(slave, "[", 1);
                (void)!write(slave, line, n > 0 ? (size_t)n : 0);
                _exit(3);
        }
        close(slave);
        close(input[1]);
        dup2(input[0], STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        return wait_for_process(pid, master, NULL);
}

static void copies_a_terminal(void **state) {
        char text[256] = "";
        int fds[2];

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(run_in_child(wait_with_terminal, fds[1]), 3);
        close(fds[1]);
        assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
        assert_non_null(strstr(text, "[hello"));
        close(fds[0]);
}

static int interrupt_once(int fd) {
        struct pollfd p = { .events = POLLIN };

        (void)fd;
        signal(SIGINT, SIG_IGN); /* as a shell starts what it runs in the background: kill(2) still counts */
        if (interrupt_watch(NULL) < 0)
                return 99;
        p.fd = interrupt_fd();
        if (poll(&p, 1, 0) != 0 || interrupt_count() != 0)
                return 98;
        (void)kill(getpid(), SIGINT);
        return poll(&p, 1, 1000) == 1 && interrupt_count() == 1 ? 42 : 97;
}

static int interrupt_twice(int fd) {
        (void)fd;
        if (interrupt_watch(NULL) < 0)
                return 99;
        raise(SIGTERM);
        raise(SIGINT);
        return 98;
}

static int interrupt_nohup(int fd) {
        (void)fd;
        signal(SIGHUP, SIG_IGN);
        if (interrupt_watch(NULL) < 0)
                return 99;
        raise(SIGHUP);
        return interrupt_count() == 0 ? 42 : 98;
}

static void the_second_interrupt_ends(void **state) {
        (void)state;
        assert_int_equal(run_in_child(interrupt_once, -1), 42);
        assert_int_equal(run_in_child(interrupt_twice, -1), EXIT_INTERRUPTED);
        assert_int_equal(run_in_child(interrupt_nohup, -1), 42);
}

static void progress_fits_its_width(void **state) {
        _cleanup_free_ char *wide = progress_text("writing", 42u << 20, 100u << 20, 79);
        _cleanup_free_ char *unknown = progress_text("writing", 1u << 20, 0, 79);
        _cleanup_free_ char *beyond = progress_text("writing", 200, 100, 79);

        (void)state;
        assert_non_null(strstr(wide, "writing  [####"));
        assert_non_null(strstr(wide, "-]   42%  42.0 MiB of 100.0 MiB"));
        assert_string_equal(unknown, "writing  1.0 MiB");
        assert_non_null(strstr(beyond, "100%"));
        for (int width = 0; width < 100; width++) {
                _cleanup_free_ char *text = progress_text("writing", 42u << 20, 100u << 20, width);
                assert_true(strlen(text) <= (size_t)width);
        }
}

static void durations_have_units(void **state) {
        static const struct {
                uint64_t ns;
                const char *precision, *text;
        } cases[] = {
                { 1500, "auto", "1.5 us" },         { 1500000, "auto", "1.50 ms" }, { 1500000000, "auto", "1.500 s" },
                { 1500000, "us", "1500.0 us" },     { 1500, "ns", "1500 ns" },      { 1500000, "s", "0.002 s" },
                { 1500000000, "ms", "1500.00 ms" },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = profile_duration(cases[i].ns, cases[i].precision);
                assert_string_equal(text, cases[i].text);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ends_with_its_code),      cmocka_unit_test(passes_signals_on),
                cmocka_unit_test(copies_a_terminal),       cmocka_unit_test(the_second_interrupt_ends),
                cmocka_unit_test(progress_fits_its_width), cmocka_unit_test(durations_have_units),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
