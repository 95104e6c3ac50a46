/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/settings.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/image.h"

#ifndef STASIS_SYSCONFDIR
#define STASIS_SYSCONFDIR "/etc/stasis"
#endif

#define SOCKET_PATH "/run/stasis.sock"
#define LEVELS "error|warn|info|debug"

const struct st_option settings_global[] = {
        { .flag = "address",
          .type = ST_OPTION_STRING,
          .key = "Address",
          .fallback = SOCKET_PATH,
          .value_name = "ADDRESS",
          .help = "where the daemon listens: a path, or HOST:PORT with --protocol tcp" },
        { .flag = "protocol",
          .type = ST_OPTION_STRING,
          .key = "Protocol",
          .fallback = "unix",
          .value_name = "NAME",
          .help = "how to reach the daemon; tcp is encrypted and needs TLS.Cert, TLS.Key and TLS.CA",
          .choices = "unix|tcp" },
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
          .fallback = "image",
          .value_name = "NAME",
          .help = "how the checkpoint is stored: 'image' is the native image, 'none' a directory of CRIU's images, all "
                  "others are a tar archive",
          .choices = IMAGE_FORMATS },
        { .flag = "image-codec",
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.ImageCodec",
          .fallback = "zstd",
          .value_name = "NAME",
          .help = "how a checkpoint of the kind 'image' is compressed: lz4 is faster than zstd, and larger",
          .choices = NATIVE_CODECS },
        { .flag = "capture",
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.Capture",
          .fallback = "auto",
          .value_name = "HOW",
          .help = "how memory is copied while the target is frozen: 'stream', by CRIU; 'grab', by threads of stasis, "
                  "which is faster, or by CRIU where that cannot be; 'auto' is 'stream'",
          .choices = "auto|stream|grab" },
        { .flag = "streams",
          .type = ST_OPTION_INT,
          .key = "Checkpoint.Streams",
          .fallback = "0",
          .value_name = "N",
          .help = "write a directory of N archives at the same time, by zstd when no other format is named; 0: one "
                  "file" },
        { .flag = "files",
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.Files",
          .fallback = "auto",
          .value_name = "HOW",
          .help = "what is kept of the files that the target can write to: 'record' size and times, 'copy' the content "
                  "too, 'auto' that of small ones",
          .choices = "auto|record|copy|none" },
        { .flag = "leave-running",
          .type = ST_OPTION_BOOL,
          .key = "CRIU.LeaveRunning",
          .fallback = "true",
          .value_name = "BOOL",
          .help = "let the target run on after the dump" },
        ST_OPTION_END,
};

