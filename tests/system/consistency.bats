#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# A dump of a target that runs on is a picture of one moment, also when the machine is busy and the copying slow.
# shellcheck disable=SC2154 # set by common.bash

load common

MIB=64

setup() {
        start_test
        loads=()
}

teardown() {
        kill "${loads[@]}" 2>/dev/null || true
        end_test
}

# Two loops that keep two processors busy.
load_machine() {
        local i
        for i in 1 2; do
                sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 3>&- &
                loads+=($!)
        done
}

# Does the target find its memory to be of one moment? Asks it.
consistent() {
        local answer
        rm -f "$T/answer"
        kill -USR1 "$pid"
        wait_for "[ -s $T/answer ]" 30 || return 1
        answer=$(cat "$T/answer")
        [ "$answer" = consistent ] || { echo "$answer"; return 1; }
}

# dump_and_look TIMES: dumps the target as it runs, ends it, restores it and asks it, so many times.
dump_and_look() {
        local i format formats=(image none zstd)
        target "$PROGRAMS/generations" "$MIB" "$T/answer"
        # It waits for the signal before it starts its threads.
        wait_for "[ \"\$(ls /proc/$pid/task | wc -l)\" = 3 ]"
        consistent
        load_machine
        for ((i = 1; i <= $1; i++)); do
                format=${formats[i % 3]}
                dump process "$pid" --name "copy$i" --compression "$format"
                consistent || { echo "dump $i has damaged the target"; return 1; }
                kill -9 "$pid"
                wait_gone "$pid"
                restore process --path "$checkpoint"
                consistent || { echo "copy $i of $1 ($format) is not of one moment"; return 1; }
                rm -rf "$checkpoint"
        done
}

@test "copies of a busy target are of one moment, on a busy machine" {
        start_daemon
        dump_and_look "$([ -n "${STASIS_STRESS:-}" ] && echo 30 || echo 5)"
}

@test "copies of a busy target are of one moment, also when they are read slowly" {
        # Each read takes 10 ms longer: when CRIU has written its last page, tens of MiB are still in the pipe.
        start_daemon LD_PRELOAD="$PROGRAMS/fault.so" STASIS_FAULT=read:0:slow \
                ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0"
        dump_and_look "$([ -n "${STASIS_STRESS:-}" ] && echo 30 || echo 3)"
}
