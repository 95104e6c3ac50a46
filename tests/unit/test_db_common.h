/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of the database share: a directory for each test, jobs and checkpoints to put in. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "db/db.h"

struct place {
        char dir[64];
        char *path; /* of the database */
};

static inline int place_setup(void **state) {
        struct place *place = NEW(struct place);

        /* Where syncing costs nothing, if there is such a place. */
        snprintf(place->dir, sizeof(place->dir), "%s/stasis-db.XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (!mkdtemp(place->dir))
                return -1;
        place->path = path_join(place->dir, "stasis.db");
        *state = place;
        return 0;
}

static inline int place_teardown(void **state) {
        struct place *place = *state;
        int r = io_remove_tree(place->dir);

        free(place->path);
        free(place);
        return r;
}

/* Opens what must be sound. */
static inline struct db *open_db(const char *path) {
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_free_ char *moved = NULL;
        struct db *db = NULL;

        if (db_open(path, &db, &moved, &err) < 0)
                fail_msg("%s", st_error_message(err));
        assert_null(moved);
        return db;
}

static inline Stasis__V1__JobSpec *new_spec(const char *jid) {
        Stasis__V1__JobSpec *spec = message_new(&stasis__v1__job_spec__descriptor);

        message_set_string(&spec->jid, jid);
        message_set_string(&spec->type, "process");
        message_set_string(&spec->log, "/var/log/stasis-output.log");
        spec->has_uid = 1;
        spec->uid = 1000;
        spec->details = message_new(&daemon__details__descriptor);
        spec->details->process = message_new(&daemon__process__descriptor);
        message_set_string(&spec->details->process->path, "/bin/sleep");
        message_append(&spec->details->process->n_args, &spec->details->process->args, xstrdup("1000"));
        return spec;
}

/* As one function: adds a job, and says what came of it. */
static inline int add_job(struct db *db, const char *jid, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = new_spec(jid);

        return db_job_add(db, spec, err);
}

static inline int change_job(struct db *db, const char *jid, Stasis__V1__JobState to, struct st_error **err) {
        struct db_job_change change = { .state = to, .reason = "test" };

        return db_job_change(db, jid, &change, err);
}

static inline Stasis__V1__CheckpointInfo *new_checkpoint(const char *id, const char *jid, int64_t time) {
        Stasis__V1__CheckpointInfo *info = message_new(&stasis__v1__checkpoint_info__descriptor);

        message_set_string(&info->id, id);
        message_set_string(&info->jid, jid);
        message_set_string(&info->type, "process");
        message_set_string(&info->path, "/var/lib/stasis/checkpoints/x");
        info->has_time = 1;
        info->time = time;
        return info;
}

/* Begins one and makes it ready. */
static inline int add_checkpoint(struct db *db, const char *id, const char *jid, int64_t time, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = new_checkpoint(id, jid, time);
        int r = db_checkpoint_begin(db, info, "1-1", err);

        return r < 0 ? r : db_checkpoint_ready(db, info, err);
}

#define assert_ok(call)                                                    \
        do {                                                               \
                struct st_error *_err = NULL, **err = &_err;               \
                if ((call) < 0)                                            \
                        fail_msg("%s: %s", #call, st_error_message(_err)); \
                assert_null(_err);                                         \
        } while (0)

/* It fails with the number, and says so with a text. */
#define assert_fails(call, number, text)                                                        \
        do {                                                                                    \
                struct st_error *_err = NULL, **err = &_err;                                    \
                int _r = (call);                                                                \
                if (_r != -(number) || !_err || !strstr(st_error_message(_err), (text)))        \
                        fail_msg("%s: %d: %s", #call, _r, _err ? st_error_message(_err) : "-"); \
                st_error_free(_err);                                                            \
        } while (0)
