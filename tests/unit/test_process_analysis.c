/* SPDX-License-Identifier: Apache-2.0 */

/* process_analyse() on real children that hold what decides CRIU's options. */

#include "test_process_child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "process/analysis.h"

/* ThreadSanitizer has a thread of its own, in children too. */
#ifdef __SANITIZE_THREAD__
#define SANITIZER_THREADS 1
#else
#define SANITIZER_THREADS 0
#endif

static struct process_analysis *analyse(pid_t pid) {
        _cleanup_error_ struct st_error *err = NULL;
        struct process_analysis *analysis = NULL;

        int r = process_analyse(pid, &analysis, &err);
        if (r < 0)
                fail_msg("process_analyse: %s", st_error_message(err));
        assert_null(err);
        return analysis;
}

/* Starts a child, analyses it, ends it. */
static struct process_analysis *analyse_child(void (*set_up)(void), int keep) {
        pid_t pid = child_start(set_up, keep);
        struct process_analysis *analysis = analyse(pid);

        child_stop(pid);
        return analysis;
}

#define ANALYSIS _cleanup_(process_analysis_freep) struct process_analysis

/* Children */

static void make_nothing(void) {
}

static void make_pipeline(void) {
        int fds[2];

        CHILD_CHECK(pipe(fds) == 0);
        if (child_fork() == 0) {
                child_keep_only(fds[0]);
                child_wait();
        }
        close(fds[0]);
}

static void make_one_ended_pipeline(void) {
        int fds[2];

        CHILD_CHECK(pipe(fds) == 0);
        if (child_fork() == 0) {
                child_keep_only(fds[1]);
                child_wait();
        }
        close(fds[0]);
}

static void make_both_ends(void) {
        int fds[2];

        CHILD_CHECK(pipe(fds) == 0);
}

static void make_socketpair(void) {
        int fds[2];

        CHILD_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        if (child_fork() == 0) {
                child_keep_only(fds[0]);
                child_wait();
        }
        close(fds[0]);
}

static void make_widowed_sockets(void) {
        int stream[2], datagram[2];

        CHILD_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
        CHILD_CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0);
        close(stream[0]);
        close(datagram[0]);
}

static struct sockaddr_un unix_address;
static socklen_t unix_length;

/* An abstract name that the kernel chooses. */
static int bind_unix(int type) {
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        unix_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
        unix_length = sizeof(unix_address);
        if (fd < 0 || bind(fd, (struct sockaddr *)&unix_address, sizeof(sa_family_t)) < 0 ||
            getsockname(fd, (struct sockaddr *)&unix_address, &unix_length) < 0)
                return -errno;
        return fd;
}

static void connect_unix(int type) {
        int fd = socket(AF_UNIX, type, 0);

        CHILD_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&unix_address, unix_length) == 0);
}

static void make_datagram_client(void) {
        connect_unix(SOCK_DGRAM);
}

static void make_stream_client(void) {
        connect_unix(SOCK_STREAM);
}

static void make_unaccepted_connection(void) {
        int fd = bind_unix(SOCK_STREAM);

        CHILD_CHECK(fd >= 0 && listen(fd, 4) == 0);
        connect_unix(SOCK_STREAM);
}

static int listen_tcp(int family, struct sockaddr_in6 *address, socklen_t *length) {
        int fd = socket(family, SOCK_STREAM, 0);

        memset(address, 0, sizeof(*address));
        *length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        address->sin6_family = (sa_family_t)family;
        if (family == AF_INET)
                ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else
                address->sin6_addr = in6addr_loopback;
        CHILD_CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, *length) == 0 && listen(fd, 4) == 0);
        CHILD_CHECK(getsockname(fd, (struct sockaddr *)address, length) == 0);
        return fd;
}

static void make_idle_inet(void) {
        struct sockaddr_in6 address;
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length;

        to.sin_port = htons(9);
        listen_tcp(AF_INET, &address, &length);
        int udp = socket(AF_INET, SOCK_DGRAM, 0);
        CHILD_CHECK(udp >= 0 && connect(udp, (struct sockaddr *)&to, sizeof(to)) == 0);
        CHILD_CHECK(socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
}

/* Looks as one whose connection was reset does. */
static void make_unconnected_tcp(void) {
        CHILD_CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static void connect_tcp(int family) {
        struct sockaddr_in6 address;
        socklen_t length;

        int listener = listen_tcp(family, &address, &length);
        int fd = socket(family, SOCK_STREAM, 0);
        CHILD_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, length) == 0);
        CHILD_CHECK(accept(listener, NULL, NULL) >= 0);
}

static void make_tcp4(void) {
        connect_tcp(AF_INET);
}

