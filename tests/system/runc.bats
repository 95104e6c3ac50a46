#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Containers of runc: dump, restore, freeze, query, with the real runc in namespaces of the test's own.
# shellcheck disable=SC2154,SC2016 # set by common.bash; for wait_for and the containers' shells to expand

bats_require_minimum_version 1.5.0
load common
load runc

setup() {
        start_test
        runc_start
        runc_plugins runc crun
        root=(--root "$RUNC_ROOT")
        namespace=""
}

teardown() {
        [ -z "$namespace" ] || runc_inside ip netns del "$namespace" || true
        runc_cleanup
        end_test
}

# A container c1 that counts, in $T/b1.
counting() {
        runc_bundle "$T/b1" "${1:-.}"
        runc_run c1 "$T/b1"
        wait_for "[ -s $T/b1/rootfs/count ]"
}

# One whose numbers go to its output.
printing='.process.args = ["sh", "-c", "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done"]'

# One whose dump takes a second: a tmpfs full of what cannot be compressed.
slow='.process.args[2] = "dd if=/dev/urandom of=/big/f bs=1M count=30 2>/dev/null; " + .process.args[2] |
        .mounts += [{destination: "/big", type: "tmpfs", source: "tmpfs", options: []}]'

kill_container() { # kill_container ID: and wait until runc does not know it any more, or as stopped
        runc_do kill "$1" KILL
        wait_for "[[ \$(runc_state $1) = @(gone|stopped) ]]"
}

# Every number once, in order: from the memory, not from the beginning.
no_number_twice() { [ -z "$(uniq -d "$1")" ] && [ "$(sort -n "$1" | head -n 1)" = 1 ]; }

@test "a counter runs on through a dump, ends by --stop, and comes back from each format" {
        start_daemon
        counting
        for format in none zstd tar; do
                dump runc c1 "${root[@]}" --name "d-$format" --compression "$format"
                [ "$(runc_state c1)" = running ]
                runc_goes_on "$T/b1"
        done
        dump runc c1 "${root[@]}" --name last --stop
        [ "$(runc_state c1)" = gone ]
        [ -z "$(runc_processes)" ]
        restore runc --path "$checkpoint" "${root[@]}" --pid-file "$T/pid"
        [ "$(runc_state c1)" = running ]
        [ "$(cat "$T/pid")" = "$(runc_pid c1)" ]
        runc_goes_on "$T/b1"
        no_number_twice "$T/b1/rootfs/count"
        # What restored it shows what the container has, not what served the restore.
        [ "$(jq -c .config.labels "$RUNC_ROOT/c1/state.json")" = "[\"bundle=$T/b1\"]" ]
        [ "$(jq -c .config.Hooks.createRuntime "$RUNC_ROOT/c1/state.json" | grep -c loopback)" = 0 ]
        # It is dumped again, and gone from the list after its end.
        dump runc c1 "${root[@]}" --name again
        kill_container c1
        wait_for '[ "$(runc_state c1)" = gone ]'
        for format in none zstd tar; do
                restore runc --path "$(echo "$T/ckpt/d-$format"*)" "${root[@]}"
                runc_goes_on "$T/b1"
                kill_container c1
                wait_for '[ "$(runc_state c1)" = gone ]'
        done
}

@test "without the daemon: the command line is the parent, and ends as the container does" {
        counting 'del(.linux.cgroupsPath) | .process.args[2] = "trap \"exit 7\" TERM; " + .process.args[2]'
        dump runc c1 "${root[@]}" --no-server --stop
        [ "$(runc_state c1)" = gone ]
        "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --no-server </dev/null >"$T/restore.out" 2>&1 3>&- &
        restorer=$!
        wait_for '[ "$(runc_state c1)" = running ]'
        runc_goes_on "$T/b1"
        runc_do kill c1 TERM
        code=0
        wait "$restorer" || code=$?
        [ "$code" -eq 7 ]
        [ "$(runc_state c1)" = gone ]
        [ -z "$(runc_processes)" ]
        nothing=$(ls -A "$T/run/w")
        [ -z "$nothing" ]
}

