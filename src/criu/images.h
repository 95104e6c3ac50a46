/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading CRIU's image files: api/criu/images.proto says what the messages hold, this is how they lie in a file.
 *
 * All numbers are little-endian. A file begins with a common magic number and that of its kind (inventory.img: only its
 * own). Then messages follow, each with its length before it (u32) and, in some kinds of files, raw data behind it.
 * Facts of CRIU 4.2.1: criu/include/magic.h, criu/image-desc.c, lib/pycriu/images/images.py; unchanged since 1.3.
 *
 * The bytes may come from anywhere: nothing here crashes or takes much memory, whatever they are. No message is more
 * than CRIU_IMAGES_MESSAGE_MAX, and unpacking one takes no more than a multiple of its length.
 *
 * Not read: images of version 1.0 (CRIU before 1.3); the separate files of CRIU before 3.x (reg-files.img, inetsk.img,
 * unixsk.img, pipes.img, vmas-N.img, creds-N.img, …) whose content is in files.img, mm-N.img and core-N.img since then;
 * what is in no format of CRIU's own (pages-N.img, iptables-N.img, tmpfs-*.tar.gz.img, …); ipcns-msg, ipcns-sem,
 * ipcns-var, bpfmap-data, tty-data, autofs, binfmt-misc, apparmor, irmap-cache. (For stats-*: criu/criu.h.)
 *
 * Any thread; nothing is shared.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <criu/images.pb-c.h>
#include <stasis/error.h>

#define CRIU_IMAGES_MESSAGE_MAX ((size_t)64 << 20)

/** The size of a page in the counts of pagemaps, on the machines that stasis knows. */
#define CRIU_PAGE_SIZE 4096u

/** CriuImage__TaskCore.task_state (compel/include/uapi/task-state.h) */
enum criu_task_state {
        CRIU_TASK_ALIVE = 1,
        CRIU_TASK_DEAD = 2,
        CRIU_TASK_STOPPED = 3,
        CRIU_TASK_ZOMBIE = 6,
};

/** CriuImage__Vma.status (criu/include/image.h) */
enum criu_vma_status {
        CRIU_VMA_REGULAR = 1 << 0,
        CRIU_VMA_STACK = 1 << 1,
        CRIU_VMA_VSYSCALL = 1 << 2,
        CRIU_VMA_VDSO = 1 << 3,
        CRIU_VMA_HEAP = 1 << 5,
        CRIU_VMA_FILE_PRIVATE = 1 << 6,
        CRIU_VMA_FILE_SHARED = 1 << 7,
        CRIU_VMA_ANON_SHARED = 1 << 8,
        CRIU_VMA_ANON_PRIVATE = 1 << 9,
        CRIU_VMA_SYSVIPC = 1 << 10,
        CRIU_VMA_SOCKET = 1 << 11,
        CRIU_VMA_VVAR = 1 << 12,
        CRIU_VMA_AIORING = 1 << 13,
        CRIU_VMA_MEMFD = 1 << 14,
        CRIU_VMA_SHSTK = 1 << 15,
        CRIU_VMA_GUARD = 1 << 16,
        CRIU_VMA_UPROBES = 1 << 17,
};

/** CriuImage__Pagemap.flags (criu/include/pagemap.h); none of PARENT and PRESENT: pages of zeros */
enum criu_pagemap_flags {
        CRIU_PAGEMAP_PARENT = 1 << 0,  /* in the parent checkpoint */
        CRIU_PAGEMAP_LAZY = 1 << 1,    /* may come later */
        CRIU_PAGEMAP_PRESENT = 1 << 2, /* in pages-N.img */
};

/** CriuImage__UnixSk.uflags (criu/sk-unix.c) */
#define CRIU_UNIX_EXTERN 1u

/** One message of a file. */
struct criu_image_entry {
        ProtobufCMessage *message; /* message->descriptor tells which it is */
        size_t number;             /* 0, 1, … in the file */
        const uint8_t *data;       /* the raw data behind it, inside the file's bytes; NULL: none */
        size_t size;
};

/**
 * Called for each message of a file, in order. The message is freed after the call unless the visitor takes it:
 * TAKE_PTR(entry->message), then freed by message_freep() or protobuf_c_message_free_unpacked(m, NULL).
 *
 * @return 0; a negative errno with err stops the walk and is returned by it
 */
typedef int (*criu_images_visit)(struct criu_image_entry *entry, void *userdata, struct st_error **err);

/**
 * Walks over a file. Most files hold messages of one kind. Those with two: pagemap-*.img begins with a PagemapHead,
 * Pagemaps follow; ghost-file-*.img begins with a GhostFile, whose data is the content, or after which GhostChunks
 * follow, their data being the content.
 *
 * @param name of the file: "core-42.img"; it tells the kind
 * @param descriptor of its messages (the second kind, when it has two), checked against the name; NULL: any
 * @return 0; -EBADMSG "core-42.img is damaged: …"; -EOPNOTSUPP: no kind of file that is read here, or another
 *         descriptor; what the visitor returned
 */
int criu_images_each(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                     criu_images_visit visit, void *userdata, struct st_error **err);

/** The messages of a file. Zero-initialise; free with criu_image_list_clear(). */
struct criu_image_list {
        ProtobufCMessage **items; /* CriuImage__Fdinfo *fd = (CriuImage__Fdinfo *)list.items[i] */
        size_t n, room;
};

/** Appends all messages of a file, without the raw data. After a failure the list is as it was. */
int criu_images_load(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                     struct criu_image_list *list, struct st_error **err);
void criu_image_list_clear(struct criu_image_list *list);
#define _cleanup_criu_image_list_ __attribute__((cleanup(criu_image_list_clear)))

/**
 * The message of a file that holds exactly one: inventory, core, ids, fs, mm, seccomp, cgroup, utsns, ….
 *
 * @param ret free with message_freep(): _cleanup_(message_freep) CriuImage__Core *core = NULL;
 */
int criu_images_load_one(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                         void *ret, struct st_error **err);

/** Is it the name of a file that can be read here? */
bool criu_images_known(const char *name);

/**
 * The number in a file's name: "core-42.img" of "core" → 42. IDs of ghost-file and tcp-stream are hexadecimal.
 *
 * @return false: it is of another kind
 */
bool criu_images_id(const char *name, const char *kind, uint64_t *ret);

/** How many pages an entry is of: the old field or the new one. */
uint64_t criu_pagemap_pages(const CriuImage__Pagemap *pagemap);
/** Its flags; old images say only that the pages are in the parent. */
uint32_t criu_pagemap_flags(const CriuImage__Pagemap *pagemap);
