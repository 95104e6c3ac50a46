/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <daemon/health.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>

/**
 * Checks one thing that the plugin needs and adds its components to result (see st_health_add()).
 * Runs in a worker; must not take longer than 2 seconds, whatever hangs. An error it returns becomes a component.
 */
typedef int (*st_health_fn)(struct st_operation *operation, bool full, Daemon__HealthCheckResult *result,
                            struct st_error **err);

/**
 * Adds a row to a health check. All strings are copied.
 *
 * @param data what was found ("4.2.1"), may be NULL
 * @param error, warning what is wrong and what to do about it; NULL when nothing is
 */
ST_PUBLIC void st_health_add(Daemon__HealthCheckResult *result, const char *name, const char *data, const char *error,
                             const char *warning);
