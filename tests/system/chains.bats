#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Checkpoints that refer to earlier ones: what they cost, and that each of them can be restored whatever becomes of the
# others.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() {
        kill_job
        end_test
}

# A job "j" of so many MiB, of which SIGUSR1 changes every 20th page; what it writes tells its memory.
run_job() { # run_job MIB
        "$STASIS" run process --jid j "${@:2}" -- /usr/bin/python3 "$BATS_TEST_DIRNAME/changing_job.py" \
                "$T/told" "$1" 1 >"$T/run.out" 3>&-
        wait_for "[ -s $T/told ]"
        find_job
}

find_job() {
        job=$("$STASIS" ps --json | jq '.[0].pid')
        targets+=("$job")
}

kill_job() {
        [ -z "${job:-}" ] || kill_tree "$job"
}

# tell SIGNAL: prints what the job says of its memory.
tell() {
        rm -f "$T/told"
        kill "-$1" "$job"
        wait_for "[ -s $T/told ]" >&2
        cat "$T/told"
}

# save [ARGUMENT…]: the next checkpoint of the job; ${paths[N]}, ${memory[N]}.
save() {
        memory+=("$(tell USR1)")
        dump job j "$@"
        paths+=("$checkpoint")
}

size() { stat -c %s "$1"; }
known() { "$STASIS" checkpoints j --json; }

# restores N: the Nth checkpoint brings back what was saved in it.
restores() {
        "$STASIS" kill j >/dev/null 2>&1 3>&- || true
        restore job j --path "${paths[$1]}"
        [ "$(tell USR2)" = "${memory[$1]}" ]
}

@test "the second checkpoint of a job holds what has changed" {
        start_daemon
        run_job 32
        save
        save
        save
        [ $(($(size "${paths[1]}") * 100)) -lt $(($(size "${paths[0]}") * 15)) ]
        [ "$(known | jq -r '.[1].parent')" = "${paths[0]}" ]
        [ "$(known | jq -c '[.[].ancestors]')" = '[2,1,0]' ]
        [ "$("$STASIS" checkpoints j | awk '{ print $(NF - 1) }' | xargs)" = "NEEDS 2 1 -" ]
        "$STASIS" checkpoint inspect "${paths[2]}" --json |
                jq -e --arg a "${paths[1]}" --arg b "${paths[0]}" '.parent == $a and .chain == [$a, $b]'

        # The oldest goes: the next one takes over what it had, the one after that finds it there.
        "$STASIS" checkpoint delete "$(known | jq -r '.[2].id')"
        [ ! -e "${paths[0]}" ]
        [ "$(known | jq -c '[.[].ancestors]')" = '[1,0]' ]
        [ "$(known | jq '.[1].size')" = "$(size "${paths[1]}")" ]
        [ "$(size "${paths[2]}")" -lt 8000000 ]
        restores 1
        restores 2

        # An export needs nobody.
        "$STASIS" checkpoint export "${paths[2]}" "$T/alone.stasis"
        "$STASIS" checkpoint export "${paths[2]}" "$T/alone.tar.zst"
        rm -r "$T/ckpt"
        for i in stasis tar.zst; do
                "$STASIS" checkpoint verify "$T/alone.$i"
                paths=("" "" "$T/alone.$i")
                restores 2
        done
}

@test "--parent: by path and ID, with and without a daemon; what cannot be one is refused" {
        start_daemon
        run_job 8
        save --name a
        id=$(known | jq -r '.[0].id')
        save --name b
        save --name c --parent "$id"
        [ "$(known | jq -r '.[0].parent')" = "${paths[0]}" ]
        dump process "$job" --no-server --name d --parent "${paths[1]}"
        [ "$(size "$checkpoint")" -lt $(($(size "${paths[0]}") / 4)) ]
        [ "$("$STASIS" checkpoint inspect "$checkpoint" --json | jq -r '.chain | length')" = 2 ]

        run ! "$STASIS" dump job j --name e --parent nonsense
        [[ $output == *"no checkpoint of that ID"* ]]
        run ! "$STASIS" dump job j --name e --parent "$T/run.out"
        [[ $output == *"no checkpoint of the format image"* ]]
        run ! "$STASIS" dump job j --name e --parent "${paths[0]}" --compression zstd
        [[ $output == *"has no parent"* ]]
        cp "${paths[1]}" "$T/damaged.stasis"
        truncate -s -1 "$T/damaged.stasis"
        run ! "$STASIS" dump job j --name e --parent "$T/damaged.stasis"
        [[ $output == *"damaged"* ]]
        [ ! -e "$T/ckpt/e.stasis" ]
        alive "$job"

        # A parent of the daemon's choice is no condition.
        mv "${paths[0]}" "$T/away"
        save --name f
        [ "$(known | jq -c '.[0] | [.parent, .ancestors]')" = '[null,0]' ]
        grep -q 'made without a parent' "$T/daemon.log"
}

@test "a checkpoint in another directory refers to none here, the next one there to that" {
        start_daemon
        run_job 4
        save
        save --dir "$T/disk"
        [ "$(known | jq -c '.[0] | [.parent, .ancestors]')" = '[null,0]' ]
        save --dir "$T/disk/../disk/"
        [ "$(known | jq -r '.[0].parent')" = "${paths[1]}" ]
        save
        [ "$(known | jq -r '.[0].parent')" = "${paths[0]}" ]
        rm -r "$T/ckpt"
        restores 2
}

