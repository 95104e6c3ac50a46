/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_common.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/spawn.h"
#include "base/text.h"
#include "image/streamer.h"

/** Writes the samples as DIRECTORY/cp plus suffix. @return its path, malloc'ed */
static char *write_samples(const char *directory, struct kind kind) {
        struct store *store = make_store(directory, 3 * MIB); /* some of it spilled */
        char *destination = kind_path(kind, directory, "cp");
        struct st_error *error = NULL;
        assert_ok(write_store(store, kind, destination, &error), error);
        store_free(store);
        return destination;
}

static void check_image(const char *path, struct kind kind) {
        struct image *image = NULL;
        struct st_error *error = NULL;
        assert_ok(image_open(path, &image, &error), error);
        assert_int_equal(image_get_format(image), kind.format);
        assert_int_equal(image_streams(image), kind.streams);
        assert_true(image_verified(image));
        uint64_t total = 0;
        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                char *data;
                size_t size;
                assert_ok(image_read(image, samples[i].name, &data, &size, &error), error);
                assert_int_equal(size, samples[i].size);
                assert_int_equal(data[size], 0);
                assert_bytes((uint8_t *)data, size, i + 1);
                free(data);
                total += size;
        }
        assert_int_equal(image_size(image), total);
        char *data;
        assert_int_equal(image_read(image, "pages-9.img", &data, NULL, NULL), -ENOENT);
        assert_ok(image_verify(image, -EBADF, &error), error);
        image_free(image);
}

static void round_trip(struct kind kind) {
        char *directory = make_directory();
        char *path = write_samples(directory, kind);
        assert_int_equal(count_entries(directory), 1); /* nothing hidden is left */
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, kind.format == IMAGE_NONE || kind.streams > 1 ? 0700 : 0600);
        check_image(path, kind);

        struct store *store = make_store(directory, 64 * MIB);
        struct st_error *error = NULL;
        assert_int_equal(write_store(store, kind, path, &error), -EEXIST);
        assert_non_null(strstr(st_error_message(error), path));
        st_error_free(error);
        assert_int_equal(count_entries(directory), 1);
        check_image(path, kind);
        store_free(store);
        free(path);
        remove_directory(directory);
}

static void test_round_trips(void **state) {
        (void)state;
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++)
                round_trip(kinds[k]);
}

static void test_formats(void **state) {
        (void)state;
        for (enum image_format f = 0; f < IMAGE_FORMAT_COUNT; f++) {
                enum image_format again;
                assert_int_equal(image_format_from_text(image_format_name(f), &again, NULL), 0);
                assert_int_equal(again, f);
                if (f != IMAGE_NONE) {
                        _cleanup_free_ char *path = xasprintf("/tmp/x%s", image_format_suffix(f));
                        assert_true(image_format_from_path(path, &again));
                        assert_int_equal(again, f);
                }
        }
        enum image_format format;
        struct st_error *error = NULL;
        assert_int_equal(image_format_from_text("rar", &format, &error), -EINVAL);
        assert_non_null(strstr(st_error_message(error), "none, tar, gzip, lz4, zlib, zstd"));
        st_error_free(error);
        char *partial = image_partial_path("/a/b/cp.tar.zst", "12");
        assert_string_equal(partial, "/a/b/.cp.tar.zst.partial-12");
        free(partial);
}

static void test_empty_store(void **state) {
        (void)state;
        char *directory = make_directory();
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                if (kinds[k].format == IMAGE_NATIVE) /* one without files is taken for damage */
                        continue;
                struct store *store = store_new(MIB, directory);
                struct st_error *error = NULL;
                char *path = kind_path(kinds[k], directory, "e");
                assert_ok(write_store(store, kinds[k], path, &error), error);
                struct image *image;
                assert_ok(image_open(path, &image, &error), error);
                assert_ok(image_verify(image, -EBADF, &error), error);
                image_free(image);
                free(path);
                store_free(store);
        }
        remove_directory(directory);
}

