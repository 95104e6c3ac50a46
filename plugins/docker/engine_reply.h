/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an engine answers, once its bytes are there: JSON, errors, versions. All of it is untrusted. */

#include <stddef.h>

#include <jansson.h>

#include <stasis/error.h>

/** Longer answers are refused: what a container inspect of thousands of mounts or a long list of changes may take. */
#define ENGINE_REPLY_MAX ((size_t)32 << 20)

/**
 * The answer to a call.
 * @param ret the JSON value; NULL: none, as for 204, 304 and an empty body. A NULL pointer: only the status counts
 * @return the status when it is 200 to 399, else a negative errno made of the status and the engine's "message"
 */
int engine_reply_parse(long status, const char *body, size_t size, json_t **ret, struct st_error **err);

/** An API version: "1.41" becomes 1041. @return a negative errno if it is none */
int engine_reply_api(const char *text);

/**
 * Which API to speak with an engine that takes `minimum` to `newest`: writes "1.N". Fails when we know none of them.
 */
int engine_reply_negotiate(const char *minimum, const char *newest, char ret[static 16], struct st_error **err);
