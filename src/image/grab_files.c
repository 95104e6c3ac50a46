/* SPDX-License-Identifier: Apache-2.0 */

/* What surrounds the copied memory: the pagemaps, the other files of CRIU, the parent checkpoint that it is shown. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "image/grab_private.h"
#include "supervisor/pagemap_scan.h"

/* magic.h of CRIU */
#define MAGIC_COMMON 0x54564319u
#define MAGIC_INVENTORY 0x58313116u
#define MAGIC_PAGEMAP 0x56084025u
#define IMAGE_VERSION 2 /* with the common magic number */

#define COPY_BUFFER ((size_t)256 << 10)
#define MM_MAX ((size_t)64 << 20)

/** Bytes that grow. */
struct bytes {
        uint8_t *data;
        size_t n, room;
};

static void add_number(struct bytes *bytes, uint32_t number) {
        for (unsigned i = 0; i < 4; i++) {
                GROW(bytes->data, bytes->n, bytes->room);
                bytes->data[bytes->n++] = (uint8_t)(number >> (8 * i));
        }
}

/** A message, its length before it. */
static void add_message(struct bytes *bytes, const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        add_number(bytes, (uint32_t)size);
        while (bytes->room - bytes->n < size) {
                bytes->room = bytes->room * 2 > bytes->n + size ? bytes->room * 2 : bytes->n + size;
                bytes->data = xrealloc(bytes->data, bytes->room, 1);
        }
        bytes->n += protobuf_c_message_pack(message, bytes->data + bytes->n);
}

/**
 * vma_entry_can_be_lazy() in CRIU's vma.h. CRIU leaves out pages where a thread's stack is in use, too, but what it
 * compares are the offsets in the pages (is_stack() in mem.c of 4.2.1): there are as good as none.
 */
static bool can_be_lazy(const CriuImage__Vma *vma) {
        const uint32_t kernel = CRIU_VMA_VDSO | CRIU_VMA_VVAR | CRIU_VMA_VSYSCALL;

        return (vma->flags & MAP_ANONYMOUS) && (vma->flags & MAP_PRIVATE) &&
               !(vma->flags & (MAP_LOCKED | MAP_HUGETLB)) && !(vma->status & kernel);
}

/** Flags of the page at an address, and up to where they hold. @param index of a mapping, goes up with the addresses */
static uint32_t flags_at(const CriuImage__Mm *mm, size_t *index, uint64_t at, uint64_t *end) {
        while (*index < mm->n_vmas && mm->vmas[*index]->end <= at)
                (*index)++;
        if (*index == mm->n_vmas)
                return CRIU_PAGEMAP_PRESENT;
        const CriuImage__Vma *vma = mm->vmas[*index];
        bool inside = vma->start <= at;
        uint64_t limit = inside ? vma->end : vma->start;
        *end = limit < *end ? limit : *end;
        return inside && can_be_lazy(vma) ? CRIU_PAGEMAP_PRESENT | CRIU_PAGEMAP_LAZY : CRIU_PAGEMAP_PRESENT;
}

/** Entries are collected while they go on where the last one ended. */
struct entries {
        struct bytes bytes;
        uint64_t at, pages;
        uint32_t flags;
};

static void end_entry(struct entries *entries) {
        CriuImage__Pagemap entry = CRIU_IMAGE__PAGEMAP__INIT;
        if (entries->pages == 0)
                return;
        entry.vaddr = entries->at;
        entry.has_flags = 1;
        entry.flags = entries->flags;
        /* CRIU before 4.2 knows the old field only. */
        entry.compat_nr_pages = entries->pages <= UINT32_MAX ? (uint32_t)entries->pages : 0;
        entry.has_nr_pages = 1;
        entry.nr_pages = entries->pages;
        add_message(&entries->bytes, &entry.base);
        entries->pages = 0;
}

static void add_entry(struct entries *entries, uint64_t at, uint64_t pages, uint32_t flags) {
        if (entries->pages == 0 || entries->flags != flags || entries->at + entries->pages * GRAB_PAGE != at) {
                end_entry(entries);
                entries->at = at;
                entries->flags = flags;
        }
        entries->pages += pages;
}

void grab_pagemap(const struct grab_file *file, const CriuImage__Mm *mm, uint8_t **ret, size_t *ret_size) {
        CriuImage__PagemapHead head = CRIU_IMAGE__PAGEMAP_HEAD__INIT;
        struct entries entries = { 0 };
        size_t index = 0;

        head.pages_id = file->pages_id;
        add_number(&entries.bytes, MAGIC_COMMON);
        add_number(&entries.bytes, MAGIC_PAGEMAP);
        add_message(&entries.bytes, &head.base);
        for (size_t i = 0; i < file->n; i++) {
                const struct grab_range *range = &file->ranges[i];
                uint64_t at = range->at, end = at + range->pages * GRAB_PAGE, until;
                for (; at < end; at = until) {
                        until = end;
                        uint32_t flags = range->flags & CRIU_PAGEMAP_PARENT ? CRIU_PAGEMAP_PRESENT : range->flags;
                        if (mm && range->flags & CRIU_PAGEMAP_PARENT)
                                flags = flags_at(mm, &index, at, &until);
                        add_entry(&entries, at, (until - at) / GRAB_PAGE, flags);
                }
        }
        end_entry(&entries);
        *ret = entries.bytes.data;
        *ret_size = entries.bytes.n;
}

