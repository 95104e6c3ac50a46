/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"

#define PID_LIMIT 4194304 /* PID_MAX_LIMIT of a 64-bit kernel, proc(5) */

const char *text_after(const char *s, const char *prefix) {
        size_t n = strlen(prefix);
        return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

bool text_ends_with(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);
        return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

/* Reads the digits at s. @return 0 with *end behind them, -EINVAL when there are none, -ERANGE */
static int parse_digits(const char *s, uint64_t *ret, const char **end) {
        uint64_t value = 0;
        bool over = false;

        if (!is_digit(*s))
                return -EINVAL;
        for (; is_digit(*s); s++)
                over = over || __builtin_mul_overflow(value, 10, &value) ||
                       __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value);
        *end = s;
        *ret = value;
        return over ? -ERANGE : 0;
}

int text_to_uint(const char *s, uint64_t max, uint64_t *ret) {
        const char *end = s;
        uint64_t value;
        int r = parse_digits(s, &value, &end);

        if (r == -EINVAL || *end)
                return -EINVAL;
        if (r < 0 || value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

int text_to_int(const char *s, int64_t min, int64_t max, int64_t *ret) {
        bool negative = *s == '-';
        uint64_t magnitude;
        int64_t value;

        int r = text_to_uint(negative ? s + 1 : s, negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, &magnitude);
        if (r < 0)
                return r;
        if (!negative)
                value = (int64_t)magnitude;
        else
                value = magnitude > INT64_MAX ? INT64_MIN : -(int64_t)magnitude;
        if (value < min || value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

int text_to_pid(const char *s, pid_t *ret) {
        int64_t value;
        int r = text_to_int(s, 1, PID_LIMIT, &value);

        if (r == 0)
                *ret = (pid_t)value;
        return r;
}

int text_to_size(const char *s, uint64_t *ret) {
        static const char suffixes[] = "KMGT";
        const char *end = s;
        uint64_t value;
        int r = parse_digits(s, &value, &end);

        if (r == -EINVAL)
                return r;
        if (*end) {
                char letter = *end >= 'a' && *end <= 'z' ? (char)(*end - 'a' + 'A') : *end;
                const char *suffix = strchr(suffixes, letter);
                if (!suffix || end[1])
                        return -EINVAL;
                uint64_t unit = UINT64_C(1) << (10 * (suffix - suffixes + 1));
                if (r == 0 && __builtin_mul_overflow(value, unit, &value))
                        r = -ERANGE;
        }
        if (r == 0)
                *ret = value;
        return r;
}

int text_to_duration(const char *s, uint64_t *ret_ms) {
        static const struct {
                const char *name;
                uint64_t ms;
        } units[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 } };
        uint64_t total = 0;
        size_t next = 0; /* the units that may still come */
        int result = 0;

        if (streq(s, "0")) {
                *ret_ms = 0;
                return 0;
        }
        do {
                uint64_t value = 0;
                int r = parse_digits(s, &value, &s);
                size_t n = strspn(s, "dhms");

                while (next < ELEMENTSOF(units) &&
                       (strlen(units[next].name) != n || strncmp(units[next].name, s, n) != 0))
                        next++;
                if (r == -EINVAL || next == ELEMENTSOF(units))
                        return -EINVAL;
                if (r < 0 || __builtin_mul_overflow(value, units[next].ms, &value) ||
                    __builtin_add_overflow(total, value, &total))
                        result = -ERANGE;
                s += n;
                next++;
        } while (*s);
        if (result == 0)
                *ret_ms = total;
        return result;
}

int text_to_bool(const char *s, bool *ret) {
        static const char *const yes[] = { "true", "yes", "on", "1" };
        static const char *const no[] = { "false", "no", "off", "0" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++)
                if (strcasecmp(s, yes[i]) == 0) {
                        *ret = true;
                        return 0;
                }
        for (size_t i = 0; i < ELEMENTSOF(no); i++)
                if (strcasecmp(s, no[i]) == 0) {
                        *ret = false;
                        return 0;
                }
        return -EINVAL;
}

/*
 * Decodes one character of UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF).
 *
 * @return its length in bytes, 0 when it is not valid
 */
static size_t decode_utf8(const unsigned char *s, size_t length, uint32_t *ret) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t n;
        uint32_t c;

        if (s[0] < 0x80) {
                *ret = s[0];
                return 1;
        }
        if ((s[0] & 0xe0) == 0xc0) {
                n = 2;
                c = s[0] & 0x1f;
        } else if ((s[0] & 0xf0) == 0xe0) {
                n = 3;
                c = s[0] & 0x0f;
        } else if ((s[0] & 0xf8) == 0xf0) {
                n = 4;
                c = s[0] & 0x07;
        } else
                return 0;
        if (n > length)
                return 0;
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return n;
}

/* Characters that move the cursor, end a line or reverse the direction of what follows them. */
static bool is_harmful(uint32_t c) {
        return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

char *text_sanitise(const char *s, size_t length) {
        static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
        const unsigned char *in = (const unsigned char *)s;
        char *result = xrealloc(NULL, length + 1, sizeof(replacement) - 1), *out = result;

        while (length > 0) {
                uint32_t c;
                size_t n = decode_utf8(in, length, &c);

                if (n == 0) {
                        memcpy(out, replacement, 3);
                        out += 3;
                        n = 1;
                } else if (c >= '\t' && c <= '\r') {
                        *out++ = ' ';
                } else if (is_harmful(c)) {
                        *out++ = '?';
                } else {
                        memcpy(out, in, n);
                        out += n;
                }
                in += n;
                length -= n;
        }
        *out = 0;
        return xrealloc(result, (size_t)(out - result) + 1, 1);
}

char *text_from_size(uint64_t bytes) {
        static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double value = (double)bytes / 1024;
        size_t unit = 0;

        if (bytes < 1024)
                return xasprintf("%" PRIu64 " B", bytes);
        /* From 1023.95 on, one decimal would be rounded to 1024.0. */
        for (; value >= 1023.95 && unit + 1 < ELEMENTSOF(units); unit++)
                value /= 1024;
        return xasprintf("%.1f %s", value, units[unit]);
}

static char lower(char c) {
        return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

size_t text_distance(const char *a, const char *b) {
        size_t n = strlen(a), m = strlen(b);
        _cleanup_free_ size_t *row = xcalloc(m + 1, sizeof(*row));

        for (size_t j = 0; j <= m; j++)
                row[j] = j;
        for (size_t i = 1; i <= n; i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= m; j++) {
                        size_t best = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));

                        diagonal = row[j];
                        if (row[j] + 1 < best)
                                best = row[j] + 1;
                        if (row[j - 1] + 1 < best)
                                best = row[j - 1] + 1;
                        row[j] = best;
                }
        }
        return row[m];
}

void nearest_offer(struct nearest *nearest, const char *candidate) {
        size_t length = strlen(nearest->wanted);

        /* No word that anybody typed by mistake is that long, and the cost grows with the product of the lengths. */
        if (length > 128 || strlen(candidate) > 128)
                return;

        size_t distance = text_distance(nearest->wanted, candidate);
        if (distance > 1 + length / 4 || distance >= length || (nearest->best && distance >= nearest->distance))
                return;
        nearest->best = candidate;
        nearest->distance = distance;
}

/* Room for one more element and the NULL behind it. */
static void strv_make_room(struct strv *list) {
        if (list->n + 2 <= list->room)
                return;
        list->room = list->room ? list->room * 2 : 8;
        list->items = xrealloc(list->items, list->room, sizeof(*list->items));
}

void strv_take(struct strv *list, char *s) {
        strv_make_room(list);
        list->items[list->n++] = s;
        list->items[list->n] = NULL;
}

void strv_add(struct strv *list, const char *s) {
        strv_take(list, xstrdup(s));
}

void strv_addf(struct strv *list, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        strv_take(list, xvasprintf(format, ap));
        va_end(ap);
}

bool strv_has(const struct strv *list, const char *s) {
        for (size_t i = 0; i < list->n; i++)
                if (streq(list->items[i], s))
                        return true;
        return false;
}

char *strv_join(const struct strv *list, const char *separator) {
        size_t size = 1, gap = strlen(separator);

        for (size_t i = 0; i < list->n; i++)
                size += strlen(list->items[i]) + (i > 0 ? gap : 0);

        char *result = xmalloc(size), *out = result;
        for (size_t i = 0; i < list->n; i++) {
                if (i > 0)
                        out = mempcpy(out, separator, gap);
                out = mempcpy(out, list->items[i], strlen(list->items[i]));
        }
        *out = 0;
        return result;
}

void strv_split(struct strv *list, const char *s, char separator) {
        while (*s) {
                const char *end = strchrnul(s, separator);

                if (end > s)
                        strv_take(list, xstrndup(s, (size_t)(end - s)));
                s = *end ? end + 1 : end;
        }
}

void strv_clear(struct strv *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i]);
        free(list->items);
        *list = (struct strv){ 0 };
}