static void make_tcp6(void) {
        connect_tcp(AF_INET6);
}

static void make_tcp_in_namespace(void) {
        struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };

        CHILD_CHECK(unshare(CLONE_NEWNET) == 0);
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        CHILD_CHECK(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0);
        close(fd);
        connect_tcp(AF_INET);
        make_socketpair();
}

static void make_tcp_before_namespace(void) {
        connect_tcp(AF_INET);
        CHILD_CHECK(unshare(CLONE_NEWNET) == 0);
}

static void make_io_uring(void) {
        struct io_uring_params params = { 0 };

        CHILD_CHECK(syscall(SYS_io_uring_setup, 4, &params) >= 0);
}

static void make_pty(void) {
        int master, slave;

        CHILD_CHECK(openpty(&master, &slave, NULL, NULL, NULL) == 0);
}

/* The slave of a pty whose master the test holds. */
static void make_controlling_terminal(void) {
        CHILD_CHECK(ioctl(CHILD_FD, TIOCSCTTY, 0) == 0);
        close(CHILD_FD);
}

static void make_zombie(void) {
        pid_t pid = child_fork();
        siginfo_t info;

        if (pid == 0)
                _exit(0);
        CHILD_CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

static void *thread_that_forks(void *userdata) {
        if (child_fork() == 0)
                child_wait();
        CHILD_CHECK(write(*(int *)userdata, "", 1) == 1);
        for (;;)
                pause();
        return NULL;
}

static void make_threads(void) {
        static int fds[2];
        pthread_t thread;
        char byte;

        CHILD_CHECK(pipe(fds) == 0);
        CHILD_CHECK(pthread_create(&thread, NULL, thread_that_forks, &fds[1]) == 0);
        CHILD_CHECK(read(fds[0], &byte, 1) == 1);
}

static void make_strange_name(void) {
        CHILD_CHECK(prctl(PR_SET_NAME, "a) R 1 (\n\xff") == 0);
}

/* Tests */

static void test_plain(void **state) {
        (void)state;
        pid_t pid = child_start(make_nothing, -1);
        ANALYSIS *a = analyse(pid);

        child_stop(pid);
        assert_int_equal(a->n_tasks, 1);
        assert_int_equal(a->tasks[0].pid, pid);
        assert_int_equal(a->tasks[0].ppid, getpid());
        assert_int_equal(a->tasks[0].sid, pid);
        assert_int_equal(a->tasks[0].pgid, pid);
        assert_int_equal(a->tasks[0].state, 'S');
        assert_in_range(a->tasks[0].threads, 1, 1 + SANITIZER_THREADS);
        assert_int_equal(a->tasks[0].tty_nr, 0);
        assert_int_equal(a->tasks[0].tracer, 0);
        assert_true(a->tasks[0].start_time > 0);
        assert_true(a->tasks[0].rss >= 64 << 10);
        assert_true(a->memory > 0 && a->memory <= a->tasks[0].rss);
        assert_false(a->shell_job || a->tcp_established || a->ext_unix || a->kernel_thread);
        assert_int_equal(a->terminals.n + a->external_pipes.n + a->external_unix.n + a->io_urings.n, 0);
}

static void test_pipes_inside(void **state) {
        (void)state;
        ANALYSIS *pipeline = analyse_child(make_pipeline, -1);
        ANALYSIS *both = analyse_child(make_both_ends, -1);

        assert_int_equal(pipeline->n_tasks, 2);
        assert_int_equal(pipeline->external_pipes.n, 0);
        assert_int_equal(both->external_pipes.n, 0);
}

static void test_pipe_outside(void **state) {
        (void)state;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        ANALYSIS *a = analyse_child(make_nothing, fds[1]);
        ANALYSIS *b = analyse_child(make_nothing, fds[0]);
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(a->external_pipes.n, 1);
        assert_int_equal(a->external_pipes.items[0].fd, CHILD_FD);
        assert_int_equal(a->external_pipes.items[0].pid, a->tasks[0].pid);
        assert_true(a->external_pipes.items[0].writable);
        assert_true(a->external_pipes.items[0].inode > 0);
        assert_non_null(text_after(a->external_pipes.items[0].path, "pipe:["));
        assert_int_equal(b->external_pipes.n, 1);
        assert_false(b->external_pipes.items[0].writable);
        assert_int_equal(a->external_pipes.items[0].inode, b->external_pipes.items[0].inode);
}

/* Two holders of the same end are still without the other one. */
static void test_pipe_end_shared(void **state) {
        (void)state;
        ANALYSIS *a = analyse_child(make_one_ended_pipeline, -1);

        assert_int_equal(a->external_pipes.n, 2);
        assert_int_equal(a->external_pipes.items[0].inode, a->external_pipes.items[1].inode);
        assert_int_not_equal(a->external_pipes.items[0].pid, a->external_pipes.items[1].pid);
}

static void test_unix_inside(void **state) {
        (void)state;
        ANALYSIS *pair = analyse_child(make_socketpair, -1);
        ANALYSIS *widowed = analyse_child(make_widowed_sockets, -1);
        ANALYSIS *waiting = analyse_child(make_unaccepted_connection, -1);

        assert_int_equal(pair->n_tasks, 2);
        assert_false(pair->ext_unix);
        assert_false(widowed->ext_unix);
        assert_false(waiting->ext_unix);
        assert_int_equal(waiting->external_unix.n, 0);
}

static void test_unix_outside(void **state) {
        (void)state;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        ANALYSIS *pair = analyse_child(make_nothing, fds[0]);
        close(fds[0]);
        close(fds[1]);
        assert_true(pair->ext_unix);
        assert_int_equal(pair->external_unix.n, 1);
        assert_int_equal(pair->external_unix.items[0].fd, CHILD_FD);
        assert_non_null(text_after(pair->external_unix.items[0].path, "socket:["));
        assert_false(pair->tcp_established);

        int log = bind_unix(SOCK_DGRAM);
        assert_true(log >= 0);
        ANALYSIS *datagram = analyse_child(make_datagram_client, -1);
        close(log);
        assert_true(datagram->ext_unix);

        int listener = bind_unix(SOCK_STREAM);
        assert_true(listener >= 0);
        assert_int_equal(listen(listener, 4), 0);
        ANALYSIS *waiting = analyse_child(make_stream_client, -1);
        close(listener);
        assert_true(waiting->ext_unix);
}

static void test_tcp(void **state) {
        (void)state;
        ANALYSIS *idle = analyse_child(make_idle_inet, -1);
        ANALYSIS *tcp4 = analyse_child(make_tcp4, -1);

        assert_false(idle->tcp_established);
        assert_false(idle->ext_unix);
        assert_true(tcp4->tcp_established);
        ANALYSIS *unconnected = analyse_child(make_unconnected_tcp, -1);
        assert_true(unconnected->tcp_established);

        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
        bool have_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        close(fd);
        if (!have_ipv6)
                return;
        ANALYSIS *tcp6 = analyse_child(make_tcp6, -1);
        assert_true(tcp6->tcp_established);
}

static void test_network_namespaces(void **state) {
        (void)state;
        if (geteuid() != 0)
                skip();
        ANALYSIS *inside = analyse_child(make_tcp_in_namespace, -1);
        ANALYSIS *before = analyse_child(make_tcp_before_namespace, -1);

        assert_true(inside->tcp_established);
        assert_false(inside->ext_unix);
        assert_true(before->tcp_established);
}

static void test_io_uring(void **state) {
        (void)state;
        struct io_uring_params params = { 0 };
        int fd = (int)syscall(SYS_io_uring_setup, 4, &params);

        if (fd < 0 && (errno == ENOSYS || errno == EPERM))
                skip();
        close(fd);
        ANALYSIS *a = analyse_child(make_io_uring, -1);
        assert_int_equal(a->io_urings.n, 1);
        assert_string_equal(a->io_urings.items[0].path, "anon_inode:[io_uring]");
        assert_int_equal(a->io_urings.items[0].pid, a->tasks[0].pid);
}

static void test_terminals(void **state) {
        (void)state;
        ANALYSIS *a = analyse_child(make_pty, -1);

        assert_int_equal(a->terminals.n, 2);
        /* Both sides are in the tree: whoever has them, they come back as they were. */
        assert_false(a->shell_job);
        assert_int_equal(a->n_ptys, 1);
        assert_true(a->terminals.items[0].rdev != 0 && a->terminals.items[0].dev != 0);
        assert_true(a->terminals.items[0].inode != 0);
        assert_true(a->terminals.items[1].writable);
        assert_non_null(text_after(a->terminals.items[1].path, "/dev/pts/"));

        int master, slave;
        assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
        ANALYSIS *controlled = analyse_child(make_controlling_terminal, slave);
        close(master);
        close(slave);
        assert_int_not_equal(controlled->tasks[0].tty_nr, 0);
        assert_int_equal(controlled->terminals.n, 0);
        assert_int_equal(controlled->n_ptys, 0);
        assert_true(controlled->shell_job);
}

static void test_session_outside(void **state) {
        (void)state;
        pid_t pid = child_start_in(false, make_nothing, -1);
        ANALYSIS *a = analyse(pid);

        child_stop(pid);
        assert_int_equal(a->tasks[0].sid, getsid(0));
        assert_true(a->shell_job);
}

static void test_zombies(void **state) {
        (void)state;
        ANALYSIS *a = analyse_child(make_zombie, -1);

        assert_int_equal(a->n_tasks, 2);
        assert_int_equal(a->tasks[1].state, 'Z');
        assert_int_equal(a->tasks[1].ppid, a->tasks[0].pid);
        assert_int_equal(a->tasks[1].rss, 0);
        assert_false(a->shell_job);

        pid_t pid = child_start(make_nothing, -1);
        siginfo_t info;
        kill(pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        ANALYSIS *root = analyse(pid);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(root->tasks[0].state, 'Z');
}

static void test_threads(void **state) {
        (void)state;
        ANALYSIS *a = analyse_child(make_threads, -1);

        assert_in_range(a->tasks[0].threads, 2, 2 + SANITIZER_THREADS);
        assert_int_equal(a->n_tasks, 2);
        assert_int_equal(a->tasks[1].ppid, a->tasks[0].pid);
}

static void test_strange_name(void **state) {
        (void)state;
        ANALYSIS *a = analyse_child(make_strange_name, -1);

        assert_string_equal(a->tasks[0].command, "a) R 1 ( \xef\xbf\xbd");
        assert_int_equal(a->tasks[0].ppid, getpid());
}

static void test_tracer(void **state) {
        (void)state;
        pid_t pid = child_start(make_nothing, -1);
        bool traced = ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
        ANALYSIS *a = analyse(pid);

        child_stop(pid);
        if (traced)
                assert_int_equal(a->tasks[0].tracer, getpid());
}

static void test_no_process(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;
        struct process_analysis *a = NULL;
        pid_t pid = child_start(make_nothing, -1);

        child_stop(pid);
        assert_int_equal(process_analyse(pid, &a, &err), -ESRCH);
        assert_non_null(text_after(st_error_message(err), "no process "));
        assert_int_equal(process_analyse(pid, &a, NULL), -ESRCH);
        assert_int_equal(process_analyse(-1, &a, NULL), -ESRCH);
        assert_int_equal(process_analyse(0, &a, NULL), -ESRCH);
        assert_null(a);
}

/* A thread's number opens in /proc, but is no process. */
static void test_thread_is_no_process(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;
        struct process_analysis *a = NULL;
        pid_t pid = child_start(make_threads, -1), tid = 0;
        char path[64];

        for (pid_t candidate = pid + 1; candidate < pid + 10000 && tid == 0; candidate++) {
                snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)candidate);
                if (access(path, F_OK) == 0)
                        tid = candidate;
        }
        int r = tid ? process_analyse(tid, &a, &err) : 0;
        child_stop(pid);
        if (tid == 0)
                skip(); /* the numbers started anew */
        assert_int_equal(r, -ESRCH);
        assert_non_null(strstr(st_error_message(err), "thread of process"));
}

