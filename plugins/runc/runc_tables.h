/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands and features of a plugin, included by the one file that has its descriptor and says RUNC_TYPE. */

#include <signal.h>

#include "runc_run.h"

#ifndef RUNC_TYPE
#define RUNC_TYPE "runc"
#endif

#define RUNC_ROOT_OPTION                                                                           \
        {                                                                                          \
                .flag = "root", .letter = 'r', .type = ST_OPTION_STRING, .value_name = "DIR",      \
                .help = "where " RUNC_TYPE " keeps the state of its containers, as its own --root" \
        }

/* Of the program itself, for what it starts and restores. */
#define RUNC_PROGRAM_OPTIONS                                                                                 \
        { .flag = "no-pivot", .type = ST_OPTION_BOOL, .help = "do not use pivot_root, as on a RAM disk" },   \
                { .flag = "no-subreaper",                                                                    \
                  .type = ST_OPTION_BOOL,                                                                    \
                  .help = RUNC_TYPE " adopts no orphans of the container" },                                 \
                { .flag = "no-new-keyring",                                                                  \
                  .type = ST_OPTION_BOOL,                                                                    \
                  .help = "make no session keyring; a restore never makes one" },                            \
                { .flag = "rootless",                                                                        \
                  .type = ST_OPTION_STRING,                                                                  \
                  .value_name = "HOW",                                                                       \
                  .help = "ignore errors of cgroups: true, false or auto",                                   \
                  .choices = "true|false|auto" },                                                            \
                { .flag = "systemd-cgroup", .type = ST_OPTION_BOOL, .help = "let systemd make the cgroup" }, \
                { .flag = "log",                                                                             \
                  .type = ST_OPTION_STRING,                                                                  \
                  .value_name = "FILE",                                                                      \
                  .help = "where " RUNC_TYPE " logs to" },                                                   \
        {                                                                                                    \
                .flag = "log-format", .type = ST_OPTION_STRING, .value_name = "FORMAT",                      \
                .help = "of that file: text or json", .choices = "text|json"                                 \
        }

static const struct st_option runc_options[] = { RUNC_ROOT_OPTION, ST_OPTION_END };

static const struct st_option runc_restore_options[] = {
        { .flag = "id",
          .letter = 'i',
          .type = ST_OPTION_STRING,
          .value_name = "ID",
          .help = "name of the restored container; that of the dumped one when not given" },
        { .flag = "bundle",
          .letter = 'b',
          .type = ST_OPTION_STRING,
          .value_name = "DIR",
          .help = "its bundle; that of the dumped one when not given" },
        { .flag = "detach",
          .letter = 'd',
          .type = ST_OPTION_BOOL,
          .help = "let " RUNC_TYPE " end once the container runs; what remains of it is for '" RUNC_TYPE " delete'" },
        RUNC_ROOT_OPTION,
        { .flag = "console-socket",
          .type = ST_OPTION_STRING,
          .value_name = "SOCKET",
          .help = "with --detach: a UNIX socket that gets the master of the container's terminal" },
        RUNC_PROGRAM_OPTIONS,
        ST_OPTION_END,
};

static const struct st_option runc_run_options[] = {
        { .flag = "bundle",
          .letter = 'b',
          .type = ST_OPTION_STRING,
          .value_name = "DIR",
          .help = "its bundle; the current directory when not given" },
        { .flag = "detach",
          .letter = 'd',
          .type = ST_OPTION_BOOL,
          .help = "not needed, and refused: a job is in the background unless --attach says otherwise" },
        RUNC_ROOT_OPTION,
        RUNC_PROGRAM_OPTIONS,
        ST_OPTION_END,
};

static const struct st_dump_command runc_dump_command = {
        .command = { RUNC_TYPE, "ID", "Saves a container of " RUNC_TYPE " in a checkpoint", "dump " RUNC_TYPE " web",
                     runc_options },
        .fill = runc_fill_dump,
};

static const struct st_restore_command runc_restore_command = {
        .command = { RUNC_TYPE, NULL, "Restores a container of " RUNC_TYPE " from a checkpoint",
                     "restore " RUNC_TYPE " --path /var/backups/web.stasis --id web --bundle /srv/web",
                     runc_restore_options },
        .fill = runc_fill_restore,
};

