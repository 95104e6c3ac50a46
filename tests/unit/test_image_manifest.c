/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_common.h"

#include <errno.h>

#include "image/manifest.h"

static char *make_text(size_t *ret_size) {
        struct manifest manifest = { .format = IMAGE_ZSTD };
        manifest_add(&manifest, "stasis.json", 17, hash_of("a", 1));
        manifest_add(&manifest, "pages-1.img", UINT64_C(9) << 30, hash_of("b", 1));
        manifest_add(&manifest, "empty name.img", 0, hash_of("", 0));
        char *text = manifest_to_text(&manifest, ret_size);
        manifest_clear(&manifest);
        return text;
}

static void test_hash(void **state) {
        (void)state;
        char text[HASH_TEXT + 1];
        /* The published value of the empty input with seed 0. */
        hash_to_text(hash_of("", 0), text);
        assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
        struct hash hash;
        assert_true(hash_from_text(text, &hash));
        assert_true(hash_equal(hash, hash_of("", 0)));
        assert_false(hash_from_text("99AA06d3014798d86001c324468d497f", &hash));
        assert_false(hash_from_text("99aa06d3014798d86001c324468d497g", &hash));

        struct hasher *hasher = hasher_new();
        uint8_t *bytes = make_bytes(100000, 3);
        for (size_t at = 0; at < 100000; at += 1000)
                hasher_update(hasher, bytes + at, 1000);
        assert_true(hash_equal(hasher_finish(hasher), hash_of(bytes, 100000)));
        assert_true(hash_equal(hasher_finish(hasher), hash_of("", 0)));
        hasher_free(hasher);
        free(bytes);
}

static void test_round_trip(void **state) {
        (void)state;
        size_t size, again_size;
        char *text = make_text(&size);
        struct manifest manifest = { 0 };
        struct st_error *error = NULL;
        assert_ok(manifest_parse(text, size, &manifest, &error), error);
        assert_int_equal(manifest.format, IMAGE_ZSTD);
        assert_int_equal(manifest.n, 3);
        assert_int_equal(manifest.total, (UINT64_C(9) << 30) + 17);
        const struct manifest_entry *entry = manifest_find(&manifest, "pages-1.img");
        assert_ptr_equal(entry, &manifest.entries[1]);
        assert_int_equal(entry->size, UINT64_C(9) << 30);
        assert_true(hash_equal(entry->hash, hash_of("b", 1)));
        assert_non_null(manifest_find(&manifest, "empty name.img"));
        assert_null(manifest_find(&manifest, "pages-2.img"));
        char *again = manifest_to_text(&manifest, &again_size);
        assert_int_equal(size, again_size);
        assert_memory_equal(text, again, size);
        free(again);
        manifest_clear(&manifest);
        free(text);
}

static void assert_refused(const char *text, size_t size, const char *what, size_t at) {
        struct manifest manifest = { 0 };
        struct st_error *error = NULL;
        int r = manifest_parse(text, size, &manifest, &error);
        if (r != -EBADMSG)
                fail_msg("%s at %zu: %d instead of -EBADMSG", what, at, r);
        assert_non_null(error);
        assert_int_equal(manifest.n, 0);
        st_error_free(error);
}

static void test_truncation_and_flips(void **state) {
        (void)state;
        size_t size;
        char *text = make_text(&size);
        for (size_t n = 0; n < size; n++)
                assert_refused(text, n, "truncated", n);
        for (size_t bit = 0; bit < size * 8; bit++) {
                text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
                assert_refused(text, size, "flipped bit", bit);
                text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        }
        char *longer = xasprintf("%s\n", text);
        assert_refused(longer, size + 1, "a byte more", size);
        free(longer);
        free(text);
}

/** A manifest with a right checksum and other lines. */
static void refuse_lines(const char *lines) {
        char hex[HASH_TEXT + 1];
        hash_to_text(hash_of(lines, strlen(lines)), hex);
        char *text = xasprintf("%send %s\n", lines, hex);
        assert_refused(text, strlen(text), lines, 0);
        free(text);
}

#define HEAD "stasis-manifest 1\nformat none\n"
#define HASH "99aa06d3014798d86001c324468d497f"

static void test_strict(void **state) {
        (void)state;
        refuse_lines("stasis-manifest 2\nformat none\n");
        refuse_lines("stasis-manifest 1\nformat lz5\n");
        refuse_lines("stasis-manifest 1\n");
        refuse_lines(HEAD "file 1 " HASH " ../a\n");
        refuse_lines(HEAD "file 1 " HASH " a/b\n");
        refuse_lines(HEAD "file 1 " HASH " ..\n");
        refuse_lines(HEAD "file 1 " HASH " \n");
        refuse_lines(HEAD "file 1 " HASH " stasis.manifest\n");
        refuse_lines(HEAD "file 1 " HASH " a\nfile 1 " HASH " a\n");
        refuse_lines(HEAD "file 01 " HASH " a\n");
        refuse_lines(HEAD "file -1 " HASH " a\n");
        refuse_lines(HEAD "file  " HASH " a\n");
        refuse_lines(HEAD "file 99999999999999999999999 " HASH " a\n");
        refuse_lines(HEAD "file 1152921504606846977 " HASH " a\n");
        refuse_lines(HEAD "file 1 " HASH "a\n");
        refuse_lines(HEAD "file 1 99 a\n");
        refuse_lines(HEAD "other 1 " HASH " a\n");
        refuse_lines(HEAD "\n");
        refuse_lines(HEAD "end " HASH "\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hash),
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_truncation_and_flips),
                cmocka_unit_test(test_strict),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
