#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The command language, and what scripts rely on: exit codes, what goes to which stream, JSON, flags, the configuration.
# shellcheck disable=SC2154 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# stasis CODE ARGUMENT…: must end with that code; sets $output, $stderr and $status.
stasis() {
        local code=$1
        shift
        run --separate-stderr "$STASIS" "$@" 3>&-
        [ "$status" -eq "$code" ] || { echo "$status, not $code: $*"; echo "$output"; echo "$stderr"; return 1; }
}

# refused TEXT ARGUMENT…: a wrong command line: 2, nothing on stdout, one line on stderr with TEXT in it.
refused() {
        local text=$1
        shift
        stasis 2 "$@"
        [ -z "$output" ] || { echo "stdout: $output"; return 1; }
        [ "$(grep -c '' <<<"$stderr")" -eq 1 ] || { echo "not one line: $stderr"; return 1; }
        [[ "$stderr" == "stasis: error: "*"$text"* ]] || { echo "no '$text' in: $stderr"; return 1; }
}

sleeper() {
        target sleep 1000
}

# The value that is in effect, and who set it.
value() {
        "$STASIS" "${@:2}" config show --json --origin | jq -r --arg key "$1" '.[$key] | "\(.value) \(.origin)"'
}

# The commands, as the help lists them.
commands() {
        "$STASIS" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z ]*[a-z]\)\( TYPE.*\| \[.*\|  .*\)$/\1/p'
}

@test "the last line of a dump ends with the path of the checkpoint, and nothing follows it" {
        sleeper
        start_daemon
        for way in "" --no-server --profiling "--no-server --profiling" "--compression none"; do
                path="$T/a b/n $way"
                # shellcheck disable=SC2086
                "$STASIS" dump process "$pid" $way --dir "$T/a b" --name "n $way" >"$T/both" 2>&1 3>&-
                [[ "$way" == *none ]] || path+=.stasis
                [ -e "$path" ]
                [ "$(tail -n 1 "$T/both")" = "dumped process $pid to $path" ] || { cat "$T/both"; return 1; }
                [ "$(tail -c 1 "$T/both" | od -An -c | tr -d ' ')" = '\n' ]
        done
}

@test "the default name has type, PID and time; --name, --dir and --compression decide the path" {
        sleeper
        dump process "$pid" --no-server
        [[ "${checkpoint#"$T/ckpt/"}" =~ ^dump-process-$pid-[0-9TZ:.-]+\.stasis$ ]]
        dump process "$pid" --no-server --dir "$T/new/directory" --name one
        [ "$checkpoint" = "$T/new/directory/one.stasis" ]
        dump process "$pid" --no-server -d "$T/new" --name two --compression none
        [ "$checkpoint" = "$T/new/two" ] && [ -d "$checkpoint" ]
        dump process "$pid" --no-server -d "$T/new" --name two --compression zstd
        [ "$checkpoint" = "$T/new/two.tar.zst" ]
        # Relative: to where the command line stands, not the daemon.
        start_daemon
        cd "$T/new"
        dump process "$pid" --dir here/too --name three
        [ "$checkpoint" = "$T/new/here/too/three.stasis" ]
        # A checkpoint holds a process's secrets.
        [ "$(stat -c %a "$checkpoint")" = 600 ] && [ "$(stat -c %a "$T/new/two")" = 700 ]
}

@test "default names of two dumps within a second do not collide" {
        sleeper
        for _ in {1..5}; do
                dump process "$pid" --no-server
        done
        [ "$(find "$T/ckpt" -name "dump-process-$pid-*.stasis" | wc -l)" = 5 ]
}

@test "--result-file: the path after success, and nothing after a failure" {
        sleeper
        dump process "$pid" --no-server --result-file "$T/result"
        [ "$(cat "$T/result")" = "$checkpoint" ]
        rm "$T/result"
        # What is no regular file is written into, not replaced.
        mkfifo "$T/fifo"
        timeout 20 cat "$T/fifo" >"$T/read" 3>&- &
        dump process "$pid" --no-server --result-file "$T/fifo"
        wait $!
        [ "$(cat "$T/read")" = "$checkpoint" ]
        [ -p "$T/fifo" ]
        stasis 1 dump process 4194300 --no-server --result-file "$T/result"
        [ ! -e "$T/result" ]
        rm -rf "$T/ckpt"
        stasis 1 dump process "$pid" --no-server --result-file "$T/none/result"
        nothing_left
}

