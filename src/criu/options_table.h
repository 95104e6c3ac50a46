/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The rows of options.c, for its test. */

#include "criu/options.h"

enum criu_option_kind {
        CRIU_FLAG = 1, /* a bool: --flag when true; false is "not set" */
        CRIU_NUMBER,   /* --flag=NUMBER when present */
        CRIU_TEXT,     /* --flag=TEXT when not empty */
        CRIU_LIST,     /* --flag=TEXT for each element */
        CRIU_SPECIAL,  /* by the row's own function */
        CRIU_LEFT_OUT, /* stasis decides it itself, or it means something in CRIU's RPC only */
        CRIU_REFUSED,  /* set, it would change what is done, and the command line cannot say so: an error */
};

struct criu_option;

typedef int (*criu_option_emit)(const struct criu_option *row, const Criu__CriuOpts *options,
                                enum criu_operation operation, struct strv *argv, struct st_error **err);

struct criu_option {
        const char *field; /* of criu_opts */
        const char *flag;  /* with its dashes; NULL: none */
        enum criu_option_kind kind;
        unsigned operations;   /* enum criu_operation, or'ed; of the others it is left out */
        const char *why;       /* CRIU_REFUSED: the rest of the sentence "FIELD …" */
        criu_option_emit emit; /* CRIU_SPECIAL */
};

const struct criu_option *criu_option_rows(size_t *ret_n);

/** @return the row of a field, NULL: none */
const struct criu_option *criu_option_find(const char *field);
