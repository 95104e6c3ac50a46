/* SPDX-License-Identifier: Apache-2.0 */

/* docs/troubleshooting.md, made of the table. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "criu/digest.h"

/* Characters that Markdown would take for its own, outside of code. */
static void put_text(FILE *file, char c) {
        if (strchr("\\`*<>", c))
                fputc('\\', file);
        fputc(c, file);
}

/* A template with the names of its captures. */
static void put_template(FILE *file, const struct digest_row *row, const char *template, bool code) {
        for (const char *c = template; *c; c++) {
                const char *name = row->names;

                if (*c != '$' || c[1] < '1' || c[1] > '0' + DIGEST_CAPTURES) {
                        if (code)
                                fputc(*c, file);
                        else
                                put_text(file, *c);
                        continue;
                }
                for (int i = *++c - '1'; i > 0 && name; i--)
                        name = strchr(name, ' ') ? strchr(name, ' ') + 1 : NULL;
                if (name)
                        fprintf(file, "%.*s", (int)strcspn(name, " "), name);
        }
}

/* CRIU's own words, the stars as an ellipsis. */
static void put_pattern(FILE *file, const char *pattern) {
        fputc('`', file);
        for (const char *c = pattern; *c; c++)
                fputs(*c == '*' ? "…" : (const char[]){ *c, '\0' }, file);
        fputc('`', file);
}

static void put_row(FILE *file, const struct digest_row *row) {
        static const char *const phases[] = { "dump and restore", "dump", "restore", "dump and restore" };

        fprintf(file, "\n### %s\n\n<a id=\"%s\"></a>\n", row->title, row->id);
        fprintf(file, "*%s* · `%s`\n\n", phases[row->phase], row->id);
        if (row->cause) {
                fputs("> ", file);
                put_template(file, row, row->cause, false);
                fputs("\n\n", file);
        }
        if (row->more) {
                put_template(file, row, row->more, false);
                fputs("\n\n", file);
        }
        if (row->hint) {
                fputs("**What to do:** ", file);
                put_template(file, row, row->hint, false);
                fputs("\n\n", file);
        }
        fputs("In CRIU's log: ", file);
        for (size_t i = 0; i < DIGEST_PATTERNS && row->patterns[i]; i++) {
                fputs(i > 0 ? ", " : "", file);
                put_pattern(file, row->patterns[i]);
        }
        fputc('\n', file);
}

static void put_contents(FILE *file, const struct digest_theme *theme) {
        fprintf(file, "\n**%s**\n\n", theme->title);
        for (size_t i = 0; i < theme->n; i++)
                if (theme->rows[i].id)
                        fprintf(file, "- [%s](#%s)\n", theme->rows[i].title, theme->rows[i].id);
}

static void put_noise(FILE *file, const struct digest_theme *theme) {
        for (size_t i = 0; i < theme->n; i++) {
                if (theme->rows[i].rank != DIGEST_HARMLESS || !theme->rows[i].more)
                        continue;
                fputs("- ", file);
                put_pattern(file, theme->rows[i].patterns[0]);
                fputs(": ", file);
                put_template(file, &theme->rows[i], theme->rows[i].more, false);
                fputc('\n', file);
        }
}

int digest_document(FILE *file) {
        size_t n;
        const struct digest_theme *const *themes = digest_themes(&n);

        fputs("<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
              "<!-- Made by scripts/generate-docs from src/criu/digest_*.c: change it there. -->\n"
              "# Troubleshooting\n\n"
              "When a dump or a restore fails, stasis says why, what can be done, and where CRIU's log is:\n\n"
              "    stasis: error: CRIU could not dump process tree: a TCP connection is in use (log: "
              "/var/log/stasis/dump-42-1.log) (hint: add --tcp-established …)\n\n"
              "`stasis explain LOG` says more of a log: which line it is, what else CRIU complained about. It reads\n"
              "any log of CRIU, also those of podman, runc and docker (`dump.log`, `restore.log`, `criu-dump.log`).\n"
              "Of a checkpoint it says whether it is whole.\n\n"
              "A failed dump leaves its target running, whatever the reason.\n",
              file);
        for (size_t i = 0; i < n; i++)
                if (themes[i]->title)
                        put_contents(file, themes[i]);
        for (size_t i = 0; i < n; i++) {
                if (!themes[i]->title)
                        continue;
                fprintf(file, "\n## %s\n", themes[i]->title);
                for (size_t j = 0; j < themes[i]->n; j++)
                        if (themes[i]->rows[j].id)
                                put_row(file, &themes[i]->rows[j]);
        }
        fputs("\n## Lines that are harmless\n\n"
              "They stand in logs of success, too; `stasis explain --all` shows them.\n\n",
              file);
        for (size_t i = 0; i < n; i++)
                put_noise(file, themes[i]);
        return fflush(file) == 0 && !ferror(file) ? 0 : -(errno ?: EIO);
}
