/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "criu/digest.h"

#define CAPTURES 4
#define MESSAGE_MAX 512 /* of a message of CRIU, in bytes; a longer one (a path of the target's choice) is cut */

struct span {
        const char *start;
        size_t size;
};

struct match {
        struct span captures[CAPTURES];
        size_t n;
};

/* Where a piece of a pattern is in a text; pieces are short, texts bounded. */
static const char *find_piece(struct span text, const char *piece, size_t size) {
        return size == 0 ? text.start : memmem(text.start, text.size, piece, size);
}

/* Finds the pieces between the stars one after the other; what lies between them is captured. */
static bool match_pattern(const char *pattern, struct span text, struct match *ret) {
        const char *end = text.start + text.size;
        bool first = true;

        ret->n = 0;
        for (;;) {
                size_t size = strcspn(pattern, "*");
                /* The text behind the last star is all of the rest. */
                const char *at = size == 0 && !*pattern && !first ? end : find_piece(text, pattern, size);

                if (!at)
                        return false;
                if (!first && ret->n < CAPTURES)
                        ret->captures[ret->n++] = (struct span){ text.start, (size_t)(at - text.start) };
                text.start = at + size;
                text.size = (size_t)(end - text.start);
                pattern += size;
                if (!*pattern)
                        return true;
                pattern++;
                first = false;
        }
}

/* A template with its $N replaced, made safe to show. */
static char *expand(const char *template, const struct match *match) {
        _cleanup_free_ char *text = xstrdup("");
        size_t size = 0;

        for (const char *c = template; *c; c++) {
                struct span add = { c, 1 };

                if (*c == '$' && c[1] >= '1' && c[1] <= '0' + CAPTURES) {
                        size_t i = (size_t)(*++c - '1');

                        add = i < match->n ? match->captures[i] : (struct span){ c, 0 };
                }
                assert(add.start);
                text = xrealloc(text, size + add.size + 1, 1);
                memcpy(text + size, add.start, add.size);
                size += add.size;
                text[size] = '\0';
        }
        return text_sanitise(text, size);
}

static struct span skip(struct span s, size_t n) {
        return (struct span){ s.start + n, s.size - n };
}

static bool begins(struct span s, const char *prefix) {
        return s.size >= strlen(prefix) && memcmp(s.start, prefix, strlen(prefix)) == 0;
}

static size_t count_digits(struct span s) {
        size_t n = 0;

        while (n < s.size && s.start[n] >= '0' && s.start[n] <= '9')
                n++;
        return n;
}

static struct span skip_blanks(struct span s) {
        while (s.size > 0 && (*s.start == ' ' || *s.start == '\t'))
                s = skip(s, 1);
        return s;
}

/* "(00.038796) ", "  123: ", "pie: 123: ", in any combination. */
static struct span skip_origin(struct span s) {
        for (;;) {
                struct span rest = skip_blanks(s);

                if (begins(rest, "(")) {
                        struct span number = skip(rest, 1);
                        size_t n = count_digits(number);

                        number = skip(number, n);
                        if (n == 0 || !begins(number, "."))
                                return rest;
                        number = skip(number, 1);
                        number = skip(number, count_digits(number));
                        if (!begins(number, ")"))
                                return rest;
                        s = skip(number, 1);
                        continue;
                }
                if (begins(rest, "pie: ")) {
                        s = skip(rest, strlen("pie: "));
                        continue;
                }

                size_t n = count_digits(rest);

                if (n == 0 || !begins(skip(rest, n), ": "))
                        return rest;
                s = skip(rest, n + 2);
        }
}

/* "Error (criu/x.c:123): message" → message; the place in the source is nobody's business here. */
static bool take_level(struct span *s, const char *level) {
        struct span rest = *s;
        const char *close;

        if (!begins(rest, level))
                return false;
        rest = skip_blanks(skip(rest, strlen(level)));
        if (!begins(rest, "("))
                return false;
        close = memmem(rest.start, rest.size, "): ", 3);
        if (!close)
                return false;
        *s = skip(rest, (size_t)(close - rest.start) + 3);
        return true;
}

static enum digest_line parse_line(struct span *line) {
        struct span message = skip_origin(*line);
        bool plain = message.start == line->start;
        enum digest_line kind = take_level(&message, "Error")  ? DIGEST_ERROR
                                : take_level(&message, "Warn") ? DIGEST_WARNING
                                : plain                        ? DIGEST_PLAIN
                                                               : 0;

        message = skip_blanks(message);
        while (message.size > 0 && strchr(" \t\r", message.start[message.size - 1]))
                message.size--;
        if (message.size > MESSAGE_MAX)
                message.size = MESSAGE_MAX;
        *line = message;
        return kind;
}

static const struct digest_row *find_row(enum digest_line kind, struct span message, struct match *ret) {
        size_t n;
        const struct digest_row *rows = digest_rows(&n);

        for (size_t i = 0; i < n; i++)
                if ((rows[i].line ? rows[i].line : DIGEST_ERROR) == kind &&
                    match_pattern(rows[i].pattern, message, ret))
                        return &rows[i];
        return NULL;
}

void digest_clear(struct digest *digest) {
        free(digest->cause);
        free(digest->hint);
        *digest = (struct digest){ 0 };
}

static void take_row(const struct digest_row *row, const struct match *match, struct span message, struct digest *ret) {
        digest_clear(ret);
        ret->number = row && row->number ? row->number : EIO;
        ret->cause = row && row->cause ? expand(row->cause, match) : text_sanitise(message.start, message.size);
        ret->hint = row && row->hint ? expand(row->hint, match) : NULL;
}

void digest_log(const char *log, struct digest *ret) {
        enum digest_rank best = DIGEST_HARMLESS;

        *ret = (struct digest){ 0 };
        for (const char *line = log; *line && best < DIGEST_CAUSE;) {
                size_t size = strcspn(line, "\n");
                struct span message = { line, size };
                enum digest_line kind = parse_line(&message);
                struct match match = { 0 };

                line += size + (line[size] == '\n');
                if (!kind || message.size == 0)
                        continue;

                const struct digest_row *row = find_row(kind, message, &match);
                enum digest_rank rank = row ? row->rank : kind == DIGEST_ERROR ? DIGEST_CAUSE : DIGEST_HARMLESS;

                if (rank > best) {
                        best = rank;
                        take_row(row, &match, message, ret);
                }
        }
}

void criu_digest(const char *log, char **ret_cause, char **ret_hint) {
        struct digest digest;

        digest_log(log, &digest);
        *ret_cause = digest.cause;
        *ret_hint = digest.hint;
}
