/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The commands that a plugin adds to the command line: `dump TYPE`, `restore TYPE`, …. The parent command owns
 * the common flags and sends the request; the plugin's command adds only its own flags and fills its own details.
 */

#include <daemon/daemon.pb-c.h>
#include <daemon/query.pb-c.h>
#include <stasis/error.h>
#include <stasis/option.h>

/** What --help says of a command, and the flags it adds. */
struct st_command {
        const char *type;                /* the word after the verb: "runc"; also the request's Type */
        const char *words;               /* the positional arguments, for help: "ID"; NULL: none */
        const char *summary;             /* one sentence, no full stop */
        const char *example;             /* a command line without "stasis " */
        const struct st_option *options; /* its own flags, ended by ST_OPTION_END; NULL: none */
};

/**
 * Fill the type's details of a request from the command line. Called in the client, not in a worker; must not do
 * anything but look at its arguments. Wrong arguments: -EINVAL with err. Strings are malloc'ed and given to req.
 */
typedef int (*st_fill_dump_fn)(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err);
typedef int (*st_fill_restore_fn)(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err);
typedef int (*st_fill_run_fn)(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err);
typedef int (*st_fill_query_fn)(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err);

struct st_dump_command { /* also freeze and unfreeze: their requests are DumpReq too */
        struct st_command command;
        st_fill_dump_fn fill;
};

struct st_restore_command {
        struct st_command command;
        st_fill_restore_fn fill;
};

struct st_run_command { /* also manage */
        struct st_command command;
        st_fill_run_fn fill;
};

struct st_query_command {
        struct st_command command;
        st_fill_query_fn fill;
        /** Prints the answer as a table on stdout; NULL: the states are printed as those of processes. */
        int (*print)(const struct st_arguments *arguments, const Daemon__QueryResp *resp, struct st_error **err);
};
