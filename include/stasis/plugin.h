/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A plugin is one shared object in Plugins.LibDir with one exported symbol, `stasis_plugin`. It must be owned by root
 * and writable by root only, and so must every directory on its path.
 *
 * Versions of the ABI. The major number changes when something existing changes: such a plugin is refused. The minor
 * number grows when something is added: older plugins go on working, newer ones are refused by an older host.
 *
 *   1.0  the first one
 *   1.1  checkpoint.h and child.h: handlers in the place of CRIU; st_dump.stop, st_restore.waiter and .terminal;
 *        st_plugin_part()
 *   1.2  run.h: adapters and handlers of run and manage; st_restore_streams(), st_operation_jid()
 *   1.3  handler_options: what a dump or restore asks for and the plugin's handler does not do is refused by the host
 *   1.4  st_operation_by_policy()
 */

#include <stdint.h>

#include <stasis/error.h>
#include <stasis/features.h>
#include <stasis/log.h>

#define ST_PLUGIN_MAGIC 0x73746173u /* "stas" */
#define ST_PLUGIN_ABI_MAJOR 1
#define ST_PLUGIN_ABI_MINOR 4

struct st_plugin {
        uint32_t magic; /* these four never move */
        uint16_t abi_major;
        uint16_t abi_minor;
        uint32_t size; /* sizeof(struct st_plugin) as the plugin was compiled */

        const char *name;    /* a-z, 0-9 and -, at most 32 characters; also the type of its requests */
        const char *version; /* of the plugin, free text */
        const struct st_features *features;

        /** Called once after loading, may be NULL. Must be quick: every command loads the plugins. */
        int (*init)(struct st_error **err);
        /** Called at an orderly end, if init succeeded; may be NULL. */
        void (*fini)(void);
};

/** Defines the descriptor: ST_PLUGIN("runc", "1.0", features, init, fini). */
#define ST_PLUGIN(plugin_name, plugin_version, plugin_features, plugin_init, plugin_fini) \
        ST_PUBLIC extern const struct st_plugin stasis_plugin;                            \
        const struct st_plugin stasis_plugin = {                                          \
                .magic = ST_PLUGIN_MAGIC,                                                 \
                .abi_major = ST_PLUGIN_ABI_MAJOR,                                         \
                .abi_minor = ST_PLUGIN_ABI_MINOR,                                         \
                .size = sizeof(struct st_plugin),                                         \
                .name = (plugin_name),                                                    \
                .version = (plugin_version),                                              \
                .features = &(plugin_features),                                           \
                .init = (plugin_init),                                                    \
                .fini = (plugin_fini),                                                    \
        }

/**
 * Loads what a plugin keeps apart from its commands, because its libraries take time to load and most runs need none of
 * it: the shared object parts/NAME.so in the plugin's directory, to which the same rules apply. Once in a process; it
 * stays. From any thread, but not from two at the same time.
 *
 * @param plugin the plugin's own name
 * @return the address of its symbol `stasis_part`, whose type is the plugin's affair; NULL with err
 */
ST_PUBLIC const void *st_plugin_part(const char *plugin, struct st_error **err);
