#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Operations on one process tree wait for each other; those on neighbours do not.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash; each test is a subshell

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        background=""
}

teardown() {
        [ -z "$background" ] || kill -9 "$background" 2>/dev/null || true
        end_test
}

# first_dump: of $pid, in the background, its target frozen for three seconds from when this returns.
first_dump() {
        "$STASIS" dump process "$pid" --name first --compression tar >"$T/first.out" 2>&1 3>&- &
        background=$!
        wait_for "grep -q TracerPid:[[:space:]]*[1-9] /proc/$pid/status"
}

first_done() {
        wait "$background"
        background=""
        [ -e "$T/ckpt/first.tar" ]
}

@test "a second dump waits for the first, and says so" {
        counter
        start_slow_daemon
        first_dump
        dump process "$pid" --name second --compression tar --no-server
        grep -q "the dump of process $pid waits for the dump of process $pid to end" "$T/dump.err"
        first_done
        [ -e "$T/ckpt/second.tar" ]
        goes_on
        [ -z "$(ls -A "$T/run/frozen")" ]
}

@test "by the daemon, too; its log says so" {
        counter
        start_slow_daemon
        first_dump
        # The slow fault counts in each worker anew: the second one takes its three seconds, too.
        "$STASIS" dump process "$pid" --name second --compression tar 3>&-
        first_done
        [ -e "$T/ckpt/second.tar" ]
        grep -q "the dump of process $pid waits for the dump of process $pid to end" "$T/daemon.log"
        goes_on
}

@test "who waits can be interrupted, and has a deadline" {
        counter
        start_slow_daemon
        first_dump
        run timeout --foreground -s INT 0.5 "$STASIS" dump process "$pid" --name second --no-server 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"cancelled: process $pid goes on running"* ]]
        run timeout --foreground -s INT 0.5 "$STASIS" freeze process "$pid" 3>&-
        [ "$status" -ne 0 ]
        [ ! -e "$T/ckpt/first.tar" ]
        first_done
        [ "$(ls "$T/ckpt")" = first.tar ]
        goes_on
}

@test "a dump of a child excludes one of its parent; a neighbour is not held up" {
        # shellcheck disable=SC2016
        target sh -c 'for i in 1 2; do sleep 1000 & echo $!; done >"$0"; wait' "$T/children"
        wait_lines "$T/children" 1
        local parent=$pid
        mapfile -t children <"$T/children"
        start_slow_daemon
        pid=${children[0]}
        first_dump
        dump process "${children[1]}" --name neighbour --compression tar --no-server
        run ! grep -q waits "$T/dump.err"
        [ ! -e "$T/ckpt/first.tar" ]
        dump process "$parent" --name parent --compression tar --no-server
        grep -q "the dump of process $parent waits for" "$T/dump.err"
        first_done
}
