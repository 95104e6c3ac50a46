#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Dumps of Docker containers, by an engine of the test's own: what is in a checkpoint, that the container is as it was,
# whatever happens, and that nothing is left.
# shellcheck disable=SC2154,SC2016 # set by common.bash, docker.bash and bats; for wait_for to expand

bats_require_minimum_version 1.5.0
load common
load docker

setup_file() {
        docker_start || return 1
        docker_run counting >/dev/null || return 1
        # Enough memory for a dump to take a while.
        docker_run big '.Cmd = ["sh", "-c", "x=$(dd if=/dev/urandom bs=1M count=24 2>/dev/null | base64 -w0); touch /ready; while :; do sleep 0.05; done"]' \
                >/dev/null
}

teardown_file() {
        docker_stop
        docker_nothing_left
}

setup() {
        start_test
        P=$(mktemp -d /run/stasis-docker.XXXXXX) # plugins do not load from /tmp
        install -m 644 "$STASIS_BUILD/plugins/stasis-docker.so" "$P/"
        install -D -m 644 "$STASIS_BUILD/plugins/parts/docker.so" "$P/parts/docker.so"
        export STASIS_PLUGINS_LIB_DIR=$P DOCKER_HOST=unix://$DOCKER_SOCK
}

teardown() {
        end_test
        rm -rf "$P"
}

status() { docker_get "$1" .State.Status; }

# Runs, and runs on; nothing of a dump is left in the engine or in its CRIU's configuration.
undisturbed() {
        [ "$(status "$1")" = running ]
        docker_goes_on "$1"
        nothing_in_engine "$1"
}

nothing_in_engine() {
        [ -z "$(docker_api GET "/containers/$1/checkpoints" | jq -r '.[]?.Name')" ] || return 1
        [ ! -e "/proc/$DOCKER_PID/root/etc/criu/runc.conf" ]
}

# within SECONDS COMMAND…: runs it, and fails when it took longer.
within() {
        local begin=$EPOCHREALTIME limit=$1
        shift
        run --separate-stderr "$@" 3>&-
        awk -v begin="$begin" -v end="$EPOCHREALTIME" -v limit="$limit" 'BEGIN { exit !(end - begin < limit) }' ||
                { echo "took too long: $*" >&2; return 1; }
}

# numbers FILE: it has the numbers 1, 2, 3 …, none twice, none missing.
numbers() {
        awk '$1 != NR { print "line " NR ": " $1 > "/dev/stderr"; exit 1 }' "$1"
}

# The file of the container in the checkpoint, as $T/count.
saved_count() {
        tar -xf "$checkpoint/rootfs-diff.tar" -C "$T" --wildcards '*count'
}

@test "a dump holds memory, files and configuration, and leaves the container running" {
        dump docker counting --no-server --compression none --name n
        undisturbed counting
        [ -s "$checkpoint/inventory.img" ]
        [ -s "$checkpoint/descriptors.json" ]
        [ ! -e "$checkpoint/config.json" ]
        [ -z "$(find "$checkpoint" -mindepth 1 -type d)" ]
        [ "$(jq -r .inspect.Name "$checkpoint/docker.json")" = /counting ]
        [ "$(jq -r .inspect.Id "$checkpoint/docker.json")" = "$(docker_get counting .Id)" ]
        [ "$(jq -r .image.Id "$checkpoint/docker.json")" = "$(docker_get counting .Image)" ]
        [ "$(jq -r '.networks.none.Driver' "$checkpoint/docker.json")" = null ]
        [ "$(jq -r '.rootfs + " " + .storage_driver' "$checkpoint/docker.json")" = "diff overlay2" ]
        saved_count
        numbers "$T/count"
        "$STASIS" checkpoint verify "$checkpoint"
}