@test "a read-only root, another user, namespaces of the host: the output goes on where --out says" {
        start_daemon
        runc_bundle "$T/b1" "$printing | .root.readonly = true | .process.user = {uid: 65534, gid: 65534} |
                .linux.namespaces |= map(select(.type != \"network\" and .type != \"ipc\")) |
                .mounts |= map(select(.destination != \"/sys\" and .destination != \"/dev/mqueue\"))"
        runc_run c1 "$T/b1"
        wait_lines "$T/c1.out" 3
        dump runc c1 "${root[@]}" --stop
        restore runc --path "$checkpoint" "${root[@]}" --out "$T/out"
        wait_lines "$T/out" 3
        [ "$(head -n 1 "$T/out")" -gt 3 ]
        kill_container c1
        # With --detach the same, and runc does not wait for it: it stays in the list.
        restore runc --path "$checkpoint" "${root[@]}" --out "$T/out2" --detach
        wait_lines "$T/out2" 3
        dump runc c1 "${root[@]}" --name again
        kill_container c1
        [ "$(runc_state c1)" = stopped ]
}

@test "a terminal: kept by us, sent to a console socket, refused when nobody would hold it" {
        start_daemon
        receiver() { # receiver SOCKET FILE
                timeout 60 python3 -c '
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
_, fds, _, _ = socket.recv_fds(listener.accept()[0], 4096, 1)
out = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
try:
    while data := os.read(fds[0], 4096):
        os.write(out, data)
except OSError:
    pass' "$1" "$2" </dev/null >/dev/null 2>&1 3>&- &
                targets+=("$!")
                wait_for "[ -S $1 ]"
        }
        runc_bundle "$T/b1" "$printing | .process.terminal = true"
        receiver "$T/s1" "$T/terminal1"
        runc_inside runc --root "$RUNC_ROOT" run --detach --console-socket "$T/s1" --bundle "$T/b1" c1 </dev/null 3>&-
        wait_lines "$T/terminal1" 3
        dump runc c1 "${root[@]}" --stop
        # In the foreground, by the daemon.
        restore runc --path "$checkpoint" "${root[@]}" --out "$T/out1"
        wait_lines "$T/out1" 3
        [ "$(head -n 1 "$T/out1" | tr -d '\r')" -gt 3 ]
        kill_container c1
        wait_for '[ "$(runc_state c1)" = gone ]'
        # Detached, the terminal for the socket; or for us.
        receiver "$T/s2" "$T/terminal2"
        restore runc --path "$checkpoint" "${root[@]}" --detach --console-socket "$T/s2"
        wait_lines "$T/terminal2" 3
        runc_do delete --force c1
        restore runc --path "$checkpoint" "${root[@]}" --detach --out "$T/out3"
        wait_lines "$T/out3" 3
        runc_do delete --force c1
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --detach --no-server 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"nobody is left to hold it"*--console-socket* ]]
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --console-socket "$T/s2" 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"with --detach"* ]]
        [ "$(runc_state c1)" = gone ]
}

