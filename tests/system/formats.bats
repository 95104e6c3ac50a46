#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The formats of checkpoints: round trips of real processes through each of them, what the ordinary tools make of them,
# conversions, and damage, which must be found before a process runs.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# end_target: SIGKILL, and wait until its number is free.
end_target() {
        kill_tree "$pid"
        wait_gone "$pid"
}

# dump_counter ARGUMENT…: a fresh target, dumped and ended; sets $checkpoint.
dump_counter() {
        # One process: a child that has just been born may keep the number of its group in use.
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        dump process "$pid" --no-server "$@"
        end_target
}

# restored_goes_on PATH: restores without a daemon, sees that it runs, ends it.
restored_goes_on() {
        restore_no_server process --path "$1"
        goes_on
        end_target
        wait "$restorer" || true
}

# unpacks COMMAND…: does it print a tar with the checkpoint's files, silently and with success?
unpacks() {
        local names
        names=$("$@" 2>"$T/err" | tar -t)
        [ ! -s "$T/err" ] || { cat "$T/err" >&2; return 1; }
        [[ $names == stasis.manifest* ]] && [[ $names == *inventory.img* ]]
}

@test "a process goes on from each format, and the ordinary tools read it" {
        local format
        for format in none tar gzip lz4 zlib zstd; do
                dump_counter --compression "$format" --name "$format"
                "$STASIS" checkpoint verify "$checkpoint"
                restored_goes_on "$checkpoint"
        done
        cd "$T/ckpt"
        [ -d none ]
        unpacks cat tar.tar
        unpacks gzip -dc gzip.tar.gz
        unpacks pigz -dc gzip.tar.gz
        unpacks lz4 -dc lz4.tar.lz4
        unpacks pigz -dzc zlib.tar.zlib
        unpacks python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.decompress(open(sys.argv[1], "rb").read()))' \
                zlib.tar.zlib
        unpacks zstd -dc zstd.tar.zst
        mkdir unpacked
        run -0 tar -xzf gzip.tar.gz -C unpacked
        [ -z "$output" ]
        "$STASIS" checkpoint verify unpacked
}

@test "through the daemon, in several streams" {
        start_daemon
        ticker 20
        dump process "$pid" --compression lz4 --streams 4 --name many --stop
        wait_gone "$pid"
        [ "$checkpoint" = "$T/ckpt/many" ]
        [ "$(ls "$checkpoint")" = "$(printf 'img-%d.tar.lz4\n' 0 1 2 3)" ]
        [ "$(find "$checkpoint" -size +1M | wc -l)" = 4 ]
        "$STASIS" checkpoint verify "$checkpoint"
        restore process --path "$checkpoint"
        intact
}

@test "pieces of pages that tools unpacked make the pages again" {
        ticker 12
        dump process "$pid" --no-server --compression tar --streams 3 --name many
        "$STASIS" checkpoint export "$checkpoint" "$T/one"
        mkdir "$T/pieces"
        for part in "$checkpoint"/img-?.tar; do
                tar -xf "$part" -C "$T/pieces"
        done
        [ "$(find "$T/pieces" -name 'pages-1.img.*' | wc -l)" -gt 3 ]
        cat "$T"/pieces/pages-1.img.* | cmp - "$T/one/pages-1.img"
}

@test "streams are refused for a directory and out of bounds, before anything is done" {
        counter
        run -1 --separate-stderr "$STASIS" dump process "$pid" --no-server --compression none --streams 2
        [[ $stderr == *"format none cannot be in several streams"* ]]
        run -1 --separate-stderr "$STASIS" dump process "$pid" --no-server --compression image --streams 2
        [[ $stderr == *"format image cannot be in several streams"*"all cores"* ]]
        run -1 --separate-stderr "$STASIS" dump process "$pid" --no-server --streams 1000
        [[ $stderr == *"1 to 64 streams"* ]]
        STASIS_CHECKPOINT_STREAMS=2 dump process "$pid" --no-server --compression gzip --name two
        [ -d "$T/ckpt/two" ]
        rm -r "$T/ckpt/two"
        nothing_left
        goes_on
}