static const struct st_dump_command runc_freeze_command = {
        .command = { RUNC_TYPE, "ID", "Pauses a container of " RUNC_TYPE, "freeze " RUNC_TYPE " web", runc_options },
        .fill = runc_fill_dump,
};

static const struct st_dump_command runc_unfreeze_command = {
        .command = { RUNC_TYPE, "ID", "Resumes a container of " RUNC_TYPE, "unfreeze " RUNC_TYPE " web", runc_options },
        .fill = runc_fill_dump,
};

static const struct st_run_command runc_run_command = {
        .command = { RUNC_TYPE, "[ID]", "Starts a container of " RUNC_TYPE " as a job",
                     "run " RUNC_TYPE " web --bundle /srv/web --attachable", runc_run_options },
        .fill = runc_fill_run,
};

static const struct st_run_command runc_manage_command = {
        .command = { RUNC_TYPE, "ID",
                     "Takes a container of " RUNC_TYPE " over as a job: its end is noticed, but not its exit code",
                     "manage " RUNC_TYPE " web", runc_options },
        .fill = runc_fill_manage,
};

static const struct st_query_command runc_query_command = {
        .command = { RUNC_TYPE, "[ID…]", "Shows containers of " RUNC_TYPE, "query " RUNC_TYPE, runc_options },
        .fill = runc_fill_query,
        .print = runc_print_query,
};

static const struct st_dump_adapter runc_dump_list[] = { { "find container", runc_find } };
static const struct st_dump_adapters runc_dump_adapters = { ELEMENTSOF(runc_dump_list), runc_dump_list };
static const struct st_dump_adapter runc_dump_handler = { RUNC_TYPE " checkpoint", runc_dump };
static const struct st_restore_adapter runc_restore_handler = { RUNC_TYPE " restore", runc_restore };
static const struct st_freezer runc_freezer = { runc_freeze };
static const struct st_freezer runc_unfreezer = { runc_unfreeze };
static const struct st_run_adapter runc_run_handler = { RUNC_TYPE " run", runc_run };
static const struct st_run_adapter runc_manage_handler = { "find container", runc_manage };
static const struct st_query_handler runc_query_handler = { runc_query };
static const struct st_kill_signal runc_kill_signal = { SIGKILL };
static const struct st_cleanup runc_cleaner = { runc_cleanup };
static const struct st_health_check runc_check_list[] = { { RUNC_TYPE, runc_check_program } };
static const struct st_health_checks runc_checks = { ELEMENTSOF(runc_check_list), runc_check_list };

/* The files are the bundle's, which is not ours: neither recorded nor put back. CRIU's options: runc_options.c. */
static const char *const runc_dump_options[] = { "criu", NULL };
static const char *const runc_restored_options[] = {
        "criu", "out", "attach", "files=keep", "files=rollback,keep", NULL
};
static const struct st_handler_options runc_handler_options = {
        .dump = runc_dump_options,
        .restore = runc_restored_options,
        .hint = "leave it out: the files of a container of " RUNC_TYPE " are used as they are in its bundle",
};

static const struct st_features runc_features = {
        .size = sizeof(struct st_features),
        ST_FEATURE(dump_command, runc_dump_command),
        ST_FEATURE(restore_command, runc_restore_command),
        ST_FEATURE(freeze_command, runc_freeze_command),
        ST_FEATURE(unfreeze_command, runc_unfreeze_command),
        ST_FEATURE(run_command, runc_run_command),
        ST_FEATURE(manage_command, runc_manage_command),
        ST_FEATURE(query_command, runc_query_command),
        ST_FEATURE(dump_middleware, runc_dump_adapters),
        ST_FEATURE(dump_handler, runc_dump_handler),
        ST_FEATURE(restore_handler, runc_restore_handler),
        ST_FEATURE(freeze_handler, runc_freezer),
        ST_FEATURE(unfreeze_handler, runc_unfreezer),
        ST_FEATURE(run_handler, runc_run_handler),
        ST_FEATURE(manage_handler, runc_manage_handler),
        ST_FEATURE(kill_signal, runc_kill_signal),
        ST_FEATURE(cleanup, runc_cleaner),
        ST_FEATURE(query_handler, runc_query_handler),
        ST_FEATURE(health_checks, runc_checks),
        ST_FEATURE(handler_options, runc_handler_options),
};
