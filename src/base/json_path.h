/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Paths in JSON, which is UTF-8, while a path has any bytes but NUL: under KEY as text when it can be one, else under
 * KEY_hex in hexadecimal digits.
 */

#include <jansson.h>

/** Puts a path into an object. */
void json_path_put(json_t *object, const char *key, const char *path);

/**
 * Takes a path out of an object.
 *
 * @param ret malloc'ed; shorter than PATH_MAX, not empty
 * @return 0; -ENOENT: there is none; -EBADMSG: it is none, or there are two
 */
int json_path_get(const json_t *object, const char *key, char **ret);
