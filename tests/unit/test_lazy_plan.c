/* SPDX-License-Identifier: Apache-2.0 */

/* Plans of native images that were made by hand: which pages come later, where they are, what CRIU still gets. */

#include "test_native_rig.h"

#include <sys/mman.h>

#include "base/messages.h"
#include "criu/images.h"
#include "lazy/plan.h"

#define PAGEMAP_MAGIC 0x56084025u
#define MM_MAGIC 0x57492820u
#define COMMON_MAGIC 0x54564319u
#define P NATIVE_PAGE
#define BASE 0x10000000ull
#define PER_FRAME 16

struct entry {
        uint64_t at, pages; /* page numbers above BASE */
        uint32_t flags;
};

struct rig {
        char *directory, *path;
        struct native_build build;
        uint8_t *data; /* all files of data, behind each other, in one frame */
        size_t n_data;
        struct image *image;
        struct lazy_plan *plan;
        struct st_error *error;
};

static void add(struct rig *rig, const void *bytes, size_t n) {
        rig->data = xrealloc(rig->data, rig->n_data + n, 1);
        memcpy(rig->data + rig->n_data, bytes, n);
        rig->n_data += n;
}

static void add_number(struct rig *rig, uint32_t number) {
        const uint8_t bytes[] = { (uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16),
                                  (uint8_t)(number >> 24) };

        add(rig, bytes, sizeof(bytes));
}

static void add_message(struct rig *rig, const ProtobufCMessage *message) {
        size_t n = protobuf_c_message_get_packed_size(message);
        _cleanup_free_ uint8_t *bytes = xmalloc(n + 1);

        protobuf_c_message_pack(message, bytes);
        add_number(rig, (uint32_t)n);
        add(rig, bytes, n);
}

static void end_file(struct rig *rig, const char *name, size_t begin) {
        const struct native_extent extent = { (uint32_t)(rig->n_data - begin), 2, (uint32_t)begin };

        build_data(&rig->build, name, &extent, 1);
}

/* Pages 0 to 31 may come later, 32 to 39 are locked, 40 to 47 are cleared in children, 48 to 63 are shared. */
static void add_mm(struct rig *rig) {
        const uint32_t private = MAP_PRIVATE | MAP_ANONYMOUS;
        const struct {
                uint64_t from, to;
                uint32_t flags;
                uint64_t madv;
        } all[] = {
                { 0, 20, private, 0 },
                { 20, 32, private, 0 },
                { 32, 40, private | MAP_LOCKED, 0 },
                { 40, 48, private, 1ull << MADV_WIPEONFORK },
                { 48, 64, MAP_SHARED | MAP_ANONYMOUS, 0 },
        };
        CriuImage__Mm mm = CRIU_IMAGE__MM__INIT;
        CriuImage__Vma vmas[ELEMENTSOF(all)], *list[ELEMENTSOF(all)];
        size_t begin = rig->n_data;

        for (size_t i = 0; i < ELEMENTSOF(all); i++) {
                vmas[i] = (CriuImage__Vma)CRIU_IMAGE__VMA__INIT;
                vmas[i].start = BASE + all[i].from * P;
                vmas[i].end = BASE + all[i].to * P;
                vmas[i].flags = all[i].flags;
                vmas[i].has_madv = all[i].madv != 0;
                vmas[i].madv = all[i].madv;
                list[i] = &vmas[i];
        }
        mm.vmas = list;
        mm.n_vmas = ELEMENTSOF(all);
        add_number(rig, COMMON_MAGIC);
        add_number(rig, MM_MAGIC);
        add_message(rig, &mm.base);
        end_file(rig, "mm-7.img", begin);
}

