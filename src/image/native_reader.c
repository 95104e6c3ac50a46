/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/**
 * Frames in memory, 1 MiB each as they are written: besides some that equal pages lie in, one of each ancestor, since
 * the pages of a process that changes slowly come from all of them in turn.
 */
#define SLOTS_LEAST 4
#define SLOTS_MOST 32

/** A decoded frame. */
struct slot {
        uint32_t source, frame;
        uint8_t *bytes; /* NULL: none */
        uint64_t used;  /* when, the latest highest */
};

struct native_reader {
        const struct native *native;
        const struct native_file *file;
        uint32_t extent; /* of the file, where it stands */
        uint64_t passed; /* bytes of it */
        struct slot slots[SLOTS_MOST];
        size_t n_slots;
        uint64_t clock;
        struct native_coder *coder;
        uint8_t *stored;
};

struct native_reader *native_reader_new(const struct native *native) {
        struct native_reader *reader = NEW(struct native_reader);
        reader->native = native;
        reader->n_slots = SLOTS_LEAST + native->n_sources;
        if (reader->n_slots > SLOTS_MOST)
                reader->n_slots = SLOTS_MOST;
        reader->coder = native_coder_new();
        return reader;
}

struct native_reader *native_reader_free(struct native_reader *reader) {
        if (!reader)
                return NULL;
        for (size_t i = 0; i < reader->n_slots; i++)
                free(reader->slots[i].bytes);
        native_coder_free(reader->coder);
        free(reader->stored);
        free(reader);
        return NULL;
}

void native_reader_begin(struct native_reader *reader, const struct native_file *file) {
        reader->file = file;
        reader->extent = 0;
        reader->passed = 0;
}

/** The slot with a frame; NULL: there is none, and *ret_oldest is the one to take. */
static struct slot *find_slot(struct native_reader *reader, uint32_t source, uint32_t frame, struct slot **ret_oldest) {
        struct slot *oldest = &reader->slots[0];
        for (size_t i = 0; i < reader->n_slots; i++) {
                struct slot *slot = &reader->slots[i];
                if (slot->bytes && slot->source == source && slot->frame == frame)
                        return slot;
                if (!slot->bytes || (oldest->bytes && slot->used < oldest->used))
                        oldest = slot;
        }
        *ret_oldest = oldest;
        return NULL;
}

/** @param ret the decoded bytes of a frame */
static int get_frame(struct native_reader *reader, uint32_t source, uint32_t frame, const uint8_t **ret,
                     struct st_error **err) {
        struct slot *slot, *oldest = NULL;
        slot = find_slot(reader, source, frame, &oldest);
        if (!slot) {
                slot = oldest;
                free(slot->bytes);
                slot->bytes = NULL;
                uint8_t *bytes = malloc(reader->native->sources[source].frames[frame].decoded);
                if (!reader->stored)
                        reader->stored = malloc(NATIVE_STORED_MAX);
                int r = bytes && reader->stored ? native_read_frame(reader->native, source, frame, reader->coder,
                                                                    reader->stored, bytes, err)
                                                : st_error_errno(err, ENOMEM, "cannot read a frame");
                if (r < 0) {
                        free(bytes);
                        return r;
                }
                *slot = (struct slot){ .source = source, .frame = frame, .bytes = bytes };
        }
        slot->used = ++reader->clock;
        *ret = slot->bytes;
        return 0;
}

/** Where the bytes of an extent lie. */
struct place {
        uint32_t source, frame;
        uint64_t offset, length;
};

static struct place place_of(const struct native_file *file, uint32_t i) {
        if (file->kind == NATIVE_DATA) {
                const struct native_extent *extent = &file->extents[i];
                return (struct place){ 0, extent->frame, extent->offset, extent->length };
        }
        const struct native_run *run = &file->runs[i];
        return (struct place){ run->source, run->frame, run->page * (uint64_t)NATIVE_PAGE,
                               run->count * (uint64_t)NATIVE_PAGE };
}

ssize_t native_reader_read(struct native_reader *reader, void *buffer, size_t n, struct st_error **err) {
        size_t have = 0;
        while (have < n && reader->extent < reader->file->n) {
                struct place place = place_of(reader->file, reader->extent);
                uint64_t left = place.length - reader->passed;
                size_t some = left < n - have ? (size_t)left : n - have;
                if (place.source == NATIVE_ZERO) {
                        memset((uint8_t *)buffer + have, 0, some);
                } else {
                        const uint8_t *bytes;
                        int r = get_frame(reader, place.source, place.frame, &bytes, err);
                        if (r < 0)
                                return r;
                        memcpy((uint8_t *)buffer + have, bytes + place.offset + reader->passed, some);
                }
                have += some;
                reader->passed += some;
                if (reader->passed == place.length) {
                        reader->extent++;
                        reader->passed = 0;
                }
        }
        return (ssize_t)have;
}