@test "restore: the PID on stdout, in --pid-file and in JSON" {
        start_daemon
        for json in "" --json; do
                sleeper
                dump process "$pid" --stop
                wait_gone "$pid"
                # shellcheck disable=SC2086
                stasis 0 restore process --path "$checkpoint" --pid-file "$T/pid" $json
                [ "$(cat "$T/pid")" = "$pid" ]
                if [ -n "$json" ]; then
                        [ "$(jq .pid <<<"$output")" = "$pid" ]
                else
                        [ "$output" = "restored process $pid" ]
                fi
                alive "$pid"
        done
}

@test "stopping: --stop, --leave-running=false, the variable, the key; the flag wins" {
        for way in "--stop" "--leave-running=false"; do
                sleeper
                # shellcheck disable=SC2086
                dump process "$pid" --no-server $way
                wait_gone "$pid"
        done
        sleeper
        STASIS_CRIU_LEAVE_RUNNING=false dump process "$pid" --no-server --name 1 --leave-running
        alive "$pid"
        STASIS_CRIU_LEAVE_RUNNING=false dump process "$pid" --no-server --name 2
        wait_gone "$pid"
        # With a daemon its configuration decides.
        start_daemon STASIS_CRIU_LEAVE_RUNNING=false
        sleeper
        dump process "$pid" --name 3 --leave-running
        alive "$pid"
        dump process "$pid" --name 4
        wait_gone "$pid"
        sleeper
        refused 'contradict' dump process "$pid" --stop --leave-running
        alive "$pid"
}

@test "exit codes: 0, 1 for what failed, 2 for what was wrong, 141 when nobody reads" {
        stasis 0 version
        stasis 0 --version
        stasis 1 query process 4194300 --no-server
        [ -z "$output" ]
        [ "$stderr" = "stasis: error: no process 4194300" ]
        stasis 1 daemon status
        stasis 2
        stasis 2 dump
        stasis 2 daemon
        stasis 2 query process x
        stasis 2 config show --no-such-flag
        stasis 2 config show surplus
}

@test "output that nobody reads: 141 without a word; that cannot be written: a failure, said once" {
        for words in version "config show" "config show --json" features check; do
                mkfifo "$T/pipe"
                exec 5<>"$T/pipe"
                exec 6>"$T/pipe"
                exec 5>&- # nobody has it open to read any more
                # shellcheck disable=SC2086
                "$STASIS" $words >&6 2>"$T/err" 3>&- && status=0 || status=$?
                exec 6>&-
                rm "$T/pipe"
                [ "$status" = 141 ] && [ ! -s "$T/err" ] || { echo "$words: $status"; cat "$T/err"; return 1; }

                # shellcheck disable=SC2086
                "$STASIS" $words >/dev/full 2>"$T/err" 3>&- && return 1
                [ "$(grep -c 'No space' "$T/err")" = 1 ] && [ "$(grep -c '' "$T/err")" = 1 ] ||
                        { echo "$words"; cat "$T/err"; return 1; }
        done
}

@test "cancelled is 130, by SIGINT, SIGTERM and SIGHUP" {
        for signal in INT TERM HUP; do
                STASIS_CLIENT_WAIT_FOR_READY=true env --default-signal="$signal" "$STASIS" daemon check \
                        >"$T/out" 2>"$T/err" 3>&- &
                waiting=$!
                wait_for "grep -q '^SigCgt:.*[1-9a-f]' /proc/$waiting/status && [ \"\$(cat /proc/$waiting/comm)\" = stasis ]"
                sleep 0.3
                kill -"$signal" "$waiting"
                wait "$waiting" && status=0 || status=$?
                [ "$status" = 130 ] || { cat "$T/err"; return 1; }
                [ ! -s "$T/out" ]
                grep -q 'cancelled' "$T/err"
        done
}

