/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The supervisors that this machine runs, found by their records in <run dir>/jobs: those of our own operations, and
 * those that an earlier daemon left. A record is watched from the moment its directory is there (inotify), a supervisor
 * by a pidfd. A record is removed when its supervisor has ended and `settle` has said that nothing in it is needed.
 */

#include <stdbool.h>

#include <systemd/sd-event.h>

#include <stasis/error.h>

#include <stasis/v1/stasis.pb-c.h>

#include "supervisor/status.h"

/* The file in a record that says of which job it is: a packed stasis.v1.JobSpec. */
#define RECORD_JOB "job"

/* Its name once the job has no use for the record any more; the supervisor may live on, with what the job has left. */
#define RECORD_JOB_OVER "job.over"

struct supervisors;

/** A record, as it stands. */
struct record {
        const char *id;  /* its name: the ID of the operation that made it */
        const char *jid; /* NULL: of no job */
        struct supervisor_status status;
        bool gone; /* its supervisor has ended: the record does not change any more */
        bool over; /* supervisors_disown() */
};

/**
 * Called whenever a record is new, has changed, or is looked at again.
 *
 * @return 0: all that it says is recorded elsewhere; negative: it must stay, and is looked at again
 */
typedef int (*supervisors_settle_fn)(const struct record *record, void *userdata);

int supervisors_new(sd_event *loop, struct supervisors **ret, struct st_error **err);
struct supervisors *supervisors_free(struct supervisors *supervisors);

/** Sets who is told; without, only plain ends are logged. */
void supervisors_set_settle(struct supervisors *supervisors, supervisors_settle_fn settle, void *userdata);

/** Looks for records that are not watched yet. */
void supervisors_scan(struct supervisors *supervisors);

/** Reads one record now, whether it is watched or not; NULL: none of that name. Valid until the loop goes on. */
const struct record *supervisors_look(struct supervisors *supervisors, const char *id);

/** Is the record known? As it was when it was last looked at; without a status its PID is 0. NULL: no such record. */
const struct record *supervisors_find(struct supervisors *supervisors, const char *id);

/** Settles all records again. @return how many are not settled */
size_t supervisors_settle_all(struct supervisors *supervisors);

/** The newest record of a process with that PID; NULL: none. Valid until the loop goes on. */
const struct record *supervisors_find_pid(struct supervisors *supervisors, pid_t pid);

/** What job a record is of. @return a heap message; NULL: of none, or not readable */
Stasis__V1__JobSpec *supervisors_read_spec(const char *id);

/**
 * Nothing that it says is news for its job any more, for this daemon and any later one: its end is recorded, or the job
 * was deleted. @return 0 or -errno
 */
int supervisors_disown(struct supervisors *supervisors, const char *id);

/** The directory of a record; malloc'ed. */
char *supervisors_directory(const char *id);

/** Appends what is supervised to a status. */
void supervisors_status(const struct supervisors *supervisors, Stasis__V1__StatusResp *resp);
