/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The commands. Each verb has a file of its own that defines its struct command; commands.c lists them. The tree is in
 * their paths: "daemon" is the parent of "daemon start".
 */

#include <stdbool.h>
#include <stddef.h>

#include <stasis/command.h>
#include <stasis/features.h>
#include <stasis/option.h>

struct cli;

struct command {
        const char *path;                       /* its words, one space between: "plugin list" */
        const char *alias;                      /* other names, separated by |; NULL: none */
        const char *words;                      /* what help calls the positional arguments, NULL: none */
        const char *choices;                    /* what the first of them can be, separated by |; NULL: anything */
        size_t min_words, max_words;            /* how many of them; not checked for a verb with types */
        const char *summary;                    /* one sentence, no full stop */
        const char *examples;                   /* command lines without "stasis ", one a line */
        const struct st_option *const *options; /* tables of its own flags, NULL-terminated; NULL: none */
        bool config;                            /* needs the configuration */
        bool hidden;                            /* for programs: not in help or manual */

        /* A verb with types, `dump TYPE …`: those that are built in, NULL-terminated, and the feature by which
         * plugins bring theirs. Each starts with a struct st_command. */
        const struct st_command *const *types;
        enum st_feature type_feature;

        /** @return the exit code, or a negative errno with err. NULL: only a parent of other commands */
        int (*run)(struct cli *cli, struct st_error **err);
};

/** What to do with one command. @return false: stop */
typedef bool (*command_visit)(const struct command *command, void *userdata);

/** All commands, parents before their children, ended by NULL. */
extern const struct command *const commands[];

/** Takes the next one of a command's other names. @return malloc'ed; NULL: that were all */
char *command_next_alias(const char **at);

/** Are its words, or those of a type, the command line of another program? Then they end with [ARG…]. */
bool command_takes_program(const char *words);

/** By path or alias; NULL: none. */
const struct command *command_find(const char *path);

/** Is it below the other one ("daemon start" below "daemon")? Everything is below NULL, the root. */
bool command_is_below(const struct command *command, const struct command *parent);

/** @return the last word of its path */
const char *command_name(const struct command *command);

/** The type of a verb, built in or of a loaded plugin; NULL: none. */
const struct st_command *command_find_type(const struct command *verb, const char *type);

/** Calls `call` for each type of a verb: those built in, then those of the loaded plugins. */
void command_each_type(const struct command *verb, void (*call)(const struct st_command *type, void *userdata),
                       void *userdata);

/** The further commands of plugins (feature helper_commands). */
void command_each_helper(void (*call)(const struct st_helper *helper, void *userdata), void *userdata);

/** What a plugin's further command is run by; its type is the st_command inside the st_helper. */
extern const struct command command_helper;

/** Flags of every command that are no configuration. */
extern const struct st_option global_options[];

/* One for each verb, in the file of its name. */
extern const struct command command_job, command_job_attach, command_job_checkpoint, command_job_checkpoint_list,
        command_job_delete, command_job_inspect, command_job_kill, command_job_list, command_job_logs,
        command_job_schedule;
extern const struct command command_candidates, command_check, command_checkpoint_delete, command_checkpoint_fold,
        command_exec, command_manage, command_run, command_checkpoint, command_checkpoint_inspect,
        command_checkpoint_verify, command_checkpoint_export, command_checkpoint_import, command_completion,
        command_config, command_config_show, command_daemon, command_daemon_check, command_daemon_start,
        command_daemon_status, command_daemon_stop, command_dump, command_explain, command_help, command_manual,
        command_plugin, command_plugin_features, command_plugin_list, command_freeze, command_unfreeze, command_query,
        command_restore, command_version;
