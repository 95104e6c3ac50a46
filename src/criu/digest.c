/* SPDX-License-Identifier: Apache-2.0 */
#include "criu/digest.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "criu/log.h"

#define MESSAGE_MAX 512  /* of a message of CRIU, in bytes; a longer one (a path of the target's choice) is cut */
#define FINDINGS_MAX 256 /* that a report holds; a cause beyond them replaces the last */

struct span {
        const char *start;
        size_t size;
};

struct match {
        struct span captures[DIGEST_CAPTURES];
        size_t n;
};

/* A line of a log, taken apart. */
struct line {
        size_t number;
        struct span whole, message;
        enum digest_line kind;
        const struct digest_row *row;
        enum digest_rank rank;
        struct match match;
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
                if (!first && ret->n < DIGEST_CAPTURES)
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

/* A template with its $N replaced, made safe to show; NULL for none. */
static char *expand(const char *template, const struct match *match) {
        _cleanup_free_ char *text = xstrdup("");
        size_t size = 0;

        if (!template)
                return NULL;
        for (const char *c = template; *c; c++) {
                struct span add = { c, 1 };

                if (*c == '$' && c[1] >= '1' && c[1] <= '0' + DIGEST_CAPTURES) {
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

static bool contains(struct span s, const char *piece) {
        return memmem(s.start, s.size, piece, strlen(piece)) != NULL;
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

static void parse_message(struct line *line) {
        struct span message = skip_origin(line->whole);
        bool plain = message.start == line->whole.start;

        line->kind = take_level(&message, "Error")  ? DIGEST_ERROR
                     : take_level(&message, "Warn") ? DIGEST_WARNING
                     : plain                        ? DIGEST_PLAIN
                                                    : 0;
        message = skip_blanks(message);
        while (message.size > 0 && strchr(" \t\r", message.start[message.size - 1]))
                message.size--;
        if (message.size > MESSAGE_MAX)
                message.size = MESSAGE_MAX;
        line->message = message;
}

static bool matches(const struct digest_row *row, struct line *line) {
        if ((row->line ?: DIGEST_ERROR) != line->kind)
                return false;
        for (size_t i = 0; i < DIGEST_PATTERNS && row->patterns[i]; i++)
                if (match_pattern(row->patterns[i], line->message, &line->match))
                        return true;
        return false;
}

static const struct digest_row *find_row(struct line *line) {
        size_t n;
        const struct digest_theme *const *themes = digest_themes(&n);

        for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < themes[i]->n; j++)
                        if (matches(&themes[i]->rows[j], line))
                                return &themes[i]->rows[j];
        return NULL;
}

/* Where the next line is to be searched. */
struct cursor {
        const char *next;
        size_t number;
        bool gap; /* something was left out: lines have no number any more */
};

/* The next line; its rank is 0 when it says nothing. @return false at the end */
static bool next_line(struct cursor *cursor, struct line *ret) {
        size_t size;

        if (!*cursor->next)
                return false;
        size = strcspn(cursor->next, "\n");
        *ret = (struct line){ .whole = { cursor->next, size } };
        cursor->next += size + (cursor->next[size] == '\n');
        cursor->gap = cursor->gap || (begins(ret->whole, "[") && contains(ret->whole, CRIU_LOG_LEFT_OUT));
        ret->number = cursor->gap ? 0 : ++cursor->number;
        parse_message(ret);
        if (!ret->kind || ret->message.size == 0)
                return true;
        ret->row = find_row(ret);
        ret->rank = ret->row ? (ret->row->rank ?: DIGEST_CAUSE) : ret->kind == DIGEST_ERROR ? DIGEST_CAUSE : 0;
        return true;
}

static char *cause_of(const struct line *line) {
        return line->row && line->row->cause ? expand(line->row->cause, &line->match)
                                             : text_sanitise(line->message.start, line->message.size);
}

static int number_of(const struct line *line) {
        return line->row && line->row->number ? line->row->number : EIO;
}

static char *hint_of(const struct line *line) {
        return line->row ? expand(line->row->hint, &line->match) : NULL;
}

void digest_finding_clear(struct digest_finding *finding) {
        free(finding->text);
        free(finding->cause);
        free(finding->hint);
        free(finding->more);
        *finding = (struct digest_finding){ 0 };
}

void digest_report_clear(struct digest_report *report) {
        for (size_t i = 0; i < report->n; i++)
                digest_finding_clear(&report->findings[i]);
        free(report->findings);
        *report = (struct digest_report){ 0 };
}

static void add_finding(struct digest_report *report, const struct line *line) {
        size_t size = line->whole.size < MESSAGE_MAX * 2 ? line->whole.size : (size_t)MESSAGE_MAX * 2;
        struct digest_finding *finding;

        if (report->n == FINDINGS_MAX)
                digest_finding_clear(&report->findings[--report->n]);
        if (report->n == report->room) {
                report->room = report->room ? report->room * 2 : 16;
                report->findings = xrealloc(report->findings, report->room, sizeof(*report->findings));
        }
        finding = &report->findings[report->n++];
        *finding = (struct digest_finding){
                .row = line->row,
                .rank = line->rank,
                .line = line->number,
                .text = text_sanitise(line->whole.start, size),
                .cause = cause_of(line),
                .hint = hint_of(line),
                .more = line->row ? expand(line->row->more, &line->match) : NULL,
                .number = number_of(line),
        };
}

void digest_report(const char *log, struct digest_report *ret) {
        struct cursor cursor = { .next = log };
        enum digest_rank best = DIGEST_HARMLESS;
        size_t chosen = SIZE_MAX;
        struct line line;

        *ret = (struct digest_report){ 0 };
        while (next_line(&cursor, &line)) {
                /* Lines of CRIU have their origin or level; others are of programs that it ran. */
                ret->is_log = ret->is_log || line.kind != DIGEST_PLAIN;
                if (!line.kind && (contains(line.message, "Dumping finished successfully") ||
                                   contains(line.message, "Restore finished successfully")))
                        ret->succeeded = true;
                if (!line.rank || (ret->n == FINDINGS_MAX && line.rank <= best))
                        continue;
                add_finding(ret, &line);
                if (line.rank > best) {
                        best = line.rank;
                        chosen = ret->n - 1;
                }
        }
        ret->cause = chosen == SIZE_MAX ? NULL : &ret->findings[chosen];
}

void digest_clear(struct digest *digest) {
        free(digest->cause);
        free(digest->hint);
        *digest = (struct digest){ 0 };
}

void digest_log(const char *log, struct digest *ret) {
        struct cursor cursor = { .next = log };
        enum digest_rank best = DIGEST_HARMLESS;
        struct line line;

        *ret = (struct digest){ 0 };
        while (best < DIGEST_CAUSE && next_line(&cursor, &line))
                if (line.rank > best) {
                        best = line.rank;
                        digest_clear(ret);
                        *ret = (struct digest){ cause_of(&line), hint_of(&line), number_of(&line) };
                }
}

void criu_digest(const char *log, char **ret_cause, char **ret_hint) {
        struct digest digest;

        digest_log(log, &digest);
        *ret_cause = digest.cause;
        *ret_hint = digest.hint;
}
