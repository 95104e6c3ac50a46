#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Containers as jobs: of runc, with the real runc in namespaces of the test's own; jobs_docker.bats has those of Docker.
# shellcheck disable=SC2154,SC2016 # set by common.bash; for wait_for and the containers' shells to expand

bats_require_minimum_version 1.5.0
load common
load runc

setup() {
        start_test
        runc_start
        runc_plugins runc
        root=(--root "$RUNC_ROOT")
}

teardown() {
        runc_cleanup
        end_test
}

# of JID FILTER: what is known of a job.
of() { "$STASIS" job list --json | jq -r --arg jid "$1" ".[] | select(.jid == \$jid) | $2"; }

# becomes JID STATE
becomes() { wait_for "[ \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"$1\") | .state')\" = $2 ]"; }

# fails STATUS ARGUMENT…: of stasis; its messages are in $stderr.
fails() { run "-$1" --separate-stderr "$STASIS" "${@:2}" 3>&-; }

# ends STATUS PID: a background process of ours.
ends() {
        local code=0
        wait "$2" || code=$?
        [ "$code" = "$1" ] || { echo "ended with $code" >&2; cat "$T"/*.out "$T/err" >&2; return 1; }
}

# A container that counts on its output, and ends with 42 once there is /end.
ending='.process.args = ["sh", "-c",
        "i=0; while [ ! -e /end ]; do i=$((i + 1)); echo $i; sleep 0.02; done; echo over; exit 42"]'

# Every number once, in order, from 1 on: from the memory, not from the beginning.
counts_on() { grep -x "[0-9]*" "$1" >"$T/numbers" && diff "$T/numbers" <(seq "$(wc -l <"$T/numbers")"); }

@test "a container is run as a job, dumped, ended, restored attached, and its exit code comes" {
        start_daemon
        runc_bundle "$T/b1" "$ending"
        "$STASIS" run runc --jid web "${root[@]}" --bundle "$T/b1" --attachable --out "$T/out" >"$T/run.out" 3>&-
        grep -q 'running job web' "$T/run.out"
        [ "$(runc_state web)" = running ]
        [ "$(of web .pid)" = "$(runc_pid web)" ]
        "$STASIS" ps | grep -E '^web +runc +'"$(runc_pid web)"
        wait_lines "$T/out" 3
        dump job web
        [ "$(runc_state web)" = running ]
        dump job web --stop
        [ "$(runc_state web)" = gone ]
        becomes web checkpointed
        timeout -k 1 20 "$STASIS" restore job web --attach >"$T/attached" 2>"$T/err" </dev/null 3>&- &
        attached=$!
        wait_for '[ "$(runc_state web)" = running ]'
        [ "$(of web .pid)" = "$(runc_pid web)" ]
        wait_lines "$T/attached" 3
        touch "$T/b1/rootfs/end"
        ends 42 "$attached"
        [ "$(tail -n 1 "$T/attached")" = over ]
        [ "$(tail -n 1 "$T/out")" = over ]
        counts_on "$T/out"
        wait_for '[ "$(runc_state web)" = gone ]'
        becomes web exited
        "$STASIS" delete web >/dev/null
        [ -z "$(of web .jid)" ]
}

@test "input, output and exit code of a container that is attached to; what cannot be started says why" {
        start_daemon
        runc_bundle "$T/b1" '.process.args = ["sh", "-c", "read line; echo got $line; echo bad >&2; exit 7"]'
        run -7 --separate-stderr "$STASIS" run runc c1 "${root[@]}" --bundle "$T/b1" --attach <<<hello 3>&-
        [ "$output" = "got hello" ]
        [[ $stderr == *bad* ]]
        [ "$(runc_state c1)" = gone ]
        # By the command line itself.
        cd "$T/b1"
        run -7 --separate-stderr "$STASIS" run runc c1 "${root[@]}" --no-server <<<here 3>&-
        [ "$output" = "got here" ]
        # A name for both when there is none.
        "$STASIS" run runc "${root[@]}" >"$T/run.out" 3>&-
        jid=$(sed -n 's/^running job \([^,]*\),.*/\1/p' "$T/run.out")
        wait_for "[ \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"$jid\") | .state')\" = exited ]"

        fails 1 run runc c2 "${root[@]}" --bundle "$T/nothing"
        [[ $stderr == *"is no bundle"*"--bundle"* ]]
        runc_bundle "$T/b2" '.process.args = ["/nowhere"]'
        fails 1 run runc c2 "${root[@]}" --bundle "$T/b2"
        [[ $stderr == */nowhere* ]]
        [ "$(runc_state c2)" = gone ]
        runc_bundle "$T/b2" '.process.terminal = true'
        fails 1 run runc c2 "${root[@]}" --bundle "$T/b2"
        [[ $stderr == *"asks for a terminal"*--attach* ]]
        fails 2 run runc c2 "${root[@]}" --bundle "$T/b2" --detach
        [ -z "$(of c2 .jid)" ]
}

@test "a container that somebody else runs is managed, also before it is there; kill and delete" {
        start_daemon
        runc_bundle "$T/b1"
        fails 1 manage runc c1 "${root[@]}"
        [[ $stderr == *"there is no container c1"* ]]
        "$STASIS" manage runc c1 "${root[@]}" --jid mine --upcoming >"$T/manage.out" 2>&1 3>&- &
        managing=$!
        becomes mine starting
        alive "$managing"
        runc_run c1 "$T/b1"
        wait "$managing"
        becomes mine running
        [ "$(of mine .pid)" = "$(runc_pid c1)" ]
        fails 1 manage runc c1 "${root[@]}"
        [[ $stderr == *"container c1 is a job already: mine"* ]]
        fails 1 run runc c1 "${root[@]}" --bundle "$T/b1"
        [[ $stderr == *"there is a container c1 already"*"stasis manage runc c1"* ]]
        runc_goes_on "$T/b1"
        dump job mine
        "$STASIS" kill mine >/dev/null
        becomes mine lost
        runc_do delete c1
        restore job mine
        becomes mine running
        [ "$(of mine .pid)" = "$(runc_pid c1)" ]
        fails 1 delete mine
        "$STASIS" kill mine >/dev/null
        wait_for '[ "$(runc_state c1)" = gone ]'
        becomes mine exited
        "$STASIS" delete mine >/dev/null
        # Waiting can be given up.
        "$STASIS" manage runc c9 "${root[@]}" --jid never --upcoming >"$T/manage.out" 2>&1 3>&- &
        managing=$!
        becomes never starting
        kill -INT "$managing"
        if wait "$managing"; then false; fi
        wait_for '[ -z "$(of never .jid)" ]'
}

@test "a restore that is no job is attached to; the container is in the list of runc as long as it runs" {
        start_daemon
        runc_bundle "$T/b1" "$ending"
        runc_run c1 "$T/b1"
        wait_lines "$T/c1.out" 2
        dump runc c1 "${root[@]}" --stop
        timeout -k 1 20 "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --attach >"$T/attached" 2>"$T/err" \
                </dev/null 3>&- &
        attached=$!
        wait_lines "$T/attached" 2
        [ "$(runc_do list --format json | jq -r '.[] | .id + " " + .status')" = "c1 running" ]
        touch "$T/b1/rootfs/end"
        ends 42 "$attached"
        [ "$(runc_do list --format json)" = null ]
        counts_on <(cat "$T/c1.out" "$T/attached")
}

@test "a container on a terminal: attached, resized, dumped, and restored on a new one" {
        start_daemon
        runc_bundle "$T/b1" '.process.terminal = true |
                .process.args = ["sh", "-c", "while [ ! -e /end ]; do stty size; sleep 0.05; done; exit 5"]'
        run -5 timeout -k 1 20 script -qec "stty rows 33 cols 77; (sleep 1; touch $T/b1/rootfs/end) &
                $STASIS run runc c1 --root $RUNC_ROOT --bundle $T/b1 --attach" "$T/typescript" </dev/null 3>&-
        grep -q '33 77' "$T/typescript"
        [ "$(runc_state c1)" = gone ]
        rm "$T/b1/rootfs/end"
        script -qec "$STASIS run runc --jid term --root $RUNC_ROOT --bundle $T/b1 --attachable" /dev/null \
                </dev/null >/dev/null 3>&-
        dump job term --stop
        becomes term checkpointed
        run -5 timeout -k 1 20 script -qec "stty rows 44 cols 99; (sleep 1.5; touch $T/b1/rootfs/end) &
                $STASIS restore job term --attach" "$T/typescript" </dev/null 3>&-
        grep -q '44 99' "$T/typescript"
}

@test "what a job has left behind goes with it; its output has a place" {
        start_daemon
        runc_bundle "$T/b1" "$ending"
        "$STASIS" run runc --jid web "${root[@]}" --bundle "$T/b1" >/dev/null 3>&-
        wait_lines "$T/log/stasis-output-web.log" 2
        pid=$(of web .pid)
        # Nobody is there to remove it at its end.
        supervisor=$(pgrep -f "stasis-supervisor --dir=$T/run")
        waiters=$(pgrep -P "$supervisor" | grep -vx "$pid") || true
        # shellcheck disable=SC2086 # a list
        kill -9 "$supervisor" $waiters
        "$STASIS" kill web >/dev/null
        wait_for '! alive "$pid"'
        wait_for '[ "$(of web .state)" != running ]'
        [ "$(runc_state web)" = stopped ]
        "$STASIS" delete web >/dev/null
        [ "$(runc_state web)" = gone ]
}
