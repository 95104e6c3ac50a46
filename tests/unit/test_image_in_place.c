/* SPDX-License-Identifier: Apache-2.0 */

/* A directory that somebody else has filled becomes the checkpoint as it is. */

#include "test_image_common.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "image/partial.h"

struct place {
        char *directory, *destination, *partial, *file;
        struct store *store;
        struct image_write options;
        int lock;
};

static void make_place(struct place *place, size_t size) {
        uint8_t *bytes = make_bytes(size, 3);

        place->directory = make_directory();
        place->destination = path_join(place->directory, "cp");
        place->partial = image_partial_path(place->destination, "1");
        place->file = path_join(place->partial, "pages-1.img");
        place->options = (struct image_write){
                .format = IMAGE_NONE,
                .destination = place->destination,
                .partial = place->partial,
                .in_place = true,
                .uid = geteuid(),
                .gid = getegid(),
                .cancel_fd = -EBADF,
        };
        place->lock = partial_make(&place->options, true);
        assert_true(place->lock >= 0);
        assert_int_equal(io_put_file(place->file, (const char *)bytes, size, 0644), 0);
        free(bytes);
        place->store = store_new(MIB, place->directory);
        struct store_file *state = store_add(place->store, IMAGE_STATE, NULL);
        assert_int_equal(store_append(place->store, state, "{}", 2, NULL), 0);
        assert_non_null(store_add_path(place->store, "pages-1.img", place->file, size, NULL));
}

static void clear_place(struct place *place) {
        store_free(place->store);
        close(place->lock);
        free(place->file);
        free(place->partial);
        free(place->destination);
        remove_directory(place->directory);
}

static void test_same_inode(void **unused) {
        struct st_error *error = NULL;
        struct image *image = NULL;
        struct place place;
        struct stat before, after;

        (void)unused;
        make_place(&place, 3 * MIB + 5);
        assert_int_equal(stat(place.file, &before), 0);
        assert_ok(image_write(place.store, &place.options, &error), error);
        char *path = path_join(place.destination, "pages-1.img");
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        assert_int_equal(after.st_mode & 07777, 0600);
        assert_ok(image_open(place.destination, &image, &error), error);
        assert_int_equal(image_file_count(image), 2);
        assert_ok(image_verify(image, -EBADF, &error), error);
        image_free(image);
        assert_int_not_equal(access(place.partial, F_OK), 0);
        free(path);
        clear_place(&place);
}

static void test_refused(void **unused) {
        (void)unused;
        for (int i = 0; i < 3; i++) {
                struct st_error *error = NULL;
                struct place place;

                make_place(&place, 100);
                if (i == 0) /* it grows still */
                        assert_int_equal(truncate(place.file, 101), 0);
                else if (i == 1)
                        assert_int_equal(unlink(place.file), 0);
                else
                        assert_int_equal(mkdir(place.destination, 0700), 0);
                assert_true(image_write(place.store, &place.options, &error) < 0);
                assert_non_null(error);
                st_error_free(error);
                /* What stood there stays; the hidden one is whoever made it to remove, when nothing was begun. */
                assert_int_equal(access(place.destination, F_OK), i == 2 ? 0 : -1);
                assert_int_equal(access(place.partial, F_OK), i == 2 ? 0 : -1);
                clear_place(&place);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_inode),
                cmocka_unit_test(test_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
