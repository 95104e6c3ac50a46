/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The words for the states of processes that clients of the API and users of `ps` know. */

/**
 * @param state the letter of /proc/PID/stat, proc(5)
 * @return "running", "sleep", "disk-sleep", "stop", "zombie", "idle", "wait", "dead"; "unknown" of any other letter
 */
const char *process_state_word(char state);
