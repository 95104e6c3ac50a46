#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# `check --full` and `daemon check --full`: what they tell, and that nothing keeps them waiting.
# shellcheck disable=SC2154 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        P=""
}
teardown() {
        end_test
        [ -z "$P" ] || rm -rf "$P"
}

# row NAME: the row of `check --full --json` in $output.
row() {
        jq -e --arg name "$1" '[.[].Components[] | select(.Name == $name)] | first' <<<"$output"
}

# hint NAME: what its warning or error says.
hint() {
        row "$1" | jq -r '(.Warnings // []) + (.Errors // []) | join(" ")'
}

@test "check --full tells CRIU, kernel, capabilities, limits, pipes and memory, here and by the daemon" {
        start_daemon
        for way in check "daemon check"; do
                # shellcheck disable=SC2086
                run --separate-stderr "$STASIS" $way --full --json 3>&-
                for name in CRIU version "feature uffd-noncoop" "feature clone3_set_tid" kernel pidfd soft-dirty userfaultfd \
                        "write tracking" cgroups CAP_SYS_ADMIN CAP_SYS_RESOURCE "open files" kernel/pid_max fs/pipe-max-size \
                        "memory available" checkpoints "logs of failures"; do
                        row "$name" >/dev/null || { echo "no row $name in: $output"; return 1; }
                done
                [ "$(row version | jq -r .Data)" = "$(criu --version | sed -n 's/^Version: //p')" ]
                [ "$(row fs/pipe-max-size | jq -r .Data)" = "$(cat /proc/sys/fs/pipe-max-size)" ]
                [ "$(row kernel | jq -r .Data)" = "$(uname -r)" ]
        done
        # Without --full only what is quick and decides.
        output=$("$STASIS" check --json)
        run row "feature uffd-noncoop"
        [ "$status" -ne 0 ]
}

@test "every warning says what to do; a missing capability is an error for a dump's sake" {
        run --separate-stderr setpriv --bounding-set=-sys_ptrace,-net_admin --inh-caps=-sys_ptrace,-net_admin \
                "$STASIS" check --full --json 3>&-
        [ "$status" -eq 1 ]
        [[ "$(hint CAP_SYS_PTRACE)" == *"as root"* ]]
        [[ "$(hint CAP_NET_ADMIN)" == *"TCP connections"* ]]
}

@test "a full or unwritable place for checkpoints is told" {
        mkdir "$T/full"
        mount -t tmpfs -o size=64k none "$T/full"
        run --separate-stderr env STASIS_CHECKPOINT_DIR="$T/full/x" "$STASIS" check --json 3>&-
        umount "$T/full"
        [[ "$(hint "free space")" == *"Checkpoint.Dir"* ]]

        mount -t tmpfs -o ro none "$T/full"
        run --separate-stderr env STASIS_CHECKPOINT_DIR="$T/full/x" "$STASIS" check --json 3>&-
        umount "$T/full"
        [ "$status" -eq 1 ]
        [[ "$(hint checkpoints)" == *"cannot write to $T/full: Read-only"* ]]
}

@test "a CRIU that hangs costs two seconds, and the rest is told" {
        printf '#!/bin/sh\nexec sleep 100.%s\n' $$ >"$T/criu"
        chmod 755 "$T/criu"
        run --separate-stderr env STASIS_CRIU_BINARY_PATH="$T/criu" timeout 10 "$STASIS" check --full --json 3>&-
        [ "$status" -eq 1 ]
        [[ "$(hint criu)" == *"no answer within 2 seconds"* ]]
        row kernel >/dev/null
        # It was not left behind.
        wait_for "! pgrep -f '^sleep 100.$$'" 5
}

@test "a plugin's check that hangs costs two seconds, and the rest is told" {
        # Plugins load only from below directories that nobody but root can change: /tmp is none.
        P=$(mktemp -d /run/stasis-test.XXXXXX)
        install -m 644 "$STASIS_BUILD/tests/plugins/sample.so" "$P/"
        export STASIS_PLUGINS_LIB_DIR=$P
        run --separate-stderr env SAMPLE_HEALTH_HANGS=1 timeout 10 "$STASIS" check --full --json 3>&-
        [ "$status" -eq 1 ]
        jq -e '[.[].Components[] | select(.Errors[0] // "" | test("no answer within 2 seconds"))] | length == 1' <<<"$output"
        row CRIU >/dev/null
        run --separate-stderr "$STASIS" check --full --json 3>&-
        jq -e '[.[].Components[] | select(.Data == "all of it")] | length == 1' <<<"$output"
}
