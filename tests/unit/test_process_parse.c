/* SPDX-License-Identifier: Apache-2.0 */

/* Parsers of the texts of /proc, and the single facts of proc.h. */

#include "test_process_child.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/idmap.h"
#include "process/mounts.h"
#include "process/parse.h"
#include "process/sockdiag.h"

static void test_stat(void **state) {
        (void)state;
        struct proc_stat stat;

        const char *text = "42 (a) b\n) S 7 42 40 34816 42 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 2\n";

        assert_int_equal(proc_parse_stat(text, &stat), 0);
        assert_int_equal(stat.pid, 42);
        assert_string_equal(stat.command, "a) b ");
        assert_int_equal(stat.state, 'S');
        assert_int_equal(stat.ppid, 7);
        assert_int_equal(stat.pgid, 42);
        assert_int_equal(stat.sid, 40);
        assert_int_equal(stat.tty_nr, 34816);
        assert_int_equal(stat.flags, 4194560);
        assert_int_equal(stat.threads, 3);
        assert_int_equal(stat.start_time, 98765);
}

static void test_stat_broken(void **state) {
        (void)state;
        static const char *const texts[] = {
                "",
                "42",
                "42 (sh",
                "42 sh) S 1",
                "(sh) S 7 42 40 0 42 0 1 2 3 4 5 6 7 8 20 0 3 0 98765 1",
                "42 (sh) S 7 42 40 0 42 0 1 2 3 4 5 6 7 8 20 0 3 0",
                "42 (sh) SS 7 42 40 0 42 0 1 2 3 4 5 6 7 8 20 0 3 0 98765 1",
                "42 (sh) S 7 42 40 0 42 0 1 2 3 4 5 6 7 8 20 0 x 0 98765 1",
                "42 (sh) S 7 42 40 0 42 0 1 2 3 4 5 6 7 8 20 0 3 0 99999999999999999999 1",
                "99999999999 (sh) S 7 42 40 0 42 0 1 2 3 4 5 6 7 8 20 0 3 0 1 1",
        };
        struct proc_stat stat;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                assert_int_equal(proc_parse_stat(texts[i], &stat), -EBADMSG);
}

