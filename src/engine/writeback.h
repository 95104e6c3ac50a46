/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sends the files of a directory to the disk while somebody else still writes them, so that whoever syncs them at the
 * end has little to wait for. It only begins the writing out (sync_file_range(2)): what is durable, and when, is up to
 * that sync. On a file system without a disk it does nothing.
 */

#include <stdint.h>

struct writeback;

/**
 * Begins, on a thread of its own. Files may come, grow and vanish meanwhile; whatever is no regular file, or cannot be
 * read, is passed over.
 *
 * @return NULL when it cannot: nothing is lost then but time
 */
struct writeback *writeback_start(const char *directory);

/** Bytes whose writing out was begun so far. */
uint64_t writeback_begun(const struct writeback *writeback);

/** Ends the thread and frees. May wait for the disk, for a few MiB at most. NULL is fine. @return NULL */
struct writeback *writeback_stop(struct writeback *writeback);
