/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A plugin whose dump crashes: `dump crash PID` must end with an error that names it, and hurt nobody else. It also
 * exports a feature that has no effect in this version.
 */

#include <errno.h>
#include <stdlib.h>

#include <stasis/plugin.h>

static int fill_dump(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);

        if (!words[0] || words[1])
                return st_error_set(err, EINVAL, "dump crash takes one PID");
        if (!req->details) {
                Daemon__Details *details = malloc(sizeof(*details));
                if (!details)
                        return st_error_set(err, ENOMEM, "no memory for the request");
                daemon__details__init(details);
                req->details = details;
        }
        return 0;
}

/*
 * Volatile twice: the compiler may neither know where it points nor leave out what is done there. It must be the
 * processor that finds it, not UBSan.
 */
__attribute__((no_sanitize("undefined"))) static int crash(struct st_dump *dump, struct st_dump_next *next,
                                                           struct st_error **err) {
        volatile int *volatile nowhere = NULL;

        *nowhere = 1;
        return st_dump_proceed(next, dump, err);
}

static const struct st_dump_command dump_command = {
        .command = { "crash", "PID", "Crash", "dump crash 42", NULL },
        .fill = fill_dump,
};

static const struct st_dump_adapter list[] = { { "crashing", crash } };
static const struct st_dump_adapters dump_middleware = { 1, list };
static const struct st_reaper reaper = { NULL };

static const struct st_features features = {
        .size = sizeof(struct st_features),
        ST_FEATURE(dump_command, dump_command),
        ST_FEATURE(dump_middleware, dump_middleware),
        ST_FEATURE(reaper, reaper),
};

ST_PLUGIN("crash", "1.0", features, NULL, NULL);
