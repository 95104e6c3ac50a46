/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Serving native images: long runs and scattered pages of more frames than are kept in memory, zeros, parts of files,
 * large files that are not pages, many files at once; damage, and readers that go away.
 */

#include "test_image_rig.h"
#include "test_native_rig.h"

#include <pthread.h>

#define FRAMES 60
#define PER_FRAME 64 /* pages */
#define SCATTERED 4000
#define ZEROS 20000
#define GHOST ((size_t)3 << 20)
#define GHOST_FRAME ((size_t)300000)

/** A file as it should be read. */
struct expected {
        const char *name;
        uint8_t *bytes;
        size_t size;
};

struct native_rig {
        struct rig rig;
        struct native_build build;
        struct expected files[6];
        uint8_t *pages; /* of all frames */
        struct native_run *scattered;
};

static void expect_runs(struct native_rig *native, struct expected *file, const char *name,
                        const struct native_run *runs, uint32_t n) {
        size_t have = 0;
        file->name = name;
        for (uint32_t i = 0; i < n; i++)
                file->size += runs[i].count * NATIVE_PAGE;
        file->bytes = xcalloc(file->size + 1, 1);
        for (uint32_t i = 0; i < n; have += runs[i++].count * NATIVE_PAGE)
                if (runs[i].source == 0)
                        memcpy(file->bytes + have,
                               native->pages + (runs[i].frame * (size_t)PER_FRAME + runs[i].page) * NATIVE_PAGE,
                               runs[i].count * NATIVE_PAGE);
        build_pages(&native->build, name, runs, n);
}

static void make_frames(struct native_rig *native) {
        static const enum native_codec codecs[] = { NATIVE_ZSTD, NATIVE_LZ4, NATIVE_RAW };
        size_t n = (size_t)FRAMES * PER_FRAME * NATIVE_PAGE;
        native->pages = make_bytes(n, 3);
        build_begin(&native->build, 9);
        for (uint32_t i = 0; i < FRAMES; i++)
                build_frame(&native->build, NATIVE_PAGES, codecs[i % ELEMENTSOF(codecs)],
                            native->pages + i * (size_t)PER_FRAME * NATIVE_PAGE, PER_FRAME * NATIVE_PAGE);
}

static void make_ghost(struct native_rig *native, struct expected *file) {
        struct native_extent extents[GHOST / GHOST_FRAME + 1] = { 0 };
        uint32_t n = 0;
        *file = (struct expected){ "ghost-file-1.img", make_bytes(GHOST, 11), GHOST };
        for (size_t at = 0; at < GHOST; at += GHOST_FRAME, n++) {
                size_t some = GHOST - at < GHOST_FRAME ? GHOST - at : GHOST_FRAME;
                uint32_t frame = build_frame(&native->build, NATIVE_DATA, NATIVE_ZSTD, file->bytes + at, some);
                extents[n] = (struct native_extent){ (uint32_t)some, frame, 0 };
        }
        build_data(&native->build, file->name, extents, n);
}

