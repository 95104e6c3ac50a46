/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `stasis check`: can the Docker engine of this machine checkpoint and restore? Takes 2 seconds at most. */

#include <stasis/features.h>

extern const struct st_health_checks docker_health_checks;
