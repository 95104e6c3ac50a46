/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_parent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/native_chain.h"

/** It may be exchanged for another one, which is as good, between opening and holding. */
#define ATTEMPTS 5

static int random_bytes(void *bytes, size_t n, struct st_error **err) {
        ssize_t got = getrandom(bytes, n, 0); /* whole up to 256 bytes: getrandom(2) */
        return got == (ssize_t)n ? 0 : st_error_errno(err, got < 0 ? errno : EIO, "cannot get random bytes");
}

static int open_and_hold(const struct image_write *options, struct native **ret, struct st_error **err) {
        _cleanup_(native_freep) struct native *native = NULL;
        _cleanup_close_ int fd = open(options->parent, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s", options->parent);
        int r = native_open(options->parent, fd, &native, err);
        if (r == 0)
                r = native_hold(native, options->cancel_fd, err);
        if (r == 0)
                *ret = TAKE_PTR(native);
        return r;
}

/** The page digests of it and its ancestors. Sources that the child's list has no room for are not referred to. */
static int read_pages(struct native_encoder *encoder, struct st_error **err) {
        const struct native *parent = encoder->parent;
        for (uint32_t i = 0; i < parent->n_sources && i < NATIVE_ANCESTORS_MAX; i++) {
                const struct native_source *source = &parent->sources[i];
                uint8_t *digests;
                size_t pages;
                if (source->header.seed != encoder->header.seed)
                        return st_error_set(err, EBADMSG, "%s has another seed than its child", source->path);
                int r = native_read_digests(parent, i, &digests, &pages, err);
                if (r < 0)
                        return r;
                page_table_add_source(encoder->table, source->frames, source->n_frames, digests);
        }
        return 0;
}

int native_parent_open(struct native_encoder *encoder, struct st_error **err) {
        const struct image_write *options = encoder->writing->options;
        int r = random_bytes(encoder->header.id, sizeof(encoder->header.id), err);
        if (r == 0 && !options->parent)
                r = random_bytes(&encoder->header.seed, sizeof(encoder->header.seed), err);
        if (r < 0 || !options->parent)
                return r;
        for (int i = 1;; i++) {
                struct st_error *error = NULL;
                r = open_and_hold(options, &encoder->parent, &error);
                if (r == 0)
                        break;
                if (r != -ESTALE || i == ATTEMPTS) {
                        st_error_move(err, error);
                        return st_error_wrap(err, "the parent cannot be used");
                }
                st_error_free(error);
        }
        encoder->header.seed = encoder->parent->sources[0].header.seed;
        r = read_pages(encoder, err);
        return r < 0 ? st_error_wrap(err, "the parent cannot be used") : 0;
}

/** Which sources of the table are referred to. */
static void mark(const struct native_index *index, bool *used) {
        for (uint32_t i = 0; i < index->n_files; i++)
                for (uint32_t k = 0; index->files[i].kind == NATIVE_PAGES && k < index->files[i].n; k++)
                        if (index->files[i].runs[k].source != NATIVE_ZERO)
                                used[index->files[i].runs[k].source] = true;
}

static void renumber(struct native_index *index, const uint16_t *numbers) {
        for (uint32_t i = 0; i < index->n_files; i++)
                for (uint32_t k = 0; index->files[i].kind == NATIVE_PAGES && k < index->files[i].n; k++) {
                        struct native_run *run = &index->files[i].runs[k];
                        if (run->source != NATIVE_ZERO)
                                run->source = numbers[run->source];
                }
}

void native_parent_refer(const struct native_encoder *encoder, struct native_index *index) {
        bool used[NATIVE_ANCESTORS_MAX + 1] = { [1] = true };
        uint16_t numbers[NATIVE_ANCESTORS_MAX + 1] = { 0 };
        if (!encoder->parent)
                return;
        mark(index, used);
        index->ancestors = xcalloc(encoder->parent->n_sources, sizeof(*index->ancestors));
        for (uint32_t i = 0; i < encoder->parent->n_sources && i < NATIVE_ANCESTORS_MAX; i++) {
                const struct native_source *source = &encoder->parent->sources[i];
                if (!used[i + 1])
                        continue;
                struct native_ancestor *ancestor = &index->ancestors[index->n_ancestors++];
                numbers[i + 1] = (uint16_t)index->n_ancestors;
                *ancestor = (struct native_ancestor){
                        .n_frames = source->n_frames,
                        .frames = native_frames_digest(source->frames, source->n_frames),
                        .name = xstrdup(path_name(source->path)),
                        .path = path_absolute(source->path),
                };
                memcpy(ancestor->id, source->header.id, NATIVE_ID);
        }
        renumber(index, numbers);
}
