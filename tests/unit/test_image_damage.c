/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Damage to checkpoints, in all formats: a file that was cut anywhere is refused when it is opened, a bit that was
 * flipped anywhere before the last file has been served wholly. STASIS_STRESS=1 flips 10,000 bits.
 */

#include "test_image_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

/** The samples of a small checkpoint, which are the first ones of its directory's manifest or archive. */
#define SMALL 4

/** Flips of all kinds together. */
#define FLIPS 600
#define FLIPS_STRESS 10000

struct file {
        char *path, *bytes;
        size_t size;
};

/** The files that a checkpoint consists of. */
struct files {
        struct file *items;
        size_t n, room, total;
};

static void add_file(struct files *files, char *path) {
        GROW(files->items, files->n, files->room);
        struct file *file = &files->items[files->n++];
        file->path = path;
        assert_int_equal(io_read_file(AT_FDCWD, path, 16 * MIB, &file->bytes, &file->size), 0);
        files->total += file->size;
}

static struct files find_files(const char *path) {
        struct files files = { 0 };
        DIR *dir = opendir(path);
        if (!dir) {
                add_file(&files, xstrdup(path));
                return files;
        }
        struct dirent *entry;
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        add_file(&files, path_join(path, entry->d_name));
        closedir(dir);
        return files;
}

static void files_clear(struct files *files) {
        for (size_t i = 0; i < files->n; i++) {
                free(files->items[i].path);
                free(files->items[i].bytes);
        }
        free(files->items);
}

/** A checkpoint whose last file is a small one, or, if large, pages that are fed by a thread. */
static void write_small(struct rig *rig, struct kind kind, bool large) {
        rig->directory = make_directory();
        struct store *store = store_new(MIB, rig->directory);
        struct st_error *error = NULL;
        for (size_t i = 1; i < SMALL; i++)
                add_sample(store, i);
        uint8_t *bytes = make_bytes(large ? 200000 : 5000, 1);
        struct store_file *file = store_add(store, samples[0].name, &error);
        assert_ok(store_append(store, file, bytes, large ? 200000 : 5000, &error), error);
        free(bytes);
        rig->path = write_image(rig->directory, kind, store);
}

/** @return 0 when all files were served wholly and nothing was found wrong; else the error, and *ret_whole */
static int serve_small(struct rig *rig, size_t pages, bool *ret_whole) {
        uint8_t *bytes;
        struct st_error *error = NULL;
        *ret_whole = false;
        rig->image = NULL;
        int r = image_open(rig->path, &rig->image, &error);
        if (r == 0)
                r = serve_start(rig->image, rig->directory, MIB, rig->directory, NULL, NULL, &rig->serve, &error);
        if (r < 0) {
                image_free(rig->image);
                st_error_free(error);
                return r;
        }
        _cleanup_free_ char *path = path_join(rig->directory, STREAMER_SERVE_SOCKET);
        rig->connection = io_connect_unix(path);
        bool whole = rig->connection >= 0;
        for (size_t i = 1; i <= SMALL && whole; i++) { /* pages come last, as with CRIU */
                int fd = criu_restore_file(rig->connection, samples[i % SMALL].name);
                whole = fd >= 0;
                if (!whole)
                        break;
                size_t size = i == SMALL ? pages : samples[i].size, n = read_pipe(fd, &bytes);
                whole = n == size;
                if (whole)
                        assert_bytes(bytes, n, i == SMALL ? 1 : i + 1);
                free(bytes);
        }
        if (rig->connection >= 0)
                close(rig->connection);
        *ret_whole = whole;
        return rig_finish(rig, NULL);
}

static void truncate_everywhere(struct kind kind) {
        struct rig rig;
        write_small(&rig, kind, false);
        struct files files = find_files(rig.path);
        for (size_t i = 0; i < files.n; i++) {
                const struct file *file = &files.items[i];
                for (size_t n = file->size; n-- > 0;) {
                        assert_int_equal(truncate(file->path, (off_t)n), 0);
                        struct image *image = NULL;
                        struct st_error *error = NULL;
                        int r = image_open(rig.path, &image, &error);
                        if (r != -EBADMSG && r != -EINVAL)
                                fail_msg("%s with %zu of %zu bytes: %d %s", file->path, n, file->size, r,
                                         st_error_message(error));
                        image_free(image);
                        st_error_free(error);
                }
                assert_int_equal(io_replace_file(file->path, file->bytes, file->size, 0600, false), 0);
        }
        bool whole;
        assert_int_equal(serve_small(&rig, 5000, &whole), 0);
        assert_true(whole);
        files_clear(&files);
        rig_clear(&rig);
}

static void test_truncation(void **state) {
        (void)state;
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++)
                truncate_everywhere(kinds[k]);
}

static void put_byte(const char *path, size_t at, char byte) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
}

