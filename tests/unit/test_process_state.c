/* SPDX-License-Identifier: Apache-2.0 */

/* process_state_read(): the messages that clients of the API see. */

#include "test_process_child.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pty.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "process/analysis.h"

#define STATE _cleanup_(message_freep) Daemon__ProcessState

static char directory[] = "/tmp/stasis-process-XXXXXX";

static Daemon__ProcessState *read_state(pid_t pid, unsigned detail) {
        _cleanup_error_ struct st_error *err = NULL;
        Daemon__ProcessState *message = NULL;

        int r = process_state_read(pid, detail, &message, &err);
        if (r < 0)
                fail_msg("process_state_read: %s", st_error_message(err));
        return message;
}

static Daemon__ProcessState *read_child(void (*set_up)(void), unsigned detail) {
        pid_t pid = child_start(set_up, -1);
        Daemon__ProcessState *message = read_state(pid, detail);

        child_stop(pid);
        return message;
}

static const Daemon__File *file_of(const Daemon__ProcessState *message, uint64_t fd) {
        for (size_t i = 0; i < message->n_openfiles; i++)
                if (message->openfiles[i]->fd == fd)
                        return message->openfiles[i];
        fail_msg("no descriptor %" PRIu64, fd);
        return NULL;
}

static const Daemon__Connection *connection_of(const Daemon__ProcessState *message, uint32_t fd) {
        for (size_t i = 0; i < message->n_openconnections; i++)
                if (message->openconnections[i]->fd == fd)
                        return message->openconnections[i];
        fail_msg("no socket %" PRIu32, fd);
        return NULL;
}

/* Enough for several threads to read them: each number's rest tells what it is. */
#define MANY_FIRST 300
#define MANY 3000
#define MANY_KINDS 6
#define MANY_FILES 20

static void open_many(void) {
        static const int flags[] = {
                O_WRONLY,
                O_WRONLY | O_APPEND,
                O_RDWR | O_APPEND,
                O_PATH,
        };
        struct rlimit limit = { MANY_FIRST + MANY, MANY_FIRST + MANY };
        char path[64];

        CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        for (int i = 0; i < MANY_FILES; i++) {
                snprintf(path, sizeof(path), "%s/many-%d", directory, i);
                CHILD_CHECK(close(open(path, O_WRONLY | O_CREAT, 0600)) == 0);
        }
        for (int fd = MANY_FIRST; fd < MANY_FIRST + MANY; fd++) {
                int kind = fd % MANY_KINDS, one;

                snprintf(path, sizeof(path), "%s/many-%d", directory, fd % MANY_FILES);
                if (kind < 4)
                        one = open(path, flags[kind]);
                else
                        one = socket(kind == 4 ? AF_INET : AF_UNIX, kind == 4 ? SOCK_STREAM : SOCK_DGRAM, 0);
                CHILD_CHECK(one >= 0 && dup2(one, fd) == fd);
                close(one);
        }
}

/* Those that nobody bound are in no table of the kernel: what they are is read of each. */
static void assert_is_unbound(const Daemon__Connection *connection, unsigned family, unsigned type) {
        assert_int_equal(connection->family, family);
        assert_int_equal(connection->type, type);
        assert_string_equal(connection->status, family == AF_INET ? "CLOSE" : "NONE");
}

