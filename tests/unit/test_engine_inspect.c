/* SPDX-License-Identifier: Apache-2.0 */

/* The images of tests/unit/data/criu/images, a directory as plain CRIU makes it, inspected; whole and damaged. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/inspect.h"

#define MIB ((size_t)1 << 20)
#define ALL (INSPECT_FILES | INSPECT_MEMORY)

static char *data_path(void) {
        return xasprintf("%s/tests/unit/data/criu/images", getenv("STASIS_SOURCE"));
}

static const struct inspect_fd *find_fd(const struct inspection *inspection, uint32_t number) {
        for (size_t i = 0; i < inspection->n_fds; i++)
                if (inspection->fds[i].pid == 25510 && inspection->fds[i].fd == number)
                        return &inspection->fds[i];
        fail_msg("no descriptor %u", number);
        return NULL;
}

static void expect_fd(const struct inspection *inspection, uint32_t number, const char *type, const char *mode,
                      const char *details) {
        const struct inspect_fd *fd = find_fd(inspection, number);
        assert_string_equal(fd->type, type);
        assert_string_equal(fd->mode, mode);
        assert_string_equal(fd->details, details);
}

static void descriptors(void **state) {
        (void)state;
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        _cleanup_free_ char *path = data_path();
        assert_int_equal(inspect(path, INSPECT_FILES, &inspection, NULL), 0);
        assert_int_equal(inspection->n_fds, 22 + 3 + 3);
        assert_int_equal(inspection->n_areas, 0);
        expect_fd(inspection, 0, "device", "r", "/dev/null");
        expect_fd(inspection, 5, "socket", "rw,cloexec", "127.0.0.1:41504 → 127.0.0.1:49201");
        expect_fd(inspection, 8, "socket", "rw,cloexec", "/tmp/app/socket");
        expect_fd(inspection, 11, "pipe", "r,cloexec", "pipe:[9386773], 5 bytes in it");
        expect_fd(inspection, 13, "fifo", "rw,cloexec", "/tmp/app/fifo");
        expect_fd(inspection, 14, "eventfd", "rw,cloexec", "counter 7");
        expect_fd(inspection, 15, "epoll", "rw,cloexec", "waits for 14");
        expect_fd(inspection, 17, "signalfd", "rw,cloexec", "USR2");
        expect_fd(inspection, 18, "inotify", "r,cloexec", "/");
        expect_fd(inspection, 19, "memfd", "rw,cloexec", "memfd:scratch, 8192 bytes");
        expect_fd(inspection, 20, "tty", "rw,cloexec", "/dev/pts/ptmx, of terminal 0");
        expect_fd(inspection, 21, "file", "rw,append,cloexec", "/tmp/app/notes");
        expect_fd(inspection, 22, "file", "rw,cloexec", "/tmp/app/gone (deleted, content in the checkpoint)");
        const struct inspect_fd *notes = find_fd(inspection, 21);
        assert_true(notes->regular);
        assert_int_equal(notes->size, 100);
        assert_int_equal(notes->position, 100);
        assert_false(find_fd(inspection, 0)->regular);
}

static void sockets(void **state) {
        (void)state;
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        _cleanup_free_ char *path = data_path();
        static const struct {
                uint32_t fd;
                unsigned family, type;
                const char *state, *local, *remote;
        } expected[] = {
                { 4, AF_INET, SOCK_STREAM, "LISTEN", "127.0.0.1:49201", NULL },
                { 5, AF_INET, SOCK_STREAM, "ESTABLISHED", "127.0.0.1:41504", "127.0.0.1:49201" },
                { 6, AF_INET, SOCK_STREAM, "ESTABLISHED", "127.0.0.1:49201", "127.0.0.1:41504" },
                { 7, AF_INET6, SOCK_DGRAM, "NONE", NULL, NULL },
                { 8, AF_UNIX, SOCK_STREAM, "LISTEN", "/tmp/app/socket", NULL },
                { 9, AF_UNIX, SOCK_SEQPACKET, "ESTABLISHED", NULL, NULL },
                { 10, AF_UNIX, SOCK_SEQPACKET, "ESTABLISHED", NULL, NULL },
        };
        assert_int_equal(inspect(path, INSPECT_FILES, &inspection, NULL), 0);
        assert_int_equal(inspection->n_sockets, ELEMENTSOF(expected));
        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                const struct inspect_socket *socket = &inspection->sockets[i];
                assert_int_equal(socket->fd, expected[i].fd);
                assert_int_equal(socket->family, expected[i].family);
                assert_int_equal(socket->type, expected[i].type);
                assert_string_equal(socket->state, expected[i].state);
                if (expected[i].local)
                        assert_string_equal(socket->local, expected[i].local);
                if (expected[i].remote)
                        assert_string_equal(socket->remote, expected[i].remote);
        }
        assert_string_equal(inspection->sockets[5].local, inspection->sockets[6].remote);
}

static void tasks_and_memory(void **state) {
        (void)state;
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        _cleanup_free_ char *path = data_path();
        assert_int_equal(inspect(path, INSPECT_MEMORY, &inspection, NULL), 0);
        assert_false(inspection->verified);
        assert_false(inspection->of_stasis);
        assert_int_equal(inspection->n_tasks, 4);
        assert_int_equal(inspection->n_threads, 4);
        assert_int_equal(inspection->n_fds, 0);
        assert_string_equal(inspect_state_name(inspection_find(inspection, 25513)->state), "stopped");
        const struct inspect_task *zombie = inspection_find(inspection, 25514);
        assert_string_equal(inspect_state_name(zombie->state), "dead");
        assert_int_equal(zombie->n_threads, 0);
        assert_null(inspection_find(inspection, 1));

        const struct inspect_task *root = inspection_find(inspection, 25510);
        assert_int_equal(root->pages.present * CRIU_PAGE_SIZE, 4321280); /* its pages file */
        assert_int_equal(root->pages.shared, 256);                       /* 1 MiB */
        assert_int_equal(inspection->shared_pages, 256);
        size_t heap = 0, stack = 0, shared = 0, mapped = 0;
        for (size_t i = 0; i < inspection->n_areas; i++) {
                const struct inspect_area *area = &inspection->areas[i];
                if (area->pid != 25510 || !area->what)
                        continue;
                heap += streq(area->what, "[heap]") && streq(area->permissions, "rw-p");
                stack += streq(area->what, "[stack]");
                shared += streq(area->what, "[shared]") && streq(area->permissions, "rw-s");
                mapped += streq(area->what, "/tmp/app/mapped") && area->end - area->start == 4096;
        }
        assert_int_equal(heap, 1);
        assert_int_equal(stack, 1);
        assert_int_equal(shared, 1);
        assert_int_equal(mapped, 1);
}