static void count_progress(uint64_t done, uint64_t total, void *userdata) {
        uint64_t *last = userdata;
        assert_true(done > last[0] && done <= total);
        last[0] = done;
        last[1] = total;
}

static void test_progress(void **state) {
        (void)state;
        char *directory = make_directory();
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct store *store = make_store(directory, 64 * MIB);
                char *path = kind_path(kinds[k], directory, "p"), *partial = image_partial_path(path, "1");
                struct image_write options = options_for(kinds[k], path, partial);
                uint64_t last[2] = { 0, 0 };
                options.progress = count_progress;
                options.userdata = last;
                struct st_error *error = NULL;
                assert_ok(image_write(store, &options, &error), error);
                assert_int_equal(last[0], store->total);
                assert_int_equal(last[1], store->total);
                store_free(store);
                free(path);
                free(partial);
        }
        remove_directory(directory);
}

static void test_cancel(void **state) {
        (void)state;
        char *directory = make_directory();
        int cancel = eventfd(1, EFD_CLOEXEC);
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct store *store = make_store("/tmp", 64 * MIB);
                char *path = kind_path(kinds[k], directory, "c"), *partial = image_partial_path(path, "1");
                struct image_write options = options_for(kinds[k], path, partial);
                options.cancel_fd = cancel;
                struct st_error *error = NULL;
                assert_int_equal(image_write(store, &options, &error), -ECANCELED);
                assert_int_equal(count_entries(directory), 0);
                st_error_free(error);
                error = NULL;
                options.cancel_fd = -EBADF;
                assert_ok(image_write(store, &options, &error), error);
                struct image *image;
                assert_ok(image_open(path, &image, &error), error);
                assert_int_equal(image_verify(image, cancel, &error), -ECANCELED);
                st_error_free(error);
                image_free(image);
                io_remove_tree(path);
                store_free(store);
                free(path);
                free(partial);
        }
        close(cancel);
        remove_directory(directory);
}

/** In a child, with a mount namespace of its own: a disk of 1 MiB. @return 0; 77: not permitted; else what failed */
static int fill_disk(const char *directory, struct kind kind) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", directory, "tmpfs", 0, "size=1m") < 0)
                return 77;
        struct store *store = make_store("/tmp", 64 * MIB);
        char *path = kind_path(kind, directory, "full");
        struct st_error *error = NULL;
        if (write_store(store, kind, path, &error) != -ENOSPC)
                return 1;
        if (!strstr(st_error_message(error), "no space left on") || !strstr(st_error_message(error), directory))
                return 2;
        if (count_entries(directory) != 0)
                return 3;
        store_free(store);
        st_error_free(error);

        error = NULL;
        store = store_new(0, directory); /* spilling fills it too */
        struct store_file *file = store_add(store, "pages-1.img", NULL);
        uint8_t *bytes = make_bytes(2 * MIB, 1);
        if (store_append(store, file, bytes, 2 * MIB, &error) != -ENOSPC ||
            !strstr(st_error_message(error), "disk full"))
                return 4;
        free(bytes);
        store_free(store);
        st_error_free(error);
        free(path);
        return 0;
}

static void test_full_disk(void **state) {
        (void)state;
        char *directory = make_directory();
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0)
                        _exit(fill_disk(directory, kinds[k]));
                int status;
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_true(WIFEXITED(status));
                if (WEXITSTATUS(status) == 77) {
                        remove_directory(directory);
                        skip();
                }
                assert_int_equal(WEXITSTATUS(status), 0);
        }
        remove_directory(directory);
}

static int open_result(const char *path, char **ret_message) {
        struct image *image = NULL;
        struct st_error *error = NULL;
        int r = image_open(path, &image, &error);
        *ret_message = xstrdup(st_error_message(error));
        st_error_free(error);
        image_free(image);
        return r;
}

