/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What can be told of files without checksums: whether they are whole, by the lengths that CRIU wrote into them. CRIU
 * itself reads some of them in a loop that never ends when they are cut (criu/files-reg.c of 4.2.1).
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "criu/images.h"
#include "image/formats.h"
#include "image/streamer.h"

/** As image_read() reads; larger ones are looked at by nobody but CRIU. */
#define SIZE_LIMIT ((uint64_t)16 << 20)

struct checking {
        const struct image *image;
        const char *name;
        uint64_t pages; /* that a pagemap says are in its file of pages */
        bool has_pages;
        uint32_t pages_id;
};

static int needs_parent(const struct checking *checking, struct st_error **err) {
        st_error_set(err, EOPNOTSUPP, "%s is incremental: %s has pages that are in its parent", checking->image->path,
                     checking->name);
        st_error_hint(err, "dump without --prev-images-dir");
        return -EOPNOTSUPP;
}

static int visit(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        struct checking *checking = userdata;
        if (entry->message->descriptor == &criu_image__pagemap_head__descriptor) {
                checking->has_pages = true;
                checking->pages_id = ((const CriuImage__PagemapHead *)entry->message)->pages_id;
        } else if (entry->message->descriptor == &criu_image__pagemap__descriptor) {
                const CriuImage__Pagemap *map = (const CriuImage__Pagemap *)entry->message;
                uint64_t n = criu_pagemap_pages(map);
                uint32_t flags = criu_pagemap_flags(map);
                if (map->in_parent || flags & CRIU_PAGEMAP_PARENT)
                        return needs_parent(checking, err);
                checking->pages += flags & CRIU_PAGEMAP_PRESENT && n < (UINT64_C(1) << 40) ? n : 0;
        } else if (entry->message->descriptor == &criu_image__ghost_file__descriptor) {
                const CriuImage__GhostFile *ghost = (const CriuImage__GhostFile *)entry->message;
                if (ghost->has_size && !ghost->chunks && entry->size < ghost->size)
                        return st_error_set(err, EBADMSG, "%s is damaged: it is truncated", checking->name);
        }
        return 0;
}

static int check_pages(const struct checking *checking, struct st_error **err) {
        _cleanup_free_ char *name = xasprintf("pages-%" PRIu32 ".img", checking->pages_id);
        const struct manifest_entry *pages = manifest_find(&checking->image->manifest, name);
        uint64_t size = pages ? pages->size : 0, wanted;
        if (__builtin_mul_overflow(checking->pages, CRIU_PAGE_SIZE, &wanted))
                wanted = UINT64_MAX;
        if (size >= wanted)
                return 0;
        st_error_set(err, EBADMSG, "%s has %" PRIu64 " bytes instead of %" PRIu64, name, size, wanted);
        return st_error_set(err, EBADMSG, "%s is damaged", checking->image->path);
}

static int check_file(struct image *image, const struct manifest_entry *entry, struct st_error **err) {
        struct checking checking = { .image = image, .name = entry->name };
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = image_read(image, entry->name, &data, &size, err);
        if (r < 0)
                return r;
        r = criu_images_each(entry->name, data, size, NULL, visit, &checking, &error);
        if (r == -EOPNOTSUPP && !checking.has_pages) /* a kind that nobody knows here */
                return 0;
        if (r < 0) {
                st_error_move(err, TAKE_PTR(error));
                return r == -EBADMSG ? st_error_set(err, EBADMSG, "%s is damaged", image->path) : r;
        }
        return checking.has_pages ? check_pages(&checking, err) : 0;
}

int image_check(struct image *image, struct st_error **err) {
        if (image->verified)
                return 0;
        for (size_t i = 0; i < image->manifest.n; i++) {
                const struct manifest_entry *entry = &image->manifest.entries[i];
                if (!text_ends_with(entry->name, ".img") || streamer_is_pages(entry->name) || entry->size > SIZE_LIMIT)
                        continue;
                int r = check_file(image, entry, err);
                if (r < 0)
                        return r;
        }
        return 0;
}
