/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of dump_files.c share. */

#include "base/text.h"
#include "engine/dump_files.h"
#include "engine/file_record.h"

enum dump_files_mode { DUMP_FILES_AUTO, DUMP_FILES_RECORD, DUMP_FILES_COPY, DUMP_FILES_NONE };

/** What is known of a file system, by its device number. */
struct dump_files_device {
        uint64_t dev;
        bool pseudo;    /* its files are made up by the kernel as they are read: /sys, … */
        bool no_clones; /* it refused to share extents */
};

/** An unnamed file that shares its extents with what a file was while frozen. */
struct dump_files_clone {
        int fd;
        size_t record; /* index */
};

struct dump_files {
        enum dump_files_mode mode;
        uint64_t limit;    /* of the content of one file, bytes; UINT64_MAX: none */
        uint64_t budget;   /* what may still be copied while frozen, bytes */
        uint64_t expected; /* about what will be, bytes */
        bool captured;
        bool no_opens; /* opening a file could make the target, or us, wait */

        struct file_records records;
        struct dump_files_device *devices;
        size_t n_devices, room_devices;
        struct dump_files_clone *clones;
        size_t n_clones, room_clones;
        struct strv left_out; /* "PATH (SIZE)": files whose content was wanted but is not there */
};

/** The device of a file. `path` is of a file on it. */
struct dump_files_device *dump_files_device(struct dump_files *files, uint64_t dev, const char *path);

/**
 * Saves the content of files as the mode says, and a sample of the others: while frozen.
 *
 * @return 0, also when something was left out; -errno with err: the store cannot take it
 */
int dump_files_take_content(struct dump_files *files, struct store *store, struct st_error **err);

/** Puts the cloned content into the store and hashes all content: no longer frozen. */
int dump_files_store_content(struct dump_files *files, struct store *store, struct st_error **err);