static void make_native(struct native_rig *native) {
        struct native_run whole[FRAMES], zeros[] = { { 1, 5, 3, 0 }, { ZEROS, 0, 0, NATIVE_ZERO }, { 9, 5, 3, 0 } };
        uint64_t random = 5;
        *native = (struct native_rig){ 0 };
        make_frames(native);
        const struct native_run small = { 3, 7, 7, 0 };
        expect_runs(native, &native->files[0], "pages-4.img", &small, 1);
        make_ghost(native, &native->files[1]);
        for (uint32_t i = 0; i < FRAMES; i++)
                whole[i] = (struct native_run){ PER_FRAME, i, 0, 0 };
        expect_runs(native, &native->files[2], "pages-1.img", whole, FRAMES);
        native->scattered = xcalloc(SCATTERED, sizeof(*native->scattered));
        for (uint32_t i = 0; i < SCATTERED; i++) {
                struct native_run *run = &native->scattered[i];
                uint64_t value = next_random(&random);
                if (value % 7 == 0)
                        *run = (struct native_run){ (uint32_t)(1 + value / 7 % 3), 0, 0, NATIVE_ZERO };
                else
                        *run = (struct native_run){ (uint32_t)(1 + value % 13), (uint32_t)(value / 13 % FRAMES),
                                                    (uint16_t)(value / 1000 % 50), 0 };
        }
        expect_runs(native, &native->files[3], "pages-2.img", native->scattered, SCATTERED);
        native->files[4] = (struct expected){ "empty.img", xcalloc(1, 1), 0 };
        build_data(&native->build, "empty.img", NULL, 0);
        expect_runs(native, &native->files[5], "pages-3.img", zeros, ELEMENTSOF(zeros));
        build_finish(&native->build);
        native->rig.directory = make_directory();
        native->rig.path = path_join(native->rig.directory, "cp.stasis");
        build_write(&native->build, native->rig.path);
}

static void native_clear(struct native_rig *native) {
        for (size_t i = 0; i < ELEMENTSOF(native->files); i++)
                free(native->files[i].bytes);
        free(native->pages);
        free(native->scattered);
        build_clear(&native->build);
        rig_clear(&native->rig);
}

static void check(struct native_rig *native, size_t i) {
        const struct expected *file = &native->files[i];
        uint8_t *bytes;
        int fd = criu_restore_file(native->rig.connection, file->name);
        assert_true(fd >= 0);
        size_t n = read_pipe(fd, &bytes);
        if (n != file->size || memcmp(bytes, file->bytes, n) != 0)
                fail_msg("%s differs", file->name);
        free(bytes);
}

static void test_all(void **state) {
        struct native_rig native;
        (void)state;
        make_native(&native);
        rig_start(&native.rig, 0);
        assert_int_equal(criu_restore_file(native.rig.connection, "missing.img"), -ENOENT);
        for (size_t i = 0; i < ELEMENTSOF(native.files); i++)
                check(&native, i);
        check(&native, 2); /* nothing forbids a second time */
        close(native.rig.connection);
        assert_int_equal(rig_finish(&native.rig, NULL), 0);
        native_clear(&native);
}

struct task {
        const struct expected *file;
        pthread_t thread;
        int fd;
        bool right;
};

static void *read_task(void *userdata) {
        struct task *task = userdata;
        uint8_t *bytes;
        size_t n = read_pipe(task->fd, &bytes);
        task->right = n == task->file->size && memcmp(bytes, task->file->bytes, n) == 0;
        free(bytes);
        return NULL;
}

