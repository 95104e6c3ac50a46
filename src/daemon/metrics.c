/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"

/* Operations by kind and type, and checkpoints by type: more than there are, unless somebody invents types. */
#define SERIES_MAX 64
#define TYPE_MAX 32

/* Upper bounds in seconds; above the last one is infinity. From a frozen time of a few milliseconds to a slow disk. */
static const double bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300 };
#define N_BUCKETS (ELEMENTSOF(bounds) + 1)

enum outcome { OUTCOME_OK, OUTCOME_ERROR, OUTCOME_CANCELLED, N_OUTCOMES };
static const char *const outcome_names[N_OUTCOMES] = { "ok", "error", "cancelled" };

struct histogram {
        uint64_t buckets[N_BUCKETS]; /* not cumulative */
        uint64_t sum_us;
};

struct operations {
        char *kind, *type;
        uint64_t outcomes[N_OUTCOMES];
        struct histogram duration;
};

struct checkpoints {
        char *type;
        uint64_t bytes;
        struct histogram frozen;
};

struct metrics {
        struct operations operations[SERIES_MAX];
        size_t n_operations;
        struct checkpoints checkpoints[SERIES_MAX];
        size_t n_checkpoints;
};

struct metrics *metrics_new(void) {
        return NEW(struct metrics);
}

struct metrics *metrics_free(struct metrics *metrics) {
        if (!metrics)
                return NULL;
        for (size_t i = 0; i < metrics->n_operations; i++) {
                free(metrics->operations[i].kind);
                free(metrics->operations[i].type);
        }
        for (size_t i = 0; i < metrics->n_checkpoints; i++)
                free(metrics->checkpoints[i].type);
        free(metrics);
        return NULL;
}

static void observe(struct histogram *histogram, uint64_t us) {
        size_t i = 0;

        while (i < ELEMENTSOF(bounds) && (double)us > bounds[i] * 1e6)
                i++;
        histogram->buckets[i]++;
        histogram->sum_us += us;
}

