/* SPDX-License-Identifier: Apache-2.0 */
#include "test_image_common.h"

#include <errno.h>

#include "base/spawn.h"
#include "image/tar.h"

struct memory {
        const uint8_t *data;
        size_t size, at;
};

static ssize_t read_memory(void *userdata, void *buffer, size_t n, struct st_error **err) {
        (void)err;
        struct memory *memory = userdata;
        size_t left = memory->size - memory->at;
        n = n < left ? n : left;
        memcpy(buffer, memory->data + memory->at, n);
        memory->at += n;
        return (ssize_t)n;
}

/** An archive of two files, with room for more; malloc'ed. */
static uint8_t *make_archive(size_t *ret_size) {
        uint8_t *archive = xcalloc(20, TAR_BLOCK);
        assert_int_equal(tar_make_header(archive, "first", 5, 0, 0, 1700000000), 0);
        memcpy(archive + TAR_BLOCK, "hello", 5);
        assert_int_equal(tar_make_header(archive + 2 * TAR_BLOCK, "second", 512, 1000, 100, 1700000000), 0);
        memset(archive + 3 * TAR_BLOCK, 'x', 512);
        *ret_size = 6 * TAR_BLOCK;
        return archive;
}

static void test_round_trip(void **state) {
        (void)state;
        size_t size;
        uint8_t *archive = make_archive(&size);
        for (int skip = 0; skip < 2; skip++) {
                struct memory memory = { archive, size, 0 };
                struct tar_reader reader = { .read = read_memory, .userdata = &memory };
                struct st_error *error = NULL;
                char buffer[600];
                assert_int_equal(tar_next(&reader, &error), 1);
                assert_string_equal(reader.name, "first");
                assert_int_equal(reader.size, 5);
                if (!skip) {
                        assert_int_equal(tar_read_data(&reader, buffer, 3, &error), 3);
                        assert_int_equal(tar_read_data(&reader, buffer + 3, sizeof(buffer) - 3, &error), 2);
                        assert_memory_equal(buffer, "hello", 5);
                        assert_int_equal(tar_read_data(&reader, buffer, sizeof(buffer), &error), 0);
                }
                assert_int_equal(tar_next(&reader, &error), 1);
                assert_string_equal(reader.name, "second");
                assert_int_equal(tar_next(&reader, &error), 0);
                assert_null(error);
        }
        free(archive);
}

static int read_all_of(const uint8_t *archive, size_t size, bool foreign) {
        struct memory memory = { archive, size, 0 };
        struct tar_reader reader = { .read = read_memory, .userdata = &memory, .foreign = foreign };
        struct st_error *error = NULL;
        int r;
        while ((r = tar_next(&reader, &error)) > 0) {}
        if (r == 0)
                r = tar_end(&reader, NULL, 0, &error);
        assert_true((r < 0) == (error != NULL));
        st_error_free(error);
        tar_clear(&reader);
        return r;
}

static int read_all(const uint8_t *archive, size_t size) {
        return read_all_of(archive, size, false);
}

static void test_truncation(void **state) {
        (void)state;
        size_t size;
        uint8_t *archive = make_archive(&size);
        for (size_t n = 0; n < size; n++)
                assert_int_equal(read_all(archive, n), -EBADMSG);
        assert_int_equal(read_all(archive, size), 0);
        assert_int_equal(read_all(archive, size + 4 * TAR_BLOCK), 0); /* padded to a larger block */
        archive[size + 600] = 1;
        assert_int_equal(read_all(archive, size + 4 * TAR_BLOCK), -EBADMSG);
        free(archive);
}

/** The last bytes may be something else than zeros, where the caller expects it. */
static void test_tail(void **state) {
        (void)state;
        size_t size;
        uint8_t *archive = make_archive(&size), tail[8];
        memcpy(archive + size + TAR_BLOCK - 8, "tailtail", 8);
        for (int blocks = 0; blocks < 3; blocks++) { /* without it, with it, and with one more behind it */
                struct memory memory = { archive, size + (size_t)blocks * TAR_BLOCK, 0 };
                struct tar_reader reader = { .read = read_memory, .userdata = &memory };
                while (tar_next(&reader, NULL) > 0) {}
                assert_int_equal(tar_end(&reader, tail, sizeof(tail), NULL), blocks == 1 ? 0 : -EBADMSG);
                if (blocks == 1)
                        assert_memory_equal(tail, "tailtail", 8);
        }
        archive[size + 3] = 1;
        struct memory memory = { archive, size + TAR_BLOCK, 0 };
        struct tar_reader reader = { .read = read_memory, .userdata = &memory };
        while (tar_next(&reader, NULL) > 0) {}
        assert_int_equal(tar_end(&reader, tail, sizeof(tail), NULL), -EBADMSG);
        free(archive);
}

