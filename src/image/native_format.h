/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The native image, as bytes: header, index and footer, to and from memory; docs/image-format.md specifies them.
 * Nothing here reads or writes files. What is parsed may come from anywhere: all is bounded and checked, allocations
 * are at most a small multiple of the bytes given. Any thread; nothing is shared.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "image/hash.h"

#define NATIVE_VERSION 1
#define NATIVE_PAGE ((size_t)4096)
#define NATIVE_HEADER ((size_t)64)
#define NATIVE_FOOTER ((size_t)128)
#define NATIVE_FRAME_ENTRY ((size_t)32)
#define NATIVE_ID 16
/** A frame decodes to this many bytes at most; stored it has at most twice as many. */
#define NATIVE_FRAME_MAX ((size_t)2 << 20)
#define NATIVE_STORED_MAX ((size_t)4 << 20)
#define NATIVE_ANCESTORS_MAX 1024
#define NATIVE_FRAMES_MAX ((uint32_t)1 << 24)
#define NATIVE_FILES_MAX 1000000
#define NATIVE_INDEX_MAX ((uint64_t)1 << 30)
/** Source of pages that are zero and in no frame. */
#define NATIVE_ZERO UINT16_MAX

/** Names of the codecs, as the choices of an option. */
#define NATIVE_CODECS "zstd|lz4|none"

enum native_kind { NATIVE_DATA = 1, NATIVE_PAGES = 2 };
enum native_codec { NATIVE_RAW = 0, NATIVE_LZ4 = 1, NATIVE_ZSTD = 2 };

struct native_header {
        uint8_t id[NATIVE_ID];
        uint64_t seed; /* of page digests */
};

/** Another image that has pages of this one. */
struct native_ancestor {
        uint8_t id[NATIVE_ID];
        uint32_t n_frames;  /* of it that may be referred to */
        struct hash frames; /* native_frames_digest() of these */
        char *name;         /* owned; a file's name without a directory */
        char *path;         /* owned; absolute, as it was */
};

struct native_frame {
        uint64_t offset; /* in the file; not stored: the sum of what is before */
        uint32_t stored, decoded;
        uint8_t kind, codec;
        struct hash digest; /* of the stored bytes */
};

/** Of data: bytes of a frame of this image. */
struct native_extent {
        uint32_t length, frame, offset;
};

/** Of pages. */
struct native_run {
        uint32_t count, frame;
        uint16_t page;   /* the first one's number in the frame */
        uint16_t source; /* 0: this image, N: its Nth ancestor, NATIVE_ZERO */
};

struct native_file {
        char *name; /* owned */
        enum native_kind kind;
        uint64_t size; /* bytes */
        union {
                struct native_extent *extents; /* owned */
                struct native_run *runs;       /* owned */
        };
        uint32_t n; /* of either */
};

/** All that an index says. Zero-initialise; free with native_index_clear(). */
struct native_index {
        struct native_ancestor *ancestors;
        uint32_t n_ancestors;
        struct native_frame *frames;
        uint32_t n_frames;
        struct native_file *files;
        uint32_t n_files;
};

/** Where the sections of a file are. */
struct native_footer {
        uint64_t size, digests_at, index_at, index_stored, index_decoded;
        uint8_t index_codec;
        struct hash digests, index; /* of the section with the page digests; of the stored index */
        uint8_t id[NATIVE_ID];
};

/** Does a file begin so? @param n bytes there are */
bool native_recognise(const uint8_t *head, size_t n);

void native_header_make(const struct native_header *header, uint8_t bytes[NATIVE_HEADER]);
/** @return 0; -EBADMSG: damaged; -EOPNOTSUPP: of another version; err tells what, without the file's name */
int native_header_parse(const uint8_t bytes[NATIVE_HEADER], struct native_header *ret, struct st_error **err);

void native_footer_make(const struct native_footer *footer, uint8_t bytes[NATIVE_FOOTER]);
/** @param size of the file. @return as of the header; the sections follow each other and fill the file */
int native_footer_parse(const uint8_t bytes[NATIVE_FOOTER], uint64_t size, struct native_footer *ret,
                        struct st_error **err);

/** Offsets of frames are not stored. @return malloc'ed, decoded form */
uint8_t *native_index_make(const struct native_index *index, size_t *ret_size);
/**
 * Parses a decoded index, strictly: what native_index_make() would not write is refused.
 *
 * @param frames_size bytes of all frames together, as the footer says
 * @param ret zero-initialised; unchanged unless 0 is returned
 */
int native_index_parse(const uint8_t *bytes, size_t size, uint64_t frames_size, struct native_index *ret,
                       struct st_error **err);
void native_index_clear(struct native_index *index);

/** The digest by which a child knows its ancestor's first n frames. */
struct hash native_frames_digest(const struct native_frame *frames, uint32_t n);

/** The digest of a page. */
struct hash native_page_digest(const uint8_t page[NATIVE_PAGE], uint64_t seed);
/** Is all of it zero? */
bool native_page_is_zero(const uint8_t page[NATIVE_PAGE]);

/** @return 0, -EINVAL naming the codecs there are */
int native_codec_from_text(const char *text, enum native_codec *ret, struct st_error **err);

/** A digest as it stands in files: xxHash's canonical form. */
void native_put_digest(uint8_t bytes[16], struct hash hash);
struct hash native_get_digest(const uint8_t bytes[16]);

/**
 * Compresses a frame.
 *
 * @param out room for at least NATIVE_STORED_MAX bytes
 * @param ret_codec NATIVE_RAW when compressing does not make it smaller, else `codec`
 * @param context of the thread, from native_coder_new()
 * @return stored size; -errno
 */
struct native_coder;
struct native_coder *native_coder_new(void);
struct native_coder *native_coder_free(struct native_coder *coder);
static inline void native_coder_freep(struct native_coder **coder) {
        *coder = native_coder_free(*coder);
}
ssize_t native_encode(struct native_coder *coder, enum native_codec codec, const void *in, size_t size, uint8_t *out,
                      uint8_t *ret_codec);
/** Decodes the stored bytes of a frame, after its digest was checked here. @return 0; -EBADMSG */
int native_decode(struct native_coder *coder, const struct native_frame *frame, const uint8_t *stored, uint8_t *out);