@test "data goes to stdout, talk to stderr" {
        sleeper
        start_daemon
        for words in "query process $pid" "features" "plugin list" "config show" "daemon status" "check" "version"; do
                # shellcheck disable=SC2086
                stasis 0 $words
                [ -n "$output" ] && [ -z "$stderr" ] || { echo "$words: $output / $stderr"; return 1; }
        done
        stasis 0 dump process "$pid" --profiling
        [ "$(grep -c '' <<<"$output")" = 1 ]
        [[ "$stderr" == *EXCLUSIVE* ]]
        stasis 1 dump process 4194300
        [ -z "$output" ]
}

@test "--json is JSON, of success and of failure" {
        sleeper
        start_daemon
        for words in "query process $pid" "query process $pid --tree --inspect" features "plugin list" check "check --full" \
                "daemon check" "daemon status" "config show" "config show --origin" version "dump process $pid --name 1" \
                "dump process $pid --name 2 --no-server"; do
                # shellcheck disable=SC2086
                stasis 0 $words --json
                jq -e . <<<"$output" >/dev/null || { echo "$words: $output"; return 1; }
        done
        [ "$(jq -r .path <<<"$output")" = "$T/ckpt/2.stasis" ]
        [ "$(jq .pid <<<"$output")" = "$pid" ]

        stasis 1 query process 4194300 --json
        [ "$(jq -r .code <<<"$output")" = NOT_FOUND ]
        [ "$(jq -r .error <<<"$output")" = "${stderr#stasis: error: }" ]
        stasis 2 --json dumb
        [ "$(jq -r .code <<<"$output")" = INVALID_ARGUMENT ]
        stasis 2 dump process "$pid" --no-such-flag --json
        [ "$(jq -r .code <<<"$output")" = INVALID_ARGUMENT ]
}

@test "flags may stand anywhere; -- ends them" {
        sleeper
        for words in "--no-server --json query process $pid" "query --no-server --json process $pid" \
                "query process --no-server --json $pid" "query process $pid --no-server --json" \
                "query process --no-server --json -- $pid" "--json=true query --no-server=yes process $pid"; do
                # shellcheck disable=SC2086
                stasis 0 $words
                [ "$(jq '.[0].PID' <<<"$output")" = "$pid" ] || { echo "$words: $output"; return 1; }
        done
        refused 'not a PID: --json' query process --no-server -- --json
        for words in "--dir $T/d --name before dump --no-server process $pid" \
                "dump --name between process --dir=$T/d --no-server $pid" \
                "dump process $pid -d $T/d --no-server --name=after" "dump process -d$T/d --no-server --name glued $pid"; do
                # shellcheck disable=SC2086
                stasis 0 $words
        done
        [ "$(echo "$T"/d/*)" = "$T/d/after.stasis $T/d/before.stasis $T/d/between.stasis $T/d/glued.stasis" ]
        # false is no, and the last one counts.
        stasis 0 --json --json=false version
        [[ "$output" == "stasis "* ]]
}

@test "what is unknown is refused with a suggestion, and nothing is done" {
        sleeper
        refused "did you mean 'stasis dump'?" dumb process "$pid"
        refused "did you mean 'process'?" dump proces "$pid"
        refused "did you mean --stop?" dump process "$pid" --no-server --stopp
        refused "did you mean 'stasis daemon status'?" daemon statsu
        refused 'the command is missing' plugin
        refused 'the type is missing' dump
        refused "did you mean 'stasis plugin list'?" plugin lst
        refused 'see ' frobnicate
        refused 'unknown flag -Z' dump process "$pid" --no-server -Z
        # Those of later and of other programs.
        for flag in --gpu-enabled --gpu-id=1 --async; do
                refused 'unknown flag' dump process "$pid" --no-server "$flag"
        done
        refused 'expected none, tar, gzip, lz4, zlib, zstd or image' dump process "$pid" --no-server --compression rar
        refused 'value' dump process "$pid" --name
        refused '--stop' dump process "$pid" --stop=perhaps
        alive "$pid"
        [ ! -e "$T/ckpt" ]
}

