/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin of the next ABI: it must be refused by its version, before anything else of it is read or called. */

#include <stdlib.h>

#include <stasis/plugin.h>

static int init(struct st_error **err) {
        (void)err;
        abort();
}

/* Nothing behind the four fields that never move may be looked at: these pointers lead nowhere. */
ST_PUBLIC extern const struct st_plugin stasis_plugin;
const struct st_plugin stasis_plugin = {
        .magic = ST_PLUGIN_MAGIC,
        .abi_major = ST_PLUGIN_ABI_MAJOR + 1,
        .abi_minor = 0,
        .size = sizeof(struct st_plugin),
        .name = (const char *)1,
        .features = (const struct st_features *)1,
        .init = init,
};
