/* SPDX-License-Identifier: Apache-2.0 */

/* Checkpoints that were not made by stasis, and what is done with opened ones: reading, replacing, copying files. */

#include "test_image_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/spawn.h"

/** An inventory as CRIU writes it: its magic number, a message of 2 bytes (its version). */
static const uint8_t inventory[] = { 0x16, 0x31, 0x31, 0x58, 2, 0, 0, 0, 0x08, 0x01 };

static void run(const char *script, const char *directory) {
        char *argv[] = { (char *)"sh", (char *)"-ec", (char *)script, (char *)directory, NULL };
        struct spawn spawn = { .path = "sh", .argv = argv };
        _cleanup_free_ char *output = NULL;
        struct st_error *error = NULL;
        int r = spawn_run(&spawn, 20000, &output, &error);
        assert_ok(r, error);
        if (r != 0)
                fail_msg("%s: %d: %s", script, r, output);
}

/** DIRECTORY/d with the files of a checkpoint of plain CRIU. */
static char *make_plain(void) {
        char *directory = make_directory();
        char *path = path_join(directory, "d"), *file = path_join(path, "inventory.img");
        char *pages = path_join(path, "pages-1.img"), *ghost = path_join(path, "other.bin");
        uint8_t *bytes = make_bytes(300000, 1);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(io_replace_file(file, inventory, sizeof(inventory), 0600, false), 0);
        assert_int_equal(io_replace_file(pages, bytes, 300000, 0600, false), 0);
        assert_int_equal(io_replace_file(ghost, bytes, 100000, 0600, false), 0);
        free(bytes);
        free(file);
        free(pages);
        free(ghost);
        free(path);
        return directory;
}

static void check_served(const char *directory, const char *path) {
        struct rig rig = { .directory = (char *)directory, .path = (char *)path };
        uint8_t *bytes;
        rig_start(&rig, MIB);
        assert_false(image_verified(rig.image));
        assert_int_equal(read_pipe(criu_restore_file(rig.connection, "inventory.img"), &bytes), sizeof(inventory));
        assert_memory_equal(bytes, inventory, sizeof(inventory));
        free(bytes);
        assert_int_equal(read_pipe(criu_restore_file(rig.connection, "other.bin"), &bytes), 100000);
        assert_bytes(bytes, 100000, 1);
        free(bytes);
        assert_int_equal(read_pipe(criu_restore_file(rig.connection, "pages-1.img"), &bytes), 300000);
        assert_bytes(bytes, 300000, 1);
        free(bytes);
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), 0);
}

static void test_plain_archives(void **state) {
        (void)state;
        static const char *const scripts[] = {
                "tar cf $0/a -C $0/d .",
                "tar cf $0/a -C $0 d",
                "cd $0/d; tar cf $0/a *",
                "tar cf $0/a --format=posix --mtime=@1.5 -C $0/d .",
                "tar czf $0/a -C $0/d .",
                "tar cf - -C $0/d . | zstd -q > $0/a",
                "tar cf - -C $0/d . | zstd -q | (cat; printf 'P*M\\030\\1\\0\\0\\0x') > $0/a", /* a skippable frame */
                "tar cf - -C $0/d . | (head -c 5000 | gzip; cat | gzip) > $0/a",
        };
        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                char *directory = make_plain(), *path = path_join(directory, "a");
                run(scripts[i], directory);
                check_served(directory, path);
                free(path);
                remove_directory(directory);
        }
        char *directory = make_plain(), *path = path_join(directory, "d");
        check_served(directory, path);
        free(path);
        remove_directory(directory);
}

static int open_result(const char *path, char **ret_message) {
        struct image *image = NULL;
        struct st_error *error = NULL;
        int r = image_open(path, &image, &error);
        if (r == 0)
                r = image_check(image, &error);
        *ret_message = xstrdup(st_error_message(error));
        st_error_free(error);
        image_free(image);
        return r;
}

