/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_common.h"

#include "image/native_format.h"

static const struct native_header sample_header = { .id = { 1, 2, 3, [15] = 16 }, .seed = 0x0123456789abcdef };

static struct native_footer make_footer(void) {
        return (struct native_footer){
                .size = 64 + 1000 + 32 + 400 + 128,
                .digests_at = 64 + 1000,
                .index_at = 64 + 1000 + 32,
                .index_stored = 400,
                .index_decoded = 500,
                .index_codec = NATIVE_ZSTD,
                .digests = { 1, 2 },
                .index = { 3, 4 },
                .id = { 1, 2, 3, [15] = 16 },
        };
}

static struct native_index make_index(void) {
        struct native_index index = {
                .ancestors = xcalloc(2, sizeof(*index.ancestors)),
                .n_ancestors = 2,
                .frames = xcalloc(3, sizeof(*index.frames)),
                .n_frames = 3,
                .files = xcalloc(4, sizeof(*index.files)),
                .n_files = 4,
        };
        index.ancestors[0] = (struct native_ancestor){
                { 7 }, 5, { 8, 9 }, xstrdup("parent.stasis"), xstrdup("/srv/parent.stasis"),
        };
        index.ancestors[1] = (struct native_ancestor){ { 6 }, 1, { 1, 0 }, xstrdup("a\nb"), xstrdup("/a\nb") };
        index.frames[0] = (struct native_frame){ 64, 700, 1000, NATIVE_DATA, NATIVE_ZSTD, { 11, 12 } };
        index.frames[1] = (struct native_frame){ 764, 8192, 8192, NATIVE_PAGES, NATIVE_RAW, { 13, 14 } };
        index.frames[2] = (struct native_frame){ 8956, 1, NATIVE_FRAME_MAX, NATIVE_PAGES, NATIVE_LZ4, { 15, 16 } };
        index.files[0] = (struct native_file){ .name = xstrdup("stasis.json"), NATIVE_DATA, 1000, .n = 2 };
        index.files[0].extents = xcalloc(2, sizeof(struct native_extent));
        index.files[0].extents[0] = (struct native_extent){ 100, 0, 900 };
        index.files[0].extents[1] = (struct native_extent){ 900, 0, 0 };
        index.files[1] = (struct native_file){ .name = xstrdup("empty.img"), NATIVE_DATA, 0, .extents = NULL, .n = 0 };
        index.files[2] = (struct native_file){ .name = xstrdup("pages-1.img"), NATIVE_PAGES, 4096 * 1005ull, .n = 5 };
        index.files[2].runs = xcalloc(5, sizeof(struct native_run));
        index.files[2].runs[0] = (struct native_run){ 2, 1, 0, 0 };
        index.files[2].runs[1] = (struct native_run){ 800, 0, 0, NATIVE_ZERO };
        index.files[2].runs[2] = (struct native_run){ 200, 2, 312, 0 };
        index.files[2].runs[3] = (struct native_run){ 2, 4, 510, 1 };
        index.files[2].runs[4] = (struct native_run){ 1, 0, 0, 2 };
        index.files[3] = (struct native_file){ .name = xstrdup("pages-2.img"), NATIVE_PAGES, 0, .runs = NULL, .n = 0 };
        return index;
}

#define FRAMES_SIZE (700 + 8192 + 1)

/** A fresh index with one thing made wrong, which `change` does, is refused. */
#define assert_refused(change)                                                                             \
        do {                                                                                               \
                struct native_index index = make_index(), parsed = { 0 };                                  \
                struct st_error *error = NULL;                                                             \
                size_t size;                                                                               \
                change;                                                                                    \
                uint8_t *bytes = native_index_make(&index, &size);                                         \
                assert_non_null(bytes);                                                                    \
                assert_int_equal(native_index_parse(bytes, size, FRAMES_SIZE, &parsed, &error), -EBADMSG); \
                assert_non_null(error);                                                                    \
                assert_null(parsed.files);                                                                 \
                st_error_free(error);                                                                      \
                free(bytes);                                                                               \
                native_index_clear(&index);                                                                \
        } while (0)

