#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Memory that stasis copies itself (--capture=grab) is what CRIU would have stored; what cannot be grabbed is streamed.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        export STASIS_LOG_LEVEL_NO_SERVER=info
}
teardown() { end_test; }

# grab ARGUMENT…: dumps $pid, its memory grabbed and not streamed.
grab() {
        dump process "$pid" --no-server --capture=grab "$@"
        ! grep -q 'streamed' "$T/dump.err" || { cat "$T/dump.err"; return 1; }
}

end_target() {
        kill_tree "$pid"
        wait_gone "$pid"
}

# ended_and_restored COMMAND: which must succeed after that.
ended_and_restored() {
        [ ! -e "/proc/$pid" ] || end_target
        restore_no_server process --path "$checkpoint"
        eval "$1"
        end_target
        wait "$restorer" || true
}

@test "memory of all kinds, of several processes, is what CRIU stores" {
        # The kernel notes in each thread's memory on which CPU it is (rseq), unless it is told not to.
        GLIBC_TUNABLES=glibc.pthread.rseq=0 target /usr/bin/python3 "$BATS_TEST_DIRNAME/memories.py" "$T"
        wait_for "[ -e $T/ready ] && [ \"\$(ps -o state= -g $pid | tr -d ' \\n')\" = SSS ]"
        kill -STOP "-$pid"
        wait_for "[ \"\$(ps -o state= -g $pid | tr -d ' \\n')\" = TTT ]"
        dump process "$pid" --no-server --compression none --capture=stream --name streamed
        grab --compression none --name grabbed
        /usr/bin/python3 "$BATS_TEST_DIRNAME/same_memory.py" "$T/ckpt/streamed" "$T/ckpt/grabbed"
        [ ! -e "$T/ckpt/grabbed/parent" ]
}

@test "in every format, and restored" {
        ticker 24
        for format in none tar gzip lz4 zlib zstd image; do
                grab --compression "$format" --name "copy-$format"
        done
        for checkpoint in "$T"/ckpt/copy-*; do
                "$STASIS" checkpoint verify "$checkpoint"
                ended_and_restored intact
        done
}

@test "in streams, by a daemon, and stopped" {
        ticker 24
        start_daemon
        dump process "$pid" --capture=grab --streams 3 --stop
        wait_gone "$pid"
        restore process --path "$checkpoint"
        intact
}

@test "plain criu restores it" {
        ticker 8
        grab --compression none
        end_target
        criu restore -D "$checkpoint" -d -o "$T/restore.log" --pidfile "$T/pid" ||
                { tail -n 20 "$T/restore.log" >&2; return 1; }
        intact
}

@test "more memory than the budget" {
        ticker 48
        export STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT=16M
        for format in zstd image; do
                grab --compression "$format" --name "copy-$format"
        done
        for checkpoint in "$T"/ckpt/copy-*; do
                ended_and_restored intact
        done
}

@test "a tree that forks, maps and writes while it is dumped" {
        local seed
        for seed in 1 2 3; do
                rm -f "$T/go" "$T/said"
                target "$PROGRAMS/torture" "$seed" 8 "$T/said" "$T/go"
                wait_for "grep -q ready $T/said" 20
                touch "$T/go"
                sleep "0.0$((seed * 2))"
                grab --compression image --stop --name "torture$seed"
                wait_gone "$pid"
                restore_no_server process --path "$checkpoint"
                wait_for "grep -q -e right -e wrong $T/said" 30
                ! grep -E 'BAD|wrong' "$T/said"
                end_target
                wait "$restorer" || true
        done
}

@test "copies of a busy target are of one moment" {
        target "$PROGRAMS/generations" 32 "$T/answer"
        wait_for "[ \"\$(ls /proc/$pid/task | wc -l)\" = 3 ]"
        # shellcheck disable=SC2016 # evaluated later
        local consistent='rm -f "$T/answer"; kill -USR1 "$pid"; wait_for "[ -s $T/answer ]" 30; grep -qx consistent "$T/answer"'
        for i in 1 2 3; do
                grab --name "copy$i"
                eval "$consistent"
        done
        for checkpoint in "$T"/ckpt/copy*; do
                ended_and_restored "$consistent"
        done
}

