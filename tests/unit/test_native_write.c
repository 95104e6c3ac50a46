/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_common.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "image/native.h"
#include "image/page_table.h"
#include "image/store.h"

#define PAGE NATIVE_PAGE
#define PAGES 1500

struct rig {
        char *directory, *path, *partial;
        struct image_write options;
        struct store *store;
};

static void rig_start(struct rig *rig, const char *directory, const char *name, uint64_t budget) {
        *rig = (struct rig){ .directory = xstrdup(directory) };
        rig->path = xasprintf("%s/%s.stasis", directory, name);
        rig->partial = image_partial_path(rig->path, "1");
        rig->options = options_for((struct kind){ IMAGE_NATIVE, 0 }, rig->path, rig->partial);
        rig->store = store_new(budget, rig->directory);
}

static void rig_clear(struct rig *rig) {
        store_free(rig->store);
        free(rig->directory);
        free(rig->path);
        free(rig->partial);
}

/** Page `number` of a made process: every 8th is zero, every 5th like the one at 3; the rest by its version. */
static void make_page(uint8_t *page, size_t number, uint64_t version) {
        uint64_t random_state = number % 5 == 0 ? 3 : number * 1000003 + version * 77 + 1;
        for (size_t i = 0; i < PAGE; i += 8) {
                uint64_t value = number % 8 == 0 ? 0 : next_random(&random_state);
                memcpy(page + i, &value, 8);
        }
}

/** Of every 20th page there is a new version. */
static uint64_t version_of(size_t number, uint64_t version) {
        return number % 20 == 1 ? version : 0;
}

static void add_pages(struct store *store, size_t n, uint64_t version) {
        struct st_error *error = NULL;
        struct store_file *file = store_add(store, "pages-1.img", &error);
        assert_non_null(file);
        uint8_t page[PAGE];
        for (size_t i = 0; i < n; i++) {
                make_page(page, i, version_of(i, version));
                assert_ok(store_append(store, file, page, PAGE, &error), error);
        }
}

static void add_data(struct store *store, const char *name, size_t n) {
        struct st_error *error = NULL;
        struct store_file *file = store_add(store, name, &error);
        uint8_t *bytes = make_bytes(n, n);
        assert_ok(store_append(store, file, bytes, n, &error), error);
        free(bytes);
}

/** A frame, decoded; the last one is kept. */
struct reader {
        struct native *native;
        struct native_coder *coder;
        uint8_t *stored, *frame;
        uint32_t source, number;
        bool filled;
};

static const uint8_t *get_frame(struct reader *reader, uint32_t source, uint32_t number) {
        struct st_error *error = NULL;
        if (!reader->filled || reader->source != source || reader->number != number)
                assert_ok(native_read_frame(reader->native, source, number, reader->coder, reader->stored,
                                            reader->frame, &error),
                          error);
        reader->source = source;
        reader->number = number;
        reader->filled = true;
        return reader->frame;
}

static struct reader open_reader(const char *path) {
        struct st_error *error = NULL;
        struct reader reader = { .coder = native_coder_new(),
                                 .stored = xmalloc(NATIVE_STORED_MAX),
                                 .frame = xmalloc(NATIVE_FRAME_MAX) };
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_ok(native_open(path, fd, &reader.native, &error), error);
        return reader;
}

static void close_reader(struct reader *reader) {
        native_free(reader->native);
        native_coder_free(reader->coder);
        free(reader->stored);
        free(reader->frame);
}

static const struct native_file *find(const struct reader *reader, const char *name) {
        const struct native_file *file = native_find(reader->native, name);
        assert_non_null(file);
        return file;
}

