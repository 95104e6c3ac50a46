/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_fold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/image.h"
#include "image/native_chain.h"
#include "image/native_fold_pages.h"
#include "image/partial.h"
#include "image/threads.h"

/** Part of the hidden name: hexadecimal digits, as partial.h asks for. */
#define PARTIAL_ID "f01d"

int fold_put(struct folding *folding, const void *data, size_t size, struct st_error **err) {
        int r = io_write_full(folding->fd, data, size);
        if (r == -ENOSPC || r == -EDQUOT) {
                _cleanup_free_ char *directory = path_directory(folding->target);
                st_error_set(err, ENOSPC, "no space left on %s", directory);
                st_error_hint(err, "make room there");
                return -ENOSPC;
        }
        if (r < 0)
                return st_error_errno(err, r, "cannot write beside %s", folding->target);
        folding->written += size;
        return 0;
}

int fold_copy_frame(struct folding *folding, uint32_t source, uint32_t frame, struct st_error **err) {
        const struct native_source *from = &folding->old->sources[source];
        const struct native_frame *entry = &from->frames[frame];
        if (threads_signalled(folding->fold->cancel_fd))
                return st_error_set(err, ECANCELED, "cancelled");
        ssize_t n = io_read_at(from->fd, folding->buffer, entry->stored, entry->offset);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read %s", from->path);
        if ((size_t)n != entry->stored || !hash_equal(hash_of(folding->buffer, entry->stored), entry->digest))
                return st_error_set(err, EBADMSG, "%s is damaged: frame %u at %llu has a wrong checksum", from->path,
                                    frame, (unsigned long long)entry->offset);
        return fold_put(folding, folding->buffer, entry->stored, err);
}

int fold_add_frame(struct folding *folding, const struct native_frame *frame, const uint8_t *digests,
                   struct st_error **err) {
        size_t size = fold_pages_of(frame) * sizeof(struct hash);
        if (folding->index.n_frames == NATIVE_FRAMES_MAX)
                return st_error_set(err, E2BIG, "%s would have too many frames", folding->target);
        GROW(folding->index.frames, folding->index.n_frames, folding->room_frames);
        folding->index.frames[folding->index.n_frames++] = *frame;
        while (folding->section_room - folding->section_size < size) {
                folding->section_room = folding->section_room > 0 ? 2 * folding->section_room : 1 << 16;
                folding->section = xrealloc(folding->section, folding->section_room, 1);
        }
        if (size > 0)
                memcpy(folding->section + folding->section_size, digests, size);
        folding->section_size += size;
        return 0;
}

/** Decides which ancestors stay, and how they are numbered then. @return how many go */
static size_t choose_sources(struct folding *folding) {
        const struct native_index *index = &folding->old->index;
        size_t n_dropped = 0;
        uint16_t next = 1;
        for (uint32_t i = 0; i < index->n_ancestors; i++) {
                bool drop = folding->fold->n_drop == 0;
                for (size_t d = 0; d < folding->fold->n_drop && !drop; d++)
                        drop = memcmp(folding->fold->drop[d], index->ancestors[i].id, NATIVE_ID) == 0;
                folding->dropped[i + 1] = drop;
                n_dropped += drop;
                if (!drop)
                        folding->sources[i + 1] = next++;
        }
        folding->n_kept = (uint16_t)(next - 1);
        return n_dropped;
}

/** The ancestors that stay, with all the frames that they have by now. */
static void keep_ancestors(struct folding *folding) {
        const struct native *old = folding->old;
        folding->index.ancestors =
                xcalloc((size_t)old->index.n_ancestors + folding->n_siblings + 1, sizeof(*folding->index.ancestors));
        for (uint32_t i = 0; i < old->index.n_ancestors; i++) {
                const struct native_source *source = &old->sources[i + 1];
                if (folding->dropped[i + 1])
                        continue;
                struct native_ancestor *kept = &folding->index.ancestors[folding->index.n_ancestors++];
                *kept = old->index.ancestors[i];
                kept->name = xstrdup(path_name(source->path));
                kept->path = path_absolute(source->path);
                kept->n_frames = source->n_frames;
                kept->frames = native_frames_digest(source->frames, source->n_frames);
        }
}

