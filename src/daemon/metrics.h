/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the daemon has done since it started, counted, as OpenMetrics text
 * (https://github.com/prometheus/OpenMetrics, specification/OpenMetrics.md). One thread.
 */

#include <stddef.h>
#include <stdint.h>

#include <stasis/v1/stasis.pb-c.h>

#include "db/db.h"

struct metrics;

struct metrics *metrics_new(void);
struct metrics *metrics_free(struct metrics *metrics);

/**
 * An operation has ended.
 *
 * @param kind "dump", "restore", …
 * @param type "process", "docker", …; NULL: it is about none. Types beyond the first few dozens count as "other": they
 *             come from requests, and each would be remembered.
 * @param number 0: it succeeded; ECANCELED, ETIMEDOUT: it was cancelled; another errno: it failed
 */
void metrics_operation(struct metrics *metrics, const char *kind, const char *type, int number, uint64_t duration_us);

/** A checkpoint was made. @param frozen_us how long its target stood still @param size bytes of it */
void metrics_checkpoint(struct metrics *metrics, const char *type, uint64_t frozen_us, uint64_t size);

/** What is not counted but looked up when somebody asks. */
struct metrics_present {
        uint64_t jobs[JOB_STATES]; /* by state */
        size_t running, queued;    /* operations */
        uint64_t resident;         /* bytes of the daemon */
        uint64_t started;          /* seconds since 1970 */
};

/** The whole page, malloc'ed; ends with "# EOF\n". @return NULL when there is no memory for it */
char *metrics_text(const struct metrics *metrics, const struct metrics_present *present, size_t *ret_size);

/** What such a page is: "application/openmetrics-text; version=1.0.0; charset=utf-8". */
#define METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
