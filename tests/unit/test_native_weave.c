/* SPDX-License-Identifier: Apache-2.0 */

/* Pages of a parent between stored ones. */

#include "test_native_rig.h"

#include "image/native_weave.h"

#define PAGE ((uint64_t)4096)

static struct native_run run(uint32_t count, uint16_t source, uint32_t frame, uint16_t page) {
        return (struct native_run){ .count = count, .frame = frame, .page = page, .source = source };
}

/** Runs of a file, which owns them. */
static struct native_file file_of(const struct native_run *runs, uint32_t n) {
        struct native_file file = { .name = (char *)"pages-1.img", .kind = NATIVE_PAGES, .n = n };

        file.runs = xcalloc(n + 1, sizeof(*runs));
        for (uint32_t i = 0; i < n; i++) {
                file.runs[i] = runs[i];
                file.size += runs[i].count * PAGE;
        }
        return file;
}

static void expect(const struct native_file *file, const struct native_run *runs, uint32_t n) {
        uint64_t size = 0;

        assert_int_equal(file->n, n);
        for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(file->runs[i].count, runs[i].count);
                assert_int_equal(file->runs[i].source, runs[i].source);
                if (runs[i].source != NATIVE_ZERO) {
                        assert_int_equal(file->runs[i].frame, runs[i].frame);
                        assert_int_equal(file->runs[i].page, runs[i].page);
                }
                size += runs[i].count * PAGE;
        }
        assert_int_equal(file->size, size);
}

static const struct native_run parents[] = {
        { 10, 0, 0, 0 },          /* pages 0 to 9, of the parent itself */
        { 5, 0, 0, NATIVE_ZERO }, /* 10 to 14 */
        { 20, 7, 100, 2 },        /* 15 to 34, of its grandparent */
};

static void test_weave(void **state) {
        struct native_file parent = file_of(parents, 3);
        const struct native_run stored[] = { run(3, 0, 50, 0), run(2, NATIVE_ZERO, 0, 0), run(4, 0, 51, 7) };
        struct native_file file = file_of(stored, 3);
        struct store_file source = { .name = (char *)"pages-1.img", .size = file.size };

        (void)state;
        store_refer(&source, &parent, 8, 4); /* before all, over the end of a run */
        source.references[0].before = 0;
        store_refer(&source, &parent, 12, 1);
        source.references[1].before = 4 * PAGE;
        store_refer(&source, &parent, 20, 3);
        source.references[2].before = 9 * PAGE; /* behind all */
        assert_int_equal(source.n_references, 3);
        assert_int_equal(store_referred(&source), 8 * PAGE);
        assert_int_equal(native_weave(&source, &file, NULL), 0);
        const struct native_run expected[] = {
                run(2, 1, 0, 8),           run(2, NATIVE_ZERO, 0, 0), run(3, 0, 50, 0),
                run(3, NATIVE_ZERO, 0, 0), run(4, 0, 51, 7),          run(3, 3, 7, 105),
        };
        expect(&file, expected, 6);
        free(source.references);
        free(file.runs);
        free(parent.runs);
}

static void test_nothing_but_references(void **state) {
        struct native_file parent = file_of(parents, 3), file = file_of(NULL, 0);
        struct store_file source = { .name = (char *)"pages-1.img" };

        (void)state;
        for (uint64_t i = 0; i < 35; i++)
                store_refer(&source, &parent, i, 1);
        assert_int_equal(source.n_references, 1);
        assert_int_equal(native_weave(&source, &file, NULL), 0);
        const struct native_run expected[] = { run(10, 1, 0, 0), run(5, NATIVE_ZERO, 0, 0), run(20, 3, 7, 100) };
        expect(&file, expected, 3);
        free(source.references);
        free(file.runs);
        free(parent.runs);
}

static void test_pages_that_are_not_there(void **state) {
        struct native_file parent = file_of(parents, 3), file = file_of(NULL, 0);
        struct store_file source = { .name = (char *)"pages-1.img" };
        struct st_error *error = NULL;

        (void)state;
        store_refer(&source, &parent, 30, 6);
        assert_int_equal(native_weave(&source, &file, &error), -EBADMSG);
        assert_int_equal(file.n, 0);
        st_error_free(error);
        free(source.references);
        free(file.runs);
        free(parent.runs);
}

static void test_a_list_of_ancestors_that_is_full(void **state) {
        struct native_run zero = run(1, NATIVE_ZERO, 0, 0), last = run(1, NATIVE_ANCESTORS_MAX - 1, 0, 0),
                          over = run(1, NATIVE_ANCESTORS_MAX, 0, 0);

        (void)state;
        assert_true(native_can_refer(&zero));
        assert_true(native_can_refer(&last));
        assert_false(native_can_refer(&over));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_weave),
                cmocka_unit_test(test_nothing_but_references),
                cmocka_unit_test(test_pages_that_are_not_there),
                cmocka_unit_test(test_a_list_of_ancestors_that_is_full),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
