/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The server against children that do what CRIU's tasks do: register memory with a userfaultfd(2) and hand it over.
 * Skipped where the kernel refuses it.
 */

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "lazy/server.h"
#include "lazy/uffd.h"

#define P LAZY_PAGE
#define FRAME 16 /* pages */
#define FRAMES 32
#define PAGES (FRAME * FRAMES)
#define PID 42

struct rig {
        char directory[32];
        int file;
        struct native_frame frames[FRAMES];
        struct native_source source;
        struct native native;
        struct lazy_piece pieces[FRAMES + 1];
        struct lazy_plan_task tasks[2]; /* the second one: have_two_tasks() */
        struct lazy_frame plan_frames[FRAMES];
        struct lazy_use uses[2 * FRAMES];
        struct lazy_plan plan;
        uint8_t *memory; /* where the child has it: mapped before the fork, so at the same address */
        struct lazy *lazy;
};

static uint8_t content(size_t page) {
        return (uint8_t)(page * 7 + 1) | 1;
}

static void make_image(struct rig *rig) {
        uint8_t *frame = xmalloc(FRAME * P);

        rig->file = open(rig->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        assert_true(rig->file >= 0);
        for (size_t i = 0; i < FRAMES; i++) {
                for (size_t page = 0; page < FRAME; page++)
                        memset(frame + page * P, content(i * FRAME + page), P);
                assert_int_equal(io_write_full(rig->file, frame, FRAME * P), 0);
                rig->frames[i] = (struct native_frame){
                        .offset = i * FRAME * P,
                        .stored = FRAME * P,
                        .decoded = FRAME * P,
                        .kind = NATIVE_PAGES,
                        .codec = NATIVE_RAW,
                        .digest = hash_of(frame, FRAME * P),
                };
        }
        free(frame);
        rig->source = (struct native_source){
                .path = (char *)"image", .fd = rig->file, .frames = rig->frames, .n_frames = FRAMES
        };
        rig->native = (struct native){ .sources = &rig->source, .n_sources = 1 };
}

static void make_plan(struct rig *rig) {
        for (size_t i = 0; i < FRAMES; i++) {
                rig->pieces[i] = (struct lazy_piece){ .at = (uintptr_t)rig->memory + i * FRAME * P,
                                                      .count = FRAME,
                                                      .frame = (uint32_t)i };
                rig->plan_frames[i] = (struct lazy_frame){ .frame = (uint32_t)i, .first_use = i, .n_uses = 1 };
                rig->uses[i] = (struct lazy_use){ .frame = (uint32_t)i, .piece = (uint32_t)i };
        }
        rig->pieces[FRAMES] =
                (struct lazy_piece){ .at = (uintptr_t)rig->memory + PAGES * P, .count = FRAME, .frame = LAZY_ZERO };
        rig->tasks[0] = (struct lazy_plan_task){ .pid = PID, .pieces = rig->pieces, .n = FRAMES + 1 };
        rig->plan = (struct lazy_plan){ .native = &rig->native,
                                        .tasks = rig->tasks,
                                        .n_tasks = 1,
                                        .frames = rig->plan_frames,
                                        .n_frames = FRAMES,
                                        .uses = rig->uses,
                                        .n_uses = FRAMES,
                                        .pages = PAGES };
}

static int set_up(void **state) {
        struct rig *rig = NEW(struct rig);

        (void)snprintf(rig->directory, sizeof(rig->directory), "/tmp/st-lazy.XXXXXX");
        assert_non_null(mkdtemp(rig->directory));
        rig->memory = mmap(NULL, (PAGES + FRAME) * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(rig->memory != MAP_FAILED);
        make_image(rig);
        make_plan(rig);
        *state = rig;
        return 0;
}

static int tear_down(void **state) {
        struct rig *rig = *state;

        if (rig->lazy)
                (void)lazy_finish(rig->lazy, NULL);
        close(rig->file);
        munmap(rig->memory, (PAGES + FRAME) * P);
        (void)io_remove_tree(rig->directory);
        free(rig);
        return 0;
}

static void start(struct rig *rig) {
        struct st_error *error = NULL;
        int listener = lazy_listen(rig->directory, &error);

        if (uffd_probe(NULL) < 0)
                skip();
        assert_true(listener >= 0);

        const struct lazy_options options = { .plan = &rig->plan, .listener = listener, .threads = 2 };
        assert_int_equal(lazy_start(&options, &rig->lazy, &error), 0);
}

static int new_userfaultfd(void) {
        struct uffdio_api api = { .api = UFFD_API,
                                  .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                              UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP };
        int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

        if (ioctl(fd, UFFDIO_API, &api) < 0)
                _exit(100);
        return fd;
}

static void hand_over_task(int socket, int32_t pid, int fd) {
        if (io_write_full(socket, &pid, 4) < 0 || io_send_fd(socket, fd) < 0)
                _exit(100);
}

static void register_memory(const struct rig *rig, int fd) {
        struct uffdio_register range = { .range = { (uintptr_t)rig->memory, (PAGES + FRAME) * P },
                                         .mode = UFFDIO_REGISTER_MODE_MISSING };

        if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
                _exit(101);
        close(fd);
}

static void say_end(int socket) {
        int32_t end = 0x52535446;

        if (io_write_full(socket, &end, 4) < 0)
                _exit(102);
}

static int connect_to(const struct rig *rig) {
        char path[64];

        (void)snprintf(path, sizeof(path), "%s/%s", rig->directory, LAZY_SOCKET);
        return io_connect_unix(path);
}

/* What CRIU does in a task; @return the connection */
static int hand_over(const struct rig *rig, bool late) {
        int32_t zombie = -43;
        int fd = new_userfaultfd(), socket = connect_to(rig);

        if (io_write_full(socket, &zombie, 4) < 0)
                _exit(100);
        hand_over_task(socket, PID, fd);
        if (late)
                usleep(20000);
        register_memory(rig, fd);
        say_end(socket);
        return socket;
}

static bool all_right(const uint8_t *memory, size_t from, size_t to) {
        for (size_t i = from; i < to; i++)
                if (((const volatile uint8_t *)memory)[i * P] != content(i) ||
                    ((const volatile uint8_t *)memory)[i * P + P - 1] != content(i))
                        return false;
        return true;
}

static void run_child(struct rig *rig, int (*child)(struct rig *rig)) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(child(rig));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static int reads_all(struct rig *rig) {
        hand_over(rig, true);
        return all_right(rig->memory, 0, PAGES) && rig->memory[(PAGES + 3) * P] == 0 ? 0 : 1;
}

static void puts_pages_in(void **state) {
        struct rig *rig = *state;
        bool over = false;

        start(rig);
        run_child(rig, reads_all);
        for (int i = 0; i < 500 && !lazy_all_gone(rig->lazy); i++)
                usleep(10000);
        assert_true(lazy_all_gone(rig->lazy));
        (void)lazy_poll(rig->lazy, &over);
        assert_true(over);
}

static int changes_all(struct rig *rig) {
        uint8_t *moved, *place = mmap(NULL, 32 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int status, bad = 0;

        hand_over(rig, false);
        moved = mremap(rig->memory + 64 * P, 32 * P, 32 * P, MREMAP_MAYMOVE | MREMAP_FIXED, place);
        (void)madvise(rig->memory + 8 * P, 4 * P, MADV_DONTNEED);
        (void)mprotect(rig->memory + 200 * P, P, PROT_READ);
        munmap(rig->memory + 300 * P, 20 * P);
        if (fork() == 0)
                _exit(all_right(rig->memory, 12, 64) && all_right(moved - 64 * P, 64, 96) ? 0 : 1);
        bad |= all_right(rig->memory, 0, 8) ? 0 : 2;
        bad |= rig->memory[9 * P] == 0 ? 0 : 4;
        bad |= all_right(moved - 64 * P, 64, 96) ? 0 : 8;
        bad |= all_right(rig->memory, 96, 300) && all_right(rig->memory, 320, PAGES) ? 0 : 16;
        (void)wait(&status);
        return status == 0 ? bad : 1;
}

static void follows_changes(void **state) {
        start(*state);
        run_child(*state, changes_all);
}

/* Both have the same pages, so each frame is of both. */
static void have_two_tasks(struct rig *rig) {
        rig->tasks[1] = rig->tasks[0];
        rig->tasks[1].pid = PID + 1;
        for (uint32_t i = 0; i < FRAMES; i++) {
                rig->plan_frames[i].first_use = 2 * i;
                rig->plan_frames[i].n_uses = 2;
                for (uint32_t task = 0; task < 2; task++)
                        rig->uses[2 * i + task] = (struct lazy_use){ .frame = i, .task = task, .piece = i };
        }
        rig->plan.n_tasks = 2;
        rig->plan.n_uses = 2 * FRAMES;
        rig->plan.pages = 2 * PAGES;
}

/* As CRIU: who is the first to hand over gets its memory when all others are ready, who need a page for that. */
static int waits_for_another(struct rig *rig) {
        int fd = new_userfaultfd(), socket = connect_to(rig), status = 0;

        alarm(30);
        hand_over_task(socket, PID, fd);
        if (fork() == 0) {
                int own = new_userfaultfd();

                hand_over_task(socket, PID + 1, own);
                register_memory(rig, own);
                _exit(all_right(rig->memory, 0, PAGES) ? 0 : 1);
        }
        (void)wait(&status);
        register_memory(rig, fd);
        say_end(socket);
        return status == 0 && all_right(rig->memory, 0, PAGES) ? 0 : 1;
}

static void serves_one_while_another_has_no_memory(void **state) {
        have_two_tasks(*state);
        start(*state);
        run_child(*state, waits_for_another);
}

static int goes_away(struct rig *rig) {
        return connect_to(rig) >= 0 ? 0 : 1;
}

static void notices_the_end(void **state) {
        struct rig *rig = *state;

        start(rig);
        run_child(rig, goes_away);
        assert_int_equal(lazy_wait_complete(rig->lazy, 5000, -EBADF, NULL), -EPIPE);
        assert_int_equal(lazy_poll(rig->lazy, NULL), LAZY_BROKEN);
}

static int stays(struct rig *rig) {
        hand_over(rig, false);
        pause();
        return 0;
}

static void waits_until_all_is_in(void **state) {
        struct rig *rig = *state;
        uint64_t total;
        pid_t pid;

        start(rig);
        pid = fork();
        if (pid == 0)
                _exit(stays(rig));
        assert_int_equal(lazy_wait_complete(rig->lazy, 20000, -EBADF, NULL), 0);
        assert_int_equal(lazy_pages(rig->lazy, &total), PAGES);
        assert_int_equal(total, PAGES);
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
}

static void finds_damage(void **state) {
        struct rig *rig = *state;
        _cleanup_error_ struct st_error *error = NULL;
        pid_t pid;
        int r;

        assert_int_equal(pwrite(rig->file, "x", 1, 20 * FRAME * P + 5), 1);
        start(rig);
        pid = fork();
        if (pid == 0)
                _exit(stays(rig));
        assert_int_equal(lazy_wait_complete(rig->lazy, 20000, -EBADF, NULL), -EBADMSG);
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        r = lazy_finish(TAKE_PTR(rig->lazy), &error);
        assert_int_equal(r, -EBADMSG);
        assert_non_null(strstr(st_error_message(error), "frame 20"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(puts_pages_in, set_up, tear_down),
                cmocka_unit_test_setup_teardown(follows_changes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(serves_one_while_another_has_no_memory, set_up, tear_down),
                cmocka_unit_test_setup_teardown(notices_the_end, set_up, tear_down),
                cmocka_unit_test_setup_teardown(waits_until_all_is_in, set_up, tear_down),
                cmocka_unit_test_setup_teardown(finds_damage, set_up, tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
