/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "image/pool.h"
#include "image/threads.h"

static void test_append_and_read(void **state) {
        (void)state;
        struct store *store = make_store("/nonexistent", 64 * MIB);
        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                struct store_file *file = store_find(store, samples[i].name);
                assert_ptr_equal(file, store->files[i]);
                uint8_t *bytes = read_store_file(store, file);
                assert_bytes(bytes, samples[i].size, i + 1);
                free(bytes);
        }
        assert_int_equal(store->spilled, 0);
        assert_null(store_find(store, "pages-9.img"));
        store_free(store);
}

static void test_names(void **state) {
        (void)state;
        struct store *store = store_new(MIB, "/tmp");
        const char *const bad[] = { "", ".", "..", "a/b", "/etc/passwd", "a\nb" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct st_error *error = NULL;
                assert_null(store_add(store, bad[i], &error));
                assert_int_equal(st_error_number(error), -EINVAL);
                st_error_free(error);
        }
        assert_non_null(store_add(store, "a", NULL));
        struct st_error *error = NULL;
        assert_null(store_add(store, "a", &error));
        assert_int_equal(st_error_number(error), -EEXIST);
        st_error_free(error);
        store_free(store);
}

static void test_budget_and_spill(void **state) {
        (void)state;
        const uint64_t budgets[] = { 0, 4096, 65536, MIB, 3 * MIB };
        char *directory = make_directory();
        for (size_t b = 0; b < ELEMENTSOF(budgets); b++) {
                struct store *store = store_new(budgets[b], directory);
                store_warm(store, budgets[b] / 2);
                for (size_t i = 0; i < ELEMENTSOF(samples); i++)
                        add_sample(store, i);
                assert_true(store->spilled > 0);
                assert_true(store->total - store->spilled <= budgets[b]);
                for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                        uint8_t *bytes = read_store_file(store, store->files[i]);
                        assert_bytes(bytes, samples[i].size, i + 1);
                        free(bytes);
                }
                store_free(store);
        }
        assert_int_equal(rmdir(directory), 0); /* the temporary file had no name */
        free(directory);
}

static void fill_pipe_reader(uint64_t budget, size_t size, size_t burst) {
        char *directory = make_directory();
        struct store *store = store_new(budget, directory);
        struct store_file *file = store_add(store, "pages-1.img", NULL);
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        uint8_t *bytes = make_bytes(size, 7);
        struct st_error *error = NULL;
        assert_int_equal(store_append_pipe(store, file, fds[0], &error), -EAGAIN);
        for (size_t at = 0; at < size;) {
                size_t n = size - at < burst ? size - at : burst;
                ssize_t written = write(fds[1], bytes + at, n);
                assert_true(written > 0);
                at += (size_t)written;
                ssize_t r;
                while ((r = store_append_pipe(store, file, fds[0], &error)) > 0) {}
                assert_int_equal(r, -EAGAIN);
        }
        close(fds[1]);
        assert_int_equal(store_append_pipe(store, file, fds[0], &error), 0);
        close(fds[0]);
        assert_null(error);
        assert_int_equal(file->size, size);
        uint8_t *got = read_store_file(store, file);
        assert_memory_equal(got, bytes, size);
        free(got);
        free(bytes);
        store_free(store);
        remove_directory(directory);
}

static void test_pipes(void **state) {
        (void)state;
        fill_pipe_reader(16 * MIB, 1000, 13);
        fill_pipe_reader(16 * MIB, 2000000, 65536);
        fill_pipe_reader(16 * MIB, 300000, 5001);
        fill_pipe_reader(100000, 1000000, 60000);
        fill_pipe_reader(0, 300000, 50000);
}

static void test_reserve_and_release(void **state) {
        (void)state;
        struct store *store = store_new(4 * MIB, "/nonexistent");
        struct store_file *file = store_add(store, "pages-1.img", NULL);
        size_t room, total = 0;
        uint8_t *to;
        while ((to = store_reserve(store, file, 1 << 20, &room))) {
                memset(to, 1, room);
                store_commit(store, file, room);
                total += room;
        }
        assert_int_equal(total, 4 * MIB);
        struct st_error *error = NULL;
        assert_true(store_append(store, file, "x", 1, &error) < 0); /* beyond the budget, and nowhere to spill */
        st_error_free(error);
        store_release(store, file, 0);
        assert_non_null(store_reserve(store, file, 1, &room));
        store_free(store);
}

