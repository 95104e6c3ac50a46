/* SPDX-License-Identifier: Apache-2.0 */

/* How files differ from what CRIU's images and the record say, without a process: a files.img made here. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "criu/images.h"
#include "engine/open_files.h"
#include "base/plain_file.h"

/* Magic numbers: criu/include/magic.h. */
#define MAGIC_COMMON 0x54564319u
#define MAGIC_FILES 0x56303138u
#define MAGIC_REMAP 0x59133954u
#define MAGIC_MM 0x57492820u

struct bytes {
        uint8_t data[4096];
        size_t size;
};

static void put_number(struct bytes *bytes, uint32_t number) {
        for (int i = 0; i < 4; i++)
                bytes->data[bytes->size++] = (uint8_t)(number >> (8 * i));
}

static struct bytes image_new(uint32_t magic) {
        struct bytes bytes = { .size = 0 };
        put_number(&bytes, MAGIC_COMMON);
        put_number(&bytes, magic);
        return bytes;
}

static void put(struct bytes *bytes, const ProtobufCMessage *message) {
        put_number(bytes, (uint32_t)protobuf_c_message_get_packed_size(message));
        bytes->size += protobuf_c_message_pack(message, bytes->data + bytes->size);
}

static void put_file(struct bytes *bytes, uint32_t id, const char *path, uint32_t flags, uint64_t position) {
        CriuImage__RegFile reg = CRIU_IMAGE__REG_FILE__INIT;
        CriuImage__File file = CRIU_IMAGE__FILE__INIT;
        bool append = (flags & O_ACCMODE) == O_WRONLY && (flags & O_APPEND);

        reg.id = file.id = id;
        reg.flags = flags;
        reg.pos = position;
        reg.name = (char *)path;
        reg.has_size = !append; /* as CRIU does it */
        reg.size = 100;
        reg.has_mode = 1;
        reg.mode = S_IFREG | 0644;
        file.type = CRIU_IMAGE__FD_TYPE__FD_REG;
        file.reg = &reg;
        put(bytes, &file.base);
}

static void put_map(struct bytes *bytes, uint32_t id, uint32_t status, uint32_t prot) {
        CriuImage__Mm mm = CRIU_IMAGE__MM__INIT;
        CriuImage__Vma vma = CRIU_IMAGE__VMA__INIT, *vmas[] = { &vma };

        vma.start = 0x10000;
        vma.end = 0x13000;
        vma.pgoff = 0x1000;
        vma.shmid = id;
        vma.status = status;
        vma.prot = prot;
        mm.n_vmas = 1;
        mm.vmas = vmas;
        put(bytes, &mm.base);
}

static void test_open_files(void **unused) {
        (void)unused;
        _cleanup_open_files_ struct open_files files = { 0 };
        struct bytes image = image_new(MAGIC_FILES), remaps = image_new(MAGIC_REMAP), maps = image_new(MAGIC_MM);
        CriuImage__RemapFilePath remap = CRIU_IMAGE__REMAP_FILE_PATH__INIT;

        put_file(&image, 5, "/b", O_WRONLY | O_APPEND, 7);
        put_file(&image, 1, "/a", O_RDONLY, 30);
        put_file(&image, 2, "/a", O_RDWR, 100);
        put_file(&image, 3, "/db", O_RDWR, 0);
        put_file(&image, 4, "/map", 0, 0);
        put_file(&image, 6, "/lib", 0, 0);
        put_file(&image, 7, "/gone", O_RDWR, 0);
        put_file(&image, 8, "/proc/1/oom_adj", O_RDWR, 0);
        put_file(&image, 9, "relative", O_RDWR, 0);
        remap.orig_id = 7;
        put(&remaps, &remap.base);
        assert_int_equal(open_files_add_remaps(&files, remaps.data, remaps.size, NULL), 0);
        assert_int_equal(open_files_add(&files, image.data, image.size, NULL), 0);
        put_map(&maps, 4, CRIU_VMA_FILE_SHARED, PROT_READ | PROT_WRITE);
        assert_int_equal(open_files_add_maps(&files, "mm-1.img", maps.data, maps.size, NULL), 0);
        maps = image_new(MAGIC_MM);
        put_map(&maps, 6, CRIU_VMA_FILE_PRIVATE, PROT_READ | PROT_EXEC);
        assert_int_equal(open_files_add_maps(&files, "mm-2.img", maps.data, maps.size, NULL), 0);
        open_files_finish(&files);

        assert_int_equal(files.n, 5);
        const struct open_file *a = open_files_find(&files, "/a"), *b = open_files_find(&files, "/b");
        const struct open_file *db = open_files_find(&files, "/db"), *map = open_files_find(&files, "/map");
        const struct open_file *lib = open_files_find(&files, "/lib");
        assert_true(a->writable && !a->append && a->at_end && a->has_size && a->position == 100);
        assert_true(b->writable && b->append && b->at_end && !b->has_size && b->position == 7);
        assert_true(db->writable && !db->at_end);
        assert_true(map->writable && map->mapped && !map->at_end && !map->executed && map->map_end == 0x4000);
        assert_true(!lib->writable && lib->executed);
        assert_null(open_files_find(&files, "/gone"));
}