const struct st_option settings_daemon[] = {
        { .flag = "db",
          .type = ST_OPTION_STRING,
          .key = "DB.Path",
          .fallback = "/var/lib/stasis/stasis.db",
          .value_name = "PATH",
          .help = "the database of the jobs and their checkpoints" },
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
        { .type = ST_OPTION_STRING,
          .key = "Checkpoint.Parents",
          .fallback = "auto",
          .help = "'auto': a job's checkpoint of the kind 'image' refers to the last one for what has not changed",
          .choices = "auto|never" },
        { .type = ST_OPTION_INT,
          .key = "Checkpoint.MaxChain",
          .fallback = "8",
          .help = "a job's checkpoint that refers to more others than this is made independent of them, in the "
                  "background" },
        { .type = ST_OPTION_SIZE,
          .key = "Checkpoint.FilesLimit",
          .fallback = "1M",
          .help = "open files up to this size are kept with their content (Checkpoint.Files: auto), all together up to "
                  "16 times of it; 0: none" },
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
          .key = "Metrics.Enabled",
          .fallback = "false",
          .help = "let the daemon serve what it has done as OpenMetrics text, at /metrics" },
        { .type = ST_OPTION_STRING,
          .key = "Metrics.Address",
          .help = "where: the path of a socket, or HOST:PORT of this machine itself; not set: metrics.sock in the run "
                  "directory" },
        { .type = ST_OPTION_BOOL,
          .key = "Client.WaitForReady",
          .fallback = "false",
          .help = "wait until the daemon answers, instead of failing" },
        { .type = ST_OPTION_STRING,
          .key = "Restore.Method",
          .fallback = "auto",
          .help = "who reads the memory of a native image: CRIU, one page after another ('stream'), or stasis, on all "
                  "cores, before the process runs ('gated'); auto: stasis, when it is much and the kernel lets it",
          .choices = "auto|stream|gated" },
        { .type = ST_OPTION_INT,
          .key = "Restore.LazyTimeout",
          .fallback = "60",
          .help = "seconds that a dump waits for memory that 'restore --lazy' has not read yet, when none comes" },
        { .type = ST_OPTION_STRING, .key = "CRIU.BinaryPath", .help = "the criu to use; not set: found in PATH" },
        { .type = ST_OPTION_STRING,
          .key = "CRIU.ManageCgroups",
          .fallback = "auto",
          .help = "how CRIU treats cgroups (criu(8), --manage-cgroups); auto: soft for a target in others than stasis",
          .choices = "auto|ignore|none|props|soft|full|strict|default" },
        { .type = ST_OPTION_INT,
          .key = "CRIU.LogLevel",
          .fallback = "4",
          .help = "how much CRIU logs",
          .choices = "1|2|3|4" },
        { .type = ST_OPTION_INT,
          .key = "Log.KeepFailed",
          .fallback = "100",
          .help = "how many logs of failed operations are kept in the log directory" },
        { .type = ST_OPTION_INT,
          .key = "Cancel.KillAfter",
          .fallback = "300",
          .help = "seconds that a cancelled dump may take to roll back; then its worker is killed" },
        { .type = ST_OPTION_STRING,
          .key = "Plugins.LibDir",
          .help = "directory of the plugins; not set: that of the installation" },
        { .type = ST_OPTION_STRING,
          .key = "Socket.Group",
          .help = "group that may use the daemon's UNIX socket; its members may do what root may" },
        { .type = ST_OPTION_STRING,
          .key = "Socket.Path",
          .fallback = SOCKET_PATH,
          .help = "the daemon's UNIX socket when Address is one of TCP" },
        { .type = ST_OPTION_STRING,
          .key = "TLS.Cert",
          .help = "certificate of this daemon or client, PEM, with those between it and the CA" },
        { .type = ST_OPTION_STRING, .key = "TLS.Key", .help = "its private key, PEM, readable by nobody else" },
        { .type = ST_OPTION_STRING, .key = "TLS.CA", .help = "certificates, PEM, that sign those of the other side" },
        { .type = ST_OPTION_LIST,
          .key = "TLS.Root",
          .help = "common names (CN) of the clients that may do what root may" },
        { .type = ST_OPTION_LIST,
          .key = "Hooks.PreDump",
          .help = "programs to run before a dump freezes its target; when one fails there is no dump" },
        { .type = ST_OPTION_LIST,
          .key = "Hooks.PostThaw",
          .help = "programs to run when the target runs again, before the checkpoint is written; always" },
        { .type = ST_OPTION_LIST, .key = "Hooks.PostDump", .help = "programs to run after a dump, also a failed one" },
        { .type = ST_OPTION_LIST, .key = "Hooks.PostRestore", .help = "programs to run after a restore" },
        { .type = ST_OPTION_INT,
          .key = "Hooks.Timeout",
          .fallback = "30",
          .help = "seconds that such a program may take" },
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
        static const struct st_option *const settings[] = { settings_dump, settings_global, settings_daemon,
                                                            settings_keys };
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

bool settings_is_tcp(const struct st_arguments *config) {
        return streq(st_arguments_string(config, "Protocol"), "tcp");
}

const char *settings_socket_path(const struct st_arguments *config) {
        const char *address = st_arguments_string(config, "Address");
        bool is_path = strchr(address, '/') || !strchr(address, ':');

        return settings_is_tcp(config) || !is_path ? st_arguments_string(config, "Socket.Path") : address;
}

bool settings_prefers_socket(const struct st_arguments *config) {
        for (const struct st_option *row = settings_global; row->flag; row++)
                if ((streq(row->key, "Address") || streq(row->key, "Protocol")) &&
                    arguments_origin(config, row) > ORIGIN_FILE)
                        return !settings_is_tcp(config);
        return !settings_is_tcp(config) || access(settings_socket_path(config), W_OK) == 0;
}

const char *settings_format(const struct st_arguments *config, int64_t streams) {
        const char *name = st_arguments_string(config, "Checkpoint.Compression");

        return streams > 1 && streq(name, image_format_name(IMAGE_NATIVE)) ? image_format_name(IMAGE_ZSTD) : name;
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