/** A sibling in which pages were found becomes an ancestor. */
static void add_siblings(struct folding *folding) {
        struct native_index *index = &folding->index;
        for (size_t i = 0; i < folding->n_siblings; i++) {
                const struct native_source *source = &folding->siblings[i]->sources[0];
                if (!folding->sibling_used[i])
                        continue;
                struct native_ancestor *ancestor = &index->ancestors[index->n_ancestors++];
                *ancestor = (struct native_ancestor){
                        .n_frames = source->n_frames,
                        .frames = native_frames_digest(source->frames, source->n_frames),
                        .name = xstrdup(path_name(source->path)),
                        .path = path_absolute(source->path),
                };
                memcpy(ancestor->id, source->header.id, NATIVE_ID);
        }
}

static bool lists(const struct native_index *index, const uint8_t id[NATIVE_ID]) {
        for (uint32_t i = 0; i < index->n_ancestors; i++)
                if (memcmp(index->ancestors[i].id, id, NATIVE_ID) == 0)
                        return true;
        return false;
}

/** Opens and holds those siblings that the image can refer to: what it does not know yet, and what does not need it. */
static int open_siblings(struct folding *folding, struct st_error **err) {
        const struct native_fold *fold = folding->fold;
        const struct native_source *own = &folding->old->sources[0];
        folding->siblings = xcalloc(fold->n_siblings + 1, sizeof(*folding->siblings));
        folding->sibling_used = xcalloc(fold->n_siblings + 1, sizeof(*folding->sibling_used));
        for (size_t i = 0; i < fold->n_siblings; i++) {
                _cleanup_(native_freep) struct native *sibling = NULL;
                const char *path = fold->siblings[i];
                _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                if (fd < 0 || native_open_alone(path, fd, &sibling, NULL) < 0 ||
                    lists(&folding->old->index, sibling->sources[0].header.id) ||
                    lists(&sibling->index, own->header.id) ||
                    memcmp(sibling->sources[0].header.id, own->header.id, NATIVE_ID) == 0 ||
                    folding->n_kept + folding->n_siblings >= NATIVE_ANCESTORS_MAX)
                        continue;
                int r = native_hold(sibling, fold->cancel_fd, err);
                if (r < 0)
                        return r;
                folding->siblings[folding->n_siblings++] = TAKE_PTR(sibling);
        }
        return 0;
}

/** The old image's own frames first, in their places. */
static int copy_own(struct folding *folding, struct st_error **err) {
        const struct native_source *own = &folding->old->sources[0];
        _cleanup_free_ uint8_t *digests = NULL;
        size_t pages = 0;
        int r = native_read_digests(folding->old, 0, &digests, &pages, err);
        const uint8_t *at = digests;
        for (uint32_t f = 0; f < own->n_frames && r == 0; f++) {
                r = fold_copy_frame(folding, 0, f, err);
                if (r == 0)
                        r = fold_add_frame(folding, &own->frames[f], at, err);
                at += fold_pages_of(&own->frames[f]) * sizeof(struct hash);
        }
        return r;
}

static int write_end(struct folding *folding, const struct native_header *header, struct st_error **err) {
        struct native_footer footer = { .digests_at = folding->written };
        uint8_t bytes[NATIVE_FOOTER];
        size_t size;
        _cleanup_free_ uint8_t *index = native_index_make(&folding->index, &size);

        memcpy(footer.id, header->id, NATIVE_ID);
        footer.digests = hash_of(folding->section, folding->section_size);
        int r = fold_put(folding, folding->section, folding->section_size, err);
        footer.index_at = folding->written;
        footer.index_stored = footer.index_decoded = size;
        footer.index = hash_of(index, size);
        if (r == 0)
                r = fold_put(folding, index, size, err);
        footer.size = folding->written + NATIVE_FOOTER;
        native_footer_make(&footer, bytes);
        if (r == 0)
                r = fold_put(folding, bytes, sizeof(bytes), err);
        if (r == 0 && fsync(folding->fd) < 0)
                return st_error_errno(err, errno, "cannot sync what is beside %s", folding->target);
        return r;
}

static int write_image(struct folding *folding, struct st_error **err) {
        struct native_header header = folding->old->sources[0].header;
        uint8_t bytes[NATIVE_HEADER];
        int r = 0;

        if (folding->fold->destination && getrandom(header.id, NATIVE_ID, 0) != NATIVE_ID)
                return st_error_errno(err, errno, "cannot make an ID");
        native_header_make(&header, bytes);
        r = fold_put(folding, bytes, sizeof(bytes), err);
        if (r == 0)
                r = copy_own(folding, err);
        if (r == 0)
                r = fold_take_pages(folding, err);
        add_siblings(folding);
        folding->index.files = folding->old->index.files;
        folding->index.n_files = folding->old->index.n_files;
        return r < 0 ? r : write_end(folding, &header, err);
}

