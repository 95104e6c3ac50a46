/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Libraries that are loaded when they are needed first: linked in, they would cost every command the time of their
 * relocations and constructors. Their functions are called through a struct with a pointer for each.
 */

#include <stddef.h>

struct library_function {
        const char *name;
        size_t offset; /* of its pointer in the struct */
};

/**
 * Loads a library and fills the struct. It is never unloaded: some register handlers for the end of the process.
 *
 * @param file "libssl.so.3"
 * @param ret the struct that the offsets are in; some of it may be filled on failure
 * @return NULL, or why it cannot be used, malloc'ed
 */
char *library_load(const char *file, const struct library_function *functions, size_t n, void *ret);
