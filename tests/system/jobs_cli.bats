#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Jobs by the command line: run, exec, manage, job …, and attaching with and without a terminal.
# shellcheck disable=SC2154,SC2016 # set by common.bash and bats; the jobs' own variables

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        start_daemon
}

teardown() {
        "$STASIS" kill --all --yes >/dev/null 2>&1 || true
        wait_for "[ -z \"\$($STASIS job list --json | jq -r '.[] | select(.state == \"running\") | .jid')\" ]" 10 || true
        end_test
}

# As the last command has it, without the descriptor of bats: attached, with input from nowhere unless it is redirected.
attached() { timeout -k 2 30 "$STASIS" "$@" 3>&-; }

# fails TEXT COMMAND…: not with 0, and that text in what it says.
fails() {
        local text=$1
        shift
        run timeout -k 2 30 "$@" 3>&-
        [ "$status" -ne 0 ]
        [[ $output == *"$text"* ]] || { echo "no '$text' in: $output"; return 1; }
}

# on_terminal [SIZE] COMMAND…, its steps from standard input (terminal.py): $status and $output.
on_terminal() {
        run timeout -k 2 60 python3 "$BATS_TEST_DIRNAME/terminal.py" "$@" 3>&-
        output=${output//$'\r'/}
}

of() { "$STASIS" job inspect "$1" --json | jq -r "$2"; }

becomes() { wait_for "[ \"\$($STASIS job inspect $1 --json | jq -r .state)\" = $2 ]" 10; }

@test "no jobs" {
        run "$STASIS" ps
        [ "$status" -eq 0 ]
        [ "$output" = "No jobs found" ]
        [ "$("$STASIS" jobs --json)" = "[]" ]
        fails "there is no job nobody" "$STASIS" job inspect nobody
        fails "there is no job nobody" "$STASIS" attach nobody
        fails "there is no job nobody" "$STASIS" job logs nobody
        fails "nobody" "$STASIS" kill nobody
        fails "nobody" "$STASIS" delete nobody
        fails "nobody" "$STASIS" dump job nobody
        fails "nobody" "$STASIS" restore job nobody
        fails "nobody" "$STASIS" freeze job nobody
        fails "JID is missing" "$STASIS" kill
        fails "goes without JIDs" "$STASIS" delete --all x
        fails "is no signal" "$STASIS" kill -s NOPE x
}

@test "run tells the job and its process, and ps shows them" {
        run "$STASIS" run process --jid train --pid-file "$T/pid" sh -c 'echo hello; sleep 60'
        [ "$status" -eq 0 ]
        [ "$output" = "running job train, process $(cat "$T/pid")" ]
        run "$STASIS" ps
        [[ ${lines[0]} =~ ^JOB\ +TYPE\ +PID\ +STATUS\ +CHECKPOINT\ +SIZE\ +LOG$ ]]
        [ "$(awk '{ print $1, $2, $3, $NF }' <<<"${lines[1]}")" = \
                "train process $(cat "$T/pid") $T/log/stasis-output-train.log" ]
        wait_for "$STASIS job logs train | grep -q hello"
        [ "$("$STASIS" job logs train)" = hello ]

        "$STASIS" run process --json --out "$T/out" sh -c 'pwd; umask; echo "$X"; exec sleep 60' >"$T/json"
        [ "$(jq -r .log "$T/json")" = "$T/out" ]
        alive "$(jq .pid "$T/json")"
        [ "$("$STASIS" job list --json | jq -r '.[].jid' | sort | tr '\n' ' ')" = \
                "$(printf '%s\n' train "$(jq -r .jid "$T/json")" | sort | tr '\n' ' ')" ]
        "$STASIS" job inspect "$(jq -r .jid "$T/json")" | grep -q '^command .*exec sleep 60'
        fails "there is a job train already" "$STASIS" exec --jid train -- true
        fails "cannot be a job's name" "$STASIS" exec --jid 'a b' -- true
}

@test "a job has what its caller has" {
        mkdir "$T/here"
        cd "$T/here"
        run env X=something sh -c 'umask 027; ulimit -n 77; exec "$0" run process --attach sh -c \
                "pwd; umask; ulimit -n; echo \$X; id -u; [ -t 0 ] || echo pipe" </dev/null' "$STASIS"
        [ "$status" -eq 0 ]
        [ "$output" = "$T/here"$'\n0027\n77\nsomething\n0\npipe' ]
}

@test "the streams of an attached job, and its exit code" {
        status=0
        printf 'in\nput' | attached exec --attach -- sh -c 'echo out; echo err >&2; cat; exit 42' \
                >"$T/out" 2>"$T/err" || status=$?
        [ "$status" -eq 42 ]
        [ "$(cat "$T/out")" = $'out\nin\nput' ]
        [ "$(cat "$T/err")" = err ]
        run -143 attached run process -a sh -c 'kill $$' </dev/null
        [ -z "$output" ]
}

@test "nothing of a long output is lost, and a slow reader is waited for" {
        attached run -a process head -c 50000000 /dev/zero </dev/null | wc -c >"$T/size"
        [ "$(cat "$T/size")" -eq 50000000 ]
        attached run -a process sh -c 'seq 200000; exit 3' </dev/null | { sleep 0.5; md5sum; } >"$T/sum"
        [ "$(cat "$T/sum")" = "$(seq 200000 | md5sum)" ]
        seq 200000 | attached run -a process sort -n | cmp - <(seq 200000)
}

@test "when nobody reads, the job runs on" {
        attached run -a --jid y process sh -c 'while echo y; do sleep 0.01; done' </dev/null 2>"$T/err" | head -1 >/dev/null
        [ "${PIPESTATUS[0]}" -eq 141 ]
        grep -q "job y runs on, 'stasis attach y'" "$T/err"
        [ "$(of y .state)" = running ]
}

@test "signals go to the job; two Ctrl-C detach" {
        local each
        for each in INT TERM HUP QUIT USR1 USR2; do
                : >"$T/out"
                timeout -k 2 30 "$STASIS" run -a process sh -c "trap 'echo got; exit 5' $each; echo ready; while :; do sleep 0.02; done" \
                        <"$T/daemon.log" >"$T/out" 2>&1 3>&- &
                local timeout=$! client
                wait_for "grep -q ready $T/out"
                client=$(pgrep -P "$timeout")
                # A shell lets its background ignore SIGINT and SIGQUIT, but they are sent, not typed.
                kill -s "$each" "$client"
                wait "$timeout" && status=0 || status=$?
                [ "$status" -eq 5 ] || { echo "$each: $status"; cat "$T/out"; return 1; }
                grep -q got "$T/out"
        done

        timeout -k 2 30 "$STASIS" run -a --jid stay process sh -c 'trap "" INT; echo ready; sleep 60' \
                </dev/null >"$T/out" 2>"$T/err" 3>&- &
        local last=$!
        wait_for "grep -q ready $T/out"
        kill -INT "$(pgrep -P $last)"
        sleep 0.1
        kill -INT "$(pgrep -P $last)"
        wait $last
        grep -q "detached: job stay runs on" "$T/err"
        [ "$(of stay .state)" = running ]
}

@test "input that the job does not read is no obstacle for a signal" {
        yes | timeout -k 2 30 "$STASIS" run -a --jid deaf process sh -c 'echo ready; exec sleep 60' >"$T/out" 2>&1 3>&- &
        local last=$!
        wait_for "grep -q ready $T/out"
        sleep 0.3
        kill -INT "$(pgrep -f -x "$STASIS run -a --jid deaf .*")"
        becomes deaf exited
        [ "$(of deaf .exit_code)" -eq 130 ]
        wait $last || true
}

@test "a terminal: size, keys, signals, exit code" {
        on_terminal 30x100 "$STASIS" run -a --jid t process sh -c \
                'trap "echo int" INT; trap "stty size" WINCH; stty size; until read -r x; do :; done; echo "got $x"; until read -r x; do :; done; exit 7' <<'STEPS'
wait 30 100
type hello\r
wait got hello
size 40x120
wait 40 120
type \x03
wait int
type x\r
STEPS
        [[ $output == *$'settings kept\nexit 7' ]]
        [ "$(of t .terminal)" = true ]
}

@test "detach keys, and coming back" {
        on_terminal "$STASIS" run -a --jid t process sh -c 'stty -echo; while read -r x; do echo "<$x>"; done' <<'STEPS'
sleep 0.3
type one\r\x10\x11
wait <one>
wait detached
STEPS
        [[ $output == *"job t runs on, 'stasis attach t'"*$'settings kept\nexit 0' ]]
        on_terminal "$STASIS" attach t --detach-keys ctrl-a,d <<'STEPS'
type two\r
wait <two>
type \x10\r
wait <\x10>
type \x01\r
wait <\x01>
type \x01d
wait detached
STEPS
        [[ $output == *$'settings kept\nexit 0' ]]
        # By PID, too; what ends the command leaves the terminal as it was.
        on_terminal "$STASIS" attach "$(of t .pid)" <<'STEPS'
type three\r
wait <three>
signal TERM
STEPS
        [[ $output == *$'settings kept\nexit 143' ]]
        on_terminal "$STASIS" attach t <<'STEPS'
type four\r
wait <four>
hangup
STEPS
        [[ $output == *$'exit '* ]]
        [ "$(of t .state)" = running ]
        # The end of an attach by the job.
        on_terminal "$STASIS" attach t <<'STEPS'
type five\r
wait <five>
type \x04
STEPS
        [[ $output == *$'settings kept\nexit '* ]]
        [ "$(of t .state)" = exited ]
}

@test "several are attached at once" {
        attached run process --attachable --jid many sh -c 'while read -r x; do echo "$x"; done; exit 9' >/dev/null
        mkfifo "$T/one" "$T/two"
        timeout -k 2 30 "$STASIS" attach many <"$T/one" >"$T/out1" 3>&- &
        local first=$!
        exec 8>"$T/one"
        timeout -k 2 30 "$STASIS" attach many <"$T/two" >"$T/out2" 3>&- &
        local second=$!
        exec 9>"$T/two"
        echo a >&8
        wait_for "grep -q a $T/out1"
        # The second one is there when it sees something.
        wait_for "echo b >&9; sleep 0.02; grep -q b $T/out2"
        echo c >&8
        wait_for "grep -q c $T/out1 && grep -q c $T/out2"
        exec 8>&- 9>&-
        wait $first && status=0 || status=$?
        [ "$status" -eq 9 ]
        wait $second && status=0 || status=$?
        [ "$status" -eq 9 ]
}

@test "dump, restore and attach by name" {
        "$STASIS" run --attachable --jid j process sh -c 'while read -r x; do echo "<$x>"; done; exit 42' >/dev/null
        run "$STASIS" dump job j --stop
        [ "$status" -eq 0 ]
        checkpoint=${lines[-1]##* }
        [ -e "$checkpoint" ]
        becomes j checkpointed
        fails "is not running (checkpointed)" "$STASIS" attach j
        run "$STASIS" ps
        [[ ${lines[1]} == *halted*B* ]]

        local id
        id=$("$STASIS" checkpoints j --json | jq -r '.[0].id')
        run "$STASIS" job checkpoint list j
        [[ ${lines[0]} =~ ^ID\ +TIME\ +SIZE\ +NEEDS\ +PATH$ ]]
        [[ ${lines[1]} == "$id "*"  -  "*" $checkpoint" ]]
        [ "$("$STASIS" checkpoint verify "$id")" = "verified $checkpoint" ]
        "$STASIS" checkpoint inspect "$id" -t ps | grep -q sh
        "$STASIS" checkpoint export "$id" "$T/copy.tar"
        fails "no checkpoint of that ID" "$STASIS" checkpoint verify nothing

        printf 'one\ntwo\n' | attached restore job j --attach >"$T/out" 2>"$T/err" && status=0 || status=$?
        [ "$status" -eq 42 ]
        [ "$(cat "$T/out")" = $'<one>\n<two>' ]
        run attached restore job j --path "$T/copy.tar" --attach </dev/null
        [ "$status" -eq 42 ]

        "$STASIS" checkpoint delete "$id"
        [ ! -e "$checkpoint" ]
        [ "$("$STASIS" checkpoints j --json | jq -r --arg id "$id" '[.[] | select(.id == $id)] | length')" -eq 0 ]
        run "$STASIS" job inspect j
        [[ $output == *History*checkpointed* ]]
}

@test "a logged job: restored and attached, its exit code comes" {
        "$STASIS" run --jid l process sh -c 'i=0; while [ $i -lt 60 ]; do i=$((i + 1)); echo $i; sleep 0.02; done; exit 42' >/dev/null
        wait_lines "$T/log/stasis-output-l.log" 5
        "$STASIS" dump job l --stop >/dev/null
        run attached restore job l --attach --files=rollback </dev/null
        [ "$status" -eq 42 ]
        [ "$("$STASIS" job logs l)" = "$(seq 60)" ]
        run "$STASIS" checkpoints nothing
        [[ $output == *"No checkpoints found for job nothing"* || $output == *"no job nothing"* ]]
}

@test "freeze and unfreeze by name" {
        "$STASIS" run --jid f process sh -c 'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done' >/dev/null
        wait_lines "$T/log/stasis-output-f.log" 3
        [ "$("$STASIS" freeze job f)" = "froze job f" ]
        local before
        before=$(lines "$T/log/stasis-output-f.log")
        sleep 0.2
        [ "$(lines "$T/log/stasis-output-f.log")" -le $((before + 1)) ]
        [ "$("$STASIS" unfreeze job f)" = "unfroze job f" ]
        wait_lines "$T/log/stasis-output-f.log" $((before + 3))
}

@test "job logs -f follows to the end, through an emptied file and another one" {
        "$STASIS" run --jid l process sh -c 'echo one; while [ ! -e "$0" ]; do sleep 0.02; done; echo last; exit 3' "$T/go" >/dev/null
        timeout -k 2 30 "$STASIS" job logs -f l >"$T/out" 3>&- &
        local follower=$!
        wait_for "grep -q one $T/out"
        pkill -STOP -P "$follower" # so that it finds as many bytes as it has read
        : >"$T/log/stasis-output-l.log"
        echo two >>"$T/log/stasis-output-l.log"
        pkill -CONT -P "$follower"
        wait_for "grep -q two $T/out"
        mv "$T/log/stasis-output-l.log" "$T/log/old"
        touch "$T/go" # it has the old one open
        wait $follower
        grep -q last "$T/out"
        [ "$(grep -c one "$T/out")" -eq 1 ]
}

@test "kill and delete" {
        local each
        for each in a b c; do
                "$STASIS" run --jid "$each" process sleep 60 >/dev/null
        done
        "$STASIS" kill -s TERM a
        becomes a exited
        [ "$(of a .exit_code)" -eq 143 ]
        run "$STASIS" kill a
        [[ $output == *"nothing to kill"* ]]
        fails "b" "$STASIS" delete b
        "$STASIS" delete a
        fails "there is no job a" "$STASIS" job inspect a

        on_terminal "$STASIS" kill --all <<'STEPS'
wait Kill 2 jobs? [y/N]
type n\r
STEPS
        [[ $output == *"exit 1" ]]
        [ "$(of b .state)" = running ]
        "$STASIS" kill --all
        becomes b exited
        becomes c exited
        on_terminal "$STASIS" delete -a <<'STEPS'
wait Delete 2 jobs? [y/N]
type y\r
STEPS
        [[ $output == *"exit 0" ]]
        [ "$("$STASIS" ps)" = "No jobs found" ]
}

@test "manage a process" {
        target sleep 60
        [ "$("$STASIS" manage process "$pid" --jid m)" = "managing job m, process $pid" ]
        fails "cannot be attached to" "$STASIS" attach m
        fails "has no log" "$STASIS" job logs m
        fails "no PID to wait for" "$STASIS" manage process "$pid" --upcoming
        [ "$("$STASIS" ps | awk '$1 == "m" { print $NF }')" = - ]
        "$STASIS" kill m
        becomes m lost
}

@test "run --no-server: streams, exit code, no job" {
        run attached run --no-server process sh -c 'cat; echo "$0"; exit 6' word <<<input
        [ "$status" -eq 6 ]
        [ "$output" = $'input\nword' ]
        run attached exec --no-server --attach -- true </dev/null
        [ "$status" -eq 0 ]
        [[ $output == *"--attach is not needed"* ]]
        [ "$("$STASIS" ps)" = "No jobs found" ]
        fails "only the daemon knows jobs" "$STASIS" dump job x --no-server
}

@test "a command that cannot be run" {
        fails "there is no such command" "$STASIS" run process no-such-command
        [ "$status" -eq 1 ]
        fails "is a directory" "$STASIS" run process /etc
        touch "$T/plain"
        fails "not executable" "$STASIS" run process "$T/plain"
        printf 'no program' >"$T/plain"
        chmod +x "$T/plain"
        fails "plain" "$STASIS" run -a process "$T/plain"
        [ "$("$STASIS" ps)" = "No jobs found" ]
}

@test "names are completed, also those of the daemon's jobs" {
        "$STASIS" run --jid living process sleep 60 >/dev/null
        "$STASIS" run -a --jid ended process true </dev/null
        becomes ended exited
        [[ $("$STASIS" __complete -- attach '') == living* ]]
        [[ $("$STASIS" __complete -- job delete '') == ended* ]]
        [[ $("$STASIS" __complete -- restore job '') == ended* ]]
        [[ $("$STASIS" __complete -- job inspect l) == living* ]]
        [ "$(STASIS_ADDRESS=$T/nobody "$STASIS" __complete -- attach '')" = :nothing ]
        [[ $("$STASIS" __complete -- p) == *$'ps\t'* ]]
}
