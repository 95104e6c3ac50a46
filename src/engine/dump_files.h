/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a dump keeps of the regular files that are open for writing or mapped shared, so that a restore can put them
 * back: CRIU saves descriptors, not files. DumpReq.Files says how much:
 *
 *   none     nothing
 *   record   size, times, inode, … (file_record.h): what changed is seen, and what only grew can be cut
 *   copy     their content too
 *   auto     content of small files (Checkpoint.FilesLimit)
 *
 * While the tasks are frozen files are looked at, cloned where the file system shares extents (FICLONE), and small ones
 * copied into the store; everything else is done once they run again.
 */

#include "engine/dump_context.h"
#include "image/store.h"

/**
 * Looks at the files. Called while the tasks are frozen and all of CRIU's files are in the store; must be quick.
 *
 * @return 0, or a negative errno with err: the dump fails, the target runs on
 */
int dump_files_capture(struct dump_context *context, struct store *store, struct st_error **err);

/** About how many bytes dump_files_capture() will put into the store: asked before the freeze. */
uint64_t dump_files_expected(const struct dump_context *context);

/** Adds the record, and the content that was cloned, to the store. Once, before that is written. @return as above */
int dump_files_finish(struct dump_context *context, struct store *store, struct st_error **err);