static void test_not_a_checkpoint(void **state) {
        (void)state;
        char *directory = make_directory(), *message, *path = path_join(directory, "x");
        const struct {
                const char *bytes;
                size_t size;
                const char *what;
        } cases[] = {
                { "", 0, "is empty" },
                { "\x1f\x8b\x08\0", 4, "gzip" },
                { "\x04\x22\x4d\x18", 4, "lz4" },
                { "hello", 5, "no known format" },
        };
        assert_int_equal(open_result(path, &message), -ENOENT);
        free(message);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                assert_int_equal(io_replace_file(path, cases[i].bytes, cases[i].size, 0600, false), 0);
                assert_int_equal(open_result(path, &message), -EINVAL);
                assert_non_null(strstr(message, "not a checkpoint"));
                assert_non_null(strstr(message, cases[i].what));
                free(message);
        }
        assert_int_equal(open_result("/dev/null", &message), -EINVAL);
        free(message);
        assert_int_equal(open_result(directory, &message), -EINVAL);
        assert_non_null(strstr(message, "inventory.img"));
        free(message);
        free(path);
        remove_directory(directory);
}

/** A directory that plain CRIU made. */
static void test_without_manifest(void **state) {
        (void)state;
        char *directory = make_directory(), *data;
        char *path = write_samples(directory, kind_none);
        char *manifest = path_join(path, IMAGE_MANIFEST);
        assert_int_equal(unlink(manifest), 0);
        struct image *image;
        struct st_error *error = NULL;
        assert_ok(image_open(path, &image, &error), error);
        assert_false(image_verified(image));
        assert_ok(image_read(image, "core-42.img", &data, NULL, &error), error);
        assert_bytes((uint8_t *)data, 2315, 3);
        free(data);
        assert_ok(image_verify(image, -EBADF, &error), error);
        image_free(image);
        free(manifest);
        free(path);
        remove_directory(directory);
}

static void test_damaged_directory(void **state) {
        (void)state;
        char *directory = make_directory(), *message;
        char *path = write_samples(directory, kind_none);
        char *file = path_join(path, "core-42.img"), *other = path_join(path, "other");

        assert_int_equal(truncate(file, 2000), 0);
        assert_int_equal(open_result(path, &message), -EBADMSG);
        assert_non_null(strstr(message, "core-42.img has 2000 bytes instead of 2315"));
        free(message);

        assert_int_equal(rename(file, other), 0);
        assert_int_equal(open_result(path, &message), -EBADMSG);
        assert_non_null(strstr(message, "core-42.img is missing"));
        free(message);

        assert_int_equal(symlink("other", file), 0);
        assert_int_equal(open_result(path, &message), -EBADMSG);
        free(message);
        free(file);
        free(other);
        free(path);
        remove_directory(directory);
}

/** What tar and zstd make of our archive. */
static void test_real_tools(void **state) {
        (void)state;
        char *directory = make_directory();
        char *path = write_samples(directory, kind_zstd), *out = path_join(directory, "out");
        assert_int_equal(mkdir(out, 0700), 0);
        char *argv[] = { (char *)"tar", (char *)"--zstd", (char *)"-xf", path, (char *)"-C", out, NULL };
        struct spawn spawn = { .path = "tar", .argv = argv };
        _cleanup_free_ char *output = NULL;
        struct st_error *error = NULL;
        int r = spawn_run(&spawn, 20000, &output, &error);
        assert_ok(r, error);
        if (r != 0 && strstr(output, "zstd")) {
                free(path);
                free(out);
                remove_directory(directory);
                skip(); /* the zstd program is not installed */
        }
        assert_int_equal(r, 0);
        check_image(out, kind_none); /* what was unpacked is a checkpoint of the format none */
        free(path);
        free(out);
        remove_directory(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trips),
                cmocka_unit_test(test_formats),
                cmocka_unit_test(test_empty_store),
                cmocka_unit_test(test_progress),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_full_disk),
                cmocka_unit_test(test_not_a_checkpoint),
                cmocka_unit_test(test_without_manifest),
                cmocka_unit_test(test_damaged_directory),
                cmocka_unit_test(test_real_tools),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
