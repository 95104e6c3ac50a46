#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Docker containers as jobs, with an engine of the test's own.
# shellcheck disable=SC2153,SC2154,SC2016 # set by common.bash and docker.bash; for wait_for and the containers' shells

bats_require_minimum_version 1.5.0
load common
load docker

setup_file() { docker_start -- --live-restore; }

teardown_file() {
        docker_stop
        docker_nothing_left
}

setup() {
        start_test
        # Plugins load only from below directories that nobody but root can change: /tmp is none.
        P=$(mktemp -d /run/st.XXXXXX)
        mkdir "$P/parts"
        install -m 644 "$STASIS_BUILD/plugins/stasis-docker.so" "$P/"
        install -m 644 "$STASIS_BUILD/plugins/parts/docker.so" "$P/parts/"
        export STASIS_PLUGINS_LIB_DIR=$P DOCKER_HOST=unix://$DOCKER_SOCK
}

teardown() {
        local name
        for name in $(docker_api GET '/containers/json?all=1' | jq -r '.[].Id'); do
                docker_api DELETE "/containers/$name?force=1" || true
        done
        end_test
        rm -rf "${P:?}"
}

of() { "$STASIS" job list --json | jq -r --arg jid "$1" ".[] | select(.jid == \$jid) | $2"; }

becomes() { wait_for "[ \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"$1\") | .state')\" = $2 ]" 20; }

fails() { run "-$1" --separate-stderr "$STASIS" "${@:2}" 3>&-; }

ends() {
        local code=0
        wait "$2" || code=$?
        [ "$code" = "$1" ] || { echo "ended with $code" >&2; cat "$T"/*.out "$T/err" >&2; return 1; }
}

ending='i=0; while [ ! -e /end ]; do i=$((i + 1)); echo $i; sleep 0.05; done; echo over; exit 42'

counts_on() { grep -x "[0-9]*" "$1" >"$T/numbers" && diff "$T/numbers" <(seq "$(wc -l <"$T/numbers")"); }

@test "a container is run as a job, dumped, ended, restored attached, and its exit code comes" {
        start_daemon
        "$STASIS" run docker --jid web --network none --attachable --out "$T/out" bb:1 sh -c "$ending" >"$T/run.out" 3>&-
        [ "$(of web .pid)" = "$(docker_get web .State.Pid)" ]
        wait_lines "$T/out" 3
        dump job web --stop
        [ "$(docker_get web .State.Status)" = exited ]
        becomes web checkpointed
        timeout -k 1 30 "$STASIS" restore job web --attach >"$T/attached" 2>"$T/err" </dev/null 3>&- &
        attached=$!
        becomes web running
        [ "$(of web .pid)" = "$(docker_get web .State.Pid)" ]
        wait_lines "$T/attached" 3
        touch "/proc/$(of web .pid)/root/end"
        ends 42 "$attached"
        [ "$(tail -n 1 "$T/attached")" = over ]
        [ "$(tail -n 1 "$T/out")" = over ]
        counts_on "$T/out"
        becomes web exited
        [ "$(docker_get web .State.Status)" = exited ]
        "$STASIS" delete web >/dev/null
        [ -z "$(docker_get web .Id 2>/dev/null)" ]
        # Its own signal ends it, and its output has a place.
        "$STASIS" run docker --jid gentle --network none bb:1 sh -c 'trap "exit 9" TERM; echo up; while :; do sleep 0.05; done' \
                >/dev/null 3>&-
        wait_lines "$T/log/stasis-output-gentle.log" 0
        "$STASIS" kill gentle >"$T/kill.out"
        grep -q "sent SIGTERM to job gentle" "$T/kill.out"
        becomes gentle exited
        [ "$(of gentle .exit_code)" = 9 ]
        # Without the plugin the job goes all the same.
        mv "$P/stasis-docker.so" "$P/gone"
        "$STASIS" delete gentle >"$T/delete.out"
        mv "$P/gone" "$P/stasis-docker.so"
        grep -q "warning: something of job gentle may be left: " "$T/delete.out"
        [ -z "$(of gentle .jid)" ]
        [ -n "$(docker_get gentle .Id)" ]
}

@test "input, output, terminal and exit code; what cannot be started says why" {
        start_daemon
        run -7 --separate-stderr "$STASIS" run docker --network none --attach bb:1 \
                sh -c 'cat; echo bad >&2; exit 7' <<<hello 3>&-
        [ "$output" = hello ]
        [[ $stderr == *bad* ]]
        run -3 --separate-stderr "$STASIS" run docker --network none --no-server --name here -e A=b -w /tmp bb:1 \
                sh -c 'echo $A $PWD; exit 3' </dev/null 3>&-
        [ "$output" = "b /tmp" ]
        [ "$(docker_get here .State.ExitCode)" = 3 ]
        run -5 timeout -k 1 20 script -qec "stty rows 33 cols 77; $STASIS run docker --network none --attach bb:1 \
                sh -c 'sleep 0.5; stty size; exit 5'" "$T/typescript" </dev/null 3>&-
        grep -q '33 77' "$T/typescript"

        fails 1 run docker --jid no nosuch:1
        [[ $stderr == *"has no image nosuch:1"*"docker pull nosuch:1"* ]]
        fails 1 run docker --jid no --network none bb:1 /nowhere
        [[ $stderr == */nowhere* ]]
        [ -z "$(of no .jid)" ]
        fails 1 run docker --name here --network none bb:1 sh
        [[ $stderr == *"stasis manage docker here"* ]]
        [ -z "$(docker_get no .Id 2>/dev/null)" ]
}

