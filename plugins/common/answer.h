/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lists of texts in the messages of the API, such as resp->messages: what a plugin tells the user. Any thread. */

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <stasis/error.h>

/** Adds a line. It is left out when memory is short: an operation does not fail for want of a remark. */
static inline void common_add_text(size_t *n, char ***list, const char *format, ...) ST_PRINTF(3, 4);
static inline void common_add_text(size_t *n, char ***list, const char *format, ...) {
        char **more = realloc(*list, (*n + 1) * sizeof(*more)), *text;
        va_list ap;

        if (!more)
                return;
        *list = more;
        va_start(ap, format);
        if (vasprintf(&text, format, ap) >= 0)
                more[(*n)++] = text;
        va_end(ap);
}

/** common_tell(resp, "container %s is paused already", id) */
#define common_tell(resp, ...) common_add_text(&(resp)->n_messages, &(resp)->messages, __VA_ARGS__)
