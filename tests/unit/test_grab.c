/* SPDX-License-Identifier: Apache-2.0 */

/* Grabbing, CRIU's part being played by the test: what it sends over its socket, and the files in its directory. */

#include "test_image_common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "criu/images.h"
#include "image/grab_private.h"

#define PAGE ((size_t)4096)

enum { OPEN2 = 4, ADD_F = 6, FORCE_CLOSE = 0x1024 };

struct message {
        uint32_t command;
        uint64_t pages, at, of;
};

struct rig {
        char *directory;
        struct store *store;
        struct grab *grab;
        int criu; /* our end */
        uint8_t *memory;
        size_t size;
};

static uint64_t of_process(uint64_t pid) {
        return pid << 8 | 1;
}

static uint64_t of_shared(uint64_t id) {
        return id << 8 | 2;
}

static void rig_start(struct rig *rig, uint64_t budget, size_t pages) {
        const struct grab_options options = { .root = getpid(), .threads = 3 };
        struct st_error *error = NULL;

        rig->directory = make_directory();
        rig->store = store_new(budget, rig->directory);
        rig->size = pages * PAGE;
        rig->memory = mmap(NULL, rig->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(rig->memory != MAP_FAILED);
        uint8_t *bytes = make_bytes(rig->size, 5);
        memcpy(rig->memory, bytes, rig->size);
        free(bytes);
        assert_ok(grab_start(&options, rig->store, &rig->grab, &rig->criu, &error), error);
}

static int rig_finish(struct rig *rig) {
        struct st_error *error = NULL;
        int r = grab_finish(rig->grab, &error);

        assert_true((r < 0) == (error != NULL));
        st_error_free(error);
        if (rig->criu >= 0)
                close(rig->criu);
        munmap(rig->memory, rig->size);
        store_free(rig->store);
        remove_directory(rig->directory);
        return r;
}

static void send_message(const struct rig *rig, uint32_t command, uint32_t flags, const void *at, uint64_t pages,
                         uint64_t of) {
        const struct message message = { command | flags << 16, pages, (uintptr_t)at, of };

        (void)send(rig->criu, &message, sizeof(message), MSG_NOSIGNAL);
}

/** @return whether there is a parent; -1: no answer */
static int open_file(const struct rig *rig, uint64_t of) {
        uint8_t has_parent;

        send_message(rig, OPEN2, 0, NULL, 0, of);
        return read(rig->criu, &has_parent, 1) == 1 ? has_parent : -1;
}

/** @return the status; -1: no answer */
static int32_t close_all(const struct rig *rig) {
        int32_t status;

        send_message(rig, FORCE_CLOSE, 0, NULL, 0, 0);
        return read(rig->criu, &status, sizeof(status)) == sizeof(status) ? status : -1;
}

static void holds(const struct rig *rig, const char *name, const uint8_t *bytes, size_t size) {
        const struct store_file *file = store_find(rig->store, name);
        assert_non_null(file);
        assert_int_equal(file->size, size);
        uint8_t *got = read_store_file(rig->store, file);
        assert_memory_equal(got, bytes, size);
        free(got);
}

/** Every other page, then all the rest but for two that CRIU sends itself; shared memory that it sends, too. */
static void grab_all(uint64_t budget) {
        struct rig rig;
        struct st_error *error = NULL;
        const size_t pages = 3000, sparse = 1000;
        rig_start(&rig, budget, pages);
        uint8_t *expected = xmalloc(rig.size), *sent = make_bytes(2 * PAGE, 9);
        size_t have = 0;

        assert_int_equal(open_file(&rig, of_process((uint64_t)getpid())), 1);
        for (size_t i = 0; i < sparse; i += 2) {
                send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory + i * PAGE, 1,
                             of_process((uint64_t)getpid()));
                memcpy(expected + have, rig.memory + i * PAGE, PAGE);
                have += PAGE;
        }
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PRESENT, rig.memory + sparse * PAGE, 2, of_process((uint64_t)getpid()));
        assert_int_equal(io_write_full(rig.criu, sent, 2 * PAGE), 0);
        memcpy(expected + have, sent, 2 * PAGE);
        have += 2 * PAGE;
        const uint8_t *rest = rig.memory + (sparse + 2) * PAGE;
        size_t left = pages - sparse - 2;
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rest, left, of_process((uint64_t)getpid()));
        memcpy(expected + have, rest, left * PAGE);
        have += left * PAGE;

        assert_int_equal(open_file(&rig, of_shared(77)), 0);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PRESENT, NULL, pages, of_shared(77));
        assert_int_equal(io_write_full(rig.criu, rig.memory, rig.size), 0);
        assert_int_equal(close_all(&rig), 0);
        assert_ok(grab_wait(rig.grab, 10000, &error), error);
        holds(&rig, "pages-1.img", expected, have);
        holds(&rig, "pages-2.img", rig.memory, rig.size);
        assert_int_equal(grab_statistics(rig.grab).pages, sparse / 2 + left);
        free(expected);
        free(sent);
        assert_int_equal(rig_finish(&rig), 0);
}