static void test_header(void **state) {
        (void)state;
        uint8_t bytes[NATIVE_HEADER];
        struct native_header header;
        struct st_error *error = NULL;
        native_header_make(&sample_header, bytes);
        assert_true(native_recognise(bytes, sizeof(bytes)));
        assert_false(native_recognise(bytes, 7));
        assert_ok(native_header_parse(bytes, &header, &error), error);
        assert_memory_equal(header.id, sample_header.id, NATIVE_ID);
        assert_int_equal(header.seed, sample_header.seed);
        for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_true(native_header_parse(bytes, &header, NULL) < 0);
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        bytes[8] = 2;
        assert_int_equal(native_header_parse(bytes, &header, &error), -EOPNOTSUPP);
        st_error_free(error);
        native_header_make(&(struct native_header){ .seed = 1 }, bytes); /* no ID */
        assert_int_equal(native_header_parse(bytes, &header, NULL), -EBADMSG);
}

static void test_minor_version(void **state) {
        (void)state;
        uint8_t bytes[NATIVE_HEADER];
        struct native_header header;
        native_header_make(&sample_header, bytes);
        bytes[10] = 9;
        native_put_digest(bytes + 48, hash_of(bytes, 48));
        assert_int_equal(native_header_parse(bytes, &header, NULL), 0);
        bytes[40] = 1;
        native_put_digest(bytes + 48, hash_of(bytes, 48));
        assert_int_equal(native_header_parse(bytes, &header, NULL), -EBADMSG);
}

static int footer_with(struct native_footer footer) {
        uint8_t bytes[NATIVE_FOOTER];
        struct native_footer parsed;
        native_footer_make(&footer, bytes);
        return native_footer_parse(bytes, footer.size, &parsed, NULL);
}

static void test_footer(void **state) {
        (void)state;
        uint8_t bytes[NATIVE_FOOTER];
        const struct native_footer sample = make_footer();
        struct native_footer footer;
        struct st_error *error = NULL;
        native_footer_make(&sample, bytes);
        assert_ok(native_footer_parse(bytes, sample.size, &footer, &error), error);
        assert_int_equal(footer.digests_at, sample.digests_at);
        assert_int_equal(footer.index_at, sample.index_at);
        assert_int_equal(footer.index_stored, sample.index_stored);
        assert_int_equal(footer.index_decoded, sample.index_decoded);
        assert_int_equal(footer.index_codec, sample.index_codec);
        assert_true(hash_equal(footer.index, sample.index) && hash_equal(footer.digests, sample.digests));
        assert_memory_equal(footer.id, sample.id, NATIVE_ID);
        assert_int_equal(native_footer_parse(bytes, sample.size - 1, &footer, NULL), -EBADMSG);
        for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_true(native_footer_parse(bytes, sample.size, &footer, NULL) < 0);
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
}

static void test_footer_limits(void **state) {
        (void)state;
        struct native_footer footer = make_footer();
        assert_int_equal(footer_with(footer), 0);
        footer.digests_at = 63;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer.digests_at = footer.index_at + 16;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer.digests_at = footer.index_at - 17;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer = make_footer();
        footer.index_at = footer.size;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer = make_footer();
        footer.index_stored++;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer = make_footer();
        footer.index_decoded = NATIVE_INDEX_MAX + 1;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer.index_decoded = 400; /* not smaller: it would be stored as it is */
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer.index_codec = NATIVE_RAW;
        assert_int_equal(footer_with(footer), 0);
        footer.index_codec = NATIVE_LZ4;
        assert_int_equal(footer_with(footer), -EBADMSG);
        footer = make_footer();
        memset(footer.id, 0, sizeof(footer.id));
        assert_int_equal(footer_with(footer), -EBADMSG);
        assert_int_equal(footer_with((struct native_footer){ .size = 3, .id = { 1 } }), -EBADMSG);
}

static void test_index(void **state) {
        (void)state;
        struct native_index index = make_index(), parsed = { 0 };
        struct st_error *error = NULL;
        size_t size, again_size;
        uint8_t *bytes = native_index_make(&index, &size);
        assert_ok(native_index_parse(bytes, size, FRAMES_SIZE, &parsed, &error), error);
        assert_int_equal(parsed.n_ancestors, 2);
        assert_string_equal(parsed.ancestors[0].path, "/srv/parent.stasis");
        for (uint32_t i = 0; i < 3; i++)
                assert_int_equal(parsed.frames[i].offset, index.frames[i].offset);
        assert_int_equal(parsed.files[2].runs[1].source, NATIVE_ZERO);
        uint8_t *again = native_index_make(&parsed, &again_size);
        assert_int_equal(again_size, size);
        assert_memory_equal(again, bytes, size);
        assert_int_equal(native_index_parse(bytes, size, FRAMES_SIZE + 1, &parsed, NULL), -EBADMSG);
        assert_non_null(parsed.files); /* unchanged */
        free(again);
        free(bytes);
        native_index_clear(&parsed);
        native_index_clear(&index);
        bytes = native_index_make(&index, &size); /* nothing in it */
        assert_int_equal(size, 16);
        assert_int_equal(native_index_parse(bytes, size, 0, &parsed, NULL), 0);
        free(bytes);
        native_index_clear(&parsed);
}

