#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Memory that stasis puts in by itself: all of it before the process runs (gated), or while it runs (--lazy). And what
# becomes of that when one of those who do it is killed, and what a damaged page does.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        export STASIS_RESTORE_METHOD=gated
        seed=${STASIS_SEED:-$RANDOM}
        echo "STASIS_SEED=$seed"
}

teardown() {
        local each
        for each in $(servers); do
                kill -9 "$each" 2>/dev/null || true
        done
        end_test
}

# Those that serve memory of this test: the only ones that name its directory.
servers() { pgrep -f "stasis serve-pages-on $T/" || true; }
guards() { pgrep -f "stasis guard-pages $T/" || true; }

# end_target: the target has been dumped, and is to come back.
end_target() {
        kill_tree "$pid"
        wait_gone "$pid"
}

# torture MIB: a target that knows its memory; sets $pid.
torture() {
        target "$PROGRAMS/torture" "$seed" "$1" "$T/torture" "$T/go"
        wait_for "grep -q ready $T/torture" 30
}

# It has gone through it all, and found each page right.
tortured() {
        wait_for "grep -q 'right\|wrong\|BAD' $T/torture" 60
        grep -q right "$T/torture"
        run ! grep 'wrong\|BAD' "$T/torture"
}

# restore_slowly pause|hang: one frame of the image comes three seconds later, or not at all.
restore_slowly() {
        env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT="pread:12:$1" "$STASIS" restore process \
                --path "$checkpoint" --lazy --no-server --out "$T/said" </dev/null >"$T/restore.out" \
                2>"$T/restore.err" 3>&- &
        restorer=$!
        wait_for "grep -q ^restored $T/restore.out || ! alive $restorer" 20
        alive "$pid"
}

# Nobody serves or guards any more, and no record of it is left.
all_in() {
        wait_for "[ -z \"\$(servers)\$(guards)\" ]" 20
        [ -z "$(ls -A "$T/run/lazy")" ]
}

# Dumps the target and ends it; sets $checkpoint.
dump_and_end() {
        dump process "$pid" --no-server
        [[ $checkpoint == *.stasis ]]
        end_target
}

@test "gated: nothing of it is missing when it runs, by the daemon and without it" {
        start_daemon
        torture 48
        dump_and_end
        touch "$T/go"
        restore process --path "$checkpoint"
        [ -z "$(servers)" ]
        tortured
        end_target
        : >"$T/torture"
        restore_no_server process --path "$checkpoint"
        tortured
        # It can be dumped again, and has nothing of userfaultfd(2) left.
        run ! grep -q ' um' /proc/"$pid"/smaps
}

@test "lazy: it forks, moves, unmaps and writes its memory while that comes" {
        local round rounds=2
        [ -z "${STASIS_STRESS:-}" ] || rounds=50
        for ((round = 0; round < rounds; round++)); do
                echo "round $round"
                : >"$T/torture"
                rm -f "$T/go"
                torture 64
                dump_and_end
                touch "$T/go"
                : >"$T/torture"
                restore_no_server process --path "$checkpoint" --lazy
                grep 'while its memory follows' "$T/restore.err" "$T/restore.out"
                tortured
                all_in
                end_target
                seed=$((seed + 1))
        done
}

@test "lazy: missing pages are waited for, in children, too" {
        torture 48
        dump_and_end
        touch "$T/go"
        : >"$T/torture"
        restore_slowly pause
        tortured
        all_in
}

@test "lazy: by the daemon, whose death does not matter" {
        start_daemon
        torture 48
        dump_and_end
        touch "$T/go"
        : >"$T/torture"
        restore process --path "$checkpoint" --lazy
        kill -9 "$daemon"
        wait "$daemon" || true
        daemon=""
        tortured
        all_in
}

# family: the processes below the target, their threads, and which are dead.
family() {
        ps -L -o pid=,lwp= -p "$pid"
        ps -L -o pid=,lwp= --ppid "$pid"
        ps -o pid=,state= --ppid "$pid" | awk '$2 == "Z"'
}