static void test_memory_is_copied(void **state) {
        (void)state;
        grab_all(64 * MIB);
}

static void test_beyond_the_budget(void **state) {
        (void)state;
        grab_all(3 * MIB);
        grab_all(0);
}

/** As the encoders do: what is full is given back. Nothing may be given that was not copied yet. */
static int relieve(void *userdata, struct st_error **err) {
        struct store *store = userdata;
        int r = 0;
        (void)err;
        for (size_t i = 0; i < store->n_files; i++)
                for (size_t j = 0; j < store->files[i]->n_extents; j++) {
                        struct store_extent *extent = &store->files[i]->extents[j];
                        if (!extent->data || extent->length < extent->room)
                                continue;
                        for (size_t at = 0; at < extent->length; at += PAGE)
                                assert_int_equal(extent->data[at], 0x5a);
                        memset(extent->data, 0, extent->length);
                        store_release(store, store->files[i], j);
                        r = 1;
                }
        return r;
}

static void test_encoders_get_what_is_copied(void **state) {
        struct rig rig;
        (void)state;
        rig_start(&rig, 4 * MIB, 6000);
        rig.store->relief = (struct store_relief){ .relieve = relieve, .userdata = rig.store };
        memset(rig.memory, 0x5a, rig.size);
        assert_int_equal(open_file(&rig, of_process((uint64_t)getpid())), 1);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory, 6000, of_process((uint64_t)getpid()));
        assert_int_equal(close_all(&rig), 0);
        assert_int_equal(store_find(rig.store, "pages-1.img")->size, rig.size);
        assert_int_equal(rig.store->spilled, 0);
        assert_int_equal(rig_finish(&rig), 0);
}

static void put_message(const char *directory, const char *name, uint32_t magic, const ProtobufCMessage *message) {
        _cleanup_free_ char *path = path_join(directory, name);
        uint32_t head[3] = { 0x54564319, magic, (uint32_t)protobuf_c_message_get_packed_size(message) };
        uint8_t *bytes = xmalloc(sizeof(head) + head[2]);
        memcpy(bytes, head, sizeof(head));
        protobuf_c_message_pack(message, bytes + sizeof(head));
        assert_int_equal(io_replace_file(path, bytes, sizeof(head) + head[2], 0600, false), 0);
        free(bytes);
}

static void put_maps(const struct rig *rig, const uint8_t *locked, size_t locked_size) {
        CriuImage__Mm mm = CRIU_IMAGE__MM__INIT;
        CriuImage__Vma vmas[3], *pointers[3];
        const uint8_t *edges[] = { rig->memory, locked, locked + locked_size, rig->memory + rig->size };

        for (size_t i = 0; i < 3; i++) {
                criu_image__vma__init(&vmas[i]);
                vmas[i].start = (uintptr_t)edges[i];
                vmas[i].end = (uintptr_t)edges[i + 1];
                vmas[i].flags = MAP_PRIVATE | MAP_ANONYMOUS | (i == 1 ? MAP_LOCKED : 0);
                vmas[i].status = CRIU_VMA_REGULAR | CRIU_VMA_ANON_PRIVATE;
                pointers[i] = &vmas[i];
        }
        mm.n_vmas = 3;
        mm.vmas = pointers;
        _cleanup_free_ char *name = xasprintf("mm-%d.img", (int)getpid());
        put_message(rig->directory, name, 0x57492820, &mm.base);
}

struct expected_entry {
        size_t page, pages;
        uint32_t flags;
};

static void has_entries(const struct rig *rig, const char *name, const struct expected_entry *expected, size_t n) {
        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        struct st_error *error = NULL;
        const struct store_file *file = store_find(rig->store, name);
        assert_non_null(file);
        assert_ok(criu_images_load(name, file->extents[0].data, (size_t)file->size, NULL, &list, &error), error);
        assert_int_equal(list.n, n + 1);
        for (size_t i = 0; i < n; i++) {
                const CriuImage__Pagemap *entry = (const CriuImage__Pagemap *)list.items[i + 1];
                assert_int_equal(entry->vaddr, (uintptr_t)rig->memory + expected[i].page * PAGE);
                assert_int_equal(criu_pagemap_pages(entry), expected[i].pages);
                assert_int_equal(entry->compat_nr_pages, expected[i].pages);
                assert_int_equal(entry->flags, expected[i].flags);
        }
}

