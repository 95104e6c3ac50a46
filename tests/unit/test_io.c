/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

static char directory[] = "/tmp/stasis-test-io.XXXXXX";

static int make_directory(void **state) {
        (void)state;
        return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
        (void)state;
        return io_remove_tree(directory);
}

static char *in_directory(const char *name) {
        return path_join(directory, name);
}

static void *write_slowly(void *argument) {
        int fd = *(int *)argument;

        for (int i = 0; i < 3; i++) {
                struct timespec pause = { .tv_nsec = 5000000 };
                nanosleep(&pause, NULL);
                (void)io_write_full(fd, "ab", 2);
        }
        close(fd);
        return NULL;
}

static void an_open_file_is_told_from_another_of_its_name(void **state) {
        (void)state;
        _cleanup_free_ char *path = in_directory("is-at"), *other = in_directory("is-at-2"),
                            *link = in_directory("is-at-link");
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        _cleanup_close_ int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0 && dir_fd >= 0);
        assert_true(io_is_at(fd, AT_FDCWD, path, 0));
        assert_true(io_is_at(fd, dir_fd, "is-at", AT_SYMLINK_NOFOLLOW));
        assert_false(io_is_at(dir_fd, dir_fd, "is-at", 0));
        assert_false(io_is_at(-EBADF, AT_FDCWD, path, 0));
        assert_int_equal(symlink(path, link), 0);
        assert_true(io_is_at(fd, AT_FDCWD, link, 0));
        assert_false(io_is_at(fd, AT_FDCWD, link, AT_SYMLINK_NOFOLLOW));
        assert_int_equal(rename(path, other), 0);
        assert_false(io_is_at(fd, AT_FDCWD, path, 0));
        assert_int_equal(io_replace_file(path, "x", 1, 0600, false), 0);
        assert_false(io_is_at(fd, AT_FDCWD, path, 0));
        assert_true(io_is_at(fd, dir_fd, "is-at-2", 0));
}

static void reading_waits_for_all_bytes(void **state) {
        (void)state;
        char buffer[8] = "";
        int fds[2];
        pthread_t thread;

        assert_int_equal(io_socketpair(fds), 0);
        assert_int_equal(io_set_nonblocking(fds[0], true), 0);
        assert_int_equal(pthread_create(&thread, NULL, write_slowly, &fds[1]), 0);
        assert_int_equal(io_read_full(fds[0], buffer, 5), 0);
        assert_string_equal(buffer, "ababa");
        assert_int_equal(io_read_full(fds[0], buffer, 2), -ENODATA);
        pthread_join(thread, NULL);
        close(fds[0]);
}

static void *read_all(void *argument) {
        static char buffer[65536];
        size_t *total = argument;
        ssize_t n;

        while ((n = read((int)*total, buffer, sizeof(buffer))) > 0)
                total[1] += (size_t)n;
        return NULL;
}

static void writing_waits_for_room(void **state) {
        (void)state;
        static const size_t size = 1024 * 1024;
        _cleanup_free_ char *data = xcalloc(size, 1);
        pthread_t thread;
        int fds[2];

        assert_int_equal(io_socketpair(fds), 0);
        assert_int_equal(io_set_nonblocking(fds[1], true), 0);
        size_t reader[2] = { (size_t)fds[0], 0 };
        assert_int_equal(pthread_create(&thread, NULL, read_all, reader), 0);
        assert_int_equal(io_write_full(fds[1], data, size), 0);
        close(fds[1]);
        pthread_join(thread, NULL);
        assert_int_equal(reader[1], size);
        close(fds[0]);
}

static void files_are_read_whole_or_refused(void **state) {
        (void)state;
        _cleanup_free_ char *path = in_directory("file"), *data = xcalloc(10000, 1), *content = NULL, *proc = NULL;
        size_t size = 0;

        memset(data, 'x', 10000);
        assert_int_equal(io_replace_file(path, data, 10000, 0640, true), 0);
        assert_int_equal(io_read_file(AT_FDCWD, path, 10000, &content, &size), 0);
        assert_int_equal(size, 10000);
        assert_int_equal(strlen(content), 10000);

        char *none = NULL;
        assert_int_equal(io_read_file(AT_FDCWD, path, 9999, &none, NULL), -EFBIG);
        assert_int_equal(io_read_file(AT_FDCWD, path, 100, &none, NULL), -EFBIG);
        assert_int_equal(io_read_file(AT_FDCWD, directory, 100, &none, NULL), -EISDIR);
        assert_int_equal(io_read_file(AT_FDCWD, "/nowhere/at/all", 100, &none, NULL), -ENOENT);
        assert_null(none);

        assert_int_equal(io_read_file(AT_FDCWD, "/proc/self/maps", SIZE_MAX, &proc, &size), 0);
        assert_true(size > 0 && strlen(proc) == size);
}

