#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Programs that write, fork, map and unmap while they are checkpointed, and right after they are restored, keep each bit
# of their memory, however it is copied and put back: torture.py draws what is done, churn.c knows its memory.
# shellcheck disable=SC2154 # set by common.bash

load common

setup() { start_test; }

teardown() { end_test; }

@test "each way to copy memory, and each to put it back" {
        limits=(--runs 4 --seconds "$([ -z "${STASIS_SANITIZE:-}" ] && echo 18 || echo 90)")
        [ -z "${STASIS_STRESS:-}" ] || limits=(--runs 100)
        export STASIS_LOG_LEVEL_NO_SERVER=info
        # Processes and mounts of its own: numbers of processes are free when it has ended them.
        unshare --mount --pid --fork --kill-child --mount-proc \
                "$BATS_TEST_DIRNAME/torture.py" --directory "$T" --seed "${STASIS_SEED:-$RANDOM}" "${limits[@]}" 3>&-
}