static bool is_a(const char *path, void *userdata) {
        (void)userdata;
        return streq(path, "/a");
}

static void test_relax(void **unused) {
        (void)unused;
        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        struct bytes image = image_new(MAGIC_FILES);
        _cleanup_free_ void *relaxed = NULL;
        size_t size;

        put_file(&image, 1, "/a", O_RDONLY, 30);
        put_file(&image, 2, "/b", O_RDONLY, 40);
        assert_int_equal(open_files_relax(image.data, image.size, is_a, NULL, &relaxed, &size, NULL), 0);
        assert_int_equal(criu_images_load("files.img", relaxed, size, &criu_image__file__descriptor, &list, NULL), 0);
        assert_int_equal(list.n, 2);
        const CriuImage__RegFile *a = ((CriuImage__File *)list.items[0])->reg;
        const CriuImage__RegFile *b = ((CriuImage__File *)list.items[1])->reg;
        assert_true(!a->has_size && !a->has_mode && a->pos == 30);
        assert_true(b->has_size && b->has_mode && b->size == 100);
        assert_int_equal(open_files_relax("x", 1, is_a, NULL, &relaxed, &size, NULL), -EBADMSG);
}

/* ---- companions of files */

static char *directory_new(void) {
        char *path = xstrdup("/tmp/stasis-test-XXXXXX");

        assert_non_null(mkdtemp(path));
        return path;
}

static void write_text(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = path_join(directory, name);

        assert_int_equal(io_replace_file(path, text, strlen(text), 0640, false), 0);
}

