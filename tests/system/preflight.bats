#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# What cannot be dumped or restored is told before anything is frozen or started, with the reason and what helps.
# shellcheck disable=SC2154 # set by common.bash

load common

setup() { start_test; }
teardown() {
        end_test
        # Of a test that failed half-way.
        if mountpoint -q "$T/m"; then
                umount -l "$T/m"
                rm -rf "$T"
        fi
}

# obstacle KIND [ARGUMENT]: a target that is hard to dump; sets $pid.
obstacle() {
        (cd "$T" && exec setsid "$PROGRAMS/obstacles" "$@" </dev/null >"$T/obstacle.out" 2>&1 3>&-) &
        pid=$!
        targets+=("$pid")
        wait_for "grep -q ready $T/obstacle.out || ! alive $pid"
        grep -q ready "$T/obstacle.out" || skip "this machine has no such thing"
}

# program: a copy of the obstacles that may be spoilt, as a target that has a directory and a socket; sets $pid.
program() {
        cp "$PROGRAMS/obstacles" "$T/program"
        mkdir -m 755 "$T/d"
        (cd "$T/d" && exec setsid "$T/program" listener "$T/d/socket" </dev/null >"$T/obstacle.out" 2>&1 3>&-) &
        pid=$!
        targets+=("$pid")
        wait_for "grep -q ready $T/obstacle.out"
}

# refused TEXT…: the dump must fail by itself, before CRIU is started (it would name its log), with each text.
refused() {
        local text
        run "$STASIS" dump process "$pid" --no-server 3>&-
        [ "$status" -eq 1 ]
        for text in "$@"; do
                grep -qE -e "$text" <<<"$output" || { echo "no '$text' in: $output"; return 1; }
        done
        [[ "$output" != *"(log: "* ]] || { echo "CRIU has run: $output"; return 1; }
        [ -z "$(ls -A "$T/ckpt" 2>/dev/null)" ]
}

# check_says LEVEL CHECK SUBJECT TEXT: the last `restore --check` said so, in JSON.
check_says() {
        python3 - "$T/check.json" "$@" <<-'END' || { cat "$T/check.json"; return 1; }
		import json, sys
		level, check, subject, text = sys.argv[2:]
		sys.exit(not any(f["level"] == level and f["check"] == check and subject in (f["subject"] or "")
		                 and text in (f["text"] or "") for f in json.load(open(sys.argv[1]))))
	END
}

# check EXIT-CODE ARGUMENT…
check() {
        local expected=$1 code=0
        shift
        "$STASIS" restore process --path "$checkpoint" --check --json "$@" >"$T/check.json" 2>"$T/check.err" 3>&- ||
                code=$?
        [ "$code" -eq "$expected" ] || { echo "exit code $code"; cat "$T/check.json" "$T/check.err"; return 1; }
}

# A program with files, directories and sockets; sets $pid, $port.
service() {
        cat >"$T/service.py" <<-'END'
		import os, socket, sys, threading, time
		top = sys.argv[1]
		listener = socket.socket()
		listener.bind(("127.0.0.1", 0))
		listener.listen(5)
		named = socket.socket(socket.AF_UNIX)
		named.bind(top + "/named")
		named.listen(1)
		abstract = socket.socket(socket.AF_UNIX)
		abstract.bind("\0" + top)
		abstract.listen(1)
		os.mkdir(top + "/cwd")
		os.chdir(top + "/cwd")
		data = open(top + "/data", "w+")
		data.write("x" * 100)
		data.flush()
		thread = threading.Thread(target=time.sleep, args=(1000,))
		thread.start()
		open(top + "/port", "w").write(str(listener.getsockname()[1]) + "\n")
		thread.join()
	END
        mkdir "$T/s"
        target python3 "$T/service.py" "$T/s"
        wait_for "[ -s $T/s/port ]"
        port=$(cat "$T/s/port")
}

stop_target() {
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
}

@test "sockets that CRIU does not know" {
        obstacle vsock
        refused "process $pid has a socket of protocol AF_VSOCK open \\(descriptor [0-9]+\\)"
        obstacle mptcp
        refused "socket of protocol MPTCP" "multipathtcp=0"
}