static void test_together(void **state) {
        struct native_rig native;
        struct task tasks[3 * ELEMENTSOF(native.files)];
        (void)state;
        make_native(&native);
        rig_start(&native.rig, 0);
        for (size_t i = 0; i < ELEMENTSOF(tasks); i++) {
                tasks[i] = (struct task){ .file = &native.files[i % ELEMENTSOF(native.files)] };
                tasks[i].fd = criu_restore_file(native.rig.connection, tasks[i].file->name);
                assert_true(tasks[i].fd >= 0);
                assert_int_equal(pthread_create(&tasks[i].thread, NULL, read_task, &tasks[i]), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(tasks); i++) {
                pthread_join(tasks[i].thread, NULL);
                assert_true(tasks[i].right);
        }
        close(native.rig.connection);
        assert_int_equal(rig_finish(&native.rig, NULL), 0);
        native_clear(&native);
}

/** The other ways to read: one file after the other, all at once. */
static void test_read(void **state) {
        struct native_rig native;
        struct image *image = NULL;
        struct st_error *error = NULL;
        (void)state;
        make_native(&native);
        assert_ok(image_open(native.rig.path, &image, &error), error);
        assert_true(image_verified(image));
        assert_int_equal(image_get_format(image), IMAGE_NATIVE);
        assert_int_equal(image_file_count(image), ELEMENTSOF(native.files));
        assert_ok(image_verify(image, -EBADF, &error), error);
        _cleanup_free_ char *path = path_join(native.rig.directory, "out");
        struct store *store = store_new(256 * MIB, native.rig.directory);
        assert_ok(image_load(image, store, -EBADF, &error), error);
        for (size_t i = 0; i < ELEMENTSOF(native.files); i++) {
                const struct expected *file = &native.files[i];
                _cleanup_free_ char *bytes = NULL;
                size_t size;
                assert_string_equal(image_file_name(image, i), file->name);
                assert_int_equal(image_file_size(image, i), file->size);
                int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                assert_true(fd >= 0);
                assert_ok(image_copy_to_fd(image, file->name, fd, &error), error);
                close(fd);
                assert_int_equal(io_read_file(AT_FDCWD, path, 256 * MIB, &bytes, &size), 0);
                assert_int_equal(size, file->size);
                assert_memory_equal(bytes, file->bytes, size);
                uint8_t *loaded = read_store_file(store, store_find(store, file->name));
                assert_int_equal(store_find(store, file->name)->size, file->size);
                assert_memory_equal(loaded, file->bytes, file->size);
                free(loaded);
        }
        store_free(store);
        image_free(image);
        native_clear(&native);
}

static void select_and_check(struct native_rig *native, size_t i, const struct image_page_range *ranges, size_t n) {
        const struct expected *file = &native->files[i];
        struct st_error *error = NULL;
        size_t size = 0;
        uint8_t *bytes, *expected = xmalloc(file->size + 1);
        for (size_t k = 0; k < n; k++) {
                size_t some = (size_t)(ranges[k].count * NATIVE_PAGE);
                memcpy(expected + size, file->bytes + ranges[k].first * NATIVE_PAGE, some);
                size += some;
        }
        assert_ok(image_open(native->rig.path, &native->rig.image, &error), error);
        assert_ok(image_select_pages(native->rig.image, file->name, ranges, n, &error), error);
        assert_ok(serve_start(native->rig.image, native->rig.directory, 0, native->rig.directory, NULL, NULL,
                              &native->rig.serve, &error),
                  error);
        native->rig.connection = criu_connect(native->rig.directory, STREAMER_SERVE_SOCKET);
        int fd = criu_restore_file(native->rig.connection, file->name);
        assert_true(fd >= 0);
        assert_int_equal(read_pipe(fd, &bytes), size);
        assert_memory_equal(bytes, expected, size);
        free(bytes);
        free(expected);
        check(native, 0);
        close(native->rig.connection);
        assert_int_equal(rig_finish(&native->rig, NULL), 0);
}

static void test_select(void **state) {
        struct native_rig native;
        (void)state;
        make_native(&native);
        const struct image_page_range some[] = { { 0, 1 }, { 1, 2 }, { 5, 200 }, { 700, 1 }, { 900, 2000 } };
        const struct image_page_range zeros[] = { { 0, 1 }, { 2, 1 }, { 100, 10000 }, { ZEROS, 10 } };
        const struct image_page_range all = { 0, (uint64_t)FRAMES * PER_FRAME };
        select_and_check(&native, 2, some, ELEMENTSOF(some));
        select_and_check(&native, 3, some, ELEMENTSOF(some));
        select_and_check(&native, 5, zeros, ELEMENTSOF(zeros)); /* the last file of the image */
        select_and_check(&native, 5, NULL, 0);
        select_and_check(&native, 2, &all, 1);
        native_clear(&native);
}

static void test_select_wrong(void **state) {
        struct native_rig native;
        struct image *image = NULL;
        (void)state;
        make_native(&native);
        assert_int_equal(image_open(native.rig.path, &image, NULL), 0);
        const uint64_t pages = (uint64_t)FRAMES * PER_FRAME;
        const struct image_page_range wrong[][2] = {
                { { 0, 0 }, { 1, 1 } },     { { 3, 2 }, { 4, 1 } },          { { 5, 1 }, { 0, 1 } },
                { { 0, 1 }, { pages, 1 } }, { { 0, 1 }, { 1, UINT64_MAX } }, { { 0, 1 }, { UINT64_MAX, 1 } },
        };
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                assert_int_equal(image_select_pages(image, "pages-1.img", wrong[i], 2, NULL), -EINVAL);
        const struct image_page_range right = { 0, 1 };
        assert_int_equal(image_select_pages(image, "pages-9.img", &right, 1, NULL), -ENOENT);
        assert_int_equal(image_select_pages(image, "ghost-file-1.img", &right, 1, NULL), -ENOENT);
        image_free(image);
        native_clear(&native);
}

/** Nothing of a damaged frame gets to CRIU, nor of what follows it. */
static void damaged(uint32_t frame, size_t file, size_t most) {
        struct native_rig native;
        char *message;
        (void)frame;
        make_native(&native);
        const struct native_frame *entry = &native.build.index.frames[frame];
        flip(native.rig.path, (off_t)(entry->offset + entry->stored / 2));
        rig_start(&native.rig, 0);
        size_t n = 0;
        if (native.rig.connection >= 0) {
                const struct expected *expected = &native.files[file];
                uint8_t *bytes = NULL;
                int fd = criu_restore_file(native.rig.connection, expected->name);
                if (fd >= 0)
                        n = read_pipe(fd, &bytes);
                assert_true(n <= most);
                if (n > 0)
                        assert_memory_equal(bytes, expected->bytes, n);
                free(bytes);
                close(native.rig.connection);
        }
        assert_int_equal(rig_finish(&native.rig, &message), -EBADMSG);
        if (!strstr(message, "cp.stasis is damaged: its frame"))
                fail_msg("%s", message);
        free(message);
        native_clear(&native);
}

static void test_damage(void **state) {
        (void)state;
        damaged(30, 2, (size_t)30 * PER_FRAME * NATIVE_PAGE);
        damaged(FRAMES - 1, 2, (size_t)(FRAMES - 1) * PER_FRAME * NATIVE_PAGE);
        damaged(0, 2, 0);
        damaged(7, 0, 0);          /* a small one */
        damaged(FRAMES + 4, 1, 0); /* not pages: checked as a whole before it is begun */
        damaged(5, 5, 0);
}

static void test_abort(void **state) {
        struct native_rig native;
        uint8_t *bytes;
        (void)state;
        make_native(&native);
        rig_start(&native.rig, 0);
        int fd = criu_restore_file(native.rig.connection, "pages-1.img");
        assert_true(fd >= 0);
        serve_abort(native.rig.serve);
        assert_true(read_pipe(fd, &bytes) < native.files[2].size);
        free(bytes);
        close(native.rig.connection);
        assert_int_equal(rig_finish(&native.rig, NULL), -ECANCELED);
        native_clear(&native);
}

/** CRIU dies in the middle: not the image's fault. */
static void test_reader_gone(void **state) {
        struct native_rig native;
        uint8_t some[100000];
        (void)state;
        make_native(&native);
        for (size_t i = 0; i < ELEMENTSOF(native.files); i++) {
                rig_start(&native.rig, 0);
                int fd = criu_restore_file(native.rig.connection, native.files[i].name);
                assert_true(fd >= 0);
                if (i % 2)
                        assert_true(read(fd, some, sizeof(some)) > 0);
                close(fd);
                close(native.rig.connection);
                assert_int_equal(rig_finish(&native.rig, NULL), 0);
        }
        native_clear(&native);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all),    cmocka_unit_test(test_together),     cmocka_unit_test(test_read),
                cmocka_unit_test(test_select), cmocka_unit_test(test_select_wrong), cmocka_unit_test(test_damage),
                cmocka_unit_test(test_abort),  cmocka_unit_test(test_reader_gone),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
