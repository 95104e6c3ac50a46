/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the files of this plugin share. The same sources make two plugins: runc, and crun, which has the same commands
 * (runc.c and crun.c say which it is).
 *
 * Facts of the programs are from their own documents (runc-checkpoint(8), runc-restore(8), crun(1)) and were tried with
 * runc 1.1.5.
 */

#include <sys/types.h>

#include <stasis/child.h>
#include <stasis/plugin.h>

#include "util.h"

struct runc_engine {
        const char *name;        /* "runc": the type, and the program looked for in PATH */
        const char *root;        /* its default --root, for root */
        const char *criu_config; /* the file that it gives CRIU when the container names none */
        bool has_state_file;     /* ROOT/ID/state.json is runc's; else the program is asked */
        int version[2];          /* the oldest that is known to work */
};

/** Which of them this plugin is. */
extern const struct runc_engine runc_engine;

/* Files of a checkpoint beside CRIU's own. */
#define RUNC_FILE_CONFIG "runc-config.json" /* the container's config.json */
#define RUNC_FILE_STATE "runc-state.json"   /* runc_state_save() */

#define RUNC_WORK "criu-" /* of a dump: CRIU's work directory; the PID of the container follows */

#define RUNC_JSON_MAX ((size_t)16 << 20) /* bytes of a config.json or state.json */

enum runc_status { RUNC_CREATED, RUNC_RUNNING, RUNC_PAUSED, RUNC_STOPPED };

const char *runc_status_name(enum runc_status status);

/* runc_state.c: containers as they are now */

struct runc_container {
        char *id, *root;
        char *bundle;   /* "" when it is not known */
        json_t *state;  /* its state, as the engine keeps it */
        json_t *config; /* its config.json; NULL when the bundle has none any more */
        pid_t pid;      /* of its first process; 0 when stopped */
        enum runc_status status;
};

#define _cleanup_container_ _cleanup_(runc_container_clear)
void runc_container_clear(struct runc_container *container);

/** May it be a container's name? What runc allows: letters, digits, and of "_+-." some, but not "." and "..". */
int runc_check_id(const char *id, struct st_error **err);

/** The --root of a request, absolute; malloc'ed. */
char *runc_root(const char *root, const char *working_dir);

/**
 * Reads a container's state.
 *
 * @param container { 0 }; cleared by the caller, also after a failure
 * @return 0; -ENOENT: there is no such container; another -errno with err
 */
int runc_container_load(const char *root, const char *id, struct runc_container *container, struct st_error **err);

/** As runc_container_load(), for the container that the request names. */
int runc_container_find(const Daemon__Details *details, struct runc_container *container, struct st_error **err);

/** Is there anything of that ID in the root? */
bool runc_exists(const char *root, const char *id);

/** What a restore needs to know of a container, as JSON (RUNC_FILE_STATE); malloc'ed. */
char *runc_state_save(const struct runc_container *container);

/** Value of a variable in a container's environment (config.json: process.env); NULL: not set. */
const char *runc_variable(const json_t *config, const char *name);

/* runc_program.c: running the program */

/** Begins a command line: the program, its global flags. `root` may be NULL. */
void runc_program(struct util_list *argv, const char *root);

/**
 * Runs it to its end. It is never killed.
 *
 * @param ret_code its exit code, when it is not 0 and the failure is the caller's to explain; NULL: it is an error
 * @return 0; -errno with err: what the program said last
 */
int runc_program_run(const struct util_list *argv, int *ret_code, struct st_error **err);

/** As runc_program_run(), for one that lets CRIU dump. @param images the descriptor that it gets */
int runc_program_dump(const struct util_list *argv, const struct st_child_fd *images, int *ret_code,
                      struct st_error **err);

/** What a program of that kind said last of all errors, from its output or log; malloc'ed, NULL: nothing. */
char *runc_last_error(const char *output);

/** Begins a command line as runc_program(), with what a request says of the program itself. `log`: a file, absolute. */
void runc_global_flags(struct util_list *argv, const char *root, const char *log, const Plugins__Runc__Runc *runc);