static void replacing_leaves_no_traces(void **state) {
        (void)state;
        _cleanup_free_ char *folder = in_directory("replace"), *path = path_join(folder, "f"), *content = NULL;
        struct stat st;

        assert_int_equal(mkdir(folder, 0700), 0);
        mode_t before = umask(0077);
        assert_int_equal(io_replace_file(path, "one", 3, 0600, false), 0);
        assert_int_equal(io_replace_file(path, "two!", 4, 0644, false), 0);
        umask(before);
        assert_int_equal(io_read_file(AT_FDCWD, path, 100, &content, NULL), 0);
        assert_string_equal(content, "two!");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644); /* whatever the umask says */

        _cleanup_free_ char *below = path_join(path, "x"), *over = in_directory("replace");
        assert_int_equal(io_replace_file(below, "", 0, 0600, false), -ENOTDIR);
        assert_int_equal(io_replace_file(over, "", 0, 0600, false), -EISDIR);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0); /* nothing else was left there */
}

static void what_is_no_regular_file_is_written_into(void **state) {
        (void)state;
        _cleanup_free_ char *fifo = in_directory("put-fifo"), *link = in_directory("put-link"),
                            *file = in_directory("put-file"), *content = NULL;
        struct stat st;
        char buffer[8] = "";

        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(io_put_file(fifo, "x", 1, 0644), -ENXIO); /* nobody reads */
        int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        assert_true(reader >= 0);
        assert_int_equal(io_can_put_file(fifo), 0);
        assert_int_equal(io_put_file(fifo, "one", 3, 0644), 1);
        assert_int_equal(read(reader, buffer, sizeof(buffer)), 3);
        close(reader);
        assert_int_equal(lstat(fifo, &st), 0);
        assert_true(S_ISFIFO(st.st_mode));

        assert_int_equal(io_put_file("/dev/full", "x", 1, 0644), -ENOSPC);
        assert_int_equal(lstat("/dev/full", &st), 0);
        assert_true(S_ISCHR(st.st_mode));

        assert_int_equal(io_put_file(file, "longer", 6, 0644), 0);
        assert_int_equal(symlink(file, link), 0);
        assert_int_equal(io_put_file(link, "two", 3, 0644), 1);
        assert_int_equal(io_read_file(AT_FDCWD, file, 100, &content, NULL), 0);
        assert_string_equal(content, "two");
        assert_int_equal(unlink(file), 0);
        assert_int_equal(io_put_file(link, "new", 3, 0644), 0); /* a link to nothing is replaced */
        assert_int_equal(lstat(link, &st), 0);
        assert_true(S_ISREG(st.st_mode));

        assert_int_equal(io_can_put_file(directory), -EISDIR);
        assert_int_equal(io_can_put_file("/nonexistent/x"), -ENOENT);
}

static void directories_are_made_and_removed(void **state) {
        (void)state;
        _cleanup_free_ char *deep = in_directory("a//b/c/"), *top = in_directory("a"), *file = in_directory("a/b/file");
        _cleanup_free_ char *outside = in_directory("outside"), *link = in_directory("a/b/link");
        _cleanup_free_ char *under_file = in_directory("a/b/file/c");

        assert_int_equal(io_make_directories(deep, 0755), 0);
        assert_int_equal(io_make_directories(deep, 0755), 0);
        if (geteuid() == 0) { /* the new ones have the owner, what was there keeps its own */
                _cleanup_free_ char *owned = path_join(deep, "his/own");
                struct stat st;

                assert_int_equal(io_make_directories_for(owned, 0700, 65534, 65534), 0);
                assert_int_equal(io_make_directories_for(owned, 0700, 1, 1), 0);
                assert_true(stat(owned, &st) == 0 && st.st_uid == 65534 && st.st_gid == 65534);
                assert_true(stat(deep, &st) == 0 && st.st_uid == 0);
        }
        assert_int_equal(io_make_directories("", 0755), -EINVAL);
        assert_int_equal(io_replace_file(file, "", 0, 0600, false), 0);
        assert_int_equal(io_make_directories(file, 0755), -ENOTDIR);
        assert_int_equal(io_make_directories_for(file, 0755, geteuid(), getegid()), -ENOTDIR);
        assert_int_equal(io_make_directories(under_file, 0755), -ENOTDIR);

        assert_int_equal(io_replace_file(outside, "", 0, 0600, false), 0);
        assert_int_equal(symlink(directory, link), 0);
        assert_int_equal(io_remove_tree(top), 0);
        assert_int_equal(access(top, F_OK), -1);
        assert_int_equal(access(outside, F_OK), 0); /* the link was removed, not followed */
        assert_int_equal(io_remove_tree(top), 0);
}

