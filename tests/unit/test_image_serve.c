/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_criu.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "image/serve.h"
#include "image/streamer.h"

struct rig {
        char *directory, *path;
        struct image *image;
        struct serve *serve;
        int connection;
};

static char *write_image(const char *directory, enum image_format format, struct store *store) {
        char *path = xasprintf("%s/cp%s", directory, image_format_suffix(format));
        _cleanup_free_ char *partial = image_partial_path(path, "7");
        struct image_write options = {
                .format = format,
                .destination = path,
                .partial = partial,
                .uid = getuid(),
                .gid = getgid(),
                .cancel_fd = -EBADF,
        };
        struct st_error *error = NULL;
        assert_ok(image_write(store, &options, &error), error);
        store_free(store);
        return path;
}

static void rig_write(struct rig *rig, enum image_format format) {
        rig->directory = make_directory();
        rig->path = write_image(rig->directory, format, make_store(rig->directory, 64 * MIB));
}

static void rig_start(struct rig *rig, uint64_t budget) {
        struct st_error *error = NULL;
        assert_ok(image_open(rig->path, &rig->image, &error), error);
        assert_ok(serve_start(rig->image, rig->directory, budget, rig->directory, NULL, NULL, &rig->serve, &error),
                  error);
        _cleanup_free_ char *path = path_join(rig->directory, STREAMER_SERVE_SOCKET);
        rig->connection = io_connect_unix(path); /* fails when damage was found already */
}

static int rig_finish(struct rig *rig, char **ret_message) {
        struct st_error *error = NULL;
        int r = serve_finish(rig->serve, &error);
        assert_true((r < 0) == (error != NULL));
        if (ret_message)
                *ret_message = xstrdup(st_error_message(error));
        st_error_free(error);
        image_free(rig->image);
        return r;
}

static void rig_clear(struct rig *rig) {
        free(rig->path);
        remove_directory(rig->directory);
}

/** Reads a pipe to its end. @return the length; malloc'ed bytes */
static size_t read_pipe(int fd, uint8_t **ret) {
        size_t have = 0, room = 64 << 10;
        uint8_t *bytes = xmalloc(room);
        for (;;) {
                if (have == room)
                        bytes = xrealloc(bytes, room *= 2, 1);
                ssize_t n = read(fd, bytes + have, room - have);
                assert_true(n >= 0);
                if (n == 0)
                        break;
                have += (size_t)n;
        }
        close(fd);
        *ret = bytes;
        return have;
}

static void check_file(struct rig *rig, size_t i) {
        assert_true(rig->connection >= 0);
        int fd = criu_restore_file(rig->connection, samples[i].name);
        assert_true(fd >= 0);
        uint8_t *bytes;
        assert_int_equal(read_pipe(fd, &bytes), samples[i].size);
        assert_bytes(bytes, samples[i].size, i + 1);
        free(bytes);
}

static void serve_all(enum image_format format, uint64_t budget, bool backwards) {
        struct rig rig;
        rig_write(&rig, format);
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
        serve_all(IMAGE_NONE, 0, false);
        serve_all(IMAGE_NONE, 0, true);
}

static void test_archive(void **state) {
        (void)state;
        const uint64_t budgets[] = { 64 * MIB, 2 * MIB, 65536, 0 };
        for (size_t i = 0; i < ELEMENTSOF(budgets); i++) {
                serve_all(IMAGE_ZSTD, budgets[i], false);
                serve_all(IMAGE_ZSTD, budgets[i], true);
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
static void parallel(enum image_format format, uint64_t budget) {
        static const size_t order[] = { 7, 0, 4, 6, 1, 2 };
        struct task tasks[ELEMENTSOF(order)];
        struct rig rig;
        rig_write(&rig, format);
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
        parallel(IMAGE_NONE, 0);
        parallel(IMAGE_ZSTD, 64 * MIB);
        parallel(IMAGE_ZSTD, MIB);
        parallel(IMAGE_ZSTD, 0);
}

/** A task that reads nothing of its pages while another one waits for what lies behind them: no deadlock. */
static void test_stalled_reader(void **state) {
        (void)state;
        struct rig rig;
        rig_write(&rig, IMAGE_ZSTD);
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

static void flip(const char *path, off_t at) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
}

/** Damage in a file of a directory: what came is too short, and the error names it. */
static void damaged_file(size_t i, off_t at) {
        struct rig rig;
        char *message;
        rig_write(&rig, IMAGE_NONE);
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
        assert_int_equal(recv(rig.connection, &(uint8_t){ 0 }, 1, 0), 0); /* no further file is served */
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
        rig_write(&rig, IMAGE_NONE);
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

/** Reads all files in order until one fails. @return whether all came wholly */
static bool read_everything(struct rig *rig) {
        if (rig->connection < 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                int fd = criu_restore_file(rig->connection, samples[i].name);
                if (fd < 0)
                        return false;
                uint8_t *bytes;
                size_t n = read_pipe(fd, &bytes);
                bool whole = n == samples[i].size;
                if (whole)
                        assert_bytes(bytes, n, i + 1);
                free(bytes);
                if (!whole)
                        return false;
        }
        return true;
}

static void test_damaged_archive(void **state) {
        (void)state;
        struct stat st;
        struct rig rig;
        rig_write(&rig, IMAGE_ZSTD);
        assert_int_equal(stat(rig.path, &st), 0);
        for (off_t at = 2000; at < st.st_size - 60; at += st.st_size / 20) {
                flip(rig.path, at);
                rig_start(&rig, MIB);
                bool whole = read_everything(&rig);
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
        assert_false(read_everything(&rig));
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), -EBADMSG);
        rig_clear(&rig);
}

/** CRIU dies in the middle: all threads end. */
static void client_dies(enum image_format format, uint64_t budget) {
        struct rig rig;
        rig_write(&rig, format);
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
        client_dies(IMAGE_NONE, 0);
        client_dies(IMAGE_ZSTD, 64 * MIB);
        client_dies(IMAGE_ZSTD, 0);
}

/** A pipe closed before it was read to its end is CRIU's own affair. */
static void test_early_close(void **state) {
        (void)state;
        for (enum image_format f = 0; f < IMAGE_FORMAT_COUNT; f++) {
                struct rig rig;
                rig_write(&rig, f);
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
        for (enum image_format f = 0; f < IMAGE_FORMAT_COUNT; f++) {
                struct rig rig;
                rig_write(&rig, f);
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
        for (enum image_format f = 0; f < IMAGE_FORMAT_COUNT; f++) {
                struct rig rig;
                rig_write(&rig, f);
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
