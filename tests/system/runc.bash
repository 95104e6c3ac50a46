# SPDX-License-Identifier: Apache-2.0
#
# Bundles and containers for runc, in namespaces of the test's own: a restore that is killed half-way has changed the
# hostname and left mounts, and that must not be the machine's. Needs start_test first, and ends before end_test:
#
#   setup() { start_test; runc_start; }
#   teardown() { runc_cleanup; end_test; }
# shellcheck shell=bash disable=SC2153 # T is set by common.bash

# shellcheck source=tests/system/cgroup.bash
source "${BASH_SOURCE[0]%/*}/cgroup.bash"

# Sets $RUNC_ROOT (for runc --root), and $STASIS to one that works in the mount and UTS namespace of the test, where
# runc finds a private /run and /etc: write /etc/criu/runc.conf there by runc_inside.
runc_start() {
        export RUNC_ROOT=$T/runc RUNC_CGROUP=/stasis-${T##*/}
        RUNC_HOSTNAME=$(uname -n)
        mkdir -p "$T/etc" "$T/etc.work" "$RUNC_ROOT"
        # shellcheck disable=SC2016 # for the inner shell
        setsid unshare --mount --uts sh -c '
                mount -t tmpfs -o mode=755 run /run &&
                mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/etc.work" etc /etc || exit 1
                exec sleep infinity' "$T" </dev/null >/dev/null 2>&1 3>&- &
        export RUNC_HOLDER=$!
        disown "$RUNC_HOLDER"
        wait_for "[ \"\$(cat /proc/$RUNC_HOLDER/comm)\" = sleep ]"
        # shellcheck disable=SC2016
        printf '#!/bin/sh\nexec nsenter --target %s --mount --uts --wdns="$PWD" -- %s "$@"\n' "$RUNC_HOLDER" "$STASIS" \
                >"$T/stasis"
        chmod 755 "$T/stasis"
        STASIS=$T/stasis
}

# runc_inside COMMAND…: in the namespaces of the test.
runc_inside() {
        nsenter --target "$RUNC_HOLDER" --mount --uts --wdns="$PWD" -- "$@"
}

# runc_plugins NAME…: has stasis load these from a directory that is the test's own, in its /run. Plugins load only from
# below directories that nobody but root can change.
runc_plugins() {
        export STASIS_PLUGINS_LIB_DIR=/run/plugins
        set -- "${@/#/$STASIS_BUILD/plugins/stasis-}"
        runc_inside mkdir "$STASIS_PLUGINS_LIB_DIR"
        runc_inside install -m 644 "${@/%/.so}" "$STASIS_PLUGINS_LIB_DIR/"
}

# runc_do ARGUMENT…: runc there, with the test's root, and with no stream of ours that a checkpoint would meet.
runc_do() {
        runc_inside runc --root "$RUNC_ROOT" "$@" </dev/null 3>&-
}

# runc_bundle DIRECTORY [JQ-EDIT]: a bundle whose container counts in memory, each number also into /count. The edit
# changes config.json: '.root.readonly = true | .process.args = ["sleep", "9"]'.
runc_bundle() {
        mkdir -p "$1/rootfs"/{bin,dev,etc,proc,root,sys,tmp}
        cp /bin/busybox "$1/rootfs/bin/"
        chroot "$1/rootfs" /bin/busybox --install -s /bin
        printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$1/rootfs/etc/passwd"
        (cd "$1" && rm -f config.json && runc spec)
        # No rlimits: to raise one back to what it was takes a capability that not every root has.
        # shellcheck disable=SC2016
        jq --arg cgroup "$RUNC_CGROUP/${1##*/}" 'del(.process.rlimits) | .process.terminal = false |
                .root.readonly = false | .linux.cgroupsPath = $cgroup |
                .process.args = ["sh", "-c",
                        "i=0; while :; do i=$((i + 1)); echo $i >>/count; sleep 0.02; done"] | '"${2:-.}" \
                "$1/config.json" >"$1/config.new"
        mv "$1/config.new" "$1/config.json"
}

# runc_run ID BUNDLE [OPTION…]: started in the background; its output is $T/ID.out, behind a pipe: CRIU dumps no file
# of the machine's as a container's stream.
runc_run() {
        runc_streams "$1" runc --root "$RUNC_ROOT" run --detach --bundle "$2" "${@:3}" "$1"
}

# runc_restore ID BUNDLE IMAGES [OPTION…]
runc_restore() {
        runc_streams "$1" runc --root "$RUNC_ROOT" restore --detach --bundle "$2" --image-path "$3" \
                --work-path "$3.work" "${@:4}" "$1"
}

# runc_streams ID COMMAND…: with stdout and stderr in a pipe to $T/ID.out. An unnamed one: a FIFO is a file to CRIU,
# and of a mount that the container has not.
runc_streams() {
        runc_inside "${@:2}" </dev/null > >(exec setsid cat >>"$T/$1.out" 2>/dev/null 3>&-) 2>&1 3>&- || {
                cat "$T/$1.out" >&2
                return 1
        }
}

# runc_state ID: running, paused, stopped; "gone" when runc does not know it.
runc_state() {
        local state
        state=$(runc_do state "$1" 2>/dev/null) || { echo gone; return; }
        jq -r .status <<<"$state"
}

runc_pid() {
        runc_do state "$1" | jq -r .pid
}

# runc_count BUNDLE: the last number that the counter in its root wrote; 0 when there is none.
runc_count() {
        local number
        number=$(tail -n 1 "$1/rootfs/count" 2>/dev/null) || true
        echo "${number:-0}"
}

# runc_goes_on BUNDLE [NUMBER]: it counts on, and is beyond the number.
runc_goes_on() {
        wait_for "[ \"\$(runc_count $1)\" -gt ${2:-$(runc_count "$1")} ]"
}

# Ends all containers of the test, whatever state they are in, and proves that nothing is left of them. May be repeated.
runc_cleanup() {
        local left="" container
        [ -n "${RUNC_HOLDER:-}" ] || return 0
        # Also those that a test has put into other cgroups.
        for container in $(runc --root "$RUNC_ROOT" list --quiet); do
                runc --root "$RUNC_ROOT" delete --force "$container"
        done
        kill_until_gone runc_processes || left+=$(runc_processes)
        kill -KILL "$RUNC_HOLDER" 2>/dev/null || true
        wait_for "! alive $RUNC_HOLDER"
        cgroup_remove "$RUNC_CGROUP" || left+=" cgroup $RUNC_CGROUP"
        left+=$(grep -E "$T/(runc|etc)|criu\.cgyard" /proc/self/mountinfo || true)
        [ "$(uname -n)" = "$RUNC_HOSTNAME" ] || left+=" hostname $(uname -n)"
        [ -z "$left" ] || { echo "left by runc: $left" >&2; return 1; }
}

# The PIDs in the cgroups of the test's containers, thawed; and of what names the test's root of runc.
runc_processes() {
        cgroup_thaw "${RUNC_CGROUP:?}"
        cgroup_processes "$RUNC_CGROUP" "${T:?}/runc"
}
