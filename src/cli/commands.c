/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <stasis/features.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"

const struct command *const commands[] = {
        &command_run,
        &command_exec,
        &command_manage,
        &command_job,
        &command_job_list,
        &command_job_inspect,
        &command_job_attach,
        &command_job_logs,
        &command_job_schedule,
        &command_job_kill,
        &command_job_delete,
        &command_job_checkpoint,
        &command_job_checkpoint_list,
        &command_dump,
        &command_restore,
        &command_freeze,
        &command_unfreeze,
        &command_query,
        &command_daemon,
        &command_daemon_start,
        &command_daemon_stop,
        &command_daemon_status,
        &command_daemon_check,
        &command_check,
        &command_checkpoint,
        &command_checkpoint_inspect,
        &command_checkpoint_verify,
        &command_checkpoint_export,
        &command_checkpoint_import,
        &command_checkpoint_delete,
        &command_checkpoint_fold,
        &command_explain,
        &command_plugin,
        &command_plugin_list,
        &command_plugin_features,
        &command_config,
        &command_config_show,
        &command_completion,
        &command_candidates,
        &command_manual,
        &command_version,
        &command_help,
        NULL,
};

const struct st_option global_options[] = {
        { .flag = "config",
          .type = ST_OPTION_STRING,
          .value_name = "JSON",
          .help = "configuration as JSON text; wins over file and environment" },
        { .flag = "config-dir",
          .type = ST_OPTION_STRING,
          .value_name = "DIR",
          .help = "directory of config.json; also by STASIS_CONFIG_DIR" },
        { .flag = "init-config",
          .type = ST_OPTION_BOOL,
          .help = "write a configuration file with the defaults, unless there is one" },
        { .flag = "merge-config",
          .type = ST_OPTION_BOOL,
          .help = "write what is in effect now into the configuration file" },
        { .flag = "json", .type = ST_OPTION_BOOL, .help = "print data as JSON" },
        { .flag = "no-color", .type = ST_OPTION_BOOL, .help = "no colours, not even on a terminal; also by NO_COLOR" },
        { .flag = "version", .letter = 'v', .type = ST_OPTION_BOOL, .help = "print the version" },
        { .flag = "help", .letter = 'h', .type = ST_OPTION_BOOL, .help = "print help for the command" },
        ST_OPTION_END,
};

char *command_next_alias(const char **at) {
        size_t n = *at ? strcspn(*at, "|") : 0;

        if (n == 0)
                return NULL;
        char *alias = xstrndup(*at, n);
        *at += n + ((*at)[n] == '|');
        return alias;
}

bool command_takes_program(const char *words) {
        return words && text_ends_with(words, "[ARG…]");
}

static bool has_alias(const struct command *command, const char *name) {
        for (const char *at = command->alias;;) {
                _cleanup_free_ char *alias = command_next_alias(&at);

                if (!alias)
                        return false;
                if (streq(alias, name))
                        return true;
        }
}

const struct command *command_find(const char *path) {
        for (size_t i = 0; commands[i]; i++)
                if (streq(commands[i]->path, path) || has_alias(commands[i], path))
                        return commands[i];
        return NULL;
}

bool command_is_below(const struct command *command, const struct command *parent) {
        if (!parent)
                return true;
        const char *rest = text_after(command->path, parent->path);
        return rest && *rest == ' ';
}

const char *command_name(const struct command *command) {
        const char *space = strrchr(command->path, ' ');
        return space ? space + 1 : command->path;
}

struct each_type {
        void (*call)(const struct st_command *type, void *userdata);
        void *userdata;
};

static int call_for_type(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct each_type *each = userdata;

        (void)plugin;
        (void)err;
        each->call(value, each->userdata); /* the commands of all verbs start with their struct st_command */
        return 0;
}

void command_each_type(const struct command *verb, void (*call)(const struct st_command *type, void *userdata),
                       void *userdata) {
        struct each_type each = { call, userdata };

        for (size_t i = 0; verb->types && verb->types[i]; i++)
                call(verb->types[i], userdata);
        if (verb->types)
                (void)st_feature_if_available(verb->type_feature, call_for_type, &each, NULL, NULL);
}

struct find_type {
        const char *name;
        const struct st_command *found;
};

static void match_type(const struct st_command *type, void *userdata) {
        struct find_type *find = userdata;

        if (!find->found && streq(type->type, find->name))
                find->found = type;
}

const struct st_command *command_find_type(const struct command *verb, const char *type) {
        struct find_type find = { .name = type };

        command_each_type(verb, match_type, &find);
        return find.found;
}

struct each_helper {
        void (*call)(const struct st_helper *helper, void *userdata);
        void *userdata;
};

static int call_for_helpers(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_helpers *helpers = value;
        const struct each_helper *each = userdata;

        (void)plugin;
        (void)err;
        for (size_t i = 0; i < helpers->n; i++)
                each->call(&helpers->helpers[i], each->userdata);
        return 0;
}

void command_each_helper(void (*call)(const struct st_helper *helper, void *userdata), void *userdata) {
        struct each_helper each = { call, userdata };

        (void)feature_if_available(helper_commands, call_for_helpers, &each, NULL);
}

static int run_helper(struct cli *cli, struct st_error **err) {
        const struct st_helper *helper = (const struct st_helper *)cli->type;

        cli_begin_work(cli);
        return helper->run(cli->arguments, err);
}

const struct command command_helper = { .path = "", .config = true, .run = run_helper };