@test "descriptors of devices and of the kernel's own things" {
        obstacle device /dev/loop-control
        refused "has a device open \\(descriptor [0-9]+, /dev/loop-control\\)"
        obstacle userfault
        refused "userfaultfd"
        obstacle packets
        refused "pipe of packets"
}

@test "a pidfd of a process outside the tree" {
        obstacle pidfd
        refused "a pidfd of a process outside its tree"
}

@test "System V shared memory of the host" {
        obstacle sysv
        refused "has System V shared memory of the host mapped" "unshare --ipc"
}

@test "a first thread that has ended" {
        obstacle headless
        wait_for "grep -q 'State:.Z' /proc/$pid/status"
        refused "the first thread of process $pid \\(obstacles\\) has ended|has ended already"
}

@test "a parent that hangs in vfork" {
        obstacle vforked
        wait_for "grep -q 'State:.D' /proc/$pid/status"
        refused "process $pid \\(obstacles\\) waits for a child that it made by vfork" "try again"
}

@test "a child that is traced" {
        obstacle traced
        refused "is traced by process $pid" "one tracer"
}

@test "a namespace in the middle of the tree" {
        obstacle nested
        refused "is in another UTS namespace than process $pid" "as the root of its own tree"
}

@test "all problems at once, also by the daemon" {
        start_daemon
        obstacle vsock
        local child=$pid
        target sh -c "cd $T; exec 5</dev/loop-control; '$PROGRAMS/obstacles' vsock & wait"
        wait_for "[ -n \"\$(cat /proc/$pid/task/$pid/children)\" ]"
        sleep 0.1
        run "$STASIS" dump process "$pid" 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *AF_VSOCK*";"*"/dev/loop-control"* ]] || { echo "$output"; return 1; }
        alive "$child"
}

@test "a large deleted file: the limit is raised, but not the user's" {
        obstacle ghost 20000000
        run "$STASIS" dump process "$pid" --no-server --criu-opts '{"ghost_limit": 1000000}' 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"the deleted file $T/ghost open, which is larger (19.1 MiB)"*'"ghost_limit": 2000'* ]]
        dump process "$pid" --no-server --stop
        grep -q "deleted file $T/ghost open: its content (19.1 MiB) goes into the checkpoint" "$T/dump.err"
        wait "$pid" 2>/dev/null || true
        restore_no_server process --path "$checkpoint"
        [ "$(stat -L -c %s "/proc/$pid/fd/3")" -eq 20000000 ]
}

@test "a deleted file that has another name" {
        obstacle linked
        dump process "$pid" --no-server --stop
        wait "$pid" 2>/dev/null || true
        restore_no_server process --path "$checkpoint"
        [ "$(stat -L -c %i "/proc/$pid/fd/3")" -eq "$(stat -c %i "$T/two")" ]
        run "$STASIS" dump process "$pid" --no-server --link-remap=false 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"still has another name"*"--link-remap=false"* ]]
}

@test "check: nothing in the way, and nothing is changed" {
        service
        dump process "$pid" --no-server
        stop_target
        local before
        before=$(find "$T/s" "$T/ckpt" -printf '%p %s %T@\n' | sort)
        check 0 --no-server --pid-file "$T/pid"
        check_says ok PIDs "" "free: 2"
        check_says ok image "" "as they were written"
        [ ! -e "$T/pid" ]
        [ ! -e "/proc/$pid" ]
        [ "$(find "$T/s" "$T/ckpt" -printf '%p %s %T@\n' | sort)" = "$before" ]
        start_daemon
        check 0
        check_says ok addresses "" ""
        # What it says is so.
        restore process --path "$checkpoint"
        alive "$pid"
}

