/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Damage to native images: cut anywhere, bits flipped anywhere, parents that are lost, changed or damaged. Each is
 * refused when the image is opened, or verified; and no file of it is ever read as something that it is not.
 * STASIS_STRESS=1 flips 10,000 bits.
 */

#include "test_native_rig.h"

#include <sys/stat.h>

#define FLIPS 500
#define FLIPS_STRESS 10000
#define PARENT_PAGES 6
#define OWN_PAGES 5

struct sample_image {
        char *directory, *path, *parent_path;
        struct native_build image, parent;
};

static void make_pages(uint8_t *pages, size_t n, uint64_t first) {
        for (size_t i = 0; i < n; i++)
                fill_page(pages + i * NATIVE_PAGE, first + i);
}

static void make_parent(struct native_build *build) {
        uint8_t pages[PARENT_PAGES * NATIVE_PAGE];
        make_pages(pages, PARENT_PAGES, 100);
        build_begin(build, 1);
        build_frame(build, NATIVE_PAGES, NATIVE_LZ4, pages, 2 * NATIVE_PAGE);
        build_frame(build, NATIVE_PAGES, NATIVE_ZSTD, pages + 2 * NATIVE_PAGE, 4 * NATIVE_PAGE);
        const struct native_run runs[] = { { 2, 0, 0, 0 }, { 4, 1, 0, 0 } };
        build_pages(build, "pages-1.img", runs, ELEMENTSOF(runs));
        build_finish(build);
}

/** Each codec, both kinds, zeros, pages of a parent. */
static void make_image(struct native_build *build, const struct native_build *parent, const char *parent_path) {
        uint8_t pages[OWN_PAGES * NATIVE_PAGE], *data = make_bytes(3000, 7);
        make_pages(pages, OWN_PAGES, 0);
        build_begin(build, 2);
        build_ancestor(build, parent, "parent.stasis", parent_path);
        build_frame(build, NATIVE_DATA, NATIVE_RAW, data, 1000);
        build_frame(build, NATIVE_PAGES, NATIVE_ZSTD, pages, 3 * NATIVE_PAGE);
        build_frame(build, NATIVE_DATA, NATIVE_LZ4, data + 1000, 2000);
        build_frame(build, NATIVE_PAGES, NATIVE_RAW, pages + 3 * NATIVE_PAGE, 2 * NATIVE_PAGE);
        free(data);
        const struct native_extent state[] = { { 300, 0, 0 } }, core[] = { { 700, 0, 300 }, { 2000, 2, 0 } };
        build_data(build, "stasis.json", state, ELEMENTSOF(state));
        build_data(build, "core-1.img", core, ELEMENTSOF(core));
        build_data(build, "empty.img", NULL, 0);
        const struct native_run runs[] = { { 2, 1, 1, 0 }, { 3, 0, 0, NATIVE_ZERO }, { 3, 1, 1, 1 },
                                           { 2, 3, 0, 0 }, { 1, 0, 1, 1 },           { 1, 1, 0, 0 } };
        build_pages(build, "pages-1.img", runs, ELEMENTSOF(runs));
        build_finish(build);
}

/** The bytes of pages-1.img, as made above. */
static void expect_pages(uint8_t *pages) {
        static const int numbers[] = { 1, 2, -1, -1, -1, 103, 104, 105, 3, 4, 101, 0 };
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++, pages += NATIVE_PAGE) {
                if (numbers[i] < 0)
                        memset(pages, 0, NATIVE_PAGE);
                else
                        fill_page(pages, (uint64_t)numbers[i]);
        }
}
#define ALL_PAGES ((size_t)12 * NATIVE_PAGE)

static void sample_make(struct sample_image *sample) {
        sample->directory = make_directory();
        sample->path = path_join(sample->directory, "cp.stasis");
        sample->parent_path = path_join(sample->directory, "parent.stasis");
        make_parent(&sample->parent);
        make_image(&sample->image, &sample->parent, "/nonexistent/parent.stasis");
        build_write(&sample->parent, sample->parent_path);
        build_write(&sample->image, sample->path);
}

