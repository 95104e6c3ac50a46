#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# `checkpoint inspect`: what it says of a checkpoint is what the process was when it was dumped.
# shellcheck disable=SC2154,SC2016,SC2030,SC2031 # variables of common.bash, bats and jq

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# objects: the program with one of nearly everything; sets $pid, and keeps what /proc says of it now.
objects() {
        mkdir "$T/o"
        target "$PROGRAMS/objects" "$T/o"
        wait_for "[ -e $T/o/facts ]"
        # CRIU makes one area of the two of [vvar].
        maps=$(awk '$6 !~ /vvar/ { print $1, $2 }' "/proc/$pid/maps")
}

# descriptors PID…: the numbers of what they have open.
descriptors() {
        for p in "$@"; do
                find "/proc/$p/fd" -mindepth 1 -printf '%f\n' | sort -n
        done
}

# fact NAME: a number that the program told.
fact() { awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }' "$T/o/facts"; }

# inspect ARGUMENT…: into $output; without the daemon, whose address leads nowhere.
inspect() {
        run -0 --separate-stderr env STASIS_ADDRESS=/nonexistent "$STASIS" checkpoint inspect "$@"
        [ -z "$stderr" ] || { echo "$stderr" >&2; return 1; }
}

# is EXPRESSION: it is true of the JSON in $output.
is() {
        jq -e "$@" >/dev/null <<<"$output" || { echo "not true: $*" >&2; echo "$output" >&2; return 1; }
}

tells_processes() {
        inspect "$1" -t ps --json
        is --argjson p "$pid" 'length == 1 and .[0].pid == $p and .[0].threads == 2 and .[0].state == "running"'
        is --argjson p "$pid" '.[0].sid == $p and (.[0].children | length) == 3'
        is --argjson p "$(fact sleeper)" '.[0].children[] | select(.pid == $p) | .state == "running" and .threads == 1'
        is --argjson p "$(fact stopped)" '.[0].children[] | select(.pid == $p) | .state == "stopped"'
        is --argjson p "$(fact zombie)" '.[0].children[] | select(.pid == $p) | .state == "exited 3"'
        is --arg c "$PROGRAMS/objects $T/o" '.[0].command == $c'
}

# fd NAME TYPE [EXPRESSION]: the descriptor of that name.
fd() {
        is --argjson p "$pid" --argjson n "$(fact "$1")" --arg type "$2" \
                ".[] | select(.pid == \$p and .fd == \$n) | .type == \$type and (${3:-true})"
}

tells_files() {
        inspect "$1" -t fd --json
        [ "$(jq --argjson p "$pid" '.[] | select(.pid == $p) | .fd' <<<"$output")" = "$(descriptors "$pid")" ]
        fd notes file ".details == \"$T/o/notes\" and .size == 100 and .position == 100 and .mode == \"rw,append,cloexec\""
        fd gone file "(.details | startswith(\"$T/o/gone (deleted\")) and .size == 42"
        fd pipe_read pipe '(.details | endswith(", 5 bytes in it")) and .mode == "r,cloexec"'
        fd fifo fifo ".details == \"$T/o/fifo\""
        fd eventfd eventfd '.details == "counter 7"'
        fd epoll epoll ".details == \"waits for $(fact eventfd)\""
        fd timerfd timerfd '.details | startswith("monotonic, in 99")'
        fd signalfd signalfd '.details == "USR2"'
        fd inotify inotify '.details == "/"'
        fd memfd memfd '.details == "memfd:scratch, 8192 bytes"'
        fd pty tty '.details | contains("ptmx")'
        fd unix socket ".details == \"$T/o/socket\""
}

tells_sockets() {
        local port client_port
        port=$(fact port) client_port=$(fact client_port)
        inspect "$1" -t sk --json
        is 'length == 7'
        fd listener stream ".family == \"inet\" and .state == \"LISTEN\" and .local == \"127.0.0.1:$port\" and .remote == null"
        fd client stream ".state == \"ESTABLISHED\" and .local == \"127.0.0.1:$client_port\" and .remote == \"127.0.0.1:$port\""
        fd server stream ".local == \"127.0.0.1:$port\" and .remote == \"127.0.0.1:$client_port\""
        fd udp dgram '.family == "inet6" and (.local | startswith("[::1]:"))'
        fd unix stream ".family == \"unix\" and .state == \"LISTEN\" and .local == \"$T/o/socket\""
        fd pair seqpacket '.family == "unix" and (.remote | startswith("socket:["))'
}