@test "memory and files are of one moment: a restored container counts on without a gap" {
        dump docker counting --no-server
        "$STASIS" restore docker --name again --path "$checkpoint" --no-server >"$T/restore.out" 2>&1 3>&-
        docker_goes_on again
        cp "/proc/$(docker_get again .State.Pid)/root/count" "$T/count"
        docker_api DELETE "/containers/again?force=1"
        numbers "$T/count"
        undisturbed counting
}

@test "what is in no checkpoint is said: volumes, exec sessions" {
        docker_run vol ".HostConfig.Binds = [\"$T:/host:ro\", \"named:/data\"]" >/dev/null
        session=$(docker_api POST /containers/vol/exec '{"Cmd": ["sleep", "60"]}' | jq -r .Id)
        docker_api POST "/exec/$session/start" '{"Detach": true}'
        dump docker vol --no-server --name v
        grep -qx ".*not in the checkpoint: the volume $T at /host (read-only)" "$T/dump.err"
        grep -qx ".*not in the checkpoint: the volume named at /data" "$T/dump.err"
        grep -q "not in the checkpoint: 1 exec session" "$T/dump.err"
        run "$STASIS" checkpoint inspect "$checkpoint"
        [[ "$output" == *"Docker 2"* ]]
        [[ "$output" == *"bb:1"* ]]
        [[ "$output" == *"named at /data"* ]]
        [ "$("$STASIS" checkpoint inspect "$checkpoint" --json | jq -r '.summary[] | select(.label == "image").text')" = bb:1 ]
        docker_api DELETE "/containers/vol?force=1&v=1"
}

@test "--stop ends the container once the checkpoint stands; by the daemon, too" {
        start_daemon
        docker_run ends >/dev/null
        wait_for '[ "$(docker_count ends)" -gt 3 ]'
        dump docker ends --stop --compression none
        [ "$(docker_get ends '.State.Status + " " + (.State.ExitCode | tostring)')" = "exited 137" ]
        # It did nothing after its files were saved.
        upper=$(docker_get ends .GraphDriver.Data.UpperDir)
        saved_count
        cmp "$T/count" "$upper/count"
        nothing_in_engine ends
        run ! "$STASIS" dump docker ends 3>&-
        [[ "$output" == *"it is exited: only what runs can be dumped"*"docker start ends"* ]]
        docker_api DELETE "/containers/ends?force=1"
}

@test "what was paused stays paused; freeze and unfreeze say when there is nothing to do" {
        docker_run frozen >/dev/null
        [[ "$("$STASIS" unfreeze docker frozen --no-server 2>&1)" == *"is not paused"* ]]
        [[ "$("$STASIS" freeze docker frozen --no-server 2>&1)" == *"container frozen is paused"* ]]
        [[ "$("$STASIS" freeze docker frozen --no-server 2>&1)" == *"is paused already"* ]]
        dump docker frozen --no-server
        [ "$(status frozen)" = paused ]
        dump docker frozen --no-server --fast
        [ "$(status frozen)" = paused ]
        "$STASIS" unfreeze docker frozen --no-server
        undisturbed frozen
        docker_api DELETE "/containers/frozen?force=1"
        run ! "$STASIS" freeze docker frozen --no-server 3>&-
        [[ "$output" == *"No such container: frozen"* ]]
}

@test "--fast makes the same checkpoint without the engine" {
        dump docker counting --no-server --fast --compression none --name fast
        [ ! -s "$T/dump.err" ]
        undisturbed counting
        [ ! -e "$checkpoint/dump.log" ]
        [ -s "$checkpoint/descriptors.json" ]
        "$STASIS" restore docker --name quick --path "$checkpoint" --no-server >"$T/restore.out" 2>&1 3>&-
        docker_goes_on quick
        cp "/proc/$(docker_get quick .State.Pid)/root/count" "$T/count"
        docker_api DELETE "/containers/quick?force=1"
        numbers "$T/count"
}

@test "a directory that the engine does not see" {
        dump docker counting --no-server --dir "$P/unseen" --name u --compression none
        [ -s "$checkpoint/inventory.img" ]
        undisturbed counting
        dump docker counting --no-server --dir "$P/unseen" --name f --fast
        grep -q "not --fast: the engine does not see the directory" "$T/dump.err"
        undisturbed counting
}

