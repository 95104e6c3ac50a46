/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Chains of native images: A, its child B, that one's child C. Whatever is done to them, what is still there reads as
 * it was written.
 */

#include "test_image_common.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "image/native.h"
#include "image/native_chain.h"
#include "image/native_fold.h"
#include "image/native_release.h"

#define PAGE NATIVE_PAGE
#define PAGES 700
/** Of so many pages each image of the chain changes one. */
#define STEP 10
#define LENGTH 4

struct chain {
        char *directory;
        char *paths[LENGTH];
};

/** How a page of an image looks. */
typedef void (*page_maker)(uint8_t *page, size_t number, size_t image);

/** Image n of the chain changes the pages with the remainder n; 0 has them all. Some are zero, some are alike. */
static void make_page(uint8_t *page, size_t number, size_t image) {
        size_t version = number % STEP <= image ? number % STEP : 0;
        uint64_t random_state = (number % 7 == 0 ? 7 : number * 1000003) + version * 77 + 1;
        for (size_t i = 0; i < PAGE; i += 8) {
                uint64_t value = number % 9 == 0 ? 0 : next_random(&random_state);
                memcpy(page + i, &value, 8);
        }
}

/** Each image changes one page of twenty, here and there. */
static void make_scattered(uint8_t *page, size_t number, size_t image) {
        uint64_t version = 0;
        for (size_t i = 1; i <= image; i++) {
                uint64_t random_state = number * 1000003 + i * 7919 + 1;
                for (int k = 0; k < 3; k++)
                        (void)next_random(&random_state);
                if (random_state % 20 == 0)
                        version = i;
        }
        uint64_t random_state = number * 1000003 + version * 77 + 1;
        for (size_t i = 0; i < PAGE; i += 8) {
                uint64_t value = next_random(&random_state);
                memcpy(page + i, &value, 8);
        }
}

static char *write_pages(const char *directory, const char *name, page_maker make, size_t image, const char *parent) {
        char *path = xasprintf("%s/%s.stasis", directory, name);
        _cleanup_free_ char *partial = image_partial_path(path, "1");
        struct image_write options = options_for((struct kind){ IMAGE_NATIVE, 0 }, path, partial);
        struct store *store = store_new(64 * MIB, directory);
        struct st_error *error = NULL;
        struct store_file *pages = store_add(store, "pages-1.img", &error);
        uint8_t page[PAGE];
        for (size_t i = 0; i < PAGES; i++) {
                make(page, i, image);
                assert_ok(store_append(store, pages, page, PAGE, &error), error);
        }
        struct store_file *state = store_add(store, IMAGE_STATE, &error);
        assert_ok(store_append(store, state, name, strlen(name), &error), error);
        options.parent = parent;
        options.threads = 2;
        assert_ok(image_write(store, &options, &error), error);
        store_free(store);
        return path;
}

static char *write_image(const char *directory, const char *name, size_t image, const char *parent) {
        return write_pages(directory, name, make_page, image, parent);
}

static const char *const names[LENGTH] = { "a", "b", "c", "d" };

static void chain_start(struct chain *chain) {
        chain->directory = make_directory();
        for (size_t i = 0; i < LENGTH; i++)
                chain->paths[i] = write_image(chain->directory, names[i], i, i > 0 ? chain->paths[i - 1] : NULL);
}

static void chain_end(struct chain *chain) {
        for (size_t i = 0; i < LENGTH; i++)
                free(chain->paths[i]);
        remove_directory(chain->directory);
}

