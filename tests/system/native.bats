#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The native image (docs/image-format.md), with real programs: a second reader written from the document alone finds the
# same bytes, plain criu restores what it extracted, stasis restores the image; damage is refused before a process runs.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# Debian's python3: the modules are its packages.
read_image() { /usr/bin/python3 "$BATS_TEST_DIRNAME/read_image.py" "$@"; }

end_target() {
        kill_tree "$pid"
        wait_gone "$pid"
}

# dump_image ARGUMENT…: dumps the target, ends it; sets $checkpoint.
dump_image() {
        dump process "$pid" --no-server "$@"
        [[ $checkpoint == *.stasis ]]
        end_target
}

# same_by_both: what the second reader extracts is what stasis exports; leaves it in $T/plain.
same_by_both() {
        "$STASIS" checkpoint verify "$checkpoint"
        rm -rf "$T/plain" "$T/exported"
        mkdir "$T/plain"
        read_image "$checkpoint" "$T/plain"
        "$STASIS" checkpoint export "$checkpoint" "$T/exported" --compression none
        diff -r -x stasis.manifest "$T/plain" "$T/exported"
        [ -s "$T/plain/inventory.img" ]
        [ -s "$T/plain/stasis.json" ]
}

# restored_by_criu: $T/plain, by criu alone.
restored_by_criu() {
        rm -f "$T/pid"
        criu restore -D "$T/plain" -d -o restore.log --pidfile "$T/pid" ||
                { tail -n 20 "$T/plain/restore.log" >&2; return 1; }
        [ "$(cat "$T/pid")" = "$pid" ]
}

# both_restore COMMAND: it must succeed after each of the restores.
both_restore() {
        same_by_both
        restored_by_criu
        eval "$1"
        end_target
        restore_no_server process --path "$checkpoint"
        eval "$1"
        end_target
        wait "$restorer" || true
}

@test "python goes on, by criu from what another reader extracted, and from the image" {
        target python3 -c 'import sys, time
numbers = {i: str(i) * 50 for i in range(20000)}
while True:
    assert all(numbers[i] == str(i) * 50 for i in range(0, 20000, 7))
    open(sys.argv[1], "a").write("tick\n")
    time.sleep(0.02)' "$T/count"
        wait_lines "$T/count" 2
        dump_image
        both_restore goes_on
}

@test "threads go on" {
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        dump_image
        both_restore goes_on
}

@test "a pipeline of a shell goes on" {
        # Killed from the leaves on, the shell would write about it into a file that the image knows.
        # shellcheck disable=SC2016
        target bash -c 'exec 2>/dev/null; (i=0; while :; do i=$((i + 1)); echo "$i"; sleep 0.05; done) |
                while read -r i; do echo "$i" >>"$0"; done' "$T/count"
        wait_lines "$T/count" 3
        dump_image
        both_restore goes_on
}

@test "many pages, most of them not equal, go through the daemon and back" {
        start_daemon
        ticker 80
        dump process "$pid" --name big --stop
        wait_gone "$pid"
        [ "$checkpoint" = "$T/ckpt/big.stasis" ]
        "$STASIS" checkpoint verify "$checkpoint"
        restore process --path "$checkpoint"
        intact
        end_target
        same_by_both
        restored_by_criu
        intact
}

@test "inspect, explain, conversions and streams" {
        local format from
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        dump_image --name first
        [ "$("$STASIS" checkpoint inspect "$checkpoint" --json | jq -r .format)" = image ]
        "$STASIS" checkpoint inspect "$checkpoint" | grep -q threads
        same_by_both
        from=$checkpoint
        for format in tar.zst stasis tar lz4.stasis; do
                "$STASIS" checkpoint export "$from" "$T/x.$format"
                from=$T/x.$format
        done
        "$STASIS" checkpoint import "$from" --name back --compression zstd
        "$STASIS" checkpoint export "$T/ckpt/back.tar.zst" "$T/last" --compression none
        diff -r -x stasis.manifest "$T/plain" "$T/last"
        "$STASIS" checkpoint import "$T/last" --name native
        read_image "$T/ckpt/native.stasis"
        restore_no_server process --path "$T/ckpt/native.stasis"
        goes_on
        run -2 --separate-stderr "$STASIS" checkpoint export "$checkpoint" "$T/y.stasis" --streams 2
        [[ $stderr == *"format image cannot be in several streams"* ]]
}

# refused WORDS: is $T/bad.stasis refused by restore and verify, and nothing runs?
refused() {
        run -1 --separate-stderr timeout -k 5 20 "$STASIS" restore process --path "$T/bad.stasis" --no-server
        [[ $stderr == *"$1"* ]] || { echo "$stderr" >&2; return 1; }
        ! alive "$pid"
        fails_to_verify
}

fails_to_verify() {
        run -1 --separate-stderr "$STASIS" checkpoint verify "$T/bad.stasis"
        [[ $stderr == *"damaged"* ]]
        run -1 read_image "$T/bad.stasis"
}

@test "a truncated image is refused before a process runs" {
        local size at
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        dump_image
        size=$(stat -c %s "$checkpoint")
        # Nothing, half a header, a header, frames, page digests or index, half a footer, all but a byte.
        for at in 0 30 64 5000 $((size / 2)) $((size - 200)) $((size - 128)) $((size - 60)) $((size - 1)); do
                head -c "$at" "$checkpoint" >"$T/bad.stasis"
                refused "is damaged"
        done
        cp "$checkpoint" "$T/bad.stasis"
        echo >>"$T/bad.stasis"
        refused "is damaged"
}

# flip FILE AT: another byte there.
flip() {
        local byte
        byte=$(od -An -tu1 -j"$2" -N1 "$1")
        # shellcheck disable=SC2059 # the format is the byte
        printf "\\$(printf %o $((byte ^ 64)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "a flipped bit anywhere is refused before a process runs" {
        local size at
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        dump_image
        size=$(stat -c %s "$checkpoint")
        for at in $(seq 0 $(((size - 1) / 11)) $((size - 1))); do
                cp "$checkpoint" "$T/bad.stasis"
                flip "$T/bad.stasis" "$at"
                refused "" || { echo "at $at of $size" >&2; return 1; }
        done
        restore_no_server process --path "$checkpoint"
        goes_on
}
