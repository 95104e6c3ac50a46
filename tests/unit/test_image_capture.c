/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_criu.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "image/capture.h"
#include "image/streamer.h"

struct rig {
        char *directory;
        struct store *store;
        struct capture *capture;
        int connection;
};

static void rig_start_with(struct rig *rig, uint64_t budget, const char *spill_dir) {
        struct st_error *error = NULL;
        rig->directory = make_directory();
        rig->store = store_new(budget, spill_dir ? spill_dir : rig->directory);
        assert_ok(capture_start(rig->directory, rig->store, NULL, NULL, &rig->capture, &error), error);
        rig->connection = criu_connect(rig->directory, STREAMER_CAPTURE_SOCKET);
}

static void rig_start(struct rig *rig, uint64_t budget) {
        rig_start_with(rig, budget, NULL);
}

/** Ends the capture. @return its result */
static int rig_finish(struct rig *rig, char **ret_message) {
        struct st_error *error = NULL;
        int r = capture_finish(rig->capture, &error);
        assert_true((r < 0) == (error != NULL));
        if (ret_message)
                *ret_message = xstrdup(st_error_message(error));
        st_error_free(error);
        return r;
}

/** As CRIU ends: it waits at its hook until all has been read, then closes the connection. */
static void rig_end(struct rig *rig) {
        struct st_error *error = NULL;
        assert_ok(capture_drain(rig->capture, 20000, &error), error);
        close(rig->connection);
}

static void rig_clear(struct rig *rig) {
        store_free(rig->store);
        assert_int_equal(rmdir(rig->directory), 0); /* neither a socket nor anything else is left */
        free(rig->directory);
}

static void write_sample(int fd, size_t i) {
        uint8_t *bytes = make_bytes(samples[i].size, i + 1);
        assert_int_equal(io_write_full(fd, bytes, samples[i].size), 0);
        free(bytes);
        close(fd);
}

static void check_store(const struct store *store) {
        assert_int_equal(store->n_files, ELEMENTSOF(samples));
        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                assert_string_equal(store->files[i]->name, samples[i].name);
                uint8_t *bytes = read_store_file(store, store->files[i]);
                assert_int_equal(store->files[i]->size, samples[i].size);
                assert_bytes(bytes, samples[i].size, i + 1);
                free(bytes);
        }
}

static void capture_all(uint64_t budget) {
        struct rig rig;
        rig_start(&rig, budget);
        for (size_t i = 0; i < ELEMENTSOF(samples); i++)
                write_sample(criu_dump_file(rig.connection, samples[i].name), i);
        rig_end(&rig);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        check_store(rig.store);
        rig_clear(&rig);
}

static void test_one_after_the_other(void **state) {
        (void)state;
        capture_all(64 * MIB);
        capture_all(MIB); /* most of it spilled */
        capture_all(0);
}

/** All pipes open at once, written in turns, as CRIU does with pagemap and pages. */
static void test_at_the_same_time(void **state) {
        (void)state;
        struct rig rig;
        int fds[ELEMENTSOF(samples)];
        uint8_t *bytes[ELEMENTSOF(samples)];
        size_t at[ELEMENTSOF(samples)] = { 0 };
        rig_start(&rig, 2 * MIB);
        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                fds[i] = criu_dump_file(rig.connection, samples[i].name);
                bytes[i] = make_bytes(samples[i].size, i + 1);
        }
        for (bool more = true; more;) {
                more = false;
                for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                        size_t n = samples[i].size - at[i];
                        n = n < 70001 ? n : 70001;
                        assert_int_equal(io_write_full(fds[i], bytes[i] + at[i], n), 0);
                        at[i] += n;
                        more = more || n > 0;
                }
        }
        for (size_t i = 0; i < ELEMENTSOF(samples); i++) {
                close(fds[i]);
                free(bytes[i]);
        }
        rig_end(&rig);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        check_store(rig.store);
        rig_clear(&rig);
}

static bool is_ended(const struct rig *rig, int timeout_ms) {
        struct pollfd poller = { .fd = capture_fd(rig->capture), .events = POLLIN };
        return poll(&poller, 1, timeout_ms) > 0;
}

