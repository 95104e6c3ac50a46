#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# A part of stasis is killed in the middle of a dump, again and again, at random: kills.py tells what must hold then.
# shellcheck disable=SC2154 # set by common.bash

load common

setup() { start_test; }

teardown() { end_test; }

@test "whatever is killed during a dump: the target lives or its checkpoint restores, nothing is left" {
        limits=(--iterations 40 --seconds 10)
        [ -z "${STASIS_STRESS:-}" ] || limits=(--iterations 300 --all)
        # Networks, mounts and processes of its own: nothing else is touched, and it disturbs what is looked at here.
        unshare --net --mount --pid --fork --kill-child --mount-proc \
                "$BATS_TEST_DIRNAME/kills.py" --directory "$T" --seed "${STASIS_SEED:-$RANDOM}" "${limits[@]}" 3>&-
}
