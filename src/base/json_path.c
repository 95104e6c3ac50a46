/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_path.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

static char *to_hex(const char *path) {
        size_t n = strlen(path);
        char *hex = xmalloc(2 * n + 1);

        for (size_t i = 0; i < n; i++) {
                hex[2 * i] = "0123456789abcdef"[(unsigned char)path[i] >> 4];
                hex[2 * i + 1] = "0123456789abcdef"[(unsigned char)path[i] & 15];
        }
        hex[2 * n] = 0;
        return hex;
}

static int hex_digit(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* @return malloc'ed; NULL: it is no path */
static char *from_hex(const char *hex, size_t n) {
        _cleanup_free_ char *path = xmalloc(n / 2 + 1);

        if (n % 2 != 0)
                return NULL;
        for (size_t i = 0; i < n / 2; i++) {
                int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
                if (high < 0 || low < 0 || (high == 0 && low == 0))
                        return NULL;
                path[i] = (char)(high << 4 | low);
        }
        path[n / 2] = 0;
        return TAKE_PTR(path);
}

void json_path_put(json_t *object, const char *key, const char *path) {
        json_t *text = json_string(path); /* NULL when it is not UTF-8 */
        _cleanup_free_ char *hex = text ? NULL : to_hex(path), *hex_key = xasprintf("%s_hex", key);

        json_object_set_new(object, text ? key : hex_key, text ? text : json_string(hex));
}

int json_path_get(const json_t *object, const char *key, char **ret) {
        _cleanup_free_ char *hex_key = xasprintf("%s_hex", key), *path = NULL;
        const json_t *text = json_object_get(object, key), *hex = json_object_get(object, hex_key);

        if (!text && !hex)
                return -ENOENT;
        /* jansson refuses a NUL inside a text unless told otherwise. */
        if (json_is_string(text) && !hex && json_string_length(text) < PATH_MAX)
                path = xstrdup(json_string_value(text));
        else if (json_is_string(hex) && !text && json_string_length(hex) < (size_t)2 * PATH_MAX)
                path = from_hex(json_string_value(hex), json_string_length(hex));
        if (!path || !*path)
                return -EBADMSG;
        *ret = TAKE_PTR(path);
        return 0;
}
