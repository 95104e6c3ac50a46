/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/operation.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/work_dir.h"

struct st_operation {
        struct operation_options options;
        char *id;
        char *work_dir;
        int lock_fd;
        atomic_int cancel_reason;
        pthread_mutex_t report_lock;
        uint64_t last_progress_ms;
        const char *last_phase;
        struct operation_statistics statistics;
};

int operation_new(const struct operation_options *options, struct st_operation **ret, struct st_error **err) {
        struct st_operation *operation = NEW(struct st_operation);
        int r;

        operation->options = *options;
        operation->lock_fd = -EBADF;
        pthread_mutex_init(&operation->report_lock, NULL);

        if (options->no_work_dir) {
                operation->id = xasprintf("%d", (int)getpid());
                operation->options.id = operation->id;
                *ret = operation;
                return 0;
        }
        if (options->work_dir)
                operation->work_dir = xstrdup(options->work_dir);
        else {
                /* Without a daemon nobody else would. */
                work_dir_clean_stale(NULL);
                r = work_dir_new(&operation->work_dir, err);
                if (r < 0) {
                        operation_free(operation);
                        return r;
                }
        }
        operation->id =
                options->id ? xstrdup(options->id) : xasprintf("%d-%s", (int)getpid(), path_name(operation->work_dir));
        operation->options.id = operation->id;

        operation->lock_fd = work_dir_lock(operation->work_dir, err);
        if (operation->lock_fd < 0) {
                r = operation->lock_fd;
                operation_free(operation);
                return r;
        }
        *ret = operation;
        return 0;
}

struct st_operation *operation_free(struct st_operation *operation) {
        if (!operation)
                return NULL;
        if (operation->lock_fd >= 0)
                close(operation->lock_fd);
        if (operation->work_dir)
                (void)work_dir_clean(operation->work_dir);
        pthread_mutex_destroy(&operation->report_lock);
        free(operation->work_dir);
        free(operation->id);
        free(operation);
        return NULL;
}

const struct st_arguments *st_operation_config(const struct st_operation *operation) {
        return operation->options.config;
}

const char *st_operation_work_dir(const struct st_operation *operation) {
        return operation->work_dir;
}

uid_t st_operation_uid(const struct st_operation *operation) {
        return operation->options.uid;
}

gid_t st_operation_gid(const struct st_operation *operation) {
        return operation->options.gid;
}

bool st_operation_no_server(const struct st_operation *operation) {
        return operation->options.no_server;
}

int st_operation_cancel_fd(const struct st_operation *operation) {
        return operation->options.cancel_fd;
}

pid_t operation_client(const struct st_operation *operation) {
        return operation->options.client;
}

bool operation_privileged(const struct st_operation *operation) {
        return operation->options.privileged;
}

const Stasis__V1__JobSpec *operation_job(const struct st_operation *operation) {
        return operation->options.job;
}

const char *st_operation_jid(const struct st_operation *operation) {
        const Stasis__V1__JobSpec *job = operation_job(operation);

        return job && job->jid && *job->jid ? job->jid : NULL;
}

bool st_operation_by_policy(const struct st_operation *operation) {
        return operation->options.by_policy;
}

const char *operation_job_record(const struct st_operation *operation) {
        return isempty(operation->options.job_record) ? NULL : operation->options.job_record;
}

void operation_set_statistics(struct st_operation *operation, const struct operation_statistics *statistics) {
        operation->statistics = *statistics;
}

struct operation_statistics operation_statistics(const struct st_operation *operation) {
        return operation->statistics;
}

const char *operation_id(const struct st_operation *operation) {
        return operation->id;
}

int operation_lock_fd(const struct st_operation *operation) {
        return operation->lock_fd;
}

void operation_set_cancel_reason(struct st_operation *operation, int number) {
        atomic_store(&operation->cancel_reason, number);
}

int st_operation_check_cancelled(const struct st_operation *operation, struct st_error **err) {
        struct pollfd p = { .fd = operation->options.cancel_fd, .events = POLLIN };

        if (p.fd < 0 || poll(&p, 1, 0) <= 0 || !p.revents)
                return 0;
        if (atomic_load(&operation->cancel_reason) == ETIMEDOUT)
                return st_error_set(err, ETIMEDOUT, "the time for the request was over");
        return st_error_set(err, ECANCELED, "cancelled");
}

static void operation_send(struct st_operation *operation, const Stasis__Worker__Report *report) {
        if (!operation->options.report)
                return;
        pthread_mutex_lock(&operation->report_lock);
        operation->options.report(report, operation->options.userdata);
        pthread_mutex_unlock(&operation->report_lock);
}

/** One report for each 100 ms and phase is enough for any display. */
static bool operation_progress_due(struct st_operation *operation, const char *phase) {
        uint64_t now = clock_ms();
        bool due;

        pthread_mutex_lock(&operation->report_lock);
        due = phase != operation->last_phase || now >= operation->last_progress_ms + 100;
        if (due) {
                operation->last_progress_ms = now;
                operation->last_phase = phase;
        }
        pthread_mutex_unlock(&operation->report_lock);
        return due;
}

void st_operation_progress(struct st_operation *operation, const char *phase, uint64_t done, uint64_t total) {
        if (!operation->options.report || !operation_progress_due(operation, phase))
                return;

        Stasis__V1__Progress progress = STASIS__V1__PROGRESS__INIT;
        progress.phase = (char *)phase;
        progress.has_done = progress.has_total = 1;
        progress.done = done;
        progress.total = total;

        Stasis__Worker__Report report = STASIS__WORKER__REPORT__INIT;
        report.kind_case = STASIS__WORKER__REPORT__KIND_PROGRESS;
        report.progress = &progress;
        operation_send(operation, &report);
}

void operation_report_position(struct st_operation *operation, const char *plugin, const char *adapter) {
        Stasis__Worker__Position position = STASIS__WORKER__POSITION__INIT;
        position.plugin = (char *)plugin;
        position.adapter = (char *)adapter;

        Stasis__Worker__Report report = STASIS__WORKER__REPORT__INIT;
        report.kind_case = STASIS__WORKER__REPORT__KIND_POSITION;
        report.position = &position;
        operation_send(operation, &report);
}

void operation_report_span(struct st_operation *operation, const char *plugin, const char *adapter, unsigned depth,
                           uint64_t inclusive_ns, uint64_t exclusive_ns) {
        Stasis__V1__Span span = STASIS__V1__SPAN__INIT;
        span.name = (char *)adapter;
        span.plugin = (char *)plugin;
        span.has_depth = span.has_inclusive = span.has_exclusive = 1;
        span.depth = depth;
        span.inclusive = inclusive_ns;
        span.exclusive = exclusive_ns;

        Stasis__Worker__Report report = STASIS__WORKER__REPORT__INIT;
        report.kind_case = STASIS__WORKER__REPORT__KIND_SPAN;
        report.span = &span;
        operation_send(operation, &report);
}

int operation_record_partial(struct st_operation *operation, const char *path, struct st_error **err) {
        return work_dir_record_partial(operation->work_dir, path, err);
}
