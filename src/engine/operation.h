/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Making and ending operations (stasis/operation.h): in a worker for the daemon, or inside the command line. */

#include <stdbool.h>

#include <stasis/operation.h>

#include <stasis/v1/worker.pb-c.h>

/**
 * Where an operation's reports go: progress, positions and spans. Called on any thread of the operation, one call at a
 * time. Log lines go through the logger.
 */
typedef void (*operation_report)(const Stasis__Worker__Report *report, void *userdata);

struct operation_options {
        const struct st_arguments *config;
        const char *work_dir; /* NULL: made by the operation, below the run directory */
        bool no_work_dir;     /* it needs none: for checks and queries that an ordinary user makes */
        const char *id;       /* NULL: made */
        uid_t uid;
        gid_t gid;
        pid_t client;    /* who asked; 0: not known */
        bool privileged; /* who asked may do what root may, whatever the UID: docs/security.md */
        bool no_server;
        const Stasis__V1__JobSpec *job; /* what is run, dumped, restored is this job; NULL: none. The caller's */
        const char *job_record;         /* of a dump: directory of its supervisor's record; NULL: it has none */
        bool by_policy;                 /* nobody has asked for it: the policy of the job does */
        int cancel_fd;                  /* polls readable when to be cancelled */
        operation_report report;
        void *userdata;
};

int operation_new(const struct operation_options *options, struct st_operation **ret, struct st_error **err);

/** Removes the work directory, and with it whatever it recorded as partial. */
struct st_operation *operation_free(struct st_operation *operation);
static inline void operation_freep(struct st_operation **operation) {
        *operation = operation_free(*operation);
}

/** The process that asked, in the daemon's PID namespace; 0: not known. */
pid_t operation_client(const struct st_operation *operation);

/** May who asked do what root may? */
bool operation_privileged(const struct st_operation *operation);

/** The job that the operation is about; NULL: none. */
const Stasis__V1__JobSpec *operation_job(const struct st_operation *operation);

/** The directory of the record of the job's supervisor; NULL: it has none. */
const char *operation_job_record(const struct st_operation *operation);

/** What CRIU said of a dump, for who asked: kept until the operation ends. */
struct operation_statistics {
        uint64_t frozen_us;
        uint64_t pages;
};

void operation_set_statistics(struct st_operation *operation, const struct operation_statistics *statistics);
struct operation_statistics operation_statistics(const struct st_operation *operation);

const char *operation_id(const struct st_operation *operation);

/** A descriptor with a lock on the work directory: a child that inherits it keeps the directory from being removed. */
int operation_lock_fd(const struct st_operation *operation);

/** The reason once cancelled: set by whoever cancels (a worker learns it from the daemon); 0: ECANCELED. */
void operation_set_cancel_reason(struct st_operation *operation, int number);

/** Records a hidden path that must not outlive the operation, before it is made. Survives kill -9 of us. */
int operation_record_partial(struct st_operation *operation, const char *path, struct st_error **err);

void operation_report_position(struct st_operation *operation, const char *plugin, const char *adapter);
void operation_report_span(struct st_operation *operation, const char *plugin, const char *adapter, unsigned depth,
                           uint64_t inclusive_ns, uint64_t exclusive_ns);
