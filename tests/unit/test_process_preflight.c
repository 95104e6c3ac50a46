/* SPDX-License-Identifier: Apache-2.0 */

/* What preflight reads of processes and programs: memory maps, threads, build IDs. */

#include "test_process_child.h"

#include <elf.h>
#include <pthread.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/build_id.h"
#include "process/maps.h"
#include "process/parse.h"
#include "process/threads.h"

struct seen {
        struct map maps[4];
        char *paths[4];
        size_t n;
};

static int take_map(const struct map *map, void *userdata) {
        struct seen *seen = userdata;

        assert_in_range(seen->n, 0, 3);
        seen->maps[seen->n] = *map;
        seen->paths[seen->n++] = xstrdup(map->path);
        return 0;
}

static void test_maps(void **state) {
        (void)state;
        char text[] =
                "7f0000000000-7f0000001000 r-xp 00001000 fd:10 77                         /usr/lib/a b (deleted)\n"
                "nonsense\n"
                "7f0000002000 r-xp 0 0:0 0\n"
                "7f0000003000-7f0000004000 rw 00000000 00:00 0\n"
                "7f0000005000-7f0000007000 rw-s 00000000 00:01 5                          /SYSV00000000 (deleted)\n"
                "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
                "7f0000008000-7f0000009000 rw-p 00000000 00:00 0 \n";
        struct seen seen = { 0 };

        assert_int_equal(maps_parse(text, take_map, &seen), 0);
        assert_int_equal(seen.n, 4);
        assert_int_equal(seen.maps[0].start, 0x7f0000000000);
        assert_int_equal(seen.maps[0].end, 0x7f0000001000);
        assert_int_equal(seen.maps[0].dev, makedev(0xfd, 0x10));
        assert_int_equal(seen.maps[0].inode, 77);
        assert_false(seen.maps[0].shared);
        assert_string_equal(seen.paths[0], "/usr/lib/a b (deleted)");
        assert_true(seen.maps[1].shared);
        assert_string_equal(seen.paths[1], "/SYSV00000000 (deleted)");
        assert_string_equal(seen.paths[2], "[vsyscall]");
        assert_string_equal(seen.paths[3], "");
        for (size_t i = 0; i < seen.n; i++)
                free(seen.paths[i]);
}

static int stop_at_once(const struct map *map, void *userdata) {
        (void)map;
        ++*(int *)userdata;
        return -ECANCELED;
}

static void test_maps_stop(void **state) {
        (void)state;
        _cleanup_close_ int proc_fd = proc_open(getpid());
        int calls = 0;

        assert_int_equal(maps_each(proc_fd, stop_at_once, &calls), -ECANCELED);
        assert_int_equal(calls, 1);
}

static void *wait_at(void *barrier) {
        pthread_barrier_wait(barrier);
        pthread_barrier_wait(barrier);
        return NULL;
}

static int count_thread(const struct thread *thread, void *userdata) {
        assert_int_equal(thread->tracer, 0);
        assert_non_null(strchr("RSD", thread->state));
        ++*(size_t *)userdata;
        return 0;
}

static void test_threads(void **state) {
        (void)state;
        _cleanup_close_ int proc_fd = proc_open(getpid());
        pthread_barrier_t barrier;
        struct thread self;
        pthread_t thread;
        size_t n = 0;

        assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
        assert_int_equal(pthread_create(&thread, NULL, wait_at, &barrier), 0);
        pthread_barrier_wait(&barrier);
        assert_int_equal(threads_each(proc_fd, count_thread, &n), 0);
        assert_true(n >= 2); /* a sanitizer may have one of its own */
        assert_int_equal(thread_read(proc_fd, getpid(), &self), 0);
        assert_int_equal(self.tid, getpid());
        assert_int_equal(self.state, 'R');
        assert_true(self.switches > 0);
        assert_true(thread_read(proc_fd, 1, &self) < 0);
        pthread_barrier_wait(&barrier);
        pthread_join(thread, NULL);
}

/* A program with one segment of notes: a foreign one, and a build ID of the given length. */
struct program {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        Elf64_Nhdr other;
        char other_name[8];
        Elf64_Nhdr note;
        char name[4];
        uint8_t id[20];
};

static struct program make_program(void) {
        struct program program = {
                .header = { .e_phoff = offsetof(struct program, segment), .e_phnum = 1 },
                .segment = { .p_type = PT_NOTE,
                             .p_offset = offsetof(struct program, other),
                             .p_filesz = sizeof(struct program) - offsetof(struct program, other) },
                .other = { .n_namesz = 6, .n_descsz = 0, .n_type = NT_GNU_BUILD_ID },
                .other_name = "OTHER",
                .note = { .n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID },
                .name = "GNU",
                .id = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 },
        };

        memcpy(program.header.e_ident, ELFMAG, SELFMAG);
        program.header.e_ident[EI_CLASS] = ELFCLASS64;
        program.header.e_ident[EI_DATA] = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
        return program;
}

static int read_id(const void *data, size_t size, uint8_t id[BUILD_ID_MAX]) {
        _cleanup_close_ int fd = io_memfd("program", data, size);

        assert_true(fd >= 0);
        return build_id_read(fd, id);
}

static void test_build_id(void **state) {
        (void)state;
        struct program program = make_program();
        uint8_t id[BUILD_ID_MAX];

        assert_int_equal(read_id(&program, sizeof(program), id), 20);
        assert_memory_equal(id, program.id, 20);
        for (size_t size = 0; size < sizeof(program); size++)
                assert_int_equal(read_id(&program, size, id), 0);

        program.note.n_descsz = BUILD_ID_MAX + 1;
        assert_int_equal(read_id(&program, sizeof(program), id), 0);
        program = make_program();
        program.note.n_descsz = UINT32_MAX;
        assert_int_equal(read_id(&program, sizeof(program), id), 0);
        program = make_program();
        program.other.n_namesz = UINT32_MAX;
        assert_int_equal(read_id(&program, sizeof(program), id), 0);
        program = make_program();
        program.segment.p_filesz = UINT64_MAX;
        assert_int_equal(read_id(&program, sizeof(program), id), 0);
        program = make_program();
        program.header.e_phoff = UINT64_MAX - 8;
        assert_int_equal(read_id(&program, sizeof(program), id), 0);
        assert_int_equal(build_id_read(-1, id), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_maps),
                cmocka_unit_test(test_maps_stop),
                cmocka_unit_test(test_threads),
                cmocka_unit_test(test_build_id),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
