#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The daemon is killed during operations on jobs, again and again, at random: job_kills.py tells what must hold then.
# shellcheck disable=SC2154 # set by common.bash

load common

setup() { start_test; }

teardown() { end_test; }

@test "whenever the daemon is killed: no job is lost, doubled or wrong, no exit code missing, nothing is left" {
        limits=(--iterations 24 --seconds 18)
        [ -z "${STASIS_STRESS:-}" ] || limits=(--iterations 200 --all)
        # Networks, mounts and processes of its own: nothing else is touched, and it disturbs what is looked at here.
        unshare --net --mount --pid --fork --kill-child --mount-proc \
                "$BATS_TEST_DIRNAME/job_kills.py" --directory "$T" --seed "${STASIS_SEED:-$RANDOM}" "${limits[@]}" 3>&-
}
