/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "criu/criu.h"

/** The content of a stats-dump or stats-restore. @return 0 or -EBADMSG */
int criu_statistics_parse(const uint8_t *data, size_t size, enum criu_operation operation, struct criu_statistics *ret);
