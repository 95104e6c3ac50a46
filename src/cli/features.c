/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/features.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/table.h"
#include "base/text.h"
#include "plugin/registry.h"

const struct st_option features_options[] = {
        { .flag = "errors",
          .type = ST_OPTION_BOOL,
          .help = "print only what is wrong with the plugins, and exit with 1 if one cannot be used" },
        ST_OPTION_END,
};

/* Plugins that may be asked for without being installed. */
static const char *const known_plugins[] = {
        "docker", "runc", "crun", "containerd", "podman", "s3", "slurm",
};

/* A plugin that is shown. */
struct column {
        const char *name;
        const struct plugin_entry *entry; /* NULL: not installed */
};

struct columns {
        struct column *items;
        size_t n, room;
};

static void columns_clear(struct columns *columns) {
        free(columns->items);
}

static void columns_add(struct columns *columns, const char *name, const struct plugin_entry *entry) {
        GROW(columns->items, columns->n, columns->room);
        columns->items[columns->n++] = (struct column){ name, entry };
}

static bool is_known(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(known_plugins); i++)
                if (streq(known_plugins[i], name))
                        return true;
        return false;
}

/* All plugins, or those that are named, in that order. */
static int choose_columns(const char *const *names, struct columns *ret, struct st_error **err) {
        if (!*names)
                for (size_t i = 0; i < registry_count(); i++)
                        columns_add(ret, registry_get(i)->name, registry_get(i));

        for (; *names; names++) {
                bool found = false;

                for (size_t i = 0; i < registry_count(); i++)
                        if (streq(registry_get(i)->name, *names)) {
                                columns_add(ret, registry_get(i)->name, registry_get(i));
                                found = true;
                        }
                if (found)
                        continue;
                if (!is_known(*names)) {
                        int r = st_error_set(err, ENOENT, "there is no plugin %s", *names);
                        st_error_hint(err, "stasis plugin list shows those that are installed");
                        return r;
                }
                columns_add(ret, *names, NULL);
        }
        return 0;
}

static const char *status_text(const struct plugin_entry *entry) {
        if (!entry)
                return "not installed";
        switch (entry->status) {
        case PLUGIN_LOADED:
                return "loaded";
        case PLUGIN_INCOMPATIBLE:
                return "incompatible";
        case PLUGIN_BROKEN:
                break;
        }
        return "broken";
}

static const char *symbol(const struct plugin_entry *entry, enum st_feature feature) {
        if (!entry)
                return "—";
        if (entry->status != PLUGIN_LOADED)
                return "✖";
        return registry_feature(entry, feature) ? "✔" : "•";
}

static int print_table(const struct columns *columns, struct st_error **err) {
        _cleanup_free_ const char **cells = xcalloc(columns->n + 2, sizeof(*cells));
        _cleanup_(table_freep) struct table *table = NULL;

        cells[0] = "FEATURE";
        for (size_t i = 0; i < columns->n; i++)
                cells[i + 1] = columns->items[i].name;
        table = table_new(cells);

        for (unsigned f = 0; f < ST_FEATURE_COUNT; f++) {
                cells[0] = feature_description(f);
                for (size_t i = 0; i < columns->n; i++)
                        cells[i + 1] = symbol(columns->items[i].entry, f);
                table_add(table, cells);
        }
        return table_print(table, false, err);
}

/* Texts of others, paths for instance, need not be UTF-8; JSON must be. */
static json_t *json_text(const char *text) {
        if (!text)
                return json_null();
        _cleanup_free_ char *clean = text_sanitise(text, strlen(text));
        return json_string(clean);
}

/* Features that the plugin exports: all, or those that do nothing in this version. */
static json_t *json_features(const struct plugin_entry *entry, bool without_effect) {
        json_t *list = json_array();

        for (unsigned f = 0; entry && f < ST_FEATURE_COUNT; f++)
                if (registry_feature(entry, f) && !(without_effect && feature_has_effect(f)))
                        json_array_append_new(list, json_string(feature_name(f)));
        return list;
}

