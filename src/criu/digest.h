/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the lines of CRIU's log mean: the table, the search in it, and the document made of it. The table is the only
 * place where a failure of CRIU is explained: error messages, `stasis explain` and docs/troubleshooting.md come of it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "criu/criu.h"

/** How near to the root cause a line is; the first of the nearest ones is given as the reason. */
enum digest_rank {
        DIGEST_HARMLESS = 1, /* also in logs of success */
        DIGEST_TAIL,         /* says only that it failed */
        DIGEST_CONSEQUENCE,  /* what followed from the cause; the reason if nothing else is there */
        DIGEST_CAUSE,        /* also every error that no row knows */
};

enum digest_line {
        DIGEST_ERROR = 1, /* "Error (criu/x.c:1): …" */
        DIGEST_WARNING,   /* "Warn  (…): …" */
        DIGEST_PLAIN,     /* no prefix at all: printed before the log is there, or by a program that CRIU ran */
};

enum digest_phase {
        DIGEST_DUMP = 1,
        DIGEST_RESTORE = 2,
        DIGEST_BOTH = DIGEST_DUMP | DIGEST_RESTORE,
};

#define DIGEST_PATTERNS 4
#define DIGEST_CAPTURES 4

/**
 * One failure, or one line that is none. In cause, hint and more $1 … $4 are what the stars of the pattern that matched
 * stand for; its other patterns must have the same stars.
 */
struct digest_row {
        const char *patterns[DIGEST_PATTERNS]; /* found anywhere in a message; each * stands for any text */
        enum digest_rank rank;                 /* 0: DIGEST_CAUSE */
        enum digest_line line;                 /* 0: DIGEST_ERROR */

        /* A failure that is explained; NULL: a line that is named in no document */
        const char *id;          /* never changes: a-z, 0-9 and '-' */
        const char *title;       /* in a few words */
        enum digest_phase phase; /* 0: DIGEST_BOTH */

        int number;        /* errno; 0: EIO */
        const char *names; /* what the document shows for $1 … $4: words with one space between */
        const char *cause; /* in plain words; NULL: CRIU's own */
        const char *hint;  /* what can be done; NULL: nothing known */
        const char *more;  /* a sentence or two: why it is so. Of a harmless line: why it is harmless */
};

/** Rows of one subject. */
struct digest_theme {
        const char *title; /* NULL: none of its rows is explained */
        const struct digest_row *rows;
        size_t n;
};

/** All themes; the first row that matches counts. */
const struct digest_theme *const *digest_themes(size_t *ret_n);

/** The row of an id; NULL: none. */
const struct digest_row *digest_find(const char *id);

/* One for each file digest_NAME.c. */
extern const struct digest_theme digest_noise, digest_network, digest_files, digest_processes, digest_terminals,
        digest_mounts, digest_cgroups, digest_images, digest_machine, digest_general;

/** One line of a log that says something. All texts are malloc'ed and safe to show on one line. */
struct digest_finding {
        const struct digest_row *row; /* NULL: an error that no row knows */
        enum digest_rank rank;
        size_t line; /* from 1; 0: not known, because something before it was left out */
        char *text;  /* the line as it stands in the log, cut when long */
        char *cause; /* in plain words, or CRIU's own */
        char *hint;  /* NULL: nothing known */
        char *more;  /* NULL: nothing known */
        int number;  /* errno */
};

void digest_finding_clear(struct digest_finding *finding);

/** All that a log says, in its order; of a log with very many lines that say something, the first ones. */
struct digest_report {
        struct digest_finding *findings;
        size_t n, room;
        const struct digest_finding *cause; /* the one of them that is the reason; NULL: none */
        bool succeeded;                     /* it says that the dump or the restore succeeded */
        bool is_log;                        /* it has lines as CRIU writes them */
};

void digest_report_clear(struct digest_report *report);

/** Reads a log, NUL-terminated. */
void digest_report(const char *log, struct digest_report *ret);

struct digest {
        char *cause, *hint; /* NULL: none found */
        int number;         /* errno; 0: none found */
};

void digest_clear(struct digest *digest);

/** As criu_digest(), with the errno that fits. */
void digest_log(const char *log, struct digest *ret);

/** Writes docs/troubleshooting.md. @return 0 or -errno */
int digest_document(FILE *file);
