/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The supervisors that this machine runs, found by their records in <run dir>/jobs: those of our own restores, and
 * those that an earlier daemon left. When one has ended its exit code is logged, and only then its record removed.
 */

#include <systemd/sd-event.h>

#include <stasis/error.h>

#include <stasis/v1/stasis.pb-c.h>

struct supervisors;

int supervisors_new(sd_event *loop, struct supervisors **ret, struct st_error **err);
struct supervisors *supervisors_free(struct supervisors *supervisors);

/** Looks for records that are not watched yet: at the start, and after a restore. */
void supervisors_scan(struct supervisors *supervisors);

/** Appends what is supervised to a status. */
void supervisors_status(const struct supervisors *supervisors, Stasis__V1__StatusResp *resp);