static int store_put(struct store *store, const char *name, const void *data, size_t size, struct st_error **err) {
        struct store_file *file = store_add(store, name, err);
        if (!file)
                return err && *err ? st_error_number(*err) : -EINVAL;
        return store_append(store, file, data, size, err);
}

/** A file of CRIU's directory. */
static int add_file(struct store *store, int dir_fd, const char *name, uint8_t *buffer, struct st_error **err) {
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        struct store_file *file = fd < 0 ? NULL : store_add(store, name, err);
        ssize_t n;
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s of CRIU", name);
        if (!file)
                return err && *err ? st_error_number(*err) : -EINVAL;
        while ((n = read(fd, buffer, COPY_BUFFER)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return st_error_errno(err, errno, "cannot read %s of CRIU", name);
                int r = store_append(store, file, buffer, (size_t)n, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/** All but the link to the parent: it is no part of the checkpoint. */
static int is_image(const struct dirent *entry) {
        return text_ends_with(entry->d_name, ".img");
}

static int add_files(struct store *store, int dir_fd, struct st_error **err) {
        struct dirent **entries = NULL;
        int n = scandirat(dir_fd, ".", &entries, is_image, alphasort), r = 0;
        if (n < 0)
                return st_error_errno(err, errno, "cannot list the files of CRIU");
        _cleanup_free_ uint8_t *buffer = xmalloc(COPY_BUFFER);
        for (int i = 0; i < n; i++) {
                r = r < 0 ? r : add_file(store, dir_fd, entries[i]->d_name, buffer, err);
                free(entries[i]);
        }
        free(entries);
        return r;
}

static int add_pagemap(struct grab *grab, const struct grab_file *file, int dir_fd, struct st_error **err) {
        _cleanup_free_ char *name =
                xasprintf("pagemap-%s%llu.img", file->shared ? "shmem-" : "", (unsigned long long)file->number);
        _cleanup_(message_freep) CriuImage__Mm *mm = NULL;
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;
        if (!file->shared) {
                _cleanup_free_ char *mm_name = xasprintf("mm-%llu.img", (unsigned long long)file->number), *text = NULL;
                int r = io_read_file(dir_fd, mm_name, MM_MAX, &text, &size);
                if (r < 0)
                        return st_error_errno(err, r, "cannot read %s of CRIU", mm_name);
                r = criu_images_load_one(mm_name, text, size, &criu_image__mm__descriptor, &mm, err);
                if (r < 0)
                        return r;
        }
        grab_pagemap(file, mm, &data, &size);
        return store_put(grab->store, name, data, size, err);
}

int grab_collect(struct grab *grab, const char *images_dir, struct st_error **err) {
        _cleanup_close_ int dir_fd = open(images_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = dir_fd < 0 ? st_error_errno(err, errno, "cannot open %s", images_dir)
                           : add_files(grab->store, dir_fd, err);
        for (size_t i = 0; i < grab->n_files && r >= 0; i++)
                r = add_pagemap(grab, grab->files[i], dir_fd, err);
        return r;
}

int grab_make_parent(const char *directory, struct st_error **err) {
        _cleanup_free_ char *path = path_join(directory, "inventory.img");
        CriuImage__Inventory inventory = CRIU_IMAGE__INVENTORY__INIT;
        struct bytes bytes = { 0 };

        inventory.img_version = IMAGE_VERSION;
        /* Who began after it has a PID that was another process's, says CRIU (detect_pid_reuse() in mem.c). */
        inventory.has_dump_uptime = 1;
        inventory.dump_uptime = INT64_MAX;
        add_number(&bytes, MAGIC_INVENTORY);
        add_message(&bytes, &inventory.base);
        int r = mkdir(directory, 0700) < 0 ? -errno : io_replace_file(path, bytes.data, bytes.n, 0600, false);
        free(bytes.data);
        return r < 0 ? st_error_errno(err, r, "cannot make %s", path) : 0;
}

/* Nothing is at address 0: who may read is told that, all others that they may not. */
static bool may_read(pid_t pid) {
        uint8_t byte;
        struct iovec local = { &byte, 1 }, remote = { NULL, 1 };

        return process_vm_readv(pid, &local, 1, &remote, 1, 0) >= 0 || errno == EFAULT;
}

int grab_check(pid_t pid, struct st_error **err) {
        _cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        struct pagemap_scan scan = { .size = sizeof(scan) };

        if (fd < 0 || ioctl(fd, PAGEMAP_SCAN_REQUEST, &scan) < 0)
                return st_error_set(err, EOPNOTSUPP, "the kernel has no PAGEMAP_SCAN: Linux 6.7 is needed");
        if (!may_read(pid))
                return st_error_errno(err, errno, "the memory of process %d cannot be read", (int)pid);
        return 0;
}