@test "Checkpoint.Parents=never" {
        start_daemon STASIS_CHECKPOINT_PARENTS=never
        run_job 4
        save
        save
        [ "$(known | jq -c '[.[].ancestors]')" = '[0,0]' ]
        save --compression zstd
        [ "$(known | jq -c '.[0].parent')" = null ]
}

@test "Checkpoint.MaxChain: a longer chain is ended in the background" {
        start_daemon STASIS_CHECKPOINT_MAX_CHAIN=2
        run_job 8
        save
        save
        save
        [ "$(known | jq -c '[.[].ancestors]')" = '[2,1,0]' ]
        save
        wait_for "[ \"\$($STASIS checkpoints j --json | jq -c '[.[].ancestors]')\" = '[0,2,1,0]' ]"
        [ "$(known | jq '.[0].size')" = "$(size "${paths[3]}")" ]
        save
        [ "$(known | jq -c '[.[].ancestors]')" = '[1,0,2,1,0]' ]
        rm "${paths[0]}" "${paths[1]}" "${paths[2]}"
        restores 4
        restores 3
}

@test "a policy that keeps three" {
        start_daemon
        run_job 8 --every 1s --keep 3
        wait_for "[ \$(grep -c 'dump .* done in' $T/daemon.log) -ge 7 ]" 30
        "$STASIS" job schedule j --every 0 >/dev/null
        # Once what is on its way is there.
        wait_for "[ \"\$($STASIS checkpoints j --json | jq -c '[.[].ancestors]')\" = '[2,1,0]' ]"
        wait_for "[ \$(find $T/ckpt -type f | wc -l) = 3 ]"
        known | jq -r '.[].path' >"$T/list"
        while read -r path; do
                "$STASIS" checkpoint verify "$path"
        done <"$T/list"
        run ! grep -E 'cannot be removed|made without' "$T/daemon.log"
}

@test "checkpoint delete and fold without a daemon" {
        start_daemon
        run_job 8
        save --name a
        save --name b
        save --name c
        stop_daemon
        "$STASIS" checkpoint delete "${paths[0]}"
        [ "$(find "$T/ckpt" -type f | wc -l)" = 2 ]
        "$STASIS" checkpoint fold "${paths[2]}"
        rm "${paths[1]}"
        "$STASIS" checkpoint verify "${paths[2]}"
        run ! "$STASIS" checkpoint delete "$T/run.out"
        [[ $output == *"not a checkpoint"* ]]
        [ -e "$T/run.out" ]
        run ! "$STASIS" checkpoint delete "$T/none"
        run ! "$STASIS" checkpoint fold "$T/run.out"
        "$STASIS" checkpoint delete "${paths[2]}"
        [ -z "$(ls -A "$T/ckpt")" ]
}

@test "a parent that is away, another image, or damaged: nothing is restored" {
        start_daemon
        run_job 4
        save --name a
        save --name b
        "$STASIS" kill j >/dev/null
        mv "${paths[0]}" "$T/away"
        run ! "$STASIS" restore job j
        [[ $output == *a.stasis* ]]
        [[ $output == *"checkpoint fold"* ]]
        "$STASIS" checkpoint export "$T/away" "${paths[0]}" # the same, with another ID
        run ! "$STASIS" restore job j
        [[ $output == *"another image"* ]]
        rm "${paths[0]}"
        head -c -100 "$T/away" >"${paths[0]}"
        run ! "$STASIS" restore job j
        [[ $output == *"damaged"* ]]
        [ ! -e "/proc/$job" ]
        mv "$T/away" "${paths[0]}"
        restores 1
        # What another one needs and cannot take over stays.
        dd if=/dev/zero of="${paths[1]}" bs=1 seek=100 count=50 conv=notrunc status=none
        run ! "$STASIS" checkpoint delete "${paths[0]}"
        [[ $output == *"delete ${paths[1]} first"* ]]
        [ -e "${paths[0]}" ]
        [ "$(known | jq length)" = 2 ]
        "$STASIS" checkpoint delete "${paths[1]}" "${paths[0]}"
        [ "$(known | jq length)" = 0 ]
}

# check_all: every checkpoint that is there is whole, and the next one leaves nothing hidden.
check_all() {
        known | jq -r '.[] | select(.missing | not).path' >"$T/list"
        while read -r path; do
                "$STASIS" checkpoint verify "$path" >/dev/null
        done <"$T/list"
}

@test "killed at any moment, the daemon and the worker leave all whole" {
        local i rounds=6 victim
        [ -z "${STASIS_STRESS:-}" ] || rounds=60
        RANDOM=23
        start_daemon STASIS_CHECKPOINT_MAX_CHAIN=3
        run_job 8
        save
        save
        for ((i = 0; i < rounds; i++)); do
                save
                ("$STASIS" checkpoint delete "$(known | jq -r '.[-1].id')" >/dev/null 2>&1 3>&- || true) &
                sleep "0.$(printf %03d $((RANDOM % 150)))"
                victim=$daemon
                if ((i % 2)); then
                        victim=$(pgrep -P "$daemon" -f 'stasis worker' | head -n 1) || true
                fi
                [ -z "$victim" ] || kill -9 "$victim" 2>/dev/null || true
                wait $! || true
                if ((i % 2 == 0)); then
                        wait "$daemon" 2>/dev/null || true
                        start_daemon STASIS_CHECKPOINT_MAX_CHAIN=3
                fi
                check_all
        done
        wait_for "! pgrep -P $daemon -f 'stasis worker'"
        save
        wait_for "[ -z \"\$(find $T/ckpt -name '.*.partial-*')\" ]"
        check_all
        restores $((${#paths[@]} - 1))
}