static void check_pages(struct reader *reader, size_t n, uint64_t version) {
        const struct native_file *file = find(reader, "pages-1.img");
        uint8_t expected[PAGE];
        size_t number = 0;
        assert_int_equal(file->kind, NATIVE_PAGES);
        assert_int_equal(file->size, n * PAGE);
        for (uint32_t i = 0; i < file->n; i++)
                for (uint32_t k = 0; k < file->runs[i].count; k++, number++) {
                        const struct native_run *run = &file->runs[i];
                        make_page(expected, number, version_of(number, version));
                        if (run->source == NATIVE_ZERO)
                                assert_true(native_page_is_zero(expected));
                        else if (memcmp(get_frame(reader, run->source, run->frame) + (run->page + k) * PAGE, expected,
                                        PAGE) != 0)
                                fail_msg("page %zu differs", number);
                }
        assert_int_equal(number, n);
}

static void check_data(struct reader *reader, const char *name, size_t n) {
        const struct native_file *file = find(reader, name);
        uint8_t *expected = make_bytes(n, n);
        size_t at = 0;
        assert_int_equal(file->kind, NATIVE_DATA);
        assert_int_equal(file->size, n);
        for (uint32_t i = 0; i < file->n; at += file->extents[i++].length)
                assert_memory_equal(get_frame(reader, 0, file->extents[i].frame) + file->extents[i].offset,
                                    expected + at, file->extents[i].length);
        assert_int_equal(at, n);
        free(expected);
}

static size_t count_stored_pages(const struct native *native) {
        size_t n = 0;
        for (uint32_t i = 0; i < native->index.n_frames; i++)
                if (native->index.frames[i].kind == NATIVE_PAGES)
                        n += native->index.frames[i].decoded / PAGE;
        return n;
}

/** What the page digests say of the pages that are stored. */
static void check_digests(struct reader *reader) {
        struct st_error *error = NULL;
        uint8_t *digests, *at;
        size_t n;
        assert_ok(native_read_digests(reader->native, 0, &digests, &n, &error), error);
        assert_int_equal(n, count_stored_pages(reader->native));
        at = digests;
        for (uint32_t i = 0; i < reader->native->index.n_frames; i++) {
                const struct native_frame *frame = &reader->native->index.frames[i];
                for (uint32_t k = 0; frame->kind == NATIVE_PAGES && k < frame->decoded / PAGE; k++, at += 16)
                        assert_true(hash_equal(native_get_digest(at),
                                               native_page_digest(get_frame(reader, 0, i) + k * PAGE,
                                                                  reader->native->sources[0].header.seed)));
        }
        free(digests);
}

/** Every 8th is zero, of each 5 one that is not is the same: (7/8) × (4/5) + 1, but for the remainders. */
#define STORED (PAGES * 7 / 8 * 4 / 5 + 1)

static void write_and_check(struct rig *rig, size_t pages, uint64_t version, size_t stored) {
        struct st_error *error = NULL;
        assert_ok(image_write(rig->store, &rig->options, &error), error);
        struct reader reader = open_reader(rig->path);
        check_pages(&reader, pages, version);
        check_data(&reader, "core-1.img", 700);
        check_data(&reader, "ghost-file-1.img", 5 * MIB + 1);
        check_data(&reader, "empty.img", 0);
        check_digests(&reader);
        if (stored > 0)
                assert_in_range(count_stored_pages(reader.native), stored - 2, stored + 2);
        close_reader(&reader);
        assert_int_equal(access(rig->partial, F_OK), -1);
}

static void fill(struct rig *rig, size_t pages, uint64_t version) {
        add_data(rig->store, "core-1.img", 700);
        add_data(rig->store, "empty.img", 0);
        add_pages(rig->store, pages, version);
        add_data(rig->store, "ghost-file-1.img", 5 * MIB + 1);
}

static void test_round_trip(void **state) {
        (void)state;
        static const unsigned threads[] = { 0, 1, 2, 8, 1000 };
        char *directory = make_directory();
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                for (enum native_codec codec = i == 0 ? NATIVE_RAW : NATIVE_ZSTD; codec <= NATIVE_ZSTD; codec++)
                        /* In memory, and with most of it spilled. */
                        for (uint64_t budget = 1; budget <= 64; budget += 63) {
                                _cleanup_free_ char *name = xasprintf("%zu-%d-%d", i, (int)codec, (int)budget);
                                struct rig rig;
                                rig_start(&rig, directory, name, budget * MIB);
                                fill(&rig, PAGES, 0);
                                rig.options.threads = threads[i];
                                rig.options.codec = codec;
                                write_and_check(&rig, PAGES, 0, STORED);
                                rig_clear(&rig);
                        }
        remove_directory(directory);
}