static void test_many(void **state) {
        static const char *const modes[] = { "w", "w", "rw", "" };
        struct rlimit limit;

        (void)state;
        getrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < MANY_FIRST + MANY)
                skip();
        STATE *s = read_child(open_many, PROCESS_INSPECT);
        size_t files = 0, sockets = 0;

        for (size_t i = 0; i < s->n_openfiles; i++) {
                const Daemon__File *file = s->openfiles[i];
                _cleanup_free_ char *path = xasprintf("%s/many-%d", directory, (int)file->fd % MANY_FILES);
                struct stat st;

                if (file->fd < MANY_FIRST)
                        continue;
                assert_in_range(file->fd, MANY_FIRST + files, MANY_FIRST + MANY - 1); /* in order, each once */
                assert_in_range(file->fd % MANY_KINDS, 0, ELEMENTSOF(modes) - 1);
                assert_string_equal(file->mode, modes[file->fd % MANY_KINDS]);
                assert_string_equal(file->path, path);
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(file->inode, st.st_ino);
                assert_int_equal(file->dev, st.st_dev);
                assert_int_not_equal(file->mountid, 0);
                files++;
        }
        for (size_t i = 0; i < s->n_openconnections; i++) {
                const Daemon__Connection *connection = s->openconnections[i];

                assert_in_range(connection->fd, MANY_FIRST, MANY_FIRST + MANY - 1);
                if (connection->fd % MANY_KINDS == 4)
                        assert_is_unbound(connection, AF_INET, SOCK_STREAM);
                else
                        assert_is_unbound(connection, AF_UNIX, SOCK_DGRAM);
                sockets++;
        }
        for (int i = 0; i < MANY_FILES; i++) {
                _cleanup_free_ char *path = xasprintf("%s/many-%d", directory, i);
                unlink(path);
        }
        assert_int_equal(files, MANY / MANY_KINDS * 4);
        assert_int_equal(sockets, MANY / MANY_KINDS * 2);
}

static void make_directory(void) {
        CHILD_CHECK(chdir(directory) == 0);
}

static void test_identity(void **state) {
        (void)state;
        pid_t pid = child_start(make_directory, -1);
        STATE *s = read_state(pid, PROCESS_BASIC);

        child_stop(pid);
        assert_int_equal(s->pid, pid);
        assert_int_equal(s->sid, pid);
        assert_string_equal(s->workingdir, directory);
        assert_string_equal(s->status, "sleep");
        assert_true(s->has_isrunning && s->isrunning);
        assert_int_equal(s->n_uids, 4);
        assert_int_equal(s->uids[0], getuid());
        assert_int_equal(s->n_gids, 4);
        assert_int_equal(s->gids[1], getegid());
        assert_int_equal(s->n_groups, getgroups(0, NULL));
        assert_non_null(strstr(s->cmdline, "test_process_state"));
        uint64_t now = (uint64_t)time(NULL) * 1000;
        assert_true(s->starttime <= now + 2000 && s->starttime + 60000 >= now);
        assert_int_equal(s->n_openfiles + s->n_openconnections + s->n_mounts + s->n_children, 0);
        assert_null(s->host);
}

enum { FD_READ = 10, FD_APPEND, FD_BOTH, FD_DELETED, FD_STRANGE, FD_FIFO, FD_PIPE, FD_TTY };

static void open_as(int number, const char *path, int flags) {
        int fd = open(path, flags, 0600);

        CHILD_CHECK(fd >= 0 && dup2(fd, number) == number && close(fd) == 0);
}

static void make_files(void) {
        int fds[2];

        CHILD_CHECK(chdir(directory) == 0);
        open_as(FD_APPEND, "log", O_WRONLY | O_CREAT | O_APPEND);
        open_as(FD_READ, "log", O_RDONLY);
        open_as(FD_BOTH, "log", O_RDWR);
        open_as(FD_DELETED, "gone", O_RDWR | O_CREAT);
        CHILD_CHECK(unlink("gone") == 0);
        open_as(FD_STRANGE, "new\nline\xff", O_RDWR | O_CREAT);
        CHILD_CHECK(mkfifo("fifo", 0600) == 0);
        open_as(FD_FIFO, "fifo", O_RDWR);
        CHILD_CHECK(pipe(fds) == 0 && dup2(fds[1], FD_PIPE) == FD_PIPE);
        CHILD_CHECK(openpty(&fds[0], &fds[1], NULL, NULL, NULL) == 0 && dup2(fds[1], FD_TTY) == FD_TTY);
}

static void assert_file(const Daemon__ProcessState *s, uint64_t fd, const char *name, const char *mode) {
        const Daemon__File *file = file_of(s, fd);
        char path[256];

        snprintf(path, sizeof(path), "%s/%s", directory, name);
        assert_string_equal(file->path, path);
        assert_string_equal(file->mode, mode);
        assert_false(file->istty);
        assert_true(file->inode > 0 && file->dev > 0 && file->mountid > 0);
        assert_int_equal(file->rdev, 0);
}

