/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "criu/images.h"

#define MIB ((size_t)1 << 20)

/** A file that CRIU 4.2.1 wrote of tests/system/programs/objects.c; some of a process in namespaces of its own. */
static char *read_image(const char *name, size_t *ret_size) {
        _cleanup_free_ char *path = xasprintf("%s/tests/unit/data/criu/images/%s", getenv("STASIS_SOURCE"), name);
        char *data = NULL;
        assert_int_equal(io_read_file(AT_FDCWD, path, MIB, &data, ret_size), 0);
        return data;
}

static struct criu_image_list load(const char *name, const ProtobufCMessageDescriptor *descriptor) {
        struct criu_image_list list = { 0 };
        struct st_error *error = NULL;
        size_t size;
        _cleanup_free_ char *data = read_image(name, &size);
        if (criu_images_load(name, data, size, descriptor, &list, &error) < 0)
                fail_msg("%s", st_error_message(error));
        return list;
}

static void *load_one(const char *name, const ProtobufCMessageDescriptor *descriptor) {
        struct st_error *error = NULL;
        void *message = NULL;
        size_t size;
        _cleanup_free_ char *data = read_image(name, &size);
        if (criu_images_load_one(name, data, size, descriptor, &message, &error) < 0)
                fail_msg("%s", st_error_message(error));
        return message;
}

static void tree(void **state) {
        (void)state;
        _cleanup_criu_image_list_ struct criu_image_list list = load("pstree.img", &criu_image__pstree__descriptor);
        _cleanup_(message_freep) CriuImage__Inventory *inventory =
                load_one("inventory.img", &criu_image__inventory__descriptor);
        assert_int_equal(inventory->img_version, 2);
        assert_true(inventory->fdinfo_per_id);
        assert_int_equal(inventory->root_ids->net_ns_id, 2);

        static const uint32_t pids[] = { 25510, 25512, 25513, 25514 };
        assert_int_equal(list.n, ELEMENTSOF(pids));
        for (size_t i = 0; i < list.n; i++) {
                const CriuImage__Pstree *node = (CriuImage__Pstree *)list.items[i];
                assert_int_equal(node->pid, pids[i]);
                assert_int_equal(node->ppid, i == 0 ? 0 : 25510);
                assert_int_equal(node->sid, 25510);
                assert_int_equal(node->n_threads, i == 0 ? 2 : 1);
        }
}

static void tasks(void **state) {
        (void)state;
        _cleanup_(message_freep) CriuImage__Core *root = load_one("core-25510.img", &criu_image__core__descriptor);
        assert_int_equal(root->mtype, 1);
        assert_string_equal(root->tc->comm, "objects");
        assert_int_equal(root->tc->task_state, CRIU_TASK_ALIVE);
        assert_int_equal(root->tc->rlimits->n_rlimits, 16);
        assert_int_equal(root->thread_core->creds->euid, 0);
        assert_int_equal(root->thread_core->creds->n_cap_bnd, 2);
        assert_non_null(root->tc->timers->real);

        _cleanup_(message_freep) CriuImage__Core *zombie = load_one("core-25514.img", &criu_image__core__descriptor);
        assert_int_equal(zombie->tc->task_state, CRIU_TASK_DEAD);
        assert_int_equal(WEXITSTATUS(zombie->tc->exit_code), 3);
        _cleanup_(message_freep) CriuImage__Core *stopped = load_one("core-25513.img", &criu_image__core__descriptor);
        assert_int_equal(stopped->tc->task_state, CRIU_TASK_STOPPED);
        _cleanup_(message_freep) CriuImage__Core *thread = load_one("core-25515.img", &criu_image__core__descriptor);
        assert_null(thread->tc);

        _cleanup_(message_freep) CriuImage__Ids *ids = load_one("ids-25510.img", &criu_image__ids__descriptor);
        assert_int_equal(ids->files_id, 2);
        _cleanup_(message_freep) CriuImage__Fs *fs = load_one("fs-25510.img", &criu_image__fs__descriptor);
        assert_int_equal(fs->umask, 022);
}