static void check_pages(const char *path, page_maker make, size_t image) {
        struct st_error *error = NULL;
        struct image *opened = NULL;
        uint8_t page[PAGE], expected[PAGE];
        assert_ok(image_open(path, &opened, &error), error);
        assert_ok(image_verify(opened, -EBADF, &error), error);
        FILE *out = tmpfile();
        assert_non_null(out);
        assert_ok(image_copy_to_fd(opened, "pages-1.img", fileno(out), &error), error);
        for (size_t i = 0; i < PAGES; i++) {
                assert_int_equal(pread(fileno(out), page, PAGE, (off_t)(i * PAGE)), PAGE);
                make(expected, i, image);
                if (memcmp(page, expected, PAGE) != 0)
                        fail_msg("%s: page %zu differs", path, i);
        }
        fclose(out);
        image_free(opened);
}

static void check_content(const char *path, size_t image) {
        check_pages(path, make_page, image);
}

static struct native *open_alone(const char *path) {
        struct st_error *error = NULL;
        struct native *native = NULL;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_ok(native_open_alone(path, fd, &native, &error), error);
        return native;
}

static void get_id(const char *path, uint8_t id[NATIVE_ID]) {
        struct native *native = open_alone(path);
        memcpy(id, native->sources[0].header.id, NATIVE_ID);
        native_free(native);
}

static uint32_t count_ancestors(const char *path) {
        struct native *native = open_alone(path);
        uint32_t n = native->index.n_ancestors;
        native_free(native);
        return n;
}

static off_t size_of(const char *path) {
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        return st.st_size;
}

static ino_t inode_of(const char *path) {
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        return st.st_ino;
}

/** Makes the image at a path independent of one, NULL: of all. */
static int fold(const char *path, const char *ancestor, int cancel_fd, struct st_error **err) {
        uint8_t id[1][NATIVE_ID];
        struct native_fold options = { .path = path, .cancel_fd = cancel_fd };
        if (ancestor) {
                get_id(ancestor, id[0]);
                options.drop = (const uint8_t(*)[NATIVE_ID])id;
                options.n_drop = 1;
        }
        return native_fold(&options, err);
}

static void fold_well(const char *path, const char *ancestor) {
        struct st_error *error = NULL;
        assert_ok(fold(path, ancestor, -EBADF, &error), error);
}

static void test_fold_all(void **state) {
        (void)state;
        struct chain chain;
        uint8_t before[NATIVE_ID], after[NATIVE_ID];
        chain_start(&chain);
        get_id(chain.paths[2], before);
        assert_int_equal(count_ancestors(chain.paths[2]), 2);
        fold_well(chain.paths[2], NULL);
        get_id(chain.paths[2], after);
        assert_memory_equal(before, after, NATIVE_ID);
        assert_int_equal(count_ancestors(chain.paths[2]), 0);
        assert_int_equal(unlink(chain.paths[0]), 0);
        assert_int_equal(unlink(chain.paths[1]), 0);
        check_content(chain.paths[2], 2);
        assert_int_equal(count_entries(chain.directory), 2);
        /* Again: nothing to do. */
        ino_t inode = inode_of(chain.paths[2]);
        fold_well(chain.paths[2], NULL);
        assert_int_equal(inode_of(chain.paths[2]), inode);
        chain_end(&chain);
}

/** The second finds in the first what this one took over. */
static void test_fold_in_order(void **state) {
        (void)state;
        struct chain chain;
        chain_start(&chain);
        off_t before[LENGTH], base = size_of(chain.paths[0]);
        for (size_t i = 0; i < LENGTH; i++)
                before[i] = size_of(chain.paths[i]);
        fold_well(chain.paths[1], chain.paths[0]);
        assert_true(size_of(chain.paths[1]) > base * 8 / 10);
        for (size_t i = 0; i < LENGTH; i++)
                check_content(chain.paths[i], i);
        for (size_t i = 2; i < LENGTH; i++) {
                struct native *native = open_alone(chain.paths[i]);
                uint32_t frames = native->index.n_frames;
                native_free(native);
                fold_well(chain.paths[i], chain.paths[0]);
                native = open_alone(chain.paths[i]);
                assert_int_equal(native->index.n_frames, frames);
                assert_int_equal(native->index.n_ancestors, i - 1);
                native_free(native);
                assert_true(size_of(chain.paths[i]) < before[i] + 20000);
        }
        assert_int_equal(unlink(chain.paths[0]), 0);
        for (size_t i = 1; i < LENGTH; i++)
                check_content(chain.paths[i], i);
        /* A child of what was folded. */
        char *child = write_image(chain.directory, "child", LENGTH - 1, chain.paths[LENGTH - 1]);
        check_content(child, LENGTH - 1);
        assert_true(size_of(child) < base / 10);
        free(child);
        chain_end(&chain);
}