static void test_zero_pages(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rig;
        rig_start(&rig, directory, "zeros", 64 * MIB);
        struct store_file *file = store_add(rig.store, "pages-1.img", &error);
        uint8_t *zeros = xcalloc(9 * MIB, 1);
        assert_ok(store_append(rig.store, file, zeros, 9 * MIB, &error), error);
        free(zeros);
        assert_ok(image_write(rig.store, &rig.options, &error), error);
        struct reader reader = open_reader(rig.path);
        assert_int_equal(reader.native->index.n_frames, 0);
        assert_int_equal(find(&reader, "pages-1.img")->n, 1);
        assert_int_equal(find(&reader, "pages-1.img")->runs[0].count, 9 * MIB / PAGE);
        close_reader(&reader);
        rig_clear(&rig);
        remove_directory(directory);
}

/** Three pages of text, then in turn 16 random ones and 16 of text, among which one is random all the same. */
static bool in_random_block(size_t number) {
        return number >= 3 && (number - 3) % 32 < 16;
}

static void make_mixed_page(uint8_t *page, size_t number) {
        uint64_t random_state = number + 1;
        for (size_t i = 0; i < PAGE; i += 16) {
                uint64_t value[2] = { next_random(&random_state), next_random(&random_state) };
                bool is_random = in_random_block(number) || number % 32 == 28;
                char text[17];
                (void)snprintf(text, sizeof(text), "line %9zu.\n", number * PAGE + i);
                memcpy(page + i, is_random ? (const void *)value : text, 16);
        }
}

/** What does not compress is apart, wherever it begins; but what is one behind the other is not torn for one page. */
static void test_dense_pages(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rig;
        size_t n_raw = 0;
        rig_start(&rig, directory, "mixed", 64 * MIB);
        struct store_file *file = store_add(rig.store, "pages-1.img", &error);
        uint8_t page[PAGE];
        for (size_t i = 0; i < 512; i++) {
                make_mixed_page(page, i);
                assert_ok(store_append(rig.store, file, page, PAGE, &error), error);
        }
        rig.options.threads = 1;
        rig.options.codec = NATIVE_ZSTD;
        assert_ok(image_write(rig.store, &rig.options, &error), error);
        struct reader reader = open_reader(rig.path);
        const struct native_file *pages = find(&reader, "pages-1.img");
        for (size_t i = 0, number = 0; i < pages->n; i++)
                for (size_t k = 0; k < pages->runs[i].count; k++, number++) {
                        make_mixed_page(page, number);
                        assert_memory_equal(get_frame(&reader, 0, pages->runs[i].frame) +
                                                    (pages->runs[i].page + k) * PAGE,
                                            page, PAGE);
                        bool raw = reader.native->index.frames[pages->runs[i].frame].codec == NATIVE_RAW;
                        assert_true(raw == in_random_block(number));
                        n_raw += raw;
                }
        assert_int_equal(n_raw, 256);
        assert_in_range(pages->n, 33, 33 + reader.native->index.n_frames); /* blocks, and ends of frames */
        close_reader(&reader);
        rig_clear(&rig);
        remove_directory(directory);
}

