/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin that cannot start. */

#include <errno.h>
#include <stdlib.h>

#include <stasis/plugin.h>

static int init(struct st_error **err) {
        return st_error_set(err, ENOENT, "the engine is not there");
}

static void fini(void) {
        abort(); /* only what has begun may be ended */
}

static const struct st_features features = { .size = sizeof(struct st_features) };

ST_PLUGIN("failing-init", "1.0", features, init, fini);