/** A copy of the images; remove it with io_remove_tree(). */
static char *copy(void) {
        char *to = xstrdup("/tmp/stasis-test-XXXXXX");
        _cleanup_free_ char *from = data_path();
        _cleanup_closedir_ DIR *dir = opendir(from);
        const struct dirent *entry;
        assert_non_null(mkdtemp(to));
        while ((entry = readdir(dir))) {
                _cleanup_free_ char *source = path_join(from, entry->d_name), *target = path_join(to, entry->d_name);
                _cleanup_free_ char *data = NULL;
                size_t size;
                if (entry->d_name[0] == '.')
                        continue;
                assert_int_equal(io_read_file(AT_FDCWD, source, MIB, &data, &size), 0);
                assert_int_equal(io_replace_file(target, data, size, 0600, false), 0);
        }
        return to;
}

/** Inspects; every result is fine but a crash and an error without a reason. */
static void try(const char *path, const char *what) {
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        int r = inspect(path, ALL, &inspection, &error);
        if (r != 0 && r != -EBADMSG && r != -EINVAL && r != -EOPNOTSUPP && r != -EFBIG)
                fail_msg("%s: %d %s", what, r, st_error_message(error));
        assert_true(r == 0 || strlen(st_error_message(error)) > 10);
}

static void damage(const char *directory, const char *name, unsigned *random) {
        _cleanup_free_ char *path = path_join(directory, name), *data = NULL;
        size_t size;
        assert_int_equal(io_read_file(AT_FDCWD, path, MIB, &data, &size), 0);
        for (int i = 0; i < 40; i++) {
                size_t at = (size_t)rand_r(random) % size;
                char was = data[at];
                data[at] = (char)(i % 2 ? was ^ (1 << (rand_r(random) % 8)) : rand_r(random));
                assert_int_equal(io_replace_file(path, data, size, 0600, false), 0);
                try(directory, name);
                data[at] = was;
        }
        for (int i = 0; i < 10; i++) {
                assert_int_equal(io_replace_file(path, data, (size_t)rand_r(random) % size, 0600, false), 0);
                try(directory, name);
        }
        assert_int_equal(io_replace_file(path, data, size, 0600, false), 0);
}

static void damaged(void **state) {
        (void)state;
        _cleanup_free_ char *directory = copy(), *from = data_path();
        _cleanup_closedir_ DIR *dir = opendir(from);
        const struct dirent *entry;
        unsigned random = 20;
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        damage(directory, entry->d_name, &random);
        io_remove_tree(directory);
}