/** The extents of a store need not end with a page: they do not when a pipe was spliced into the spill file. */
static void test_odd_extents(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rig;
        rig_start(&rig, directory, "odd", 3 * PAGE);
        struct store_file *file = store_add(rig.store, "pages-1.img", &error), *other;
        uint8_t *pages = xmalloc(PAGES * PAGE);
        for (size_t i = 0; i < PAGES; i++)
                make_page(pages + i * PAGE, i, 0);
        other = store_add(rig.store, "other.img", &error);
        for (size_t at = 0; at < PAGES * PAGE;) {
                size_t n = 300001 < PAGES * PAGE - at ? 300001 : PAGES * PAGE - at;
                assert_ok(store_append(rig.store, file, pages + at, n, &error), error);
                assert_ok(store_append(rig.store, other, "x", 1, &error), error);
                at += n;
        }
        free(pages);
        assert_true(file->n_extents > 4);
        assert_ok(image_write(rig.store, &rig.options, &error), error);
        struct reader reader = open_reader(rig.path);
        check_pages(&reader, PAGES, 0);
        close_reader(&reader);
        rig_clear(&rig);
        remove_directory(directory);
}

/** What has the name of pages, and is no whole pages, is data. */
static void test_no_whole_pages(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rig;
        rig_start(&rig, directory, "part", 64 * MIB);
        add_data(rig.store, "pages-7.img", 5 * PAGE + 1);
        assert_ok(image_write(rig.store, &rig.options, &error), error);
        struct reader reader = open_reader(rig.path);
        check_data(&reader, "pages-7.img", 5 * PAGE + 1);
        close_reader(&reader);
        rig_clear(&rig);
        remove_directory(directory);
}

static off_t size_of(const char *path) {
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        return st.st_size;
}

static void test_parents(void **state) {
        (void)state;
        char *directory = make_directory(), *first_path = xasprintf("%s/first.stasis", directory);
        struct rig first, second, third;
        rig_start(&first, directory, "first", 64 * MIB);
        fill(&first, PAGES, 0);
        write_and_check(&first, PAGES, 0, STORED);
        rig_start(&second, directory, "second", 64 * MIB);
        fill(&second, PAGES, 1);
        second.options.parent = first.path;
        write_and_check(&second, PAGES, 1, PAGES / 20);
        rig_start(&third, directory, "third", 64 * MIB);
        fill(&third, PAGES + 100, 1);
        third.options.parent = second.path;
        write_and_check(&third, PAGES + 100, 1, 0);

        struct reader reader = open_reader(third.path);
        const struct native_index *index = &reader.native->index;
        assert_true(count_stored_pages(reader.native) < 110);
        assert_int_equal(index->n_ancestors, 2);
        assert_string_equal(index->ancestors[0].name, "second.stasis");
        assert_string_equal(index->ancestors[1].name, "first.stasis");
        assert_string_equal(index->ancestors[1].path, first_path);
        assert_int_equal(reader.native->sources[0].header.seed, reader.native->sources[2].header.seed);
        close_reader(&reader);
        assert_true(size_of(third.path) - 5 * (off_t)MIB < size_of(first.path));

        struct image *image;
        struct st_error *error = NULL;
        assert_ok(image_open(third.path, &image, &error), error);
        assert_ok(image_verify(image, -EBADF, &error), error);
        image_free(image);
        rig_clear(&first);
        rig_clear(&second);
        rig_clear(&third);
        free(first_path);
        remove_directory(directory);
}

/** A parent is in the list even when nothing refers to it; other ancestors are when something does. */
static void test_parent_of_another(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rigs[3];
        for (size_t i = 0; i < 3; i++) {
                _cleanup_free_ char *name = xasprintf("%zu", i);
                rig_start(&rigs[i], directory, name, 64 * MIB);
                add_data(rigs[i].store, "pages-1.img", (100 + i) * PAGE);
                rigs[i].options.parent = i > 0 ? rigs[i - 1].path : NULL;
                assert_ok(image_write(rigs[i].store, &rigs[i].options, &error), error);
                struct reader reader = open_reader(rigs[i].path);
                assert_int_equal(reader.native->index.n_ancestors, i > 0 ? 1 : 0);
                close_reader(&reader);
        }
        for (size_t i = 0; i < 3; i++)
                rig_clear(&rigs[i]);
        remove_directory(directory);
}

