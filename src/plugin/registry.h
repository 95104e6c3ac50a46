/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which plugins there are and what they export. Loaded once in a process, before threads; read-only afterwards.
 * The daemon never loads plugins: its workers and the command line do.
 */

#include <stdbool.h>
#include <stddef.h>

#include <stasis/plugin.h>

enum plugin_status {
        PLUGIN_LOADED,       /* usable */
        PLUGIN_INCOMPATIBLE, /* of another ABI */
        PLUGIN_BROKEN,       /* cannot be loaded: permissions, missing symbols, init failed */
};

struct plugin_entry {
        char *file;    /* path of the shared object */
        char *name;    /* from the descriptor, or from the file's name */
        char *version; /* "" when unknown */
        enum plugin_status status;
        char *error;                    /* why it is not usable; NULL when loaded */
        const struct st_plugin *plugin; /* NULL unless loaded */
};

/**
 * Loads every *.so of a directory, in the order of their names. A directory that does not exist holds no plugins; one
 * that cannot be read is warned about. A bad plugin never makes this fail: its entry says what is wrong. Idempotent for
 * the process (the first call counts).
 */
void registry_load(const char *directory);

/**
 * Calls the fini functions and forgets the plugins. Their code stays mapped: options, names and exit handlers of theirs
 * may still be in use.
 */
void registry_unload(void);

size_t registry_count(void);
/** Entries in the order of their names. */
const struct plugin_entry *registry_get(size_t i);
/** A loaded plugin by name; NULL: none. */
const struct plugin_entry *registry_find(const char *name);

/** A plugin's value of a feature, NULL when it does not export it; never reads past the plugin's own size. */
const void *registry_feature(const struct plugin_entry *entry, enum st_feature feature);
/** As registry_feature(), of a plugin's struct. */
const void *features_value(const struct st_features *features, enum st_feature feature);

/** "dump_command" and "command: dump TYPE". */
const char *feature_name(enum st_feature feature);
const char *feature_description(enum st_feature feature);

/** Does this version of stasis use the feature? What it does not use may be exported, and does nothing. */
bool feature_has_effect(enum st_feature feature);

/**
 * Marks the code that runs now, in this thread, as belonging to a plugin's adapter, for the message of a crash; NULL,
 * NULL: ours again. The texts must stay valid.
 *
 * @param plugin NULL: a built-in adapter
 */
void registry_set_running(const char *plugin, const char *adapter);

/** What registry_set_running() was told last in this thread: who calls a plugin within an adapter restores it after. */
void registry_running(const char **ret_plugin, const char **ret_adapter);

/**
 * Writes what this thread runs: "plugin runc, adapter network", "adapter network" for a built-in one, or nothing. For a
 * handler of SIGSEGV: async-signal-safe.
 *
 * @param n size of the buffer, at least 1; a longer text is cut
 */
void registry_crash_message(char *buffer, size_t n);
