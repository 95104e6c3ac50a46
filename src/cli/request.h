/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the requests of dump and restore have in common: filling in CRIU's options and paths from flags. */

#include <stddef.h>

#include <criu/criu.pb-c.h>
#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/option.h>

/** A BOOL flag and the field of criu_opts that it sets. */
struct criu_flag {
        const char *flag;
        const char *field;
};

/**
 * Fills CRIU's options from --criu-opts, --external and the BOOL flags. A flag wins over --criu-opts. An option that
 * was turned off goes into the list of those forced off: `false` in criu_opts means "not set".
 *
 * @param flags ended by a NULL flag
 * @param criu made when something is to be set; may come in as NULL
 * @param n_off, off the repeated string Off of the request
 */
int request_fill_criu(const struct st_arguments *arguments, const struct criu_flag *flags, Criu__CriuOpts **criu,
                      size_t *n_off, char ***off, struct st_error **err);

/** @return the options, made when *criu is NULL */
Criu__CriuOpts *request_criu(Criu__CriuOpts **criu);

/** Fills the PID of `dump process PID` and its like; an st_fill_dump_fn. */
int request_fill_process(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err);

/** Reads the only word, a PID. @param ret the details of a process, on the heap */
int request_pid(const char *const *words, Daemon__Process **ret, struct st_error **err);

/** Reads the only word, a JID, which goes without --no-server. */
int request_jid(const struct st_arguments *arguments, char **ret, struct st_error **err);

/** The --jid for a job that is to be, checked; NULL when none is given. */
int request_new_jid(const struct st_arguments *arguments, char **ret, struct st_error **err);

/** Fills the JID of `dump job JID` and its like; an st_fill_dump_fn. */
int request_fill_job(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err);

/** Fills the repeated string Hooks of the request from --hook, paths made absolute. */
void request_fill_hooks(const struct st_arguments *arguments, size_t *n, char ***hooks);

/** Sets a string field to the absolute path of a flag, if it was given. A URL (SCHEME://…) stays as it is. */
void request_set_path(char **field, const struct st_arguments *arguments, const char *flag);

/** How messages name the target: "process 42". malloc'ed */
char *request_target(const char *type, const struct st_arguments *arguments);
