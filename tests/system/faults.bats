#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Whatever goes wrong: the error says what and why, the target lives on, nothing is left behind.
# shellcheck disable=SC2154 # set by common.bash

load common

setup() {
        start_test
        mounted=""
}

teardown() {
        exec 5>&- 2>/dev/null || true
        [ -z "$mounted" ] || umount -l "$mounted"
        end_test
}

# fails TEXT COMMAND…: must fail, with TEXT (an extended regular expression) in one line of its message.
fails() {
        local text=$1
        shift
        run "$@" 3>&-
        [ "$status" -ne 0 ] || { echo "it succeeded: $*"; return 1; }
        grep -qE -e "$text" <<<"$output" || { echo "no '$text' in: $output"; return 1; }
        [ "$(grep -c '^stasis: error:' <<<"$output")" -eq 1 ] || { echo "not one error line: $output"; return 1; }
}

# Each through the daemon and without, with and without --stop.
each_way() {
        local text=$1
        shift
        [ -n "$daemon" ] || start_daemon
        for way in "" --stop --no-server "--no-server --stop"; do
                # shellcheck disable=SC2086 # a list of words
                fails "$text" "$STASIS" dump process "$@" $way
                nothing_left
        done
}

@test "no such PID" {
        each_way 'no process 4194300' 4194300
}

@test "not a PID" {
        fails 'not a PID|abc' "$STASIS" dump process abc
        fails 'not a PID: -1' "$STASIS" dump process -- -1
        [ ! -e "$T/ckpt" ]
}

@test "PID 1" {
        each_way 'process 1 is .*init' 1
}

@test "a zombie" {
        # A parent that does not wait: the shell is replaced by sleep, which never reaps.
        sh -c 'sleep 0.2 & echo $! >"$0"; exec sleep 100' "$T/pid" </dev/null >/dev/null 2>&1 3>&- &
        targets+=($!)
        wait_for "grep -q zombie /proc/\$(cat $T/pid)/status"
        each_way 'zombie' "$(cat "$T/pid")"
}

@test "a kernel thread" {
        thread=$(awk '{ split($0, a, ") "); split(a[2], f, " "); if (f[2] == 2) { print $1; exit } }' /proc/[0-9]*/stat)
        [ -n "$thread" ] || skip "no kernel thread is visible here"
        each_way 'kernel thread' "$thread"
}

@test "a user of io_uring" {
        target "$PROGRAMS/uring"
        sleep 0.1
        alive "$pid" || skip "this kernel has no io_uring"
        each_way "process $pid uses io_uring" "$pid"
        alive "$pid"
}

@test "a process that is traced" {
        command -v gdb >/dev/null || command -v strace >/dev/null || skip "no tracer"
        counter
        if command -v strace >/dev/null; then
                strace -o /dev/null -p "$pid" >/dev/null 2>&1 3>&- &
        else
                gdb -batch -p "$pid" -ex 'shell sleep 5' >/dev/null 2>&1 3>&- &
        fi
        local tracer=$!
        wait_for "! grep -q 'TracerPid:.0\$' /proc/$pid/status"
        each_way 'is traced by' "$pid"
        kill "$tracer"
        wait "$tracer" || true
}

@test "no permission: an ordinary user" {
        counter
        chmod 755 "$T"
        cp "$STASIS" "$T/stasis"
        fails 'root|[Pp]ermission' setpriv --reuid=65534 --regid=65534 --clear-groups \
                env -u STASIS_CONFIG_DIR HOME=/nonexistent "$T/stasis" dump process "$pid" --no-server --dir /tmp
        start_daemon
        fails '[Pp]ermission' setpriv --reuid=65534 --regid=65534 --clear-groups \
                env -u STASIS_CONFIG_DIR HOME=/nonexistent "$T/stasis" dump process "$pid"
        goes_on
}

@test "the name exists already" {
        counter
        start_daemon
        dump process "$pid" --name here
        fails 'exists already' "$STASIS" dump process "$pid" --name here --stop
        goes_on
}

