/* SPDX-License-Identifier: Apache-2.0 */

/* The plugin runc. */

#define RUNC_TYPE "runc"
#include "runc_tables.h"

const struct runc_engine runc_engine = {
        .name = RUNC_TYPE,
        .root = "/run/runc",
        .criu_config = "/etc/criu/runc.conf",
        .has_state_file = true,
        .version = { 1, 1 },
};

ST_PLUGIN(RUNC_TYPE, "1.0", runc_features, NULL, NULL);
