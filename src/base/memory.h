/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Small allocations. A machine that cannot give a few bytes cannot finish an operation either, so these end the
 * process with a message (a worker's death is handled by the daemon: the target lives on) instead of spreading checks
 * that no test reaches. Large or input-sized buffers use malloc/mmap and check.
 */

#include <stdarg.h>
#include <stddef.h>

#include <stasis/error.h>

void *xmalloc(size_t size) __attribute__((returns_nonnull));
/** Zeroed. */
void *xcalloc(size_t n, size_t size) __attribute__((returns_nonnull));
/** Checks n * size for overflow. */
void *xrealloc(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
/** NULL gives NULL. */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *format, ...) ST_PRINTF(1, 2) __attribute__((returns_nonnull));
char *xvasprintf(const char *format, va_list ap) __attribute__((returns_nonnull));

#define NEW(type) ((type *)xcalloc(1, sizeof(type)))

/** Makes room for one more element of a growing array: GROW(list->items, list->n, list->room). */
#define GROW(array, n, room)                                                   \
        do {                                                                   \
                if ((n) == (room)) {                                           \
                        (room) = (room) ? (room)*2 : 8;                        \
                        (array) = xrealloc((array), (room), sizeof(*(array))); \
                }                                                              \
        } while (0)
