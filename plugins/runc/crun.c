/* SPDX-License-Identifier: Apache-2.0 */

/* The plugin crun: that of runc with another program. */

#define RUNC_TYPE "crun"
#include "runc_tables.h"

const struct runc_engine runc_engine = {
        .name = RUNC_TYPE,
        .root = "/run/crun",
        .criu_config = "/etc/criu/crun.conf",
        .has_state_file = false,
        .version = { 1, 8 },
};

ST_PLUGIN(RUNC_TYPE, "1.0", runc_features, NULL, NULL);