/* What fdinfo says of a descriptor: the number behind "mnt_id:". */
static uint64_t mount_of(pid_t pid, int fd) {
        char path[64], line[128];
        uint64_t id = 0;

        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                (void)!sscanf(line, "mnt_id: %" SCNu64, &id);
        fclose(f);
        return id;
}

static void test_files(void **state) {
        (void)state;
        pid_t pid = child_start(make_files, -1);
        STATE *s = read_state(pid, PROCESS_INSPECT);
        uint64_t mount = mount_of(pid, FD_READ);

        child_stop(pid);
        assert_file(s, FD_READ, "log", "r");
        assert_file(s, FD_APPEND, "log", "w");
        assert_file(s, FD_BOTH, "log", "rw");
        assert_file(s, FD_DELETED, "gone (deleted)", "rw");
        assert_file(s, FD_STRANGE, "new line\xef\xbf\xbd", "rw");
        assert_file(s, FD_FIFO, "fifo", "rw");
        assert_int_equal(file_of(s, FD_READ)->mountid, mount);
        assert_int_equal(file_of(s, FD_READ)->inode, file_of(s, FD_APPEND)->inode);
        assert_non_null(text_after(file_of(s, FD_PIPE)->path, "pipe:["));
        assert_string_equal(file_of(s, FD_PIPE)->mode, "w");
        assert_true(file_of(s, FD_TTY)->istty);
        assert_true(file_of(s, FD_TTY)->rdev != 0);
        assert_string_equal(file_of(s, 0)->path, "/dev/null");
        assert_false(file_of(s, 0)->istty);
        assert_int_equal(s->n_openconnections, 0);
}

enum {
        FD_LISTEN = 20,
        FD_CLIENT,
        FD_SERVER,
        FD_UDP,
        FD_UNBOUND,
        FD_NETLINK,
        FD_PATH,
        FD_ABSTRACT,
        FD_DATAGRAM,
        FD_LAST,
};

static void bind_path(int fd, const char *path, size_t length) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        memcpy(address.sun_path, path, length);
        CHILD_CHECK(bind(fd, (struct sockaddr *)&address, (socklen_t)(sizeof(sa_family_t) + length)) == 0);
}

static void make_sockets(void) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_un local = { .sun_family = AF_UNIX, .sun_path = "socket" };
        socklen_t length = sizeof(address);
        static const int kinds[][2] = {
                { AF_INET, SOCK_STREAM }, { AF_INET, SOCK_STREAM }, { AF_INET, SOCK_STREAM },
                { AF_INET, SOCK_DGRAM },  { AF_INET, SOCK_STREAM }, { AF_NETLINK, SOCK_RAW },
                { AF_UNIX, SOCK_DGRAM },  { AF_UNIX, SOCK_STREAM }, { AF_UNIX, SOCK_DGRAM },
        };

        CHILD_CHECK(chdir(directory) == 0);
        for (int fd = FD_LISTEN; fd < FD_LAST; fd++) {
                int s = socket(kinds[fd - FD_LISTEN][0], kinds[fd - FD_LISTEN][1], 0);
                CHILD_CHECK(s >= 0 && dup2(s, fd) == fd && close(s) == 0);
        }
        CHILD_CHECK(bind(FD_LISTEN, (struct sockaddr *)&address, length) == 0 && listen(FD_LISTEN, 1) == 0);
        CHILD_CHECK(getsockname(FD_LISTEN, (struct sockaddr *)&address, &length) == 0);
        CHILD_CHECK(connect(FD_CLIENT, (struct sockaddr *)&address, length) == 0);
        int server = accept(FD_LISTEN, NULL, NULL);
        CHILD_CHECK(server >= 0 && dup2(server, FD_SERVER) == FD_SERVER && close(server) == 0);
        address.sin_port = 0;
        CHILD_CHECK(bind(FD_UDP, (struct sockaddr *)&address, length) == 0);
        bind_path(FD_PATH, "socket", 7);
        bind_path(FD_ABSTRACT, "\0stasis\0\xff", 9);
        CHILD_CHECK(connect(FD_DATAGRAM, (struct sockaddr *)&local, sizeof(local)) == 0);
}