@test "--help of each command: an example, the flags, exit 0, whatever the configuration" {
        mkdir "$T/config"
        echo '{ "Nonsense": 1 }' >"$T/config/config.json"
        [ "$(commands | wc -l)" -gt 10 ]
        while read -r words; do
                for help in "$words --help" "--help $words" "$words -h" "help $words"; do
                        # shellcheck disable=SC2086
                        stasis 0 $help
                        [ -z "$stderr" ]
                        grep -A 1 '^Example:' <<<"$output" | grep -q "^  stasis " || { echo "$words: $output"; return 1; }
                done
        done < <(commands; echo "dump process"; echo "restore process"; echo "query process"; echo "plugin"; echo "daemon"; echo "")
        stasis 0 restore process --help
        [[ "$output" == *--pid-file* && "$output" == *--address* ]]
        # The examples themselves are command lines of stasis.
        while read -r words; do
                # shellcheck disable=SC2086
                "$STASIS" $words --help | sed -n '/^Example:/,$s/^  stasis //p'
        done < <(commands) >"$T/examples"
        [ "$(lines "$T/examples")" -gt 10 ]
        # Behind a program its arguments are its own: there --help is not ours.
        while read -r words; do
                # shellcheck disable=SC2086
                stasis 0 --help $words
        done <"$T/examples"
}

@test "configuration: default, file, variable, --config, flag" {
        mkdir "$T/config"
        unset STASIS_CHECKPOINT_DIR
        [ "$(value Checkpoint.Dir)" = "/var/lib/stasis/checkpoints default" ]
        printf '{\n  "Checkpoint": {\n    "Dir": "/file"\n  }\n}\n' >"$T/config/config.json"
        [ "$(value Checkpoint.Dir)" = "/file $T/config/config.json:3" ]
        export STASIS_CHECKPOINT_DIR=/variable
        [ "$(value Checkpoint.Dir)" = "/variable STASIS_CHECKPOINT_DIR" ]
        [ "$(value Checkpoint.Dir --config '{"Checkpoint":{"Dir":"/flag"}}')" = "/flag --config" ]
        [ "$(value Address --address /flag --config '{"Address":"/config"}')" = "/flag --address" ]
        stasis 0 config show --origin
        grep -q '^Checkpoint.Dir  */variable  *STASIS_CHECKPOINT_DIR$' <<<"$output"
        # And it has an effect.
        sleeper
        unset STASIS_CHECKPOINT_DIR
        printf '{ "Checkpoint": { "Dir": "%s", "Compression": "none" } }' "$T/by-file" >"$T/config/config.json"
        dump process "$pid" --no-server
        [ "$(dirname "$checkpoint")" = "$T/by-file" ] && [ -d "$checkpoint" ]
        STASIS_CHECKPOINT_DIR=$T/by-variable dump process "$pid" --no-server
        [ "$(dirname "$checkpoint")" = "$T/by-variable" ]
        STASIS_CHECKPOINT_DIR=$T/by-variable dump process "$pid" --no-server --dir "$T/by-flag"
        [ "$(dirname "$checkpoint")" = "$T/by-flag" ]
        # --config-dir wins over STASIS_CONFIG_DIR.
        mkdir "$T/other"
        echo '{ "LogLevel": "debug" }' >"$T/other/config.json"
        [ "$(value LogLevel --config-dir "$T/other")" = "debug $T/other/config.json:1" ]
}

# refused_file TEXT LINE CONTENT: as the configuration file
refused_file() {
        printf '%s\n' "$3" >"$T/config/config.json"
        refused "$T/config/config.json:$2: $1" config show
        refused "$T/config/config.json:$2: $1" daemon start
}

@test "a wrong configuration names key, file and line" {
        mkdir "$T/config"
        refused_file 'unknown section Chekpoint (hint: did you mean Checkpoint?)' 2 $'{\n "Chekpoint": {\n  "Dir": 1 } }'
        refused_file 'unknown key Checkpoint.Dirr (hint: did you mean Checkpoint.Dir?)' 4 \
                $'{\n\n "Checkpoint": {\n  "Dirr": "/x" } }'
        refused_file 'CRIU.LogLevel' 3 $'{\n "CRIU": {\n  "LogLevel": "much" } }'
        refused_file '' 2 $'{ "LogLevel":\n }'
        rm "$T/config/config.json"
        refused '--config: unknown key Nonsense' config show --config '{"Nonsense": 1}'
        refused '--config: Checkpoint.Dir: expected a text, not a number' config show --config '{"Checkpoint.Dir": 5}'
        refused '--config' config show --config '{'
        STASIS_CRIU_LEAVE_RUNNING=perhaps refused STASIS_CRIU_LEAVE_RUNNING config show
        STASIS_CHECKPOINT_COMPRESSION=rar refused STASIS_CHECKPOINT_COMPRESSION config show
        refused '--protocol' config show --protocol carrier-pigeon
}

