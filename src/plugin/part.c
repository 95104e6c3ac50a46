/* SPDX-License-Identifier: Apache-2.0 */

/* Parts of plugins that are loaded when they are needed. */

#include <dlfcn.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "plugin/loader.h"
#include "plugin/registry.h"
#include "plugin/trust.h"

static const void *load(const struct plugin_entry *entry, struct st_error **err) {
        _cleanup_free_ char *beside = path_directory(entry->file), *directory = path_join(beside, "parts");
        _cleanup_free_ char *name = xasprintf("%s.so", entry->name), *path = path_join(directory, name);
        _cleanup_close_ int directory_fd = -EBADF;
        const void *part;
        void *handle;

        if (trust_directory(directory, &directory_fd, err) < 0 || trust_file(directory_fd, name, path, err) < 0)
                return NULL;
        handle = loader_open_part(path, err);
        if (!handle)
                return NULL;
        part = dlsym(handle, "stasis_part");
        if (!part)
                st_error_set(err, ENOEXEC, "%s is no part of a plugin: it has no symbol stasis_part", path);
        return part;
}

const void *st_plugin_part(const char *plugin, struct st_error **err) {
        const struct plugin_entry *entry = registry_find(plugin);
        const void *part = NULL;

        if (entry)
                part = load(entry, err);
        else
                st_error_set(err, ENOENT, "it is not loaded");
        if (!part) {
                st_error_wrap(err, "a part of the plugin %s cannot be used", plugin);
                st_error_hint(err, "install the package of the plugin again");
        }
        return part;
}