static void removal_stays_on_the_file_system(void **state) {
        (void)state;
        _cleanup_free_ char *top = in_directory("m"), *mounted = in_directory("m/mounted"), *source = in_directory("s");
        _cleanup_free_ char *precious = in_directory("s/precious");

        /* A bind mount of the same file system: the device number alone would not tell. */
        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        assert_int_equal(io_make_directories(mounted, 0700), 0);
        assert_int_equal(mkdir(source, 0700), 0);
        assert_int_equal(io_replace_file(precious, "", 0, 0600, false), 0);
        assert_int_equal(mount(source, mounted, NULL, MS_BIND, NULL), 0);
        assert_int_equal(io_remove_tree(top), -EXDEV);
        assert_int_equal(access(precious, F_OK), 0);
        assert_int_equal(umount(mounted), 0);
        assert_int_equal(io_remove_tree(top), 0);
}

static void unix_sockets(void **state) {
        (void)state;
        _cleanup_free_ char *path = in_directory("socket"), *file = in_directory("no-socket");
        struct stat st;
        char byte = 0;

        int listener = io_listen_unix(path, 0660, 4);
        assert_true(listener >= 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0660);
        assert_int_equal(io_listen_unix(path, 0600, 4), -EADDRINUSE);
        int server = io_accept(listener); /* it looked whether somebody answers */
        assert_int_equal(io_read_full(server, &byte, 1), -ENODATA);
        close(server);

        int client = io_connect_unix(path);
        assert_true(client >= 0);
        server = io_accept(listener);
        assert_true(server >= 0);
        assert_int_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
        assert_int_equal(io_write_full(client, "!", 1), 0);
        assert_int_equal(io_read_full(server, &byte, 1), 0);
        assert_int_equal(byte, '!');
        close(client);
        close(server);
        close(listener);

        /* Nobody listens any more: the file is stale. */
        assert_int_equal(io_connect_unix(path), -ECONNREFUSED);
        listener = io_listen_unix(path, 0600, 4);
        assert_true(listener >= 0);
        close(listener);

        assert_int_equal(io_replace_file(file, "", 0, 0600, false), 0);
        assert_int_equal(io_listen_unix(file, 0600, 4), -EADDRINUSE);
        char endless[109];
        memset(endless, 'x', sizeof(endless) - 1);
        endless[sizeof(endless) - 1] = 0;
        assert_int_equal(io_listen_unix(endless, 0600, 4), -ENAMETOOLONG);
        assert_int_equal(io_connect_unix(""), -EINVAL);
}

static void descriptors_travel(void **state) {
        (void)state;
        int fds[2];
        char content[4] = "";

        assert_int_equal(io_socketpair(fds), 0);
        _cleanup_close_ int memfd = io_memfd("test", "abc", 3);
        assert_true(memfd >= 0);
        assert_int_equal(io_send_fd(fds[0], memfd), 0);
        _cleanup_close_ int received = io_receive_fd(fds[1]);
        assert_true(received >= 0 && received != memfd);
        assert_int_equal(fcntl(received, F_GETFD), FD_CLOEXEC);
        assert_int_equal(io_read_full(received, content, 3), 0);
        assert_string_equal(content, "abc");

        assert_int_equal(io_write_full(fds[0], "x", 1), 0);
        assert_int_equal(io_receive_fd(fds[1]), -EPROTO); /* a byte alone */
        close(fds[0]);
        assert_int_equal(io_receive_fd(fds[1]), -ENODATA);
        close(fds[1]);
}

static void two_descriptors_at_once_are_refused(void **state) {
        (void)state;
        union {
                char bytes[CMSG_SPACE(2 * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        char byte = 0;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.bytes)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        int fds[2], sent[2] = { 0, 1 };

        assert_int_equal(io_socketpair(fds), 0);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(sent));
        memcpy(CMSG_DATA(c), sent, sizeof(sent));
        assert_int_equal(sendmsg(fds[0], &message, 0), 1);
        int next = dup(0);
        close(next);
        assert_int_equal(io_receive_fd(fds[1]), -EPROTO);
        int after = dup(0);
        assert_int_equal(after, next); /* both were closed */
        close(after);
        close(fds[0]);
        close(fds[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_open_file_is_told_from_another_of_its_name),
                cmocka_unit_test(reading_waits_for_all_bytes),
                cmocka_unit_test(writing_waits_for_room),
                cmocka_unit_test(files_are_read_whole_or_refused),
                cmocka_unit_test(replacing_leaves_no_traces),
                cmocka_unit_test(what_is_no_regular_file_is_written_into),
                cmocka_unit_test(directories_are_made_and_removed),
                cmocka_unit_test(removal_stays_on_the_file_system),
                cmocka_unit_test(unix_sockets),
                cmocka_unit_test(descriptors_travel),
                cmocka_unit_test(two_descriptors_at_once_are_refused),
        };
        return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