static void sample_clear(struct sample_image *sample) {
        build_clear(&sample->image);
        build_clear(&sample->parent);
        free(sample->path);
        free(sample->parent_path);
        remove_directory(sample->directory);
}

/** Reads a file. What is read wholly is what was written. */
static int read_file(struct image *image, const char *name, const uint8_t *expected, size_t n, struct st_error **err) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = image_read(image, name, &data, &size, err);
        if (r == 0 && (size != n || memcmp(data, expected, n) != 0))
                fail_msg("%s was read as something else", name);
        return r;
}

/** Opens, verifies and reads all. @return 0; the first error */
static int use(const char *path, struct st_error **err) {
        _cleanup_(image_freep) struct image *image = NULL;
        uint8_t pages[ALL_PAGES];
        int result = image_open(path, &image, err);
        if (result < 0)
                return result;
        result = image_verify(image, -EBADF, err);
        _cleanup_free_ uint8_t *data = make_bytes(3000, 7);
        const struct {
                const char *name;
                const uint8_t *bytes;
                size_t n;
        } files[] = {
                { "stasis.json", data, 300 },
                { "core-1.img", data + 300, 2700 },
                { "empty.img", data, 0 },
                { "pages-1.img", pages, ALL_PAGES },
        };
        expect_pages(pages);
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_error_ struct st_error *error = NULL;
                int r = read_file(image, files[i].name, files[i].bytes, files[i].n, &error);
                if (r < 0 && result == 0)
                        result = st_error_move(err, TAKE_PTR(error));
        }
        return result;
}

static void assert_whole(const struct sample_image *sample) {
        struct st_error *error = NULL;
        assert_ok(use(sample->path, &error), error);
}

/** Is it refused, with this number, and the message has all of these texts? */
static void assert_refused(const char *path, int number, const char *text, const char *other) {
        _cleanup_error_ struct st_error *error = NULL;
        int r = use(path, &error);
        const char *message = st_error_message(error);
        if (r != number || !strstr(message, text) || !strstr(message, other))
                fail_msg("%s: %d %s", path, r, message);
}

static void test_whole(void **state) {
        struct sample_image sample;
        (void)state;
        sample_make(&sample);
        assert_whole(&sample);
        sample_clear(&sample);
}

static void truncate_everywhere(const char *opened, const char *path, const struct native_build *build) {
        for (size_t n = build->size; n-- > 0;) {
                assert_int_equal(truncate(path, (off_t)n), 0);
                _cleanup_error_ struct st_error *error = NULL;
                _cleanup_(image_freep) struct image *image = NULL;
                int r = image_open(opened, &image, &error);
                bool not_native = opened != path && n < 8; /* an empty file in the ancestor's place is not it */
                if (r != -EBADMSG && !(not_native && r == -ESTALE))
                        fail_msg("%s with %zu of %zu bytes: %d %s", path, n, build->size, r, st_error_message(error));
        }
        build_write(build, path);
}

static void test_truncation(void **state) {
        struct sample_image sample;
        (void)state;
        sample_make(&sample);
        truncate_everywhere(sample.path, sample.path, &sample.image);
        truncate_everywhere(sample.path, sample.parent_path, &sample.parent);
        assert_whole(&sample);
        sample_clear(&sample);
}

static void test_longer(void **state) {
        struct sample_image sample;
        (void)state;
        sample_make(&sample);
        assert_int_equal(truncate(sample.path, (off_t)sample.image.size + 1), 0);
        assert_refused(sample.path, -EBADMSG, "cp.stasis is damaged", "footer");
        sample_clear(&sample);
}

static void put_byte(const char *path, size_t at, uint8_t byte) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
}

