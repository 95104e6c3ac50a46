/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/registry.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "plugin/loader.h"
#include "plugin/trust.h"

#define VERSION_MAX_LENGTH 64

static struct {
        bool loaded;
        struct plugin_entry *entries;
        size_t n, room;
} registry;

size_t registry_count(void) {
        return registry.n;
}

const struct plugin_entry *registry_get(size_t i) {
        assert(i < registry.n);
        return &registry.entries[i];
}

const struct plugin_entry *registry_find(const char *name) {
        for (size_t i = 0; i < registry.n; i++)
                if (registry.entries[i].status == PLUGIN_LOADED && streq(registry.entries[i].name, name))
                        return &registry.entries[i];
        return NULL;
}

/* By name; of the same name, the one that is usable first. */
static int compare_entries(const void *a, const void *b) {
        const struct plugin_entry *x = a, *y = b;
        int r = strcmp(x->name, y->name);

        if (r == 0)
                r = (int)x->status - (int)y->status;
        return r ? r : strcmp(x->file, y->file);
}

static int compare_texts(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The file names of what may be plugins, in order. Hidden ones are files that are being installed. */
static int list_files(const char *directory, struct strv *ret, struct st_error **err) {
        _cleanup_closedir_ DIR *dir = opendir(directory);
        if (!dir)
                return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot read plugins from %s", directory);

        for (;;) {
                errno = 0;
                const struct dirent *entry = readdir(dir);
                if (!entry)
                        break;
                if (entry->d_name[0] != '.' && text_ends_with(entry->d_name, ".so"))
                        strv_add(ret, entry->d_name);
        }
        if (errno)
                return st_error_errno(err, errno, "cannot read plugins from %s", directory);
        if (ret->n > 0)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_texts);
        return 0;
}

static int start_plugin(struct plugin_entry *entry, const struct st_plugin *plugin, struct st_error **err) {
        const struct plugin_entry *other = registry_find(plugin->name);
        if (other)
                return st_error_set(err, EEXIST, "its name \"%s\" is taken by %s", plugin->name, other->file);

        const char *version = plugin->version ?: "";
        char *blamed = entry->name; /* the name of the file; a crash would still read it */
        entry->name = xstrdup(plugin->name);
        registry_set_running(entry->name, "init");
        free(blamed);
        free(entry->version);
        entry->version = text_sanitise(version, strnlen(version, VERSION_MAX_LENGTH));
        return loader_init(plugin, err);
}

static int load_plugin(struct plugin_entry *entry, int dir_fd, const char *file, struct st_error **err) {
        const struct st_plugin *plugin;
        void *handle;

        int r = trust_file(dir_fd, file, entry->file, err);
        if (r < 0)
                return r;

        registry_set_running(entry->name, "load");
        r = loader_open(entry->file, &handle, &plugin, err);
        if (r < 0) {
                if (r == -EPROTONOSUPPORT)
                        entry->status = PLUGIN_INCOMPATIBLE;
                return r;
        }
        r = start_plugin(entry, plugin, err);
        if (r < 0) {
                loader_close(handle);
                return r;
        }
        entry->plugin = plugin;
        entry->status = PLUGIN_LOADED;
        return 0;
}

static void add_entry(const char *directory, const char *file, int dir_fd, struct st_error *directory_error) {
        _cleanup_error_ struct st_error *err = NULL;
        struct plugin_entry entry = {
                .file = path_join(directory, file),
                .name = text_sanitise(file, strlen(file) - strlen(".so")),
                .version = xstrdup(""),
                .status = PLUGIN_BROKEN,
        };

        if (directory_error) {
                entry.error = xstrdup(st_error_message(directory_error));
        } else {
                if (load_plugin(&entry, dir_fd, file, &err) < 0)
                        entry.error = xstrdup(st_error_message(err));
                registry_set_running(NULL, NULL);
        }
        GROW(registry.entries, registry.n, registry.room);
        registry.entries[registry.n++] = entry;
}

void registry_load(const char *directory) {
        if (registry.loaded)
                return;
        registry.loaded = true;

        _cleanup_free_ char *absolute = path_absolute(directory);
        _cleanup_strv_ struct strv files = { 0 };
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_close_ int dir_fd = -EBADF;

        if (list_files(absolute, &files, &err) < 0) {
                st_log_warning("%s", st_error_message(err));
                return;
        }
        if (files.n == 0)
                return;
        (void)trust_directory(absolute, &dir_fd, &err);
        for (size_t i = 0; i < files.n; i++)
                add_entry(absolute, files.items[i], dir_fd, err);
        qsort(registry.entries, registry.n, sizeof(*registry.entries), compare_entries);
}

void registry_unload(void) {
        for (size_t i = registry.n; i-- > 0;) {
                struct plugin_entry *entry = &registry.entries[i];

                if (entry->plugin && entry->plugin->fini) {
                        registry_set_running(entry->name, "fini");
                        entry->plugin->fini();
                        registry_set_running(NULL, NULL);
                }
                free(entry->file);
                free(entry->name);
                free(entry->version);
                free(entry->error);
        }
        free(registry.entries);
        memset(&registry, 0, sizeof(registry));
}