static void test_connections(void **state) {
        (void)state;
        STATE *s = read_child(make_sockets, PROCESS_INSPECT);

        assert_int_equal(s->n_openconnections, FD_LAST - FD_LISTEN);
        const Daemon__Connection *listener = connection_of(s, FD_LISTEN), *client = connection_of(s, FD_CLIENT);
        assert_int_equal(listener->family, AF_INET);
        assert_int_equal(listener->type, SOCK_STREAM);
        assert_string_equal(listener->status, "LISTEN");
        assert_string_equal(listener->laddr->ip, "127.0.0.1");
        assert_true(listener->laddr->port > 0);
        assert_int_equal(listener->pid, s->pid);
        assert_int_equal(listener->n_uids, 4);
        assert_string_equal(client->status, "ESTABLISHED");
        assert_int_equal(client->raddr->port, listener->laddr->port);
        assert_int_equal(connection_of(s, FD_SERVER)->raddr->port, client->laddr->port);

        assert_string_equal(connection_of(s, FD_UDP)->status, "NONE");
        assert_int_equal(connection_of(s, FD_UDP)->type, SOCK_DGRAM);
        assert_true(connection_of(s, FD_UDP)->laddr->port > 0);
        assert_string_equal(connection_of(s, FD_UNBOUND)->status, "CLOSE");
        assert_int_equal(connection_of(s, FD_UNBOUND)->family, AF_INET);
        assert_int_equal(connection_of(s, FD_NETLINK)->family, AF_NETLINK);

        assert_int_equal(connection_of(s, FD_PATH)->family, AF_UNIX);
        assert_int_equal(connection_of(s, FD_PATH)->type, SOCK_DGRAM);
        assert_string_equal(connection_of(s, FD_PATH)->laddr->ip, "socket");
        assert_null(connection_of(s, FD_PATH)->raddr);
        assert_string_equal(connection_of(s, FD_ABSTRACT)->laddr->ip, "@stasis@\xef\xbf\xbd");
        assert_null(connection_of(s, FD_DATAGRAM)->laddr);
        assert_string_equal(connection_of(s, FD_DATAGRAM)->raddr->ip, "socket");
}

static int outside_length;
static struct sockaddr_un outside;

static void make_client(void) {
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

        CHILD_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&outside, (socklen_t)outside_length) == 0);
        CHILD_CHECK(dup2(fd, FD_DATAGRAM) == FD_DATAGRAM && close(fd) == 0);
}

/* The name of a peer that is in no process of the tree. */
static void test_outside_peer(void **state) {
        (void)state;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        outside = (struct sockaddr_un){ .sun_family = AF_UNIX };
        outside_length = snprintf(outside.sun_path, sizeof(outside.sun_path), "%s/outside", directory) +
                         (int)sizeof(sa_family_t);
        assert_int_equal(bind(fd, (struct sockaddr *)&outside, (socklen_t)outside_length), 0);
        STATE *s = read_child(make_client, PROCESS_INSPECT);
        assert_string_equal(connection_of(s, FD_DATAGRAM)->raddr->ip, outside.sun_path);
}

static void make_family(void) {
        if (child_fork() == 0) {
                (void)child_fork();
                child_wait();
        }
        pid_t zombie = child_fork();
        siginfo_t info;
        if (zombie == 0)
                _exit(0);
        CHILD_CHECK(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT) == 0);
}

static void test_tree(void **state) {
        (void)state;
        pid_t pid = child_start(make_family, -1);
        STATE *s = read_state(pid, PROCESS_TREE | PROCESS_INSPECT);
        STATE *alone = read_state(pid, PROCESS_BASIC);
        child_stop(pid);
        assert_int_equal(s->n_children, 2);
        assert_int_equal(s->children[0]->n_children, 1);
        assert_string_equal(s->children[1]->status, "zombie");
        assert_false(s->children[1]->isrunning);
        assert_int_equal(s->children[1]->n_openfiles, 0);
        assert_true(s->children[0]->n_openfiles >= 3);
        assert_true(s->n_mounts > 0);
        assert_int_equal(s->children[0]->n_mounts, 0);
        assert_int_equal(alone->n_children, 0);
}

