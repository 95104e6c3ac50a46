/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Names of jobs: they become names of files, of cgroups, and words of the command line. */

#include <stdbool.h>

#include <stasis/error.h>

#define JID_MAX 64

/**
 * Letters, digits, '.', '_', '-'; begins with a letter or digit; at most JID_MAX bytes.
 *
 * @return 0 or -EINVAL with err that says what is wrong with it
 */
int jid_check(const char *jid, struct st_error **err);

/**
 * Two readable words, "calm-otter"; with a number behind them after some tries.
 *
 * @param is_taken asked for each; must become false at some time
 * @return malloc'ed
 */
char *jid_invent(bool (*is_taken)(const char *jid, void *userdata), void *userdata);
