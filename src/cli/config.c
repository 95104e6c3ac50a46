/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis config show`, --init-config and --merge-config. */

#include "cli/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/options.h"
#include "base/path.h"
#include "base/table.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/output.h"
#include "engine/settings.h"

static const struct st_option *const all_settings[] = { settings_global, settings_dump, settings_daemon,
                                                        settings_keys };

/* @return the defaults alone, new reference */
static json_t *defaults_to_json(void) {
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *defaults = NULL;

        for (size_t i = 0; i < ELEMENTSOF(all_settings); i++)
                option_tables_add(&tables, all_settings[i]);
        defaults = arguments_new(&tables);
        return arguments_to_json(defaults);
}

static int write_file(const char *directory, const char *path, json_t *content, struct st_error **err) {
        _cleanup_free_ char *text = json_dumps(content, JSON_INDENT(8));
        int r;

        if (!text)
                return st_error_set(err, EINVAL, "cannot write %s: the configuration is not valid UTF-8", path);
        r = io_make_directories(directory, 0755);
        if (r < 0)
                return st_error_errno(err, r, "cannot make the directory %s", directory);

        size_t n = strlen(text);
        text[n] = '\n';                                     /* in place of the NUL */
        r = io_replace_file(path, text, n + 1, 0600, true); /* keys of services may be in it */
        if (r < 0)
                return st_error_errno(err, r, "cannot write %s", path);
        output_talk("wrote %s", path);
        return 0;
}

int config_write(const struct st_arguments *config, const char *config_dir, struct st_error **err) {
        _cleanup_free_ char *directory = settings_directory(config_dir);
        _cleanup_free_ char *path = path_join(directory, "config.json");
        bool merge = st_arguments_bool(config, "merge-config");
        json_t *content = NULL;
        int r;

        if (!merge && access(path, F_OK) == 0) {
                output_talk("%s exists already: left as it is", path);
                return 0;
        }
        content = merge ? arguments_to_json(config) : defaults_to_json();
        r = write_file(directory, path, content, err);
        json_decref(content);
        return r;
}

/* Calls for each key in the order of the tables. */
static void each_key(const struct st_arguments *config,
                     void (*call)(const struct st_arguments *config, const struct st_option *row, void *userdata),
                     void *userdata) {
        for (size_t i = 0; i < ELEMENTSOF(all_settings); i++)
                for (const struct st_option *row = all_settings[i]; row->flag || row->key; row++)
                        if (row->key)
                                call(config, row, userdata);
}

static void add_to_table(const struct st_arguments *config, const struct st_option *row, void *userdata) {
        table_add(userdata, (const char *const[]){ row->key, st_arguments_string(config, row->key),
                                                   arguments_where(config, row) });
}

static json_t *value_to_json(const struct st_arguments *config, const struct st_option *row) {
        const char *text = st_arguments_string(config, row->key);

        if (!text)
                return json_null();
        switch (row->type) {
        case ST_OPTION_BOOL:
                return json_boolean(st_arguments_bool(config, row->key));
        case ST_OPTION_INT:
        case ST_OPTION_SIZE:
                return json_integer(st_arguments_int(config, row->key));
        default:
                return json_string(text);
        }
}

static void add_to_object(const struct st_arguments *config, const struct st_option *row, void *userdata) {
        json_object_set_new(
                userdata, row->key,
                json_pack("{s:o, s:s}", "value", value_to_json(config, row), "origin", arguments_where(config, row)));
}

static int run_show(struct cli *cli, struct st_error **err) {
        static const char *const titles[] = { "KEY", "VALUE", NULL };
        static const char *const titles_origin[] = { "KEY", "VALUE", "ORIGIN", NULL };
        bool origin = st_arguments_bool(cli->arguments, "origin");
        _cleanup_(table_freep) struct table *table = NULL;

        if (cli->json && !origin) {
                output_json(arguments_to_json(cli->arguments));
                return EXIT_OK;
        }
        if (cli->json) {
                json_t *object = json_object();

                each_key(cli->arguments, add_to_object, object);
                output_json(object);
                return EXIT_OK;
        }
        table = table_new(origin ? titles_origin : titles);
        each_key(cli->arguments, add_to_table, table);
        return table_print(table, false, err);
}

const struct command command_config = {
        .path = "config",
        .summary = "Shows the configuration",
        .examples = "config show --origin",
};

static const struct st_option show_options[] = {
        { .flag = "origin",
          .type = ST_OPTION_BOOL,
          .help = "show who set each value: a file and its line, a variable, a flag" },
        ST_OPTION_END,
};

const struct command command_config_show = {
        .path = "config show",
        .summary = "Prints the configuration in effect",
        .examples = "config show --origin",
        .options = (const struct st_option *const[]){ show_options, NULL },
        .config = true,
        .run = run_show,
};