static void memory(void **state) {
        (void)state;
        _cleanup_(message_freep) CriuImage__Mm *mm = load_one("mm-25510.img", &criu_image__mm__descriptor);
        size_t heaps = 0, stacks = 0;
        for (size_t i = 0; i < mm->n_vmas; i++) {
                const CriuImage__Vma *vma = mm->vmas[i];
                assert_true(vma->start < vma->end);
                heaps += (vma->status & CRIU_VMA_HEAP) != 0;
                stacks += mm->mm_start_stack >= vma->start && mm->mm_start_stack < vma->end;
        }
        assert_int_equal(heaps, 1);
        assert_int_equal(stacks, 1);

        _cleanup_criu_image_list_ struct criu_image_list list =
                load("pagemap-25510.img", &criu_image__pagemap__descriptor);
        assert_ptr_equal(list.items[0]->descriptor, &criu_image__pagemap_head__descriptor);
        assert_int_equal(((CriuImage__PagemapHead *)list.items[0])->pages_id, 3);
        uint64_t pages = 0;
        for (size_t i = 1; i < list.n; i++) {
                const CriuImage__Pagemap *entry = (CriuImage__Pagemap *)list.items[i];
                assert_true(criu_pagemap_flags(entry) & CRIU_PAGEMAP_PRESENT);
                pages += criu_pagemap_pages(entry);
        }
        assert_int_equal(pages * CRIU_PAGE_SIZE, 4321280); /* the length of its pages-3.img */

        CriuImage__Pagemap old = CRIU_IMAGE__PAGEMAP__INIT;
        old.compat_nr_pages = 7;
        assert_int_equal(criu_pagemap_pages(&old), 7);
        assert_int_equal(criu_pagemap_flags(&old), CRIU_PAGEMAP_PRESENT);
        old.in_parent = 1;
        assert_int_equal(criu_pagemap_flags(&old), CRIU_PAGEMAP_PARENT);
}

static const CriuImage__File *find_file(const struct criu_image_list *files, uint32_t id) {
        for (size_t i = 0; i < files->n; i++)
                if (((CriuImage__File *)files->items[i])->id == id)
                        return (CriuImage__File *)files->items[i];
        return NULL;
}

/** What a descriptor of the root is. */
static const CriuImage__File *file_of(const struct criu_image_list *files, const struct criu_image_list *fds,
                                      uint32_t number, CriuImage__FdType type) {
        for (size_t i = 0; i < fds->n; i++) {
                const CriuImage__Fdinfo *fd = (CriuImage__Fdinfo *)fds->items[i];
                if (fd->fd != number)
                        continue;
                const CriuImage__File *file = find_file(files, fd->id);
                assert_int_equal(fd->type, type);
                assert_int_equal(file->type, type);
                assert_int_equal(fd->flags, FD_CLOEXEC);
                return file;
        }
        fail_msg("no descriptor %u", number);
        return NULL;
}

