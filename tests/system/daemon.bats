#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The daemon: its start and its end, its socket, what it inherits to others, what it leaves behind.
# shellcheck disable=SC2154,SC2030,SC2031 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# ended CODE: the daemon has, with that code.
ended() {
        local code=0
        wait "$daemon" || code=$?
        daemon=""
        [ "$code" -eq "$1" ] || { echo "the daemon exited with $code"; cat "$T/daemon.log"; return 1; }
}

operations() { "$STASIS" daemon status --json | jq '.Operations // [] | length'; }

descriptors() { find "/proc/$1/fd" -mindepth 1 | wc -l; }

no_children() {
        wait_for "[ -z \"\$(cat /proc/$daemon/task/$daemon/children)\" ]" 5
}

@test "start, status, check, stop" {
        run "$STASIS" daemon status 3>&-
        [ "$status" -eq 1 ]
        start_daemon
        [[ "$("$STASIS" daemon status)" == *"is running at $T/sock: process $daemon,"* ]]
        [ "$("$STASIS" daemon status --json | jq .PID)" = "$daemon" ]
        "$STASIS" daemon check
        "$STASIS" daemon check --full
        [ "$("$STASIS" daemon stop)" = "stopped daemon $daemon" ]
        ended 0
        [ ! -e "$T/sock" ]
        run "$STASIS" daemon stop 3>&-
        [ "$status" -eq 1 ]
        # It stays in the foreground, says nothing on stdout, and logs to stderr.
        "$STASIS" daemon start >"$T/out" 2>"$T/err" 3>&- &
        daemon=$!
        wait_for "$STASIS daemon status"
        stop_daemon
        [ ! -s "$T/out" ]
        grep -q "serves $T/sock" "$T/err"
        grep -q 'stopped' "$T/err"
}

@test "SIGTERM and SIGINT end it with 0, and its socket with it" {
        for signal in TERM INT; do
                start_daemon
                kill -"$signal" "$daemon"
                ended 0
                [ ! -e "$T/sock" ]
        done
}

@test "unfinished checkpoints that killed writers left are removed at its start; nothing else is touched" {
        local kept
        kept=(.locked.partial-1 .link.partial-2 .users.partial-3 .other-partial-4 .x.partial-notone whole.tar
                "$T/elsewhere/file")
        mkdir -p "$T/ckpt/.left.partial-a-1" "$T/elsewhere"
        touch "$T/ckpt/.left.partial-a-1/pages-1.img" "$T/ckpt/.left.partial-a2" "$T/elsewhere/file"
        cd "$T/ckpt"
        touch .locked.partial-1 .users.partial-3 .other-partial-4 .x.partial-notone whole.tar
        ln -s "$T/elsewhere" .link.partial-2
        ln -s "$T/elsewhere/file" .left.partial-a-1/link
        chown 12345 .users.partial-3
        flock .locked.partial-1 sleep 1000 3>&- &
        targets+=($!)
        wait_for "! flock -n $T/ckpt/.locked.partial-1 true"
        start_daemon
        wait_for "grep -q 'removed 2 unfinished or deleted checkpoints from $T/ckpt' $T/daemon.log"
        [ ! -e .left.partial-a-1 ] && [ ! -e .left.partial-a2 ]
        for file in "${kept[@]}"; do
                [ -e "$file" ] || { echo "removed: $file"; return 1; }
        done
}

# What AddressSanitizer finds left then fails the test run.
@test "told twice to end it does not wait for what runs, and forgets it" {
        counter
        start_slow_daemon
        "$STASIS" dump process "$pid" >"$T/first.out" 2>&1 3>&- &
        first=$!
        "$STASIS" run process --jid waits sleep 1000 >/dev/null 3>&-
        targets+=("$("$STASIS" job list --json | jq '.[0].pid')")
        "$STASIS" dump job waits >"$T/second.out" 2>&1 3>&- &
        second=$!
        wait_for "[ \"\$(operations)\" = 2 ]"
        kill "$daemon"
        kill "$daemon"
        ended 0
        for each in "$first" "$second"; do
                code=0
                wait "$each" || code=$?
                [ "$code" -eq 1 ]
        done
        goes_on
}

@test "an idle daemon stops at once" {
        start_daemon
        begin=${EPOCHREALTIME/./}
        kill "$daemon"
        ended 0
        [ $((${EPOCHREALTIME/./} - begin)) -lt 1000000 ]
}

