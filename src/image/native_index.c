/* SPDX-License-Identifier: Apache-2.0 */

/* The index of the native image, to and from its decoded bytes. */

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/native_bytes.h"
#include "image/native_format.h"

#define COUNTS 16
/** The least bytes that one of them takes. */
#define ANCESTOR_MIN (16 + 4 + 16 + 2 + 1 + 2 + 1)
#define FILE_MIN (2 + 1 + 1 + 8 + 4)
#define EXTENT 12
#define PAGES_IN_FRAME (NATIVE_FRAME_MAX / NATIVE_PAGE)

static const uint8_t zeros[NATIVE_ID];

/** Bytes that are read, from the front. */
struct input {
        const uint8_t *at;
        size_t left;
};

static const uint8_t *take(struct input *input, size_t n) {
        if (n > input->left)
                return NULL;
        const uint8_t *at = input->at;
        input->at += n;
        input->left -= n;
        return at;
}

/** Appends; where the room is comes from who counted it. */
static void put(uint8_t **at, const void *data, size_t n) {
        if (n > 0)
                memcpy(*at, data, n);
        *at += n;
}

static void put16(uint8_t **at, uint16_t value) {
        native_put16(*at, value);
        *at += sizeof(value);
}

static void put32(uint8_t **at, uint32_t value) {
        native_put32(*at, value);
        *at += sizeof(value);
}

static void put64(uint8_t **at, uint64_t value) {
        native_put64(*at, value);
        *at += sizeof(value);
}

static void put_text(uint8_t **at, const char *text) {
        put16(at, (uint16_t)strlen(text));
        put(at, text, strlen(text));
}

static void make_frame(const struct native_frame *frame, uint8_t **at) {
        uint8_t digest[16];
        put32(at, frame->stored);
        put32(at, frame->decoded);
        put(at, &frame->kind, 1);
        put(at, &frame->codec, 1);
        put(at, zeros, 6);
        native_put_digest(digest, frame->digest);
        put(at, digest, sizeof(digest));
}

struct hash native_frames_digest(const struct native_frame *frames, uint32_t n) {
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        uint8_t entry[NATIVE_FRAME_ENTRY];
        for (uint32_t i = 0; i < n; i++) {
                uint8_t *at = entry;
                make_frame(&frames[i], &at);
                hasher_update(hasher, entry, sizeof(entry));
        }
        return hasher_finish(hasher);
}

static void make_ancestor(const struct native_ancestor *ancestor, uint8_t **at) {
        uint8_t digest[16];
        put(at, ancestor->id, NATIVE_ID);
        put32(at, ancestor->n_frames);
        native_put_digest(digest, ancestor->frames);
        put(at, digest, sizeof(digest));
        put_text(at, ancestor->name);
        put_text(at, ancestor->path);
}

static void make_file(const struct native_file *file, uint8_t **at) {
        uint8_t kind = (uint8_t)file->kind;
        put_text(at, file->name);
        put(at, &kind, 1);
        put64(at, file->size);
        put32(at, file->n);
        for (uint32_t i = 0; i < file->n; i++) {
                if (file->kind == NATIVE_DATA) {
                        put32(at, file->extents[i].length);
                        put32(at, file->extents[i].frame);
                        put32(at, file->extents[i].offset);
                } else {
                        put32(at, file->runs[i].count);
                        put32(at, file->runs[i].frame);
                        put16(at, file->runs[i].page);
                        put16(at, file->runs[i].source);
                }
        }
}

uint8_t *native_index_make(const struct native_index *index, size_t *ret_size) {
        uint64_t size = COUNTS + (uint64_t)index->n_frames * NATIVE_FRAME_ENTRY;
        for (uint32_t i = 0; i < index->n_ancestors; i++)
                size += ANCESTOR_MIN - 2 + strlen(index->ancestors[i].name) + strlen(index->ancestors[i].path);
        for (uint32_t i = 0; i < index->n_files; i++)
                size += FILE_MIN - 1 + strlen(index->files[i].name) + (uint64_t)index->files[i].n * EXTENT;
        uint8_t *bytes = size <= NATIVE_INDEX_MAX ? malloc((size_t)size) : NULL;
        if (!bytes)
                return NULL;
        uint8_t *at = bytes;
        put32(&at, index->n_ancestors);
        put32(&at, index->n_frames);
        put32(&at, index->n_files);
        put32(&at, 0);
        for (uint32_t i = 0; i < index->n_ancestors; i++)
                make_ancestor(&index->ancestors[i], &at);
        for (uint32_t i = 0; i < index->n_frames; i++)
                make_frame(&index->frames[i], &at);
        for (uint32_t i = 0; i < index->n_files; i++)
                make_file(&index->files[i], &at);
        *ret_size = (size_t)size;
        return bytes;
}

