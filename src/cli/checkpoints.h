/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The checkpoints that the daemon knows. */

#include <jansson.h>

#include <stasis/error.h>
#include <stasis/v1/stasis.pb-c.h>

struct cli;

/** Asks for checkpoints. @param jid, id NULL: of all jobs; all of them. @param ret the caller's */
int checkpoint_ask(struct cli *cli, const char *jid, const char *id, Stasis__V1__ListCheckpointsResp **ret,
                   struct st_error **err);

/**
 * The path of a checkpoint that is named by a path or by an ID. What is there, or has a slash, is a path; of anything
 * else the daemon is asked.
 *
 * @param ret absolute, malloc'ed
 * @return 0; -ENOENT with err when it is neither; -errno
 */
int checkpoint_resolve(struct cli *cli, const char *word, char **ret, struct st_error **err);

/** As JSON: new reference. */
json_t *checkpoint_json(const Stasis__V1__CheckpointInfo *checkpoint);

/** Prints a table of checkpoints. */
int checkpoint_print(Stasis__V1__CheckpointInfo *const *checkpoints, size_t n, struct st_error **err);