static void test_fold_of_stranger(void **state) {
        (void)state;
        struct chain chain;
        chain_start(&chain);
        char *stranger = write_image(chain.directory, "stranger", 0, NULL);
        ino_t inode = inode_of(chain.paths[1]);
        fold_well(chain.paths[1], stranger);
        assert_int_equal(inode_of(chain.paths[1]), inode);
        free(stranger);
        chain_end(&chain);
}

static void test_destination(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        uint8_t id[NATIVE_ID], copy_id[NATIVE_ID];
        chain_start(&chain);
        char *elsewhere = make_directory(), *copy = path_join(elsewhere, "copy.stasis");
        const struct native_fold fold = { .path = chain.paths[3], .destination = copy, .cancel_fd = -EBADF };
        ino_t inode = inode_of(chain.paths[3]);
        assert_ok(native_fold(&fold, &error), error);
        assert_int_equal(inode_of(chain.paths[3]), inode);
        get_id(chain.paths[3], id);
        get_id(copy, copy_id);
        assert_memory_not_equal(id, copy_id, NATIVE_ID);
        assert_int_equal(native_fold(&fold, &error), -EEXIST);
        assert_non_null(strstr(st_error_message(error), copy));
        st_error_free(error);
        for (size_t i = 0; i < LENGTH; i++)
                assert_int_equal(unlink(chain.paths[i]), 0);
        check_content(copy, 3);
        assert_int_equal(count_entries(elsewhere), 1);
        free(copy);
        remove_directory(elsewhere);
        chain_end(&chain);
}

static void test_cancelled(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        int cancel = eventfd(1, EFD_CLOEXEC);
        chain_start(&chain);
        ino_t inode = inode_of(chain.paths[2]);
        assert_int_equal(fold(chain.paths[2], NULL, cancel, &error), -ECANCELED);
        st_error_free(error);
        assert_int_equal(inode_of(chain.paths[2]), inode);
        assert_int_equal(count_entries(chain.directory), LENGTH);
        close(cancel);
        chain_end(&chain);
}