@test "the socket and everything of the daemon is its user's only" {
        counter
        start_daemon
        [ "$(stat -c '%a %u %F' "$T/sock")" = "600 0 socket" ]
        dump process "$pid"
        [ -z "$(find "$T/run" "$T/ckpt" ! -type l -perm /077)" ] || { find "$T/run" "$T/ckpt" -ls; return 1; }
        chmod 755 "$T"
        cp "$STASIS" "$T/stasis"
        run setpriv --reuid=65534 --regid=65534 --clear-groups env -u STASIS_CONFIG_DIR HOME=/nonexistent \
                "$T/stasis" daemon status 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *ermission* ]]
}

@test "a second daemon is refused, the first one serves on" {
        start_daemon
        run "$STASIS" daemon start 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"another daemon serves $T/sock"*"hint: "* ]]
        [ "$("$STASIS" daemon status --json | jq .PID)" = "$daemon" ]
        [ -S "$T/sock" ]
        # At another address there is room.
        STASIS_ADDRESS=$T/other STASIS_DB_PATH=$T/other.db STASIS_RUN_DIR=$T/other.run timeout 20 "$STASIS" daemon start >/dev/null 2>&1 3>&- &
        other=$!
        wait_for "$STASIS daemon status --address $T/other"
        kill "$other"
        wait "$other"
        "$STASIS" daemon status
}

@test "the socket of a killed daemon is taken over" {
        start_daemon
        kill -9 "$daemon"
        wait "$daemon" || true
        [ -S "$T/sock" ]
        run "$STASIS" daemon status 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"start it with"* ]]
        start_daemon
        "$STASIS" daemon status
        [ "$(stat -c %a "$T/sock")" = 600 ]
}

@test "it cannot start: 1, the reason, and nothing is left" {
        run env STASIS_ADDRESS=/proc/none/sock "$STASIS" daemon start 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"/proc/none"* ]]
        run env STASIS_ADDRESS="$T/$(printf 'x%.0s' {1..200})" timeout 10 "$STASIS" daemon start 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"cannot listen at $T/x"* ]]
        touch "$T/file"
        run env STASIS_RUN_DIR="$T/file" timeout 10 "$STASIS" daemon start 3>&-
        [ "$status" -eq 1 ]
        [ ! -e "$T/sock" ]
        [ "$(grep -c '^stasis: error: ' <<<"$output")" = 1 ]
}

@test "it makes the directories that it needs" {
        export STASIS_ADDRESS=$T/deep/er/sock STASIS_RUN_DIR=$T/deep/run
        start_daemon
        counter
        dump process "$pid" --dir "$T/deep/ckpt"
        [ "$(stat -c %a "$T/deep/run/w")" = 700 ]
}

@test "SIGTERM during a dump: cancelled, the target lives, nothing is left, 0" {
        counter
        start_slow_daemon
        for way in "" --stop; do
                [ -n "$daemon" ] || start_slow_daemon
                # shellcheck disable=SC2086
                "$STASIS" dump process "$pid" $way >"$T/out" 2>&1 3>&- &
                local dumper=$!
                wait_for "[ \"\$($STASIS daemon status --json | jq '.Operations // [] | length')\" = 1 ]"
                sleep 0.7
                kill "$daemon"
                ended 0
                wait "$dumper" && return 1
                grep -q '^stasis: error: .*cancel' "$T/out" || { cat "$T/out"; return 1; }
                [ ! -e "$T/sock" ]
                nothing_left
                goes_on
        done
}

@test "it does not leak: descriptors, memory, processes, over a hundred operations" {
        counter
        start_daemon
        for _ in {1..10}; do "$STASIS" query process "$pid" >/dev/null 3>&-; done
        run "$STASIS" dump process 4194300 3>&-
        dump process "$pid" --name warm
        no_children
        before=$(descriptors "$daemon")
        memory=$(awk '/^VmRSS/ { print $2 }' "/proc/$daemon/status")
        for i in {1..50}; do "$STASIS" query process "$pid" $$ >/dev/null 3>&-; done
        for i in {1..20}; do "$STASIS" query process 4194300 >/dev/null 2>&1 3>&- && return 1; done
        for i in {1..10}; do
                dump process "$pid" --name "leak$i"
                "$STASIS" dump process "$pid" --name warm >/dev/null 2>&1 3>&- && return 1
        done
        no_children
        wait_for "[ \$(find /proc/$daemon/fd -mindepth 1 | wc -l) -le $before ]" 3 ||
                { ls -l "/proc/$daemon/fd"; return 1; }
        [ -n "${STASIS_SANITIZE:-}" ] || [ "$(awk '/^VmRSS/ { print $2 }' "/proc/$daemon/status")" -lt $((memory + 1024)) ]
        [ -z "$(ls -A "$T/run/w")" ]
}