@test "what stands in the way is named, before anything runs" {
        start_daemon
        mkdir "$T/outside"
        counting ".mounts += [{destination: \"/outside\", type: \"bind\", source: \"$T/outside\", options: [\"bind\"]}]"
        refused() { # refused TEXT COMMAND…
                run "$STASIS" "${@:2}" "${root[@]}" 3>&-
                [ "$status" -ne 0 ]
                [[ "$output" == *"$1"* ]] || { echo "$output" >&2; return 1; }
        }
        refused "there is no container other of runc in $RUNC_ROOT" dump runc other
        refused "is no ID of a container" dump runc ../c1
        dump runc c1 "${root[@]}" --name first
        refused "there is a container c1 already: it is running" restore runc --path "$checkpoint"
        refused "its cgroup $RUNC_CGROUP/b1 holds process" restore runc --path "$checkpoint" --id c2
        kill_container c1
        refused "container c1 has stopped" dump runc c1
        refused "there is a container c1 already, which has ended" restore runc --path "$checkpoint"
        runc_do delete c1
        mv "$T/outside" "$T/elsewhere"
        refused "$T/outside, which the container has at /outside" restore runc --path "$checkpoint"
        # --check finds all of it and starts nothing.
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --check --json 3>&-
        jq -e '.. | objects | select(.Check? == "mounts" or .check? == "mounts")' <<<"$output"
        mv "$T/elsewhere" "$T/outside"
        mv "$T/b1" "$T/b2"
        refused "the bundle $T/b1, where the container had it" restore runc --path "$checkpoint"
        mv "$T/b2/config.json" "$T/config.json"
        refused "cannot read $T/b2/config.json" restore runc --path "$checkpoint" --bundle "$T/b2"
        mv "$T/config.json" "$T/b2/config.json"
        runc_inside runc --root "$RUNC_ROOT" create --bundle "$T/b2" c1 </dev/null >/dev/null 2>&1 3>&-
        refused "was created, but not started" dump runc c1
        runc_do delete --force c1
        # Relative paths are the caller's.
        cd "$T"
        restore runc --path "$checkpoint" "${root[@]}" --bundle b2
        [ "$(runc_do list --format json | jq -r '.[0].bundle')" = "$T/b2" ]
        runc_goes_on "$T/b2"
}