static void expect_error(const char *directory, int number, const char *part) {
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        assert_int_equal(inspect(directory, ALL, &inspection, &error), number);
        if (!strstr(st_error_message(error), part))
                fail_msg("not '%s': %s", part, st_error_message(error));
}

static void remarks(void **state) {
        (void)state;
        _cleanup_free_ char *directory = copy(), *path = path_join(directory, ST_SUMMARY_FILE);
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        static const char good[] = "{\"version\": 1, \"rows\": [[\"engine\", \"Docker 20\"], [\"volume\", \"v\"]]}";
        static const char *const bad[] = { "",
                                           "[]",
                                           "{\"version\": 2, \"rows\": []}",
                                           "{\"version\": 1}",
                                           "{\"version\": 1, \"rows\": [[\"engine\"]]}",
                                           "{\"version\": 1, \"rows\": [[\"engine\", 7]]}" };

        assert_int_equal(io_replace_file(path, good, strlen(good), 0600, false), 0);
        assert_int_equal(inspect(directory, 0, &inspection, NULL), 0);
        assert_int_equal(inspection->n_remarks, 2);
        assert_string_equal(inspection->remarks[0].label, "engine");
        assert_string_equal(inspection->remarks[1].text, "v");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(io_replace_file(path, bad[i], strlen(bad[i]), 0600, false), 0);
                expect_error(directory, -EBADMSG, ST_SUMMARY_FILE);
        }
        io_remove_tree(directory);
}

static void missing(void **state) {
        (void)state;
        _cleanup_free_ char *directory = copy();
        static const struct {
                const char *name;
                const char *part; /* of the message; NULL: it can be done without */
        } files[] = {
                { "core-25513.img", "core-25513.img is missing" },
                { "pstree.img", "pstree.img is missing" },
                { "inventory.img", "inventory.img" },
                { "files.img", NULL },
                { "mm-25512.img", NULL },
                { "fdinfo-2.img", NULL },
                { "memfd.img", NULL },
        };
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *path = path_join(directory, files[i].name), *away = xasprintf("%s.away", path);
                assert_int_equal(rename(path, away), 0);
                if (files[i].part)
                        expect_error(directory, streq(files[i].name, "inventory.img") ? -EINVAL : -EBADMSG,
                                     files[i].part);
                else
                        try(directory, files[i].name);
                assert_int_equal(rename(away, path), 0);
        }
        io_remove_tree(directory);
}

static void replace(const char *directory, const char *name, const char *data, size_t size) {
        _cleanup_free_ char *path = path_join(directory, name);
        assert_int_equal(io_replace_file(path, data, size, 0600, false), 0);
}

/** What no CRIU writes, but is well-formed. */
static void strange(void **state) {
        (void)state;
        _cleanup_free_ char *directory = copy();
        /* pid 25510 twice */
        static const char twice[] = "\x19\x43\x56\x54\x30\x30\x27\x50"
                                    "\x0c\0\0\0\x08\xa6\xc7\x01\x10\0\x18\xa6\xc7\x01\x20\x01"
                                    "\x0c\0\0\0\x08\xa6\xc7\x01\x10\0\x18\xa6\xc7\x01\x20\x01";
        /* no process at all */
        static const char none[] = "\x19\x43\x56\x54\x30\x30\x27\x50";
        /* version 1 of the images */
        static const char old[] = "\x16\x31\x31\x58\x02\0\0\0\x08\x01";
        /* a process 0 */
        static const char zero[] = "\x19\x43\x56\x54\x30\x30\x27\x50"
                                   "\x08\0\0\0\x08\0\x10\0\x18\0\x20\0";
        replace(directory, "pstree.img", none, sizeof(none) - 1);
        expect_error(directory, -EBADMSG, "pstree.img is missing or empty");
        replace(directory, "pstree.img", zero, sizeof(zero) - 1);
        expect_error(directory, -EBADMSG, "it names the process 0");
        replace(directory, "pstree.img", twice, sizeof(twice) - 1);
        expect_error(directory, -EBADMSG, "it names the process 25510 twice");
        replace(directory, "inventory.img", old, sizeof(old) - 1);
        expect_error(directory, -EOPNOTSUPP, "of version 1");
        io_remove_tree(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(descriptors), cmocka_unit_test(sockets), cmocka_unit_test(tasks_and_memory),
                cmocka_unit_test(damaged),     cmocka_unit_test(missing), cmocka_unit_test(strange),
                cmocka_unit_test(remarks),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