@test "check: the original still runs" {
        service
        dump process "$pid" --no-server
        check 1 --no-server
        check_says PROBLEM PIDs "$pid" "PID $pid is taken by process $pid (python3"
        check_says PROBLEM PIDs "$pid" "the original still runs"
        check_says PROBLEM addresses "127.0.0.1:$port" "in use by process $pid"
        check_says PROBLEM "UNIX sockets" "$T/s" "abstract UNIX socket is in use by process $pid"
        check_says warning "UNIX sockets" "$T/s/named" "would take its place"
        start_daemon
        check 1
        check_says PROBLEM PIDs "$pid" "the original still runs"
        alive "$pid"
        # As text.
        run "$STASIS" restore process --path "$checkpoint" --check 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *CHECK*LEVEL*SUBJECT*TEXT*HINT*PIDs*PROBLEM* ]]
        # The restore itself refuses the same.
        run "$STASIS" restore process --path "$checkpoint" 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"the original still runs"*"hint: stop the original"* ]]
}

@test "check: a PID that is the process group of another only" {
        target sleep 1000
        dump process "$pid" --no-server --stop
        local wanted=$pid
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
        obstacle group "$wanted"
        check 1 --no-server
        check_says PROBLEM PIDs "$wanted" "PID $wanted is taken by a process group $wanted that process"
        run "$STASIS" restore process --path "$checkpoint" --no-server 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"PID $wanted is taken by a process group"* ]]
}

@test "check: files, directories and programs that are not as they were" {
        program
        dump process "$pid" --no-server
        stop_target
        check 0 --no-server

        chmod 700 "$T/d"
        check 1 --no-server
        check_says PROBLEM directories "$T/d" "its mode is 700, it was 755"
        rm -r "$T/d"
        check 1 --no-server
        check_says PROBLEM directories "$T/d" "the directory is missing"
        check_says PROBLEM "UNIX sockets" "$T/d/socket" "the directory of the UNIX socket is missing"
        mkdir -m 755 "$T/d"

        # Another build of the same size: the last byte of its build ID is another.
        local id offset
        id=$(readelf -n "$T/program" | sed -n 's/.*Build ID: //p')
        [ -n "$id" ] || skip "the compiler makes no build IDs"
        # shellcheck disable=SC2001 # each two digits
        offset=$(LC_ALL=C grep -obUaP -m1 "$(sed 's/../\\x&/g' <<<"$id")" "$T/program" | head -1 | cut -d: -f1)
        cp -p "$T/program" "$T/original"
        printf '\0\1\2\3' | dd of="$T/program" bs=1 seek="$offset" conv=notrunc status=none
        check 1 --no-server
        check_says PROBLEM executables "$T/program" "another build"
        rm "$T/program"
        check 1 --no-server
        check_says PROBLEM files "$T/program" ""
        mv "$T/original" "$T/program"
        check 0 --no-server
}

@test "check: a lock that another process holds now; no restore waits for it" {
        cat >"$T/locks.py" <<-'END'
		import fcntl, os, sys, time
		whole = open(sys.argv[1] + "/flock", "w")
		fcntl.flock(whole, fcntl.LOCK_EX)
		part = open(sys.argv[1] + "/range", "w")
		fcntl.lockf(part, fcntl.LOCK_EX, 10, 100)
		open(sys.argv[1] + "/ready", "w").close()
		while True:
		    time.sleep(0.05)
	END
        target python3 "$T/locks.py" "$T"
        wait_for "[ -e $T/ready ]"
        dump process "$pid" --no-server
        stop_target
        check 0 --no-server

        local first=$pid file
        for file in flock range; do
                target python3 -c 'import fcntl, sys, time
f = open(sys.argv[1] + "/" + sys.argv[2], "a")
fcntl.flock(f, fcntl.LOCK_SH) if sys.argv[2] == "flock" else fcntl.lockf(f, fcntl.LOCK_EX, 1, 105)
open(sys.argv[1] + "/ready-" + sys.argv[2], "w").close()
time.sleep(1000)' "$T" "$file"
                wait_for "[ -e $T/ready-$file ]"
                check 1 --no-server
                check_says PROBLEM "file locks" "$T/$file" "is locked by process $pid (python3"
                run timeout 20 "$STASIS" restore process --path "$checkpoint" --no-server 3>&-
                [ "$status" -eq 1 ]
                [[ "$output" == *"$T/$file is locked by process $pid (python3"*"hint: "* ]]
                stop_target
        done

        # Another range of the same file, and somebody who only waits, are in nobody's way.
        target python3 -c 'import fcntl, sys, time
f = open(sys.argv[1] + "/range", "a")
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
open(sys.argv[1] + "/ready-other", "w").close()
time.sleep(1000)' "$T"
        wait_for "[ -e $T/ready-other ]"
        check 0 --no-server
        stop_target
        start_daemon
        restore process --path "$checkpoint"
        alive "$first"
}