@test "mounts from outside stay outside: bind mounts, and what STASIS_PERSISTENT_MOUNTS names" {
        start_daemon
        # A name that is no UTF-8, and holds what CRIU's configuration cannot.
        later=$T/$'la\xff ter\\ "#'
        mkdir -p "$T/outside" "$later" "$T/b1/rootfs/later" "$T/b1/rootfs/odd"
        echo there >"$later/file"
        counting ".process.env += [\"STASIS_PERSISTENT_MOUNTS=/outside:/empty,/later:/odd\"] |
                .process.args[2] = \"exec 7>>/outside/log; \" + (.process.args[2] | sub(\"/count\"; \"/count; echo \$i >\\u00267\")) |
                .mounts += [{destination: \"/outside\", type: \"bind\", source: \"$T/outside\", options: [\"bind\"]},
                        {destination: \"/empty\", type: \"tmpfs\", source: \"tmpfs\", options: []},
                        {destination: \"/kept\", type: \"tmpfs\", source: \"tmpfs\", options: []}]"
        runc_do exec c1 sh -c 'echo 1 >/empty/file; echo 2 >/kept/file'
        # A mount that came into the container after its start: open_tree(2), move_mount(2).
        runc_inside python3 -c '
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
tree = libc.syscall(428, -100, os.fsencode(sys.argv[2]), 1)
assert tree >= 0 and libc.setns(os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY), 0) == 0
assert libc.syscall(429, tree, b"", -100, b"/later", 4) == 0
assert libc.mount(b"odd \xff source", b"/odd", b"tmpfs", 0, None) == 0' "$(runc_pid c1)" "$later"
        dump runc c1 "${root[@]}" --stop --compression none
        grep -q "/empty is not in the checkpoint" "$T/dump.err" "$T/dump.out"
        restore runc --path "$checkpoint" "${root[@]}"
        [ "$(runc_do exec c1 cat /later/file)" = there ]
        runc_do exec c1 touch /later/new
        [ -e "$later/new" ]
        LC_ALL=C grep -qP 'tmpfs odd\\040\xff\\040source' "/proc/$(runc_pid c1)/mountinfo"
        [ "$(runc_do exec c1 cat /kept/file)" = 2 ]
        [ -z "$(runc_do exec c1 ls /empty)" ]
        runc_goes_on "$T/b1"
        last=$(tail -n 1 "$T/outside/log")
        wait_for "[ \$(tail -n 1 $T/outside/log) -gt $last ]"
        # Nothing of the restore is left in the machine's mounts.
        [ "$(runc_inside grep -c "$T/run" /proc/self/mountinfo)" = 0 ]
        [ "$(jq -c .config.labels "$RUNC_ROOT/c1/state.json")" = "[\"bundle=$T/b1\"]" ]
}

@test "a joined network namespace: an established connection lives through the stop and the restore" {
        start_daemon
        namespace=st$BASHPID
        runc_inside ip netns add "$namespace"
        runc_inside sh -c "ip link add v$BASHPID type veth peer name eth0 netns $namespace &&
                ip addr add 10.213.7.1/24 dev v$BASHPID && ip link set v$BASHPID up &&
                ip -n $namespace addr add 10.213.7.2/24 dev eth0 && ip -n $namespace link set eth0 up"
        runc_bundle "$T/b1" ".process.args = [\"nc\", \"-ll\", \"-p\", \"7000\", \"-e\", \"cat\"] |
                .linux.namespaces |= map(if .type == \"network\" then .path = \"/run/netns/$namespace\" else . end)"
        runc_run c1 "$T/b1"
        timeout 60 python3 -c '
import socket, sys, time
for _ in range(100):
    try:
        peer = socket.create_connection(("10.213.7.2", 7000), 10)
        break
    except OSError:
        time.sleep(0.05)
stream = peer.makefile("rw")
for n in range(100000):
    stream.write(f"{n}\n")
    stream.flush()
    assert stream.readline() == f"{n}\n"
    print(n, flush=True)
    time.sleep(0.02)' </dev/null >"$T/client" 2>&1 3>&- &
        client=$!
        targets+=("$client")
        wait_lines "$T/client" 3
        dump runc c1 "${root[@]}" --name first
        wait_lines "$T/client" $(($(lines "$T/client") + 3))
        dump runc c1 "${root[@]}" --name second --stop
        [ "$(runc_state c1)" = gone ]
        restore runc --path "$checkpoint" "${root[@]}"
        wait_lines "$T/client" $(($(lines "$T/client") + 3))
        alive "$client"
        kill_container c1
        wait_for '[ "$(runc_state c1)" = gone ]'
        runc_inside ip netns del "$namespace"
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"its network namespace /run/netns/$namespace"*"ip netns add"* ]]
        namespace=""
}

@test "a network namespace of its own: connections in it are kept, and its loopback interface is up" {
        start_daemon
        runc_bundle "$T/b1" '.process.args = ["sh", "-c", "nc -l -p 7000 -e cat & sleep 0.3;
                (i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done) | nc 127.0.0.1 7000"]'
        runc_run c1 "$T/b1"
        wait_lines "$T/c1.out" 3
        dump runc c1 "${root[@]}" --stop
        restore runc --path "$checkpoint" "${root[@]}" --out "$T/out"
        wait_lines "$T/out" 3
        [[ "$(runc_do exec c1 ip link show lo)" == *LOOPBACK,UP* ]]
        # CRIU waits for the commit before it ends it: when that fails, here because the name is taken meanwhile, it goes on.
        pid=$(runc_do state c1 | jq .pid)
        printf '#!/bin/sh\ntouch %s/ckpt/taken.stasis\n' "$T" >"$T/hook"
        chmod 755 "$T/hook"
        run "$STASIS" dump runc c1 "${root[@]}" --name taken --stop --hook "pre-dump=$T/hook" 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"exists already"* ]]
        [ "$(runc_state c1)" = running ]
        [ "$(runc_do state c1 | jq .pid)" = "$pid" ]
        wait_lines "$T/out" $(($(lines "$T/out") + 3))
        [[ "$(runc_do exec c1 ip link show lo)" == *LOOPBACK,UP* ]]
}

@test "clones run beside the original" {
        start_daemon
        counting 'del(.linux.cgroupsPath)'
        dump runc c1 "${root[@]}"
        clones=3
        [ -z "${STASIS_STRESS:-}" ] || clones=20
        for ((i = 0; i < clones; i++)); do
                cp -a "$T/b1" "$T/clone$i"
                restore runc --path "$checkpoint" "${root[@]}" --id "clone$i" --bundle "$T/clone$i"
        done
        [ "$("$STASIS" query runc "${root[@]}" --json | jq '[.Runc.Containers[] | select(.Status == "running")] | length')" = \
                $((clones + 1)) ]
        runc_goes_on "$T/b1"
        for ((i = 0; i < clones; i++)); do
                runc_goes_on "$T/clone$i"
                kill_container "clone$i"
        done
        wait_for '[ "$(runc_do list --quiet)" = c1 ]'
        runc_do delete --force c1
}

