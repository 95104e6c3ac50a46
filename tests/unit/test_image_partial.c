/* SPDX-License-Identifier: Apache-2.0 */

/* Hidden files of checkpoints being written: those of dead writers go, what is locked or somebody else's stays. */

#include "test_image_common.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/io.h"
#include "image/partial.h"

static char *place(const char *directory, const char *name, bool is_directory) {
        char *path = path_join(directory, name);

        if (is_directory)
                assert_int_equal(mkdir(path, 0700), 0);
        else
                assert_int_equal(io_put_file(path, "x", 1, 0600), 0);
        return path;
}

static bool exists(const char *path) {
        struct stat st;
        return lstat(path, &st) == 0;
}

static void test_leftovers_are_removed(void **state) {
        static const struct {
                const char *name;
                bool is_directory, goes;
        } rows[] = {
                { ".web.tar.zst.partial-4711", false, true },
                { ".web.partial-6b03e1f2-1", true, true },
                { ".a.partial-x.partial-12", false, true },
                { "web.partial-4711", false, false },  /* not hidden */
                { ".partial-4711", false, false },     /* of no name */
                { ".web.partial-", false, false },     /* of nobody */
                { ".web.partial-mine", false, false }, /* not an id of ours */
                { ".stasis-restore.partial-6b03e1f2-1.unpacked", true, false },
                { ".web.tar", false, false },
        };
        char *directory = make_directory();

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                free(place(directory, rows[i].name, rows[i].is_directory));
        partial_clean(directory, geteuid());
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char *path = path_join(directory, rows[i].name);
                assert_int_equal(exists(path), !rows[i].goes);
                free(path);
        }
        remove_directory(directory);
}

static void test_what_is_written_stays(void **state) {
        char *directory = make_directory();

        (void)state;
        for (int is_directory = 0; is_directory <= 1; is_directory++) {
                char *destination = path_join(directory, "cp"), *partial = image_partial_path(destination, "1");
                const struct image_write options = {
                        .destination = destination,
                        .partial = partial,
                        .uid = geteuid(),
                        .gid = getegid(),
                };
                int fd = partial_make(&options, is_directory);

                assert_true(fd >= 0);
                partial_clean(directory, geteuid());
                assert_true(exists(partial));
                assert_int_equal(partial_make(&options, is_directory), -EEXIST);
                close(fd);
                partial_clean(directory, geteuid());
                assert_false(exists(partial));
                free(partial);
                free(destination);
        }
        remove_directory(directory);
}

static void test_of_others_stays(void **state) {
        char *directory = make_directory(), *path = place(directory, ".cp.partial-1", false);

        (void)state;
        if (geteuid() == 0) {
                assert_int_equal(lchown(path, 12345, 12345), 0);
                partial_clean(directory, 0);
                assert_true(exists(path));
                partial_clean(directory, 12345);
                assert_false(exists(path));
                /* What a link leads to is nobody's leftover. */
                char *target = place(directory, "precious", false);
                assert_int_equal(symlink(target, path), 0);
                partial_clean(directory, 0);
                assert_true(exists(path));
                assert_true(exists(target));
                free(target);
        }
        free(path);
        remove_directory(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_leftovers_are_removed),
                cmocka_unit_test(test_what_is_written_stays),
                cmocka_unit_test(test_of_others_stays),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