/** Gives the result its name: never while somebody writes a child of what it replaces. */
static int give_name(struct folding *folding, const char *partial, struct st_error **err) {
        const struct native_fold *fold = folding->fold;
        _cleanup_close_ int locked = -EBADF;
        struct stat now, opened;
        if (fold->destination) {
                if (renameat2(AT_FDCWD, partial, AT_FDCWD, fold->destination, RENAME_NOREPLACE) < 0)
                        return st_error_errno(err, errno, "cannot rename %s to %s", partial, fold->destination);
                return 0;
        }
        (void)flock(folding->old->sources[0].fd, LOCK_UN); /* our own shared one, of native_hold() */
        locked = native_lock(fold->path, true, fold->cancel_fd, err);
        if (locked < 0)
                return locked;
        if (fstat(locked, &now) < 0 || fstat(folding->old->sources[0].fd, &opened) < 0 || now.st_ino != opened.st_ino ||
            now.st_dev != opened.st_dev)
                return st_error_set(err, ESTALE, "%s was replaced meanwhile", fold->path);
        return rename(partial, fold->path) < 0 ? st_error_errno(err, errno, "cannot rename %s", partial) : 0;
}

static int write_and_name(struct folding *folding, struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(folding->target);
        _cleanup_free_ char *partial = image_partial_path(folding->target, PARTIAL_ID);
        struct stat st;
        if (fstat(folding->old->sources[0].fd, &st) < 0)
                return st_error_errno(err, errno, "cannot look at %s", folding->fold->path);
        struct image_write options = { .partial = partial, .uid = st.st_uid, .gid = st.st_gid };
        if (folding->fold->destination) {
                options.uid = geteuid();
                options.gid = getegid();
        }

        partial_clean(directory, options.uid);
        folding->fd = partial_make(&options, false);
        if (folding->fd == -EEXIST || folding->fd == -EBUSY) {
                st_error_set(err, EBUSY, "%s is being written by somebody else", folding->target);
                st_error_hint(err, "try again when that has ended");
                return -EBUSY;
        }
        if (folding->fd < 0)
                return st_error_errno(err, folding->fd, "cannot write %s", partial);
        int r = write_image(folding, err);
        if (r == 0)
                r = give_name(folding, partial, err);
        if (r < 0)
                (void)unlink(partial);
        close(folding->fd);
        if (r < 0 || (r = io_sync_directory_of(folding->target)) >= 0)
                return r;
        if (folding->fold->destination) /* what is not said to be there must not be; what was replaced is gone */
                (void)unlink(folding->fold->destination);
        return st_error_errno(err, r, "cannot sync %s", directory);
}

static void folding_clear(struct folding *folding) {
        for (uint32_t i = 0; i < folding->index.n_ancestors; i++) {
                free(folding->index.ancestors[i].name);
                free(folding->index.ancestors[i].path);
        }
        free(folding->index.ancestors);
        for (size_t i = 0; i < folding->n_siblings; i++)
                native_free(folding->siblings[i]);
        free(folding->siblings);
        free(folding->sibling_used);
        free(folding->index.frames);
        free(folding->dropped);
        free(folding->sources);
        free(folding->section);
        free(folding->buffer);
        native_free(folding->old);
}

int native_fold(const struct native_fold *fold, struct st_error **err) {
        _cleanup_(folding_clear) struct folding folding = {
                .fold = fold,
                .target = fold->destination ? fold->destination : fold->path,
                .fd = -EBADF,
        };
        /* What is to be replaced is not looked for behind a link. */
        int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (fold->destination ? 0 : O_NOFOLLOW);
        _cleanup_close_ int fd = open(fold->path, flags);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open the checkpoint %s", fold->path);
        int r = native_open(fold->path, fd, &folding.old, err);
        if (r < 0)
                return r;
        r = native_hold(folding.old, fold->cancel_fd, err);
        if (r < 0)
                return r;
        folding.sources = xcalloc(folding.old->n_sources, sizeof(*folding.sources));
        folding.dropped = xcalloc(folding.old->n_sources, sizeof(*folding.dropped));
        folding.buffer = xmalloc(NATIVE_STORED_MAX);
        if (choose_sources(&folding) == 0 && !fold->destination)
                return 0;
        r = open_siblings(&folding, err);
        if (r < 0)
                return r;
        keep_ancestors(&folding);
        return write_and_name(&folding, err);
}
