#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# What a run gives a process and what a restore gives it again: streams, identity, limits, cgroup.
# shellcheck disable=SC2154,SC2030,SC2031,SC2016 # set by common.bash and bats; each test is a subshell; what targets expand

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }

teardown() { end_test; }

run_here() { run --separate-stderr "$STASIS" run --no-server "$@" </dev/null 3>&-; }

# hosted COMMAND…: as the leader of a session on a terminal that another process holds; sets $pid and $host.
hosted() {
        python3 -S "$BATS_TEST_DIRNAME/terminal_host.py" "$T/terminal" "$@" >"$T/pid" 2>"$T/host.err" </dev/null 3>&- &
        host=$!
        wait_for "[ -s $T/pid ]"
        pid=$(cat "$T/pid")
        targets+=("$pid")
}

# cannot_run COMMAND MESSAGE
cannot_run() {
        run_here process "$1"
        echo "$1: $status $stderr"
        [ "$status" -ne 0 ]
        [[ $stderr == *"$2"* ]]
}

@test "its output, its exit code" {
        run_here process sh -c 'echo out; echo err >&2; exit 42'
        [ "$status" -eq 42 ]
        [ "$output" = out ]
        [ "$stderr" = err ]
        run_here process sh -c 'kill -9 $$'
        [ "$status" -eq 137 ]
        run_here process sh -c 'kill -TERM $$'
        [ "$status" -eq 143 ]
}

@test "its input" {
        result=$(printf 'a\nb\n' | "$STASIS" run --no-server process wc -l 3>&-)
        [ "$result" -eq 2 ]
}

@test "--out and --pid-file" {
        run_here --out "$T/log" --pid-file "$T/pid" process sh -c 'echo out; echo err >&2; echo $$ >"$0"' "$T/own"
        [ "$status" -eq 0 ]
        [ -z "$output" ]
        [ "$(cat "$T/log")" = $'out\nerr' ]
        [ "$(stat -c %a "$T/log")" = 600 ]
        [ "$(cat "$T/pid")" = "$(cat "$T/own")" ]

        # More is appended, by a descriptor that a restore can take for a file that has grown.
        run_here --out "$T/log" process sh -c 'sed -n s/^flags:.//p /proc/self/fdinfo/1'
        [ "$(lines "$T/log")" -eq 3 ]
        (($(tail -n 1 "$T/log") & 02000))

        run_here --out "$T/none/log" process true
        [ "$status" -ne 0 ]
        [[ $stderr == *"cannot open $T/none/log"* ]]
        run_here --pid-file "$T/none/pid" process touch "$T/touched"
        [ "$status" -ne 0 ]
        [ ! -e "$T/touched" ]
}

@test "a symbolic link of somebody else is no place for output" {
        ln -s "$T/elsewhere" "$T/link"
        chown -h 65534 "$T/link"
        run_here --out "$T/link" process echo x
        [ "$status" -ne 0 ]
        [[ $stderr == *"somebody else's link"* ]]
        [ ! -e "$T/elsewhere" ]
}

@test "directory, environment, umask, limits are those of the caller, signals are not" {
        mkdir "$T/d"
        cd "$T/d"
        run_here process sh -c 'pwd; umask; ulimit -n; echo "$A"; exec sed -n "s/^Sig\(Blk\|Ign\):.//p" /proc/self/status'
        expected=$(umask)
        [ "${lines[0]}" = "$T/d" ]
        [ "${lines[1]}" = "$expected" ]
        result=$(umask 0007; ulimit -Sn 99; A='b c' "$STASIS" run --no-server process \
                sh -c 'umask; ulimit -n; echo "$A"' 3>&-)
        [ "$result" = $'0007\n99\nb c' ]
        # None is blocked or ignored, whoever calls. (The empty line before it is no element.)
        [ "${lines[3]}" = 0000000000000000 ]
        [ "${lines[4]}" = 0000000000000000 ]
}

@test "no descriptor comes with it, and it leads a session" {
        exec 9</dev/null
        run_here process sh -c 'ls /proc/self/fd; ps -o pid=,sid= -p $$'
        exec 9<&-
        [ "${lines[*]:0:4}" = "0 1 2 3" ]
        read -r own session <<<"${lines[4]}"
        [ "$own" = "$session" ]
}

@test "commands that cannot be run" {
        mkdir "$T/bin"
        printf '#!/none/interpreter\n' >"$T/bin/script"
        printf 'no program\n' >"$T/bin/text"
        printf '\177ELF and no more\n' >"$T/bin/damaged"
        chmod +x "$T/bin/script" "$T/bin/damaged"
        cannot_run "$T/bin/none" "no such"
        cannot_run "$T/bin" "it is a directory"
        cannot_run "$T/bin/text" "not executable"
        cannot_run "$T/bin/script" /none/interpreter
        cannot_run "$T/bin/damaged" damaged
        cannot_run no-such-command-anywhere "no such command"
}

