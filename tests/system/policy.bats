#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# What is done for jobs without being asked: checkpoints at intervals, restores after deaths, the daemon's own stop with
# checkpoints; and what metrics tell of all that.
# shellcheck disable=SC2154,SC2030,SC2031 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }

# Killed by its user a job is not restored. Supervisors outlive their jobs a little, and may write then.
teardown() {
        local each
        "$STASIS" kill --all --yes >/dev/null 2>&1 || true
        stop_daemon
        for each in "${targets[@]}"; do
                kill_tree "$each"
        done
        ! mountpoint -q "$T/small" || umount "$T/small"
        wait_for "rm -rf $T"
        end_test
}

# of JID FILTER: what is known of a job.
of() { "$STASIS" job list --json | jq -r --arg jid "$1" ".[] | select(.jid == \$jid) | $2"; }

# holds JID FILTER [SECONDS]: becomes true.
holds() { wait_for "[ \"\$($STASIS job list --json | jq '.[] | select(.jid == \"$1\") | $2')\" = true ]" "${3:-15}"; }

# adder JID STEPS [FLAG…]: a job whose result tells whether each of its steps, of 20 ms, was done; sets $pid.
adder() {
        "$STASIS" run process --jid "$1" "${@:3}" -- "$PROGRAMS/adder" "$T/$1.result" "$T/$1.trace" "$2" 20 \
                >"$T/run.out" 3>&-
        pid=$(of "$1" .pid)
        targets+=("$pid")
        alive "$pid"
}

# right FILE [STEPS]: each line once, in order, with the right value; of all steps, when their number is given.
right() {
        awk -v steps="${2:-0}" '
                BEGIN { value = 1 }
                { value = (value * 48271 + NR) % 2147483647; if ($1 != NR || $2 != value) { print "wrong: " NR ": " $0; bad = 1; exit } }
                END { if (bad || (steps && NR != steps)) { print NR " lines"; exit 1 } }' "$1"
}

# files: how many checkpoints there are.
files() { find "$T/ckpt" -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l; }


kill_daemon() {
        kill -9 "$daemon"
        wait "$daemon" || true
        daemon=""
}

# flip FILE: damages it in the middle.
flip() {
        printf '\377\000\377\000\125\252' | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") / 2)) conv=notrunc status=none
}

# Checkpoint.Dir on a disk of so much.
small_disk() {
        mkdir "$T/small"
        mount -t tmpfs -o "size=$1" tmpfs "$T/small"
        export STASIS_CHECKPOINT_DIR=$T/small
}

@test "a job that is killed again and again: its result is right, little is done twice, few checkpoints are kept" {
        local every=1 slack=2 kills=4 steps=260 n
        [ -z "${STASIS_STRESS:-}" ] || { every=5; slack=1; kills=10; steps=4000; }
        start_daemon
        adder sum "$steps" --every "${every}s" --keep 3 --restart=checkpoint
        "$STASIS" dump job sum --name mine >/dev/null
        touch "$T/sum.result.stasis-tail-20260101T000000Z"
        for ((n = 1; n <= kills; n++)); do
                holds sum ".state == \"running\" and .checkpoint.time > .since" $((every + 20))
                sleep "$((RANDOM % every)).$((RANDOM % 8 + 1))"
                # The second time nobody is there to see it.
                [ "$n" != 2 ] || kill_daemon
                kill -9 "$pid"
                [ "$n" != 2 ] || start_daemon
                holds sum ".state == \"running\" and .restarts == $n"
                [ "$(of sum .pid)" = "$pid" ]
        done
        holds sum '.state == "exited"' $((steps / 20 + 20))
        "$STASIS" job inspect sum
        [ "$(of sum '"\(.exit_code) \(.restarts) \(.problem)"')" = "7 $kills null" ]
        right "$T/sum.result" "$steps"
        # 50 steps a second, at most.
        echo "repeated: $(($(lines "$T/sum.trace") - steps))"
        [ $(($(lines "$T/sum.trace") - steps)) -le $((kills * (every + slack) * 50)) ]
        [ "$(sort -nu "$T/sum.trace" | wc -l)" = "$steps" ]

        # Of what the restores cut off only the last is kept; and what a restore by hand had kept.
        [ "$(find "$T" -maxdepth 1 -name 'sum.result.stasis-*-restart-*' | wc -l)" = 1 ]
        [ -e "$T/sum.result.stasis-tail-20260101T000000Z" ]

        # What somebody asked for is nobody else's to remove.
        [ -e "$T/ckpt/mine.stasis" ]
        wait_for "[ \$(find $T/ckpt -mindepth 1 -maxdepth 1 | wc -l) -le 4 ]"
        "$STASIS" checkpoints sum --json >"$T/list"
        [ "$(jq length "$T/list")" = "$(files)" ]
        "$STASIS" job inspect sum | grep -q "a checkpoint every ${every}s, of which 3 are kept, restored when it dies"
}

