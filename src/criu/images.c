/* SPDX-License-Identifier: Apache-2.0 */
#include "criu/images.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"

#define MAGIC_COMMON 0x54564319u
#define SUFFIX ".img"

/*
 * A message of N bytes may take BUDGET_BASE + N * BUDGET_FACTOR of memory. An honest one takes at most 7 times its
 * length (a timer, a file in a list); two bytes of a field that nobody knows take more than 30 times theirs.
 */
#define BUDGET_BASE ((size_t)64 << 10)
#define BUDGET_FACTOR 16

enum id { ID_NONE, ID_DECIMAL, ID_HEXADECIMAL };

struct kind {
        const char *name; /* before the ID */
        enum id id;
        uint32_t magic;
        const ProtobufCMessageDescriptor *entry;
        const ProtobufCMessageDescriptor *head; /* the first message is one of these; NULL: as the others */

        /** How much raw data follows a message; `left` bytes there are at most. @return false: it cannot be */
        bool (*tail)(const ProtobufCMessage *message, size_t left, uint64_t *ret);
};

static bool tail_ghost(const ProtobufCMessage *message, size_t left, uint64_t *ret) {
        if (message->descriptor == &criu_image__ghost_file__descriptor) {
                const CriuImage__GhostFile *ghost = (const CriuImage__GhostFile *)message;
                *ret = ghost->chunks ? 0 : left;
        } else {
                *ret = ((const CriuImage__GhostChunk *)message)->len;
        }
        return true;
}

static bool tail_pipe(const ProtobufCMessage *message, size_t left, uint64_t *ret) {
        (void)left;
        *ret = ((const CriuImage__PipeData *)message)->bytes;
        return true;
}

static bool tail_packet(const ProtobufCMessage *message, size_t left, uint64_t *ret) {
        (void)left;
        *ret = ((const CriuImage__SkPacket *)message)->length;
        return true;
}

static bool tail_tcp(const ProtobufCMessage *message, size_t left, uint64_t *ret) {
        const CriuImage__TcpStream *stream = (const CriuImage__TcpStream *)message;
        (void)left;
        *ret = (uint64_t)stream->inq_len + stream->outq_len;
        return true;
}

/** The content of a segment is filled up to four bytes. */
static bool tail_shm(const ProtobufCMessage *message, size_t left, uint64_t *ret) {
        const CriuImage__IpcShm *shm = (const CriuImage__IpcShm *)message;
        *ret = shm->in_pagemaps ? 0 : shm->size;
        if (*ret > left)
                return false;
        *ret = (*ret + 3) / 4 * 4;
        return true;
}

#define OF(message) &criu_image__##message##__descriptor

/* Magic numbers: criu/include/magic.h. */
static const struct kind kinds[] = {
        { "inventory", ID_NONE, 0x58313116, OF(inventory), NULL, NULL },
        { "pstree", ID_NONE, 0x50273030, OF(pstree), NULL, NULL },
        { "core", ID_DECIMAL, 0x55053847, OF(core), NULL, NULL },
        { "ids", ID_DECIMAL, 0x54432030, OF(ids), NULL, NULL },
        { "fs", ID_DECIMAL, 0x51403912, OF(fs), NULL, NULL },
        { "seccomp", ID_NONE, 0x64413049, OF(seccomp), NULL, NULL },
        { "mm", ID_DECIMAL, 0x57492820, OF(mm), NULL, NULL },
        { "pagemap", ID_DECIMAL, 0x56084025, OF(pagemap), OF(pagemap_head), NULL },
        { "pagemap-shmem", ID_DECIMAL, 0x56084025, OF(pagemap), OF(pagemap_head), NULL },
        { "fdinfo", ID_DECIMAL, 0x56213732, OF(fdinfo), NULL, NULL },
        { "files", ID_NONE, 0x56303138, OF(file), NULL, NULL },
        { "memfd", ID_NONE, 0x48453499, OF(memfd_inode), NULL, NULL },
        { "remap-fpath", ID_NONE, 0x59133954, OF(remap_file_path), NULL, NULL },
        { "ghost-file", ID_HEXADECIMAL, 0x52583605, OF(ghost_chunk), OF(ghost_file), tail_ghost },
        { "pipes-data", ID_NONE, 0x56453709, OF(pipe_data), NULL, tail_pipe },
        { "fifo-data", ID_NONE, 0x59333054, OF(pipe_data), NULL, tail_pipe },
        { "sk-queues", ID_NONE, 0x56264026, OF(sk_packet), NULL, tail_packet },
        { "tcp-stream", ID_HEXADECIMAL, 0x51465506, OF(tcp_stream), NULL, tail_tcp },
        { "filelocks", ID_NONE, 0x54323616, OF(file_lock), NULL, NULL },
        { "tty-info", ID_NONE, 0x59453036, OF(tty_info), NULL, NULL },
        { "mountpoints", ID_DECIMAL, 0x55563928, OF(mnt), NULL, NULL },
        { "utsns", ID_DECIMAL, 0x54473203, OF(utsns), NULL, NULL },
        { "netns", ID_DECIMAL, 0x55933752, OF(netns), NULL, NULL },
        { "netdev", ID_DECIMAL, 0x57373951, OF(net_device), NULL, NULL },
        { "userns", ID_DECIMAL, 0x55474906, OF(userns), NULL, NULL },
        { "pidns", ID_DECIMAL, 0x61157326, OF(pidns), NULL, NULL },
        { "timens", ID_DECIMAL, 0x43114433, OF(timens), NULL, NULL },
        { "ipcns-shm", ID_DECIMAL, 0x46283044, OF(ipc_shm), NULL, tail_shm },
        { "cgroup", ID_NONE, 0x59383330, OF(cgroup), NULL, NULL },
        { "cpuinfo", ID_NONE, 0x61404013, OF(cpuinfo), NULL, NULL },
};

