/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What runs while its memory is still coming: <run dir>/lazy/ID, one file for each `restore --lazy`. It names the
 * processes, and says how far it is. Whoever serves the memory holds a lock on it (flock(2)), and removes it when all
 * is in: a record without a lock, whose processes live, says that their memory is lost.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

struct lazy_record {
        char *path; /* owned */
        int fd;     /* with the lock */
};

#define LAZY_RECORD_NULL ((struct lazy_record){ .fd = -EBADF })

/** Makes a record, locked. @param image what it comes from */
int lazy_record_new(const char *image, struct lazy_record *ret, struct st_error **err);

/** Adds a process and all its descendants. */
void lazy_record_add(struct lazy_record *record, pid_t root);

/** How many pages are in, of how many. */
void lazy_record_progress(struct lazy_record *record, uint64_t done, uint64_t total);

/** Gives back lock and memory. */
void lazy_record_clear(struct lazy_record *record, bool remove);

/** A record as it is read. Free with lazy_record_info_clear(). */
struct lazy_record_info {
        char *path, *image;
        bool served; /* somebody has the lock */
        uint64_t done, total;
        struct lazy_record_process {
                pid_t pid;
                uint64_t start_time;
        } * processes;
        size_t n, room;
};

void lazy_record_info_clear(struct lazy_record_info *info);

/** @return 0; -ENOENT: it is gone; -EBADMSG; -errno */
int lazy_record_read(const char *path, struct lazy_record_info *ret);

/** The paths of all records there are: NULL-terminated, malloc'ed with its texts (strv). NULL: none */
char **lazy_record_list(void);

/** Is one of the processes alive? */
bool lazy_record_is_alive(const struct lazy_record_info *info);