@test "a container that somebody else runs is managed, also before it is there; kill" {
        start_daemon
        fails 1 manage docker c1
        "$STASIS" manage docker c1 --jid mine --upcoming >"$T/manage.out" 2>&1 3>&- &
        managing=$!
        becomes mine starting
        alive "$managing"
        docker_run c1
        wait "$managing"
        becomes mine running
        [ "$(of mine .pid)" = "$(docker_get c1 .State.Pid)" ]
        # Under whatever name.
        fails 1 manage docker c1
        [[ $stderr == *"container c1 is a job already: mine"* ]]
        fails 1 manage docker "$(docker_get c1 .Id)" --jid again
        [[ $stderr == *"is a job already: mine"* ]]
        [ -z "$(of again .jid)" ]
        docker_goes_on c1
        dump job mine --stop
        becomes mine checkpointed
        restore job mine
        becomes mine running
        docker_goes_on c1
        "$STASIS" kill mine >"$T/kill.out"
        # A first process without a handler does not get it.
        grep -q "job mine did not end within 5 s" "$T/kill.out"
        becomes mine exited
        [ "$(docker_get c1 .State.Status)" = exited ]
        "$STASIS" delete mine >/dev/null
        # No job, but attached to.
        timeout -k 1 30 "$STASIS" restore docker --path "$checkpoint" --attach >"$T/attached" 2>"$T/err" </dev/null 3>&- &
        attached=$!
        wait_for '[ "$(docker_get c1 .State.Status)" = running ]'
        docker_goes_on c1
        docker_api POST /containers/c1/kill
        ends 137 "$attached"
}

@test "an engine that is restarted, without its containers and with them" {
        start_daemon
        "$STASIS" run docker --jid web --network none --out "$T/out" bb:1 sh -c 'echo up; sleep 100' >/dev/null 3>&-
        "$STASIS" run docker --jid on --network none --out "$T/on" bb:1 sh -c "$ending" >/dev/null 3>&-
        wait_lines "$T/out" 0
        wait_lines "$T/on" 0
        shim=$(ps -o ppid= -p "$(of on .pid)" | tr -d ' ')
        kill -TERM "$DOCKER_PID"
        wait_for '! alive "$DOCKER_PID"' 20
        kill -KILL "$(of web .pid)"
        # Where the sockets of its shims are: in the mount namespace that they share.
        mapfile -t options <"$DOCKER_DIR/options"
        nsenter --target "$shim" --mount --uts --wdns=/ dockerd "${options[@]}" </dev/null >>"$DOCKER_DIR/dockerd.log" 2>&1 3>&- &
        DOCKER_PID=$!
        disown "$DOCKER_PID"
        wait_for 'docker_api GET /_ping' 20
        becomes web exited
        # The other one went on, and its output comes again.
        [ "$(of on .pid)" = "$(docker_get on .State.Pid)" ]
        wait_lines "$T/on" $(($(lines "$T/on") + 3))
        touch "/proc/$(of on .pid)/root/end"
        becomes on exited
        [ "$(tail -n 1 "$T/on")" = over ]
}