# tell: what the two that live say of their memory.
tell() {
        rm -f "$T/parent" "$T/child"
        # shellcheck disable=SC2046 # words
        kill -USR1 "$pid" $(ps -o pid=,state= --ppid "$pid" | awk '$2 != "Z" { print $1 }')
        wait_for "[ -s $T/parent ] && [ -s $T/child ]" 30 >&2
        cat "$T/parent" "$T/child"
}

@test "a tree, threads, and a process that is dead come back as they were" {
        local method
        cat >"$T/family.py" <<'END_OF_PROGRAM'
import os, signal, sys, threading, time, zlib

os.chdir(sys.argv[1])
name, memory, shared = "parent", bytearray(os.urandom(12 << 20)), bytearray(8 << 20)

def tell(*_):
    with open(name + ".new", "w") as file:
        file.write(f"{name} {threading.active_count()} {zlib.crc32(memory)} {zlib.crc32(shared)}\n")
    os.rename(name + ".new", name)

signal.signal(signal.SIGUSR1, tell)
if os.fork() == 0:
    name = "child"
    memory[4 << 20:8 << 20] = os.urandom(4 << 20)
elif os.fork() == 0:
    os._exit(7)
for _ in range(3):
    threading.Thread(target=time.sleep, args=(10000,), daemon=True).start()
open(name + ".ready", "w").close()
while True:
    signal.pause()
END_OF_PROGRAM
        target /usr/bin/python3 "$T/family.py" "$T"
        wait_for "[ -e $T/parent.ready ] && [ -e $T/child.ready ] && ps -o state= --ppid $pid | grep -q Z"
        family >"$T/family"
        [ "$(lines "$T/family")" -eq 10 ] # four threads each, and one that is dead, twice
        tell >"$T/told"
        dump_and_end
        for method in "" --lazy; do
                # shellcheck disable=SC2086
                restore_no_server process --path "$checkpoint" $method
                tell | diff "$T/told" -
                family | diff "$T/family" -
                all_in
                end_target
        done
}

@test "redis keeps its data" {
        command -v redis-server >/dev/null || skip "no redis-server"
        target redis-server --port 0 --unixsocket "$T/redis" --save "" --dir "$T"
        wait_for "redis-cli -s $T/redis ping"
        redis-cli -s "$T/redis" debug populate 50000 key 500 >/dev/null
        redis-cli -s "$T/redis" debug digest >"$T/digest"
        dump_and_end
        restore_no_server process --path "$checkpoint" --lazy
        redis-cli -s "$T/redis" debug digest | diff "$T/digest" -
        all_in
}

@test "a dump is refused while memory is missing that does not come" {
        torture 48
        dump_and_end
        restore_slowly hang
        STASIS_RESTORE_LAZY_TIMEOUT=0 run -1 "$STASIS" dump process "$pid" --no-server
        [[ $output == *"memory of process $pid is still coming from $checkpoint"*Restore.LazyTimeout* ]]
        # Without both of those who know of it nothing is to be hoped for.
        kill -9 "$(guards)" "$(servers)"
        if alive "$pid"; then
                run "$STASIS" dump process "$pid" --no-server
                [ "$status" -eq 1 ]
        fi
}

@test "a dump waits for memory that is missing" {
        torture 48
        dump_and_end
        restore_slowly pause
        dump process "$pid" --no-server
        [ -z "$(servers)" ]
        end_target
        touch "$T/go"
        : >"$T/torture"
        restore_no_server process --path "$checkpoint"
        tortured
}

@test "the server is killed: what runs without all of its memory is ended, and its log says why" {
        torture 48
        dump_and_end
        restore_slowly hang
        kill -9 "$(servers)"
        wait_for "! alive $pid"
        wait "$restorer" || [ $? -eq 137 ]
        grep "killed while its memory was still coming from $checkpoint" "$T/said"
        all_in
}

