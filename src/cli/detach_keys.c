/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/detach_keys.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/** One key of n bytes. @return its byte, or -EINVAL */
static int parse_key(const char *text, size_t n) {
        static const char control[] = "ctrl-";
        const size_t length = sizeof(control) - 1;

        if (n == 1)
                return *text > ' ' && *text < 0x7f ? *text : -EINVAL;
        if (n != length + 1 || strncasecmp(text, control, length) != 0)
                return -EINVAL;
        /* Ctrl takes the bits above the lowest five away (ECMA-48: the control characters). */
        char c = text[length];
        if (c >= 'a' && c <= 'z')
                c = (char)(c - 'a' + 'A');
        return c >= '@' && c <= '_' ? c & 0x1f : -EINVAL;
}

int detach_keys_parse(const char *text, struct detach_keys *ret, struct st_error **err) {
        struct detach_keys keys = { 0 };

        if (!*text) {
                *ret = keys;
                return 0;
        }
        for (;;) {
                size_t n = *text == ',' ? 1 : strcspn(text, ",");
                int key = parse_key(text, n);

                if (key < 0 || (text[n] && text[n] != ',')) {
                        st_error_set(err, EINVAL, "--detach-keys: '%.*s' is no key", n > 0 ? (int)n : 0, text);
                        st_error_hint(err, "keys are characters or ctrl-X, divided by commas: ctrl-p,ctrl-q");
                        return -EINVAL;
                }
                if (keys.n == DETACH_KEYS_MAX)
                        return st_error_set(err, EINVAL, "--detach-keys: more than %d keys", DETACH_KEYS_MAX);
                keys.keys[keys.n++] = (uint8_t)key;
                text += n;
                if (!*text)
                        break;
                text++;
        }
        *ret = keys;
        return 0;
}

size_t detach_keys_feed(struct detach_keys *keys, const uint8_t *in, size_t n, uint8_t *out, bool *detached) {
        size_t size = 0;

        for (size_t i = 0; i < n; i++) {
                /* What is held back is a beginning of the keys; when the next byte does not go on with it, only its
                 * end may still be one: as in Knuth, Morris and Pratt's search. */
                while (keys->held > 0 && in[i] != keys->keys[keys->held]) {
                        size_t drop = 1;

                        while (memcmp(keys->keys, keys->keys + drop, keys->held - drop) != 0)
                                drop++;
                        memcpy(out + size, keys->keys, drop);
                        size += drop;
                        keys->held -= drop;
                }
                if (keys->n == 0 || in[i] != keys->keys[keys->held]) {
                        out[size++] = in[i];
                } else if (++keys->held == keys->n) {
                        keys->held = 0;
                        *detached = true;
                        return size;
                }
        }
        return size;
}

size_t detach_keys_flush(struct detach_keys *keys, uint8_t *out) {
        size_t n = keys->held;

        memcpy(out, keys->keys, n);
        keys->held = 0;
        return n;
}
