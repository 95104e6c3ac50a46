/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The keys that end an attach and leave the job running, found in a stream of input. What could be the beginning of
 * them is held back until it is known; nothing but the whole sequence is ever swallowed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#define DETACH_KEYS_MAX 16

/** Zero-initialised: no keys, everything passes. */
struct detach_keys {
        uint8_t keys[DETACH_KEYS_MAX];
        size_t n;
        size_t held; /* how many of them came last, and are held back */
};

/**
 * Reads "ctrl-p,ctrl-q": keys divided by commas, each one an ASCII character, or ctrl- with a letter or one of @[\]^_
 * behind it. An empty text: no keys.
 *
 * @return 0 or -EINVAL with err
 */
int detach_keys_parse(const char *text, struct detach_keys *ret, struct st_error **err);

/**
 * Passes on input.
 *
 * @param out room for n + DETACH_KEYS_MAX bytes; may not overlap with in
 * @param detached set when the sequence came: what is behind it is dropped
 * @return how many bytes are in out
 */
size_t detach_keys_feed(struct detach_keys *keys, const uint8_t *in, size_t n, uint8_t *out, bool *detached);

/** Gives what is held back, for no more comes. @param out room for DETACH_KEYS_MAX bytes */
size_t detach_keys_flush(struct detach_keys *keys, uint8_t *out);