static void add_pagemap(struct rig *rig, const struct entry *entries, size_t n) {
        CriuImage__PagemapHead head = CRIU_IMAGE__PAGEMAP_HEAD__INIT;
        size_t begin = rig->n_data;

        head.pages_id = 3;
        add_number(rig, COMMON_MAGIC);
        add_number(rig, PAGEMAP_MAGIC);
        add_message(rig, &head.base);
        for (size_t i = 0; i < n; i++) {
                CriuImage__Pagemap entry = CRIU_IMAGE__PAGEMAP__INIT;

                entry.vaddr = BASE + entries[i].at * P;
                entry.has_nr_pages = entry.has_flags = 1;
                entry.nr_pages = entries[i].pages;
                entry.flags = entries[i].flags;
                add_message(rig, &entry.base);
        }
        end_file(rig, "pagemap-7.img", begin);
}

/* Two frames of pages; the pagemap is what differs. @return what lazy_plan_make() says */
static int make(struct rig *rig, const struct entry *entries, size_t n, const struct native_run *runs,
                uint32_t n_runs) {
        _cleanup_free_ uint8_t *pages = make_bytes(2 * PER_FRAME * P, 5);
        int r;

        build_begin(&rig->build, 4);
        for (size_t i = 0; i < 2; i++)
                build_frame(&rig->build, NATIVE_PAGES, NATIVE_RAW, pages + i * PER_FRAME * P, PER_FRAME * P);
        add_mm(rig);
        add_pagemap(rig, entries, n);
        build_pages(&rig->build, "pages-3.img", runs, n_runs);
        build_frame(&rig->build, NATIVE_DATA, NATIVE_RAW, rig->data, rig->n_data);
        build_finish(&rig->build);
        build_write(&rig->build, rig->path);
        r = image_open(rig->path, &rig->image, &rig->error);
        assert_ok(r, rig->error);
        return lazy_plan_make(rig->image, &rig->plan, &rig->error);
}

static int set_up(void **state) {
        struct rig *rig = NEW(struct rig);

        rig->directory = make_directory();
        rig->path = path_join(rig->directory, "image.stasis");
        *state = rig;
        return 0;
}

static int tear_down(void **state) {
        struct rig *rig = *state;

        lazy_plan_free(rig->plan);
        image_free(rig->image);
        build_clear(&rig->build);
        st_error_free(rig->error);
        free(rig->data);
        free(rig->path);
        remove_directory(rig->directory);
        free(rig);
        return 0;
}

#define LAZY (CRIU_PAGEMAP_LAZY | CRIU_PAGEMAP_PRESENT)