void native_index_clear(struct native_index *index) {
        for (uint32_t i = 0; i < index->n_ancestors; i++) {
                free(index->ancestors[i].name);
                free(index->ancestors[i].path);
        }
        for (uint32_t i = 0; i < index->n_files; i++) {
                free(index->files[i].name);
                if (index->files[i].kind == NATIVE_DATA)
                        free(index->files[i].extents);
                else
                        free(index->files[i].runs);
        }
        free(index->ancestors);
        free(index->frames);
        free(index->files);
        *index = (struct native_index){ 0 };
}

/** A text of 1 to `max` bytes, none of them NUL. @return malloc'ed, or NULL */
static char *parse_text(struct input *input, size_t max) {
        const uint8_t *length = take(input, 2);
        size_t n = length ? native_get16(length) : 0;
        const uint8_t *text = n > 0 && n <= max ? take(input, n) : NULL;
        return text && !memchr(text, 0, n) ? xstrndup((const char *)text, n) : NULL;
}

static bool is_name(const char *name) {
        return name && !strchr(name, '/') && !streq(name, ".") && !streq(name, "..");
}

static bool parse_ancestor(struct input *input, struct native_ancestor *ancestor) {
        const uint8_t *fixed = take(input, NATIVE_ID + 4 + 16);
        if (!fixed)
                return false;
        memcpy(ancestor->id, fixed, NATIVE_ID);
        ancestor->n_frames = native_get32(fixed + 16);
        ancestor->frames = native_get_digest(fixed + 20);
        ancestor->name = parse_text(input, NAME_MAX);
        ancestor->path = parse_text(input, PATH_MAX - 1);
        return memcmp(ancestor->id, zeros, NATIVE_ID) != 0 && ancestor->n_frames <= NATIVE_FRAMES_MAX &&
               is_name(ancestor->name) && ancestor->path && ancestor->path[0] == '/';
}

static bool parse_frame(const uint8_t *bytes, struct native_frame *frame) {
        frame->stored = native_get32(bytes);
        frame->decoded = native_get32(bytes + 4);
        frame->kind = bytes[8];
        frame->codec = bytes[9];
        frame->digest = native_get_digest(bytes + 16);
        return frame->stored > 0 && frame->stored <= NATIVE_STORED_MAX && frame->decoded > 0 &&
               frame->decoded <= NATIVE_FRAME_MAX && memcmp(bytes + 10, zeros, 6) == 0 &&
               (frame->kind == NATIVE_DATA || (frame->kind == NATIVE_PAGES && frame->decoded % NATIVE_PAGE == 0)) &&
               (frame->codec == NATIVE_RAW ? frame->stored == frame->decoded : frame->codec <= NATIVE_ZSTD);
}

static bool parse_extent(const uint8_t *bytes, const struct native_index *index, struct native_extent *extent) {
        *extent = (struct native_extent){ native_get32(bytes), native_get32(bytes + 4), native_get32(bytes + 8) };
        if (extent->length == 0 || extent->frame >= index->n_frames)
                return false;
        const struct native_frame *frame = &index->frames[extent->frame];
        return frame->kind == NATIVE_DATA && extent->offset < frame->decoded &&
               extent->length <= frame->decoded - extent->offset;
}

/** Whether it stays inside an ancestor's frame is seen when that is opened. */
static bool parse_run(const uint8_t *bytes, const struct native_index *index, struct native_run *run) {
        *run = (struct native_run){ native_get32(bytes), native_get32(bytes + 4), native_get16(bytes + 8),
                                    native_get16(bytes + 10) };
        if (run->count == 0)
                return false;
        if (run->source == NATIVE_ZERO)
                return run->frame == 0 && run->page == 0;
        size_t room = PAGES_IN_FRAME;
        if (run->source == 0) {
                if (run->frame >= index->n_frames || index->frames[run->frame].kind != NATIVE_PAGES)
                        return false;
                room = index->frames[run->frame].decoded / NATIVE_PAGE;
        } else if (run->source > index->n_ancestors || run->frame >= index->ancestors[run->source - 1].n_frames)
                return false;
        return run->page < room && run->count <= room - run->page;
}

/** The extents of a file, which together have its size. */
static bool parse_extents(const uint8_t *bytes, uint32_t n, const struct native_index *index,
                          struct native_file *file) {
        uint64_t left = file->size;
        if (file->kind == NATIVE_DATA)
                file->extents = xcalloc(n, sizeof(*file->extents));
        else
                file->runs = xcalloc(n, sizeof(*file->runs));
        file->n = n;
        for (uint32_t i = 0; i < n; i++, bytes += EXTENT) {
                uint64_t length;
                if (file->kind == NATIVE_DATA) {
                        if (!parse_extent(bytes, index, &file->extents[i]))
                                return false;
                        length = file->extents[i].length;
                } else {
                        if (!parse_run(bytes, index, &file->runs[i]))
                                return false;
                        length = (uint64_t)file->runs[i].count * NATIVE_PAGE;
                }
                if (length > left)
                        return false;
                left -= length;
        }
        return left == 0;
}