@test "bad names, formats and directories change nothing" {
        counter
        while read -r flag value text; do
                fails "$text" "$STASIS" dump process "$pid" --no-server "$flag" "$value"
        done <<'END'
--name a/b bad name 'a/b' for a checkpoint
--name .. bad name '\.\.' for a checkpoint
--compression rar --compression: expected none, tar, gzip, lz4, zlib, zstd or image, not "rar"
--criu-opts { --criu-opts: .*not JSON
--criu-opts {"ghost_limt":1} --criu-opts: .*unknown field ghost_limt .*ghost_limit\?
END
        fails 'unknown' "$STASIS" dump process "$pid" --no-such-flag
        fails 'directory|Not a' "$STASIS" dump process "$pid" --no-server --dir /proc/version/x
        nothing_left
        goes_on
}

@test "the disk is full at the start" {
        counter
        mkdir "$T/small"
        mount -t tmpfs -o size=64k,nr_inodes=3 tmpfs "$T/small"
        mounted=$T/small
        touch "$T/small/a" "$T/small/b" || true
        start_daemon
        for way in "" --stop --no-server "--no-server --stop"; do
                # shellcheck disable=SC2086
                fails '[Nn]o space' "$STASIS" dump process "$pid" --dir "$T/small" $way
                goes_on
        done
}

@test "the disk gets full in the middle" {
        ticker 32
        mkdir "$T/small"
        mount -t tmpfs -o size=8m tmpfs "$T/small"
        mounted=$T/small
        start_daemon
        for way in "" "--compression none" --stop "--stop --compression none" "--stop --compression zstd" --no-server; do
                # shellcheck disable=SC2086
                fails '[Nn]o space' "$STASIS" dump process "$pid" --dir "$T/small" $way
                [[ "$output" != *"CRIU could not"* ]] # it is not to blame
                [ -z "$(ls -A "$T/small")" ]
                alive "$pid"
        done
        # Beyond its memory the capture goes to a file there, too.
        STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT=1M fails '[Nn]o space' \
                "$STASIS" dump process "$pid" --dir "$T/small" --no-server --stop
        [ -z "$(ls -A "$T/small")" ]
        intact
}

@test "the memory budget is spent: the rest goes to a file, the checkpoint is whole" {
        ticker 64
        STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT=4M dump process "$pid" --no-server --stop
        wait_gone "$pid"
        STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT=4M restore_no_server process --path "$checkpoint"
        intact
        [ "$(find "$T/ckpt" -mindepth 1 | wc -l)" = 1 ]
}

# dies_during_dump [--stop]
dies_during_dump() {
        ticker 64
        # Frozen, at the third file of the stream: killed, and ending as soon as CRIU lets go.
        start_daemon "${faulty[@]}" STASIS_FAULT=recvmsg:3:pause
        "$STASIS" dump process "$pid" "$@" >"$T/out" 2>&1 3>&- &
        local dumper=$!
        sleep 1.2
        kill -9 "$pid"
        if wait "$dumper"; then
                # CRIU had all it needed: then the checkpoint must be whole.
                checkpoint=$(awk 'END { print $NF }' "$T/out")
                wait_gone "$pid"
                restore process --path "$checkpoint"
        else
                grep -q '^stasis: error: ' "$T/out"
                nothing_left
        fi
}

@test "the target dies during the dump" { dies_during_dump; }
@test "the target dies during the dump, with --stop" { dies_during_dump --stop; }

@test "CRIU is missing, or too old" {
        counter
        STASIS_CRIU_BINARY_PATH=/nonexistent/criu each_no_server '/nonexistent/criu'
        printf '#!/bin/sh\necho Version: 3.17.1\n' >"$T/criu"
        chmod 755 "$T/criu"
        STASIS_CRIU_BINARY_PATH=$T/criu each_no_server 'too old'
        goes_on
}

each_no_server() {
        for way in "" --stop; do
                # shellcheck disable=SC2086
                fails "$1" "$STASIS" dump process "$pid" --no-server $way
                nothing_left
        done
}

@test "a PID that is taken: by what is said" {
        counter
        start_daemon
        dump process "$pid"
        fails "PID $pid is taken by process $pid \\(sh" "$STASIS" restore process --path "$checkpoint"
        goes_on
}

@test "not a checkpoint, and none at all" {
        echo hello >"$T/file"
        mkdir "$T/dir"
        for path in "$T/file" "$T/dir" "$T/none"; do
                fails "$path" "$STASIS" restore process --no-server --path "$path"
        done
        fails 'path' "$STASIS" restore process --no-server
}

@test "truncated checkpoints are refused before a process runs" {
        counter
        dump process "$pid" --no-server --compression zstd
        archive=$checkpoint
        dump process "$pid" --no-server --stop
        wait_gone "$pid"
        for whole in "$archive" "$checkpoint"; do
                size=$(stat -c %s "$whole")
                for cut in 0 1 100 $((size / 2)) $((size - 1)); do
                        head -c "$cut" "$whole" >"$T/cut-${whole##*/}"
                        fails 'checkpoint|damaged' "$STASIS" restore process --no-server --path "$T/cut-${whole##*/}"
                        [ ! -e "/proc/$pid" ]
                done
        done
        restore_no_server process --path "$checkpoint"
        goes_on
}

# flip FILE OFFSET BIT
flip() {
        python3 - "$@" <<'END'
import sys
path, offset, bit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "r+b") as f:
    f.seek(offset)
    byte = f.read(1)[0]
    f.seek(offset)
    f.write(bytes([byte ^ 1 << bit]))
END
}

