/* SPDX-License-Identifier: Apache-2.0 */

/* Sending files to the disk while they grow: what is sent, what is passed over, and that it ends. */

#include "test_image_common.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/io.h"
#include "engine/writeback.h"

#define WAIT_MS 30000

static bool reaches(const struct writeback *writeback, uint64_t bytes) {
        for (int waited = 0; waited < WAIT_MS && writeback_begun(writeback) < bytes; waited += 5)
                (void)poll(NULL, 0, 5);
        return writeback_begun(writeback) >= bytes;
}

static size_t count_threads(void) {
        DIR *tasks = opendir("/proc/self/task");
        size_t n = 0;

        assert_non_null(tasks);
        while (readdir(tasks))
                n++;
        closedir(tasks);
        return n;
}

/** One that was waited for may be listed a moment longer. */
static bool threads_become(size_t n) {
        for (int waited = 0; waited < WAIT_MS && count_threads() != n; waited++)
                (void)poll(NULL, 0, 1);
        return count_threads() == n;
}

/** An empty one. */
static int make_file(const char *directory, const char *name) {
        char *path = path_join(directory, name);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        free(path);
        return fd;
}

static void make_hole(const char *directory, const char *name, size_t size) {
        int fd = make_file(directory, name);

        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        close(fd);
}

static void fill(uint8_t *piece, size_t size, size_t number) {
        for (size_t i = 0; i < size; i++)
                piece[i] = (uint8_t)(i * 31 + (i >> 12) + number * 7);
}

static void test_a_growing_file(void **state) {
        char *directory = make_directory();
        struct writeback *writeback = writeback_start(directory);
        uint8_t *piece = malloc(MIB), *back = malloc(MIB);
        int fd = make_file(directory, "pages-1.img");

        (void)state;
        assert_non_null(writeback);
        for (size_t i = 0; i < 4; i++) {
                fill(piece, MIB, i);
                /* Not at the end of a step, as CRIU's writes are not, either. */
                assert_int_equal(io_write_full(fd, piece, MIB / 2 + 100), 0);
                assert_true(reaches(writeback, i * MIB));
                assert_int_equal(io_write_full(fd, piece + MIB / 2 + 100, MIB / 2 - 100), 0);
                assert_true(reaches(writeback, (i + 1) * MIB));
        }
        assert_int_equal(writeback_begun(writeback), 4 * MIB);
        assert_null(writeback_stop(writeback));

        assert_int_equal(lseek(fd, 0, SEEK_END), 4 * MIB);
        for (size_t i = 0; i < 4; i++) {
                fill(piece, MIB, i);
                assert_int_equal(pread(fd, back, MIB, (off_t)(i * MIB)), MIB);
                assert_memory_equal(back, piece, MIB);
        }
        close(fd);
        free(piece);
        free(back);
        remove_directory(directory);
}

static void test_what_is_passed_over(void **state) {
        char *directory = make_directory(), *outside = make_directory();
        char *target = path_join(outside, "target"), *link = path_join(directory, "link");
        char *pipe = path_join(directory, "pipe"), *below = path_join(directory, "below");
        struct writeback *writeback;

        (void)state;
        make_hole(outside, "target", 8 * MIB);
        assert_int_equal(symlink(target, link), 0);
        assert_int_equal(mkfifo(pipe, 0600), 0);
        assert_int_equal(mkdir(below, 0700), 0);
        make_hole(below, "large", 8 * MIB);
        make_hole(directory, "small", MIB - 1);
        make_hole(directory, "odd", 2 * MIB + 1);
        writeback = writeback_start(directory);
        assert_non_null(writeback);
        assert_true(reaches(writeback, 2 * MIB));
        /* The next file comes after all these were looked at. */
        make_hole(directory, "last", MIB);
        assert_true(reaches(writeback, 3 * MIB));
        assert_int_equal(writeback_begun(writeback), 3 * MIB);
        writeback_stop(writeback);
        free(target);
        free(link);
        free(pipe);
        free(below);
        remove_directory(outside);
        remove_directory(directory);
}

static void test_files_that_vanish(void **state) {
        char *directory = make_directory();
        char *path = path_join(directory, "new"), *other = path_join(directory, "old");
        struct writeback *writeback = writeback_start(directory);
        uint64_t before;

        (void)state;
        assert_non_null(writeback);
        for (int i = 0; i < 300; i++) {
                make_hole(directory, "new", 2 * MIB);
                if (i % 2 == 0)
                        assert_int_equal(rename(path, other), 0);
                assert_int_equal(unlink(i % 2 == 0 ? other : path), 0);
                if (i % 10 == 0)
                        (void)poll(NULL, 0, 1);
        }
        /* It still works. The new file may have the number of one that was sent. */
        before = writeback_begun(writeback);
        make_hole(directory, "new", 16 * MIB);
        assert_true(reaches(writeback, before + 14 * MIB));
        remove_directory(directory); /* all of it */
        (void)poll(NULL, 0, 50);
        assert_null(writeback_stop(writeback));
        free(path);
        free(other);
}

static void test_a_file_written_anew(void **state) {
        char *directory = make_directory();
        struct writeback *writeback = writeback_start(directory);
        int fd = make_file(directory, "img");

        (void)state;
        assert_non_null(writeback);
        assert_int_equal(ftruncate(fd, 4 * MIB), 0);
        assert_true(reaches(writeback, 4 * MIB));
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(ftruncate(fd, 3 * MIB), 0);
        assert_true(reaches(writeback, 7 * MIB));
        assert_int_equal(writeback_begun(writeback), 7 * MIB);
        writeback_stop(writeback);
        close(fd);
        remove_directory(directory);
}

static void test_more_files_than_it_knows(void **state) {
        char *directory = make_directory();
        struct writeback *writeback;

        (void)state;
        for (int i = 0; i < 600; i++) {
                char *name = xasprintf("pages-%d.img", i);
                make_hole(directory, name, MIB);
                free(name);
        }
        writeback = writeback_start(directory);
        assert_non_null(writeback);
        assert_true(reaches(writeback, 512 * MIB));
        (void)poll(NULL, 0, 50);
        assert_int_equal(writeback_begun(writeback), 512 * MIB);
        writeback_stop(writeback);
        remove_directory(directory);
}

static void test_its_end(void **state) {
        char *directory = make_directory();
        size_t before = count_threads();

        (void)state;
        make_hole(directory, "large", 64 * MIB);
        for (int i = 0; i < 50; i++) {
                struct writeback *writeback = writeback_start(directory);

                assert_non_null(writeback);
                assert_int_equal(count_threads(), before + 1);
                if (i % 2 == 0)
                        (void)poll(NULL, 0, i % 20);
                assert_null(writeback_stop(writeback));
                assert_true(threads_become(before));
        }
        remove_directory(directory);
}

static void test_no_directory(void **state) {
        (void)state;
        assert_null(writeback_start("/proc/self/no-such-directory"));
        assert_null(writeback_start("/proc/self/status"));
        assert_null(writeback_stop(NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_growing_file),
                cmocka_unit_test(test_what_is_passed_over),
                cmocka_unit_test(test_files_that_vanish),
                cmocka_unit_test(test_a_file_written_anew),
                cmocka_unit_test(test_more_files_than_it_knows),
                cmocka_unit_test(test_its_end),
                cmocka_unit_test(test_no_directory),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
