/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* st_dump_commit_at_hook(), st_dump_hook_result(): stasis/checkpoint.h. */

struct commit_hook;

/** Frees one whose thread has ended. NULL is fine. @return NULL */
struct commit_hook *commit_hook_free(struct commit_hook *commit);