/** What cannot be written ends it, and nothing is left: here a limit of sizes, which stands for the full disk. */
static void test_no_room(void **state) {
        (void)state;
        struct chain chain;
        chain_start(&chain);
        ino_t inode = inode_of(chain.paths[2]);
        pid_t pid = fork();
        if (pid == 0) {
                const struct rlimit limit = { 1 << 20, 1 << 20 };
                (void)signal(SIGXFSZ, SIG_IGN);
                (void)setrlimit(RLIMIT_FSIZE, &limit);
                _exit(fold(chain.paths[2], NULL, -EBADF, NULL) == -EFBIG ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(inode_of(chain.paths[2]), inode);
        assert_int_equal(count_entries(chain.directory), LENGTH);
        for (size_t i = 0; i < LENGTH; i++)
                check_content(chain.paths[i], i);
        chain_end(&chain);
}

static void flip(const char *path, off_t offset) {
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, offset), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

/** Damage is never copied under a new checksum. */
static void test_damaged(void **state) {
        (void)state;
        struct chain chain;
        chain_start(&chain);
        ino_t inode = inode_of(chain.paths[1]);
        for (size_t i = 0; i < 2; i++) { /* of the ancestor, of the image itself */
                struct st_error *error = NULL;
                flip(chain.paths[i], 1000);
                assert_int_equal(fold(chain.paths[1], NULL, -EBADF, &error), -EBADMSG);
                assert_non_null(strstr(st_error_message(error), chain.paths[i]));
                st_error_free(error);
                flip(chain.paths[i], 1000);
                assert_int_equal(inode_of(chain.paths[1]), inode);
                assert_int_equal(count_entries(chain.directory), LENGTH);
        }
        chain_end(&chain);
}

static void test_ancestor_lost(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        chain_start(&chain);
        assert_int_equal(unlink(chain.paths[0]), 0);
        assert_int_equal(fold(chain.paths[2], NULL, -EBADF, &error), -ENOENT);
        assert_non_null(strstr(st_error_message(error), "a.stasis"));
        st_error_free(error);
        chain_end(&chain);
}

struct folding {
        const char *path, *ancestor;
        int r;
};

static void *fold_in_thread(void *userdata) {
        struct folding *folding = userdata;
        folding->r = fold(folding->path, folding->ancestor, -EBADF, NULL);
        return NULL;
}

/** Until the hidden file is there. */
static void wait_for_partial(const char *path) {
        _cleanup_free_ char *partial = image_partial_path(path, "f01d");
        for (int i = 0; i < 3000 && access(partial, F_OK) < 0; i++)
                usleep(10000);
        assert_int_equal(access(partial, F_OK), 0);
}

/** While somebody writes a child of it, what it refers to keeps its place. */
static void test_held(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        pthread_t thread;
        chain_start(&chain);
        struct native *held = NULL;
        int fd = open(chain.paths[2], O_RDONLY | O_CLOEXEC);
        assert_ok(native_open(chain.paths[2], fd, &held, &error), error);
        close(fd);
        assert_ok(native_hold(held, -EBADF, &error), error);
        ino_t inode = inode_of(chain.paths[1]);
        struct folding folding = { .path = chain.paths[1] };
        assert_int_equal(pthread_create(&thread, NULL, fold_in_thread, &folding), 0);
        wait_for_partial(chain.paths[1]);
        usleep(100000);
        assert_int_equal(inode_of(chain.paths[1]), inode);
        native_free(held);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(folding.r, 0);
        assert_int_not_equal(inode_of(chain.paths[1]), inode);
        for (size_t i = 0; i < LENGTH; i++)
                check_content(chain.paths[i], i);
        chain_end(&chain);
}

/** A second fold of the same file. */
static void test_twice_at_once(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        pthread_t thread;
        chain_start(&chain);
        int lock = native_lock(chain.paths[1], false, -EBADF, &error);
        assert_ok(lock, error);
        struct folding folding = { .path = chain.paths[1] };
        assert_int_equal(pthread_create(&thread, NULL, fold_in_thread, &folding), 0);
        wait_for_partial(chain.paths[1]);
        assert_int_equal(fold(chain.paths[1], NULL, -EBADF, &error), -EBUSY);
        st_error_free(error);
        close(lock);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(folding.r, 0);
        check_content(chain.paths[1], 1);
        chain_end(&chain);
}

/** Killed whenever it may be: all is whole, and the next one cleans up. */
static void test_killed(void **state) {
        (void)state;
        struct chain chain;
        uint64_t random_state = 20261123;
        int rounds = getenv("STASIS_STRESS") ? 300 : 25, replaced = 0;
        chain_start(&chain);
        char *first = xasprintf("%s/first", chain.directory);
        assert_int_equal(rename(chain.paths[1], first), 0);
        for (int i = 0; i < rounds; i++) {
                (void)unlink(chain.paths[1]);
                assert_int_equal(link(first, chain.paths[1]), 0);
                ino_t inode = inode_of(chain.paths[1]);
                pid_t pid = fork();
                if (pid == 0)
                        _exit(fold(chain.paths[1], chain.paths[0], -EBADF, NULL) < 0);
                usleep((useconds_t)(next_random(&random_state) % 15000));
                (void)kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, NULL, 0), pid);
                replaced += inode_of(chain.paths[1]) != inode;
                check_content(chain.paths[1], 1);
                check_content(chain.paths[2], 2);
        }
        print_message("# replaced in %d of %d rounds\n", replaced, rounds);
        fold_well(chain.paths[1], chain.paths[0]);
        assert_int_equal(count_entries(chain.directory), LENGTH + 1);
        free(first);
        chain_end(&chain);
}