static void test_companions(void **unused) {
        (void)unused;
        _cleanup_free_ char *directory = directory_new(), *first = NULL, *second = NULL, *third = NULL, *link = NULL;
        _cleanup_free_ char *path = path_join(directory, "f");
        _cleanup_(plain_file_discard) struct nameless_file file = NAMELESS_FILE_NULL, other = NAMELESS_FILE_NULL;
        _cleanup_(plain_file_discard) struct nameless_file dropped = NAMELESS_FILE_NULL;
        struct plain_file status;
        const char *name;
        char longest[NAME_MAX + 1] = { 0 };

        write_text(directory, "f", "content");
        _cleanup_close_ int dir_fd = plain_file_open_directory(path, &name);
        assert_true(dir_fd >= 0);
        assert_string_equal(name, "f");

        /* Names are never used twice, and are never too long. */
        assert_int_equal(plain_file_new(dir_fd, &file), 0);
        assert_int_equal(plain_file_publish(&file, "f", "kept", &first), 0);
        assert_string_equal(first, "f.kept");
        assert_int_equal(plain_file_new(dir_fd, &other), 0);
        assert_int_equal(plain_file_publish(&other, "f", "kept", &second), 0);
        assert_string_equal(second, "f.kept-2");
        assert_int_equal(plain_file_look(dir_fd, "f", AT_SYMLINK_NOFOLLOW, &status), 0);
        assert_int_equal(plain_file_link(dir_fd, "f", &status, "kept", &link), 0);
        assert_string_equal(link, "f.kept-3");
        plain_file_discard(&other);
        assert_int_equal(plain_file_new(dir_fd, &other), 0);
        memset(longest, 'x', NAME_MAX);
        assert_int_equal(plain_file_publish(&other, longest, "kept", &third), 0);
        assert_int_equal(strlen(third), NAME_MAX);
        assert_true(text_ends_with(third, ".kept"));

        /* Not the file that was expected: no link of it. */
        free(TAKE_PTR(link));
        status.inode++;
        assert_int_equal(plain_file_link(dir_fd, "f", &status, "kept", &link), -ESTALE);
        assert_int_equal(faccessat(dir_fd, "f.kept-4", F_OK, 0), -1);

        assert_int_equal(plain_file_new(dir_fd, &dropped), 0);
        plain_file_discard(&dropped);
        assert_int_equal(io_remove_tree(directory), 0);
}

static void test_opening(void **unused) {
        (void)unused;
        _cleanup_free_ char *directory = directory_new(), *path = path_join(directory, "f");
        _cleanup_free_ char *link = path_join(directory, "link"), *below = path_join(directory, "dir/f");
        _cleanup_free_ char *dir = path_join(directory, "dir"), *fifo = path_join(directory, "fifo");
        const char *name;

        write_text(directory, "f", "content");
        assert_int_equal(symlink(path, link), 0);
        assert_int_equal(symlink(directory, dir), 0);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(plain_file_open(link, O_RDONLY), -ELOOP);
        assert_int_equal(plain_file_open(below, O_RDONLY), -ELOOP);
        assert_true(plain_file_open_directory(below, &name) < 0);
        _cleanup_close_ int dir_fd = plain_file_open_directory(path, &name);
        assert_int_equal(plain_file_open_at(dir_fd, "fifo", O_RDONLY), -EINVAL); /* and does not wait */
        assert_int_equal(plain_file_open_at(dir_fd, "link", O_RDONLY), -ELOOP);
        _cleanup_close_ int fd = plain_file_open(path, O_RDONLY);
        assert_true(fd >= 0);

        /* A writer is noticed; a reader is none. */
        _cleanup_close_ int reader = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(reader >= 0);
        assert_int_equal(plain_file_has_writers(fd), 0);
        _cleanup_close_ int writer = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(plain_file_has_writers(fd), 1);
        void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
        close(TAKE_FD(writer));
        assert_int_equal(plain_file_has_writers(fd), 1);
        munmap(map, 4096);
        assert_int_equal(plain_file_has_writers(fd), 0);
        assert_int_equal(io_remove_tree(directory), 0);
}

static void test_copy(void **unused) {
        (void)unused;
        _cleanup_free_ char *directory = directory_new(), *from = path_join(directory, "from");
        _cleanup_free_ char *to = path_join(directory, "to");
        char text[16] = "";

        write_text(directory, "from", "0123456789");
        write_text(directory, "to", "abc");
        _cleanup_close_ int in = plain_file_open(from, O_RDONLY), out = plain_file_open(to, O_RDWR);
        assert_int_equal(plain_file_copy(in, 4, out, 3, 6), 0);
        assert_int_equal(pread(out, text, sizeof(text), 0), 9);
        assert_string_equal(text, "abc456789");
        assert_int_equal(plain_file_copy(in, 4, out, 3, 7), -ENODATA);
        assert_int_equal(io_remove_tree(directory), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_open_files), cmocka_unit_test(test_relax), cmocka_unit_test(test_companions),
                cmocka_unit_test(test_opening),    cmocka_unit_test(test_copy),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