static void test_refused_archives(void **state) {
        (void)state;
        static const struct {
                const char *script;
                int result;
                const char *message;
        } cases[] = {
                { "ln -s x $0/d/parent; tar cf $0/a -C $0/d .", -EINVAL, "parent in it is a symbolic link" },
                { "mkfifo $0/d/f; tar cf $0/a -C $0/d .", -EINVAL, "f in it is a FIFO" },
                { "ln $0/d/inventory.img $0/d/z; tar cf $0/a -C $0/d .", -EINVAL, "a hard link" },
                { "cd $0/d; tar cf $0/a inventory.img inventory.img pages-1.img --hard-dereference", -EBADMSG,
                  "twice" },
                { "cd $0/d; tar cPf $0/a ../d/inventory.img", -EINVAL, "leads elsewhere" },
                { "cd $0/d; tar cf $0/a pages-1.img", -EINVAL, "not a checkpoint" },
                { "cd $0/d; gzip -c pages-1.img >$0/a", -EINVAL, "not a checkpoint" },
                { "cd $0/d; touch stasis.manifest; tar czf $0/a *", -EBADMSG, "damaged" },
                { "tar czf $0/b -C $0/d .; head -c 50000 $0/b >$0/a", -EBADMSG, "truncated" },
                { "tar cf $0/b -C $0/d .; head -c 50000 $0/b >$0/a", -EBADMSG, "truncated" },
                { "truncate -s 2P $0/big 2>/dev/null || truncate -s 7T $0/big; cd $0; mv big d; "
                  "tar c -f - -C d inventory.img big 2>/dev/null | head -c 100000 >a",
                  -EFBIG, "unpacks to more than" },
                { "cd $0/d; head -c 9 inventory.img >x; mv x inventory.img; tar cf $0/a *", -EBADMSG, "inventory.img" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *directory = make_plain(), *path = path_join(directory, "a"), *message;
                run(cases[i].script, directory);
                int r = open_result(path, &message);
                if (r != cases[i].result || !strstr(message, cases[i].message))
                        fail_msg("%s: %d %s", cases[i].script, r, message);
                free(message);
                free(path);
                remove_directory(directory);
        }
}

static void test_incremental(void **state) {
        (void)state;
        char *directory = make_plain(), *path = path_join(directory, "d"), *message;
        run("ln -s ../before $0/d/parent", directory);
        assert_int_equal(open_result(path, &message), -EOPNOTSUPP);
        assert_non_null(strstr(message, "incremental"));
        free(message);
        free(path);
        remove_directory(directory);
}

static void read_sample(struct image *image, size_t i) {
        char *data;
        size_t size;
        struct st_error *error = NULL;
        assert_ok(image_read(image, samples[i].name, &data, &size, &error), error);
        assert_int_equal(size, samples[i].size);
        assert_int_equal(data[size], 0);
        assert_bytes((uint8_t *)data, size, i + 1);
        free(data);
}

/** In any order, again and again, through a pipe to a file in between. */
static void test_reading(void **state) {
        (void)state;
        static const size_t order[] = { 5, 2, 7, 1, 0, 4, 6, 3, 0, 2, 5 };
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct rig rig;
                struct st_error *error = NULL;
                rig_write(&rig, kinds[k]);
                assert_ok(image_open(rig.path, &rig.image, &error), error);
                assert_int_equal(image_file_count(rig.image), ELEMENTSOF(samples));
                for (size_t i = 0; i < ELEMENTSOF(order); i++) {
                        _cleanup_close_ int fd = open(rig.directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
                        const struct sample *sample = &samples[order[i]];
                        read_sample(rig.image, order[i]);
                        assert_ok(image_copy_to_fd(rig.image, sample->name, fd, &error), error);
                        uint8_t *bytes = xmalloc(sample->size + 1);
                        assert_int_equal(pread(fd, bytes, sample->size + 1, 0), sample->size);
                        assert_bytes(bytes, sample->size, order[i] + 1);
                        free(bytes);
                        read_sample(rig.image, order[(i + 1) % ELEMENTSOF(order)]);
                }
                assert_int_equal(image_copy_to_fd(rig.image, "none", -EBADF, &error), -ENOENT);
                st_error_free(error);
                error = NULL;

                struct store *store = store_new(MIB, rig.directory);
                assert_ok(image_load(rig.image, store, -EBADF, &error), error);
                assert_int_equal(store->n_files, ELEMENTSOF(samples));
                for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                        struct store_file *file = store_find(store, samples[i].name);
                        assert_int_equal(file->size, samples[i].size);
                        uint8_t *bytes = read_store_file(store, file);
                        assert_bytes(bytes, samples[i].size, i + 1);
                        free(bytes);
                }
                store_free(store);
                image_free(rig.image);
                rig_clear(&rig);
        }
}

