/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Errors: a negative errno as the return value, and an object that says the rest.
 *
 * A function that can fail returns 0 (or a non-negative result) or a negative errno, and fills its last
 * parameter, `struct st_error **err`, on failure only. The object is a stack of frames, from the symptom
 * (pushed last) to the root cause (pushed first), with at most one hint. Printed it is one line:
 *
 *     cannot dump process 42: CRIU could not lock the network: nftables is not available (hint: …)
 *
 * Nobody logs *and* returns an error: only main functions and the dispatcher print one.
 *
 * Every `err` parameter may be NULL: then only the number is returned. Errors belong to one thread at a
 * time and to whoever holds the pointer; free them with st_error_free() or _cleanup_error_.
 */

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ST_PUBLIC __attribute__((visibility("default")))
#define ST_PRINTF(f, a) __attribute__((format(printf, f, a)))

struct st_error;

/**
 * Starts a new error whose root cause is the formatted text. An error that *err already holds is kept
 * underneath: the new text becomes its outermost frame (as with st_error_wrap()), the number stays the new one.
 *
 * @param number an errno, positive or negative; 0 counts as EIO, so that a failure is never taken for success
 * @return the negative errno: `return st_error_set(err, ENOENT, "no file %s", path);`
 */
ST_PUBLIC int st_error_set(struct st_error **err, int number, const char *format, ...) ST_PRINTF(3, 4);

/**
 * As st_error_set(), with ": " and the text of the errno (strerror) appended to the cause. For a full disk there is a
 * hint, when nobody gives another one.
 */
ST_PUBLIC int st_error_errno(struct st_error **err, int number, const char *format, ...) ST_PRINTF(3, 4);

/**
 * Pushes an outer frame, what could not be done because of what *err says: "cannot dump process 42".
 *
 * @return the negative errno that *err holds; -EIO when err or *err is NULL
 */
ST_PUBLIC int st_error_wrap(struct st_error **err, const char *format, ...) ST_PRINTF(2, 3);

/** Sets the hint, what the user can do about it. The first hint (nearest to the cause) wins. No-op without an error. */
ST_PUBLIC void st_error_hint(struct st_error **err, const char *format, ...) ST_PRINTF(2, 3);

/** @return the negative errno of the error; 0 for NULL */
ST_PUBLIC int st_error_number(const struct st_error *error);

/** @return the whole stack on one line, control characters replaced; valid until the error changes; "" for NULL */
ST_PUBLIC const char *st_error_message(struct st_error *error);

/** Frees an error; NULL is fine. @return NULL */
ST_PUBLIC struct st_error *st_error_free(struct st_error *error);

/** Hands the error of `from` to the caller's err (freeing it when err is NULL). @return its negative errno */
ST_PUBLIC int st_error_move(struct st_error **err, struct st_error *from);

/* What no compiler can see from outside: these never return 0 or more. It saves false warnings at their callers. */
static inline int st_error_negative(int number) {
        if (number >= 0)
                __builtin_unreachable();
        return number;
}

#define st_error_set(...) st_error_negative(st_error_set(__VA_ARGS__))
#define st_error_errno(...) st_error_negative(st_error_errno(__VA_ARGS__))
#define st_error_wrap(...) st_error_negative(st_error_wrap(__VA_ARGS__))

static inline void st_error_freep(struct st_error **error) {
        *error = st_error_free(*error);
}

/** Frees the error when the variable leaves its scope. */
#define _cleanup_error_ __attribute__((cleanup(st_error_freep)))

#ifdef __cplusplus
}
#endif