@test "--init-config writes the defaults once, --merge-config what is in effect" {
        stasis 0 --init-config
        [ -z "$output" ]
        jq -e '.Checkpoint.Dir == "/var/lib/stasis/checkpoints" and .CRIU.LeaveRunning' "$T/config/config.json"
        [ "$(stat -c %a "$T/config/config.json")" = 600 ]
        echo '{ "LogLevel": "error" }' >"$T/config/config.json"
        stasis 0 --init-config
        [ "$(cat "$T/config/config.json")" = '{ "LogLevel": "error" }' ]
        stasis 0 --merge-config --config '{"CRIU": {"LogLevel": 3}}'
        jq -e --arg dir "$STASIS_CHECKPOINT_DIR" \
                '.LogLevel == "error" and .CRIU.LogLevel == 3 and .Checkpoint.Dir == $dir' "$T/config/config.json"
        # With a command, it goes on with it.
        stasis 0 version --init-config
        [[ "$output" == "stasis "* ]]
        stasis 0 config show
}

# on_terminal COMMAND…: its output as a terminal gets it, in $T/terminal.
on_terminal() {
        script -qfec "$*" "$T/terminal" >/dev/null </dev/null 3>&- || true
}

@test "colours on a terminal only, and not with --no-color or NO_COLOR" {
        escape=$'\e['
        on_terminal "TERM=xterm $STASIS dumb"
        grep -qF "$escape" "$T/terminal"
        on_terminal "TERM=xterm $STASIS dumb --no-color"
        grep -q 'unknown command' "$T/terminal"
        run ! grep -F "$escape" "$T/terminal"
        on_terminal "NO_COLOR=1 TERM=xterm $STASIS dumb"
        run ! grep -F "$escape" "$T/terminal"
        stasis 2 dumb
        [[ "$stderr" != *"$escape"* ]]
}

@test "a progress bar on a terminal, none in a file" {
        target "$PROGRAMS/ticker" 512 "$T/tick"
        wait_for "[ \$(awk '/VmRSS/ { print \$2 }' /proc/$pid/status) -gt 520000 ]" 20
        start_daemon
        on_terminal "$STASIS dump process $pid --name a"
        grep -q $'\r\e\[K.*\[[#-]*\] *[0-9]*%' "$T/terminal" || { cat -v "$T/terminal"; return 1; }
        # It is gone at the end: the last line is the path.
        sed '/^Script done/d' "$T/terminal" | tr -d '\r' | grep . | tail -n 1 | grep -q "dumped process $pid to $T/ckpt/a.stasis\$"
        rm -r "$T/ckpt"
        "$STASIS" dump process "$pid" --name b >"$T/both" 2>&1 3>&-
        [ "$(cat "$T/both")" = "dumped process $pid to $T/ckpt/b.stasis" ]
}

@test "--profiling: a table on stderr; --profiling-path: JSON; neither unless asked for" {
        sleeper
        start_daemon
        for way in "" --no-server; do
                # shellcheck disable=SC2086
                stasis 0 dump process "$pid" $way --name "quiet$way"
                [ -z "$stderr" ]
                # shellcheck disable=SC2086
                stasis 0 dump process "$pid" $way --name "profiled$way" --profiling --profiling-path "$T/profile"
                head -n 1 <<<"$stderr" | grep -q '^ADAPTER .*INCLUSIVE .*EXCLUSIVE$'
                [ "$(grep -c ' [mu]\?s  .* [mu]\?s$' <<<"$stderr")" -gt 5 ] || { echo "$stderr"; return 1; }
                [[ "$stderr" != *$'\e'* ]]
                # The exclusive times add up to the inclusive time of the outermost adapter.
                jq -e '([.Spans[].Exclusive] | add) as $sum | .Spans[0] | .Depth == 0 and .Inclusive > 0 and
                        $sum > .Inclusive * 0.99 and $sum < .Inclusive * 1.01' "$T/profile"
                rm "$T/profile"
        done
}

