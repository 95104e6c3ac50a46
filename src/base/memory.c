/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

/* Says it without allocating, and without running exit handlers that might allocate. */
_Noreturn static void out_of_memory(void) {
        static const char message[] = "stasis: error: out of memory\n";

        if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0) {
                /* Nobody can be told. */
        }
        _exit(EXIT_FAILURE);
}

void *xmalloc(size_t size) {
        void *p = malloc(size > 0 ? size : 1);
        if (!p)
                out_of_memory();
        return p;
}

void *xcalloc(size_t n, size_t size) {
        void *p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);
        if (!p)
                out_of_memory();
        return p;
}

void *xrealloc(void *p, size_t n, size_t size) {
        size_t bytes;

        if (__builtin_mul_overflow(n, size, &bytes))
                out_of_memory();
        p = realloc(p, bytes > 0 ? bytes : 1);
        if (!p)
                out_of_memory();
        return p;
}

char *xstrdup(const char *s) {
        return s ? xstrndup(s, strlen(s)) : NULL;
}

char *xstrndup(const char *s, size_t n) {
        if (!s)
                return NULL;
        size_t length = strnlen(s, n);
        char *copy = xmalloc(length + 1);
        memcpy(copy, s, length);
        copy[length] = '\0';
        return copy;
}

char *xvasprintf(const char *format, va_list ap) {
        char *s = NULL;

        if (vasprintf(&s, format, ap) < 0)
                out_of_memory();
        return s;
}

char *xasprintf(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        char *s = xvasprintf(format, ap);
        va_end(ap);
        return s;
}