@test "check: watched, taken and read-only paths, and directories behind a link" {
        mkdir "$T/m" "$T/watched" "$T/cwd"
        mount -t tmpfs none "$T/m"
        cat >"$T/paths.py" <<-'END'
		import ctypes, os, socket, sys, time
		top = sys.argv[1]
		written = open(top + "/m/written", "w")
		libc = ctypes.CDLL(None)
		libc.inotify_add_watch(libc.inotify_init(), (top + "/watched").encode(), 0x3ff)
		named = socket.socket(socket.AF_UNIX)
		named.bind(top + "/named")
		named.listen()
		os.chdir(top + "/cwd")
		open(top + "/ready", "w").close()
		while True:
		    time.sleep(0.05)
	END
        target python3 "$T/paths.py" "$T"
        wait_for "[ -e $T/ready ]"
        dump process "$pid" --no-server
        stop_target
        check 0 --no-server

        mount -o remount,ro "$T/m"
        check 1 --no-server
        check_says PROBLEM directories "$T/m/written" "its file system is read-only"
        run "$STASIS" restore process --path "$checkpoint" --no-server 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"$T/m/written of the checkpoint was open for writing"*"remount,rw"* ]]
        mount -o remount,rw "$T/m"

        mv "$T/watched" "$T/renamed"
        check 1 --no-server
        check_says PROBLEM directories "$T/watched" "watched by inotify, and missing"
        run "$STASIS" restore process --path "$checkpoint" --no-server 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"watched $T/watched, which is missing"*"hint: make it again"* ]]
        mv "$T/renamed" "$T/watched"

        rm -f "$T/named" # a restore that fails may have removed it
        echo >"$T/named"
        check 1 --no-server
        check_says PROBLEM "UNIX sockets" "$T/named" "something else than a UNIX socket has its name"
        rm "$T/named"

        mv "$T/cwd" "$T/elsewhere"
        ln -s elsewhere "$T/cwd"
        check 0 --no-server
        restore_no_server process --path "$checkpoint"
        kill_tree "$pid"
        wait_gone "$pid"
        umount "$T/m"
}

@test "check: ports that others have" {
        service
        dump process "$pid" --no-server
        stop_target
        rm "$T/s/named"
        target python3 -c 'import socket, sys, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(1)
named = socket.socket(socket.AF_UNIX)
named.bind(sys.argv[2])
open(sys.argv[2] + ".ready", "w")
time.sleep(1000)' "$port" "$T/s/named"
        wait_for "[ -e $T/s/named.ready ]"
        check 1 --no-server
        check_says PROBLEM addresses "127.0.0.1:$port" "the TCP port is in use by process $pid (python3"
        check_says warning "UNIX sockets" "$T/s/named" "in use by process $pid"
        check_says ok PIDs "" "free"
}

@test "check: a mount that is not there" {
        mkdir "$T/m"
        mount -t tmpfs none "$T/m"
        target sh -c "cd $T/m; exec sleep 1000"
        dump process "$pid" --no-server
        stop_target
        umount "$T/m"
        chmod 1777 "$T/m" # as that of the mount was: only the mount is missing
        check 0 --no-server
        check_says warning mounts "$T/m" "(tmpfs) was mounted there, nothing is now"
}

@test "check: a damaged checkpoint, and one of plain CRIU" {
        counter
        dump process "$pid" --no-server --compression none
        stop_target
        cp -r "$checkpoint" "$T/plain"
        rm "$T/plain"/stasis.*
        local pages=("$checkpoint"/pages-*.img)
        printf 'x' | dd of="${pages[0]}" bs=1 seek=100 conv=notrunc status=none
        check 1 --no-server
        check_says PROBLEM image "" "checksum"
        checkpoint=$T/plain
        check 0 --no-server
        check_says warning image "" "cannot be verified"
        check_says ok PIDs "" "free"
}
