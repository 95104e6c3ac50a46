/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "plugin/registry.h"

#define NAME_MAX_LENGTH 32
#define DESCRIPTOR_SIZE_1_0 (offsetof(struct st_plugin, fini) + sizeof(void *))

/* Names that the program itself answers to. */
static const char *const builtin_types[] = { "process", "job" };

/* The commands whose word after the verb must be the plugin's name: all begin with a struct st_command. */
static const enum st_feature command_features[] = {
        ST_FEATURE_dump_command, ST_FEATURE_restore_command, ST_FEATURE_freeze_command, ST_FEATURE_unfreeze_command,
        ST_FEATURE_run_command,  ST_FEATURE_manage_command,  ST_FEATURE_query_command,
};

static int check_name(const char *name, struct st_error **err) {
        if (!name)
                return st_error_set(err, EINVAL, "it has no name");

        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
        if (n == 0 || n > NAME_MAX_LENGTH || name[n] || name[0] == '-') {
                _cleanup_free_ char *shown = text_sanitise(name, strnlen(name, 2 * NAME_MAX_LENGTH));
                return st_error_set(err, EINVAL,
                                    "its name \"%s\" is not 1 to %d of a-z, 0-9 and -, not beginning with -", shown,
                                    NAME_MAX_LENGTH);
        }
        for (size_t i = 0; i < ELEMENTSOF(builtin_types); i++)
                if (streq(name, builtin_types[i]))
                        return st_error_set(err, EEXIST, "its name \"%s\" is built in", name);
        return 0;
}

static int check_features(const struct st_plugin *plugin, struct st_error **err) {
        const struct st_features *features = plugin->features;

        if (!features)
                return st_error_set(err, EINVAL, "it has no features");
        /* New rows raise the minor version, which was checked: more than we know cannot be. */
        if (features->size < sizeof(features->size) || features->size > sizeof(*features))
                return st_error_set(err, EINVAL, "its features have the impossible size %zu", features->size);

        for (size_t i = 0; i < ELEMENTSOF(command_features); i++) {
                const struct st_command *command = features_value(features, command_features[i]);
                if (command && (!command->type || !streq(command->type, plugin->name)))
                        return st_error_set(err, EINVAL, "the type of its %s is \"%s\" and not its name, \"%s\"",
                                            feature_name(command_features[i]), command->type ?: "", plugin->name);
        }
        return 0;
}

int loader_check(const struct st_plugin *plugin, struct st_error **err) {
        if (plugin->magic != ST_PLUGIN_MAGIC)
                return st_error_set(err, EPROTONOSUPPORT, "it is no stasis plugin: its magic number is 0x%08x",
                                    plugin->magic);
        if (plugin->abi_major != ST_PLUGIN_ABI_MAJOR || plugin->abi_minor > ST_PLUGIN_ABI_MINOR) {
                bool newer = plugin->abi_major > ST_PLUGIN_ABI_MAJOR ||
                             (plugin->abi_major == ST_PLUGIN_ABI_MAJOR && plugin->abi_minor > ST_PLUGIN_ABI_MINOR);
                int r = st_error_set(err, EPROTONOSUPPORT,
                                     "ABI %u.%u, this stasis has %d.%d: it was built for %s stasis", plugin->abi_major,
                                     plugin->abi_minor, ST_PLUGIN_ABI_MAJOR, ST_PLUGIN_ABI_MINOR,
                                     newer ? "a newer" : "an older");
                st_error_hint(err, newer ? "update stasis, or install the plugin that belongs to it"
                                         : "install the plugin that belongs to this stasis");
                return r;
        }
        /* All of 1.0 must be there; fields that we do not know would have come with a higher minor version. */
        if (plugin->size < DESCRIPTOR_SIZE_1_0 || plugin->size > sizeof(*plugin))
                return st_error_set(err, EINVAL, "its descriptor has the impossible size %u", plugin->size);

        int r = check_name(plugin->name, err);
        return r < 0 ? r : check_features(plugin, err);
}

/* The words of dlerror() for what goes wrong most often, in ours. */
static int load_failed(const char *path, struct st_error **err) {
        const char *text = dlerror(), *undefined, *needed;

        if (!text)
                return st_error_set(err, ENOEXEC, "it cannot be loaded");
        if (text_after(text, path))
                text = text_after(text, path);
        text += strspn(text, ": ");

        undefined = strstr(text, "undefined symbol: ");
        if (undefined) {
                undefined = strchr(undefined, ':') + 2;
                return st_error_set(err, ENOEXEC, "missing symbol %.*s: it was built for another stasis",
                                    (int)strcspn(undefined, ", ("), undefined);
        }
        needed = strstr(text, ": cannot open shared object file");
        if (needed) {
                int r = st_error_set(err, ENOEXEC, "it needs %.*s, which is not installed", (int)(needed - text), text);
                st_error_hint(err, "install the package of that library");
                return r;
        }
        return st_error_set(err, ENOEXEC, "it cannot be loaded: %s", text);
}

/**
 * The dynamic loader maps a file that was copied in part, and the process dies of SIGBUS where it ends. The table of
 * sections stands at the end of a shared object (elf(5)): is it within the file?
 */
static int check_whole(const char *path, struct st_error **err) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        ElfW(Ehdr) header;

        if (fd < 0 || fstat(fd, &st) < 0)
                return st_error_errno(err, errno, "it cannot be read");
        if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
            memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
                return 0; /* the loader says what it is instead */

        uint64_t size = (uint64_t)st.st_size, sections = (uint64_t)header.e_shnum * header.e_shentsize;
        if (header.e_shoff > size || sections > size - header.e_shoff)
                return st_error_set(err, ENOEXEC, "it is cut off: the file ends before what its header announces");
        return 0;
}

/*
 * By path and not by /proc/self/fd/N: nobody but root can have changed the path since it was checked, so a descriptor
 * would add nothing. And the dynamic loader knows an object by the name it was loaded by: the next plugin whose
 * descriptor got the same number would be taken for the first one, and debuggers, backtraces and sanitisers would look
 * for its symbols in a file that is gone.
 */
int loader_open(const char *path, void **ret_handle, const struct st_plugin **ret_plugin, struct st_error **err) {
        int whole = check_whole(path, err);
        if (whole < 0)
                return whole;

        void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!handle)
                return load_failed(path, err);

        const struct st_plugin *plugin = dlsym(handle, "stasis_plugin");
        int r = plugin ? loader_check(plugin, err) : st_error_set(err, ENOEXEC, "it is no stasis plugin");
        if (r < 0) {
                loader_close(handle);
                return r;
        }
        *ret_handle = handle;
        *ret_plugin = plugin;
        return 0;
}

void *loader_open_part(const char *path, struct st_error **err) {
        void *handle = NULL;

        if (check_whole(path, err) < 0)
                return NULL;
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!handle)
                (void)load_failed(path, err);
        return handle;
}

void loader_close(void *handle) {
        dlclose(handle);
}

int loader_init(const struct st_plugin *plugin, struct st_error **err) {
        _cleanup_error_ struct st_error *why = NULL;

        if (!plugin->init)
                return 0;
        int r = plugin->init(&why);
        if (r >= 0)
                return 0;
        if (!why)
                st_error_errno(&why, r, "no reason given");
        st_error_wrap(&why, "its init failed");
        return st_error_move(err, TAKE_PTR(why));
}