/** The number at the end of a name, without signs, spaces and prefixes. */
static bool take_id(const char *text, size_t length, enum id id, uint64_t *ret) {
        uint64_t base = id == ID_HEXADECIMAL ? 16 : 10, value = 0;
        if (length == 0)
                return false;
        for (size_t i = 0; i < length; i++) {
                static const char digits[] = "0123456789abcdef";
                const char *digit = memchr(digits, text[i], base);
                if (!digit || value > (UINT64_MAX - (uint64_t)(digit - digits)) / base)
                        return false;
                value = value * base + (uint64_t)(digit - digits);
        }
        *ret = value;
        return true;
}

static bool is_of_kind(const char *name, const struct kind *kind, uint64_t *ret_id) {
        const char *rest = text_after(name, kind->name);
        if (!rest || !text_ends_with(rest, SUFFIX))
                return false;
        size_t length = strlen(rest) - strlen(SUFFIX);
        if (kind->id == ID_NONE)
                return length == 0;
        return length > 1 && *rest == '-' && take_id(rest + 1, length - 1, kind->id, ret_id);
}

static const struct kind *find_kind(const char *name) {
        uint64_t id;
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
                if (is_of_kind(name, &kinds[i], &id))
                        return &kinds[i];
        return NULL;
}

bool criu_images_known(const char *name) {
        return find_kind(name) != NULL;
}

bool criu_images_id(const char *name, const char *kind, uint64_t *ret) {
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
                if (kinds[i].id != ID_NONE && streq(kinds[i].name, kind))
                        return is_of_kind(name, &kinds[i], ret);
        return false;
}

static void *budget_allocate(void *userdata, size_t size) {
        size_t *budget = userdata;
        if (size > *budget)
                return NULL;
        *budget -= size;
        return malloc(size);
}

static void budget_free(void *userdata, void *p) {
        (void)userdata;
        free(p);
}

/** What the budget gave is plain malloc'ed memory: free with message_freep(). */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t size) {
        size_t budget = BUDGET_BASE + size * BUDGET_FACTOR;
        ProtobufCAllocator allocator = { budget_allocate, budget_free, &budget };
        return protobuf_c_message_unpack(descriptor, &allocator, size, data);
}

/** A file that is walked over. */
struct walk {
        const char *name;
        const struct kind *kind;
        const uint8_t *start, *at;
        size_t left;
        size_t number;
};

static int damaged(const struct walk *walk, const char *what, struct st_error **err) {
        return st_error_set(err, EBADMSG, "%s is damaged: at byte %zu %s", walk->name, (size_t)(walk->at - walk->start),
                            what);
}

static void advance(struct walk *walk, size_t n) {
        walk->at += n;
        walk->left -= n;
}