@test "what is restored by itself: not what its user ended, not what ended, not more often than was said" {
        start_daemon
        adder mine 100000 --every 1s --restart=checkpoint
        adder twice 100000 --every 1s --restart=checkpoint:2
        adder ends 75 --every 1s --restart=checkpoint
        local twice n
        twice=$(of twice .pid)
        holds mine '.checkpoint != null'
        "$STASIS" kill mine
        for n in 1 2; do
                holds twice '.checkpoint.time > .since and .state == "running"'
                kill -9 "$twice"
                holds twice ".restarts == $n and .state == \"running\""
        done
        kill -9 "$twice"
        holds twice '.state == "exited"'
        holds ends '.state == "exited"'
        sleep 1.2
        [ "$(of twice '"\(.state) \(.restarts) \(.exit_code)"')" = "exited 2 137" ]
        [ "$(of mine '"\(.state) \(.restarts)"')" = "exited 0" ]
        [ "$(of ends '"\(.state) \(.restarts) \(.exit_code)"')" = "exited 0 7" ]
        run ! alive "$twice"
}

@test "a damaged checkpoint: the one before it is used; all of them damaged: given up, and said" {
        start_daemon
        adder sum 100000 --every 1s --restart=checkpoint
        wait_for "[ \$(find $T/ckpt -mindepth 1 -maxdepth 1 -name 'dump-*' | wc -l) -ge 2 ]"
        "$STASIS" job schedule sum --every 0 | grep -qx 'job sum: restored when it dies'
        wait_for "! $STASIS daemon status | grep -q 'dump  *job sum'"
        "$STASIS" checkpoints sum --json >"$T/list"
        flip "$(jq -r '.[0].path' "$T/list")"
        kill -9 "$pid"
        holds sum '.restarts >= 1 and .state == "running"'
        wait_lines "$T/sum.result" $(($(lines "$T/sum.result") + 3))
        right "$T/sum.result"
        grep -q 'the one before it is tried' "$T/daemon.log"

        local each
        while read -r each; do
                flip "$each"
        done < <(jq -r '.[1:][].path' "$T/list")
        kill -9 "$(of sum .pid)"
        holds sum '.problem != null'
        sleep 0.5
        [ "$(of sum .state)" = exited ]
        "$STASIS" job inspect sum | grep -E '^problem .*(damaged|checksum|corrupt)'
        [ "$(grep -c 'cannot be restored by its policy' "$T/daemon.log")" = 1 ]
}

@test "a checkpoint that fails: the next one comes later, the problem is shown until it works" {
        small_disk 24m
        start_daemon
        adder sum 100000 --every 1s --keep 1
        holds sum '.checkpoint != null'
        head -c 24m /dev/zero >"$T/small/full" 2>/dev/null || true
        holds sum '.problem != null'
        "$STASIS" job inspect sum | grep -E '^problem .*[Nn]o space'
        # Twice as long, at least.
        holds sum '.next_ms - .checkpoint.time >= 2500'
        alive "$pid"
        rm "$T/small/full"
        holds sum '.problem == null'
        alive "$pid"
        right "$T/sum.result"
        [ "$(find "$T/small" -name '.*' -o -name '*.part*' | wc -l)" = 0 ]
}

@test "job schedule: changes on the fly, is kept by the next daemon, tells what is wrong" {
        start_daemon
        adder sum 100000
        [ "$("$STASIS" job schedule sum)" = "job sum: nothing is done for it by itself" ]
        [ "$(of sum .next_ms)" = null ]
        [ "$("$STASIS" job schedule sum --every 1h30m --keep 2)" = \
                "job sum: a checkpoint every 1h30m, of which 2 are kept" ]
        [ "$(of sum '.next_ms - .since')" = 5400000 ]
        "$STASIS" job schedule sum --every 1s --restart=checkpoint:4 --json |
                jq -e '. == {jid: "sum", every_ms: 1000, keep: 2, restart: true, restart_max: 4}'
        holds sum '.checkpoint != null'
        kill_daemon
        rm -rf "${T:?}/stasis.db"*
        start_daemon
        # Also from the job's own record, without the database.
        "$STASIS" job schedule sum --json |
                jq -e '. == {jid: "sum", every_ms: 1000, keep: 2, restart: true, restart_max: 4}'
        holds sum '.checkpoint != null'
        stop_daemon
        start_daemon
        [ "$("$STASIS" job schedule sum --every 0 --restart=no)" = "job sum: nothing is done for it by itself" ]
        [ "$(of sum .next_ms)" = null ]

        run ! "$STASIS" job schedule sum --every 10ms
        [[ "$output" == *"1 second to 365 days"* ]]
        run ! "$STASIS" job schedule sum --every often
        [[ "$output" == *"'often' is not a time"* ]]
        run ! "$STASIS" job schedule sum --restart=always
        [[ "$output" == *"checkpoint, checkpoint:N, no"* ]]
        run ! "$STASIS" job schedule sum --keep=-1
        [[ "$output" == *"0 or more"* ]]
        run ! "$STASIS" job schedule other --every 1s
        [[ "$output" == *"other"* ]]
}

