/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Archives that somebody packed with tar out of a directory of plain CRIU. There is neither a manifest nor an order: a
 * first pass, to the end, tells what is in it. What it decodes to may be out of all proportion to its length, so that
 * is held against what this machine could store at all.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/archive.h"
#include "image/formats.h"
#include "process/host.h"

/** Memory that could be had when the kernel does not say, bytes. */
#define MEMORY_FALLBACK (UINT64_C(1) << 30)

/** What the memory and the disk for temporary files could hold together, bytes. */
static uint64_t room(void) {
        struct statvfs st;
        uint64_t memory = host_memory("MemAvailable"), disk = 0;
        if (statvfs(path_temporary_dir(), &st) == 0)
                disk = (uint64_t)st.f_bavail * st.f_frsize;
        return (memory > 0 ? memory : MEMORY_FALLBACK) + disk;
}

static int too_large(const struct image *image, uint64_t limit, struct st_error **err) {
        _cleanup_free_ char *text = text_from_size(limit);
        st_error_set(err, EFBIG, "%s unpacks to more than the %s that memory and temporary files have room for",
                     image->path, text);
        st_error_hint(err, "unpack it into a directory by hand, if you trust it");
        return -EFBIG;
}

/** Lists all files into the manifest. @return 0; -EBADMSG, -EFBIG, -E2BIG */
static int list(struct image *image, struct archive *archive, struct st_error **err) {
        const uint64_t limit = room();
        const char *name;
        uint64_t size;
        int r;
        while ((r = archive_list(archive, &name, &size, err)) > 0) {
                if (streq(name, IMAGE_MANIFEST)) {
                        st_error_set(err, EBADMSG, "it is truncated, or was not written by stasis");
                        st_error_hint(err,
                                      "what other programs packed can be used when it is unpacked into a directory");
                        return st_error_set(err, EBADMSG, "%s is damaged", image->path);
                }
                if (image->manifest.n == MANIFEST_FILES_MAX)
                        return st_error_set(err, E2BIG, "%s has more than %d files", image->path, MANIFEST_FILES_MAX);
                if (size > limit || image->manifest.total + size > limit)
                        return too_large(image, limit, err);
                manifest_add(&image->manifest, name, size, (struct hash){ 0 });
        }
        return r < 0 ? r : archive_end(archive, err);
}

int foreign_open(struct image *image, struct archive *archive, struct st_error **err) {
        int r = list(image, archive, err);
        /* What is neither named as a checkpoint nor has a file in it is none. */
        if (r == -EBADMSG && image->manifest.n == 0 && codec_by_suffix(image->path) == NULL)
                return st_error_set(err, EINVAL, "not a checkpoint: %s is %s, but no archive of a checkpoint",
                                    image->path, image->codec->what);
        if (r < 0)
                return r;
        if (manifest_index(&image->manifest, err) < 0)
                return st_error_set(err, EBADMSG, "%s is damaged", image->path);
        if (!manifest_find(&image->manifest, "inventory.img"))
                return st_error_set(err, EINVAL,
                                    "not a checkpoint: %s is an archive without a manifest and without "
                                    "inventory.img",
                                    image->path);
        return layout_make(&image->manifest, &image->layout, err);
}