static void test_parent_lost(void **state) {
        (void)state;
        char *directory = make_directory();
        struct rig rig;
        for (int early = 0; early < 2; early++) {
                struct st_error *error = NULL;
                rig_start(&rig, directory, "orphan", 64 * MIB);
                fill(&rig, 10, 0);
                rig.options.parent = "/nonexistent/parent.stasis";
                assert_int_equal(early ? image_write_early(rig.store, &rig.options, &error)
                                       : image_write(rig.store, &rig.options, &error),
                                 -ENOENT);
                assert_non_null(strstr(st_error_message(error), "/nonexistent/parent.stasis"));
                st_error_free(error);
                assert_int_equal(count_entries(directory), 0);
                rig_clear(&rig);
        }
        remove_directory(directory);
}

static void cancel_half_way(uint64_t done, uint64_t total, void *userdata) {
        if (done >= total / 2)
                eventfd_write(*(int *)userdata, 1);
}

static void test_cancel_half_way(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        int cancel = eventfd(0, EFD_CLOEXEC);
        struct rig rig;
        rig_start(&rig, directory, "c", 64 * MIB);
        fill(&rig, 10 * PAGES, 0);
        rig.options.cancel_fd = cancel;
        rig.options.progress = cancel_half_way;
        rig.options.userdata = &cancel;
        assert_int_equal(image_write(rig.store, &rig.options, &error), -ECANCELED);
        st_error_free(error);
        assert_int_equal(count_entries(directory), 0);
        /* The store is used up: what is left of it is never taken for the whole. */
        rig.options.cancel_fd = -EBADF;
        rig.options.progress = NULL;
        assert_true(image_write(rig.store, &rig.options, NULL) < 0);
        assert_int_equal(count_entries(directory), 0);
        rig_clear(&rig);
        close(cancel);
        remove_directory(directory);
}

/** A store larger than its memory is encoded while it is filled; when nothing can be spilled, memory is waited for. */
static void test_early(void **state) {
        (void)state;
        char *directory = make_directory();
        for (unsigned threads = 1; threads <= 4; threads++) {
                _cleanup_free_ char *name = xasprintf("early-%u", threads);
                struct st_error *error = NULL;
                struct rig rig;
                rig_start(&rig, directory, name, 4 * MIB);
                rig.options.threads = threads;
                rig.store->spill_full = threads > 2;
                assert_ok(image_write_early(rig.store, &rig.options, &error), error);
                assert_int_equal(access(rig.partial, F_OK), -1); /* not yet */
                fill(&rig, 4 * PAGES, 0);
                assert_int_equal(access(rig.partial, F_OK), 0);
                if (threads > 2)
                        assert_true(rig.store->spill_fd < 0);
                write_and_check(&rig, 4 * PAGES, 0, 4 * PAGES * 7 / 8 * 4 / 5 + 1);
                rig_clear(&rig);
        }
        remove_directory(directory);
}

/** Prepared, and never needed: written like any other. */
static void test_early_unneeded(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rig;
        rig_start(&rig, directory, "e", 64 * MIB);
        assert_ok(image_write_early(rig.store, &rig.options, &error), error);
        fill(&rig, PAGES, 0);
        assert_int_equal(count_entries(directory), 0);
        write_and_check(&rig, PAGES, 0, STORED);
        rig_clear(&rig);
        remove_directory(directory);
}

static void test_early_abandoned(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        struct rig rig;
        rig_start(&rig, directory, "a", 2 * MIB);
        assert_ok(image_write_early(rig.store, &rig.options, &error), error);
        fill(&rig, 2 * PAGES, 0);
        assert_int_equal(count_entries(directory), 1);
        rig_clear(&rig);
        assert_int_equal(count_entries(directory), 0);
        remove_directory(directory);
}