@test "daemon stop --checkpoint: who has a policy is saved and comes back, others run on" {
        start_daemon
        adder one 100000 --restart=checkpoint
        local one=$pid two plain
        adder two 100000 --every 1h
        two=$pid
        adder plain 100000
        plain=$pid
        wait_lines "$T/two.result" 10
        "$STASIS" daemon stop --checkpoint >"$T/stop.out"
        wait "$daemon"
        [ "$(sort "$T/stop.out")" = "job one is saved, and will go on at the next start
job two is saved, and will go on at the next start
stopped daemon $daemon" ]
        daemon=""
        run ! alive "$one"
        run ! alive "$two"
        alive "$plain"
        # What is written after that is rolled back.
        echo "no line of its own" >>"$T/one.result"

        start_daemon
        holds one '.state == "running"'
        holds two '.state == "running"'
        [ "$(of one .pid) $(of two .pid) $(of plain .pid)" = "$one $two $plain" ]
        wait_lines "$T/one.result" $(($(lines "$T/one.result") + 5))
        wait_lines "$T/two.result" $(($(lines "$T/two.result") + 5))
        right "$T/one.result"
        right "$T/two.result"
        right "$T/plain.result"
        # Each step once: what was saved was ended at that moment.
        [ "$(uniq -d "$T/one.trace")" = "" ]
        [ "$(of one .problem)" = null ]
        # Once only: not again at the start after that.
        stop_daemon
        start_daemon
        [ "$(of one '"\(.state) \(.pid)"')" = "running $one" ]
        run ! "$STASIS" daemon stop --checkpoint=soon
        [[ "$output" == *"'soon' is not a time"* ]]
        alive "$daemon"
}

# A restore takes three seconds longer when files are to be cut.
start_slow_restorer() { start_daemon "${faulty[@]}" STASIS_FAULT=ftruncate:1:pause; }

@test "daemon stop --checkpoint: what is just being restored is saved after that" {
        start_daemon
        adder sum 100000 --restart=checkpoint
        "$STASIS" daemon stop --checkpoint
        wait "$daemon"
        echo "no line of its own" >>"$T/sum.result"
        start_slow_restorer
        holds sum '.state == "restoring"'
        [ "$("$STASIS" daemon stop --checkpoint)" = "job sum is saved, and will go on at the next start
stopped daemon $daemon" ]
        wait "$daemon"
        run ! alive "$pid"
        [ "$(uniq -d "$T/sum.trace")" = "" ]

        # The time is too short even for the restore: that goes on all the same.
        echo "no line of its own" >>"$T/sum.result"
        start_slow_restorer
        holds sum '.state == "restoring"'
        "$STASIS" daemon stop --checkpoint=200ms >"$T/stop.out"
        grep -q '^job sum runs on, not saved: the time was too short' "$T/stop.out"
        wait "$daemon"
        start_daemon
        holds sum '.state == "running"'
        [ "$(of sum '"\(.pid) \(.problem)"')" = "$pid null" ]
        wait_lines "$T/sum.result" $(($(lines "$T/sum.result") + 3))
        right "$T/sum.result"
}

@test "a restore after daemon stop --checkpoint that is interrupted is made again" {
        start_daemon
        adder sum 100000 --restart=checkpoint
        "$STASIS" daemon stop --checkpoint
        wait "$daemon"
        echo "no line of its own" >>"$T/sum.result"
        start_slow_restorer
        holds sum '.state == "restoring"'
        local worker
        worker=$(pgrep -P "$daemon" -f '^[^ ]* worker')
        kill_daemon
        kill -9 "$worker"
        start_daemon
        holds sum '.state == "running"'
        [ "$(of sum .pid)" = "$pid" ]
        wait_lines "$T/sum.result" $(($(lines "$T/sum.result") + 3))
        right "$T/sum.result"
}

@test "daemon stop --checkpoint=TIME: what is not saved in time runs on" {
        start_slow_daemon
        adder sum 100000 --restart=checkpoint
        "$STASIS" daemon stop --checkpoint=1s --json >"$T/stop.json" &
        local stop=$!
        wait_for "$STASIS daemon status | grep -q 'dump  *job sum'" || true
        # One at a time.
        run ! "$STASIS" daemon stop --checkpoint
        wait "$stop"
        wait "$daemon"
        daemon=""
        jq -e '.messages[0] | startswith("job sum runs on, not saved: the time was too short")' "$T/stop.json"
        alive "$pid"
        wait_lines "$T/sum.result" $(($(lines "$T/sum.result") + 3))
        nothing_left
        start_daemon
        [ "$(of sum '"\(.state) \(.pid)"')" = "running $pid" ]
}

@test "the machine is started anew: a job comes back from its checkpoint" {
        start_daemon
        adder sum 100000 --every 1s --restart=checkpoint
        adder plain 100000 --every 1s
        local plain=$pid
        pid=$(of sum .pid)
        holds sum '.checkpoint != null'
        holds plain '.checkpoint != null'
        kill_daemon
        # With a reboot go the processes, what is in the run directory, and the ID of the boot.
        local each supervisors
        supervisors=$(ps -o ppid= -p "$pid" -p "$plain")
        for each in $supervisors "$pid" "$plain"; do
                kill -9 "$each"
        done
        wait_gone "$pid"
        wait_gone "$plain"
        rm -rf "${T:?}/run"
        python3 - "$T/stasis.db" <<'EOF'
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    assert db.execute("UPDATE jobs SET boot = '00000000-0000-0000-0000-000000000000' WHERE boot IS NOT NULL").rowcount == 2
EOF
        start_daemon
        holds sum '.state == "running"'
        [ "$(of sum '"\(.pid) \(.restarts)"')" = "$pid 1" ]
        wait_lines "$T/sum.result" $(($(lines "$T/sum.result") + 3))
        right "$T/sum.result"
        [ "$(of plain .state)" = lost ]
        "$STASIS" job inspect plain | grep -q reboot
}

# metrics [CURL ARGUMENT…]: the page, checked; in $T/page.
metrics() {
        curl -sSf -o "$T/page" -D "$T/head" "$@"
        grep -qi '^content-type: application/openmetrics-text; version=1.0.0' "$T/head"
        python3 "$BATS_TEST_DIRNAME/openmetrics.py" "$T/page"
}

# metric SAMPLE: its value.
metric() { awk -v name="$1" '{ value = $NF; sub(/ [^ ]*$/, "") } $0 == name { print value; found = 1 } END { exit !found }' "$T/page"; }

@test "metrics: what was done, how long it took, what there is" {
        start_daemon STASIS_METRICS_ENABLED=true
        metrics --unix-socket "$T/run/metrics.sock" http://stasis/metrics
        [ "$(metric 'stasis_jobs{state="running"}')" = 0 ]
        adder sum 100000
        "$STASIS" dump job sum --name one >/dev/null
        run ! "$STASIS" dump process 1 --name one
        metrics --unix-socket "$T/run/metrics.sock" http://stasis/metrics
        [ "$(metric 'stasis_operations_total{operation="dump",type="process",result="ok"}')" = 1 ]
        [ "$(metric 'stasis_operations_total{operation="dump",type="process",result="error"}')" = 1 ]
        [ "$(metric 'stasis_operations_total{operation="run",type="process",result="ok"}')" = 1 ]
        [ "$(metric 'stasis_operation_duration_seconds_count{operation="dump",type="process"}')" = 2 ]
        [ "$(metric 'stasis_frozen_seconds_count{type="process"}')" = 1 ]
        [ "$(metric 'stasis_checkpoint_bytes_total{type="process"}')" = "$(stat -c %s "$T/ckpt/one.stasis")" ]
        [ "$(metric 'stasis_jobs{state="running"}')" = 1 ]
        [ "$(metric stasis_operations_running)" = 0 ]
        [ "$(metric stasis_resident_memory_bytes)" -gt 1000000 ]
        [ "$(stat -c %a "$T/run/metrics.sock")" = 600 ]
        run ! curl -sSf --unix-socket "$T/run/metrics.sock" http://stasis/other
        stop_daemon
        [ ! -e "$T/run/metrics.sock" ]
}

@test "metrics on the loopback only; off when nobody asked" {
        local port
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        start_daemon STASIS_METRICS_ENABLED=true "STASIS_METRICS_ADDRESS=127.0.0.1:$port"
        metrics "http://127.0.0.1:$port/metrics"
        # Who asks slowly is in nobody's way.
        exec 4<>"/dev/tcp/127.0.0.1/$port"
        printf 'GET /metrics HTTP/1.1\r\nHo' >&4
        metrics "http://127.0.0.1:$port/metrics"
        "$STASIS" daemon status >/dev/null
        exec 4>&-
        stop_daemon
        run ! env STASIS_METRICS_ENABLED=true "STASIS_METRICS_ADDRESS=0.0.0.0:$port" timeout 10 "$STASIS" daemon start
        [[ "$output" == *"is reached from outside"* ]]
        start_daemon
        [ ! -e "$T/run/metrics.sock" ]
}