@test "a worker or a runc that is killed in the middle of a dump, and Ctrl-C: the container runs on, nothing is left" {
        start_daemon
        counting "$slow"
        for way in worker runc interrupt; do
                "$STASIS" dump runc c1 "${root[@]}" --name broken >"$T/dump.out" 2>&1 3>&- </dev/null &
                client=$!
                wait_for "pgrep -f 'checkpoint.*$T'"
                if [ "$way" = worker ]; then
                        kill -KILL "$(pgrep -P "$daemon" -f 'stasis worker')"
                elif [ "$way" = runc ]; then
                        # Its CRIU goes on, and would freeze what is resumed before it ends.
                        wait_for 'grep -q "^TracerPid:.*[1-9]" "/proc/$(runc_pid c1)/status"'
                        kill -KILL "$(pgrep -f "^runc .*checkpoint.*$T")"
                else
                        kill -INT "$client"
                fi
                code=0
                wait "$client" || code=$?
                [ "$code" -ne 0 ]
                [ "$way" != runc ] || grep -q "runc was killed by signal 9" "$T/dump.out"
                wait_for "! pgrep -f 'checkpoint.*$T'" 20
                wait_for '[ "$(runc_state c1)" = running ]' 20
                runc_goes_on "$T/b1"
                nothing_left
        done
}

@test "a full disk: the reason is told, the container runs on" {
        mkdir "$T/small"
        runc_inside mount -t tmpfs -o size=2m small "$T/small"
        start_daemon
        counting '.process.args[2] = "x=$(dd if=/dev/urandom bs=1M count=4 2>/dev/null | base64 -w0); " + .process.args[2]'
        for options in "--compression none" "--compression zstd --stop"; do
                # shellcheck disable=SC2086 # words
                run "$STASIS" dump runc c1 "${root[@]}" --dir "$T/small" $options 3>&-
                [ "$status" -ne 0 ]
                [[ "$output" == *"no space left"* ]]
                [ "$(runc_state c1)" = running ]
                runc_goes_on "$T/b1"
                [ -z "$(runc_inside find "$T/small" -mindepth 1)" ]
        done
}

@test "a file of the bundle that grew after the dump: it is named, and what mends it does" {
        counting '.process.args[2] = "exec 9>/tmp/log; " + (.process.args[2] | sub("/count"; "/count; echo $i >\u00269"))'
        dump runc c1 "${root[@]}" --no-server
        runc_goes_on "$T/b1"
        runc_do delete --force c1
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --no-server --detach 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"$T/b1/rootfs/tmp/log has "*" bytes, and had "*"truncate -s "* ]] || { echo "$output" >&2; return 1; }
        [ "$(runc_state c1)" = gone ]
        mend=$(sed -n "s/.*'\(truncate [^']*\)'.*/\1/p" <<<"$output")
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" --no-server --files=rollback 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"--files=rollback"*"used as they are in its bundle"* ]]
        $mend
        restore runc --path "$checkpoint" "${root[@]}" --no-server --detach
        [ "$(runc_state c1)" = running ]
}

@test "a damaged checkpoint restores nothing" {
        start_daemon
        counting
        dump runc c1 "${root[@]}" --stop --compression none
        printf x | dd of="$checkpoint/pages-1.img" bs=1 seek=100 conv=notrunc status=none
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"pages-1.img has a wrong checksum"* ]]
        [ "$(runc_state c1)" = gone ]
        [ -z "$(runc_processes)" ]
}