/* Names grow when bytes become U+FFFD; what does not fit is cut between characters. */
static void test_stat_long_name(void **state) {
        (void)state;
        char text[256];
        struct proc_stat stat;

        snprintf(text, sizeof(text), "1 (%s) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 5",
                 "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_int_equal(proc_parse_stat(text, &stat), 0);
        assert_int_equal(strlen(stat.command), 63);
        _cleanup_free_ char *again = text_sanitise(stat.command, strlen(stat.command));
        assert_string_equal(again, stat.command);
}

static void test_status(void **state) {
        (void)state;
        _cleanup_status_ struct proc_status status = { 0 };

        assert_int_equal(proc_parse_status("Name:\tx: y\nTgid:\t42\nTracerPid:\t7\nUid:\t1\t2\t3\t4\n"
                                           "Gid:\t5\t6\t7\t4294967295\nGroups:\t4 24 1000 \n"
                                           "VmRSS:\t     100 kB\nVmSwap:\t       4 kB\nnonsense\n",
                                           &status),
                         0);
        assert_int_equal(status.tgid, 42);
        assert_int_equal(status.tracer, 7);
        assert_int_equal(status.uids[0], 1);
        assert_int_equal(status.uids[3], 4);
        assert_int_equal(status.gids[3], UINT32_MAX);
        assert_int_equal(status.n_groups, 3);
        assert_int_equal(status.groups[2], 1000);
        assert_int_equal(status.memory, 104 << 10);

        struct proc_status broken;
        assert_int_equal(proc_parse_status("Name:\tx\n", &broken), -EBADMSG);
        proc_status_clear(&broken);
}

static void free_mounts(size_t n, Daemon__Mount **mounts) {
        for (size_t i = 0; i < n; i++)
                daemon__mount__free_unpacked(mounts[i], NULL);
        free(mounts);
}

static void test_mounts(void **state) {
        (void)state;
        Daemon__Mount **mounts = NULL;
        size_t n = 0;

        mounts_parse("36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 shared:7 - ext3 /dev/root rw\n"
                     "broken line\n"
                     "37 36 0:5 / /x ro - tmpfs  rw\n"
                     "38 36 98 / /x ro - tmpfs none rw\n"
                     "39 36 0:6 / /\xff\\012 rw - proc proc rw",
                     &n, &mounts);
        assert_int_equal(n, 3);
        assert_int_equal(mounts[0]->id, 36);
        assert_int_equal(mounts[0]->parent, 35);
        assert_int_equal(mounts[0]->major, 98);
        assert_int_equal(mounts[0]->minor, 0);
        assert_string_equal(mounts[0]->root, "/mnt1");
        assert_string_equal(mounts[0]->mountpoint, "/mnt 2\\");
        assert_string_equal(mounts[0]->options, "rw,noatime");
        assert_string_equal(mounts[0]->fstype, "ext3");
        assert_string_equal(mounts[0]->source, "/dev/root");
        assert_string_equal(mounts[1]->source, "");
        assert_string_equal(mounts[1]->fstype, "tmpfs");
        assert_string_equal(mounts[2]->mountpoint, "/\xef\xbf\xbd ");
        free_mounts(n, mounts);
}

static void test_mount_fields(void **state) {
        char empty_source[] = "37 36 0:5 / /x ro - tmpfs  rw,size=1k", bare[] = "37 36 0:5 / /x ro - tmpfs",
             headless[] = "37 36 0:5 / /x", typeless[] = "37 36 0:5 / /x ro shared:1 -";
        struct parse_mount mount;

        (void)state;
        assert_true(parse_mount(empty_source, &mount));
        assert_string_equal(mount.device, "0:5");
        assert_string_equal(mount.source, "");
        assert_string_equal(mount.super_options, "rw,size=1k");
        assert_true(parse_mount(bare, &mount));
        assert_string_equal(mount.type, "tmpfs");
        assert_string_equal(mount.source, "");
        assert_string_equal(mount.super_options, "");
        assert_false(parse_mount(headless, &mount));
        assert_false(parse_mount(typeless, &mount));
}

static void test_values(void **state) {
        _cleanup_free_ char *pid = proc_read_value(getpid(), "status", "Pid"), *own = xasprintf("%d", (int)getpid());

        (void)state;
        assert_non_null(pid);
        assert_string_equal(pid, own);
        /* A key is all of what is before the colon. */
        assert_null(proc_read_value(getpid(), "status", "Pi"));
        assert_null(proc_read_value(getpid(), "absent", "Pid"));
        assert_null(proc_read_value(4194304, "status", "Pid"));
}

struct reports {
        struct socket_facts facts[8];
        char names[8][64];
        size_t n;
};

static void collect(const struct socket_facts *facts, void *userdata) {
        struct reports *reports = userdata;

        if (reports->n == ELEMENTSOF(reports->facts))
                return;
        reports->facts[reports->n] = *facts;
        snprintf(reports->names[reports->n], sizeof(reports->names[0]), "%.*s", (int)facts->name_length,
                 facts->name ? facts->name : "");
        reports->n++;
}

static void test_net_texts(void **state) {
        (void)state;
        struct reports tcp = { 0 }, unix_ = { 0 };

        netproc_parse(SOCKET_TCP4,
                      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n"
                      "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 553 1 0 100\n"
                      "   1: 0100007F:1F90 00000000:0000 06 00000000:00000000 00:00000000 00000000  0  0 0 1 0 100\n"
                      "   2: 0100007F1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 554 1 0 100\n",
                      collect, &tcp);
        assert_int_equal(tcp.n, 1);
        assert_int_equal(tcp.facts[0].inode, 553);
        assert_int_equal(tcp.facts[0].state, TCP_LISTEN);
        assert_int_equal(tcp.facts[0].local_port, 8080);
        assert_int_equal(tcp.facts[0].type, SOCK_STREAM);

        netproc_parse(SOCKET_UNIX,
                      "Num       RefCount Protocol Flags    Type St Inode Path\n"
                      "0000000000000000: 00000002 00000000 00010000 0001 01 20 /run/a b\n"
                      "0000000000000000: 00000003 00000000 00000000 0001 03 21\n"
                      "0000000000000000: 00000002 00000000 00000000 0002 01 22 @x\n"
                      "0000000000000000: 00000002\n",
                      collect, &unix_);
        assert_int_equal(unix_.n, 3);
        assert_int_equal(unix_.facts[0].state, TCP_LISTEN);
        assert_string_equal(unix_.names[0], "/run/a b");
        assert_false(unix_.facts[0].connected);
        assert_int_equal(unix_.facts[1].state, TCP_ESTABLISHED);
        assert_true(unix_.facts[1].connected && unix_.facts[1].peer_unknown);
        assert_int_equal(unix_.facts[2].type, SOCK_DGRAM);
        assert_string_equal(unix_.names[2], "@x");
}

struct wanted {
        uint64_t inode;
        struct socket_facts facts;
        bool found;
};

static void find(const struct socket_facts *facts, void *userdata) {
        struct wanted *wanted = userdata;

        if (facts->inode != wanted->inode)
                return;
        wanted->facts = *facts;
        wanted->found = true;
}

/* Both sources must say the same of a real socket. */
static void compare_sources(int fd, enum socket_kind kind) {
        _cleanup_close_ int netlink = sockdiag_open(-1);
        struct wanted diag = { 0 }, text = { 0 };
        struct stat st;

        assert_true(netlink >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        diag.inode = text.inode = st.st_ino;
        int r = sockdiag_dump(netlink, 1, kind, find, &diag);
        if (r == -ENOENT)
                return; /* a kernel without that module */
        assert_int_equal(r, 0);
        assert_int_equal(netproc_read(getpid(), kind, find, &text), 0);
        assert_true(diag.found && text.found);
        assert_int_equal(diag.facts.family, text.facts.family);
        assert_int_equal(diag.facts.type, text.facts.type);
        assert_int_equal(diag.facts.state, text.facts.state);
        assert_memory_equal(diag.facts.local, text.facts.local, 16);
        assert_memory_equal(diag.facts.remote, text.facts.remote, 16);
        assert_int_equal(diag.facts.local_port, text.facts.local_port);
        assert_int_equal(diag.facts.remote_port, text.facts.remote_port);
        assert_int_equal(diag.facts.connected, text.facts.connected);
}

static void test_sources_agree(void **state) {
        (void)state;
        struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
        struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof(any4);
        _cleanup_close_ int tcp = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
        _cleanup_close_ int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp6 = socket(AF_INET6, SOCK_STREAM, 0);
        int pair[2];

        assert_int_equal(bind(tcp, (struct sockaddr *)&any4, sizeof(any4)), 0);
        assert_int_equal(listen(tcp, 1), 0);
        assert_int_equal(getsockname(tcp, (struct sockaddr *)&any4, &length), 0);
        assert_int_equal(connect(client, (struct sockaddr *)&any4, length), 0);
        compare_sources(tcp, SOCKET_TCP4);
        compare_sources(client, SOCKET_TCP4);
        assert_int_equal(connect(udp, (struct sockaddr *)&any4, length), 0);
        compare_sources(udp, SOCKET_UDP4);
        if (tcp6 >= 0 && bind(tcp6, (struct sockaddr *)&any6, sizeof(any6)) == 0 && listen(tcp6, 1) == 0)
                compare_sources(tcp6, SOCKET_TCP6);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        compare_sources(pair[0], SOCKET_UNIX);
        close(pair[0]);
        close(pair[1]);
}

static void test_idmap(void **state) {
        (void)state;
        _cleanup_idmap_ struct idmap map = { 0 };

        assert_null(idmap_get(&map, 1));
        for (uint64_t i = 1; i <= 5000; i++)
                assert_true(idmap_put(&map, i * 4096, (size_t)i));
        assert_false(idmap_put(&map, 4096, 7));
        assert_int_equal(*idmap_get(&map, 4096), 7);
        for (uint64_t i = 2; i <= 5000; i++)
                assert_int_equal(*idmap_get(&map, i * 4096), i);
        assert_null(idmap_get(&map, 1));
        assert_null(idmap_get(&map, 0));
        assert_int_equal(map.n, 5000);
}

static void test_facts(void **state) {
        (void)state;
        struct proc_stat stat;
        _cleanup_free_ char *text = NULL;
        size_t size;

        assert_int_equal(proc_read_stat(getpid(), &stat), 0);
        assert_int_equal(stat.ppid, getppid());
        assert_true(proc_is_alive(getpid(), stat.start_time));
        assert_false(proc_is_alive(getpid(), stat.start_time + 1));
        assert_int_equal(proc_read_stat(0, &stat), -ESRCH);
        assert_int_equal(proc_read_file(getpid(), "comm", &text, &size), 0);
        assert_int_equal(strlen(text), size);
        assert_int_equal(proc_read_file(getpid(), "nonsense", &text, &size), -ENOENT);
        assert_int_equal(proc_read_file(0, "comm", &text, &size), -ESRCH);
        assert_int_equal(strlen(proc_boot_id()), 36);
        assert_ptr_equal(proc_boot_id(), proc_boot_id());
}

static void execute_strange_arguments(void) {
        char *const argv[] = { (char[]){ "sl\ne\x1b"
                                         "ep\xff" },
                               (char[]){ "1000" }, NULL };

        execv("/bin/sleep", argv);
        CHILD_CHECK(false);
}

static void test_command_line(void **state) {
        (void)state;
        pid_t pid = child_start(execute_strange_arguments, -1);
        char *line = NULL;

        /* The new image has no arguments yet when its old descriptors are already closed. */
        for (int i = 0; i < 200; i++) {
                free(line);
                line = proc_command_line(pid);
                if (line && line[0] != '[')
                        break;
                usleep(5000);
        }
        kill(pid, SIGKILL);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        _cleanup_free_ char *of_zombie = proc_command_line(pid);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_string_equal(line, "sl e?ep\xef\xbf\xbd 1000");
        free(line);
        assert_string_equal(of_zombie, "[sleep]");
        assert_null(proc_command_line(pid));
}

static void make_name(void) {
        CHILD_CHECK(prctl(PR_SET_NAME, "looked-at") == 0);
}

static void test_describe(void **state) {
        (void)state;
        pid_t pid = child_start(make_name, -1);
        struct proc_stat stat;
        siginfo_t info;
        char expected[128];

        assert_int_equal(proc_read_stat(pid, &stat), 0);
        _cleanup_free_ char *alive = proc_describe_pid(pid);
        snprintf(expected, sizeof(expected), "process %d (looked-at, since ", (int)pid);
        assert_non_null(text_after(alive, expected));
        assert_false(proc_pid_is_of_dying(pid));

        kill(pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        _cleanup_free_ char *zombie = proc_describe_pid(pid);
        assert_false(proc_is_alive(pid, stat.start_time));
        assert_true(proc_pid_is_of_dying(pid));
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_false(proc_pid_is_of_dying(pid));
        snprintf(expected, sizeof(expected), "a zombie %d (looked-at), whose parent %d (", (int)pid, (int)getpid());
        assert_non_null(text_after(zombie, expected));
        assert_null(proc_describe_pid(pid));
        assert_null(proc_describe_pid(0));
}

/* A process group whose leader is gone. */
static void test_describe_group(void **state) {
        (void)state;
        int fds[2];
        pid_t member = 0;
        char expected[128];

        assert_int_equal(pipe(fds), 0);
        pid_t leader = fork();
        if (leader == 0) {
                setsid();
                pid_t pid = fork();
                if (pid == 0)
                        child_wait();
                (void)!write(fds[1], &pid, sizeof(pid));
                _exit(0);
        }
        assert_int_equal(read(fds[0], &member, sizeof(member)), sizeof(member));
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(waitpid(leader, NULL, 0), leader);
        _cleanup_free_ char *text = proc_describe_pid(leader);
        bool zombies = proc_pid_is_of_dying(leader);
        kill(member, SIGKILL);
        assert_false(zombies);
        snprintf(expected, sizeof(expected), "a process group %d that process %d (", (int)leader, (int)member);
        assert_non_null(text);
        assert_non_null(text_after(text, expected));
}

static void *thread_main(void *userdata) {
        (void)userdata;
        return proc_describe_pid(gettid());
}

static void test_describe_thread(void **state) {
        (void)state;
        pthread_t thread;
        void *text = NULL;
        char expected[64];

        assert_int_equal(pthread_create(&thread, NULL, thread_main, NULL), 0);
        assert_int_equal(pthread_join(thread, &text), 0);
        snprintf(expected, sizeof(expected), " of process %d (", (int)getpid());
        assert_non_null(text_after(text, "thread "));
        assert_non_null(strstr(text, expected));
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_stat),
                cmocka_unit_test(test_stat_broken),
                cmocka_unit_test(test_stat_long_name),
                cmocka_unit_test(test_status),
                cmocka_unit_test(test_mounts),
                cmocka_unit_test(test_mount_fields),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_net_texts),
                cmocka_unit_test(test_sources_agree),
                cmocka_unit_test(test_idmap),
                cmocka_unit_test(test_facts),
                cmocka_unit_test(test_command_line),
                cmocka_unit_test(test_describe),
                cmocka_unit_test(test_describe_group),
                cmocka_unit_test(test_describe_thread),
        };

        return cmocka_run_group_tests_name("process: parse", tests, NULL, NULL);
}