static void test_foreign_process(void **state) {
        (void)state;
        if (geteuid() != 0)
                skip();
        pid_t target = child_start(make_nothing, -1);
        pid_t other = fork();
        int status = 0;

        if (other == 0) {
                struct st_error *err = NULL;
                struct process_analysis *a = NULL;
                char expected[64];

                if (setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(1);
                snprintf(expected, sizeof(expected), "process %d belongs to another user", (int)target);
                int r = process_analyse(target, &a, &err);
                bool good = r == -EPERM && text_after(st_error_message(err), expected);
                st_error_free(err);
                _exit(good ? 42 : 2);
        }
        assert_int_equal(waitpid(other, &status, 0), other);
        child_stop(target);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 42);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),
                cmocka_unit_test(test_pipes_inside),
                cmocka_unit_test(test_pipe_outside),
                cmocka_unit_test(test_pipe_end_shared),
                cmocka_unit_test(test_unix_inside),
                cmocka_unit_test(test_unix_outside),
                cmocka_unit_test(test_tcp),
                cmocka_unit_test(test_network_namespaces),
                cmocka_unit_test(test_io_uring),
                cmocka_unit_test(test_terminals),
                cmocka_unit_test(test_session_outside),
                cmocka_unit_test(test_zombies),
                cmocka_unit_test(test_threads),
                cmocka_unit_test(test_strange_name),
                cmocka_unit_test(test_tracer),
                cmocka_unit_test(test_no_process),
                cmocka_unit_test(test_thread_is_no_process),
                cmocka_unit_test(test_foreign_process),
        };

        return cmocka_run_group_tests_name("process: analysis", tests, NULL, NULL);
}
