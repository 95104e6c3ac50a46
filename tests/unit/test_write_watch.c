/* SPDX-License-Identifier: Apache-2.0 */

/* What another process writes, and that it notices nothing of being watched. */

#include "test_process_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "process/write_watch.h"

#define PAGE ((size_t)4096)
#define PAGES ((size_t)256)

/** What the child and the test tell each other. */
struct shared {
        volatile int request, done;
        uint8_t *volatile away; /* where the second half of its memory has been moved to; NULL: it has not */
        volatile uint64_t turns;
        volatile int bad;
};

struct fixture {
        pid_t pid;
        uint8_t *memory; /* at the same address in the child */
        struct shared *shared;
        int pagemap;
};

enum { WRITE_ONE = 1, WRITE_ALL, DROP, LOSE, CALL, MOVE, EXECUTE };

/** Its second half, away or back. */
static void move_half(uint8_t *memory, struct shared *shared) {
        size_t size = PAGES / 2 * PAGE;
        uint8_t *half = memory + size, *from = shared->away ?: half;
        uint8_t *to = shared->away ? half : mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
                shared->bad = errno;
        shared->away = shared->away ? NULL : to;
}

static void child(uint8_t *memory, struct shared *shared) {
        for (int last = 0;;) {
                struct timespec pause = { .tv_nsec = 200000 };

                /* A sleep is a system call that is gone on with in a way of its own. */
                if (nanosleep(&pause, NULL) < 0)
                        shared->bad = errno;
                shared->turns++;
                if (shared->request == last)
                        continue;
                last = shared->request;
                switch (last % 8) {
                case WRITE_ONE:
                        memory[(size_t)(last / 8) * PAGE]++;
                        break;
                case WRITE_ALL:
                        for (size_t i = 0; i < PAGES; i++)
                                memory[i * PAGE]++;
                        break;
                case DROP:
                        (void)madvise(memory, PAGE, MADV_DONTNEED);
                        shared->bad = memory[0];
                        break;
                case LOSE:
                        (void)madvise(memory, PAGE, MADV_DONTNEED);
                        break;
                case CALL:
                        if (read(open("/dev/zero", O_RDONLY), memory + 3 * PAGE, 1) != 1)
                                shared->bad = errno;
                        break;
                case MOVE:
                        move_half(memory, shared);
                        break;
                default:
                        execl("/bin/sleep", "sleep", "1000", NULL);
                }
                shared->done = last;
        }
}

static int begin(void **state) {
        struct fixture *f = NEW(struct fixture);

        f->memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        f->shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(f->memory, MAP_FAILED);
        (void)madvise(f->memory, PAGES * PAGE, MADV_NOHUGEPAGE);
        memset(f->memory, 1, PAGES * PAGE);
        f->pid = fork();
        assert_true(f->pid >= 0);
        if (f->pid == 0)
                child(f->memory, f->shared);
        _cleanup_free_ char *path = xasprintf("/proc/%d/pagemap", (int)f->pid);
        f->pagemap = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(f->pagemap >= 0);
        *state = f;
        return 0;
}

static int end(void **state) {
        struct fixture *f = *state;

        kill(f->pid, SIGKILL);
        waitpid(f->pid, NULL, 0);
        close(f->pagemap);
        munmap(f->memory, PAGES * PAGE);
        munmap(f->shared, PAGE);
        free(f);
        return 0;
}

static void ask(struct fixture *f, int request) {
        f->shared->request = request;
        for (int i = 0; f->shared->done != request && i < 10000; i++)
                (void)poll(NULL, 0, 1);
        assert_int_equal(f->shared->done, request);
        assert_int_equal(f->shared->bad, 0);
}

/** Which pages were written, as text. */
struct seen {
        const uint8_t *memory;
        bool pages[PAGES];
        size_t n;
};

static int see(uint64_t start, uint64_t stop, void *userdata) {
        struct seen *seen = userdata;

        for (; start < stop; start += PAGE, seen->n++)
                seen->pages[(start - (uintptr_t)seen->memory) / PAGE] = true;
        return 0;
}

static struct seen look(struct fixture *f) {
        struct seen seen = { .memory = f->memory };
        uint64_t at = (uintptr_t)f->memory;

        assert_int_equal(write_watch_scan(f->pagemap, at, at + PAGES * PAGE, see, &seen), 0);
        return seen;
}

static void watch_memory(struct fixture *f, int watch, const uint8_t *memory, size_t pages) {
        assert_int_equal(write_watch_register(watch, f->pagemap, (uintptr_t)memory, (uintptr_t)memory + pages * PAGE),
                         0);
}

static int take(struct fixture *f) {
        struct st_error *error = NULL;
        int watch = write_watch_take(f->pid, &error);

        if (watch == -EOPNOTSUPP)
                skip();
        if (watch < 0)
                fail_msg("%s", st_error_message(error));
        watch_memory(f, watch, f->memory, PAGES);
        return watch;
}

