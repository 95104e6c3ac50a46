#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Programs are dumped, end, are restored with their PID, and go on as if nothing had been: through the daemon, and
# without.
# shellcheck disable=SC2154 # pid, checkpoint … are set by common.bash

load common

setup() { start_test; }
teardown() { end_test; }

# roundtrip daemon|no-server [DUMP ARGUMENT…]: dump --stop and restore $pid.
roundtrip() {
        local how=$1
        shift
        if [ "$how" = daemon ]; then
                [ -n "$daemon" ] || start_daemon
                dump process "$pid" --stop "$@"
        else
                dump process "$pid" --stop --no-server "$@"
        fi
        wait_gone "$pid"
        if [ "$how" = daemon ]; then
                restore process --path "$checkpoint"
        else
                restore_no_server process --path "$checkpoint"
        fi
        alive "$pid"
}

# The file holds 1, 2, 3, … in its first column, none missing and none twice.
no_gap() {
        awk '$1 != NR { print "line " NR " is " $0; bad = 1; exit } END { exit bad }' "$1"
}

shell_loop() {
        # shellcheck disable=SC2016
        target sh -c 'i=0; while :; do i=$((i + 1)); echo $i >>"$0"; sleep 0.02; done' "$T/count"
        wait_lines "$T/count" 5
        roundtrip "$@"
        wait_lines "$T/count" $(($(lines "$T/count") + 5))
        no_gap "$T/count"
}

pipeline() {
        # shellcheck disable=SC2016
        target bash -c 'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done |
                while read -r n; do echo "$n" >>"$0"; done' "$T/count"
        wait_lines "$T/count" 5
        roundtrip "$@"
        wait_lines "$T/count" $(($(lines "$T/count") + 5))
        no_gap "$T/count"
}

threads() {
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 5
        roundtrip "$@"
        wait_lines "$T/count" $(($(lines "$T/count") + 5))
        no_gap "$T/count"
        [ "$(tail -n 1 "$T/count" | cut -d ' ' -f 2)" = 64 ]
}

python() {
        seq 1000 >"$T/input"
        cat >"$T/program.py" <<'END'
import sys, time
source = open(sys.argv[1])
sink = open(sys.argv[2], "w")
for line in source:
    sink.write(line)
    sink.flush()
    time.sleep(0.005)
sink.write("end\n")
sink.close()
time.sleep(60)
END
        target python3 "$T/program.py" "$T/input" "$T/output"
        wait_lines "$T/output" 20
        roundtrip "$@"
        wait_for "tail -n 1 $T/output | grep -q end" 20
        sed '$d' "$T/output" | cmp - "$T/input"
}

tree() {
        target "$PROGRAMS/tree" "$T/tree.sock" "$T/count"
        wait_lines "$T/count" 5
        roundtrip "$@"
        wait_lines "$T/count" $(($(lines "$T/count") + 5))
        no_gap "$T/count"
        # Each round is two hops.
        awk '$2 != 2 * $1 { exit 1 }' "$T/count"
}