static int print_json(const struct columns *columns, struct st_error **err) {
        json_t *plugins = json_array();

        for (size_t i = 0; i < columns->n; i++) {
                const struct plugin_entry *entry = columns->items[i].entry;
                json_t *plugin = json_object();

                json_object_set_new(plugin, "name", json_text(columns->items[i].name));
                json_object_set_new(plugin, "version", json_text(entry ? entry->version : NULL));
                json_object_set_new(plugin, "file", json_text(entry ? entry->file : NULL));
                json_object_set_new(plugin, "status", json_string(status_text(entry)));
                json_object_set_new(plugin, "error", json_text(entry ? entry->error : NULL));
                json_object_set_new(plugin, "features", json_features(entry, false));
                json_object_set_new(plugin, "without_effect", json_features(entry, true));
                json_array_append_new(plugins, plugin);
        }

        json_t *object = json_object();
        json_object_set_new(object, "plugins", plugins);
        int r = json_dumpf(object, stdout, JSON_INDENT(2));
        json_decref(object);
        if (r < 0 || putchar('\n') == EOF)
                return st_error_set(err, EIO, "cannot write to stdout");
        return 0;
}

static void print_errors(const struct columns *columns) {
        for (size_t i = 0; i < columns->n; i++) {
                const struct plugin_entry *entry = columns->items[i].entry;

                if (!entry)
                        continue;
                _cleanup_free_ char *file = text_sanitise(entry->file, strlen(entry->file));
                if (entry->status != PLUGIN_LOADED)
                        printf("plugin %s: %s\n", file, entry->error);
                for (unsigned f = 0; f < ST_FEATURE_COUNT; f++)
                        if (registry_feature(entry, f) && !feature_has_effect(f))
                                printf("plugin %s: warning: %s (%s) has no effect in this version of stasis\n", file,
                                       feature_name(f), feature_description(f));
        }
}

static size_t count_errors(const struct columns *columns) {
        size_t n = 0;

        for (size_t i = 0; i < columns->n; i++)
                n += columns->items[i].entry && columns->items[i].entry->status != PLUGIN_LOADED;
        return n;
}

int cli_features(const struct st_arguments *arguments, bool json, struct st_error **err) {
        _cleanup_(columns_clear) struct columns columns = { 0 };
        bool errors = st_arguments_bool(arguments, "errors");

        int r = choose_columns(st_arguments_words(arguments), &columns, err);
        if (r < 0)
                return r;

        size_t n_errors = count_errors(&columns);
        if (json) {
                r = print_json(&columns, err);
        } else if (errors) {
                print_errors(&columns);
        } else {
                r = print_table(&columns, err);
                if (r >= 0 && n_errors > 0)
                        fprintf(stderr, "%zu plugin%s cannot be used: see stasis features --errors\n", n_errors,
                                n_errors == 1 ? "" : "s");
        }
        if (r < 0)
                return r;
        return errors && n_errors > 0;
}

int cli_plugin_list(const struct st_arguments *arguments, bool json, struct st_error **err) {
        static const char *const titles[] = { "NAME", "VERSION", "STATUS", "FILE", "ERROR", NULL };
        static const char *const titles_good[] = { "NAME", "VERSION", "STATUS", "FILE", NULL };
        _cleanup_(columns_clear) struct columns columns = { 0 };
        _cleanup_(table_freep) struct table *table = NULL;

        int r = choose_columns(st_arguments_words(arguments), &columns, err);
        if (r < 0)
                return r;
        if (json)
                return print_json(&columns, err);

        table = table_new(count_errors(&columns) > 0 ? titles : titles_good);
        for (size_t i = 0; i < columns.n; i++) {
                const struct plugin_entry *entry = columns.items[i].entry;

                table_add(table, (const char *const[]){ columns.items[i].name, entry ? entry->version : NULL,
                                                        status_text(entry), entry ? entry->file : NULL,
                                                        entry ? entry->error : NULL });
        }
        return table_print(table, false, err);
}