@test "checkpoint verify: 0 for a whole one, 1 and the reason for a damaged one" {
        sleeper
        dump process "$pid" --no-server --name image
        dump process "$pid" --no-server --name archive --compression zstd
        dump process "$pid" --no-server --name directory --compression none
        for checkpoint in "$T/ckpt/image.stasis" "$T/ckpt/archive.tar.zst" "$T/ckpt/directory"; do
                stasis 0 checkpoint verify "$checkpoint"
                [[ "$output" == *"$checkpoint"* ]] && [ -z "$stderr" ]
                stasis 0 checkpoint verify "$checkpoint" --json
                jq -e . <<<"$output"
        done
        file=$(find "$T/ckpt/directory" -name 'pages-*.img' | head -n 1)
        printf x | dd of="$file" bs=1 seek=5000 conv=notrunc status=none
        head -c 5000 "$T/ckpt/archive.tar.zst" >"$T/ckpt/cut.tar.zst"
        head -c 5000 "$T/ckpt/image.stasis" >"$T/ckpt/cut.stasis"
        for checkpoint in "$T/ckpt/directory" "$T/ckpt/cut.tar.zst" "$T/ckpt/cut.stasis" "$T/ckpt/none"; do
                stasis 1 checkpoint verify "$checkpoint"
                [ -z "$output" ]
                [[ "$stderr" == "stasis: error: "*"$checkpoint"* ]] || { echo "$stderr"; return 1; }
        done
        refused 'PATH|ID is missing' checkpoint verify
}

@test "no daemon: what to do is said" {
        sleeper
        for words in "query process $pid" "dump process $pid" "restore process --path $T" "daemon check" "daemon status"; do
                # shellcheck disable=SC2086
                stasis 1 $words
                [[ "$stderr" == *"$T/sock"*"start it with 'stasis daemon start'"* ]] || { echo "$words: $stderr"; return 1; }
        done
        stasis 1 daemon stop
        [[ "$stderr" == *"no daemon is running at $T/sock"* ]]
}

@test "query: several processes, children, details" {
        # shellcheck disable=SC2016
        target bash -c 'sleep 1000 & exec python3 -c "$0" "$1"' 'import socket, sys, time
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + "/listener")
listener.listen()
tcp = socket.create_server(("127.0.0.1", 0))
six = socket.socket(socket.AF_INET6)
six.bind(("::1", 0))
six.listen()
open(path + "/ports", "w").write("%d %d\n" % (tcp.getsockname()[1], six.getsockname()[1]))
log = open(path + "/log", "a")
time.sleep(1000)' "$T"
        wait_for "[ -s $T/ports ]"
        first=$pid
        sleeper
        start_daemon
        read -r port port6 <"$T/ports"
        for way in "" --no-server; do
                # shellcheck disable=SC2086
                stasis 0 query process "$first" "$pid" $way --json
                [ "$(jq -c '[.[].PID]' <<<"$output")" = "[$first,$pid]" ]
                [ "$(jq '[.[].Children // [] | length] | add' <<<"$output")" = 0 ]
                # shellcheck disable=SC2086
                stasis 0 query process "$first" $way --tree --json
                [ "$(jq -r '.[0].Children[0].Cmdline' <<<"$output")" = "sleep 1000" ]
                [ "$(jq '.[0].Children[0].SID' <<<"$output")" = "$first" ]
                jq -e --arg path "$T/listener" '.[0].OpenConnections[] | select(.Laddr.IP == $path)' <<<"$output"
                jq -e --argjson port "$port" '.[0].OpenConnections[] | select(.Laddr.IP == "127.0.0.1" and
                        .Laddr.Port == $port and .Status == "LISTEN")' <<<"$output"
                jq -e --argjson port "$port6" '.[0].OpenConnections[] | select(.Laddr.IP == "::1" and .Laddr.Port == $port)' \
                        <<<"$output"
                jq -e --arg path "$T/log" '.[0].OpenFiles[] | select(.Path == $path)' <<<"$output"
                # shellcheck disable=SC2086
                stasis 0 query process "$first" $way --inspect
                [[ "$output" == *"127.0.0.1:$port "*LISTEN* && "$output" == *"[::1]:$port6 "* && "$output" == *"$T/log"* ]]
        done
        # One that is not there: a failure, but those that are there are shown.
        stasis 1 query process "$pid" 4194300 --json
        [ "$(jq 'length' <<<"$output")" = 1 ]
        [ "$stderr" = "stasis: no process 4194300" ]
        stasis 1 query process 4194300 4194301
        [ -z "$output" ]
}

