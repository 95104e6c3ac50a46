/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The restore of a Docker container, in the place of CRIU: into the container that the checkpoint was made of, another
 * one of the same image, or a new one. Everything is looked at before anything is touched; a failure leaves all as it
 * was.
 */

#include <stasis/restore.h>

int docker_restore_run(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
