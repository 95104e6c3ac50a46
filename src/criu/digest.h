/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the lines of CRIU's log mean: the table, and the search in it. */

#include <stddef.h>

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
        DIGEST_PLAIN,     /* no prefix at all: printed before the log is there */
};

struct digest_row {
        const char *pattern; /* found anywhere in the message; each * stands for any text and is captured: $1 … $4 */
        enum digest_rank rank;
        enum digest_line line; /* 0: DIGEST_ERROR */
        int number;            /* errno; 0: EIO */
        const char *cause;     /* in plain words, with captures; NULL: CRIU's own words */
        const char *hint;      /* what can be done, with captures; NULL: nothing known */
};

/** The rows; the first that matches counts. */
const struct digest_row *digest_rows(size_t *ret_n);

struct digest {
        char *cause, *hint; /* NULL: none found */
        int number;         /* errno; 0: none found */
};

void digest_clear(struct digest *digest);

/** As criu_digest(), with the errno that fits. */
void digest_log(const char *log, struct digest *ret);