/** Begins a command line whose program gets its descriptor 0 as its controlling terminal, in a session of its own. */
void runc_on_terminal(struct util_list *argv);

/** The PID that the program has written to the file `pid` of the work directory. @return 0: none yet */
pid_t runc_read_pid(const struct st_operation *operation);

/** As a wait status (waitpid(2)), of an exit code as shells have it. */
int runc_wait_status(int code);

/* runc_remove.c: removing a container */

/**
 * Removes what the program has of a container, if anything. A restore that was killed leaves the root file system of
 * the bundle mounted below ROOT/ID, and runc would remove the files that it finds there: that is unmounted before.
 *
 * @param force also one that runs
 * @return 0; -errno with err
 */
int runc_remove(const char *root, const char *id, bool force, struct st_error **err);

/** Has ROOT/ID no state yet, or a mount of a restore: is the program at it, or was it killed then? */
bool runc_is_unfinished(const char *root, const char *id);

/* runc_options.c: options of CRIU */

/** Adds those flags of `runc checkpoint` and `runc restore` that both programs have. */
void runc_add_flags(struct util_list *argv, const Criu__CriuOpts *criu, const Criu__CriuOpts *given);

/**
 * Refuses what was asked for and cannot be had: crun reads CRIU's options from one file of the machine only.
 *
 * @param given the options that the request named
 */
int runc_check_options(const Criu__CriuOpts *given, bool restore, struct st_error **err);

/**
 * Writes a configuration file for CRIU: `first`, then the one that the container has without us, then `last`. What
 * comes later wins.
 *
 * @param configured what the container's annotation org.criu.config says; NULL: it has none
 */
int runc_write_criu_config(const char *path, const char *first, const char *configured, const char *last,
                           struct st_error **err);

#define RUNC_CRIU_CONFIG "org.criu.config" /* the annotation that names CRIU's configuration file */

/* runc_mounts.c: mount points that stay outside the checkpoint */

#define RUNC_VARIABLE "STASIS_PERSISTENT_MOUNTS"

/**
 * Finds the mount points that the container's environment names, and says of each to CRIU that it is external.
 *
 * @param lines for CRIU's configuration file
 * @param ret what a restore needs of them, to be saved with the checkpoint: an array
 */
int runc_mounts_find(struct st_dump *dump, const struct runc_container *container, struct util_list *lines,
                     json_t **ret, struct st_error **err);

/**
 * Says to CRIU where those mounts are now. What is nowhere on the host is mounted anew below the work directory.
 *
 * @param mounts as saved by runc_mounts_find()
 * @param made what was mounted: to be given to runc_mounts_undo()
 */
int runc_mounts_supply(struct st_operation *operation, const json_t *mounts, struct util_list *lines,
                       struct util_list *made, struct st_error **err);

void runc_mounts_undo(struct util_list *made);

/* runc_restore_plan.c, runc_restore_start.c: see runc_restore.h */

/* Features: runc_tables.h has the tables. */
int runc_fill_dump(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err);
int runc_fill_restore(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err);
int runc_fill_query(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err);
int runc_print_query(const struct st_arguments *arguments, const Daemon__QueryResp *resp, struct st_error **err);
int runc_find(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int runc_dump(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int runc_restore(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int runc_freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                struct st_error **err);
int runc_unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err);
int runc_query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
               struct st_error **err);
int runc_cleanup(const Daemon__Details *details, struct st_error **err);
int runc_check_program(struct st_operation *operation, bool full, Daemon__HealthCheckResult *result,
                       struct st_error **err);

/** Is there CRIU in the program? Asked before anything is touched. @return 0, -EOPNOTSUPP with err */
int runc_check_criu(struct st_error **err);

/**
 * After a `checkpoint` that failed: waits until no CRIU is at work on the container. One whose runc was killed goes on,
 * and would pause the container again at its end. It is not killed, so this takes as long as it takes.
 */
void runc_wait_for_criu(const struct runc_container *container);

/** Pauses or resumes a container by the program. */
int runc_set_paused(const struct runc_container *container, bool pause, struct st_error **err);