/** Makes the checksum right after a field was changed. */
static void seal(uint8_t *header) {
        unsigned sum = 0;
        memset(header + 148, ' ', 8);
        for (size_t i = 0; i < TAR_BLOCK; i++)
                sum += header[i];
        snprintf((char *)header + 148, 8, "%06o", sum);
        header[155] = ' ';
}

static void refuse(size_t offset, const char *value, size_t length) {
        size_t size;
        uint8_t *archive = make_archive(&size);
        memcpy(archive + offset, value, length);
        seal(archive);
        assert_int_equal(read_all(archive, size), -EBADMSG);
        free(archive);
}

static void test_hostile(void **state) {
        (void)state;
        refuse(0, "../x", 5);
        refuse(0, "/etc/x", 7);
        refuse(0, "a/b", 4);
        refuse(0, "..", 3);
        refuse(0, "", 1);
        refuse(0, "a\nb", 4);
        for (const char *type = "1234567xgLKSV"; *type; type++)
                refuse(156, type, 1);
        refuse(257, "nonsen", 6);
        refuse(345, "dir", 3);
        refuse(124, "zzzzzzzzzzz", 11);
        refuse(124, "           ", 11);
        refuse(124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
        refuse(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
        refuse(124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);

        size_t size;
        uint8_t *archive = make_archive(&size);
        archive[10] ^= 1; /* without a new checksum */
        assert_int_equal(read_all(archive, size), -EBADMSG);
        free(archive);
}

static void test_sizes(void **state) {
        (void)state;
        const uint64_t sizes[] = { 0, 1, 077777777777, 0100000000000, UINT64_C(5) << 40 };
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                uint8_t block[TAR_BLOCK];
                assert_int_equal(tar_make_header(block, "pages-1.img", sizes[i], 0, 0, 0), 0);
                struct memory memory = { block, sizeof(block), 0 };
                struct tar_reader reader = { .read = read_memory, .userdata = &memory };
                assert_int_equal(tar_next(&reader, NULL), 1);
                assert_int_equal(reader.size, sizes[i]);
        }
        char name[TAR_NAME_MAX + 2];
        uint8_t block[TAR_BLOCK];
        memset(name, 'n', sizeof(name));
        name[TAR_NAME_MAX + 1] = 0;
        assert_int_equal(tar_make_header(block, name, 1, 0, 0, 0), -ENAMETOOLONG);
        name[TAR_NAME_MAX] = 0;
        assert_int_equal(tar_make_header(block, name, 1, 0, 0, 0), 0);
        struct memory memory = { block, sizeof(block), 0 };
        struct tar_reader reader = { .read = read_memory, .userdata = &memory };
        assert_int_equal(tar_next(&reader, NULL), 1);
        assert_string_equal(reader.name, name);
}

/** Puts a header (and a content) at a block of an archive. @return the next block */
static size_t put_entry(uint8_t *archive, size_t block, const char *name, char type, const char *text, size_t size) {
        uint8_t *header = archive + block * TAR_BLOCK;
        assert_int_equal(tar_make_header(header, name, size, 0, 0, 0), 0);
        header[156] = (uint8_t)type;
        seal(header);
        if (size > 0)
                memcpy(header + TAR_BLOCK, text, size);
        return block + 1 + (size + TAR_BLOCK - 1) / TAR_BLOCK;
}

/** Reads a foreign archive of up to two files. @return the names of its files, one space before each; malloc'ed */
static char *list_foreign(const uint8_t *archive, size_t blocks) {
        struct memory memory = { archive, blocks * TAR_BLOCK, 0 };
        struct tar_reader reader = { .read = read_memory, .userdata = &memory, .foreign = true };
        struct st_error *error = NULL;
        char *names = xstrdup("");
        int r;
        while ((r = tar_next(&reader, &error)) > 0) {
                char *more = xasprintf("%s %s:%d", names, reader.name, (int)reader.size);
                free(names);
                names = more;
        }
        if (r < 0) {
                free(names);
                names = xasprintf("refused: %s", st_error_message(error));
        }
        st_error_free(error);
        tar_clear(&reader);
        return names;
}

struct entry {
        const char *name;
        char type;
        const char *text;
};

static void check_foreign(const struct entry *entries, size_t n, const char *expected) {
        uint8_t *archive = xcalloc(40, TAR_BLOCK);
        size_t block = 0;
        for (size_t i = 0; i < n; i++)
                block = put_entry(archive, block, entries[i].name, entries[i].type, entries[i].text,
                                  entries[i].text ? strlen(entries[i].text) : 0);
        char *names = list_foreign(archive, block + 2);
        if (!strstr(names, expected))
                fail_msg("'%s' instead of '%s'", names, expected);
        free(names);
        free(archive);
}

#define FOREIGN(expected, ...)                               \
        check_foreign((const struct entry[]){ __VA_ARGS__ }, \
                      sizeof((const struct entry[]){ __VA_ARGS__ }) / sizeof(struct entry), expected)

static void test_foreign(void **state) {
        (void)state;
        FOREIGN(" a:1 b:2", { "a", '0', "x" }, { "b", 0, "xy" });
        FOREIGN(" a:1 b:0", { "./", '5', NULL }, { "./a", '0', "x" }, { "./b", '0', NULL });
        FOREIGN(" a:1 b:1", { "d/", '5', NULL }, { "d/e/", '5', NULL }, { "d/e/a", '7', "x" },
                { ".//d/./e/b", '0', "y" });
        FOREIGN(" a:1", { "x", 'x', "17 path=./long/a\n" }, { "cut", '0', "1" });
        FOREIGN(" a:3", { "x", 'x', "10 size=3\n16 mtime=1.2345\n" }, { "a", '0', "123" });
        FOREIGN(" longer:1", { "././@LongLink", 'L', "longer" }, { "cut", '0', "1" });
        FOREIGN(" a:1", { "g", 'g', "13 comment=x\n" }, { "a", '0', "1" });
}

static void test_hostile_foreign(void **state) {
        (void)state;
        FOREIGN("leads elsewhere", { "../a", '0', "x" });
        FOREIGN("leads elsewhere", { "/etc/passwd", '0', "x" });
        FOREIGN("leads elsewhere", { "d/../../a", '0', "x" });
        FOREIGN("leads elsewhere", { "x", 'x', "18 path=/etc/cron\n" }, { "a", '0', "x" });
        FOREIGN("leads elsewhere", { "L", 'L', "../../b" }, { "a", '0', "x" });
        FOREIGN("has the name", { "d/a\nb", '0', "x" });
        FOREIGN("several directories", { "d/a", '0', "x" }, { "e/b", '0', "x" });
        FOREIGN("several directories", { "d/a", '0', "x" }, { "b", '0', "x" });
        FOREIGN("a symbolic link", { "a", '2', NULL });
        FOREIGN("a hard link", { "a", '1', NULL });
        FOREIGN("a device", { "a", '3', NULL });
        FOREIGN("a device", { "a", '4', NULL });
        FOREIGN("a FIFO", { "a", '6', NULL });
        FOREIGN("a sparse file", { "a", 'S', NULL });
        FOREIGN("is sparse", { "x", 'x', "22 GNU.sparse.major=1\n" }, { "a", '0', "x" });
        FOREIGN("names all files", { "g", 'g', "10 path=a\n" }, { "a", '0', "x" });
        FOREIGN("no valid size", { "x", 'x', "11 size=-1\n" }, { "a", '0', "x" });
        FOREIGN("no valid size", { "x", 'x', "32 size=18446744073709551616000\n" }, { "a", '0', "x" });
        FOREIGN("is not valid", { "x", 'x', "99999 path=a\n" }, { "a", '0', "x" });
        FOREIGN("is not valid", { "x", 'x', "path=a\n" }, { "a", '0', "x" });
        FOREIGN("is not valid", { "x", 'x', "3 x" }, { "a", '0', "x" });
        FOREIGN("no valid name", { "x", 'x', "8 path=\n" }, { "a", '0', "x" });
        FOREIGN("has a content", { "d/", '5', "x" });

        /* A header that claims to be endless, and as many as nobody needs. */
        uint8_t *archive = xcalloc(20002, TAR_BLOCK);
        assert_int_equal(tar_make_header(archive, "x", UINT64_C(1) << 40, 0, 0, 0), 0);
        archive[156] = 'x';
        seal(archive);
        assert_int_equal(read_all_of(archive, 20002 * TAR_BLOCK, true), -EBADMSG);
        for (size_t i = 0; i < 20000; i++)
                put_entry(archive, i, "d/", '5', NULL, 0);
        assert_int_equal(read_all_of(archive, 20002 * TAR_BLOCK, true), -EBADMSG);
        free(archive);
}

static void test_real_tar(void **state) {
        (void)state;
        char *directory = make_directory();
        char *path = path_join(directory, "a.tar");
        size_t size;
        uint8_t *archive = make_archive(&size);
        assert_int_equal(io_replace_file(path, archive, size, 0600, false), 0);
        char *argv[] = { (char *)"tar", (char *)"-tvf", path, NULL };
        struct spawn spawn = { .path = "tar", .argv = argv };
        _cleanup_free_ char *output = NULL;
        struct st_error *error = NULL;
        int r = spawn_run(&spawn, 10000, &output, &error);
        assert_ok(r, error);
        assert_int_equal(r, 0);
        assert_non_null(strstr(output, "-rw-------"));
        assert_non_null(strstr(output, " first"));
        assert_non_null(strstr(output, " second"));
        free(archive);
        free(path);
        remove_directory(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_truncation),
                cmocka_unit_test(test_tail),
                cmocka_unit_test(test_hostile),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_foreign),
                cmocka_unit_test(test_hostile_foreign),
                cmocka_unit_test(test_real_tar),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