tells_memory() {
        local areas
        inspect "$1" -t mem --json
        areas=$(jq -r --argjson p "$pid" '.[] | select(.pid == $p and .what != "[vvar]") | (.start[2:] + "-" + .end[2:] + " " + .perm)' <<<"$output")
        [ "$areas" = "$maps" ] || { diff <(echo "$areas") <(echo "$maps"); return 1; }
        is --argjson p "$pid" '[.[] | select(.pid == $p and .what == "[heap]")] | length == 1'
        is --argjson p "$pid" '[.[] | select(.pid == $p and .what == "[stack]")] | length == 1'
        is --argjson p "$pid" --arg f "$T/o/mapped" '.[] | select(.pid == $p and .what == $f) | .size == 4096 and .perm == "rw-s"'
        is --argjson p "$pid" '.[] | select(.pid == $p and .what == "[shared]") | .size == 1048576'
        # 4 MiB were written, and what the C library has; 1 MiB of shared memory.
        inspect "$1" -t rss --json
        is --argjson p "$pid" '.[] | select(.pid == $p) | .present >= 1024 and .present < 1500 and .shared == 256'
        is --argjson p "$pid" '.[] | select(.pid == $p) | .size == (.present + .shared) * 4096'
        is '.[-1].pid == null and .[-1].command == "total" and .[-1].present == ([.[:-1][].present] | add)'
        is '.[-1].shared == 256'
}

tells_summary() {
        inspect "$1" --json
        is --argjson p "$pid" '.pid == $p and .processes == 4 and .threads == 4 and .sockets == 7 and .connections == 2'
        is --arg path "$1" --arg format "$2" '.path == $path and .format == $format and .manifest and .type == "process"'
        is --arg k "$(uname -r)" --arg h "$(uname -n)" '.kernel == $k and .host == $h and .made_by == "stasis"'
        is --arg v "$(criu --version | sed -n 's/^Version: //p')" '.criu_version == $v'
        is '.flags | index("--tcp-established")'
        is '.memory > 5242880 and .size > .memory'
        is --argjson now "$(date +%s)" '(.time | fromdate) > $now - 300 and (.time | fromdate) <= $now'
        is --argjson n "$(descriptors "$pid" "$(fact sleeper)" "$(fact stopped)" | wc -l)" '.descriptors == $n'
}

@test "processes, files, sockets and memory of a process, from every format, as they were" {
        objects
        for format in none zstd image; do
                dump process "$pid" --no-server --compression "$format" --name "$format"
                tells_processes "$checkpoint"
                tells_files "$checkpoint"
                tells_sockets "$checkpoint"
                tells_memory "$checkpoint"
                tells_summary "$checkpoint" "$format"
        done
}

@test "the text says the same as the JSON" {
        objects
        dump process "$pid" --no-server
        inspect "$checkpoint"
        [[ $output == *"pid:             $pid"* ]]
        [[ $output == *"format:          image"* ]]
        [[ $output == *"flags:           --tcp-established"* ]]
        [[ $output == *"memory:          5."*" MiB"* ]]
        inspect "$checkpoint" -t ps
        [[ ${lines[0]} == PID*PPID*STATE*THREADS*COMMAND ]]
        [[ ${lines[1]} == "$pid "*running*2*"$PROGRAMS/objects $T/o" ]]
        [ "${#lines[@]}" = 5 ]
        inspect "$checkpoint" -t sk
        [[ $output == *"127.0.0.1:$(fact client_port)"*"127.0.0.1:$(fact port)"* ]]
        inspect "$checkpoint" -t rss
        [[ ${lines[-1]} == *total ]]
}