static void finds_what_may_come_later(void **state) {
        static const struct entry entries[] = {
                { 2, 24, LAZY },                 /* in two mappings */
                { 30, 4, LAZY },                 /* two of them are locked: CRIU reads all four */
                { 41, 2, LAZY },                 /* cleared in children */
                { 50, 3, CRIU_PAGEMAP_PRESENT }, /* shared */
        };
        /* Backwards in the frames, with zeros. */
        static const struct native_run runs[] = {
                { 10, 1, 3, 0 }, { 5, 0, 0, NATIVE_ZERO }, { 9, 0, 2, 0 }, { 9, 1, 0, 0 }
        };
        struct rig *rig = *state;
        int r = make(rig, entries, ELEMENTSOF(entries), runs, ELEMENTSOF(runs));

        assert_ok(r, rig->error);
        assert_int_equal(rig->plan->n_tasks, 1);
        assert_int_equal(lazy_plan_find(rig->plan, 7), 0);
        assert_true(lazy_plan_find(rig->plan, 8) < 0);
        assert_int_equal(rig->plan->pages, 19);
        assert_int_equal(rig->plan->n_frames, 2);

        const struct lazy_plan_task *task = &rig->plan->tasks[0];
        const struct lazy_piece *piece = lazy_plan_piece(task, BASE + 2 * P);

        assert_int_equal(task->n, 4); /* the third one is cut where a mapping ends */
        assert_true(piece && piece->at == BASE + 2 * P && piece->count == 10 && piece->page == 3);
        assert_int_equal(rig->plan->frames[piece->frame].frame, 1);
        piece = lazy_plan_piece(task, BASE + 14 * P + 5);
        assert_true(piece && piece->frame == LAZY_ZERO && piece->count == 5);
        piece = lazy_plan_piece(task, BASE + 19 * P);
        assert_true(piece && piece->count == 3 && piece->page == 2);
        piece = lazy_plan_piece(task, BASE + 25 * P);
        assert_true(piece && piece->count == 6 && piece->page == 5);
        assert_null(lazy_plan_piece(task, BASE + P));
        assert_null(lazy_plan_piece(task, BASE + 26 * P));
        assert_null(lazy_plan_piece(task, BASE + 30 * P));

        /* What CRIU gets: the pages behind, all others only by their addresses. */
        const struct lazy_rest *rest = &rig->plan->rests[0];

        assert_int_equal(rig->plan->n_rests, 1);
        assert_string_equal(rest->name, "pages-3.img");
        assert_int_equal(rest->n, 1);
        assert_int_equal(rest->ranges[0].first, 24);
        assert_int_equal(rest->ranges[0].count, 9);

        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        r = criu_images_load("pagemap-7.img", rest->pagemap, rest->pagemap_size, &criu_image__pagemap__descriptor,
                             &list, &rig->error);
        assert_ok(r, rig->error);
        assert_int_equal(list.n, 1 + ELEMENTSOF(entries));
        for (size_t i = 0; i < ELEMENTSOF(entries); i++) {
                const CriuImage__Pagemap *entry = (CriuImage__Pagemap *)list.items[i + 1];

                assert_true(entry->vaddr == BASE + entries[i].at * P);
                assert_int_equal(criu_pagemap_pages(entry), entries[i].pages);
                assert_int_equal(criu_pagemap_flags(entry), i == 0 ? CRIU_PAGEMAP_LAZY : CRIU_PAGEMAP_PRESENT);
        }
        assert_int_equal(lazy_plan_apply(rig->plan, rig->image, &rig->error), 0);
}

/* Each of these is no image that a plan can be made of. */
static const struct {
        const char *text;
        int r;
        size_t n;
        struct entry entries[2];
} bad[] = {
        { "has fewer pages", -EBADMSG, 1, { { 0, 17, LAZY } } },
        { "is not in order", -EBADMSG, 2, { { 8, 2, LAZY }, { 9, 1, LAZY } } },
        { "is not in order", -EBADMSG, 2, { { 8, 2, LAZY }, { 0, 1, LAZY } } },
        { "is not in order", -EBADMSG, 1, { { 8, 0, LAZY } } },
        { "is not in order", -EBADMSG, 1, { { 8, UINT64_MAX, LAZY } } },
        { "refers to a parent", -EOPNOTSUPP, 1, { { 8, 1, CRIU_PAGEMAP_PARENT } } },
};

static void refuses_what_is_wrong(void **state) {
        static const struct native_run run = { 16, 0, 0, 0 };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct rig *rig = *state;

                assert_int_equal(make(rig, bad[i].entries, bad[i].n, &run, 1), bad[i].r);
                assert_non_null(strstr(st_error_message(rig->error), bad[i].text));
                (void)tear_down(state);
                (void)set_up(state);
        }
}

/* Lazy pages in no mapping at all CRIU gets, whose message is the better one. */
static void leaves_what_is_in_no_mapping(void **state) {
        static const struct native_run run = { 2, 0, 0, 0 };
        static const struct entry entry = { 100, 2, LAZY };
        struct rig *rig = *state;
        int r = make(rig, &entry, 1, &run, 1);

        assert_ok(r, rig->error);
        assert_int_equal(rig->plan->pages, 0);
        assert_int_equal(rig->plan->rests[0].ranges[0].count, 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(finds_what_may_come_later, set_up, tear_down),
                cmocka_unit_test_setup_teardown(refuses_what_is_wrong, set_up, tear_down),
                cmocka_unit_test_setup_teardown(leaves_what_is_in_no_mapping, set_up, tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