static void sockets(void **state) {
        (void)state;
        _cleanup_criu_image_list_ struct criu_image_list files = load("files.img", &criu_image__file__descriptor),
                                                         fds = load("fdinfo-2.img", &criu_image__fdinfo__descriptor);
        const CriuImage__InetSk *listener = file_of(&files, &fds, 4, CRIU_IMAGE__FD_TYPE__FD_INETSK)->isk;
        assert_int_equal(listener->src_port, 49201);
        assert_int_equal(listener->n_src_addr, 1);
        assert_int_equal(listener->src_addr[0], htonl(INADDR_LOOPBACK));
        assert_int_equal(listener->backlog, 5);
        const CriuImage__InetSk *client = file_of(&files, &fds, 5, CRIU_IMAGE__FD_TYPE__FD_INETSK)->isk;
        assert_int_equal(client->dst_port, 49201);
        assert_int_equal(client->src_port, 41504);
        const CriuImage__InetSk *udp = file_of(&files, &fds, 7, CRIU_IMAGE__FD_TYPE__FD_INETSK)->isk;
        assert_int_equal(udp->n_src_addr, 4);
        const CriuImage__UnixSk *bound = file_of(&files, &fds, 8, CRIU_IMAGE__FD_TYPE__FD_UNIXSK)->usk;
        assert_int_equal(bound->name.len, 7);
        assert_memory_equal(bound->name.data, "socket", 7);
        assert_string_equal(bound->name_dir, "/tmp/app");
        const CriuImage__UnixSk *one = file_of(&files, &fds, 9, CRIU_IMAGE__FD_TYPE__FD_UNIXSK)->usk;
        const CriuImage__UnixSk *other = file_of(&files, &fds, 10, CRIU_IMAGE__FD_TYPE__FD_UNIXSK)->usk;
        assert_int_equal(one->peer, other->ino);
        assert_int_equal(other->peer, one->ino);
}

static void other_files(void **state) {
        (void)state;
        _cleanup_criu_image_list_ struct criu_image_list files = load("files.img", &criu_image__file__descriptor),
                                                         fds = load("fdinfo-2.img", &criu_image__fdinfo__descriptor);
        const CriuImage__RegFile *notes = file_of(&files, &fds, 21, CRIU_IMAGE__FD_TYPE__FD_REG)->reg;
        assert_string_equal(notes->name, "/tmp/app/notes");
        assert_int_equal(notes->size, 100);
        assert_int_equal(notes->pos, 100);
        assert_true(notes->flags & O_APPEND);
        assert_true(S_ISREG(notes->mode));
        assert_int_equal(notes->mnt_id, -1);
        assert_int_equal(file_of(&files, &fds, 14, CRIU_IMAGE__FD_TYPE__FD_EVENTFD)->efd->counter, 7);
        assert_int_equal(file_of(&files, &fds, 15, CRIU_IMAGE__FD_TYPE__FD_EVENTPOLL)->epfd->tfd[0]->tfd, 14);
        assert_int_equal(file_of(&files, &fds, 16, CRIU_IMAGE__FD_TYPE__FD_TIMERFD)->tfd->clockid, 1);
        assert_int_equal(file_of(&files, &fds, 17, CRIU_IMAGE__FD_TYPE__FD_SIGNALFD)->sgfd->sigmask, 1 << 11);
        const CriuImage__Inotify *watch = file_of(&files, &fds, 18, CRIU_IMAGE__FD_TYPE__FD_INOTIFY)->ify;
        assert_string_equal(watch->wd[0]->f_handle->path, "/");
        uint32_t inode = file_of(&files, &fds, 19, CRIU_IMAGE__FD_TYPE__FD_MEMFD)->memfd->inode_id;

        _cleanup_criu_image_list_ struct criu_image_list inodes =
                load("memfd.img", &criu_image__memfd_inode__descriptor);
        const CriuImage__MemfdInode *scratch = (CriuImage__MemfdInode *)inodes.items[inode - 1];
        assert_string_equal(scratch->name, "scratch");
        assert_int_equal(scratch->size, 8192);

        _cleanup_criu_image_list_ struct criu_image_list ttys = load("tty-info.img", &criu_image__tty_info__descriptor);
        uint32_t tty = file_of(&files, &fds, 20, CRIU_IMAGE__FD_TYPE__FD_TTY)->tty->tty_info_id;
        assert_int_equal(((CriuImage__TtyInfo *)ttys.items[0])->id, tty);
        assert_int_equal(((CriuImage__TtyInfo *)ttys.items[0])->type, 1);
}

