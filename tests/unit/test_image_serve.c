/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_rig.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

static void check_file(struct rig *rig, size_t i) {
        assert_true(rig->connection >= 0);
        int fd = criu_restore_file(rig->connection, samples[i].name);
        assert_true(fd >= 0);
        uint8_t *bytes;
        assert_int_equal(read_pipe(fd, &bytes), samples[i].size);
        assert_bytes(bytes, samples[i].size, i + 1);
        free(bytes);
}

static void serve_all(struct kind kind, uint64_t budget, bool backwards) {
        struct rig rig;
        rig_write(&rig, kind);
        rig_start(&rig, budget);
        assert_int_equal(criu_restore_file(rig.connection, "missing.img"), -ENOENT);
        assert_int_equal(criu_restore_file(rig.connection, IMAGE_MANIFEST), -ENOENT);
        assert_int_equal(criu_restore_file(rig.connection, ".."), -ENOENT);
        for (size_t i = 0; i < ELEMENTSOF(samples); i++)
                check_file(&rig, backwards ? ELEMENTSOF(samples) - 1 - i : i);
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        rig_clear(&rig);
}

static void test_directory(void **state) {
        (void)state;
        serve_all(kind_none, 0, false);
        serve_all(kind_none, 0, true);
}

static void test_archive(void **state) {
        (void)state;
        const uint64_t budgets[] = { 64 * MIB, 2 * MIB, 65536, 0 };
        for (size_t k = 1; k < ELEMENTSOF(kinds); k++)
                for (size_t i = 0; i < ELEMENTSOF(budgets); i++) {
                        serve_all(kinds[k], budgets[i], false);
                        serve_all(kinds[k], budgets[i], true);
                }
}

struct task {
        int fd;
        size_t sample;
        pthread_t thread;
        size_t size;
        uint8_t *bytes;
};

static void *read_task(void *userdata) {
        struct task *task = userdata;
        task->size = read_pipe(task->fd, &task->bytes);
        return NULL;
}

/** Several tasks read at the same time, the pages in any order, as CRIU's do. */
static void parallel(struct kind kind, uint64_t budget) {
        static const size_t order[] = { 7, 0, 4, 6, 1, 2 };
        struct task tasks[ELEMENTSOF(order)];
        struct rig rig;
        rig_write(&rig, kind);
        rig_start(&rig, budget);
        for (size_t i = 0; i < ELEMENTSOF(order); i++) {
                tasks[i] = (struct task){ .sample = order[i] };
                tasks[i].fd = criu_restore_file(rig.connection, samples[order[i]].name);
                assert_true(tasks[i].fd >= 0);
                assert_int_equal(pthread_create(&tasks[i].thread, NULL, read_task, &tasks[i]), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(order); i++) {
                pthread_join(tasks[i].thread, NULL);
                assert_int_equal(tasks[i].size, samples[tasks[i].sample].size);
                assert_bytes(tasks[i].bytes, tasks[i].size, tasks[i].sample + 1);
                free(tasks[i].bytes);
        }
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        rig_clear(&rig);
}

static void test_parallel(void **state) {
        (void)state;
        parallel(kind_none, 0);
        parallel(kind_zstd, 64 * MIB);
        parallel(kind_zstd, MIB);
        parallel(kind_zstd, 0);
        parallel(kind_streams, 64 * MIB);
        parallel(kind_streams, MIB);
        parallel(kind_streams, 0);
}

/** A task that reads nothing of its pages while another one waits for what lies behind them: no deadlock. */
static void stalled_reader(struct kind kind) {
        struct rig rig;
        rig_write(&rig, kind);
        rig_start(&rig, 256 << 10);
        int stalled = criu_restore_file(rig.connection, "pages-1.img");
        assert_true(stalled >= 0);
        check_file(&rig, 7); /* pages-3.img, behind it in the archive */
        uint8_t *bytes;
        assert_int_equal(read_pipe(stalled, &bytes), samples[0].size);
        assert_bytes(bytes, samples[0].size, 1);
        free(bytes);
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        rig_clear(&rig);
}

static void test_stalled_reader(void **state) {
        (void)state;
        stalled_reader(kind_zstd);
        stalled_reader(kind_streams);
}

/** Damage in a file of a directory: what came is too short, and the error names it. */
static void damaged_file(size_t i, off_t at) {
        struct rig rig;
        char *message;
        rig_write(&rig, kind_none);
        _cleanup_free_ char *file = path_join(rig.path, samples[i].name);
        flip(file, at);
        rig_start(&rig, 0);
        int fd = criu_restore_file(rig.connection, samples[i].name);
        if (fd >= 0) {
                uint8_t *bytes;
                assert_true(streamer_is_pages(samples[i].name)); /* all else is checked before it is begun */
                assert_true(read_pipe(fd, &bytes) < samples[i].size);
                free(bytes);
        } else {
                assert_int_equal(fd, -EPIPE);
        }
        /* No further file is served. What was asked for when the damage was found already was not even read. */
        assert_true(recv(rig.connection, &(uint8_t){ 0 }, 1, 0) <= 0);
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, &message), -EBADMSG);
        if (!strstr(message, samples[i].name) || !strstr(message, "wrong checksum"))
                fail_msg("%s", message);
        free(message);
        rig_clear(&rig);
}