static int check_magic(struct walk *walk, struct st_error **err) {
        size_t length = walk->kind->entry == &criu_image__inventory__descriptor ? 4 : 8;
        if (walk->left < length)
                return st_error_set(err, EBADMSG, "%s is damaged: it is %zu bytes long", walk->name, walk->left);
        if (length == 8 && bytes_le32(walk->at) != MAGIC_COMMON)
                return st_error_set(err, EBADMSG, "%s is damaged: it does not begin as an image of CRIU does",
                                    walk->name);
        if (bytes_le32(walk->at + length - 4) != walk->kind->magic)
                return st_error_set(err, EBADMSG, "%s is damaged: it is an image of CRIU, but of another kind",
                                    walk->name);
        advance(walk, length);
        return 0;
}

/** Reads one message and the data behind it; there is at least one byte left. */
static int take_entry(struct walk *walk, struct criu_image_entry *entry, struct st_error **err) {
        const struct kind *kind = walk->kind;
        if (walk->left < 4)
                return damaged(walk, "it is cut off", err);
        size_t size = bytes_le32(walk->at);
        if (size > CRIU_IMAGES_MESSAGE_MAX || size > walk->left - 4)
                return damaged(walk, "a message is longer than the rest", err);
        entry->message = unpack(walk->number == 0 && kind->head ? kind->head : kind->entry, walk->at + 4, size);
        if (!entry->message)
                return damaged(walk, "a message is not readable", err);
        advance(walk, size + 4);
        entry->number = walk->number++;

        uint64_t tail = 0;
        if (kind->tail && !kind->tail(entry->message, walk->left, &tail))
                tail = UINT64_MAX;
        if (tail > walk->left)
                return damaged(walk, "data is longer than the rest", err);
        if (tail > 0) {
                entry->data = walk->at;
                entry->size = (size_t)tail;
                advance(walk, (size_t)tail);
        }
        return 0;
}

int criu_images_each(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                     criu_images_visit visit, void *userdata, struct st_error **err) {
        struct walk walk = { .name = name, .kind = find_kind(name), .start = data, .at = data, .left = size };
        if (!walk.kind)
                return st_error_set(err, EOPNOTSUPP, "%s is no image of CRIU that can be read", name);
        if (descriptor && walk.kind->entry != descriptor)
                return st_error_set(err, EOPNOTSUPP, "%s does not hold messages of %s", name, descriptor->name);
        int r = check_magic(&walk, err);
        while (r >= 0 && walk.left > 0) {
                struct criu_image_entry entry = { 0 };
                r = take_entry(&walk, &entry, err);
                if (r >= 0)
                        r = visit(&entry, userdata, err);
                message_freep(&entry.message);
        }
        return r < 0 ? r : 0;
}

static int keep(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        struct criu_image_list *list = userdata;
        (void)err;
        GROW(list->items, list->n, list->room);
        list->items[list->n++] = TAKE_PTR(entry->message);
        return 0;
}

static void shorten(struct criu_image_list *list, size_t n) {
        while (list->n > n)
                message_freep(&list->items[--list->n]);
}

int criu_images_load(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                     struct criu_image_list *list, struct st_error **err) {
        size_t before = list->n;
        int r = criu_images_each(name, data, size, descriptor, keep, list, err);
        if (r < 0)
                shorten(list, before);
        return r;
}

void criu_image_list_clear(struct criu_image_list *list) {
        shorten(list, 0);
        free(list->items);
        *list = (struct criu_image_list){ 0 };
}

int criu_images_load_one(const char *name, const void *data, size_t size, const ProtobufCMessageDescriptor *descriptor,
                         void *ret, struct st_error **err) {
        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        int r = criu_images_load(name, data, size, descriptor, &list, err);
        if (r < 0)
                return r;
        if (list.n != 1)
                return st_error_set(err, EBADMSG, "%s is damaged: it holds %zu messages instead of one", name, list.n);
        *(ProtobufCMessage **)ret = TAKE_PTR(list.items[0]);
        return 0;
}

uint64_t criu_pagemap_pages(const CriuImage__Pagemap *pagemap) {
        return pagemap->has_nr_pages ? pagemap->nr_pages : pagemap->compat_nr_pages;
}

uint32_t criu_pagemap_flags(const CriuImage__Pagemap *pagemap) {
        if (pagemap->has_flags)
                return pagemap->flags;
        return pagemap->in_parent ? CRIU_PAGEMAP_PARENT : CRIU_PAGEMAP_PRESENT;
}