static void test_full_disk(void **state) {
        (void)state;
        char *directory = make_directory();
        struct store *store = store_new(0, directory);
        struct store_file *file = store_add(store, "a", NULL);
        struct rlimit before, limit;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 65536;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        uint8_t *bytes = make_bytes(100000, 1);
        struct st_error *error = NULL;
        int r = store_append(store, file, bytes, 100000, &error);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(r, -EFBIG);
        assert_non_null(strstr(st_error_message(error), directory));
        st_error_free(error);
        free(bytes);
        store_free(store);
        remove_directory(directory);
}

static void test_pool(void **state) {
        (void)state;
        struct store_pool *pool = pool_new(100 * MIB);
        pool_warm(pool, 70 * MIB); /* two threads */
        size_t total = 0, room;
        while (pool_take(pool, SIZE_MAX, &room)) {
                assert_true(room > 0 && room <= POOL_CHUNK_MAX && room % 4096 == 0);
                total += room;
        }
        assert_int_equal(total, 100 * MIB);
        pool_free(pool);

        pool = pool_new(2 * MIB);
        uint8_t *small = pool_take(pool, 1, &room);
        assert_non_null(small);
        assert_int_equal(room, 4096);
        pool_give(pool, small, room);
        assert_ptr_equal(pool_take(pool, 1, &room), small);
        pool_free(pool);
}

static int count_job(size_t index, void *userdata, struct st_error **err) {
        unsigned *hits = userdata;
        __atomic_add_fetch(&hits[index], 1, __ATOMIC_RELAXED);
        return index >= 17 ? st_error_set(err, EIO, "a late job") : 0;
}

static void test_jobs(void **state) {
        (void)state;
        unsigned hits[100] = { 0 };
        struct st_error *error = NULL;
        assert_ok(threads_run(17, count_job, hits, &error), error);
        for (size_t i = 0; i < 17; i++)
                assert_int_equal(hits[i], 1);
        assert_int_equal(threads_run(100, count_job, hits, &error), -EIO);
        assert_string_equal(st_error_message(error), "a late job");
        assert_int_equal(hits[19], 0); /* each of two threads may have begun one that fails */
        st_error_free(error);
}

/** Files that stay on disk: read from there, and noticed when they have become shorter. */
static void test_paths(void **state) {
        (void)state;
        char *directory = make_directory(), *path = path_join(directory, "f"), *gone = path_join(directory, "gone");
        struct store *store = store_new(0, directory);
        const size_t size = 2 * MIB + 777;
        uint8_t *bytes = make_bytes(size, 7), *back;
        const uint8_t *piece;

        assert_int_equal(io_put_file(path, (const char *)bytes, size, 0600), 0);
        struct store_file *file = store_add_path(store, "f", path, size, NULL);
        assert_non_null(file);
        assert_null(store_add_path(store, "f", path, size, NULL));
        assert_null(store_add_path(store, "../f", path, size, NULL));
        assert_non_null(store_add_path(store, "empty", path, 0, NULL));
        struct store_file *missing = store_add_path(store, "gone", gone, 1, NULL);
        assert_int_equal(store->total, size + 1);
        assert_int_equal(store->spilled, 0);
        back = read_store_file(store, file);
        assert_memory_equal(back, bytes, size);
        free(back);

        struct store_reader reader = { .store = store, .file = file };
        store_seek(&reader, size - 5);
        assert_int_equal(store_read(&reader, &piece), 5);
        assert_memory_equal(piece, bytes + size - 5, 5);
        assert_int_equal(store_read(&reader, &piece), 0);
        store_seek(&reader, 0);
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(store_read(&reader, &piece), -EIO);
        store_reader_clear(&reader);
        store_reader_clear(&reader);

        struct store_reader of_missing = { .store = store, .file = missing };
        assert_int_equal(store_read(&of_missing, &piece), -ENOENT);
        store_reader_clear(&of_missing);
        assert_int_equal(symlink(path, gone), 0);
        assert_int_equal(store_read(&of_missing, &piece), -ELOOP);
        store_reader_clear(&of_missing);
        store_free(store);
        free(bytes);
        free(path);
        free(gone);
        remove_directory(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_append_and_read),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_budget_and_spill),
                cmocka_unit_test(test_pipes),
                cmocka_unit_test(test_reserve_and_release),
                cmocka_unit_test(test_full_disk),
                cmocka_unit_test(test_pool),
                cmocka_unit_test(test_jobs),
                cmocka_unit_test(test_paths),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