/** Flips a bit of a file, and expects that nothing is taken for whole; a version is another version then. */
static void flip_bit(const char *opened, const char *path, const struct native_build *build, size_t at, int bit) {
        _cleanup_error_ struct st_error *error = NULL;
        put_byte(path, at, build->bytes[at] ^ (uint8_t)(1 << bit));
        int r = use(opened, &error);
        bool expected = r == -EBADMSG || r == -EOPNOTSUPP || (opened != path && r == -ESTALE);
        if (!expected)
                fail_msg("%s with bit %d of byte %zu flipped: %d %s", path, bit, at, r, st_error_message(error));
        put_byte(path, at, build->bytes[at]);
}

static void test_flips(void **state) {
        const char *stress = getenv("STASIS_STRESS");
        int n = stress && stress[0] == '1' ? FLIPS_STRESS : FLIPS;
        uint64_t random = 20260101;
        struct sample_image sample;
        (void)state;
        sample_make(&sample);
        for (int i = 0; i < n; i++) {
                size_t at = (size_t)(next_random(&random) % sample.image.size);
                flip_bit(sample.path, sample.path, &sample.image, at, (int)(next_random(&random) % 8));
        }
        /* Header, index and footer wholly: they are small. */
        for (size_t at = 0; at < NATIVE_HEADER; at++)
                flip_bit(sample.path, sample.path, &sample.image, at, (int)(at % 8));
        for (size_t at = sample.image.size - NATIVE_FOOTER; at < sample.image.size; at++)
                flip_bit(sample.path, sample.path, &sample.image, at, (int)(at % 8));
        for (int i = 0; i < n / 5; i++) {
                size_t at = (size_t)(next_random(&random) % sample.parent.size);
                flip_bit(sample.path, sample.parent_path, &sample.parent, at, (int)(next_random(&random) % 8));
        }
        assert_whole(&sample);
        sample_clear(&sample);
}

static void test_lost_parent(void **state) {
        struct sample_image sample;
        (void)state;
        sample_make(&sample);
        assert_int_equal(unlink(sample.parent_path), 0);
        assert_refused(sample.path, -ENOENT, "cp.stasis", "parent.stasis is lost");
        assert_int_equal(symlink("/dev/null", sample.parent_path), 0);
        assert_refused(sample.path, -ENOENT, "cp.stasis", "parent.stasis is lost");
        assert_int_equal(unlink(sample.parent_path), 0);
        assert_int_equal(mkfifo(sample.parent_path, 0600), 0);
        assert_refused(sample.path, -ESTALE, "cp.stasis", "parent.stasis is no native image");
        assert_int_equal(unlink(sample.parent_path), 0);
        sample_clear(&sample);
}

/** An image without the parent's file is found by the path that it had. */
static void test_moved(void **state) {
        struct sample_image sample;
        struct native_build moved;
        (void)state;
        sample_make(&sample);
        _cleanup_free_ char *other = path_join(sample.directory, "other.stasis");
        make_image(&moved, &sample.parent, other);
        build_write(&moved, sample.path);
        assert_refused(sample.path, 0, "", ""); /* beside it, though the path leads nowhere */
        assert_int_equal(rename(sample.parent_path, other), 0);
        assert_refused(sample.path, 0, "", "");
        build_write(&sample.image, sample.parent_path); /* another image beside it does not matter then */
        assert_refused(sample.path, 0, "", "");
        assert_int_equal(unlink(other), 0);
        assert_refused(sample.path, -ESTALE, "cp.stasis", "parent.stasis is another image");
        build_clear(&moved);
        sample_clear(&sample);
}

