/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a rollback keeps beside a file (file_rollback.h): FILE.stasis-tail-TIME, FILE.stasis-kept-TIME. Those that were
 * made for a restore that nobody has asked for are called FILE.stasis-tail-restart-TIME: a job may be restored by its
 * policy for weeks, and nobody is there to look at each of them. So of these only the newest stays. What somebody's own
 * restore has kept is that person's to remove.
 */

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/**
 * What the name of a companion ends with, after FILE and a point.
 *
 * @param what "tail" or "kept"
 * @param by_policy nobody has asked for the restore
 */
void file_companion_suffix(const char *what, bool by_policy, time_t now, char *ret, size_t size);

/**
 * Removes the companions of a file that earlier restores by policy have made, in its directory: regular files with such
 * a name, of the same owner as the newest, and not made after it. What does not work is left to the next time.
 *
 * @param newest name of the companion that stays
 * @return how many were removed
 */
size_t file_companions_remove_older(int dir_fd, const char *file, const char *newest);
