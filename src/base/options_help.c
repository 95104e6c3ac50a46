/* SPDX-License-Identifier: Apache-2.0 */

/* Rows as help text. */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"

#define INDENT 2
#define GAP 2
#define LEFT_MAX 30 /* a longer flag has a line of its own */
#define TEXT_MIN 20 /* on the narrowest terminal */

/* "-d, --dir DIR", "--wait[=TIME]"; malloc'ed */
static char *left_of(const struct st_option *row) {
        char letter[] = { '-', row->letter, ',', ' ', 0 };
        const char *short_flag = row->letter ? letter : "    ";

        if (row->type == ST_OPTION_BOOL)
                return row->value_name ? xasprintf("%s--%s[=%s]", short_flag, row->flag, row->value_name)
                                       : xasprintf("%s--%s", short_flag, row->flag);
        if (row->bare)
                return xasprintf("%s--%s[=%s]", short_flag, row->flag, row->value_name ? row->value_name : "VALUE");
        return xasprintf("%s--%s %s%s", short_flag, row->flag, row->value_name ? row->value_name : "VALUE",
                         row->type == ST_OPTION_LIST ? " …" : "");
}

/* The sentence, the allowed values and the default; malloc'ed */
static char *right_of(const struct st_option *row) {
        _cleanup_strv_ struct strv notes = { 0 };
        bool dull = row->type == ST_OPTION_BOOL && row->fallback && streq(row->fallback, "false");

        if (row->choices) {
                _cleanup_strv_ struct strv choices = { 0 };

                strv_split(&choices, row->choices, '|');
                _cleanup_free_ char *list = strv_join(&choices, ", ");
                strv_addf(&notes, "one of %s", list);
        }
        if (!isempty(row->fallback) && !dull)
                strv_addf(&notes, "default: %s", row->fallback);

        _cleanup_free_ char *extra = strv_join(&notes, "; ");
        return *extra ? xasprintf("%s (%s)", row->help ? row->help : "", extra) : xstrdup(row->help ? row->help : "");
}

/* Columns of a text: characters, that is bytes which do not continue one. Help has no wide ones. */
static int columns(const char *s, size_t n) {
        int count = 0;

        for (size_t i = 0; i < n; i++)
                count += ((unsigned char)s[i] & 0xc0) != 0x80;
        return count;
}

/* Writes words, beginning new lines at column `margin` so that they end before column `width`. */
static void print_wrapped(FILE *f, const char *text, int margin, int width) {
        int at = margin;

        for (const char *word = text + strspn(text, " "); *word; word += strspn(word, " ")) {
                size_t n = strcspn(word, " ");
                int length = columns(word, n);

                if (at > margin && at + 1 + length > width) {
                        fprintf(f, "\n%*s", margin, "");
                        at = margin;
                } else if (at > margin) {
                        fputc(' ', f);
                        at++;
                }
                fwrite(word, 1, n, f);
                at += length;
                word += n;
        }
        fputc('\n', f);
}

void options_print_help(FILE *f, const struct st_option *rows, int width) {
        int left = 0;

        for (const struct st_option *row = rows; row->flag || row->key; row++) {
                _cleanup_free_ char *text = row->flag ? left_of(row) : NULL;
                int length = text ? columns(text, strlen(text)) : 0;

                if (length > left && length <= LEFT_MAX)
                        left = length;
        }

        int margin = INDENT + left + GAP;
        if (width < margin + TEXT_MIN)
                width = margin + TEXT_MIN;
        for (const struct st_option *row = rows; row->flag || row->key; row++) {
                if (!row->flag)
                        continue;
                _cleanup_free_ char *text = left_of(row), *help = right_of(row);
                int length = columns(text, strlen(text));

                fprintf(f, "%*s%s", INDENT, "", text);
                if (length > left)
                        fprintf(f, "\n%*s", margin, "");
                else
                        fprintf(f, "%*s", left - length + GAP, "");
                print_wrapped(f, help, margin, width);
        }
}
