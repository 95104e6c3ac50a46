/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the requests of a dump and of a restore have in common. */

#include <stdbool.h>
#include <stddef.h>

#include <stasis/error.h>
#include <stasis/features.h>

/**
 * Is there such a type: built in, or of a loaded plugin that exports one of the features?
 *
 * @param verb for the message: "dump"
 * @param features ended by ST_FEATURE_COUNT
 * @return 0, or -EINVAL with err
 */
int request_check_type(const char *verb, const char *type, const enum st_feature *features, struct st_error **err);

/** Are these options that can be forced off? @return 0, or -EINVAL with err naming the one that is not */
int request_check_off(char *const *off, size_t n, struct st_error **err);

/** Is the option forced off? (field Off of the requests: `false` in criu_opts means "not set") */
bool request_is_off(char *const *off, size_t n, const char *option);

/** What a request is about, for names, logs: the JID, else the PID or the container's ID; malloc'ed, NULL: nothing. */
char *request_target_id(const Daemon__Details *details);