# Some bits of an archive mean nothing: zstd's padding. content FILE: all that the files in it hold.
content() { zstd -dcq "$1" 2>/dev/null | tar -xO 2>/dev/null; }

@test "a bit flipped in what CRIU never asks for is found before a process runs, too" {
        # shellcheck disable=SC2016
        target sh -c 'exec 5>"$0"; echo content >&5; sleep 1000' "$T/open"
        wait_for "grep -q content $T/open && pgrep -P $pid"
        dump process "$pid" --no-server --stop --name dir --compression none
        wait_gone "$pid"
        [ "$(cat "$checkpoint"/stasis.file-*)" = content ]
        flip "$(echo "$checkpoint"/stasis.file-*)" 3 1
        fails 'is damaged: stasis.file-.* has a wrong checksum' "$STASIS" restore process --no-server --path "$checkpoint"
        [ ! -e "/proc/$pid" ]
}

@test "bit-flipped checkpoints are refused before a process runs" {
        counter
        RANDOM=${SEED:=$$}
        echo "SEED=$SEED"
        dump process "$pid" --no-server --name dir --compression none
        dump process "$pid" --no-server --name image
        dump process "$pid" --no-server --stop --compression zstd
        wait_gone "$pid"
        before=$(lines "$T/count")
        # Of what makes a checkpoint known as one, a bit may be the flipped one.
        damaged="$T/flipped(\.tar\.zst|\.stasis)? is damaged: |not a checkpoint: $T/flipped"
        for ((i = 0; i < ${STASIS_STRESS:+100} + 8; i++)); do
                cp "$checkpoint" "$T/flipped.tar.zst"
                size=$(stat -c %s "$checkpoint")
                flip "$T/flipped.tar.zst" $(((RANDOM * 32768 + RANDOM) % size)) $((RANDOM % 8))
                fails "$damaged" "$STASIS" checkpoint verify "$T/flipped.tar.zst"
                cmp -s <(content "$checkpoint") <(content "$T/flipped.tar.zst") ||
                        fails "$damaged" "$STASIS" restore process --no-server --path "$T/flipped.tar.zst"

                cp "$T/ckpt/image.stasis" "$T/flipped.stasis"
                flip "$T/flipped.stasis" $(((RANDOM * 32768 + RANDOM) % $(stat -c %s "$T/flipped.stasis"))) $((RANDOM % 8))
                fails "$damaged" "$STASIS" checkpoint verify "$T/flipped.stasis"
                fails "$damaged" "$STASIS" restore process --no-server --path "$T/flipped.stasis"

                rm -rf "$T/flipped"
                cp -a "$T/ckpt/dir" "$T/flipped"
                mapfile -t files < <(find "$T/flipped" -type f -size +0)
                file=${files[RANDOM % ${#files[@]}]}
                flip "$file" $(((RANDOM * 32768 + RANDOM) % $(stat -c %s "$file"))) $((RANDOM % 8))
                fails "$damaged" "$STASIS" restore process --no-server --path "$T/flipped"
        done
        [ "$(lines "$T/count")" = "$before" ]
        [ ! -e "/proc/$pid" ]
}

@test "Ctrl-C: the dump is rolled back, the target goes on" {
        counter
        start_slow_daemon
        for way in "" --stop; do
                # A background job of a shell ignores SIGINT from birth; env sets it back.
                # shellcheck disable=SC2086
                env --default-signal=INT "$STASIS" dump process "$pid" $way >"$T/out" 2>&1 3>&- &
                local dumper=$!
                sleep 1
                kill -INT "$dumper"
                wait "$dumper" && status=0 || status=$?
                [ "$status" = 130 ] || { cat "$T/out"; return 1; }
                nothing_left
                goes_on
        done
}

@test "Ctrl-C too late: the checkpoint is complete, and that is what is said" {
        for way in "" --stop; do
                counter
                start_daemon LD_PRELOAD="$PROGRAMS/fault.so" STASIS_FAULT=renameat2:1:pause \
                        ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0"
                # shellcheck disable=SC2086
                env --default-signal=INT "$STASIS" dump process "$pid" --name "late$way" $way >"$T/out" 2>&1 3>&- &
                local dumper=$!
                wait_for "ls -A $T/ckpt | grep -q 'late$way.*partial'" 20
                sleep 0.5
                kill -INT "$dumper"
                wait "$dumper" || { cat "$T/out"; return 1; }
                [ "$(awk 'END { print $NF }' "$T/out")" = "$T/ckpt/late$way.stasis" ]
                "$STASIS" checkpoint verify "$T/ckpt/late$way.stasis"
                stop_daemon
                if [ -z "$way" ]; then goes_on; else wait_gone "$pid"; fi
        done
}

@test "Ctrl-C without the daemon" {
        counter
        env --default-signal=INT "${faulty[@]}" STASIS_FAULT=recvmsg:4:pause STASIS_FAULT_ANY=1 \
                "$STASIS" dump process "$pid" --no-server --stop >"$T/out" 2>&1 3>&- &
        local dumper=$!
        sleep 1
        kill -INT "$dumper"
        wait "$dumper" && status=0 || status=$?
        [ "$status" = 130 ] || { cat "$T/out"; return 1; }
        nothing_left
        goes_on
}

@test "the daemon is killed during a dump: the target goes on, the next daemon cleans up" {
        counter
        start_slow_daemon
        "$STASIS" dump process "$pid" --stop >"$T/out" 2>&1 3>&- &
        local dumper=$!
        sleep 1
        kill -9 "$daemon"
        wait "$daemon" || true
        wait "$dumper" && return 1
        grep -q '^stasis: error: ' "$T/out"
        goes_on
        start_daemon
        nothing_left
        dump process "$pid"
}

@test "the worker is killed at each point of a dump: the target lives, or the checkpoint restores" {
        # One process that starts no others: each of its dumps has the same files.
        ticker 1
        RANDOM=${SEED:=$$}
        echo "SEED=$SEED"
        # How many files the stream has.
        dump process "$pid" --no-server --compression none --name count
        local n
        n=$(find "$T/ckpt/count" -name '*.img' | wc -l)
        rm -rf "$T/ckpt/count"
        points=()
        for ((i = 1; i <= n; i++)); do
                [ -n "${STASIS_STRESS:-}" ] || [ $((RANDOM % 5)) = 0 ] || continue
                points+=("recvmsg:$i:kill")
        done
        points+=(recvmsg:1:kill "recvmsg:$n:kill" fsync:1:kill renameat2:1:kill renameat2:1:after)
        for point in "${points[@]}"; do
                for way in "" --stop; do
                        kill_point "$point" $way
                done
        done
}

kill_point() { # kill_point POINT [--stop]
        start_daemon "${faulty[@]}" STASIS_FAULT="$1"
        rm -rf "$T/ckpt"
        if "$STASIS" dump process "$pid" --name killed "${@:2}" >"$T/out" 2>&1 3>&-; then
                cat "$T/out"
                echo "the dump survived $1"
                return 1
        fi
        grep -q 'worker killed by SIGKILL' "$T/out" || { cat "$T/out"; return 1; }
        wait_for "[ -z \"\$(ls -A $T/run/w)\" ]" 5
        intact || { echo "after $*"; return 1; }
        if [ "$1" = renameat2:1:after ]; then
                # Committed, but nobody could say so: it is whole.
                "$STASIS" checkpoint verify "$T"/ckpt/killed*
        else
                nothing_left
        fi
        stop_daemon
}

@test "a write error at each point of a commit: the target lives, nothing is left" {
        counter
        for point in fsync:1:EIO fsync:2:EIO renameat2:1:EIO renameat2:1:ENOSPC; do
                for way in --no-server "--no-server --stop" "--no-server --stop --compression none" \
                        "--no-server --stop --compression zstd"; do
                        # shellcheck disable=SC2086
                        fails 'error|space' env "${faulty[@]}" STASIS_FAULT="$point" STASIS_FAULT_ANY=1 \
                                "$STASIS" dump process "$pid" $way
                        nothing_left
                        goes_on
                done
        done
}

@test "a failed restore of a shell's job says why" {
        # In the session of the test: a shell job, which gets a terminal of its own.
        "$PROGRAMS/ticker" 0 "$T/tick" </dev/null >/dev/null 2>&1 3>&- &
        pid=$!
        targets+=("$pid")
        sleep 0.3
        start_daemon
        dump process "$pid" --stop
        wait_gone "$pid"
        mv "$T/tick" "$T/tick.moved" 2>/dev/null || true
        printf '#!/bin/sh\necho Version: 9.9\ncase " $* " in *" restore "*) exit 3;; esac\n' >"$T/criu"
        chmod 755 "$T/criu"
        stop_daemon
        start_daemon STASIS_CRIU_BINARY_PATH="$T/criu"
        fails 'CRIU could not restore' "$STASIS" restore process --path "$checkpoint"
        grep -q SIGHUP <<<"$output" && return 1
        stop_daemon
        start_daemon
        restore process --path "$checkpoint"
        alive "$pid"
}

@test "a second daemon is refused and leaves the first one alone" {
        start_daemon
        fails 'another daemon' "$STASIS" daemon start
        "$STASIS" daemon status
}

@test "CRIU fails before it connects: its own words are the reason, and its log is kept" {
        counter
        printf '#!/bin/sh\ncase $2 in --version) echo Version: 9.9; exit;; check) exit 0;; esac\necho "(00.1) Error (criu/x.c:1): no such luck"\nexit 1\n' >"$T/criu"
        chmod 755 "$T/criu"
        for way in "" --stop; do
                # shellcheck disable=SC2086
                STASIS_CRIU_BINARY_PATH=$T/criu fails 'no such luck.*log: ' "$STASIS" dump process "$pid" --no-server $way
                log=$(sed -n 's/.*(log: \([^)]*\)).*/\1/p' <<<"$output")
                grep -q 'no such luck' "$log"
                nothing_left
        done
        goes_on
}

@test "a file at the daemon's address is not touched" {
        echo precious >"$T/file"
        fails "cannot listen at $T/file" "$STASIS" daemon start --address "$T/file"
        [ "$(cat "$T/file")" = precious ]
}

@test "CRIU is killed during a restore: nothing of it stays, a second restore works" {
        # Ends itself some time after a restore began.
        cat >"$T/criu" <<'END'
#!/bin/sh
case " $* " in *" restore "*) (sleep "$DELAY"; kill -9 $$) >/dev/null 2>&1 & ;; esac
exec criu "$@"
END
        chmod 755 "$T/criu"
        ticker 300
        killed=0
        for delay in 0.1 0.15 0.2 0.25 0.3 0.35; do
                stop_daemon
                start_daemon DELAY=$delay STASIS_CRIU_BINARY_PATH="$T/criu"
                dump process "$pid" --stop --name "at$delay"
                wait_gone "$pid"
                if ! "$STASIS" restore process --path "$checkpoint" >"$T/out" 2>&1 3>&-; then
                        killed=$((killed + 1))
                        grep -q SIGKILL "$T/out" || { cat "$T/out"; return 1; }
                        wait_gone "$pid"
                        stop_daemon
                        start_daemon
                        restore process --path "$checkpoint"
                fi
                intact
        done
        echo "killed $killed times"
        [ "$killed" -gt 0 ]
}

@test "the shell that asks cannot be dumped with its own command" {
        start_daemon
        for way in "" --no-server; do
                run bash -c '"$STASIS" dump process $$ '"$way"'; exit $?' 3>&-
                [ "$status" -ne 0 ]
                grep -q 'is stasis itself, or an ancestor of it' <<<"$output"
        done
        nothing_left
}