static void test_overrides(void **state) {
        (void)state;
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct rig rig;
                struct st_error *error = NULL;
                char *data;
                size_t size;
                rig_write(&rig, kinds[k]);
                rig_start(&rig, MIB);
                close(rig.connection);
                assert_int_equal(rig_finish(&rig, NULL), 0);

                assert_ok(image_open(rig.path, &rig.image, &error), error);
                assert_int_equal(image_override(rig.image, "a/b", xstrdup("x"), 1, NULL), -EINVAL);
                assert_ok(image_override(rig.image, "core-42.img", xstrdup("first"), 5, &error), error);
                assert_ok(image_override(rig.image, "core-42.img", xstrdup("other"), 5, &error), error);
                assert_ok(image_override(rig.image, "new.img", make_bytes(200000, 9), 200000, &error), error);
                assert_ok(image_override(rig.image, "inventory.img", NULL, 0, &error), error);
                assert_int_equal(image_file_count(rig.image), ELEMENTSOF(samples) + 1);
                assert_string_equal(image_file_name(rig.image, ELEMENTSOF(samples)), "new.img");
                assert_int_equal(image_file_size(rig.image, ELEMENTSOF(samples)), 200000);
                assert_ok(image_read(rig.image, "core-42.img", &data, &size, &error), error);
                assert_string_equal(data, "other");
                free(data);
                assert_ok(image_read(rig.image, "inventory.img", &data, &size, &error), error);
                assert_int_equal(size, 0);
                free(data);
                assert_ok(image_verify(rig.image, -EBADF, &error), error);

                assert_ok(serve_start(rig.image, rig.directory, MIB, rig.directory, NULL, NULL, &rig.serve, &error),
                          error);
                rig.connection = criu_connect(rig.directory, STREAMER_SERVE_SOCKET);
                uint8_t *bytes;
                assert_int_equal(read_pipe(criu_restore_file(rig.connection, "core-42.img"), &bytes), 5);
                free(bytes);
                assert_int_equal(read_pipe(criu_restore_file(rig.connection, "new.img"), &bytes), 200000);
                assert_bytes(bytes, 200000, 9);
                free(bytes);
                assert_int_equal(read_pipe(criu_restore_file(rig.connection, "inventory.img"), &bytes), 0);
                free(bytes);
                assert_int_equal(read_pipe(criu_restore_file(rig.connection, "pages-1.img"), &bytes), samples[0].size);
                assert_bytes(bytes, samples[0].size, 1);
                free(bytes);
                close(rig.connection);
                assert_int_equal(rig_finish(&rig, NULL), 0);
                rig_clear(&rig);
        }
}

static void test_streams_refused(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct store *store = make_store(directory, MIB);
        char *path = path_join(directory, "x");
        assert_int_equal(write_store(store, (struct kind){ IMAGE_NONE, 2 }, path, &error), -EINVAL);
        st_error_free(error);
        assert_int_equal(write_store(store, (struct kind){ IMAGE_TAR, IMAGE_STREAMS_MAX + 1 }, path, NULL), -EINVAL);
        assert_int_equal(count_entries(directory), 0);
        store_free(store);
        free(path);
        remove_directory(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain_archives), cmocka_unit_test(test_refused_archives),
                cmocka_unit_test(test_incremental),    cmocka_unit_test(test_reading),
                cmocka_unit_test(test_overrides),      cmocka_unit_test(test_streams_refused),
        };
        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