@test "connections in use: the engine's CRIU is told for as long as it takes, and its failure is explained" {
        docker_run talks '.Cmd = ["sh", "-c", "ifconfig lo up; nc -l -p 7777 -e cat & sleep 0.3; (while :; do echo x; sleep 1; done) | nc 127.0.0.1 7777 >/count"]' >/dev/null
        wait_for 'grep -q " 01 " /proc/$(docker_get talks .State.Pid)/net/tcp'
        dump docker talks --no-server
        nothing_in_engine talks
        run --separate-stderr ! "$STASIS" dump docker talks --no-server --tcp-established=false --name bad 3>&-
        echo "$stderr"
        [[ "$stderr" == *"TCP"*"established"* ]]
        [ "$(status talks)" = running ]
        [ ! -e "$T/ckpt/bad.stasis" ]
        nothing_in_engine talks
        run --separate-stderr ! "$STASIS" dump docker talks --no-server --tcp-established=false --name bad --fast 3>&-
        [[ "$stderr" == *"TCP"*"established"* ]]
        [ "$(status talks)" = running ]
        docker_api DELETE "/containers/talks?force=1"
}

@test "ten at once" {
        local i pids=()
        start_daemon
        for i in {1..10}; do docker_run "ten$i" >/dev/null 3>&- & pids+=($!); done
        wait "${pids[@]}"
        pids=()
        for i in {1..10}; do
                "$STASIS" dump docker "ten$i" --name "ten$i" >"$T/ten$i" 2>&1 3>&- &
                pids+=($!)
        done
        for i in {1..10}; do
                wait "${pids[i - 1]}" || { cat "$T/ten$i"; return 1; }
                docker_goes_on "ten$i"
                [ -s "$T/ckpt/ten$i.stasis" ]
        done
        nothing_in_engine ten1
        pids=()
        for i in {1..10}; do docker_api DELETE "/containers/ten$i?force=1" & pids+=($!); done
        wait "${pids[@]}"
}

# busy: until the engine has paused it for the dump.
busy() {
        wait_for "[ \"\$(status $1)\" = paused ]"
}

@test "Ctrl-C in the middle leaves it running, and nothing behind" {
        wait_for '[ -e "/proc/$(docker_get big .State.Pid)/root/ready" ]' 30
        local way pid
        pid=$(docker_get big .State.Pid)
        for way in "" --fast; do
                # shellcheck disable=SC2086
                setsid "$STASIS" dump docker big --no-server --stop $way >"$T/dump.out" 2>&1 3>&- &
                victim=$!
                busy big
                wait_for "grep -q '^TracerPid:.*[1-9]' /proc/$pid/status" # by CRIU
                kill -INT "$victim"
                ! wait "$victim" || return 1
                [ "$(status big)" = running ]
                wait_for "! grep -q '^State:.D' /proc/$pid/status"
                nothing_in_engine big
                nothing_left
        done
}

@test "a worker that is killed in the middle: the container runs again, nothing is left" {
        start_daemon
        for way in "" --fast; do
                # shellcheck disable=SC2086
                "$STASIS" dump docker big --stop $way >"$T/dump.out" 2>&1 3>&- &
                client=$!
                busy big
                worker=$(pgrep -P "$daemon" -f worker)
                kill -KILL "$worker"
                ! wait "$client" || return 1
                wait_for '[ "$(status big)" = running ]' 20
                # Frozen behind the engine's back?
                wait_for '! grep -q "^State:.D" "/proc/$(docker_get big .State.Pid)/status"'
                wait_for '[ -z "$(find "$T/ckpt" -mindepth 1)" ]' 20
                wait_for '[ ! -e "/proc/$DOCKER_PID/root/etc/criu" ]'
        done
        dump docker big
        [ "$(status big)" = running ]
        nothing_in_engine big
}