@test "the session of a foreign terminal is brought along: dump, restore, Ctrl-C" {
        hosted sh -c 'trap "echo interrupted; exit 42" INT; i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.05; done'
        wait_lines "$T/terminal" 2
        dump process "$pid" --no-server --stop
        wait "$host"
        [ "$(saved stasis.json | jq -c '[(.terminals | length), .criu.shell_job != true]')" = '[1,true]' ]

        # On a terminal of its own, whose foreground program it is.
        restore_no_server process --path "$checkpoint"
        [ "$(ps -o sid= -p "$pid" | tr -d ' ')" = "$pid" ]
        [ "$(ps -o tpgid= -p "$pid" | tr -d ' ')" = "$pid" ]
        tty=$(readlink "/proc/$pid/fd/1")
        [ "/dev/$(ps -o tty= -p "$pid")" = "$tty" ]
        wait_for "[ \$(grep -c '^line' $T/restore.out) -gt 3 ]"
        kill -INT "$pid"
        code=0
        wait "$restorer" || code=$?
        [ "$code" -eq 42 ]
        grep -q interrupted "$T/restore.out"
}

@test "restored by the daemon its terminal can be attached to, with the size that is asked for" {
        start_daemon
        hosted sh -c 'echo ready; while :; do sleep 0.05; done'
        wait_for "grep -q ready $T/terminal"
        dump process "$pid" --stop
        wait "$host"
        restore process --path "$checkpoint" --attachable --out "$T/log"
        record=("$T"/run/jobs/*)
        [ -S "${record[0]}/sock" ]
        tr '\0' ' ' <"/proc/$(sed -n 's/^supervisor //p' "${record[0]}/status")/cmdline" | grep -- "--terminal=.*--log=$T/log"
}

@test "pipes of a process outside: fresh ones to attach to" {
        start_daemon
        mkfifo "$T/in"
        sleep 60 >"$T/in" 3>&- &
        targets+=("$!")
        (exec setsid sh -c 'echo $$ >"$0"; while read -r x; do echo "got $x"; done; exit 7' "$T/pid" 2>&1 3>&- |
                cat >"$T/pipe") < <(exec cat "$T/in" 3>&-) 3>&- &
        wait_for "[ -s $T/pid ]"
        pid=$(cat "$T/pid")
        targets+=("$pid")
        [[ $(readlink "/proc/$pid/fd/0") == pipe:* ]]
        dump process "$pid" --stop
        wait_gone "$pid"
        fails_with="descriptor 1 of process $pid was a pipe"
        run "$STASIS" restore process --path "$checkpoint" 3>&-
        [ "$status" -ne 0 ]
        [[ $output == *"$fails_with"* ]]
        restore process --path "$checkpoint" --attachable
        result=$(printf 'one\ntwo\n' | "$STASIS" attach "$pid" 2>"$T/err" 3>&-) || code=$?
        [ "$code" -eq 7 ]
        [ "$result" = $'got one\ngot two' ]
}

@test "a job has a cgroup of its own, and comes back in it" {
        start_daemon
        "$STASIS" run process --jid "c-$BASHPID" sh -c 'while :; do sleep 0.05; done' 3>&- >"$T/out"
        jid=c-$BASHPID
        pid=$(grep -o '[0-9]*$' "$T/out")
        targets+=("$pid")
        grep -q "/stasis-jobs/$jid@[0-9a-f]*\$" "/proc/$pid/cgroup" || skip "no cgroups that may be written to"
        dump job "$jid" --stop
        [ "$(saved stasis.json | jq -r .criu.manage_cgroups_mode)" = IGNORE ]
        restore job "$jid"
        alive "$pid"
        grep -q "/stasis-jobs/$jid@[0-9a-f]*\$" "/proc/$pid/cgroup"
        supervisor=$(ps -o ppid= -p "$pid" | tr -d ' ')
        run grep -q "/stasis-jobs/" "/proc/$supervisor/cgroup"
        [ "$status" -eq 1 ]
}

@test "what a job left outside its tree is named; --allow-orphans leaves it out; --init has it" {
        start_daemon
        echo 'setsid sh -c '\''echo $$ >"$0"; while :; do sleep 0.05; done'\'' "$1" & sleep 0.3' >"$T/forks"
        "$STASIS" run process --jid "o-$BASHPID" sh -c 'sh "$0" "$1"; while :; do sleep 0.05; done' "$T/forks" "$T/orphan" 3>&- >"$T/out"
        jid=o-$BASHPID
        pid=$(grep -o '[0-9]*$' "$T/out")
        targets+=("$pid")
        wait_for "[ -s $T/orphan ] && [ \"\$(ps -o ppid= -p \$(cat $T/orphan))\" -ne $pid ]"
        orphan=$(cat "$T/orphan")
        targets+=("$orphan")
        supervisor=$(ps -o ppid= -p "$pid" | tr -d ' ')
        wait_for "[ \"\$(ps -o ppid= -p $orphan | tr -d ' ')\" = $supervisor ]"
        run "$STASIS" dump job "$jid" 3>&-
        [ "$status" -ne 0 ]
        [[ $output == *"$orphan (sh)"*"--allow-orphans"* ]]
        dump job "$jid" --allow-orphans

        "$STASIS" run process --init --jid "i-$BASHPID" sh -c 'sh "$0" "$1"; while :; do sleep 0.05; done' "$T/forks" "$T/adopted" 3>&- >"$T/out"
        pid=$(grep -o '[0-9]*$' "$T/out")
        targets+=("$pid")
        wait_for "[ -s $T/adopted ] && [ \"\$(ps -o ppid= -p \$(cat $T/adopted) | tr -d ' ')\" = $pid ]"
        adopted=$(cat "$T/adopted")
        targets+=("$adopted")
        dump job "i-$BASHPID" --stop
        wait_gone "$adopted"
        restore job "i-$BASHPID"
        alive "$adopted"
        [ "$(ps -o ppid= -p "$adopted" | tr -d ' ')" = "$pid" ]
}