static void test_damaged_directory(void **state) {
        (void)state;
        damaged_file(0, 0);
        damaged_file(0, (off_t)samples[0].size - 1);
        damaged_file(0, 1000000);
        damaged_file(2, 100);
        damaged_file(4, 250000);
        damaged_file(6, 5000);
}

static void test_shrinking_file(void **state) {
        (void)state;
        struct rig rig;
        rig_write(&rig, kind_none);
        rig_start(&rig, 0);
        _cleanup_free_ char *file = path_join(rig.path, "pages-1.img");
        int fd = criu_restore_file(rig.connection, "pages-1.img");
        assert_true(fd >= 0);
        assert_int_equal(truncate(file, 100), 0);
        uint8_t *bytes;
        assert_true(read_pipe(fd, &bytes) < samples[0].size);
        free(bytes);
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), -EBADMSG);
        rig_clear(&rig);
}

static void test_damaged_archive(void **state) {
        (void)state;
        struct stat st;
        struct rig rig;
        rig_write(&rig, kind_zstd);
        assert_int_equal(stat(rig.path, &st), 0);
        for (off_t at = 2000; at < st.st_size - 60; at += st.st_size / 20) {
                flip(rig.path, at);
                rig_start(&rig, MIB);
                bool whole = read_everything(&rig, ELEMENTSOF(samples));
                close(rig.connection);
                char *message;
                int r = rig_finish(&rig, &message);
                if (whole ? r != 0 && r != -EBADMSG : r != -EBADMSG)
                        fail_msg("flipped byte %d: %d: %s", (int)at, r, message);
                free(message);
                flip(rig.path, at);
        }
        /* Cut after it was opened. */
        rig_start(&rig, MIB);
        assert_int_equal(truncate(rig.path, st.st_size / 2), 0);
        assert_false(read_everything(&rig, ELEMENTSOF(samples)));
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), -EBADMSG);
        rig_clear(&rig);
}

/** CRIU dies in the middle: all threads end. */
static void client_dies(struct kind kind, uint64_t budget) {
        struct rig rig;
        rig_write(&rig, kind);
        rig_start(&rig, budget);
        int pages = criu_restore_file(rig.connection, "pages-1.img");
        int ghost = criu_restore_file(rig.connection, "ghost-file-1.img");
        assert_true(pages >= 0 && ghost >= 0);
        criu_send_name(rig.connection, "pages-3.img");
        uint8_t byte;
        assert_int_equal(read(pages, &byte, 1), 1);
        close(pages);
        close(ghost);
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), 0); /* that is not the checkpoint's fault */
        rig_clear(&rig);
}

static void test_client_dies(void **state) {
        (void)state;
        client_dies(kind_none, 0);
        client_dies(kind_zstd, 64 * MIB);
        client_dies(kind_zstd, 0);
        client_dies(kind_streams, 64 * MIB);
        client_dies(kind_streams, 0);
}

/** A pipe closed before it was read to its end is CRIU's own affair. */
static void test_early_close(void **state) {
        (void)state;
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct rig rig;
                rig_write(&rig, kinds[k]);
                rig_start(&rig, MIB);
                int fd = criu_restore_file(rig.connection, "pages-1.img");
                assert_true(fd >= 0);
                close(fd);
                check_file(&rig, 7);
                close(rig.connection);
                assert_int_equal(rig_finish(&rig, NULL), 0);
                rig_clear(&rig);
        }
}

static void test_abort(void **state) {
        (void)state;
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct rig rig;
                rig_write(&rig, kinds[k]);
                rig_start(&rig, MIB);
                int fd = criu_restore_file(rig.connection, "pages-1.img");
                assert_true(fd >= 0);
                serve_abort(rig.serve);
                serve_abort(rig.serve);
                uint8_t *bytes;
                assert_true(read_pipe(fd, &bytes) < samples[0].size);
                free(bytes);
                assert_int_equal(rig_finish(&rig, NULL), -ECANCELED);
                close(rig.connection);
                rig_clear(&rig);
        }
}

static void test_no_client(void **state) {
        (void)state;
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                struct rig rig;
                rig_write(&rig, kinds[k]);
                rig_start(&rig, MIB);
                close(rig.connection);
                assert_int_equal(rig_finish(&rig, NULL), 0);
                struct st_error *error = NULL;
                assert_ok(image_open(rig.path, &rig.image, &error), error);
                assert_ok(serve_start(rig.image, rig.directory, 0, "/tmp", NULL, NULL, &rig.serve, &error), error);
                assert_int_equal(rig_finish(&rig, NULL), 0);
                rig_clear(&rig);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_directory),         cmocka_unit_test(test_archive),
                cmocka_unit_test(test_parallel),          cmocka_unit_test(test_stalled_reader),
                cmocka_unit_test(test_damaged_directory), cmocka_unit_test(test_shrinking_file),
                cmocka_unit_test(test_damaged_archive),   cmocka_unit_test(test_client_dies),
                cmocka_unit_test(test_early_close),       cmocka_unit_test(test_abort),
                cmocka_unit_test(test_no_client),
        };
        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
