/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a handler in the place of CRIU has to do with a checkpoint. It makes its files in a directory that it is given,
 * and reads them from it; names, formats, checksums, the commit and the clean-up are the host's. Since ABI 1.1.
 *
 * A dump, in the order of a handler:
 *
 *     st_dump_directory()   where CRIU's images and the handler's own files go: regular files, no directories
 *     st_dump_guard()       from here on somebody thaws the target should this process die
 *     … freeze, let the engine checkpoint into the directory, add files …
 *     st_dump_commit()      when dump->stop: while the target is frozen, and only then end it
 *     … thaw or end the target …
 *     st_dump_unguard()
 *     st_dump_thawed()
 *
 * What is not committed when the handler has succeeded is committed then; what is not when it has failed is removed.
 */

#include <stdbool.h>
#include <stddef.h>

#include <stasis/dump.h>
#include <stasis/error.h>
#include <stasis/restore.h>

/**
 * A file that a handler may add: what `stasis checkpoint inspect` is to tell of its checkpoint, in few lines.
 * {"version": 1, "rows": [["engine", "Docker 20.10.24"], ["volume", "data at /var/lib/data"]]}
 */
#define ST_SUMMARY_FILE "stasis.summary.json"

/**
 * The directory for the files of the checkpoint: on the file system of its destination, 0700, empty at the first call.
 * Hidden, and gone after a failure, whatever kills us. Names of files: no '/', not "stasis.json", "stasis.manifest".
 *
 * @param ret absolute path, owned by the dump
 */
ST_PUBLIC int st_dump_directory(struct st_dump *dump, const char **ret, struct st_error **err);

/**
 * Makes the checkpoint of what is in the directory: checksums, compression, all of it on the disk under its final name.
 * Nothing may write to the directory any more. A second call does nothing. On failure nothing stands under that name.
 */
ST_PUBLIC int st_dump_commit(struct st_dump *dump, struct st_error **err);

/**
 * For a CRIU that is run by somebody else and ends the target itself (with established connections only CRIU can: the
 * kernel says goodbye for whoever is killed). CRIU is to have the action script that this gives (criu(8),
 * --action-script): then, with all images written and the tasks still frozen, it waits until a thread of the host's has
 * committed the checkpoint. If that fails, or this process dies, CRIU fails and lets the target go on.
 *
 * @param ret_script absolute path, owned by the dump
 */
ST_PUBLIC int st_dump_commit_at_hook(struct st_dump *dump, const char **ret_script, struct st_error **err);

/** After CRIU has ended. @return 1: committed; 0: CRIU did not ask; -errno with err: why it was not committed */
ST_PUBLIC int st_dump_hook_result(struct st_dump *dump, struct st_error **err);

/** A committed checkpoint is not to be: its target could not be ended and goes on. No-op when nothing is committed. */
ST_PUBLIC void st_dump_withdraw(struct st_dump *dump);

/** The target runs again, or was ended: the user's post-thaw hooks run now. Else they do when the handler returns. */
ST_PUBLIC void st_dump_thawed(struct st_dump *dump);

/**
 * Starts a process that waits for the end of this one: when that comes before st_dump_unguard(), by a crash or kill -9,
 * it calls the unfreeze handler of the request's type, with this request. Costs a few ms.
 */
ST_PUBLIC int st_dump_guard(struct st_dump *dump, struct st_error **err);
/** The target is not frozen by us any more. No-op without a guard. Also done when the handler returns. */
ST_PUBLIC void st_dump_unguard(struct st_dump *dump);

/** Adds a line for the user to the answer: a warning, or what was found out. */
ST_PUBLIC void st_dump_message(struct st_dump *dump, const char *format, ...) ST_PRINTF(2, 3);
ST_PUBLIC void st_restore_message(struct st_restore *restore, const char *format, ...) ST_PRINTF(2, 3);

/**
 * CRIU was run by somebody else and failed: makes its log part of the error (root cause, hint, where the log is kept).
 *
 * @param directory has its dump.log or restore.log; the log is moved from there to where logs are kept
 * @param status wait status of the program that ran CRIU
 * @return negative errno; an error that *err holds already stays the root cause
 */
ST_PUBLIC int st_dump_criu_failed(struct st_dump *dump, const char *directory, int status, struct st_error **err);
ST_PUBLIC int st_restore_criu_failed(struct st_restore *restore, const char *directory, int status,
                                     struct st_error **err);

/**
 * Options of CRIU as the lines of a configuration file (criu(8), CONFIGURATION FILES), for an engine that runs CRIU
 * itself. A boolean that is false counts as not set; what stasis or the engine decides is left out.
 *
 * @param ret malloc'ed, "" when there is nothing to say
 * @return 0; -EINVAL with err: an option that cannot be had, by its name
 */
ST_PUBLIC int st_criu_config(const Criu__CriuOpts *options, bool restore, char **ret, struct st_error **err);

/**
 * Of a restore with req->check, which restores nothing: adds what a handler found out. Whatever is a PROBLEM
 * stands in the way.
 *
 * @param check what was looked at: "image", "network"
 * @param subject the file, the name, …; NULL: the whole
 * @param hint what to do about it; NULL: nothing
 */
ST_PUBLIC void st_restore_finding(struct st_restore *restore, Daemon__FindingLevel level, const char *check,
                                  const char *subject, const char *text, const char *hint);

/** How many files the checkpoint has. */
ST_PUBLIC size_t st_restore_count(const struct st_restore *restore);
/** Name of a file, from 0 on; owned by the checkpoint. */
ST_PUBLIC const char *st_restore_name(const struct st_restore *restore, size_t index);

/**
 * Reads one small file (at most 16 MiB) of the checkpoint, verified.
 *
 * @param ret malloc'ed, a NUL behind it
 * @param ret_size may be NULL
 * @return 0; -ENOENT: there is none; -EBADMSG: damaged; with err
 */
ST_PUBLIC int st_restore_read(struct st_restore *restore, const char *name, char **ret, size_t *ret_size,
                              struct st_error **err);

/** Writes a file of any length to a descriptor. What a failure leaves there is not to be used. Errors: as above. */
ST_PUBLIC int st_restore_copy(struct st_restore *restore, const char *name, int fd, struct st_error **err);

/**
 * Writes the files that `wanted` (NULL: all) says yes to into an existing directory, 0600, each verified. What is there
 * is never replaced: -EEXIST.
 */
ST_PUBLIC int st_restore_unpack(struct st_restore *restore, const char *directory,
                                bool (*wanted)(const char *name, void *userdata), void *userdata,
                                struct st_error **err);

/**
 * A directory with all files of the checkpoint, verified, for reading only: the checkpoint itself where it is one, else
 * one that is removed with the operation.
 *
 * @param ret absolute path, owned by the restore
 */
ST_PUBLIC int st_restore_directory(struct st_restore *restore, const char **ret, struct st_error **err);
