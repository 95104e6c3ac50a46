#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Kernel objects, each in a process of its own (programs/keep_*.c): dumped with --stop and restored, with no other option,
# and looked at by the process afterwards.
# shellcheck disable=SC2154 # pid, checkpoint … are set by common.bash

load common

setup() {
        huge=""
        start_test
        keep=$T/keep origin=$PROGRAMS
}
teardown() {
        [ -z "$huge" ] || echo "$huge" >/proc/sys/vm/nr_hugepages
        end_test
        case $keep in /var/tmp/*) rm -rf "$keep" ;; esac
}

# on_disk PROGRAM: where /tmp is a tmpfs, CRIU packs all of it with a mount namespace. So what the process needs lies
# elsewhere, and it does without /tmp.
on_disk() {
        [ "$(stat -f -c %T /tmp)" = tmpfs ] || return 0
        [ "$(stat -f -c %T /var/tmp)" != tmpfs ] || skip "/tmp and /var/tmp are in memory"
        keep=$(mktemp -d /var/tmp/st.XXXXXX)
        chmod 711 "$keep"
        cp "$PROGRAMS/$1" "$keep/"
        origin=$keep
}

# starts PROGRAM NAME: its process is ready when this returns; sets $pid.
starts() {
        [ -d "$keep" ] || mkdir -m 711 "$keep"
        setsid "$origin/$1" "$2" "$keep" </dev/null >"$keep/$2.out" 2>&1 3>&- 4>&- &
        pid=$!
        targets+=("$pid")
        wait_for "[ -e $keep/$2.ready ] || [ -e $keep/$2.result ]" 20
}

# round_trip PID NAME: dumps and restores.
round_trip() {
        "$STASIS" dump process "$1" --stop --name "$2" --compression none &&
                wait_gone "$1" && "$STASIS" restore process --path "$T/ckpt/$2"
}

# keeps PROGRAM NAME…: all of them at the same time.
keeps() {
        local program=$1 name i jobs=() pids=() failed=0
        shift
        chmod 711 "$T"
        start_daemon
        for name in "$@"; do
                starts "$program" "$name"
                pids+=("$pid")
        done
        for ((i = 1; i <= $#; i++)); do
                round_trip "${pids[i - 1]}" "${!i}" >"$T/${!i}.log" 2>&1 3>&- 4>&- &
                jobs+=($!)
        done
        for ((i = 1; i <= $#; i++)); do
                wait "${jobs[i - 1]}" || { echo "${!i}: $(cat "$T/${!i}.log")" >&2; failed=1; }
                touch "$keep/${!i}.go"
        done
        [ "$failed" = 0 ]
        for name in "$@"; do
                wait_for "[ -e $keep/$name.result ]" 20
                [ "$(cat "$keep/$name.result")" = ok ] || { echo "$name: $(cat "$keep/$name."{result,out})" >&2; failed=1; }
        done
        [ "$failed" = 0 ]
}

# all_of PROGRAM: the names of its objects.
all_of() { "$PROGRAMS/$1" --list; }

@test "pipes, files, events, timers, locks, watches" {
        mapfile -t names < <(all_of keep_files)
        keeps keep_files "${names[@]}"
}

@test "shared memory, System V IPC, UNIX sockets" {
        mapfile -t names < <(all_of keep_ipc)
        keeps keep_ipc "${names[@]}"
}

@test "signals, timers, ids, children, threads, terminals" {
        mapfile -t names < <(all_of keep_process)
        keeps keep_process "${names[@]}"
}

@test "mappings, namespaces, a root of its own" {
        on_disk keep_memory
        mapfile -t names < <(all_of keep_memory | grep -v '^huge$')
        keeps keep_memory "${names[@]}"
}

@test "TCP, UDP, raw, packet and netlink sockets, a network namespace" {
        mapfile -t names < <(all_of keep_net)
        keeps keep_net "${names[@]}"
}

@test "huge pages, private and shared" {
        reserved=/proc/sys/vm/nr_hugepages
        huge=$(cat "$reserved")
        echo $((huge + 4)) >"$reserved" && [ "$(sed -n 's/^HugePages_Free: *//p' /proc/meminfo)" -ge 4 ] ||
                skip "no huge pages can be reserved here (vm.nr_hugepages)"
        mkdir "$T/tmp"
        export TMPDIR=$T/tmp # others restore in /var/tmp meanwhile
        keeps keep_memory huge
        [ -z "$(ls -A "$T/tmp")" ]
}

# The PID that a process has outside its PID namespace is another one after a restore: the supervisor tells it.
in_namespaces() { # in_namespaces UNSHARE-OPTION…
        local namespaces=(ipc mnt net pid uts cgroup) name before=() after=() restored
        start_daemon
        setsid unshare --fork --kill-child "$@" setsid sh -c 'exec sleep 1000 </dev/null >/dev/null 2>&1' \
                </dev/null >/dev/null 2>&1 3>&- 4>&- &
        targets+=("$!")
        wait_for "pgrep -P $! -x sleep"
        pid=$(pgrep -P "$!" -x sleep)
        for name in "${namespaces[@]}"; do
                [ "$(readlink "/proc/$pid/ns/$name")" = "$(readlink "/proc/self/ns/$name")" ] || before+=("$name")
        done
        dump process "$pid" --stop
        wait_gone "$pid"
        restore process --path "$checkpoint"
        restored=$(awk '{ print $NF }' "$T/restore.out")
        targets+=("$restored")
        alive "$restored"
        for name in "${namespaces[@]}"; do
                [ "$(readlink "/proc/$restored/ns/$name")" = "$(readlink "/proc/self/ns/$name")" ] || after+=("$name")
        done
        [ "${#before[@]}" -gt 0 ]
        [ "${before[*]}" = "${after[*]}" ]
}

@test "a PID namespace" { in_namespaces --pid; }
@test "PID, mount, network, IPC, UTS and cgroup namespaces" {
        in_namespaces --pid --mount-proc --net --ipc --uts --cgroup
}

# A cgroup of version 1 or 2 to put a process in; sets $cgroup to its directory.
make_cgroup() {
        local root
        root=$(awk '$3 ~ /^cgroup/ && $2 !~ /freezer|memory|cpuset/ && ($3 == "cgroup2" || $4 ~ /pids|cpu/) { print $2; exit }' \
                /proc/mounts)
        [ -n "$root" ] || skip "no cgroups are mounted"
        cgroup=$root/stasis-test-$$-$RANDOM
        mkdir "$cgroup" || skip "cgroups cannot be made here"
}

@test "a process comes back to its cgroup, which is made again with its limits" {
        make_cgroup
        target sleep 1000
        echo "$pid" >"$cgroup/cgroup.procs"
        [ ! -e "$cgroup/pids.max" ] || echo 77 >"$cgroup/pids.max"
        start_daemon
        was=$(cat "/proc/$pid/cgroup")
        dump process "$pid" --stop
        wait_gone "$pid"
        wait_for "rmdir $cgroup"
        restore process --path "$checkpoint"
        is=$(cat "/proc/$pid/cgroup")
        [ ! -e "$cgroup/pids.max" ] || limit=$(cat "$cgroup/pids.max")
        kill -9 "$pid"
        wait_gone "$pid"
        wait_for "rmdir $cgroup"
        [ "$was" = "$is" ]
        [ "${limit:-77}" = 77 ]
}

@test "a process in our own cgroups is spared the look at them" {
        target sleep 1000
        start_daemon
        dump process "$pid" --stop --compression none
        [ "$(jq -r .criu.manage_cgroups_mode "$checkpoint/stasis.json")" = IGNORE ]
}