static void others(void **state) {
        (void)state;
        _cleanup_(message_freep) CriuImage__Utsns *uts = load_one("utsns-12.img", &criu_image__utsns__descriptor);
        assert_string_equal(uts->nodename, "inspected");
        _cleanup_(message_freep) CriuImage__IpcShm *shm =
                load_one("ipcns-shm-11.img", &criu_image__ipc_shm__descriptor);
        assert_int_equal(shm->desc->key, 0x1234);
        assert_int_equal(shm->size, 8192);
        assert_true(shm->in_pagemaps);
        _cleanup_(message_freep) CriuImage__NetDevice *device =
                load_one("netdev-10.img", &criu_image__net_device__descriptor);
        assert_string_equal(device->name, "lo");
        _cleanup_(message_freep) CriuImage__Netns *net = load_one("netns-10.img", &criu_image__netns__descriptor);
        assert_null(net->ext_key);
        _cleanup_(message_freep) CriuImage__Timens *time = load_one("timens-0.img", &criu_image__timens__descriptor);
        assert_int_not_equal(time->monotonic->tv_sec, 0);
        _cleanup_(message_freep) CriuImage__Seccomp *seccomp =
                load_one("seccomp.img", &criu_image__seccomp__descriptor);
        assert_int_equal(seccomp->n_seccomp_filters, 0);
        _cleanup_criu_image_list_ struct criu_image_list locks =
                load("filelocks.img", &criu_image__file_lock__descriptor);
        assert_int_equal(locks.n, 2);
        assert_int_equal(((CriuImage__FileLock *)locks.items[1])->len, 10);
}

/** The raw data of the only message that has any. */
struct behind {
        char text[64];
        size_t n, messages;
};

static int take_data(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        struct behind *behind = userdata;
        (void)err;
        assert_int_equal(entry->number, behind->messages);
        behind->messages++;
        if (entry->size > 0 && entry->size < sizeof(behind->text)) {
                memcpy(behind->text, entry->data, entry->size);
                behind->n = entry->size;
        }
        return 0;
}

