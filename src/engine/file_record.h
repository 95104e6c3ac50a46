/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a checkpoint keeps of the files that its processes could write to: its file FILE_RECORD ("stasis.files"), JSON,
 * and the content of some of them in FILE_RECORD_CONTENT ("stasis.file-N"). CRIU never asks for these.
 *
 *   { "version": 1, "boot": "<boot id>", "files": [
 *       { "path": "/var/log/x" (or "path_hex" when it is no UTF-8), "dev", "inode", "birth": [s, ns], "size",
 *         "mtime": [s, ns], "mode", "uid", "gid", "links", "append", "at_end", "mapped", "position",
 *         "content": "stasis.file-3", "hash": "<XXH3-128 of the content>",
 *         "tail": "<hash of the last FILE_SAMPLE bytes>" } ] }
 *
 * The last three are there only when known. Sizes and positions are bytes; all is of the moment of the dump.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "base/plain_file.h"
#include "image/hash.h"

#define FILE_RECORD "stasis.files"
#define FILE_RECORD_CONTENT "stasis.file-"

/** More files than these are not recorded: with their paths they fit into what a restore reads at once. */
#define FILE_RECORD_MAX 10000
#define FILE_RECORD_PATHS_MAX ((size_t)6 << 20)

/** Length of the sample of a file, bytes; of a shorter file all. */
#define FILE_SAMPLE 4096u

struct file_record {
        char *path;
        struct plain_file was;
        bool append, at_end, mapped; /* as in struct open_file */
        uint64_t position;

        char *content; /* name in the checkpoint; NULL: not saved */
        bool has_hash, has_tail;
        struct hash hash, tail;
};

/** Zero-initialise; free with file_records_clear(). */
struct file_records {
        char *boot; /* boot id: device numbers may change with it */
        struct file_record *items;
        size_t n, room;
};

/** Can the file be made again as it was? */
static inline bool file_record_has_content(const struct file_record *record) {
        return record->content || record->was.size == 0;
}

/** malloc'ed JSON text. */
char *file_records_to_json(const struct file_records *records);

/**
 * Reads what file_records_to_json() wrote; bounded and checked: a checkpoint may come from anywhere. Paths are absolute
 * and without "." and ".." parts, contents are names of FILE_RECORD_CONTENT.
 *
 * @return 0; -EBADMSG; -EOPNOTSUPP: of a newer version
 */
int file_records_from_json(const char *text, size_t size, struct file_records *ret, struct st_error **err);

void file_records_clear(struct file_records *records);
#define _cleanup_file_records_ __attribute__((cleanup(file_records_clear)))
