/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin that was built for a stasis with a function that this one has not. */

#include <stasis/plugin.h>

ST_PUBLIC int st_function_of_tomorrow(void);

static int init(struct st_error **err) {
        (void)err;
        return st_function_of_tomorrow();
}

static const struct st_features features = { .size = sizeof(struct st_features) };

ST_PLUGIN("missing-symbol", "1.0", features, init, NULL);
