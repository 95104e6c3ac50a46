#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Parts of stasis are killed while checkpoints that refer to each other are made, folded, deleted and restored lazily:
# chain_kills.py tells what must hold then.
# shellcheck disable=SC2154 # set by common.bash

load common

setup() {
        start_test
        export STASIS_CHECKPOINT_COMPRESSION=image STASIS_CHECKPOINT_MAX_CHAIN=3
}

teardown() { end_test; }

@test "whatever is killed: all checkpoints of a chain are whole and on record, no memory is silently wrong" {
        limits=(--iterations 12 --seconds 20)
        # 200 of each operation.
        [ -z "${STASIS_STRESS:-}" ] || limits=(--iterations 800 --all)
        # Networks, mounts and processes of its own: nothing else is touched, and it disturbs what is looked at here.
        unshare --net --mount --pid --fork --kill-child --mount-proc \
                "$BATS_TEST_DIRNAME/chain_kills.py" --directory "$T" --seed "${STASIS_SEED:-$RANDOM}" "${limits[@]}" 3>&-
}

@test "a restore whose process is killed in the middle ends soon, with an error" {
        target "$PROGRAMS/torture" 5 48 "$T/torture" "$T/go"
        wait_for "grep -q ready $T/torture" 30
        dump process "$pid" --no-server
        kill_tree "$pid"
        wait_gone "$pid"
        env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=pread:12:pause STASIS_RESTORE_METHOD=gated \
                "$STASIS" restore process --path "$checkpoint" --no-server </dev/null >"$T/restore.out" \
                2>"$T/restore.err" 3>&- &
        restorer=$!
        wait_for "[ -e /proc/$pid ]"
        kill -9 "$pid"
        wait_for "! alive $restorer" 25
        run wait "$restorer"
        [ "$status" -ne 0 ]
        wait_gone "$pid"
}