static void test_dependents(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        uint8_t id[NATIVE_ID];
        _cleanup_strv_ struct strv found = { 0 };
        chain_start(&chain);
        char *elsewhere = make_directory();
        char *other = write_image(elsewhere, "other", 3, chain.paths[1]), *missing = path_join(elsewhere, "missing");
        char *stranger = write_image(chain.directory, "stranger", 0, NULL);
        char *damaged = write_image(chain.directory, "damaged", 2, chain.paths[0]);
        char *hidden = image_partial_path(chain.paths[0], "abc");
        assert_int_equal(truncate(damaged, size_of(damaged) - 1), 0);
        assert_int_equal(link(chain.paths[1], hidden), 0);
        char *others[] = { other, chain.paths[3], missing };
        const struct native_place place = { chain.paths[0], others, ELEMENTSOF(others) };
        get_id(chain.paths[0], id);
        assert_ok(native_dependents(&place, id, &found, &error), error);
        assert_int_equal(found.n, 4);
        assert_string_equal(found.items[0], chain.paths[1]);
        assert_true(streq(found.items[1], chain.paths[2]) || streq(found.items[1], other));
        assert_true(streq(found.items[2], chain.paths[2]) || streq(found.items[2], other));
        assert_string_equal(found.items[3], chain.paths[3]);
        free(other);
        free(missing);
        free(stranger);
        free(damaged);
        free(hidden);
        remove_directory(elsewhere);
        chain_end(&chain);
}

static void test_release(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        chain_start(&chain);
        char *elsewhere = make_directory(), *other = write_image(elsewhere, "other", 1, chain.paths[0]);
        struct native_release release = { .place = { .others = &other, .n_others = 1 }, .cancel_fd = -EBADF };
        for (size_t i = 0; i < LENGTH; i++) {
                _cleanup_strv_ struct strv folded = { 0 };
                release.place.path = chain.paths[i];
                assert_ok(native_release(&release, &folded, &error), error);
                assert_int_equal(access(chain.paths[i], F_OK), -1);
                assert_in_range(folded.n, LENGTH - 1 - i, LENGTH - i);
                for (size_t k = i + 1; k < LENGTH; k++)
                        check_content(chain.paths[k], k);
                check_content(other, 1);
                assert_int_equal(count_entries(chain.directory), LENGTH - 1 - i);
        }
        assert_int_equal(native_release(&release, NULL, &error), -ENOENT);
        st_error_free(error);
        free(other);
        remove_directory(elsewhere);
        chain_end(&chain);
}

/** One that has nothing of its parent's parent finds there what this one has taken over. */
static void test_siblings(void **state) {
        (void)state;
        char *directory = make_directory(), *paths[4];
        struct st_error *error = NULL;
        for (size_t i = 0; i < 4; i++) /* all alike */
                paths[i] = write_image(directory, names[i], 0, i > 0 ? paths[i - 1] : NULL);
        assert_int_equal(count_ancestors(paths[3]), 2);
        for (size_t i = 0; i < 3; i++) {
                const struct native_release release = { .place = { .path = paths[i] }, .cancel_fd = -EBADF };
                assert_ok(native_release(&release, NULL, &error), error);
                for (size_t k = i + 1; k < 4; k++) {
                        check_content(paths[k], 0);
                        if (k > i + 1)
                                assert_true(size_of(paths[k]) < 20000);
                }
        }
        for (size_t i = 0; i < 4; i++)
                free(paths[i]);
        remove_directory(directory);
}