@test "worker, daemon or client are killed at random moments: the container lives, nothing is left" {
        start_daemon
        local pid way stop victim limit n kills=4
        [ -z "${STASIS_STRESS:-}" ] || kills=30
        RANDOM=$((${STASIS_SEED:=$(date +%s)} % 32768))
        echo "STASIS_SEED=$STASIS_SEED" # of a failure
        docker_run prey '.Cmd = ["sh", "-c", "ifconfig lo up; nc -l -p 7777 -e cat & sleep 0.3; (while :; do echo x; sleep 1; done) |
                nc 127.0.0.1 7777 >/talk & i=0; while :; do i=$((i + 1)); echo $i >>/count; sleep 0.02; done"]' >/dev/null
        wait_for 'grep -q " 01 " "/proc/$(docker_get prey .State.Pid)/net/tcp"'
        for ((n = 0; n < kills; n++)); do
                pid=$(docker_get prey .State.Pid)
                way="" stop="" limit=900
                [ $((RANDOM % 2)) = 0 ] || way=--fast limit=450
                [ $((RANDOM % 2)) = 0 ] || stop=--stop
                # shellcheck disable=SC2086
                "$STASIS" dump docker prey $way $stop --name prey >"$T/dump.out" 2>&1 3>&- &
                client=$!
                case $((RANDOM % 3)) in
                0) victim=worker ;;
                1) victim=daemon ;;
                2) victim=client ;;
                esac
                sleep "0.$(printf %03d $((RANDOM % limit)))"
                echo "$n: $victim, dump $way $stop"
                case $victim in
                worker) pkill -KILL -P "$daemon" -f "stasis worker" || true ;;
                daemon) kill -KILL "$daemon" && wait "$daemon" || true ;;
                client) kill -KILL "$client" 2>/dev/null || true ;;
                esac
                wait "$client" || true
                [ "$victim" != daemon ] || start_daemon
                wait_for '[ -z "$(ls -A "$T/run/w")" ]' 30
                wait_for '[ "$(status prey)" != paused ]'
                if [ "$(status prey)" = exited ]; then
                        [ "$stop" ]
                        "$STASIS" restore docker --path "$T/ckpt/prey.stasis" >"$T/restore.out" 2>&1 3>&-
                        pid=$(docker_get prey .State.Pid)
                fi
                [ ! -e "$T/ckpt/prey.stasis" ] || "$STASIS" checkpoint verify "$T/ckpt/prey.stasis" 3>&-
                rm -f "$T/ckpt/prey.stasis"
                docker_goes_on prey
                grep -q " 01 " "/proc/$pid/net/tcp"
                [[ "$(nsenter --target "$pid" --net nft list ruleset 2>/dev/null)" != *@(stasis|CRIU)* ]]
                wait_for '[ -z "$(find "$T/ckpt" -mindepth 1)" ]'
                wait_for 'nothing_in_engine prey'
        done
        dump docker prey
        docker_api DELETE "/containers/prey?force=1"
}

@test "the runc of --fast is killed: its CRIU is waited for, the container runs on" {
        local pid
        pid=$(docker_get big .State.Pid)
        "$STASIS" dump docker big --no-server --fast >"$T/dump.out" 2>&1 3>&- &
        client=$!
        wait_for "grep -q '^TracerPid:.*[1-9]' /proc/$pid/status"
        kill -KILL "$(pgrep -f "^[^ ]*runc --root .* checkpoint .*$(docker_get big .Id)")"
        ! wait "$client" || return 1
        grep -q "runc was killed by signal 9" "$T/dump.out"
        [ "$(status big)" = running ]
        wait_for "! grep -q '^State:.D' /proc/$pid/status"
        sleep 0.3
        ! grep -q '^State:.D' "/proc/$pid/status" || return 1
        nothing_in_engine big
        nothing_left
}