@test "clients that come, say nothing and go, hold up nobody" {
        start_daemon
        before=$(descriptors "$daemon")
        python3 -c 'import socket, sys, time
held = []
for i in range(200):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    held.append(s)
open(sys.argv[1] + ".held", "w")
time.sleep(30)' "$T/sock" >/dev/null 2>&1 3>&- &
        holder=$!
        targets+=("$holder")
        wait_for "[ -e $T/sock.held ]"
        timeout 10 "$STASIS" query process $$ >/dev/null
        kill -9 "$holder"
        wait "$holder" || true
        wait_for "[ \$(find /proc/$daemon/fd -mindepth 1 | wc -l) -le $before ]"
        "$STASIS" daemon status
}

@test "a restored process has nothing of the daemon: descriptors, signals, environment, limits" {
        target "$PROGRAMS/ticker" 1 "$T/tick"
        cp "/proc/$pid/environ" "$T/environ"
        snapshot() {
                find "/proc/$pid/fd" -mindepth 1 -printf '%f %l\n' | sed 's/pipe:.*/pipe/' | sort
                grep -E '^(SigBlk|SigIgn|SigCgt|Uid|Gid|Groups|Umask|Cap.*|NoNewPrivs|Seccomp):' "/proc/$pid/status"
                readlink "/proc/$pid/cwd" "/proc/$pid/root" "/proc/$pid/exe"
                cat "/proc/$pid/limits" "/proc/$pid/oom_score_adj" "/proc/$pid/comm"
                cut -d ' ' -f 5,6,7 "/proc/$pid/stat"
                # CRIU gives it a time namespace, so that its clocks do not jump.
                find "/proc/$pid/ns" -mindepth 1 ! -name 'time*' -printf '%f %l\n' | sort
        }
        # Once it has its signal handler, it stays as it is.
        wait_for "grep -q '^SigCgt:.*200\$' /proc/$pid/status"
        snapshot >"$T/snapshot"
        start_daemon SECRET_OF_THE_DAEMON=1
        dump process "$pid" --stop --name one
        wait_gone "$pid"
        # From elsewhere, with other descriptors and signals than the target ever had.
        (
                cd /
                exec 7<"$T/environ" 8>"$T/eight"
                trap '' USR1 HUP
                ulimit -n 333
                SECRET_OF_THE_CLIENT=1 "$STASIS" restore process --path "$T/ckpt/one.stasis" 3>&-
        )
        snapshot >"$T/snapshot2"
        diff -u "$T/snapshot" "$T/snapshot2"
        cmp "$T/environ" "/proc/$pid/environ"
        kill -USR1 "$pid"
        wait_for "grep -q intact $T/tick"
        # Nor has its supervisor anything of the daemon's sockets: only the one at which it listens.
        supervisor=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")
        [ "$(cat "/proc/$supervisor/comm")" = stasis-supervis ]
        [ "$(find "/proc/$supervisor/fd" -mindepth 1 -lname 'socket:*' | wc -l)" = 1 ]
        [ "$(descriptors "$supervisor")" -le 7 ] || { ls -l "/proc/$supervisor/fd"; return 1; }
}

@test "a worker that dies: said, reaped, and the daemon serves on" {
        counter
        start_slow_daemon
        "$STASIS" dump process "$pid" >"$T/out" 2>&1 3>&- &
        local dumper=$!
        wait_for "[ \"\$($STASIS daemon status --json | jq '.Operations // [] | length')\" = 1 ]"
        sleep 0.7
        worker=$("$STASIS" daemon status --json | jq '.Operations[0].PID')
        [ "$("$STASIS" daemon status --json | jq -r '.Operations[0] | "\(.Kind) \(.Target) \(.UID)"')" = "dump process $pid 0" ]
        kill -ABRT "$worker"
        wait "$dumper" && return 1
        grep -q 'worker killed by SIGABRT in adapter' "$T/out" || { cat "$T/out"; return 1; }
        nothing_left
        goes_on
        [ "$(operations)" = 0 ]
        # Whatever the dead worker left, CRIU and its helpers, is reaped by the daemon.
        no_children
        "$STASIS" query process "$pid"
}