/** Each truncation is refused; a flipped bit is, or is read as what it says now. The memory is exactly as large. */
static void test_index_damage(void **state) {
        (void)state;
        struct native_index index = make_index();
        size_t size, again_size;
        uint8_t *bytes = native_index_make(&index, &size);
        for (size_t n = 0; n <= size + 1; n++) {
                struct native_index parsed = { 0 };
                uint8_t *part = xcalloc(n, 1);
                memcpy(part, bytes, n < size ? n : size);
                assert_true((native_index_parse(part, n, FRAMES_SIZE, &parsed, NULL) == 0) == (n == size));
                free(part);
                native_index_clear(&parsed);
        }
        for (size_t bit = 0; bit < 8 * size; bit++) {
                struct native_index parsed = { 0 };
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
                if (native_index_parse(bytes, size, FRAMES_SIZE, &parsed, NULL) == 0) {
                        uint8_t *again = native_index_make(&parsed, &again_size);
                        assert_int_equal(again_size, size);
                        assert_memory_equal(again, bytes, size);
                        free(again);
                }
                native_index_clear(&parsed);
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        free(bytes);
        native_index_clear(&index);
}

static void rename_file(struct native_index *index, uint32_t i, const char *name) {
        free(index->files[i].name);
        index->files[i].name = xstrdup(name);
}

static void test_index_limits(void **state) {
        (void)state;
        char long_name[257] = { 0 };
        memset(long_name, 'x', 256);
        assert_refused(index.frames[1].decoded = 4096); /* as it is, yet of another size */
        assert_refused(index.frames[2].decoded = NATIVE_FRAME_MAX + 4096);
        assert_refused(index.frames[2].decoded = 4097);
        assert_refused(index.frames[0].decoded = 0);
        assert_refused(index.frames[0].kind = 3);
        assert_refused(index.frames[0].codec = 3);
        assert_refused(index.files[0].size++);
        assert_refused(index.files[2].size--);
        assert_refused(index.files[0].extents[0].offset++);
        assert_refused(index.files[0].extents[0].frame = 1); /* of pages */
        assert_refused(index.files[0].extents[0].frame = 3);
        assert_refused(index.files[2].runs[0].frame = 0); /* of data */
        assert_refused(index.files[2].runs[0].page = 1);
        assert_refused(index.files[2].runs[1].page = 1);
        assert_refused(index.files[2].runs[1].frame = 1);
        assert_refused(index.files[2].runs[3].page = 511);
        assert_refused(index.files[2].runs[3].frame = 5);
        assert_refused(index.files[2].runs[4].source = 3);
        assert_refused(index.files[3].kind = (enum native_kind)0);
        assert_refused(rename_file(&index, 1, "pages-1.img"));
        assert_refused(rename_file(&index, 1, ""));
        assert_refused(rename_file(&index, 1, "a/b"));
        assert_refused(rename_file(&index, 1, ".."));
        assert_refused(rename_file(&index, 1, long_name));
        assert_refused(index.ancestors[0].n_frames = NATIVE_FRAMES_MAX + 1);
        assert_refused(index.ancestors[0].name[3] = '/');
        assert_refused(index.ancestors[0].path[0] = 'x');
        assert_refused(memset(index.ancestors[1].id, 0, NATIVE_ID));
}

/** Sums that would come round to the right size. */
static void test_index_overflow(void **state) {
        (void)state;
        struct native_index index = make_index(), parsed = { 0 };
        size_t size;
        index.files[2].runs[1].count = UINT32_MAX;
        uint8_t *bytes = native_index_make(&index, &size);
        assert_int_equal(native_index_parse(bytes, size, FRAMES_SIZE, &parsed, NULL), -EBADMSG);
        free(bytes);
        index.files[2].size = ((uint64_t)UINT32_MAX + 205) * NATIVE_PAGE;
        bytes = native_index_make(&index, &size);
        assert_int_equal(native_index_parse(bytes, size, FRAMES_SIZE, &parsed, NULL), 0);
        native_index_clear(&parsed);
        memset(bytes, 0xff, 12); /* counts beyond all limits: nothing is allocated for them */
        assert_int_equal(native_index_parse(bytes, size, FRAMES_SIZE, &parsed, NULL), -EBADMSG);
        free(bytes);
        native_index_clear(&index);
}

/** As Python's xxhash tells, so that other readers agree: xxh3_128(b'').digest(), and of a page with a seed. */
static void test_digests(void **state) {
        (void)state;
        static const uint8_t of_nothing[16] = { 0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                                0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f };
        uint8_t bytes[16], page[NATIVE_PAGE] = { 0 };
        native_put_digest(bytes, hash_of("", 0));
        assert_memory_equal(bytes, of_nothing, 16);
        assert_true(hash_equal(native_get_digest(bytes), hash_of("", 0)));
        assert_true(hash_equal(native_page_digest(page, 0), hash_of(page, sizeof(page))));
        assert_false(hash_equal(native_page_digest(page, 1), hash_of(page, sizeof(page))));
        assert_true(native_page_is_zero(page));
        for (size_t i = 0; i < sizeof(page); i++) {
                page[i] = 0x80;
                assert_false(native_page_is_zero(page));
                page[i] = 0;
        }
}

static void check_coder(enum native_codec codec, const uint8_t *in, size_t size, enum native_codec expected) {
        _cleanup_(native_coder_freep) struct native_coder *coder = native_coder_new();
        uint8_t *out = xmalloc(NATIVE_STORED_MAX), *back = xmalloc(size);
        for (int turn = 0; turn < 2; turn++) { /* contexts are used again */
                struct native_frame frame = { .decoded = (uint32_t)size };
                ssize_t n = native_encode(coder, codec, in, size, out, &frame.codec);
                assert_true(n > 0 && (size_t)n <= size);
                assert_int_equal(frame.codec, expected);
                frame.stored = (uint32_t)n;
                frame.digest = hash_of(out, (size_t)n);
                assert_int_equal(native_decode(coder, &frame, out, back), 0);
                assert_memory_equal(in, back, size);
                out[n / 2] ^= 1;
                assert_int_equal(native_decode(coder, &frame, out, back), -EBADMSG);
                out[n / 2] ^= 1;
                frame.decoded--;
                assert_int_equal(native_decode(coder, &frame, out, back), -EBADMSG);
        }
        free(out);
        free(back);
}

static void test_coder(void **state) {
        (void)state;
        uint8_t *text = xcalloc(NATIVE_FRAME_MAX, 1), *random = xmalloc(NATIVE_FRAME_MAX + 8);
        uint64_t random_state = 4711;
        for (size_t i = 0; i < NATIVE_FRAME_MAX; i += 8) {
                uint64_t value = next_random(&random_state);
                memcpy(random + i, &value, 8);
                text[i] = (uint8_t)value & 15;
        }
        for (size_t size = 1; size <= NATIVE_FRAME_MAX; size *= 8) {
                check_coder(NATIVE_ZSTD, random, size, NATIVE_RAW);
                check_coder(NATIVE_LZ4, random, size, NATIVE_RAW);
                check_coder(NATIVE_RAW, text, size, NATIVE_RAW);
                check_coder(NATIVE_ZSTD, text, size, size < 64 ? NATIVE_RAW : NATIVE_ZSTD);
                check_coder(NATIVE_LZ4, text, size, size < 64 ? NATIVE_RAW : NATIVE_LZ4);
        }
        check_coder(NATIVE_ZSTD, text, NATIVE_FRAME_MAX, NATIVE_ZSTD);
        free(text);
        free(random);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_header),       cmocka_unit_test(test_minor_version),
                cmocka_unit_test(test_footer),       cmocka_unit_test(test_footer_limits),
                cmocka_unit_test(test_index),        cmocka_unit_test(test_index_damage),
                cmocka_unit_test(test_index_limits), cmocka_unit_test(test_index_overflow),
                cmocka_unit_test(test_digests),      cmocka_unit_test(test_coder),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