@test "a container that somebody removes while its checkpoint is written is not lost" {
        docker_run gone '.Cmd = ["sh", "-c", "x=$(dd if=/dev/urandom bs=1M count=12 2>/dev/null | base64 -w0); touch /ready; while :; do sleep 0.05; done"]' >/dev/null
        wait_for '[ -e "/proc/$(docker_get gone .State.Pid)/root/ready" ]' 30
        "$STASIS" dump docker gone --no-server --stop --fast --name gone >"$T/dump.out" 2>&1 3>&- &
        client=$!
        wait_for '[ -n "$(find "$T/ckpt" -name docker.json)" ]'
        docker_api DELETE "/containers/gone?force=1"
        wait "$client" || { cat "$T/dump.out" >&2; return 1; }
        "$STASIS" checkpoint verify "$T/ckpt/gone.stasis"
}

@test "unfreeze gives back its network to a container that a killed dump has silenced" {
        # As docker_silence.c does it, right before the container is killed.
        local pid
        pid=$(docker_get counting .State.Pid)
        docker_api POST /containers/counting/pause
        nsenter --target "$pid" --net nft -f - <<<'table inet stasis-silence { chain in { type filter hook input priority -300; policy drop; }; }'
        "$STASIS" unfreeze docker counting --no-server
        tables=$(nsenter --target "$pid" --net nft list tables)
        [[ "$tables" != *stasis* ]] || { echo "$tables" >&2; return 1; }
        undisturbed counting
}

@test "without its plugin there is no such command" {
        rm "$P/stasis-docker.so"
        run ! "$STASIS" dump docker counting --no-server 3>&-
        [[ "$output" == *"unknown type 'docker'"* ]]
        [[ "$("$STASIS" dump --help)" != *docker* ]]
}

@test "query shows containers; those that are named, too" {
        run --separate-stderr "$STASIS" query docker --no-server 3>&-
        [[ "${lines[0]}" =~ ^NAME\ +ID\ +STATUS\ +PID\ +IMAGE\ +NETWORKS\ +VOLUMES\ +PROBLEMS ]]
        grep -qE "^counting +[0-9a-f]{12} +running +$(docker_get counting .State.Pid) +bb:1 +none" <<<"$output"
        [ "$("$STASIS" query docker counting --no-server --json | jq -r '.Docker.Containers[].Name')" = counting ]
        run ! "$STASIS" query docker counting nobody --no-server 3>&-
        [[ "$output" == *"No such container: nobody"* ]]
        run "$STASIS" check 3>&-
        [[ "$output" == *"docker engine"*"docker storage driver"*overlay2*"docker CRIU"*/criu* ]]
}

@test "an engine that hangs is told within two seconds" {
        kill -STOP "$DOCKER_PID"
        within 3 "$STASIS" dump docker counting --no-server
        kill -CONT "$DOCKER_PID"
        [ "$status" -ne 0 ]
        [[ "$stderr" == *"did not answer"*"within 2 s"* ]]
        nothing_left
}

@test "an engine that is down, or without experimental features, says so" {
        docker_down
        within 2 "$STASIS" dump docker counting --no-server
        [ "$status" -ne 0 ]
        [[ "$stderr" == *"the Docker engine does not run at unix://$DOCKER_SOCK"* ]]
        nothing_left
        cp "$DOCKER_DIR/options" "$DOCKER_DIR/options.all"
        grep -v experimental "$DOCKER_DIR/options.all" >"$DOCKER_DIR/options"
        docker_up
        docker_api POST /containers/counting/start
        within 2 "$STASIS" dump docker counting --no-server
        [ "$status" -ne 0 ]
        [[ "$stderr" == *"experimental features are off"*"/etc/docker/daemon.json"*"restart dockerd"* ]]
        [ "$(status counting)" = running ]
        nothing_left
        [[ "$("$STASIS" query docker counting --no-server)" == *"experimental features are off"* ]]
        docker_down
        mv "$DOCKER_DIR/options.all" "$DOCKER_DIR/options"
        docker_up
        docker_api POST /containers/counting/start
}
