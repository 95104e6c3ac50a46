#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Podman's checkpoint archives: imported, stored as any checkpoint, given back to the real podman.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

load common
load runc

setup() {
        start_test
        runc_start
        mkdir -p "$T/pod"
        # Debian's defaults ask for limits that need CAP_SYS_RESOURCE, and for systemd.
        cat >"$T/pod/containers.conf" <<-END
		[containers]
		default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		runtime = "runc"
		END
        cat >"$T/pod/storage.conf" <<-END
		[storage]
		driver = "vfs"
		graphroot = "$T/pod/graph"
		runroot = "$T/pod/run"
		END
}

teardown() {
        for name in c1 c2; do
                podman_do rm --force --ignore --time 0 "$name" >/dev/null 2>&1 || :
        done
        runc_cleanup
        end_test
}

podman_do() {
        runc_inside env CONTAINERS_CONF="$T/pod/containers.conf" CONTAINERS_STORAGE_CONF="$T/pod/storage.conf" \
                timeout --kill-after 2 40 podman --tmpdir "$T/pod/tmp" "$@" </dev/null 3>&-
}

# A container that counts in memory, each number also into a file of its own layer.
podman_counting() {
        mkdir -p "$T/root/bin" "$T/root/tmp"
        cp /bin/busybox "$T/root/bin/"
        for name in sh sleep cat; do ln -s busybox "$T/root/bin/$name"; done
        tar -C "$T/root" -c . | runc_inside env CONTAINERS_CONF="$T/pod/containers.conf" \
                CONTAINERS_STORAGE_CONF="$T/pod/storage.conf" podman --tmpdir "$T/pod/tmp" import - counting >/dev/null 2>&1
        # shellcheck disable=SC2016
        podman_do run --detach --name c1 --network none counting /bin/sh -c \
                'i=0; while :; do i=$((i + 1)); echo $i >/tmp/count; sleep 0.05; done' >/dev/null
}

podman_count() {
        podman_do exec "$1" cat /tmp/count
}

@test "an archive of podman is imported, verified, and restored by podman from our export" {
        podman_counting
        wait_for '[ "$(podman_count c1 || echo 0)" -ge 3 ]'
        podman_do container checkpoint --export "$T/c1.tar.zst" --compress zstd c1
        podman_do rm c1
        for format in image none tar; do
                "$STASIS" checkpoint import "$T/c1.tar.zst" --dir "$T" --name "in-$format" --compression "$format"
        done
        at=$(ls -d "$T"/in-image.*)
        "$STASIS" checkpoint verify "$at"
        "$STASIS" checkpoint inspect "$at" | grep -q '/bin/sh\|sh'
        "$STASIS" checkpoint export "$at" "$T/back.tar.zst" --podman
        "$STASIS" checkpoint export "$T/in-none" "$T/back.tar.gz" --podman
        # All of Podman's files, none of ours, with the same bytes.
        mkdir "$T/old" "$T/new" "$T/gz"
        tar --zstd -C "$T/old" -xf "$T/c1.tar.zst"
        tar --zstd -C "$T/new" -xf "$T/back.tar.zst"
        tar -C "$T/gz" -xzf "$T/back.tar.gz"
        rmdir "$T/old/artifacts" 2>/dev/null || :
        diff -r "$T/old" "$T/new"
        diff -r "$T/old" "$T/gz"
        podman_do container restore --import "$T/back.tar.zst" --name c2
        first=$(podman_count c2)
        [ "$first" -ge 3 ]
        wait_for "[ \"\$(podman_count c2)\" -gt $first ]"
}

@test "what is no container of podman's is not exported for it" {
        run "$STASIS" checkpoint export "$T/none" "$T/x.tar.zst" --podman
        [ "$status" -ne 0 ]
        counter
        dump process "$pid" --no-server --dir "$T" --name plain
        run "$STASIS" checkpoint export "$checkpoint" "$T/x.tar.zst" --podman
        [ "$status" -ne 0 ]
        [[ "$output" == *"holds no container of Podman's"*"podman container checkpoint --export"* ]]
        [ ! -e "$T/x.tar.zst" ]
        run "$STASIS" checkpoint export "$checkpoint" "$T/x.tar.lz4" --podman
        [ "$status" -ne 0 ]
        run "$STASIS" checkpoint export "$checkpoint" "$T/x" --podman --streams 2
        [ "$status" -ne 0 ]
}