static void raw_data(void **state) {
        (void)state;
        static const struct {
                const char *name;
                const ProtobufCMessageDescriptor *descriptor;
                size_t size;
                const char *text;
        } cases[] = {
                { "pipes-data.img", &criu_image__pipe_data__descriptor, 5, "12345" },
                { "fifo-data.img", &criu_image__pipe_data__descriptor, 0, "" },
                { "sk-queues.img", &criu_image__sk_packet__descriptor, 6, "unread" },
                { "tcp-stream-8f3b10.img", &criu_image__tcp_stream__descriptor, 10, "on its way" },
                { "ghost-file-1.img", &criu_image__ghost_chunk__descriptor, 42,
                  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct behind behind = { 0 };
                size_t size;
                _cleanup_free_ char *data = read_image(cases[i].name, &size);
                assert_int_equal(
                        criu_images_each(cases[i].name, data, size, cases[i].descriptor, take_data, &behind, NULL), 0);
                assert_int_equal(behind.messages, 1);
                assert_int_equal(behind.n, cases[i].size);
                assert_memory_equal(behind.text, cases[i].text, cases[i].size);
        }
}

/** Appends a message as CRIU writes it; messages and data are written by hand. */
static void append(uint8_t *image, size_t *n, const ProtobufCMessage *message, const char *data) {
        size_t length;
        _cleanup_free_ uint8_t *packed = message_pack(message, &length);
        const uint8_t head[] = { (uint8_t)length, 0, 0, 0 };
        memcpy(image + *n, head, 4);
        memcpy(image + *n + 4, packed, length);
        memcpy(image + *n + 4 + length, data, strlen(data));
        *n += 4 + length + strlen(data);
}

static void chunks(void **state) {
        (void)state;
        uint8_t image[256] = { 0x19, 0x43, 0x56, 0x54, 0x05, 0x36, 0x58, 0x52 };
        CriuImage__GhostFile ghost = CRIU_IMAGE__GHOST_FILE__INIT;
        CriuImage__GhostChunk chunk = CRIU_IMAGE__GHOST_CHUNK__INIT;
        struct behind behind = { 0 };
        size_t n = 8;
        ghost.has_chunks = ghost.chunks = 1;
        append(image, &n, &ghost.base, "");
        chunk.len = 3;
        append(image, &n, &chunk.base, "abc");
        chunk.len = 5;
        chunk.off = 4096;
        append(image, &n, &chunk.base, "defgh");
        assert_int_equal(criu_images_each("ghost-file-a0.img", image, n, NULL, take_data, &behind, NULL), 0);
        assert_int_equal(behind.messages, 3);
        assert_memory_equal(behind.text, "defgh", 5);
        assert_int_equal(
                criu_images_each("ghost-file-a0.img", image, n - 1, NULL, take_data, &(struct behind){ 0 }, NULL),
                -EBADMSG);
}

static void shared_memory(void **state) {
        (void)state;
        uint8_t image[256] = { 0x19, 0x43, 0x56, 0x54, 0x44, 0x30, 0x28, 0x46 };
        CriuImage__IpcDesc desc = CRIU_IMAGE__IPC_DESC__INIT;
        CriuImage__IpcShm shm = CRIU_IMAGE__IPC_SHM__INIT;
        struct behind behind = { 0 };
        size_t n = 8;
        shm.desc = &desc;
        shm.size = 5; /* filled up to 8 */
        append(image, &n, &shm.base, "12345...");
        append(image, &n, &shm.base, "67890...");
        assert_int_equal(criu_images_each("ipcns-shm-1.img", image, n, NULL, take_data, &behind, NULL), 0);
        assert_int_equal(behind.messages, 2);
        assert_int_equal(behind.n, 8);

        n = 8;
        shm.size = UINT64_MAX - 1; /* rounding it up must not make it small */
        append(image, &n, &shm.base, "12345...");
        assert_int_equal(criu_images_each("ipcns-shm-1.img", image, n, NULL, take_data, &behind, NULL), -EBADMSG);
}

static void names(void **state) {
        (void)state;
        uint64_t id = 0;
        assert_true(criu_images_id("core-42.img", "core", &id));
        assert_int_equal(id, 42);
        assert_true(criu_images_id("pagemap-shmem-7.img", "pagemap-shmem", &id));
        assert_int_equal(id, 7);
        assert_false(criu_images_id("pagemap-shmem-7.img", "pagemap", &id));
        assert_true(criu_images_id("ghost-file-1f.img", "ghost-file", &id));
        assert_int_equal(id, 0x1f);
        static const char *const wrong[] = { "core-.img",   "core-0x1.img",
                                             "core--1.img", "core-1",
                                             "core-1f.img", "core- 1.img",
                                             "core-+1.img", "core-99999999999999999999.img" };
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                assert_false(criu_images_id(wrong[i], "core", &id));
                assert_false(criu_images_known(wrong[i]));
        }
        assert_true(criu_images_known("files.img"));
        assert_false(criu_images_known("files-1.img"));
        assert_false(criu_images_known("pages-1.img"));
        assert_false(criu_images_known("stasis.json"));
        assert_false(criu_images_known(""));
}

static void expect_error(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                         int number, const char *part) {
        struct criu_image_list list = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        assert_int_equal(criu_images_load(name, data, size, descriptor, &list, &error), number);
        if (!strstr(st_error_message(error), part))
                fail_msg("not '%s': %s", part, st_error_message(error));
        assert_int_equal(list.n, 0);
        criu_image_list_clear(&list);
}