@test "the guard is killed: another one takes its place, and still ends it" {
        local guard
        torture 48
        dump_and_end
        restore_slowly hang
        guard=$(guards)
        kill -9 "$guard"
        wait_for "[ -n \"\$(guards)\" ] && [ \"\$(guards)\" != $guard ]"
        alive "$pid"
        kill -9 "$(servers)"
        wait_for "! alive $pid"
        all_in
}

@test "who restored it is killed: its memory still comes" {
        torture 48
        dump_and_end
        touch "$T/go"
        : >"$T/torture"
        restore_slowly pause
        kill -9 "$restorer"
        tortured
        all_in
}

@test "who restores it is killed before it runs: nothing is left" {
        torture 48
        dump_and_end
        env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=pread:12:pause "$STASIS" restore process \
                --path "$checkpoint" --no-server </dev/null >"$T/restore.out" 2>"$T/restore.err" 3>&- &
        restorer=$!
        wait_for "[ -e /proc/$pid ]"
        kill -9 "$restorer"
        wait "$restorer" || true
        wait_for "! alive $pid"
        run ! grep -q 'right\|wrong' "$T/torture"
}

# break_page: flips a bit in the middle of the image, where its pages are.
break_page() {
        local at
        at=$(($(stat -c %s "$checkpoint") / 2))
        printf '%b' "\\x$(printf %02x $((0x$(xxd -s $at -l 1 -p "$checkpoint") ^ 1)))" |
                dd of="$checkpoint" bs=1 seek=$at conv=notrunc status=none
}

@test "a job's log says why it was ended" {
        local jid=lz$RANDOM
        start_daemon "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=pread:12:hang
        "$STASIS" run process --jid "$jid" "$PROGRAMS/torture" "$seed" 48 "$T/torture" "$T/go" >"$T/run.out" 3>&-
        wait_for "grep -q ready $T/torture" 30
        dump job "$jid" --leave-running=false
        "$STASIS" restore job "$jid" --lazy >"$T/restore.out"
        pid=$("$STASIS" job list --json | jq -r ".[] | select(.jid == \"$jid\") | .pid")
        targets+=("$pid")
        alive "$pid"
        kill -9 "$(servers)"
        wait_for "! alive $pid"
        wait_for "[ \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"$jid\") | .state')\" != running ]"
        grep "job $jid was killed while its memory was still coming" "$T/log/stasis-output-$jid.log"
        all_in
}

@test "a damaged page: nothing runs; with --lazy it is ended" {
        torture 48
        dump_and_end
        break_page
        run -1 "$STASIS" restore process --path "$checkpoint" --no-server
        [[ $output == *damaged* ]]
        run ! alive "$pid"

        run "$STASIS" restore process --path "$checkpoint" --lazy --no-server --out "$T/said"
        [ "$status" -eq 1 ] || [ "$status" -eq 137 ]
        [[ $output == *damaged* ]] || grep "killed while its memory .*damaged" "$T/said"
        run ! alive "$pid"
        all_in
}

@test "it is refused for what it cannot be done with" {
        counter
        dump process "$pid" --no-server --compression tar --stop # so that its file has not grown since
        wait_gone "$pid"
        run -1 "$STASIS" restore process --path "$checkpoint" --lazy --no-server
        [[ $output == *"format 'image'"* ]]
        # --check says the same, with the same exit code; and of what can be done how.
        run -1 "$STASIS" restore process --path "$checkpoint" --lazy --check --no-server
        [[ $output == *"format 'image'"* ]]
        run -0 "$STASIS" restore process --path "$checkpoint" --check --no-server
        [[ $output == *"CRIU reads it"* ]]
        "$STASIS" checkpoint export "$checkpoint" "$T/copy.stasis"
        run -0 "$STASIS" restore process --path "$T/copy.stasis" --lazy --check --no-server
        [[ $output == *"MiB are read while the process runs"* ]]
        run -0 "$STASIS" restore process --path "$T/copy.stasis" --check --no-server
        [[ $output == *"MiB are read before the process runs"* ]]
        run "$STASIS" serve-pages
        [ "$status" -ne 0 ]
        [[ $output == *"not by hand"* ]]
        run "$STASIS" guard-pages
        [ "$status" -ne 0 ]
}