static void test_changed_parent(void **state) {
        struct sample_image sample;
        struct native_build changed;
        uint8_t pages[PARENT_PAGES * NATIVE_PAGE];
        (void)state;
        sample_make(&sample);
        make_pages(pages, PARENT_PAGES, 200);
        for (int more = 0; more < 2; more++) { /* other frames; fewer */
                build_begin(&changed, 1);
                build_frame(&changed, NATIVE_PAGES, NATIVE_LZ4, pages, 2 * NATIVE_PAGE);
                if (more)
                        build_frame(&changed, NATIVE_PAGES, NATIVE_ZSTD, pages + 2 * NATIVE_PAGE, 4 * NATIVE_PAGE);
                const struct native_run run = { 2, 0, 0, 0 };
                build_pages(&changed, "pages-1.img", &run, 1);
                build_finish(&changed);
                build_write(&changed, sample.parent_path);
                assert_refused(sample.path, -ESTALE, "cp.stasis", "parent.stasis was changed");
                build_clear(&changed);
        }
        sample_clear(&sample);
}

/** Frames that a parent got later do not matter. */
static void test_grown_parent(void **state) {
        struct sample_image sample;
        struct native_build grown;
        uint8_t pages[PARENT_PAGES * NATIVE_PAGE];
        (void)state;
        sample_make(&sample);
        make_pages(pages, PARENT_PAGES, 100);
        build_begin(&grown, 1);
        build_frame(&grown, NATIVE_PAGES, NATIVE_LZ4, pages, 2 * NATIVE_PAGE);
        build_frame(&grown, NATIVE_PAGES, NATIVE_ZSTD, pages + 2 * NATIVE_PAGE, 4 * NATIVE_PAGE);
        build_frame(&grown, NATIVE_PAGES, NATIVE_RAW, pages, NATIVE_PAGE);
        const struct native_run run = { 1, 2, 0, 0 };
        build_pages(&grown, "pages-1.img", &run, 1);
        build_finish(&grown);
        build_write(&grown, sample.parent_path);
        assert_whole(&sample);
        build_clear(&grown);
        sample_clear(&sample);
}

/** Runs of an ancestor's frames that are not there, or not pages. */
static void test_wrong_runs(void **state) {
        static const struct native_run wrong[] = { { 1, 2, 0, 1 }, { 3, 0, 0, 1 }, { 1, 0, 2, 1 }, { 5, 1, 0, 1 } };
        struct sample_image sample;
        struct native_build image;
        (void)state;
        sample_make(&sample);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                build_begin(&image, 3);
                build_ancestor(&image, &sample.parent, "parent.stasis", "/nonexistent");
                build_pages(&image, "pages-1.img", &wrong[i], 1);
                build_finish(&image);
                build_write(&image, sample.path);
                assert_refused(sample.path, -EBADMSG, "cp.stasis is damaged", "");
                build_clear(&image);
        }
        sample_clear(&sample);
}

/** A page whose digest is another one's: nobody reads wrong bytes, but a child would take wrong pages for its own. */
static void test_wrong_page_digest(void **state) {
        struct native_build image;
        uint8_t page[NATIVE_PAGE];
        _cleanup_free_ char *path = NULL;
        char *directory = make_directory();
        (void)state;
        path = path_join(directory, "cp.stasis");
        fill_page(page, 1);
        build_begin(&image, 3);
        build_frame(&image, NATIVE_PAGES, NATIVE_RAW, page, sizeof(page));
        image.digests[3] ^= 1;
        const struct native_run run = { 1, 0, 0, 0 };
        build_pages(&image, "pages-1.img", &run, 1);
        build_finish(&image);
        build_write(&image, path);
        struct image *opened = NULL;
        struct st_error *error = NULL;
        assert_ok(image_open(path, &opened, &error), error);
        assert_int_equal(image_verify(opened, -EBADF, &error), -EBADMSG);
        assert_non_null(strstr(st_error_message(error), "wrong digest"));
        st_error_free(error);
        image_free(opened);
        build_clear(&image);
        remove_directory(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),          cmocka_unit_test(test_truncation),
                cmocka_unit_test(test_longer),         cmocka_unit_test(test_flips),
                cmocka_unit_test(test_lost_parent),    cmocka_unit_test(test_moved),
                cmocka_unit_test(test_changed_parent), cmocka_unit_test(test_grown_parent),
                cmocka_unit_test(test_wrong_runs),     cmocka_unit_test(test_wrong_page_digest),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