/** Which pages may come later CRIU does not say of those that we copy: the mappings do. */
static void test_pagemaps(void **state) {
        const uint32_t lazy = CRIU_PAGEMAP_PRESENT | CRIU_PAGEMAP_LAZY;
        const struct expected_entry expected[] = {
                { 0, 8, lazy },
                { 8, 8, CRIU_PAGEMAP_PRESENT }, /* locked */
                { 16, 4, lazy },
                { 24, 2, lazy }, /* ours, and joined with it one that CRIU sent */
                { 26, 1, CRIU_PAGEMAP_PRESENT },
        };
        const uint8_t sent[3 * PAGE] = { 1 };
        struct rig rig;
        struct st_error *error = NULL;
        uint64_t of = of_process((uint64_t)getpid());
        _cleanup_free_ char *name = xasprintf("pagemap-%d.img", (int)getpid());
        (void)state;

        rig_start(&rig, 64 * MIB, 32);
        put_maps(&rig, rig.memory + 8 * PAGE, 8 * PAGE);
        assert_int_equal(open_file(&rig, of), 1);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory, 20, of);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory + 24 * PAGE, 1, of);
        send_message(&rig, ADD_F, lazy, rig.memory + 25 * PAGE, 1, of);
        assert_int_equal(io_write_full(rig.criu, sent, PAGE), 0);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PRESENT, rig.memory + 26 * PAGE, 1, of);
        assert_int_equal(io_write_full(rig.criu, sent, PAGE), 0);
        assert_int_equal(close_all(&rig), 0);
        assert_ok(grab_wait(rig.grab, 10000, &error), error);
        assert_ok(grab_collect(rig.grab, rig.directory, &error), error);
        has_entries(&rig, name, expected, ELEMENTSOF(expected));
        assert_int_equal(rig.store->n_files, 3); /* pages, mm, pagemap */
        assert_int_equal(rig_finish(&rig), 0);
}

static void test_collect_takes_images_only(void **state) {
        struct rig rig;
        struct st_error *error = NULL;
        (void)state;
        rig_start(&rig, 64 * MIB, 1);
        uint8_t *large = make_bytes(700001, 3);
        _cleanup_free_ char *ghost = path_join(rig.directory, "ghost-file-1.img"),
                            *parent = path_join(rig.directory, "parent"), *log = path_join(rig.directory, "dump.log");
        assert_int_equal(io_replace_file(ghost, large, 700001, 0600, false), 0);
        assert_int_equal(io_replace_file(log, "x", 1, 0600, false), 0);
        assert_int_equal(symlink("..", parent), 0);
        assert_int_equal(close_all(&rig), 0);
        assert_ok(grab_wait(rig.grab, 10000, &error), error);
        assert_ok(grab_collect(rig.grab, rig.directory, &error), error);
        assert_int_equal(rig.store->n_files, 1);
        holds(&rig, "ghost-file-1.img", large, 700001);
        free(large);
        assert_int_equal(rig_finish(&rig), 0);
}

/** CRIU gets no answer then: it rolls back. */
static void test_memory_that_is_not_there(void **state) {
        struct rig rig;
        struct st_error *error = NULL;
        char *where;
        (void)state;
        rig_start(&rig, 64 * MIB, 8);
        assert_int_equal(munmap(rig.memory + 4 * PAGE, PAGE), 0);
        where = xasprintf("%#llx", (unsigned long long)(uintptr_t)(rig.memory + 4 * PAGE));
        assert_int_equal(open_file(&rig, of_process((uint64_t)getpid())), 1);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory, 8, of_process((uint64_t)getpid()));
        assert_int_equal(close_all(&rig), -1);
        assert_int_equal(grab_wait(rig.grab, 10000, &error), -EFAULT);
        assert_non_null(strstr(st_error_message(error), where));
        st_error_free(error);
        free(where);
        assert_int_equal(rig_finish(&rig), -EFAULT);
}

static void test_a_process_that_is_not_there(void **state) {
        struct rig rig;
        (void)state;
        rig_start(&rig, 64 * MIB, 8);
        assert_int_equal(open_file(&rig, of_process(1u << 30)), 1);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory, 8, of_process(1u << 30));
        assert_int_equal(close_all(&rig), -1);
        assert_int_equal(rig_finish(&rig), -ESRCH);
}