# The dump of the checkpoint has left no table of CRIU's, which is called by the run's ID. Others' may be there.
no_rules() {
        local id
        id=$(saved inventory.img | grep -aoE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')
        [ -n "$id" ]
        ! nft list tables | grep -q "CRIU-${id:0:13}"
}

redis() {
        local port=$((10000 + RANDOM % 20000)) answer
        target redis-server --port "$port" --save '' --dir "$T" --enable-debug-command yes
        wait_for "redis-cli -p $port ping"
        redis-cli -p "$port" debug populate 200000 key 1000
        redis-cli -p "$port" set answer 42
        exec 5<>"/dev/tcp/127.0.0.1/$port"
        printf 'CLIENT ID\r\n' >&5
        read -r -t 5 id <&5

        roundtrip "$1" "${@:2}" --name redis &
        local job=$!
        # The client writes while the server is dead; if it is restored already, the test has shown less but not failed.
        wait_for "[ ! -e /proc/$pid ]" 60
        printf 'GET answer\r\n' >&5
        wait "$job"

        read -r -t 20 _ <&5
        read -r -t 5 answer <&5
        [ "${answer%$'\r'}" = 42 ]
        printf 'CLIENT ID\r\n' >&5
        read -r -t 5 answer <&5
        [ "$answer" = "$id" ]
        [ "$(redis-cli -p "$port" dbsize)" = 200001 ]
        [ "$(redis-cli -p "$port" get key:199999 | wc -c)" -ge 1000 ]
        exec 5>&-
        ! nft list ruleset | grep -qw "$port"
}

@test "a shell loop, through the daemon" { shell_loop daemon; }
@test "a shell loop, without" { shell_loop no-server; }
@test "a shell loop, as a directory" { shell_loop daemon --compression none; }
@test "a shell pipeline, through the daemon" { pipeline daemon; }
@test "a shell pipeline, without" { pipeline no-server; }
@test "64 threads, through the daemon" { threads daemon; }
@test "64 threads, without" { threads no-server --compression none; }
@test "python with open files, through the daemon" { python daemon --compression none; }
@test "python with open files, without" { python no-server; }
@test "a tree with UNIX sockets and shared memory, through the daemon" { tree daemon; }
@test "a tree with UNIX sockets and shared memory, without" { tree no-server; }
@test "redis with 200 MB and a client that writes while it is dead, through the daemon" { redis daemon; }
@test "redis with 200 MB and a client that writes while it is dead, without" { redis no-server --compression none; }

@test "a process without connections leaves no network rules, not even while it is away" {
        target sleep 1000
        roundtrip no-server
        no_rules
        dump process "$pid" --stop --no-server --name away
        no_rules
}

@test "a process that holds file locks, with no option" {
        cat >"$T/program.py" <<'END'
import fcntl, sys, time
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
ranged = open(sys.argv[1] + ".posix", "w")
fcntl.lockf(ranged, fcntl.LOCK_EX, 10)
print("held", file=open(sys.argv[2], "w"), flush=True)
time.sleep(1000)
END
        target python3 "$T/program.py" "$T/lock" "$T/ready"
        wait_for "[ -s $T/ready ]"
        roundtrip no-server
        flock --nonblock "$T/lock" true && return 1
        [ "$(grep -c " $pid " /proc/locks)" = 2 ]
}

@test "a dump leaves its target running, again and again" {
        # shellcheck disable=SC2016
        target sh -c 'i=0; while :; do i=$((i + 1)); echo $i >>"$0"; sleep 0.02; done' "$T/count"
        wait_lines "$T/count" 3
        start_daemon
        for i in 1 2 3; do
                dump process "$pid" --name "again$i"
                alive "$pid"
                wait_lines "$T/count" $(($(lines "$T/count") + 2))
        done
        no_gap "$T/count"
}

@test "the exit code of a restored process: known to the daemon, passed on without it" {
        target sh -c "while [ ! -e $T/go ]; do sleep 0.05; done; exit 42"
        roundtrip no-server
        touch "$T/go"
        run wait "$restorer"
        wait "$restorer" && status=0 || status=$?
        [ "$status" = 42 ]

        rm "$T/go"
        target sh -c "while [ ! -e $T/go ]; do sleep 0.05; done; exit 43"
        roundtrip daemon
        [ -n "$(ls "$T/run/jobs")" ]
        touch "$T/go"
        wait_for "grep -q 'process $pid .* exited with code 43' $T/daemon.log"
        [ -z "$(ls "$T/run/jobs")" ]
}

@test "a restored process outlives the daemon, and the next daemon learns how it ended" {
        target sh -c "while [ ! -e $T/go ]; do sleep 0.05; done; exit 44"
        roundtrip daemon
        kill -9 "$daemon"
        wait "$daemon" || true
        alive "$pid"
        touch "$T/go"
        wait_gone "$pid"
        start_daemon
        wait_for "grep -q 'process $pid .* exited with code 44' $T/daemon.log"
}

@test "a process on a terminal comes back on a terminal" {
        script -qfc "exec bash --norc -c 'echo \$\$ >$T/pid; while read -r line; do echo \"got \$line\" >>$T/lines; done'" /dev/null \
                < <(sleep 100) >/dev/null 2>&1 3>&- &
        local terminal=$!
        wait_for "[ -s $T/pid ]"
        pid=$(cat "$T/pid")
        targets+=("$pid" "$terminal")
        start_daemon
        dump process "$pid" --stop
        wait_gone "$pid"
        restore process --path "$checkpoint"
        alive "$pid"
        [ "$(readlink "/proc/$pid/fd/0" | cut -c 1-9)" = /dev/pts/ ]
}

@test "a process with a terminal pair of its own, and one that a failed restore does not hide" {
        cat >"$T/program.py" <<'END'
import os, pty, sys, time
master, slave = pty.openpty()
i = 0
while True:
    i += 1
    os.write(slave, b"%d\n" % i)
    line = os.read(master, 100)
    with open(sys.argv[1], "a") as f:
        f.write(line.decode().strip() + "\n")
    time.sleep(0.02)
END
        target python3 "$T/program.py" "$T/count"
        wait_lines "$T/count" 5
        roundtrip daemon
        wait_lines "$T/count" $(($(lines "$T/count") + 5))
        no_gap "$T/count"
}
