/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Texts: comparing, parsing numbers, lists of texts, making foreign bytes safe to show. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include <stasis/error.h>

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

static inline bool isempty(const char *s) {
        return !s || !*s;
}

/** @return what follows the prefix in s, NULL when s does not begin with it */
const char *text_after(const char *s, const char *prefix);

bool text_ends_with(const char *s, const char *suffix);

/** Whole text must be a decimal number in [min, max]. @return 0, -EINVAL or -ERANGE */
int text_to_int(const char *s, int64_t min, int64_t max, int64_t *ret);

/** As text_to_int(), for numbers without a sign. */
int text_to_uint(const char *s, uint64_t max, uint64_t *ret);

/** A PID: 1 … 4194304. */
int text_to_pid(const char *s, pid_t *ret);

/** Bytes with an optional suffix K, M, G or T (powers of 1024). */
int text_to_size(const char *s, uint64_t *ret);

/**
 * A time, in milliseconds: numbers with units, the greatest first: "10s", "5m", "1h30m", "500ms", "2d". 0 needs none.
 */
int text_to_duration(const char *s, uint64_t *ret_ms);

/** true, yes, on, 1 / false, no, off, 0. */
int text_to_bool(const char *s, bool *ret);

/**
 * @return a malloc'ed copy that is valid UTF-8 on one line: white space becomes a space, other control characters and
 * those that change the direction of text become '?', a byte that is not UTF-8 becomes U+FFFD
 */
char *text_sanitise(const char *s, size_t length);

/** "1.5 GiB"; malloc'ed. */
char *text_from_size(uint64_t bytes);

/** @return how many bytes must be inserted, deleted or replaced to make b of a (Levenshtein); ASCII case is ignored */
size_t text_distance(const char *a, const char *b);

/** Finds what was probably meant: set `wanted`, offer all candidates; `best` is then the most similar one, or NULL. */
struct nearest {
        const char *wanted;
        const char *best; /* one of the candidates, not a copy */
        size_t distance;
};

void nearest_offer(struct nearest *nearest, const char *candidate);

/** A growing, NULL-terminated list of texts it owns. Zero-initialise; free with strv_clear(). */
struct strv {
        char **items; /* NULL or NULL-terminated */
        size_t n, room;
};

/** Appends a copy. */
void strv_add(struct strv *list, const char *s);
/** Appends a malloc'ed text, taking it. */
void strv_take(struct strv *list, char *s);
void strv_addf(struct strv *list, const char *format, ...) ST_PRINTF(2, 3);
bool strv_has(const struct strv *list, const char *s);
/** @return items joined by separator, malloc'ed */
char *strv_join(const struct strv *list, const char *separator);
/** Appends the non-empty parts of s between separators. */
void strv_split(struct strv *list, const char *s, char separator);
void strv_clear(struct strv *list);
#define _cleanup_strv_ __attribute__((cleanup(strv_clear)))
