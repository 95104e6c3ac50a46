#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Every failure explained: each is provoked on real processes by the real CRIU, and cause and hint must be told: by
# stasis's own error, and by `stasis explain` of the log that plain CRIU leaves.
# shellcheck disable=SC2154 # pid, checkpoint … are set by common.bash

load common

setup() { start_test; }

teardown() {
        [ ! -d "$T/small" ] || umount -l "$T/small" 2>/dev/null || true
        end_test
}

# hold THING [ARGUMENT]: a target that holds it (holder.py); sets $pid.
hold() {
        rm -f "$T/held"
        target python3 -S "$BATS_TEST_DIRNAME/holder.py" "$1" "$T" "${@:2}"
        wait_for "[ -e $T/held ] || [ -e $T/unable ]"
        [ ! -e "$T/unable" ] || skip "not here: $(cat "$T/unable")"
}

# refused CAUSE HINT COMMAND…: fails with one error that has both (extended regular expressions); its log is explained.
refused() {
        local cause=$1 hint=$2 log
        shift 2
        run "$@" 3>&-
        [ "$status" -ne 0 ] || { echo "it succeeded: $*"; return 1; }
        grep -qE "^stasis: error: .*($cause)" <<<"$output" || { echo "no '$cause' in: $output"; return 1; }
        grep -qE "\(hint: .*($hint)" <<<"$output" || { echo "no hint '$hint' in: $output"; return 1; }
        [ "$(grep -c '^stasis: error:' <<<"$output")" -eq 1 ]
        log=$(sed -n 's/.*(log: \([^)]*\)).*/\1/p' <<<"$output")
        [ -z "$log" ] || "$STASIS" explain "$log" >"$T/explained" || { cat "$T/explained"; return 1; }
}

# not_dumped CAUSE HINT [FLAG…]: stasis says so, and the target goes on.
not_dumped() {
        refused "$1" "$2" "$STASIS" dump process "$pid" --no-server "${@:3}"
        alive "$pid"
        nothing_left
}

# explained TOPIC CAUSE HINT LOG: what `stasis explain` says of it.
explained() {
        run "$STASIS" explain "$4"
        [ "$status" -eq 0 ] || { echo "exit $status: $output"; grep -E 'Error|Warn' "$4"; return 1; }
        grep -qE "^topic: +$1," <<<"$output" || { echo "not $1: $output"; return 1; }
        grep -qE "^cause: .*($2)" <<<"$output" || { echo "no '$2' in: $output"; return 1; }
        grep -qE "^hint: .*($3)" <<<"$output" || { echo "no hint '$3' in: $output"; return 1; }
        grep -qE "^where: .*(Error|Warn|:1: )" <<<"$output"
}

# criu_fails dump|restore ARGUMENT…: plain CRIU, its log is $T/criu/dump.log or restore.log, its output $T/criu.out
criu_fails() {
        local verb=$1
        shift
        mkdir -p "$T/criu"
        if timeout -k 5 30 criu "$verb" --no-default-config -W "$T/criu" -o "$verb.log" -v4 "$@" >"$T/criu.out" 2>&1 3>&-
        then
                echo "it succeeded: criu $verb $*"
                return 1
        fi
}

# not_dumpable TOPIC CAUSE HINT [CRIU'S OPTION…]: plain CRIU cannot dump $pid.
not_dumpable() {
        mkdir -p "$T/images"
        criu_fails dump -t "$pid" -D "$T/images" --leave-running "${@:4}"
        explained "$1" "$2" "$3" "$T/criu/dump.log"
}

# kept: $pid is dumped as a directory that plain CRIU reads, and ends; sets $checkpoint.
kept() {
        dump process "$pid" --no-server --stop --compression none --name kept
        wait_gone "$pid"
}

# not_restorable TOPIC CAUSE HINT [CRIU'S OPTION…]: plain CRIU cannot restore $checkpoint.
not_restorable() {
        # What an earlier attempt left keeps the PID until somebody reaps it.
        [ "$1" = pid-taken ] || wait_gone "$pid"
        criu_fails restore -D "$checkpoint" -d "${@:4}"
        explained "$1" "$2" "$3" "$T/criu/restore.log"
}