static void test_drain(void **state) {
        (void)state;
        struct rig rig;
        struct st_error *error = NULL;
        rig_start(&rig, 64 * MIB);
        int open_pipe = criu_dump_file(rig.connection, "pages-1.img");
        assert_int_equal(io_write_full(open_pipe, "0123", 4), 0);
        assert_int_equal(capture_drain(rig.capture, 50, &error), -ETIMEDOUT); /* its end has not come */
        st_error_free(error);
        error = NULL;
        close(open_pipe);
        uint8_t *bytes = make_bytes(50000, 1);
        for (int i = 0; i < 50; i++) {
                _cleanup_free_ char *name = xasprintf("core-%d.img", i);
                int fd = criu_dump_file(rig.connection, name);
                assert_int_equal(io_write_full(fd, bytes, 50000), 0);
                close(fd);
        }
        free(bytes);
        assert_false(is_ended(&rig, 0));
        assert_ok(capture_drain(rig.capture, 5000, &error), error);
        assert_int_equal(rig.store->n_files, 51); /* the thread is idle now */
        assert_int_equal(rig.store->total, 4 + 50 * 50000);
        close(rig.connection);
        assert_true(is_ended(&rig, 5000));
        assert_ok(capture_drain(rig.capture, 5000, &error), error);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        rig_clear(&rig);
}

struct gate {
        int entered, released;
};

/** Holds up the thread of the capture, the first time it is called. */
static void wait_at_gate(uint64_t bytes, void *userdata) {
        struct gate *gate = userdata;
        uint64_t count;
        (void)bytes;
        eventfd_write(gate->entered, 1);
        assert_int_equal(read(gate->released, &count, sizeof(count)), sizeof(count));
        eventfd_write(gate->released, 1);
}

/** Pages that are still in the pipe when the target runs on are not those of the dump. */
static void test_late_pages(void **state) {
        (void)state;
        struct gate gate = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
        struct rig rig = { .directory = make_directory() };
        struct st_error *error = NULL;
        rig.store = store_new(64 * MIB, rig.directory);
        assert_ok(capture_start(rig.directory, rig.store, wait_at_gate, &gate, &rig.capture, &error), error);
        rig.connection = criu_connect(rig.directory, STREAMER_CAPTURE_SOCKET);
        int fd = criu_dump_file(rig.connection, "pages-1.img");
        uint8_t *bytes = make_bytes(16 * MIB, 1);
        uint64_t count;
        assert_int_equal(io_write_full(fd, bytes, 16 * MIB), 0);
        assert_int_equal(read(gate.entered, &count, sizeof(count)), sizeof(count));
        assert_int_equal(io_write_full(fd, bytes, 4096), 0);
        close(fd);
        close(rig.connection);
        eventfd_write(gate.released, 1);
        assert_int_equal(rig_finish(&rig, NULL), -ESTALE);
        free(bytes);
        close(gate.entered);
        close(gate.released);
        rig_clear(&rig);
}

static void test_abort(void **state) {
        (void)state;
        struct rig rig;
        char *message;
        rig_start(&rig, 64 * MIB);
        int fd = criu_dump_file(rig.connection, "pages-1.img");
        uint8_t *bytes = make_bytes(MIB, 1);
        assert_int_equal(io_write_full(fd, bytes, MIB), 0);
        capture_abort(rig.capture);
        capture_abort(rig.capture);
        int r;
        while ((r = io_write_full(fd, bytes, MIB)) == 0) {}
        assert_int_equal(r, -EPIPE); /* CRIU notices */
        assert_int_equal(recv(rig.connection, bytes, 1, 0), 0);
        struct st_error *error = NULL;
        assert_int_equal(capture_drain(rig.capture, 1000, &error), -ECANCELED);
        st_error_free(error);
        assert_int_equal(rig_finish(&rig, &message), -ECANCELED);
        free(message);
        free(bytes);
        close(fd);
        close(rig.connection);
        rig_clear(&rig);
}