/* Anything may be asked for; only what looks like a name becomes a label. */
static const char *label_of(const char *type) {
        if (isempty(type))
                return "none";
        if (strlen(type) > TYPE_MAX || type[strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789-_")] != '\0')
                return "other";
        return type;
}

/* The last place is everybody's who came too late. */
static struct operations *find_operations(struct metrics *metrics, const char *kind, const char *type) {
        for (size_t i = 0; i < metrics->n_operations; i++)
                if (streq(metrics->operations[i].kind, kind) && streq(metrics->operations[i].type, type))
                        return &metrics->operations[i];
        if (metrics->n_operations == SERIES_MAX)
                return &metrics->operations[SERIES_MAX - 1];

        bool last = metrics->n_operations == SERIES_MAX - 1;
        struct operations *operations = &metrics->operations[metrics->n_operations++];

        operations->kind = xstrdup(last ? "other" : kind);
        operations->type = xstrdup(last ? "other" : type);
        return operations;
}

static struct checkpoints *find_checkpoints(struct metrics *metrics, const char *type) {
        for (size_t i = 0; i < metrics->n_checkpoints; i++)
                if (streq(metrics->checkpoints[i].type, type))
                        return &metrics->checkpoints[i];
        if (metrics->n_checkpoints == SERIES_MAX)
                return &metrics->checkpoints[SERIES_MAX - 1];

        bool last = metrics->n_checkpoints == SERIES_MAX - 1;
        struct checkpoints *checkpoints = &metrics->checkpoints[metrics->n_checkpoints++];

        checkpoints->type = xstrdup(last ? "other" : type);
        return checkpoints;
}

void metrics_operation(struct metrics *metrics, const char *kind, const char *type, int number, uint64_t duration_us) {
        struct operations *operations = find_operations(metrics, kind, label_of(type));
        enum outcome outcome = number == 0                                  ? OUTCOME_OK
                               : number == ECANCELED || number == ETIMEDOUT ? OUTCOME_CANCELLED
                                                                            : OUTCOME_ERROR;

        operations->outcomes[outcome]++;
        observe(&operations->duration, duration_us);
}

void metrics_checkpoint(struct metrics *metrics, const char *type, uint64_t frozen_us, uint64_t size) {
        struct checkpoints *checkpoints = find_checkpoints(metrics, label_of(type));

        checkpoints->bytes += size;
        observe(&checkpoints->frozen, frozen_us);
}

static void family(FILE *out, const char *name, const char *type, const char *unit, const char *help) {
        fprintf(out, "# TYPE %s %s\n", name, type);
        if (unit)
                fprintf(out, "# UNIT %s %s\n", name, unit);
        fprintf(out, "# HELP %s %s\n", name, help);
}

/* @param labels without braces, not empty */
static void print_histogram(FILE *out, const char *name, const char *labels, const struct histogram *histogram) {
        uint64_t count = 0;

        for (size_t i = 0; i < N_BUCKETS; i++) {
                count += histogram->buckets[i];
                if (i < ELEMENTSOF(bounds))
                        fprintf(out, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name, labels, bounds[i], count);
                else
                        fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, count);
        }
        fprintf(out, "%s_count{%s} %" PRIu64 "\n", name, labels, count);
        fprintf(out, "%s_sum{%s} %.6f\n", name, labels, (double)histogram->sum_us / 1e6);
}

static void print_operations(FILE *out, const struct metrics *metrics) {
        family(out, "stasis_operations", "counter", NULL, "Operations that have ended, by kind, type and outcome.");
        for (size_t i = 0; i < metrics->n_operations; i++)
                for (size_t k = 0; k < N_OUTCOMES; k++)
                        fprintf(out,
                                "stasis_operations_total{operation=\"%s\",type=\"%s\",result=\"%s\"} %" PRIu64 "\n",
                                metrics->operations[i].kind, metrics->operations[i].type, outcome_names[k],
                                metrics->operations[i].outcomes[k]);
        family(out, "stasis_operation_duration_seconds", "histogram", "seconds", "How long operations took.");
        for (size_t i = 0; i < metrics->n_operations; i++) {
                _cleanup_free_ char *labels = xasprintf("operation=\"%s\",type=\"%s\"", metrics->operations[i].kind,
                                                        metrics->operations[i].type);
                print_histogram(out, "stasis_operation_duration_seconds", labels, &metrics->operations[i].duration);
        }
}

static void print_checkpoints(FILE *out, const struct metrics *metrics) {
        family(out, "stasis_frozen_seconds", "histogram", "seconds", "How long the targets of dumps stood still.");
        for (size_t i = 0; i < metrics->n_checkpoints; i++) {
                _cleanup_free_ char *labels = xasprintf("type=\"%s\"", metrics->checkpoints[i].type);
                print_histogram(out, "stasis_frozen_seconds", labels, &metrics->checkpoints[i].frozen);
        }
        family(out, "stasis_checkpoint_bytes", "counter", "bytes", "Bytes of checkpoints that were made.");
        for (size_t i = 0; i < metrics->n_checkpoints; i++)
                fprintf(out, "stasis_checkpoint_bytes_total{type=\"%s\"} %" PRIu64 "\n", metrics->checkpoints[i].type,
                        metrics->checkpoints[i].bytes);
}

static void print_present(FILE *out, const struct metrics_present *present) {
        family(out, "stasis_jobs", "gauge", NULL, "Jobs by state.");
        for (int i = 0; i < JOB_STATES; i++)
                fprintf(out, "stasis_jobs{state=\"%s\"} %" PRIu64 "\n", job_state_name((Stasis__V1__JobState)i),
                        present->jobs[i]);
        family(out, "stasis_operations_running", "gauge", NULL, "Operations that run now.");
        fprintf(out, "stasis_operations_running %zu\n", present->running);
        family(out, "stasis_operations_queued", "gauge", NULL, "Operations that wait for others.");
        fprintf(out, "stasis_operations_queued %zu\n", present->queued);
        family(out, "stasis_resident_memory_bytes", "gauge", "bytes", "Resident memory of the daemon.");
        fprintf(out, "stasis_resident_memory_bytes %" PRIu64 "\n", present->resident);
        family(out, "stasis_start_time_seconds", "gauge", "seconds", "When the daemon started, since 1970.");
        fprintf(out, "stasis_start_time_seconds %" PRIu64 "\n", present->started);
        family(out, "stasis_build", "info", NULL, "The version of stasis.");
        fprintf(out, "stasis_build_info{version=\"" STASIS_VERSION "\"} 1\n");
}

char *metrics_text(const struct metrics *metrics, const struct metrics_present *present, size_t *ret_size) {
        char *text = NULL;
        FILE *out = open_memstream(&text, ret_size);

        if (!out)
                return NULL;
        print_operations(out, metrics);
        print_checkpoints(out, metrics);
        print_present(out, present);
        fputs("# EOF\n", out);
        if (fclose(out) != 0) {
                free(text);
                return NULL;
        }
        return text;
}