static void test_mounts(void **state) {
        (void)state;
        STATE *s = read_child(make_directory, PROCESS_INSPECT);
        bool root = false;

        for (size_t i = 0; i < s->n_mounts; i++)
                root = root || streq(s->mounts[i]->mountpoint, "/");
        assert_true(root);
}

static void make_own_mounts(void) {
        if (child_fork() == 0) {
                CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
                CHILD_CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
                CHILD_CHECK(mount("stasis\xff", directory, "tmpfs", 0, NULL) == 0);
                child_wait();
        }
}

static void test_mounts_of_child(void **state) {
        (void)state;
        if (geteuid() != 0)
                skip();
        STATE *s = read_child(make_own_mounts, PROCESS_TREE | PROCESS_INSPECT);

        assert_int_equal(s->n_children, 1);
        const Daemon__ProcessState *child = s->children[0];
        assert_true(child->n_mounts > 0);
        const Daemon__Mount *last = child->mounts[child->n_mounts - 1];
        assert_string_equal(last->mountpoint, directory);
        assert_string_equal(last->source, "stasis\xef\xbf\xbd");
        assert_string_equal(last->fstype, "tmpfs");
}

#define CHAIN 80

static void make_chain(void) {
        for (int i = 1; i < CHAIN; i++)
                if (child_fork() > 0)
                        return;
}

static size_t count(const Daemon__ProcessState *s, size_t *ret_depth) {
        size_t n = 1, deepest = 0;

        for (size_t i = 0; i < s->n_children; i++) {
                size_t depth;
                n += count(s->children[i], &depth);
                if (depth > deepest)
                        deepest = depth;
        }
        *ret_depth = deepest + 1;
        return n;
}

/* Clients refuse messages that are nested too deep; nobody gets lost. */
static void test_deep_tree(void **state) {
        (void)state;
        STATE *s = read_child(make_chain, PROCESS_TREE);
        size_t depth;

        assert_int_equal(count(s, &depth), CHAIN);
        assert_int_equal(depth, 64);
}

static void test_host(void **state) {
        (void)state;
        STATE *s = read_child(make_directory, PROCESS_HOST);
        char name[256] = "";

        assert_int_equal(gethostname(name, sizeof(name) - 1), 0);
        assert_non_null(s->host);
        assert_string_equal(s->host->hostname, name);
        assert_string_equal(s->host->os, "linux");
        assert_non_null(s->host->kernelversion);
        assert_int_equal(s->host->cpu->count, sysconf(_SC_NPROCESSORS_ONLN));
        assert_true(s->host->memory->total > s->host->memory->available);
        assert_int_equal(s->host->memory->used, s->host->memory->total - s->host->memory->available);
}

static void test_no_process(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;
        Daemon__ProcessState *s = NULL;
        pid_t pid = child_start(make_directory, -1);

        child_stop(pid);
        assert_int_equal(process_state_read(pid, PROCESS_BASIC, &s, &err), -ESRCH);
        assert_non_null(text_after(st_error_message(err), "no process "));
        assert_null(s);
}

static int make_test_directory(void **state) {
        (void)state;
        return mkdtemp(directory) ? 0 : -1;
}

static int remove_test_directory(void **state) {
        static const char *const names[] = { "log", "new\nline\xff", "fifo", "socket", "outside" };
        char path[256];

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                unlink(path);
        }
        return rmdir(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_identity),     cmocka_unit_test(test_files),
                cmocka_unit_test(test_many),         cmocka_unit_test(test_connections),
                cmocka_unit_test(test_outside_peer), cmocka_unit_test(test_tree),
                cmocka_unit_test(test_mounts),       cmocka_unit_test(test_mounts_of_child),
                cmocka_unit_test(test_deep_tree),    cmocka_unit_test(test_host),
                cmocka_unit_test(test_no_process),
        };

        return cmocka_run_group_tests_name("process: state", tests, make_test_directory, remove_test_directory);
}