static void test_no_spill_directory(void **state) {
        (void)state;
        struct rig rig;
        char *message;
        rig_start_with(&rig, 0, "/nonexistent");
        int gone = criu_dump_file(rig.connection, "core-1.img");
        assert_int_equal(io_write_full(gone, "x", 1), 0);
        assert_true(is_ended(&rig, 5000));
        assert_int_equal(io_write_full(gone, "x", 1), -EPIPE);
        assert_int_equal(rig_finish(&rig, &message), -ENOENT);
        assert_non_null(strstr(message, "/nonexistent"));
        free(message);
        close(gone);
        close(rig.connection);
        rig_clear(&rig);
}

static void test_no_client(void **state) {
        (void)state;
        char *directory = make_directory(), *message;
        struct rig rig = { .directory = directory, .store = store_new(MIB, directory) };
        assert_int_equal(capture_start(directory, rig.store, NULL, NULL, &rig.capture, NULL), 0);
        assert_int_equal(rig_finish(&rig, &message), -ENOTCONN);
        free(message);
        rig_clear(&rig);
}

static void refuse_bytes(const void *bytes, size_t n, int expected) {
        struct rig rig;
        rig_start(&rig, MIB);
        assert_int_equal(send(rig.connection, bytes, n, MSG_NOSIGNAL), n);
        if (expected == -EPIPE)
                close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), expected);
        if (expected != -EPIPE)
                close(rig.connection);
        rig_clear(&rig);
}

static void test_bad_requests(void **state) {
        (void)state;
        refuse_bytes("\xff\xff\xff\xff", 4, -EPROTO);
        refuse_bytes("\0\0\0\0", 4, -EPROTO);
        refuse_bytes("\3\0\0\0\x0a\2a", 7, -EPROTO);
        refuse_bytes("\3\0\0\0\x12\1a", 7, -EPROTO);
        refuse_bytes("\3\0\0\0\x0a\1\0", 7, -EPROTO);
        refuse_bytes("\3\0\0\0\x0a\1/", 7, -EINVAL);
        refuse_bytes("\4\0\0\0\x0a\2..", 8, -EINVAL);
        refuse_bytes("\3\0\0\0\x0a\1ax", 8, -EPROTO); /* a byte without a pipe */
        refuse_bytes("\3\0\0\0\x0a\1a", 7, -EPIPE);   /* dies before the pipe */
        refuse_bytes("\3\0\0", 3, -EPIPE);
}

static void test_double_name(void **state) {
        (void)state;
        struct rig rig;
        rig_start(&rig, MIB);
        close(criu_dump_file(rig.connection, "a.img"));
        criu_send_name(rig.connection, "a.img");
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), -EEXIST);
        rig_clear(&rig);
}

static void test_many_files(void **state) {
        (void)state;
        struct rig rig;
        rig_start(&rig, 64 * MIB);
        for (int i = 0; i < 3000; i++) {
                _cleanup_free_ char *name = xasprintf("fdinfo-%d.img", i);
                int fd = criu_dump_file(rig.connection, name);
                assert_int_equal(io_write_full(fd, name, strlen(name)), 0);
                close(fd);
        }
        close(rig.connection);
        assert_int_equal(rig_finish(&rig, NULL), 0);
        assert_int_equal(rig.store->n_files, 3000);
        for (size_t i = 0; i < 3000; i++) {
                uint8_t *bytes = read_store_file(rig.store, rig.store->files[i]);
                assert_memory_equal(bytes, rig.store->files[i]->name, rig.store->files[i]->size);
                free(bytes);
        }
        rig_clear(&rig);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_after_the_other),
                cmocka_unit_test(test_at_the_same_time),
                cmocka_unit_test(test_drain),
                cmocka_unit_test(test_late_pages),
                cmocka_unit_test(test_abort),
                cmocka_unit_test(test_no_spill_directory),
                cmocka_unit_test(test_no_client),
                cmocka_unit_test(test_bad_requests),
                cmocka_unit_test(test_double_name),
                cmocka_unit_test(test_many_files),
        };
        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
