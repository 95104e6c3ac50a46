/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What inspect*.c share. */

#include "engine/inspect.h"
#include "engine/inspect_images.h"

/** Counts a row with a text (NULL: none), and refuses too many. @return 0 or -EFBIG with err */
int inspect_count_row(struct inspection *inspection, const char *text, struct st_error **err);

/** Fills fds and sockets from the tasks. */
int inspect_files(struct inspection *inspection, struct st_error **err);

/** Reads ST_SUMMARY_FILE into the remarks. @return 0 or -EBADMSG with err */
int inspect_summary_parse(struct inspection *inspection, const char *text, size_t size, struct st_error **err);

/** Fills areas, and pages and mapped of the tasks. */
int inspect_memory(struct inspection *inspection, struct st_error **err);

/** Name of the file that a RegFile or a FIFO's path has; NULL: unknown. Owned by the inspection. */
const char *inspect_file_path(const struct inspection *inspection, uint32_t file_id);

/** The segment of a memory file; NULL: unknown. */
const CriuImage__MemfdInode *inspect_memfd(const struct inspection *inspection, uint32_t inode_id);

/**
 * What a socket is; its pid and fd are left zero.
 *
 * @param peer of a UNIX socket, NULL: not among the files
 * @return false: it is no socket
 */
bool inspect_socket_from(const CriuImage__File *file, const CriuImage__UnixSk *peer, struct inspect_socket *socket);