static bool parse_file(struct input *input, const struct native_index *index, struct native_file *file) {
        file->name = parse_text(input, NAME_MAX);
        const uint8_t *fixed = take(input, 1 + 8 + 4);
        file->kind = NATIVE_DATA;
        if (!is_name(file->name) || !fixed || (fixed[0] != NATIVE_DATA && fixed[0] != NATIVE_PAGES))
                return false;
        file->kind = (enum native_kind)fixed[0];
        file->size = native_get64(fixed + 1);
        uint32_t n = native_get32(fixed + 9);
        const uint8_t *extents = take(input, (size_t)n * EXTENT);
        return extents && parse_extents(extents, n, index, file);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool names_are_unique(const struct native_index *index) {
        const char **names = xcalloc(index->n_files + 1, sizeof(*names));
        bool unique = true;
        for (uint32_t i = 0; i < index->n_files; i++)
                names[i] = index->files[i].name;
        qsort(names, index->n_files, sizeof(*names), compare_names);
        for (uint32_t i = 1; i < index->n_files && unique; i++)
                unique = !streq(names[i - 1], names[i]);
        free(names);
        return unique;
}

static int wrong(struct st_error **err, const char *what, uint32_t number) {
        return st_error_set(err, EBADMSG, "%s %u of its index is not valid", what, number);
}

static int parse_frames(struct input *input, uint64_t frames_size, struct native_index *index, uint32_t n,
                        struct st_error **err) {
        const uint8_t *bytes = take(input, (size_t)n * NATIVE_FRAME_ENTRY);
        uint64_t offset = NATIVE_HEADER;
        if (!bytes)
                return st_error_set(err, EBADMSG, "its index is too short");
        index->frames = xcalloc(n, sizeof(*index->frames));
        index->n_frames = n;
        for (uint32_t i = 0; i < n; i++) {
                if (!parse_frame(bytes + (size_t)i * NATIVE_FRAME_ENTRY, &index->frames[i]))
                        return wrong(err, "frame", i);
                index->frames[i].offset = offset;
                offset += index->frames[i].stored;
        }
        if (offset - NATIVE_HEADER != frames_size)
                return st_error_set(err, EBADMSG, "the frames of its index do not have the size of its frames");
        return 0;
}

static int parse(struct input *input, uint64_t frames_size, struct native_index *index, struct st_error **err) {
        const uint8_t *counts = take(input, COUNTS);
        if (!counts)
                return st_error_set(err, EBADMSG, "its index is too short");
        uint32_t ancestors = native_get32(counts), frames = native_get32(counts + 4), files = native_get32(counts + 8);
        if (ancestors > NATIVE_ANCESTORS_MAX || frames > NATIVE_FRAMES_MAX || files > NATIVE_FILES_MAX ||
            native_get32(counts + 12) != 0 ||
            (uint64_t)ancestors * ANCESTOR_MIN + (uint64_t)frames * NATIVE_FRAME_ENTRY + (uint64_t)files * FILE_MIN >
                    input->left)
                return st_error_set(err, EBADMSG, "the counts of its index are not valid");
        index->ancestors = xcalloc(ancestors, sizeof(*index->ancestors));
        while (index->n_ancestors < ancestors)
                if (!parse_ancestor(input, &index->ancestors[index->n_ancestors++]))
                        return wrong(err, "ancestor", index->n_ancestors);
        int r = parse_frames(input, frames_size, index, frames, err);
        if (r < 0)
                return r;
        index->files = xcalloc(files, sizeof(*index->files));
        while (index->n_files < files)
                if (!parse_file(input, index, &index->files[index->n_files++]))
                        return wrong(err, "file", index->n_files - 1);
        if (input->left > 0)
                return st_error_set(err, EBADMSG, "something follows its index");
        return names_are_unique(index) ? 0 : st_error_set(err, EBADMSG, "a name comes twice in its index");
}

int native_index_parse(const uint8_t *bytes, size_t size, uint64_t frames_size, struct native_index *ret,
                       struct st_error **err) {
        struct input input = { bytes, size };
        struct native_index index = { 0 };
        int r = parse(&input, frames_size, &index, err);
        if (r < 0)
                native_index_clear(&index);
        else
                *ret = index;
        return r;
}