@test "a PID namespace: CRIU's numbers are not ours" {
        # shellcheck disable=SC2016
        unshare --pid --fork setsid sh -c 'i=0; while :; do i=$((i + 1)); echo $i >>"$0"; sleep 0.02; done' \
                "$T/count" </dev/null >/dev/null 2>&1 3>&- &
        targets+=("$!")
        wait_lines "$T/count" 3
        pid=$(pgrep -P "$!")
        grab --compression none --name grabbed
        [ -s "$T/ckpt/grabbed/pagemap-1.img" ]
        goes_on
}

@test "what cannot be grabbed is streamed" {
        ticker 8
        dump process "$pid" --no-server --capture=grab --criu-opts '{"ghost_limit": 100000000}'
        grep -q 'is streamed, not grabbed: deleted files' "$T/dump.err"
        # A CRIU that has no page server.
        cat >"$T/criu" <<END
#!/bin/sh
case "\$*" in *--page-server*) exit 1 ;; esac
exec $(command -v criu || echo /usr/local/sbin/criu) "\$@"
END
        chmod 755 "$T/criu"
        STASIS_CRIU_BINARY_PATH=$T/criu dump process "$pid" --no-server --capture=grab
        grep -q 'could not be grabbed, it is streamed now' "$T/dump.err"
        ended_and_restored intact
}

@test "a failure while it copies: CRIU rolls back, the memory is streamed" {
        ticker 24
        LD_PRELOAD="$PROGRAMS/fault.so" ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" STASIS_FAULT_ANY=1 \
                STASIS_FAULT=process_vm_readv:2:EIO dump process "$pid" --no-server --capture=grab
        grep -q 'could not be grabbed, it is streamed now: .*cannot copy the memory' "$T/dump.err"
        intact
        ended_and_restored intact
}

@test "a worker that is killed, or cancelled, while it copies: the target lives" {
        ticker 24
        start_daemon "${faulty[@]}" STASIS_FAULT=process_vm_readv:2:kill
        for how in "" --stop; do
                # shellcheck disable=SC2086
                ! "$STASIS" dump process "$pid" --capture=grab $how 3>&-
                wait_for "! grep -q 'TracerPid:.*[1-9]' /proc/$pid/status"
                intact
                nothing_left
        done
        stop_daemon
        start_daemon "${faulty[@]}" STASIS_FAULT=process_vm_readv:2:pause
        "$STASIS" dump process "$pid" --capture=grab --stop >/dev/null 2>&1 3>&- &
        local client=$!
        wait_for "grep -q 'TracerPid:.*[1-9]' /proc/$pid/status"
        sleep 0.5
        kill -INT "$client"
        wait "$client" || true
        wait_for "! grep -q 'TracerPid:.*[1-9]' /proc/$pid/status"
        intact
        nothing_left
}

