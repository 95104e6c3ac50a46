/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the memory of processes is in an earlier checkpoint, a native image: what has not been written since is
 * referred to instead of copied.
 */

#include <stdint.h>

#include "image/native.h"

struct grab_base;

/** @param parent must outlive it. @return 0; -EBADMSG damaged, with err */
int grab_base_new(const struct native *parent, struct grab_base **ret, struct st_error **err);
struct grab_base *grab_base_free(struct grab_base *base);

/** Goes through the memory of one process; addresses ascend. */
struct grab_base_cursor {
        const struct grab_base_process *process; /* NULL: it is not in the checkpoint */
        size_t entry;
        uint32_t run; /* of the file of pages */
        uint64_t run_page;
};

/** @param number of the process: its PID in its namespace, as in the names of CRIU's files */
struct grab_base_cursor grab_base_find(const struct grab_base *base, uint64_t number);

/** Pages of a file. */
struct grab_base_pages {
        const struct native_file *file; /* NULL: they are not there, or cannot be referred to */
        uint64_t first, pages;
};

/** What is known of the page at an address, and of those after it, up to `pages`: at least of one. */
struct grab_base_pages grab_base_next(struct grab_base_cursor *cursor, uint64_t at, uint64_t pages);
