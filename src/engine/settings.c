/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/settings.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#ifndef STASIS_SYSCONFDIR
#define STASIS_SYSCONFDIR "/etc/stasis"
#endif

#define LEVELS "error|warn|info|debug"

const struct st_option settings_global[] = {
        { .flag = "address",
          .type = ST_OPTION_STRING,
          .key = "Address",
          .fallback = "/run/stasis.sock",
          .value_name = "PATH",
          .help = "where the daemon listens" },
        { .flag = "protocol",
          .type = ST_OPTION_STRING,
          .key = "Protocol",
          .fallback = "unix",
          .value_name = "NAME",
          .help = "how to reach the daemon",
          .choices = "unix" },
        { .flag = "profiling",
          .type = ST_OPTION_BOOL,
          .key = "Profiling.Enabled",
          .fallback = "false",
          .help = "print how long each step took" },
        { .flag = "profiling-path",
          .type = ST_OPTION_STRING,
          .key = "Profiling.Path",
          .value_name = "FILE",
          .help = "write how long each step took to a file, as JSON" },
        ST_OPTION_END,
};

const struct st_option settings_dump[] = {
        { .flag = "dir",
          .letter = 'd',
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.Dir",
          .fallback = "/var/lib/stasis/checkpoints",
          .value_name = "DIR",
          .help = "directory of the checkpoint, made when missing" },
        { .flag = "compression",
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.Compression",
          .fallback = "zstd",
          .value_name = "NAME",
          .help = "how the checkpoint is stored: 'none' is a directory of CRIU's images",
          .choices = "none|zstd" },
        { .flag = "leave-running",
          .type = ST_OPTION_BOOL,
          .key = "CRIU.LeaveRunning",
          .fallback = "true",
          .value_name = "BOOL",
          .help = "let the target run on after the dump" },
        ST_OPTION_END,
};

const struct st_option settings_keys[] = {
        { .type = ST_OPTION_STRING,
          .key = "LogLevel",
          .fallback = "info",
          .help = "how much the daemon logs",
          .choices = LEVELS },
        { .type = ST_OPTION_STRING,
          .key = "LogLevelNoServer",
          .fallback = "warn",
          .help = "how much the command line logs",
          .choices = LEVELS },
        { .type = ST_OPTION_SIZE,
          .key = "Checkpoint.StreamMemoryLimit",
          .help = "memory that a dump may take to store a process faster than the disk does; not set: half of what is "
                  "available" },
        { .type = ST_OPTION_BOOL,
          .key = "Profiling.Detailed",
          .fallback = "true",
          .help = "show each step, not only the whole" },
        { .type = ST_OPTION_STRING,
          .key = "Profiling.Precision",
          .fallback = "auto",
          .help = "unit of the times that are shown",
          .choices = "auto|s|ms|us|ns" },
        { .type = ST_OPTION_BOOL,
          .key = "Client.WaitForReady",
          .fallback = "false",
          .help = "wait until the daemon answers, instead of failing" },
        { .type = ST_OPTION_STRING, .key = "CRIU.BinaryPath", .help = "the criu to use; not set: found in PATH" },
        { .type = ST_OPTION_STRING,
          .key = "CRIU.ManageCgroups",
          .fallback = "ignore",
          .help = "how CRIU treats cgroups (criu(8), --manage-cgroups)",
          .choices = "ignore|none|props|soft|full|strict|default" },
        { .type = ST_OPTION_INT,
          .key = "CRIU.LogLevel",
          .fallback = "4",
          .help = "how much CRIU logs",
          .choices = "1|2|3|4" },
        { .type = ST_OPTION_STRING,
          .key = "Plugins.LibDir",
          .help = "directory of the plugins; not set: that of the installation" },
        ST_OPTION_END,
};

static bool has_table(const struct option_tables *tables, const struct st_option *rows) {
        for (size_t i = 0; i < tables->n; i++)
                if (tables->tables[i] == rows)
                        return true;
        return false;
}

/* All values at their defaults. The tables of a command come first: their flags win over the configuration's. */
static struct st_arguments *new_arguments(const struct option_tables *extra) {
        static const struct st_option *const settings[] = { settings_dump, settings_global, settings_keys };
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };

        for (size_t i = 0; extra && i < extra->n; i++)
                option_tables_add(&tables, extra->tables[i]);
        for (size_t i = 0; i < ELEMENTSOF(settings); i++)
                if (!has_table(&tables, settings[i]))
                        option_tables_add(&tables, settings[i]);
        return arguments_new(&tables);
}

char *settings_directory(const char *config_dir) {
        const char *variable = secure_getenv("STASIS_CONFIG_DIR");
        const char *base = secure_getenv("XDG_CONFIG_HOME"), *home = secure_getenv("HOME");

        if (!isempty(config_dir))
                return path_absolute(config_dir);
        if (!isempty(variable))
                return path_absolute(variable);
        if (geteuid() == 0)
                return xstrdup(STASIS_SYSCONFDIR);
        /* XDG Base Directory Specification: a relative path in the variable is to be ignored. */
        if (!isempty(base) && base[0] == '/')
                return path_join(base, "stasis");
        return path_join(isempty(home) ? "/" : home, ".config/stasis");
}

int settings_load(const struct option_tables *extra, const char *config_dir, struct st_arguments **ret,
                  struct st_error **err) {
        _cleanup_free_ char *directory = settings_directory(config_dir);
        _cleanup_free_ char *path = path_join(directory, "config.json");
        _cleanup_(arguments_freep) struct st_arguments *arguments = new_arguments(extra);
        int r;

        r = arguments_load_file(arguments, path, err);
        if (r < 0)
                return r;
        r = arguments_load_environment(arguments, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(arguments);
        return 0;
}

int settings_from_json(const char *json, struct st_arguments **ret, struct st_error **err) {
        _cleanup_(arguments_freep) struct st_arguments *arguments = new_arguments(NULL);
        int r;

        r = arguments_load_json(arguments, json, ORIGIN_FLAG, "the configuration of the daemon", err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(arguments);
        return 0;
}