@test "CRIU's cache of what the kernel can is a file of our own" {
        # shellcheck disable=SC2016 # python's
        STASIS_GRAB_KDAT=$T/own/criu.kdat LD_PRELOAD=$STASIS_BUILD/stasis-grab.so /usr/bin/python3 -c '
import os, sys
os.mkdir(sys.argv[1] + "/own")
os.close(os.open("/run/criu.kdat.tmp", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
os.rename("/run/criu.kdat.tmp", "/run/criu.kdat")
assert os.listdir(sys.argv[1] + "/own") == ["criu.kdat"]
os.unlink("/run/criu.kdat")
assert "LD_PRELOAD" not in dict(line.split("=", 1) for line in os.popen("env").read().splitlines() if "=" in line)
' "$T"
        [ -z "$(ls "$T/own")" ]
}

@test "a way to capture that there is not" {
        ticker 8
        run -2 "$STASIS" dump process "$pid" --no-server --capture=magic
        [[ $output == *'auto, stream or grab'* ]]
}

# kept NAME: how many pages of a checkpoint were not copied, because they had not been written.
kept() { sed -n 's/.* pages were copied, \([0-9]*\) kept.*/\1/p' "$T/dump.err"; }

# trackers: those of this test; their sockets are in its directory.
trackers() { pgrep -f "stasis track-writes $T/" || true; }

@test "what has not been written since the parent is not copied" {
        export STASIS_LOG_LEVEL_NO_SERVER=debug
        ticker 24
        grab --compression image --name first
        [ "$(kept)" = 0 ]
        grab --compression image --name second --parent "$T/ckpt/first.stasis"
        [ "$(kept)" -gt 6000 ]
        [ "$(stat -c %s "$T/ckpt/second.stasis")" -lt 2000000 ]
        # What is known is known since the last one: all that refers to another one is copied.
        grab --compression image --name other --parent "$T/ckpt/first.stasis"
        [ "$(kept)" = 0 ]
        "$STASIS" checkpoint fold "$T/ckpt/other.stasis" # which is the same one afterwards
        grab --compression image --name third --parent "$T/ckpt/other.stasis"
        [ "$(kept)" -gt 6000 ]
        "$STASIS" checkpoint verify "$T/ckpt/third.stasis"
        # Who reads the output of a dump does not wait for the tracker.
        local tracker said
        tracker=$(trackers)
        [ -n "$tracker" ]
        kill -9 "$tracker"
        wait_gone "$tracker"
        said=$(timeout 60 "$STASIS" dump process "$pid" --no-server --capture=grab --compression image --name piped 2>&1)
        [[ $said == *"$T/ckpt/piped.stasis"* ]]
        tracker=$(trackers)
        [ -n "$tracker" ]
        for checkpoint in "$T"/ckpt/{second,third}.stasis; do
                ended_and_restored intact
        done
        # It ends with what it watches, and leaves nothing.
        wait_gone "$tracker"
        [ -z "$(ls "$T/run/track")" ]
}

@test "a checkpoint that failed is nobody's parent" {
        export STASIS_LOG_LEVEL_NO_SERVER=debug
        ticker 24
        grab --compression image --name first
        # Its memory was looked at, and so what was written before is not known any more.
        LD_PRELOAD="$PROGRAMS/fault.so" ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" STASIS_FAULT_ANY=1 \
                STASIS_FAULT=fsync:1:ENOSPC run ! "$STASIS" dump process "$pid" --no-server --capture=grab \
                --compression image --name broken --parent "$T/ckpt/first.stasis"
        [ ! -e "$T/ckpt/broken.stasis" ]
        grab --compression image --name second --parent "$T/ckpt/first.stasis"
        [ "$(kept)" = 0 ]
        checkpoint=$T/ckpt/second.stasis
        ended_and_restored intact
}

@test "a tracker that is killed: all is copied, and the next one knows again" {
        export STASIS_LOG_LEVEL_NO_SERVER=debug
        ticker 24
        grab --compression image --name first
        local tracker
        tracker=$(trackers)
        kill -9 "$tracker"
        wait_gone "$tracker"
        intact
        grab --compression image --name second --parent "$T/ckpt/first.stasis"
        [ "$(kept)" = 0 ]
        grab --compression image --name third --parent "$T/ckpt/second.stasis"
        [ "$(kept)" -gt 6000 ]
        checkpoint=$T/ckpt/third.stasis
        ended_and_restored intact
}

@test "what is written, forked, mapped and moved between checkpoints is in the next one" {
        local seed=${STASIS_SEED:-$RANDOM} i
        echo "STASIS_SEED=$seed"
        for i in 1 2 3; do
                rm -f "$T/go" "$T/said"
                target "$PROGRAMS/torture" "$((seed + i))" 8 "$T/said" "$T/go"
                wait_for "grep -q ready $T/said" 20
                grab --compression image --name "before$i"
                touch "$T/go"
                sleep "0.0$((i * 2))"
                grab --compression image --stop --name "torture$i" --parent "$checkpoint"
                wait_gone "$pid"
                restore_no_server process --path "$checkpoint"
                wait_for "grep -q -e right -e wrong $T/said" 60
                ! grep -E 'BAD|wrong' "$T/said"
                end_target
                wait "$restorer" || true
        done
}