@test "several streams of which no format was named are of zstd: by flag, by configuration, through the daemon, imported" {
        counter
        dump process "$pid" --no-server --streams 2 --name flag
        STASIS_CHECKPOINT_STREAMS=2 dump process "$pid" --no-server --name variable
        start_daemon STASIS_CHECKPOINT_STREAMS=2
        dump process "$pid" --name daemon
        "$STASIS" manage process "$pid" --jid j
        dump job j --name job
        "$STASIS" checkpoint import "$T/ckpt/flag" --name imported --streams 2
        "$STASIS" checkpoint import "$T/ckpt/flag" --name one
        for checkpoint in "$T"/ckpt/{flag,variable,daemon,job,imported}; do
                [ "$(ls "$checkpoint")" = "$(printf 'img-%d.tar.zst\n' 0 1)" ]
                "$STASIS" checkpoint verify "$checkpoint"
        done
        "$STASIS" checkpoint verify "$T/ckpt/one.stasis"
        # Named like what they are made of.
        mv "$T/ckpt/one.stasis" "$T/one.tardy.stasis"
        "$STASIS" checkpoint export "$T/one.tardy.stasis" "$T/one.tardy.tar.lz4"
        "$STASIS" checkpoint import "$T/one.tardy.tar.lz4" --image-codec lz4
        mv "$T/ckpt/one.tardy.stasis" "$T/lz4.stasis"
        "$STASIS" checkpoint import "$T/one.tardy.stasis"
        "$STASIS" checkpoint verify "$T/ckpt/one.tardy.stasis"
        [ "$(stat -c %s "$T/lz4.stasis")" -gt "$(stat -c %s "$T/ckpt/one.tardy.stasis")" ]
        [ "$("$STASIS" checkpoints j --json | jq -r '.[0] | [.format, .path] | @tsv')" = "zstd	$T/ckpt/job" ]
        goes_on
}

@test "an exported directory is restored by plain criu, what criu dumped is imported" {
        dump_counter --compression zlib
        "$STASIS" checkpoint export "$checkpoint" "$T/plain"
        criu restore -D "$T/plain" -d -o restore.log --pidfile "$T/pid"
        [ "$(cat "$T/pid")" = "$pid" ]
        goes_on
        mkdir "$T/again"
        criu dump -t "$pid" -D "$T/again" -o dump.log
        wait_gone "$pid"

        restored_goes_on "$T/again"
        tar -czf "$T/again.tar.gz" -C "$T" ./again
        restored_goes_on "$T/again.tar.gz"
        "$STASIS" checkpoint import "$T/again.tar.gz" --name back --compression lz4
        "$STASIS" checkpoint verify "$T/ckpt/back.tar.lz4"
        restored_goes_on "$T/ckpt/back.tar.lz4"
        "$STASIS" checkpoint import "$T/again" --name many --streams 2 --compression zstd
        restored_goes_on "$T/ckpt/many"
}

@test "export through all formats keeps every byte" {
        local format from
        dump_counter --compression none --name first
        from=$checkpoint
        for format in tar tar.gz tar.lz4 tar.zlib tar.zst; do
                "$STASIS" checkpoint export "$from" "$T/x.$format"
                from=$T/x.$format
        done
        "$STASIS" checkpoint export "$from" "$T/many" --compression gzip --streams 3
        "$STASIS" checkpoint export "$T/many" "$T/last" --json >"$T/json"
        [ "$(jq -r .path "$T/json")" = "$T/last" ]
        diff -r -x stasis.manifest "$checkpoint" "$T/last"
        run -1 --separate-stderr "$STASIS" checkpoint export "$checkpoint" "$T/last"
        [[ $stderr == *"exists already"* ]]
        run -2 --separate-stderr "$STASIS" checkpoint export "$checkpoint" "$T/y.tar.gz" --compression zstd
        [[ $stderr == *"has the name of the format gzip"* ]]
        [ ! -e "$T/y.tar.gz" ]
}

# refused PATH TEXT: neither verified nor restored nor converted, and nothing runs.
refused() {
        run -1 --separate-stderr "$STASIS" restore process --path "$1" --no-server
        [[ $stderr == *"$2"* ]] || { echo "$stderr" >&2; return 1; }
        [ ! -e "/proc/$pid" ]
        run ! "$STASIS" checkpoint verify "$1"
        run ! "$STASIS" checkpoint export "$1" "$T/out"
        run ! "$STASIS" checkpoint import "$1" --name out --compression none
        [ ! -e "$T/out" ] && [ ! -e "$T/ckpt/out" ]
}

# change FILE BYTE: turns it into another one.
change() {
        python3 - "$1" "$2" <<'EOF'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]), 2 if int(sys.argv[2]) < 0 else 0)
    byte = file.read(1)
    file.seek(-1, 1)
    file.write(bytes([byte[0] ^ 16]))
EOF
}