/** Who fills the store learns that it cannot be written, and does not wait for ever. */
static void test_early_cancelled(void **state) {
        (void)state;
        char *directory = make_directory();
        struct st_error *error = NULL;
        uint8_t *bytes = make_bytes(MIB, 1);
        int cancel = eventfd(1, EFD_CLOEXEC), r = 0;
        struct rig rig;
        rig_start(&rig, directory, "a", 2 * MIB);
        rig.options.cancel_fd = cancel;
        rig.store->spill_full = true;
        assert_ok(image_write_early(rig.store, &rig.options, &error), error);
        struct store_file *file = store_add(rig.store, "pages-1.img", &error);
        for (int i = 0; i < 64 && r == 0; i++)
                r = store_append(rig.store, file, bytes, MIB, &error);
        assert_int_equal(r, -ECANCELED);
        st_error_free(error);
        rig_clear(&rig);
        assert_int_equal(count_entries(directory), 0);
        free(bytes);
        close(cancel);
        remove_directory(directory);
}

static void test_page_table(void **state) {
        (void)state;
        struct page_table *table = page_table_new();
        struct native_frame frames[] = {
                { .kind = NATIVE_PAGES, .decoded = 2 * PAGE },
                { .kind = NATIVE_DATA, .decoded = 5 },
                { .kind = NATIVE_PAGES, .decoded = PAGE },
        };
        uint8_t *digests = xcalloc(3, 16);
        struct page_place place;
        for (uint64_t i = 0; i < 3; i++)
                native_put_digest(digests + 16 * i, (struct hash){ i, 1000 });
        assert_int_equal(page_table_add_source(table, frames, 3, digests), 1);
        page_table_open_frame(table, 0);
        assert_true(page_table_add(table, (struct hash){ 2, 1000 }, (struct page_place){ 0 }, &place));
        assert_int_equal(place.frame, 2);
        assert_int_equal(place.page, 0);
        assert_int_equal(place.source, 1);
        assert_true(page_table_add(table, (struct hash){ 1, 1000 }, (struct page_place){ 0 }, &place));
        assert_int_equal(place.page, 1);
        /* Many for the same slot, with the same tag: their digests differ elsewhere. */
        for (uint32_t i = 0; i < 20000; i++) {
                struct page_place at = { i / 256, (uint16_t)(i % 256), 0 };
                if (i > 0 && i % 256 == 0)
                        page_table_open_frame(table, i / 256);
                assert_false(page_table_add(table, (struct hash){ 5, (uint64_t)i << 40 | 7 }, at, &place));
                if (i >= 300)
                        break;
        }
        for (uint32_t i = 0; i < 20000; i++) {
                struct page_place at = { 100 + i / 256, (uint16_t)(i % 256), 0 };
                if (i % 256 == 0)
                        page_table_open_frame(table, 100 + i / 256);
                struct hash digest = { i * UINT64_C(0x9e3779b97f4a7c15), i };
                assert_false(page_table_add(table, digest, at, &place));
        }
        for (uint32_t i = 0; i < 20000; i++) {
                struct hash digest = { i * UINT64_C(0x9e3779b97f4a7c15), i };
                assert_true(page_table_add(table, digest, (struct page_place){ 0 }, &place));
                assert_int_equal(place.frame, 100 + i / 256);
                assert_int_equal(place.page, i % 256);
                assert_int_equal(place.source, 0);
                assert_true(hash_equal(native_get_digest(page_table_digests(table, place.frame) + 16 * place.page),
                                       digest));
        }
        page_table_free(table);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_page_table),      cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_dense_pages),     cmocka_unit_test(test_zero_pages),
                cmocka_unit_test(test_odd_extents),     cmocka_unit_test(test_no_whole_pages),
                cmocka_unit_test(test_parents),         cmocka_unit_test(test_parent_of_another),
                cmocka_unit_test(test_parent_lost),     cmocka_unit_test(test_cancel_half_way),
                cmocka_unit_test(test_early),           cmocka_unit_test(test_early_unneeded),
                cmocka_unit_test(test_early_abandoned), cmocka_unit_test(test_early_cancelled),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