# harmless TEXT: UTF-8, and nothing that a terminal obeys.
harmless() {
        iconv -f UTF-8 -t UTF-8 <<<"$1" >/dev/null && [[ "$1" != *[$'\e\r\a\b']* ]] || { cat -v <<<"$1"; return 1; }
}

@test "names with newlines, escapes and invalid UTF-8: shown harmlessly, dumped and restored" {
        mkdir "$T/dir"
        target python3 -c 'import sys, time
open("/proc/self/comm", "wb").write(b") R\n\xff\x1b(1")
held = open(sys.argv[1].encode("utf-8", "surrogateescape") + b"/fi\nle\xfe", "w")
open(sys.argv[1] + "/ready", "w")
time.sleep(1000)' "$T/dir" $'li\nne\xff\e[31mred\rback'
        wait_for "[ -e $T/dir/ready ]"
        cp "/proc/$pid/cmdline" "$T/cmdline"
        cp "/proc/$pid/comm" "$T/comm"
        start_daemon
        for way in "" --no-server; do
                # shellcheck disable=SC2086
                stasis 0 query process "$pid" $way --tree
                harmless "$output"
                [ "$(grep -c '' <<<"$output")" = 2 ] || { echo "$output"; return 1; }
                # shellcheck disable=SC2086
                stasis 0 query process "$pid" $way --json
                harmless "$output"
                [ "$(jq '.[0].PID' <<<"$output")" = "$pid" ]
                # shellcheck disable=SC2086
                stasis 0 query process "$pid" $way --inspect
                harmless "$output"
        done
        dump process "$pid" --stop
        wait_gone "$pid"
        restore process --path "$checkpoint"
        cmp "/proc/$pid/cmdline" "$T/cmdline"
        cmp "/proc/$pid/comm" "$T/comm"
        # The message names who has the PID, in one harmless line.
        stasis 1 restore process --path "$checkpoint"
        [ "$(grep -c '' <<<"$stderr")" = 1 ]
        harmless "$stderr"
}

@test "a process with a connection to a UNIX socket outside: said and dumped, or refused with the reason" {
        cat >"$T/server.py" <<'END'
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
peers = []
while True:
    peers.append(listener.accept()[0])
END
        target python3 "$T/server.py" "$T/outside"
        wait_for "[ -S $T/outside ]"
        target python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
open(sys.argv[1] + ".ready", "w")
time.sleep(1000)' "$T/outside"
        wait_for "[ -e $T/outside.ready ]"
        stasis 0 query process "$pid" --no-server --json
        jq -e '.[0].OpenConnections[] | select(.Family == 1)' <<<"$output"
        run --separate-stderr "$STASIS" dump process "$pid" --no-server 3>&-
        alive "$pid"
        if [ "$status" -eq 0 ]; then
                [ -e "${output##* }" ]
        else
                grep -qi 'unix' <<<"$stderr" || { echo "$stderr"; return 1; }
                nothing_left
        fi
}

@test "a TCP listener goes on listening after a restore" {
        target python3 -c 'import socket, sys
s = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(s.getsockname()[1]) + "\n")
while True:
    c = s.accept()[0]
    c.sendall(b"hello\n")
    c.close()' "$T/port"
        wait_for "[ -s $T/port ]"
        port=$(cat "$T/port")
        dump process "$pid" --no-server --stop
        wait_gone "$pid"
        restore_no_server process --path "$checkpoint"
        exec 5<>"/dev/tcp/127.0.0.1/$port"
        read -r -t 5 line <&5
        exec 5>&-
        [ "$line" = hello ]
}