static int verify(const char *path) {
        struct image *image = NULL;
        int r = image_open(path, &image, NULL);
        if (r == 0)
                r = image_verify(image, -EBADF, NULL);
        image_free(image);
        return r;
}

static void flip_bits(struct kind kind, uint64_t seed, int rounds, bool large) {
        struct rig rig;
        uint64_t random = seed;
        write_small(&rig, kind, large);
        struct files files = find_files(rig.path);
        for (int i = 0; i < rounds; i++) {
                size_t bit = (size_t)(next_random(&random) % (files.total * 8)), number = 0;
                for (; bit / 8 >= files.items[number].size; number++)
                        bit -= files.items[number].size * 8;
                const struct file *file = &files.items[number];
                put_byte(file->path, bit / 8, (char)(file->bytes[bit / 8] ^ 1 << bit % 8));
                bool whole;
                int r = serve_small(&rig, large ? 200000 : 5000, &whole);
                if (whole || (r != -EBADMSG && r != -EINVAL))
                        fail_msg("seed %d, round %d: bit %zu of %s (%zu bytes): served: %d", (int)seed, i, bit,
                                 file->path, file->size, r);
                r = verify(rig.path);
                if (r != -EBADMSG && r != -EINVAL)
                        fail_msg("seed %d, round %d: bit %zu of %s (%zu bytes): verified: %d", (int)seed, i, bit,
                                 file->path, file->size, r);
                put_byte(file->path, bit / 8, file->bytes[bit / 8]);
        }
        assert_int_equal(verify(rig.path), 0);
        files_clear(&files);
        rig_clear(&rig);
}

static void test_flipped_bits(void **state) {
        (void)state;
        const char *stress = getenv("STASIS_STRESS");
        bool all = stress && streq(stress, "1");
        int rounds = (all ? FLIPS_STRESS : FLIPS) / (int)ELEMENTSOF(kinds);
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                flip_bits(kinds[k], 20240117 + k, rounds / 2, false);
                flip_bits(kinds[k], 20250117 + k, rounds / 2, true);
        }
}

/** Each bit of a footer, and of what lies around it. */
static void test_flipped_ends(void **state) {
        (void)state;
        for (size_t k = 1; k < ELEMENTSOF(kinds); k++) {
                struct rig rig;
                write_small(&rig, kinds[k], false);
                struct files files = find_files(rig.path);
                for (size_t i = 0; i < files.n; i++) {
                        const struct file *file = &files.items[i];
                        size_t end = file->size < 80 ? file->size : 80;
                        for (size_t at = file->size - end; at < file->size; at++) {
                                put_byte(file->path, at, (char)(file->bytes[at] ^ 1 << at % 8));
                                bool whole;
                                int r = serve_small(&rig, 5000, &whole);
                                if (whole || (r != -EBADMSG && r != -EINVAL))
                                        fail_msg("byte %zu of %s (%zu bytes): %d", at, file->path, file->size, r);
                                put_byte(file->path, at, file->bytes[at]);
                        }
                }
                files_clear(&files);
                rig_clear(&rig);
        }
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

/** Archives of a checkpoint in streams that are missing, or of another one. */
static void test_wrong_parts(void **state) {
        (void)state;
        struct rig rig, other;
        char *message;
        write_small(&rig, kind_streams, true);
        write_small(&other, (struct kind){ IMAGE_ZSTD, 3 }, true);
        char *second = path_join(rig.path, "img-1.tar.lz4"), *hidden = path_join(rig.path, "x");
        char *foreign = path_join(other.path, "img-1.tar.zst"), *first = path_join(rig.path, "img-0.tar.lz4");

        assert_int_equal(open_result(first, &message), -EINVAL);
        assert_non_null(strstr(message, "one archive of several"));
        free(message);
        assert_int_equal(open_result(second, &message), -EBADMSG);
        free(message);
        assert_int_equal(rename(second, hidden), 0);
        assert_int_equal(open_result(rig.path, &message), -EBADMSG);
        assert_non_null(strstr(message, "img-1.tar.lz4 is missing"));
        free(message);
        assert_int_equal(symlink("x", second), 0);
        assert_int_equal(open_result(rig.path, &message), -EBADMSG);
        assert_non_null(strstr(message, "img-1.tar.lz4 is a link"));
        free(message);
        assert_int_equal(unlink(second), 0);
        assert_int_equal(rename(foreign, second), 0);
        assert_int_equal(open_result(rig.path, &message), -EBADMSG);
        assert_non_null(strstr(message, "img-1.tar.lz4 is damaged"));
        free(message);
        assert_int_equal(rename(first, second), 0);
        assert_int_equal(open_result(rig.path, &message), -EINVAL);
        free(message);

        free(first);
        free(second);
        free(hidden);
        free(foreign);
        rig_clear(&rig);
        rig_clear(&other);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_truncation),
                cmocka_unit_test(test_flipped_bits),
                cmocka_unit_test(test_flipped_ends),
                cmocka_unit_test(test_wrong_parts),
        };
        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