@test "two restores of one container at once: one has it, and the other leaves it alone" {
        # A CRIU that takes its time, so that the second one comes while the first one is at work.
        mkdir "$T/bin"
        printf '#!/bin/sh\n[ ! -e %s/slow ] || sleep 0.7\nexec %s "$@"\n' "$T" "$(command -v criu)" >"$T/bin/criu"
        chmod 755 "$T/bin/criu"
        export PATH=$T/bin:$PATH
        start_daemon
        counting
        dump runc c1 "${root[@]}" --stop
        touch "$T/slow"
        "$STASIS" restore runc --path "$checkpoint" "${root[@]}" >"$T/first.out" 2>&1 3>&- </dev/null &
        first=$!
        wait_for 'runc_inside mountpoint -q "$RUNC_ROOT/c1/criu-root"'
        run "$STASIS" restore runc --path "$checkpoint" "${root[@]}" 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"container c1: another restore of it is at work"* ]]
        wait "$first"
        runc_goes_on "$T/b1"
        kill_container c1
        wait_for '[ "$(runc_state c1)" = gone ]'
        # Both begin at the same time.
        for i in 1 2; do
                "$STASIS" restore runc --path "$checkpoint" "${root[@]}" >"$T/restore$i.out" 2>&1 3>&- </dev/null &
                pids[i]=$!
        done
        failed=0
        wait "${pids[1]}" || failed=$((failed + 1))
        wait "${pids[2]}" || failed=$((failed + 1))
        [ "$failed" -eq 1 ] || { cat "$T"/restore?.out; return 1; }
        [ -x "$T/b1/rootfs/bin/busybox" ]
        runc_goes_on "$T/b1"
}

@test "runc or CRIU is killed in the middle of a restore: nothing is left, and the bundle keeps its files" {
        start_daemon
        counting "$slow"
        wait_for '[ "$(stat -c %s "/proc/$(runc_pid c1)/root/big/f")" = 31457280 ]'
        dump runc c1 "${root[@]}" --stop
        find "$T/b1/rootfs" | sort >"$T/before"
        for victim in runc criu; do
                "$STASIS" restore runc --path "$checkpoint" "${root[@]}" >"$T/restore.out" 2>&1 3>&- </dev/null &
                client=$!
                wait_for 'runc_inside mountpoint -q "$RUNC_ROOT/c1/criu-root"'
                program=$(pgrep -o -f "^runc .*restore.*$T")
                if [ "$victim" = criu ]; then
                        wait_for 'runc_inside grep -q criu.cgyard /proc/self/mountinfo'
                        program=$(pgrep -P "$program" -x criu)
                fi
                # shellcheck disable=SC2086 # CRIU has a helper of the same name
                kill -KILL $program
                code=0
                wait "$client" || code=$?
                [ "$code" -ne 0 ]
                [ "$(runc_state c1)" = gone ]
                [ ! -e "$RUNC_ROOT/c1" ] || { ls -lR "$RUNC_ROOT"; cat "$T/restore.out" "$T/daemon.log"; return 1; }
                find "$T/b1/rootfs" | sort | diff "$T/before" -
                # Its CRIU may outlive a runc that is killed, but not for long.
                wait_for '[ -z "$(ls -A "$T/run/w")" ]'
                wait_for '[ "$(runc_inside grep -cE "$T/run|criu-root" /proc/self/mountinfo)" = 0 ]'
                wait_for '[ -z "$(runc_processes)" ]'
        done
        restore runc --path "$checkpoint" "${root[@]}"
        runc_goes_on "$T/b1"
}

@test "freeze, unfreeze and query; what was paused before a dump stays so" {
        start_daemon
        counting
        run --separate-stderr "$STASIS" query runc "${root[@]}" 3>&-
        [[ "${lines[0]}" =~ ^ID\ +PID\ +STATUS\ +BUNDLE$ ]]
        [[ "${lines[1]}" =~ ^c1\ +$(runc_pid c1)\ +running\ +$T/b1$ ]]
        "$STASIS" freeze runc c1 "${root[@]}"
        [ "$(runc_state c1)" = paused ]
        [ "$("$STASIS" query runc c1 "${root[@]}" --json | jq -r '.Runc.Containers[0].Status')" = paused ]
        run "$STASIS" freeze runc c1 "${root[@]}" 3>&-
        [ "$status" -eq 0 ]
        [[ "$output" == *"paused already"* ]]
        dump runc c1 "${root[@]}"
        [ "$(runc_state c1)" = paused ]
        "$STASIS" unfreeze runc c1 "${root[@]}"
        [ "$(runc_state c1)" = running ]
        run "$STASIS" unfreeze runc c1 "${root[@]}" 3>&-
        [ "$status" -eq 0 ]
        [[ "$output" == *"nothing to do"* ]]
        runc_goes_on "$T/b1"
        run "$STASIS" query runc other "${root[@]}" 3>&-
        [ "$status" -ne 0 ]
        # What a freeze had paused comes back running.
        "$STASIS" freeze runc c1 "${root[@]}"
        dump runc c1 "${root[@]}" --name stopped --stop
        [ "$(runc_state c1)" = gone ]
        restore runc --path "$checkpoint" "${root[@]}"
        runc_goes_on "$T/b1"
}

