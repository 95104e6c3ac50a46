/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the files of a checkpoint's processes differ from what they were at the dump, and what would mend each of them.
 * Looking changes nothing. Paths are looked up where CRIU will: in our own root and mount namespace.
 */

#include <stdbool.h>

#include <stasis/operation.h>

#include "engine/file_record.h"
#include "engine/open_files.h"
#include "image/image.h"

enum file_remedy {
        REMEDY_NONE,       /* nothing that could be put back, or needed it */
        REMEDY_IMPOSSIBLE, /* `obstacle` says why */
        REMEDY_CUT,        /* it only grew: save the tail, cut it */
        REMEDY_REPLACE,    /* a new file with the saved content under its name; the present one gets another name */
        REMEDY_REWRITE,    /* the same into the present file, which has further names; a copy is kept */
        REMEDY_CREATE,     /* it is gone: the saved content */
        REMEDY_MODE,       /* only the permissions */
};

struct file_change {
        const char *path;
        const struct open_file *open;
        const struct file_record *record; /* NULL: there is none, for files that are only read */
        bool exists;                      /* as a regular file; then `now` is set */
        struct plain_file now;
        bool refused;   /* CRIU would not restore with it */
        bool only_grew; /* as far as it can be known */
        bool shared;    /* another process can write to it now: then it is not put back */
        enum file_remedy remedy;
        char *difference; /* "grew from 10 to 20 bytes" */
        char *obstacle;   /* why it cannot be put back */
};

struct file_changes {
        struct file_change *items; /* only files that differ */
        size_t n, room;
        bool recorded; /* the checkpoint has a record */
        struct open_files open;
        struct file_records records;
};

struct file_changes_look {
        struct image *image;
        const struct st_operation *operation;           /* may be cancelled while a large file is read */
        bool ignore_permissions;                        /* criu_opts.skip_file_rwx_check */
        bool (*skip)(const char *path, void *userdata); /* files that do not come from their path; may be NULL */
        void *userdata;
};

/** @param ret zero-initialised; free with file_changes_clear() */
int file_changes_find(const struct file_changes_look *look, struct file_changes *ret, struct st_error **err);

/** May CRIU be made to take it as it is? Not what is missing, nor code. */
bool file_change_is_keepable(const struct file_change *change);

void file_changes_clear(struct file_changes *changes);
#define _cleanup_file_changes_ __attribute__((cleanup(file_changes_clear)))