@test "a damaged checkpoint is refused before a process runs" {
        local format path
        dump_counter --compression none --name good
        for format in tar tar.gz tar.lz4 tar.zlib tar.zst; do
                path=$T/x.$format
                "$STASIS" checkpoint export "$checkpoint" "$path"
                cp "$path" "$T/cut.$format"
                truncate -s -1 "$T/cut.$format"
                refused "$T/cut.$format" damaged
                cp "$path" "$T/flipped.$format"
                change "$T/flipped.$format" -10 # in the footer
                refused "$T/flipped.$format" damaged
                change "$path" 20000
                refused "$path" damaged
        done
        cp -r "$checkpoint" "$T/dir"
        change "$T/dir/pages-1.img" 5000
        refused "$T/dir" "pages-1.img has a wrong checksum"
        rm -r "$T/dir"
        cp -r "$checkpoint" "$T/dir"
        rm "$T/dir/stasis.manifest"
        truncate -s -20 "$T/dir/files.img" # which plain CRIU would read for ever
        refused "$T/dir" "files.img is damaged"
}

@test "what is no checkpoint is named for what it is" {
        printf 'PK\3\4....' >"$T/x.zip"
        run -1 --separate-stderr "$STASIS" restore process --path "$T/x.zip" --no-server
        [[ $stderr == *"not a checkpoint: $T/x.zip is a zip archive"* ]]
        tar -cf "$T/x.tar" -C / --no-recursion etc/hostname
        run -1 --separate-stderr "$STASIS" restore process --path "$T/x.tar" --no-server
        [[ $stderr == *"without a manifest and without inventory.img"* ]]
        ln -s /etc/shadow "$T/inventory.img"
        tar -czf "$T/x.tgz" -C "$T" inventory.img
        run -1 --separate-stderr "$STASIS" restore process --path "$T/x.tgz" --no-server
        [[ $stderr == *"inventory.img in it is a symbolic link"* ]]
}

# Whoever is killed leaves a hidden file; the next one in that directory removes it, but not one that is being written.
leaves_nothing() { # leaves_nothing COMMAND…: killed in the middle, then run to its end
        run env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=renameat2:1:kill "$STASIS" "$@"
        [ "$status" -eq 137 ]
        [ "$(find "$T/out" "$T/ckpt" -name '.*.partial-*' | wc -l)" = 1 ]
        "$STASIS" "$@"
        [ -z "$(find "$T/out" "$T/ckpt" -name '.*.partial-*')" ]
}

@test "what a killed export or import leaves is removed by the next one, and by a dump" {
        mkdir "$T/out"
        dump_counter --compression none --name first
        leaves_nothing checkpoint export "$checkpoint" "$T/out/one.tar.zst"
        leaves_nothing checkpoint export "$checkpoint" "$T/out/one"
        leaves_nothing checkpoint import "$T/out/one" --name again --compression tar
        run env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=renameat2:1:kill \
                "$STASIS" checkpoint import "$T/out/one" --name killed --compression tar
        env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=renameat2:1:pause \
                "$STASIS" checkpoint import "$T/out/one" --name slow --compression tar >"$T/slow" 2>&1 3>&- &
        local slow=$!
        wait_for "[ -n \"\$(find $T/ckpt -name '.slow.*')\" ]"
        [ -z "$(find "$T/ckpt" -name '.killed.*')" ]
        "$STASIS" checkpoint import "$T/out/one" --name quick --compression tar
        [ -n "$(find "$T/ckpt" -name '.slow.*')" ]
        wait "$slow"
        "$STASIS" checkpoint verify "$T/ckpt/slow.tar"
        run env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=renameat2:1:kill \
                "$STASIS" checkpoint import "$T/out/one" --name killed --compression tar
        dump_counter --compression tar --name second
        [ -z "$(find "$T/ckpt" -name '.*')" ]
}

@test "an export to a name whose end says nothing is refused, unless told the format" {
        dump_counter --compression none --name first
        run -2 --separate-stderr "$STASIS" checkpoint export "$checkpoint" "$T/out.zip"
        [[ $stderr == *".zip is no format of checkpoints"*".tar.zst, "*".tgz"*"--compression none"* ]]
        [ ! -e "$T/out.zip" ]
        "$STASIS" checkpoint export "$checkpoint" "$T/out.zip" --compression none
        [ -d "$T/out.zip" ]
        "$STASIS" checkpoint export "$checkpoint" "$T/app-7.2" --compression tar
        [ -f "$T/app-7.2" ]
}