@test "cgroup v2 alone" {
        runc_inside mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup
        start_daemon
        counting
        "$STASIS" freeze runc c1 "${root[@]}"
        [ "$(runc_state c1)" = paused ]
        "$STASIS" unfreeze runc c1 "${root[@]}"
        dump runc c1 "${root[@]}" --name first
        runc_goes_on "$T/b1"
        dump runc c1 "${root[@]}" --stop
        [ "$(runc_state c1)" = gone ]
        restore runc --path "$checkpoint" "${root[@]}"
        runc_goes_on "$T/b1"
        no_number_twice "$T/b1/rootfs/count"
}

@test "options of CRIU reach it; one that cannot be had is refused by its name" {
        start_daemon
        counting '.process.args[2] = "exec 8>/deleted; dd if=/dev/zero bs=1000 count=30 >\u00268 2>/dev/null; rm /deleted; " +
                .process.args[2]'
        dump runc c1 "${root[@]}" --name default
        run "$STASIS" dump runc c1 "${root[@]}" --name little --criu-opts '{"ghost_limit": 1000}' 3>&-
        [ "$status" -ne 0 ]
        runc_goes_on "$T/b1"
        run "$STASIS" dump runc c1 "${root[@]}" --criu-opts '{"auto_dedup": true}' 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *auto_dedup* ]]
        # The machine's file counts, too, and what was asked for wins over it.
        runc_inside sh -c 'mkdir -p /etc/criu && echo "ghost-limit 1000" >/etc/criu/runc.conf'
        run "$STASIS" dump runc c1 "${root[@]}" --name configured 3>&-
        [ "$status" -ne 0 ]
        dump runc c1 "${root[@]}" --name asked --criu-opts '{"ghost_limit": 1000000}'
}

@test "crun: without CRIU in it, its commands refuse and a health check tells" {
        # A crun of the test's own; what it is asked is its version.
        mkdir "$T/bin"
        printf '#!/bin/sh\necho "crun version 1.8.1"\necho "+SELINUX +CAP +SECCOMP +YAJL"\n' >"$T/bin/crun"
        chmod 755 "$T/bin/crun"
        export PATH=$T/bin:$PATH
        start_daemon
        counting
        runc_do checkpoint --image-path "$T/images" --work-path "$T/images.work" c1
        for command in "dump crun c1" "restore crun --path $T/images --id c1 --bundle $T/b1"; do
                # shellcheck disable=SC2086 # words
                run "$STASIS" $command 3>&-
                [ "$status" -ne 0 ]
                [[ "$output" == *"built without CRIU"* ]]
        done
        # What runc itself has checkpointed can be restored by its plugin.
        restore runc --path "$T/images" "${root[@]}" --id c1 --bundle "$T/b1"
        runc_goes_on "$T/b1"
        "$STASIS" check --json | jq -e '.[] | select(.Name == "crun").Components[] |
                select(.Name == "checkpoints").Warnings[] | test("without CRIU")'
        "$STASIS" check --json | jq -e '.[] | select(.Name == "runc").Components[] | select(.Name == "version").Data'
}

@test "the commands are gone with the plugin" {
        "$STASIS" dump runc --help >/dev/null
        runc_inside rm /run/plugins/stasis-runc.so
        for verb in dump restore freeze unfreeze query; do
                run "$STASIS" "$verb" runc c1 3>&-
                [ "$status" -eq 2 ]
                [[ "$output" == *"unknown type 'runc'"* ]]
        done
}