static void damaged(void **state) {
        (void)state;
        size_t size;
        _cleanup_free_ char *data = read_image("pstree.img", &size);
        expect_error("pstree.img", data, 0, NULL, -EBADMSG, "pstree.img is damaged: it is 0 bytes long");
        expect_error("pstree.img", data, size - 1, NULL, -EBADMSG, "longer than the rest");
        expect_error("files.img", data, size, NULL, -EBADMSG, "of another kind");
        expect_error("files.img", "not an image", 12, NULL, -EBADMSG, "does not begin as");
        expect_error("pages-1.img", data, size, NULL, -EOPNOTSUPP, "no image of CRIU that can be read");
        expect_error("pstree.img", data, size, &criu_image__core__descriptor, -EOPNOTSUPP, "does not hold messages of");

        /* Every truncation is an error, except between two messages; nothing is read beyond the end (ASan). */
        size_t whole = 0;
        for (size_t n = 0; n < size; n++) {
                _cleanup_free_ char *cut = xmalloc(n + 1);
                cut = xrealloc(cut, n ? n : 1, 1);
                memcpy(cut, data, n);
                _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
                int r = criu_images_load("pstree.img", cut, n, NULL, &list, NULL);
                assert_true(r == 0 || r == -EBADMSG);
                whole += r == 0;
        }
        assert_int_equal(whole, 4); /* after the magic numbers and after three of four messages */

        data[8] = (char)0xff; /* the length of the first message */
        data[11] = (char)0xff;
        expect_error("pstree.img", data, size, NULL, -EBADMSG, "at byte 8 a message is longer");
}

static void two_of_one(void **state) {
        (void)state;
        size_t size;
        void *message = NULL;
        struct st_error *error = NULL;
        _cleanup_free_ char *data = read_image("pstree.img", &size);
        assert_int_equal(criu_images_load_one("pstree.img", data, size, NULL, &message, &error), -EBADMSG);
        assert_null(message);
        assert_non_null(strstr(st_error_message(error), "4 messages instead of one"));
        st_error_free(error);
}

/** A field that nobody knows takes much more memory than it has bytes; many of them are refused. */
static void memory_is_bounded(void **state) {
        (void)state;
        size_t length = 4 * MIB, size = 12 + length;
        _cleanup_free_ uint8_t *image = xcalloc(1, size);
        memcpy(image, "\x19\x43\x56\x54\x26\x73\x15\x61", 8);
        image[8] = (uint8_t)length;
        image[9] = (uint8_t)(length >> 8);
        image[10] = (uint8_t)(length >> 16);
        image[11] = (uint8_t)(length >> 24);
        for (size_t i = 12; i < size; i += 2)
                image[i] = 15 << 3;
        expect_error("pidns-1.img", image, size, NULL, -EBADMSG, "not readable");
        image[8] = 100; /* a few are fine */
        image[9] = image[10] = image[11] = 0;
        struct criu_image_list list = { 0 };
        assert_int_equal(criu_images_load("pidns-1.img", image, 112, NULL, &list, NULL), 0);
        assert_int_equal(list.n, 1);
        criu_image_list_clear(&list);
}

static int stop_at_second(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        (void)userdata;
        return entry->number == 1 ? st_error_set(err, ECANCELED, "enough") : 0;
}

static void visitor_stops(void **state) {
        (void)state;
        size_t size;
        struct st_error *error = NULL;
        _cleanup_free_ char *data = read_image("pstree.img", &size);
        assert_int_equal(criu_images_each("pstree.img", data, size, NULL, stop_at_second, NULL, &error), -ECANCELED);
        assert_string_equal(st_error_message(error), "enough");
        st_error_free(error);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tree),
                cmocka_unit_test(tasks),
                cmocka_unit_test(memory),
                cmocka_unit_test(sockets),
                cmocka_unit_test(other_files),
                cmocka_unit_test(others),
                cmocka_unit_test(raw_data),
                cmocka_unit_test(chunks),
                cmocka_unit_test(shared_memory),
                cmocka_unit_test(names),
                cmocka_unit_test(damaged),
                cmocka_unit_test(two_of_one),
                cmocka_unit_test(memory_is_bounded),
                cmocka_unit_test(visitor_stops),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
