/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The flags of a job's policy, for `run`, `manage` and `job schedule`. */

#include <jansson.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/option.h>

extern const struct st_option policy_options[];

/**
 * What the flags ask for; fields that no flag was given for are not set.
 *
 * @param ret NULL when no flag was given; else to be freed with message_freep()
 * @return 0 or -EINVAL with err
 */
int policy_from_arguments(const struct st_arguments *arguments, Daemon__JobPolicy **ret, struct st_error **err);

/** "every 10m, keep 5, restart"; malloc'ed, NULL when there is none. */
char *policy_to_text(const Daemon__JobPolicy *policy);

/** As JSON: new reference. @param policy NULL: none, all is zero then */
json_t *policy_to_json(const Daemon__JobPolicy *policy);