not_running() {
        if alive "$pid"; then
                echo "process $pid runs"
                return 1
        fi
}

# --- a dump fails

@test "an open TCP connection" {
        hold tcp
        not_dumped 'a TCP connection is in use' 'add --tcp-established' --tcp-established=false
        not_dumpable tcp-established 'a TCP connection is in use' 'add --tcp-established'
}

@test "a TCP connection that nobody accepted" {
        hold in-flight
        not_dumped 'a TCP connection waits to be accepted' '--skip-in-flight'
}

@test "no tool for the network lock" {
        hold tcp
        # Machines with Docker have it.
        mkdir "$T/bin"
        ln -s /usr/local/sbin/* /usr/sbin/* /usr/bin/* "$T/bin/" 2>/dev/null || true
        rm -f "$T/bin/"*tables*
        PATH=$T/bin not_dumped 'could not lock the network: iptables' 'NFTABLES' --criu-opts '{"network_lock": "IPTABLES"}'
}

@test "a message with credentials that nobody has read" {
        hold credentials
        not_dumped 'credentials waits unread' 'has read it'
        not_dumpable unix-credentials 'credentials waits unread' 'has read it'
}

@test "a UNIX connection out of the tree" {
        hold unix
        wait_for "[ -s $T/other ]"
        pid=$(cat "$T/other")
        not_dumpable unix-external 'a UNIX socket is connected to a process outside the tree' 'ext_unix_sk' --shell-job
        not_dumpable unix-half 'a stream.*outside the tree' 'the PID of the parent of both' --shell-job --ext-unix-sk
}

@test "AF_VSOCK" {
        hold vsock
        not_dumpable socket-family 'address family 40 is open' 'AF_VSOCK is 40'
}

@test "multipath TCP" {
        hold mptcp
        not_dumped '(multipath TCP|MPTCP)' 'multipathtcp=0'
        not_dumpable mptcp 'multipath TCP' 'multipathtcp=0'
}

@test "a netlink socket with unread messages" {
        hold netlink
        not_dumped 'netlink socket' 'try again'
        not_dumpable netlink-unread 'netlink socket holds messages' 'try again'
}

@test "datagrams that are not sent" {
        hold corked
        not_dumped '(holds data that has not been sent|UDP_CORK|unsent)' 'try again|UDP_CORK'
        not_dumpable socket-unsent 'holds data that has not been sent' 'UDP_CORK'
}

@test "a large deleted file" {
        hold ghost
        not_dumped 'deleted .*open' 'ghost_limit": [0-9]+' --criu-opts '{"ghost_limit": 1000}'
        not_dumpable ghost-limit "the file $T/ghost is deleted but open" 'ghost_limit": 102400' --ghost-limit 1000
}

@test "a deleted file with another name" {
        hold linked
        not_dumped "$T/linked" '--link-remap' --link-remap=false
        not_dumpable link-remap "the open file $T/linked was removed" '--link-remap'
}

@test "a file lock" {
        hold lock
        not_dumped 'file locks are held' '--file-locks' --file-locks=false
}

@test "io_uring" {
        target "$PROGRAMS/uring"
        sleep 0.1
        alive "$pid" || skip "this kernel has no io_uring"
        not_dumped 'io_uring' 'UV_USE_IO_URING|io_uring_disabled|turn .*off'
        not_dumpable io-uring 'io_uring' 'UV_USE_IO_URING'
}

@test "a device" {
        hold fuse
        not_dumpable descriptor 'the descriptor 3 \(chr 10:229\)' "dev\[MAJOR/MINOR\]"
}

@test "userfaultfd" {
        hold userfaultfd
        not_dumpable descriptor 'anon_inode:\[userfaultfd\]' 'close it before the dump'
}

@test "a pidfd of another process" {
        hold pidfd
        not_dumped 'pidfd' 'tree|both'
        not_dumpable pidfd 'a pidfd' 'checkpoint both together'
}

@test "a tap device" {
        hold tun
        not_dumped '(tun|TUN)' 'network namespace of its own'
        not_dumpable tun 'tun or tap device' 'network namespace of its own'
}

@test "secret memory" {
        hold secret
        not_dumpable memfd-secret 'secret memory' 'drop it before the dump'
}

@test "System V shared memory" {
        hold sysv-shm
        not_dumped 'System V shared memory' 'unshare --ipc'
        not_dumpable sysv-shm "process $pid uses System V shared memory" 'unshare --ipc'
}

@test "a file on a mount that the process does not see" {
        # Its standard input was opened before it had mounts of its own.
        target unshare --mount sleep 1000
        wait_for "[ \"\$(cat /proc/$pid/comm)\" = sleep ]"
        not_dumped '(mounts? that|does not see)' 'close|unshare|file\['
        not_dumpable file-other-mount 'on a mount that its process does not see' 'close the descriptor'
}

@test "somebody else's session" {
        sh -c 'exec sleep 1000' </dev/null >/dev/null 2>&1 3>&- &
        pid=$!
        targets+=("$pid")
        wait_for "[ \"\$(cat /proc/$pid/comm)\" = sleep ]"
        not_dumped 'session of somebody else' '--shell-job' --shell-job=false
        not_dumpable session 'session of somebody else' '--shell-job'
}

@test "somebody else's terminal" {
        script -qfc "echo \$\$ >$T/pid; exec sleep 1000" /dev/null </dev/null >/dev/null 2>&1 3>&- &
        targets+=($!)
        wait_for "[ -s $T/pid ]"
        pid=$(cat "$T/pid")
        targets+=("$pid")
        wait_for "[ \"\$(cat /proc/$pid/comm)\" = sleep ]"
        # A terminal whose session is dumped with it needs no flag: the restore gets a fresh one.
        not_dumpable terminal-slave 'uses a terminal \(pts/[0-9]+\)' '--shell-job'
}

@test "a process that is traced" {
        counter
        strace -o /dev/null -p "$pid" >/dev/null 2>&1 3>&- &
        local tracer=$!
        wait_for "! grep -q 'TracerPid:.0\$' /proc/$pid/status"
        not_dumpable traced "process $pid cannot be traced" "/proc/$pid/status"
        kill "$tracer"
        wait "$tracer" || true
}

@test "a process that is gone" {
        pid=4194300
        not_dumpable no-process 'process 4194300 does not exist' "'ps'"
}

@test "a process whose main thread has ended" {
        hold main-thread-gone
        not_dumpable traced "process $pid cannot be traced: it is a zombie" "/proc/$pid/status"
}

@test "a PID namespace within the tree, and a process out of one" {
        target unshare --pid --fork --kill-child sh -c 'setsid sleep 1000 & wait'
        wait_for "grep -q . /proc/$pid/task/$pid/children"
        not_dumpable nested-namespace 'in a pid namespace of their own' 'by its own PID'
        local init
        init=$(tr -d ' ' <"/proc/$pid/task/$pid/children")
        wait_for "grep -q . /proc/$init/task/$init/children"
        pid=$(tr -d ' ' <"/proc/$init/task/$init/children")
        not_dumpable pid-namespace 'whose first process is not in the tree' 'whole container'
}

@test "a time namespace within the tree" {
        target unshare --time --fork --kill-child --boottime 1000 sleep 1000
        wait_for "grep -q . /proc/$pid/task/$pid/children" 2 || skip "this kernel has no time namespaces"
        not_dumpable time-namespace-nested 'time namespace of its own' 'by its own PID'
}

@test "a cgroup that is none" {
        counter
        not_dumped 'freeze_cgroup' '/sys/fs/cgroup' --criu-opts "{\"freeze_cgroup\": \"$T\"}"
        goes_on
}

@test "a disk that is full, for plain CRIU" {
        counter
        mkdir "$T/small"
        mount -t tmpfs -o size=64k tmpfs "$T/small"
        criu_fails dump -t "$pid" -D "$T/small" --leave-running
        explained disk-full 'no space left' 'df -h' "$T/criu/dump.log"
        goes_on
}

@test "too few descriptors for CRIU" {
        counter
        mkdir "$T/images"
        # shellcheck disable=SC2016
        sh -c 'ulimit -n 14; exec criu dump -t "$0" -D "$1" -o dump.log -v4 -R' "$pid" "$T/images" 2>/dev/null || true
        explained open-files 'limit of open files' 'ulimit -n' "$T/images/dump.log"
}

@test "CRIU as an ordinary user, and one that does not know an option" {
        setpriv --reuid=65534 --regid=65534 --clear-groups criu dump -t $$ -D /tmp >"$T/out" 2>&1 || true
        explained not-root 'CAP_SYS_ADMIN' 'root' "$T/out"
        criu dump --no-such-option >"$T/out" 2>&1 || true
        explained option-unknown '--no-such-option' 'newer CRIU' "$T/out"
}

# --- CRIU itself fails

# fake_criu COMMAND: a CRIU that works until it is to dump or restore.
fake_criu() {
        printf '#!/bin/sh\ncase " $* " in\n*" --version "*) echo Version: 9.9 ;;\n*" dump "*) %s ;;\nesac\n' "$1" >"$T/criu.sh"
        chmod 755 "$T/criu.sh"
        export STASIS_CRIU_BINARY_PATH=$T/criu.sh
}

@test "CRIU is killed, crashes, or ends without a word" {
        counter
        fake_criu 'kill -9 $$'
        not_dumped 'it was killed by SIGKILL' 'when memory was short'
        fake_criu 'kill -SEGV $$'
        not_dumped 'it was killed by SIGSEGV' 'newer'
        fake_criu 'exit 3'
        not_dumped 'exited with code 3' 'stasis (check|explain)'
        goes_on
}

@test "CRIU is missing, too old, or does not work" {
        counter
        STASIS_CRIU_BINARY_PATH=/nonexistent/criu not_dumped 'CRIU is missing' 'install-criu|CRIU.BinaryPath'
        printf '#!/bin/sh\necho Version: 3.17.1\n' >"$T/criu.sh"
        chmod 755 "$T/criu.sh"
        STASIS_CRIU_BINARY_PATH=$T/criu.sh not_dumped '3.17.1 .* is too old: 4.1 is needed' 'install-criu|CRIU.BinaryPath'
        goes_on
}

# --- a restore fails

@test "a file that changed, changed its mode, or is gone" {
        hold file
        kept
        cp "$T/file" "$T/saved"
        echo more >>"$T/file"
        not_restorable file-size "the file $T/file has changed since the checkpoint: its size is 8, it was 3" 'put the file back'
        cp "$T/saved" "$T/file"
        chmod 600 "$T/file"
        not_restorable file-mode "the mode of the file $T/file has changed" 'chmod'
        rm "$T/file"
        not_restorable file-missing "the file $T/file of the checkpoint cannot be opened: No such file" 'put it back'
        not_running
}

@test "a program of another build" {
        cp "$PROGRAMS/threads" "$T/program"
        target "$T/program" "$T/count"
        wait_lines "$T/count" 1
        kept
        # The same but for the build-id: a note of 20 bytes, type 3, owner GNU.
        python3 - "$T/program" <<'PYTHON'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
at = data.find(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0")
assert at >= 0
data[at + 16] ^= 255
open(sys.argv[1] + ".new", "wb").write(data)
PYTHON
        chmod 755 "$T/program.new"
        mv "$T/program.new" "$T/program"
        not_restorable build-id "$T/program is another one" 'same version'
}

@test "a PID that is taken" {
        hold file
        dump process "$pid" --no-server --compression none --name kept
        not_restorable pid-taken "the PID $pid is already taken" "ps -p $pid"
        alive "$pid"
}

@test "a port that is in use" {
        local port=$((20000 + RANDOM % 10000))
        hold listener "$port"
        kept
        local first=$pid
        hold listener "$port"
        pid=$first
        not_restorable address-in-use 'address of a socket' 'ss -ltnup'
}

@test "an open TCP connection in a checkpoint" {
        hold tcp
        kept
        not_restorable tcp-established-restore 'holds an open TCP connection' '--tcp-close'
}

@test "a process of a user namespace" {
        target unshare --user --map-root-user sleep 1000
        wait_for "[ \"\$(cat /proc/$pid/comm)\" = sleep ]"
        mkdir "$T/images"
        criu dump -t "$pid" -D "$T/images" -o dump.log >/dev/null 2>&1 3>&- || skip "it cannot be dumped here"
        checkpoint=$T/images
        not_restorable user-namespace-proc 'user namespace of their own' 'without a user namespace'
}

# broken COMMAND: a copy of the checkpoint $whole that COMMAND damages.
broken() {
        rm -rf "$T/broken"
        cp -a "$whole" "$T/broken"
        checkpoint=$T/broken
        "$@"
}

# patch FILE OFFSET BYTES: as printf has them
patch() {
        # shellcheck disable=SC2059 # escapes are the point
        printf "$3" | dd of="$T/broken/$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "images that are missing, cut off, damaged, too new, of another machine" {
        hold file
        kept
        whole=$checkpoint
        broken rm "$T/broken/inventory.img"
        not_restorable image-none 'an image of the checkpoint is missing' 'checkpoint verify'
        broken truncate -s 20 "$T/broken/core-$pid.img"
        not_restorable image-cut "core-$pid.img of the checkpoint is cut off" 'checkpoint verify'
        broken patch pstree.img 0 XXXXXXXX
        not_restorable image-magic 'the image pstree.img of the checkpoint is damaged' 'checkpoint verify'
        broken patch "core-$pid.img" 12 '\377\377\377\377'
        not_restorable image-damaged "core-$pid.img of the checkpoint is damaged" 'checkpoint verify'
        # The first field of the inventory is the version of the images, that of a core the architecture.
        broken patch inventory.img 9 '\011'
        not_restorable image-version 'newer CRIU \(images of version 9\)' 'install a newer CRIU'
        broken patch "core-$pid.img" 13 '\002'
        not_restorable architecture 'another architecture \(number 2' 'uname -m'
        # stasis itself finds all of them by their checksums, before CRIU is asked.
        run "$STASIS" explain "$T/broken"
        [ "$status" -eq 0 ]
        grep -q "^state: .*core-$pid.img" <<<"$output"
        run "$STASIS" explain "$whole"
        [ "$status" -eq 0 ]
        grep -q '^state: .*sound' <<<"$output"
        checkpoint=$whole
        not_restorable lazy-server 'could not connect to the server of memory pages' 'lazy_pages' --lazy-pages
        not_running
}

@test "a profile of a security module that this kernel does not have" {
        [ ! -d /sys/kernel/security/apparmor ] || skip "this kernel has AppArmor"
        hold file
        kept
        refused 'apparmor' 'lsm_profile' \
                "$STASIS" restore process --path "$checkpoint" --no-server --criu-opts '{"lsm_profile": "apparmor:x"}'
        not_running
        not_restorable lsm-missing 'a profile of apparmor is asked for' 'lsm_profile' --lsm-profile apparmor:x
}

# --- the command itself

@test "explain: the cause, what else was said, and where, as text and as JSON" {
        hold lock
        mkdir "$T/images"
        criu_fails dump -t "$pid" -D "$T/images" -R
        local line
        line=$(grep -n 'Some file locks' "$T/criu/dump.log" | cut -d : -f 1)
        run "$STASIS" explain "$T/criu/dump.log"
        [ "$status" -eq 0 ]
        grep -qE "^where: .*dump.log:$line: .*Some file locks" <<<"$output"
        run grep -E 'RLIMIT|Dumping FAILED' <<<"$output"
        [ "$status" -eq 1 ]

        "$STASIS" explain "$T/criu/dump.log" --all | grep -qE '^then: .*Dumping FAILED'

        "$STASIS" explain "$T/criu/dump.log" --json >"$T/json"
        python3 - "$T/json" "$line" <<'PYTHON'
import json, sys
answer = json.load(open(sys.argv[1]))
assert answer["kind"] == "log" and answer["explained"] is True and answer["verdict"] is None, answer
cause = answer["cause"]
assert cause["id"] == "file-locks" and cause["line"] == int(sys.argv[2]), cause
assert "--file-locks" in cause["hint"] and cause["text"] and cause["more"] and cause["title"], cause
PYTHON

        # From standard input, and of the directory that it lies in.
        "$STASIS" explain - <"$T/criu/dump.log" | grep -q 'file locks are held'
        "$STASIS" explain "$T/criu" | grep -q 'file locks are held'
}

@test "explain: success, an unknown reason, half a log, no log" {
        hold file
        mkdir "$T/images"
        criu dump -t "$pid" -D "$T/images" -o dump.log -v4 -R >/dev/null 2>&1 3>&-
        run "$STASIS" explain "$T/images/dump.log"
        [ "$status" -eq 1 ]
        grep -q 'no failure: the log ends with success' <<<"$output"
        run "$STASIS" explain "$T/images"
        [ "$status" -eq 0 ]
        grep -q 'made by plain CRIU' <<<"$output"
        grep -q "stasis explain $T/images/dump.log" <<<"$output"

        head -n 20 "$T/images/dump.log" >"$T/half"
        run "$STASIS" explain "$T/half"
        [ "$status" -eq 1 ]
        grep -q 'the log ends in the middle' <<<"$output"
        [ "$(grep -A 9 '^last: ' <<<"$output" | wc -l)" = 5 ]

        echo '(00.1) Error (criu/new.c:1): something nobody has seen' >>"$T/half"
        run "$STASIS" explain "$T/half"
        [ "$status" -eq 1 ]
        grep -qE '^cause: +something nobody has seen' <<<"$output"
        grep -qE '^verdict: +not known' <<<"$output"
        grep -q '^next: ' <<<"$output"

        : >"$T/empty"
        run "$STASIS" explain "$T/empty"
        [ "$status" -eq 1 ]
        [[ $output == *"$T/empty is empty"* ]]
        echo 'criu failed: type NOTIFY errno 0 log file: /x/dump.log' >"$T/runc"
        refused 'neither a log of CRIU' 'stasis explain /x/dump.log' "$STASIS" explain "$T/runc"
        refused 'neither a log of CRIU' 'dump.log' "$STASIS" explain /etc/passwd
        run "$STASIS" explain "$T/nothing"
        [ "$status" -eq 1 ]
        [[ $output == *"cannot read $T/nothing: No such file"* ]]
        # What never ends is not read to its end.
        refused 'neither a file, nor a directory' 'standard input' timeout 20 "$STASIS" explain /dev/zero
}

@test "explain: an ordinary user may, without a daemon and a configuration" {
        hold lock
        mkdir "$T/images"
        criu_fails dump -t "$pid" -D "$T/images" -R
        chmod -R a+rX "$T"
        cp "$STASIS" "$T/stasis"
        run setpriv --reuid=65534 --regid=65534 --clear-groups env -u STASIS_CONFIG_DIR HOME=/nonexistent \
                "$T/stasis" explain "$T/criu/dump.log"
        [ "$status" -eq 0 ]
        grep -q '^hint: .*--file-locks' <<<"$output"
}

@test "the logs of failed runs are kept, the oldest are removed" {
        hold lock
        export STASIS_LOG_KEEP_FAILED=2
        mkdir -p "$T/log"
        touch -d '2001-01-01' "$T/log/notes.log" "$T/log/dump-of-mine.log"
        for _ in 1 2 3; do
                not_dumped 'file locks are held' '--file-locks' --file-locks=false
        done
        [ "$(find "$T/log" -name "dump-$pid-*.log" | wc -l)" = 2 ]
        [ -e "$T/log/notes.log" ]
        [ -e "$T/log/dump-of-mine.log" ]
}
