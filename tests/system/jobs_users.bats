#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Jobs as people have them: shells with children, killed, frozen, restored; names that are wrong; users of a group.
# shellcheck disable=SC2154,SC2016,SC2030,SC2031 # set by common.bash and bats; the jobs' own variables

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }

teardown() {
        "$STASIS" kill --all --yes >/dev/null 2>&1 || true
        end_test
}

of() { "$STASIS" job inspect "$1" --json | jq -r "$2"; }

# A shell that waits for a child which outlives it; sets $pid and $child.
shell_job() { # shell_job JID [FLAG…]
        "$STASIS" run process --jid "$@" -- sh -c 'while :; do sleep 1000; done' >/dev/null 3>&-
        pid=$(of "$1" .pid)
        child_of_job
        targets+=("$pid" "$child")
}

child_of_job() {
        wait_for "[ -n \"\$(cat /proc/$pid/task/$pid/children)\" ]"
        child=$(tr -d ' ' <"/proc/$pid/task/$pid/children")
}

@test "kill ends all that a job has, and its PIDs are free for a restore at once" {
        start_daemon
        shell_job tree
        dump job tree
        for _ in 1 2 3; do
                [ "$("$STASIS" kill tree)" = "killed job tree (process $pid)" ]
                restore job tree
                alive "$pid"
                alive "$child"
        done
        "$STASIS" kill -s KILL tree
        wait_for "! alive $child"
        [[ "$("$STASIS" kill tree)" == "nothing to kill: job tree is exited" ]]
}

@test "what a job has left is ended by a kill; nobody else is" {
        start_daemon
        shell_job left
        shell_job other
        other=$pid others_child=$child
        pid=$(of left .pid)
        child_of_job
        dump job left
        kill -9 "$pid"
        wait_for "[ \"\$($STASIS job inspect left --json | jq -r .state)\" = exited ]"
        alive "$child"
        run "$STASIS" restore job left 3>&-
        [ "$status" -ne 0 ]
        [[ $output == *"PID $pid is taken by"* ]]
        [ "$("$STASIS" kill left)" = "killed what job left had left: 1 process" ]
        restore job left
        alive "$child"
        alive "$other"
        alive "$others_child"
}

@test "a job that dies is restored by its policy although its children live on" {
        start_daemon
        shell_job policy --restart=checkpoint
        dump job policy
        for n in 1 2; do
                kill -9 "$pid"
                # Without a second attempt.
                wait_for "[ \"\$($STASIS job inspect policy --json | jq -r '.state + (.restarts | tostring)')\" = running$n ]"
                alive "$pid"
                alive "$child"
        done
        # Somebody else's end of it is none of the policy's business.
        "$STASIS" kill policy
        sleep 0.3
        [ "$(of policy .state)" = exited ]
}

@test "kill gives up what a policy still means to do" {
        start_daemon
        shell_job patient --restart=checkpoint
        dump job patient
        # Without its checkpoint it stays as it is, until there is one again.
        mv "$checkpoint" "$T/kept"
        kill -9 "$pid"
        wait_for "$STASIS job inspect patient | grep -q ^problem"
        "$STASIS" kill patient
        stop_daemon
        mv "$T/kept" "$checkpoint"
        start_daemon
        sleep 1
        [ "$(of patient .state)" = exited ]
        restore job patient
        alive "$child"
}

@test "a frozen job can be killed" {
        start_daemon
        shell_job frozen
        "$STASIS" freeze job frozen >/dev/null
        "$STASIS" kill frozen
        [ "$(of frozen .state)" = exited ]
        wait_for "! alive $pid && ! alive $child"
}

@test "a name that is empty is no wish for any name" {
        start_daemon
        run "$STASIS" run process --jid "" true 3>&-
        [ "$status" -eq 2 ]
        [[ $output == *"cannot be a job's name"* ]]
        run "$STASIS" manage process --jid "" $$ 3>&-
        [ "$status" -eq 2 ]
        [ "$("$STASIS" ps --json)" = "[]" ]
}