/** From the middle and to a hidden name; then what is no native image. */
static void test_release_hidden(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        chain_start(&chain);
        char *hidden = image_partial_path(chain.paths[1], "abc"), *plain = path_join(chain.directory, "plain");
        struct native_release release = { .place = { .path = chain.paths[1] }, .hidden = hidden, .cancel_fd = -EBADF };
        assert_ok(native_release(&release, NULL, &error), error);
        assert_int_equal(access(hidden, F_OK), 0);
        check_content(chain.paths[0], 0);
        check_content(chain.paths[2], 2);
        check_content(chain.paths[3], 3);
        assert_int_equal(count_ancestors(chain.paths[3]), 2);
        assert_int_equal(mkdir(plain, 0700), 0);
        release = (struct native_release){ .place = { .path = plain }, .cancel_fd = -EBADF };
        assert_ok(native_release(&release, NULL, &error), error);
        assert_int_equal(access(plain, F_OK), -1);
        free(plain);
        free(hidden);
        chain_end(&chain);
}

/** What nobody needs any more is not carried on for ever. */
static void test_no_growth(void **state) {
        (void)state;
        char *directory = make_directory(), *paths[3] = { NULL };
        struct st_error *error = NULL;
        off_t first = 0;
        for (size_t i = 0; i < 60; i++) {
                _cleanup_free_ char *name = xasprintf("%zu", i);
                char *path = write_pages(directory, name, make_scattered, i, paths[2]);
                const struct native_release release = { .place = { .path = paths[0] }, .cancel_fd = -EBADF };
                if (paths[0])
                        assert_ok(native_release(&release, NULL, &error), error);
                free(paths[0]);
                paths[0] = paths[1];
                paths[1] = paths[2];
                paths[2] = path;
                first = i == 0 ? size_of(path) : first;
        }
        assert_true(size_of(paths[0]) < first * 2);
        assert_true(size_of(paths[2]) < first / 4);
        for (size_t i = 0; i < 3; i++) {
                check_pages(paths[i], make_scattered, 57 + i);
                free(paths[i]);
        }
        assert_int_equal(count_entries(directory), 3);
        remove_directory(directory);
}

/** Who needs it and cannot take it over keeps it. */
static void test_release_refused(void **state) {
        (void)state;
        struct chain chain;
        struct st_error *error = NULL;
        chain_start(&chain);
        struct native_release release = { .place = { .path = chain.paths[0] }, .cancel_fd = -EBADF };
        flip(chain.paths[2], 200);
        assert_int_equal(native_release(&release, NULL, &error), -EBADMSG);
        assert_non_null(strstr(st_error_message(error), chain.paths[2]));
        st_error_free(error);
        error = NULL;
        assert_int_equal(access(chain.paths[0], F_OK), 0);
        check_content(chain.paths[1], 1);
        /* And when that one is gone: */
        assert_int_equal(unlink(chain.paths[2]), 0);
        assert_int_equal(unlink(chain.paths[3]), 0);
        assert_ok(native_release(&release, NULL, &error), error);
        check_content(chain.paths[1], 1);
        chain_end(&chain);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fold_all),
                cmocka_unit_test(test_fold_in_order),
                cmocka_unit_test(test_fold_of_stranger),
                cmocka_unit_test(test_destination),
                cmocka_unit_test(test_cancelled),
                cmocka_unit_test(test_no_room),
                cmocka_unit_test(test_damaged),
                cmocka_unit_test(test_ancestor_lost),
                cmocka_unit_test(test_held),
                cmocka_unit_test(test_twice_at_once),
                cmocka_unit_test(test_killed),
                cmocka_unit_test(test_dependents),
                cmocka_unit_test(test_release),
                cmocka_unit_test(test_release_hidden),
                cmocka_unit_test(test_release_refused),
                cmocka_unit_test(test_no_growth),
                cmocka_unit_test(test_siblings),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