static void test_what_criu_never_sends(void **state) {
        const uint64_t pid = of_process((uint64_t)getpid()), shared = of_shared(1);
        const struct {
                uint64_t opened;
                uint32_t command, flags;
                uint64_t at, pages, of;
        } cases[] = {
                { 0, ADD_F, 1, PAGE, 1, pid },                        /* of no file */
                { pid, ADD_F, 1, PAGE, 1, shared },                   /* of another one */
                { pid, ADD_F, 1, PAGE, 1, of_process(1) },            /* of another process */
                { pid, ADD_F, 1, PAGE + 1, 1, pid },                  /* in the middle of a page */
                { pid, ADD_F, 1, PAGE, 0, pid },                      /* no pages */
                { pid, ADD_F, 1, PAGE, UINT64_MAX / PAGE, pid },      /* too many */
                { pid, ADD_F, 1, UINT64_MAX - PAGE + 1, 2, pid },     /* beyond the end */
                { pid, ADD_F, 5, PAGE, 1, pid },                      /* here and in the parent */
                { pid, ADD_F, 2, PAGE, 1, pid },                      /* neither */
                { pid, ADD_F, 4, PAGE, (uint64_t)1 << 38, pid },      /* content beyond all bounds */
                { shared, ADD_F, 1, PAGE, 1, shared },                /* a parent that does not exist */
                { pid, OPEN2, 0, 0, 0, (uint64_t)getpid() << 8 | 3 }, /* of an unknown kind */
                { pid, 1, 0, PAGE, 1, pid },                          /* an old command */
                { pid, 7, 0, PAGE, 1, pid },
        };
        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct rig rig;
                uint8_t byte;
                rig_start(&rig, 4 * MIB, 1);
                if (cases[i].opened)
                        assert_true(open_file(&rig, cases[i].opened) >= 0);
                send_message(&rig, cases[i].command, cases[i].flags, (void *)(uintptr_t)cases[i].at, cases[i].pages,
                             cases[i].of);
                assert_int_equal(read(rig.criu, &byte, 1), 0);
                int r = rig_finish(&rig);
                if (r != -EPROTO && r != -EFBIG)
                        fail_msg("case %zu: %d", i, r);
        }
}

static void test_ranges_go_up(void **state) {
        const uint64_t pid = of_process((uint64_t)getpid());
        struct rig rig;
        (void)state;
        rig_start(&rig, 4 * MIB, 8);
        assert_int_equal(open_file(&rig, pid), 1);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory, 2, pid);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PARENT, rig.memory + PAGE, 1, pid);
        assert_int_equal(close_all(&rig), -1);
        assert_int_equal(rig_finish(&rig), -EPROTO);
}

static void test_criu_ends(void **state) {
        const uint64_t pid = of_process((uint64_t)getpid());
        struct rig rig;
        (void)state;
        rig_start(&rig, 4 * MIB, 8);
        close(rig.criu);
        rig.criu = -EBADF;
        assert_int_equal(rig_finish(&rig), -ENOTCONN);

        rig_start(&rig, 4 * MIB, 8);
        assert_int_equal(open_file(&rig, pid), 1);
        send_message(&rig, ADD_F, CRIU_PAGEMAP_PRESENT, rig.memory, 8, pid); /* and not its content */
        close(rig.criu);
        rig.criu = -EBADF;
        assert_int_equal(rig_finish(&rig), -EPIPE);
}

static void test_abort(void **state) {
        struct rig rig;
        uint8_t byte;
        (void)state;
        rig_start(&rig, 4 * MIB, 8);
        assert_int_equal(open_file(&rig, of_process((uint64_t)getpid())), 1);
        grab_abort(rig.grab);
        grab_abort(rig.grab);
        assert_int_equal(read(rig.criu, &byte, 1), 0);
        assert_int_equal(rig_finish(&rig), -ECANCELED);
}

static void test_the_parent(void **state) {
        _cleanup_free_ char *directory = make_directory(), *parent = path_join(directory, "parent"),
                            *path = path_join(parent, "inventory.img"), *data = NULL;
        CriuImage__Inventory *inventory;
        struct st_error *error = NULL;
        size_t size;
        (void)state;
        assert_ok(grab_make_parent(parent, &error), error);
        assert_int_equal(io_read_file(AT_FDCWD, path, 4096, &data, &size), 0);
        assert_ok(criu_images_load_one("inventory.img", data, size, &criu_image__inventory__descriptor, &inventory,
                                       &error),
                  error);
        assert_int_equal(inventory->img_version, 2);
        assert_true(inventory->dump_uptime > (uint64_t)1 << 60);
        protobuf_c_message_free_unpacked(&inventory->base, NULL);
        assert_int_equal(grab_make_parent(parent, &error), -EEXIST);
        st_error_free(error);
        io_remove_tree(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_memory_is_copied),
                cmocka_unit_test(test_beyond_the_budget),
                cmocka_unit_test(test_encoders_get_what_is_copied),
                cmocka_unit_test(test_pagemaps),
                cmocka_unit_test(test_collect_takes_images_only),
                cmocka_unit_test(test_memory_that_is_not_there),
                cmocka_unit_test(test_a_process_that_is_not_there),
                cmocka_unit_test(test_what_criu_never_sends),
                cmocka_unit_test(test_ranges_go_up),
                cmocka_unit_test(test_criu_ends),
                cmocka_unit_test(test_abort),
                cmocka_unit_test(test_the_parent),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