static void test_written(void **state) {
        struct fixture *f = *state;
        _cleanup_close_ __attribute__((unused)) int watch = take(f);
        struct seen seen = look(f);

        assert_int_equal(seen.n, PAGES); /* whatever was not looked at yet */
        assert_int_equal(look(f).n, 0);
        ask(f, WRITE_ONE + 8 * 77);
        seen = look(f);
        assert_int_equal(seen.n, 1);
        assert_true(seen.pages[77]);
        ask(f, CALL); /* the kernel writes for it */
        seen = look(f);
        assert_int_equal(seen.n, 1);
        assert_true(seen.pages[3]);
        ask(f, DROP);
        assert_true(look(f).pages[0]);
        /* What is not there is not marked either: CRIU would take it for swapped out. */
        ask(f, LOSE);
        assert_int_equal(look(f).n, 0);
        uint64_t entry = 1;
        assert_int_equal(pread(f->pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)f->memory / PAGE * 8)), 8);
        assert_int_equal(entry & 3ull << 62, 0);
        ask(f, WRITE_ALL);
        assert_int_equal(look(f).n, PAGES);
        assert_int_equal(look(f).n, 0);
}

/* What was moved away and back becomes one mapping with what stayed; the kernel stops to watch it, but leaves marks. */
static void test_moved(void **state) {
        struct fixture *f = *state;
        _cleanup_close_ int watch = take(f);

        ask(f, WRITE_ALL); /* its own pages: a copy of one that the test has, too, would have no mark */
        look(f);
        ask(f, MOVE);
        watch_memory(f, watch, f->shared->away, PAGES / 2);
        ask(f, MOVE + 8);
        ask(f, WRITE_ONE + 8 * 7);
        watch_memory(f, watch, f->memory, PAGES);
        assert_int_equal(look(f).n, PAGES); /* whatever was written while nobody watched */
        ask(f, WRITE_ONE + 8 * 9);
        ask(f, WRITE_ONE + 8 * 8);
        struct seen seen = look(f);
        assert_true(seen.pages[8] && seen.pages[9]);
        assert_int_equal(seen.n, 2);
        /* Who watches already goes on, unless what was known is to be forgotten. */
        ask(f, WRITE_ONE + 8 * 11);
        watch_memory(f, watch, f->memory, PAGES);
        assert_int_equal(look(f).n, 1);
        assert_int_equal(write_watch_register(watch, -EBADF, (uintptr_t)f->memory, (uintptr_t)f->memory + PAGES * PAGE),
                         0);
        assert_int_equal(look(f).n, PAGES);
}

static void test_not_watched(void **state) {
        struct fixture *f = *state;
        struct seen seen = { .memory = f->memory };
        uint64_t at = (uintptr_t)f->memory;

        assert_int_equal(write_watch_scan(f->pagemap, at, at + PAGE, see, &seen), -EPERM);
        {
                _cleanup_close_ __attribute__((unused)) int watch = take(f);
                look(f);
                _cleanup_close_ int second = write_watch_take(f->pid, NULL);
                assert_true(second >= 0);
                assert_int_equal(write_watch_register(second, f->pagemap, at, at + PAGE), -EBUSY);
        }
        /* Nobody has the descriptor any more. */
        assert_int_equal(write_watch_scan(f->pagemap, at, at + PAGE, see, &seen), -EPERM);
        ask(f, WRITE_ALL);
}

static void test_gone(void **state) {
        struct fixture *f = *state;
        _cleanup_close_ __attribute__((unused)) int watch = take(f);

        assert_false(write_watch_is_gone(watch));
        f->shared->request = EXECUTE;
        for (int i = 0; !write_watch_is_gone(watch) && i < 10000; i++)
                (void)poll(NULL, 0, 1);
        assert_true(write_watch_is_gone(watch));
}

/* Its sleeps are not cut short, its registers are its own, no descriptor is left to it. */
static void test_it_notices_nothing(void **state) {
        struct fixture *f = *state;
        struct st_error *error = NULL;

        for (int i = 0; i < 200; i++) {
                int watch = write_watch_take(f->pid, &error);

                if (watch == -EOPNOTSUPP) {
                        st_error_free(error);
                        skip();
                }
                if (watch == -EBUSY) { /* in a restartable sequence */
                        error = st_error_free(error);
                        continue;
                }
                assert_true(watch >= 0);
                close(watch);
        }
        ask(f, WRITE_ALL);
        _cleanup_free_ char *path = xasprintf("/proc/%d/fd/3", (int)f->pid);
        char target[64];
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        assert_null(strstr(target, "userfaultfd"));
        uint64_t turns = f->shared->turns;
        for (int i = 0; f->shared->turns < turns + 10 && i < 10000; i++)
                (void)poll(NULL, 0, 1);
        assert_true(f->shared->turns >= turns + 10);
}

static void test_stopped(void **state) {
        struct fixture *f = *state;
        struct st_error *error = NULL;
        int status;

        assert_int_equal(kill(f->pid, SIGSTOP), 0);
        assert_int_equal(waitpid(f->pid, &status, WUNTRACED), f->pid);
        int r = write_watch_take(f->pid, &error);
        assert_true(r == -EBUSY || r == -EOPNOTSUPP);
        st_error_free(error);
        kill(f->pid, SIGCONT);
        ask(f, WRITE_ALL);
        assert_int_equal(write_watch_take(INT32_MAX, NULL), -ESRCH);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_written, begin, end),
                cmocka_unit_test_setup_teardown(test_moved, begin, end),
                cmocka_unit_test_setup_teardown(test_not_watched, begin, end),
                cmocka_unit_test_setup_teardown(test_gone, begin, end),
                cmocka_unit_test_setup_teardown(test_it_notices_nothing, begin, end),
                cmocka_unit_test_setup_teardown(test_stopped, begin, end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