@test "no zombies below the daemon, whoever dies" {
        start_daemon
        for i in 1 2 3; do
                target sleep 1000
                dump process "$pid" --stop
                wait_gone "$pid"
                restore process --path "$checkpoint"
        done
        [ "$("$STASIS" daemon status --json | jq '.Supervisors | length')" = 3 ]
        # A supervisor that is killed leaves its process to the daemon, and that reaps it.
        supervisor=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")
        kill -9 "$supervisor"
        alive "$pid"
        wait_for "grep -q '^PPid:[[:space:]]*$daemon\$' /proc/$pid/status"
        for target in "${targets[@]}"; do
                kill -9 "$target"
                wait_gone "$target"
        done
        no_children
        wait_for "[ \"\$($STASIS daemon status --json | jq '.Supervisors // [] | length')\" = 0 ]"
        [ -z "$(ls -A "$T/run/jobs")" ]
        alive "$daemon"
}

@test "a daemon whose program was replaced and removed serves on" {
        # With all that stasis needs beside it, as an installation has it.
        mkdir "$T/program"
        cp "$STASIS" "$STASIS_BUILD/stasis-hook" "$STASIS_BUILD/stasis-supervisor" "$STASIS_BUILD/build.ninja" "$T/program/"
        mkdir "$T/program/plugins"
        counter
        original=$STASIS
        STASIS=$T/program/stasis
        start_daemon
        STASIS=$original
        "$STASIS" query process "$pid"
        rm "$T/program/stasis"
        readlink "/proc/$daemon/exe" | grep -q deleted
        "$STASIS" query process "$pid"
        "$STASIS" daemon check
        dump process "$pid" --name removed
        # An upgrade: another program of the same name. Its workers must be those of the daemon that runs.
        printf '#!/bin/sh\nexit 77\n' >"$T/program/stasis"
        chmod 755 "$T/program/stasis"
        dump process "$pid" --name replaced --stop
        wait_gone "$pid"
        restore process --path "$T/ckpt/replaced.stasis"
        goes_on
}

@test "what a killed daemon and its workers left is cleaned up at the next start" {
        counter
        start_slow_daemon
        "$STASIS" dump process "$pid" >"$T/out" 2>&1 3>&- &
        local dumper=$!
        wait_for "[ \"\$($STASIS daemon status --json | jq '.Operations // [] | length')\" = 1 ]"
        sleep 0.7
        worker=$("$STASIS" daemon status --json | jq '.Operations[0].PID')
        kill -9 "$daemon" "$worker"
        wait "$daemon" || true
        wait "$dumper" && return 1
        [ -n "$(ls -A "$T/run/w")" ]
        mkdir -p "$T/run/w/1/below"
        touch "$T/run/w/1/below/file"
        touch -d '1 minute ago' "$T/run/w/1"
        start_daemon
        nothing_left
        goes_on
}

@test "a starting daemon leaves the operations of others alone" {
        target "$PROGRAMS/ticker" 16 "$T/tick"
        env "${faulty[@]}" STASIS_FAULT=recvmsg:4:pause STASIS_FAULT_ANY=1 \
                "$STASIS" dump process "$pid" --no-server --name local >"$T/out" 2>&1 3>&- &
        local dumper=$!
        wait_for "[ -n \"\$(ls -A $T/run/w 2>/dev/null)\" ]"
        sleep 0.7
        start_daemon
        [ -n "$(ls -A "$T/run/w")" ]
        wait "$dumper" || { cat "$T/out"; return 1; }
        [ -e "$T/ckpt/local.stasis" ]
}

@test "restored processes survive the daemon's stop, and the next one knows them" {
        counter
        start_daemon
        dump process "$pid" --stop
        wait_gone "$pid"
        restore process --path "$checkpoint"
        "$STASIS" daemon stop
        ended 0
        goes_on
        start_daemon
        [ "$("$STASIS" daemon status --json | jq '.Supervisors[0].PID')" = "$pid" ]
        [[ "$("$STASIS" daemon status)" == *"Restored processes"*"process $pid"* ]]
}

@test "LogLevel decides what is logged" {
        start_daemon STASIS_LOG_LEVEL=error
        "$STASIS" query process $$ >/dev/null
        "$STASIS" query process 4194300 2>/dev/null && return 1
        [ ! -s "$T/daemon.log" ]
        stop_daemon
        start_daemon
        "$STASIS" query process $$ >/dev/null
        grep -q 'query .* of process: done' "$T/daemon.log"
}
