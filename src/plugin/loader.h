/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One plugin file: from a path that is safe (trust.h) to a descriptor that was checked. */

#include <stasis/plugin.h>

/**
 * Checks what a shared object calls its descriptor: the first four fields, which never move, then the rest. Reads no
 * further than the sizes it states.
 *
 * @return 0; -EPROTONOSUPPORT with err: of another ABI; another -errno with err: wrong in itself
 */
int loader_check(const struct st_plugin *plugin, struct st_error **err);

/**
 * Loads the file and checks its descriptor. Does not call init. Runs the object's constructors.
 *
 * @param path absolute, and found safe
 * @param ret_handle for loader_close()
 * @return as loader_check()
 */
int loader_open(const char *path, void **ret_handle, const struct st_plugin **ret_plugin, struct st_error **err);

/**
 * Loads a part of a plugin (st_plugin_part()): as loader_open(), without a descriptor. It is never unloaded.
 *
 * @return the handle for dlsym(3); NULL with err
 */
void *loader_open_part(const char *path, struct st_error **err);

/** Removes what cannot be used; nothing of it may be referred to afterwards. */
void loader_close(void *handle);

/**
 * Calls init, if there is one.
 *
 * @return 0 or -errno with err, also when init forgot to fill it
 */
int loader_init(const struct st_plugin *plugin, struct st_error **err);