@test "--pid shows one process; another one is an error, as is --pid alone" {
        objects
        dump process "$pid" --no-server --compression none
        inspect "$checkpoint" -t fd --pid "$(fact sleeper)" --json
        is --argjson p "$(fact sleeper)" '([.[].pid] | unique) == [$p]'
        [ "$(jq '.[].fd' <<<"$output")" = "$(descriptors "$(fact sleeper)")" ]
        inspect "$checkpoint" -t ps --pid "$(fact zombie)" --json
        is 'length == 1 and .[0].threads == 0'
        inspect "$checkpoint" -t rss --pid "$pid" --json
        is 'length == 1'
        run -1 "$STASIS" checkpoint inspect "$checkpoint" -t fd --pid 4194303
        [[ $output == *"has no process 4194303"* ]]
        run ! "$STASIS" checkpoint inspect "$checkpoint" --pid "$pid"
        [[ $output == *"--pid goes with --type"* ]]
        run -2 "$STASIS" checkpoint inspect "$checkpoint" -t everything
        [[ $output == *"ps, fd, mem, rss"* ]]
}

@test "an ordinary user inspects what he can read; what he cannot read is denied" {
        counter
        dump process "$pid" --no-server --name mine
        cp "$checkpoint" "$T/his.stasis"
        chmod 755 "$T"
        chmod 444 "$T/his.stasis"
        user=(setpriv --reuid=65534 --regid=65534 --clear-groups env -u STASIS_CONFIG_DIR HOME=/nonexistent)
        run -0 "${user[@]}" "$STASIS" checkpoint inspect "$T/his.stasis" -t ps
        [[ $output == *"$pid"* ]]
        chmod 755 "$T/ckpt"
        run -1 "${user[@]}" "$STASIS" checkpoint inspect "$checkpoint"
        [[ $output == *"Permission denied"* ]]
}

@test "a checkpoint that plain CRIU made" {
        counter
        mkdir "$T/plain"
        criu dump --tree "$pid" --images-dir "$T/plain" --leave-running --network-lock skip -o log >/dev/null 2>&1
        inspect "$T/plain" --json
        is --argjson p "$pid" '.pid == $p and .made_by == "CRIU" and (.manifest | not) and .version == null and .host == null'
        inspect "$T/plain" -t ps --json
        is --argjson p "$pid" '.[0].pid == $p and .[0].command == "sh"'
        inspect "$T/plain" -t fd --json
        is '.[] | select(.fd == 0) | .details == "/dev/null" and .type == "device"'
        goes_on
}

@test "names that would play with the terminal are made harmless" {
        name=$(printf 'a\nb\033[31m\xff')
        # shellcheck disable=SC2016
        target sh -c 'exec 5>"$0"; while :; do sleep 1; done' "$T/$name"
        wait_for "[ -e /proc/$pid/fd/5 ]"
        dump process "$pid" --no-server --compression none
        inspect "$checkpoint" -t fd
        [[ $output == *"$T/a b?[31m"* ]]
        [[ $output != *$'\033'* ]]
        inspect "$checkpoint" -t fd --json
        is --arg name "$T/a b?[31m�" '.[] | select(.fd == 5) | .details == $name'
        inspect "$checkpoint" -t ps
        [[ $output != *$'\033'* ]]
}

# fails PART PATH: one line of error that says so.
fails() {
        for what in "" "-t ps" "-t fd" "-t mem" "-t rss" "-t sk"; do
                # shellcheck disable=SC2086
                run -1 --separate-stderr "$STASIS" checkpoint inspect "$2" $what
                [ -z "$output" ]
                [ "${#stderr_lines[@]}" = 1 ]
                [[ $stderr == *"$1"* ]] || { echo "not '$1': $stderr" >&2; return 1; }
        done
}

@test "what is no checkpoint, or damaged, is refused with a clear word" {
        counter
        dump process "$pid" --no-server --compression none --name dir
        directory=$checkpoint
        dump process "$pid" --no-server --compression zstd --name archive
        fails "there is no checkpoint" "$T/nothing"
        fails "not a checkpoint" /etc
        fails "not a checkpoint" "$PROGRAMS/objects"

        head -c 2000 "$checkpoint" >"$T/cut.tar.zst"
        fails "is damaged" "$T/cut.tar.zst"
        dump process "$pid" --no-server --name image
        head -c 2000 "$checkpoint" >"$T/cut.stasis"
        fails "is damaged" "$T/cut.stasis"

        # In a directory the manifest finds what was changed, and without it the images themselves.
        printf '\377' | dd of="$directory/pstree.img" bs=1 seek=9 conv=notrunc status=none
        fails "pstree.img" "$directory"
        rm "$directory/stasis.manifest"
        fails "pstree.img is damaged" "$directory"
        rm "$directory/pstree.img"
        fails "pstree.img is missing" "$directory"
}
