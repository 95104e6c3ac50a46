#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Native images when a disk has no room any more: from the first call that needs some on, from the second on, and so
# forth to the last (fault.c). Each time: one line says so, with a hint; the target lives; nothing is under the final
# name, nothing hidden is left; what was there is as it was.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        export STASIS_CHECKPOINT_COMPRESSION=image
        disk=$T/ckpt
        mounted=""
        mkdir -p "$disk"
}

teardown() {
        [ -z "$mounted" ] || umount -l "$mounted"
        end_test
}

# full_from N COMMAND…: it finds $disk full from the Nth call on.
full_from() {
        env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT="disk:$1:ENOSPC" STASIS_FAULT_DISK="$disk" "${@:2}" 3>&-
}

# What is on the disk, by name and content.
contents() { (cd "$disk" && find . -type f -exec sha256sum {} + -o -printf '%y %p\n' | sort); }

# says_full: it failed, for that reason, in one line, and says what to do.
says_full() {
        [[ $stderr == *[Nn]"o space left"* && $stderr == *"(hint: "* ]] &&
                [ "$(grep -c '^stasis: error: ' <<<"$stderr")" = 1 ]
}

# each_stage CHECK COMMAND…: until it succeeds, which it does when it needs no call as late as that. CHECK: what must
# hold after each failure. Sets $stages, one more than there are, or a few.
each_stage() {
        local check=$1
        shift
        # Of neighbours one is enough, another one each time.
        local step=4
        [ -z "${STASIS_STRESS:-}" ] || step=1
        for ((stages = 1 + RANDOM % step; stages < 150; stages += step)); do
                run --separate-stderr full_from "$stages" "$@"
                if [ "$status" = 0 ]; then
                        echo "$((stages - 1)) stages of $*" >&2
                        return 0
                fi
                { says_full && $check; } || { echo "stage $stages of $*: $output $stderr" >&2; return 1; }
        done
        return 1
}

# Nothing has changed, since $before was taken.
unchanged() {
        alive "$pid"
        [ "$(contents)" = "$before" ] || { contents >&2; return 1; }
        wait_for "[ -z \"\$(ls -A $T/run/w 2>/dev/null)\" ]" 5
}

@test "a dump, with and without --stop" {
        counter
        before=$(contents)
        each_stage unchanged "$STASIS" dump process "$pid" --no-server --name one
        [ "$stages" -gt 8 ]
        goes_on
        before=$(contents)
        each_stage unchanged "$STASIS" dump process "$pid" --no-server --name two --stop
        [ "$stages" -gt 8 ]
        wait_gone "$pid"
        "$STASIS" checkpoint verify "$disk/one.stasis"
        "$STASIS" checkpoint verify "$disk/two.stasis"
}

@test "a dump with a parent" {
        counter
        dump process "$pid" --no-server --name parent
        before=$(contents)
        each_stage unchanged "$STASIS" dump process "$pid" --no-server --name child --parent "$checkpoint" --stop
        [ "$stages" -gt 6 ]
        wait_gone "$pid"
        restore_no_server process --path "$disk/child.stasis"
        goes_on
}

@test "a dump whose memory limit is spent, which spills and encodes early" {
        ticker 5
        before=$(contents)
        STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT=1M each_stage unchanged \
                "$STASIS" dump process "$pid" --no-server --name early --stop
        [ "$stages" -gt 10 ]
        wait_gone "$pid"
        restore_no_server process --path "$disk/early.stasis"
        intact
}

# Three images, each with pages of those before it, of a target that is gone.
chain() {

        ticker 1
        dump process "$pid" --no-server --name a
        dump process "$pid" --no-server --name b --parent "$disk/a.stasis"
        intact
        dump process "$pid" --no-server --name c --parent "$disk/b.stasis" --stop
        wait_gone "$pid"
        pid=$BASHPID # for unchanged()
}

@test "fold, and deleting what others need" {
        chain
        # The last stage is the sync after it has replaced what was there.
        each_stage all_whole "$STASIS" checkpoint fold "$disk/c.stasis"
        [ "$stages" -gt 4 ]
        [ "$("$STASIS" checkpoint inspect "$disk/c.stasis" --json | jq -c '.chain // []')" = '[]' ]
        rm "$disk/c.stasis"
        dump_again
        each_stage all_whole "$STASIS" checkpoint delete "$disk/a.stasis"
        [ "$stages" -gt 8 ]
        [ ! -e "$disk/a.stasis" ]
        all_whole_without_a
}

dump_again() {
        target "$PROGRAMS/ticker" 1 "$T/tick"
        dump process "$pid" --no-server --name c --parent "$disk/b.stasis"
}

all_whole_without_a() {
        [ -z "$(find "$disk" -mindepth 1 -name '.*')" ]
        "$STASIS" checkpoint verify "$disk/b.stasis" >/dev/null
        "$STASIS" checkpoint verify "$disk/c.stasis" >/dev/null
}

# Some may have taken over what they need.
all_whole() {
        "$STASIS" checkpoint verify "$disk/a.stasis" >/dev/null
        all_whole_without_a
}

@test "export and import" {
        chain
        local from=$disk/c.stasis to
        disk=$T/out
        mkdir "$disk"
        for to in image.stasis archive.tar.zst directory; do
                before=$(contents)
                if [ "$to" = directory ]; then
                        each_stage unchanged "$STASIS" checkpoint export "$from" "$disk/$to" --compression none
                else
                        each_stage unchanged "$STASIS" checkpoint export "$from" "$disk/$to"
                fi
                [ "$stages" -gt 3 ]
                "$STASIS" checkpoint verify "$disk/$to"
        done
        disk=$T/ckpt
        for from in archive.tar.zst image.stasis; do
                before=$(contents)
                each_stage unchanged "$STASIS" checkpoint import "$T/out/$from" --name "of-$from"
                "$STASIS" checkpoint verify "$disk/of-$from".stasis
        done
}

@test "the daemon's worker says it, too" {
        counter
        disk=$T/ckpt
        start_daemon "${faulty[@]}" STASIS_FAULT=disk:3:ENOSPC STASIS_FAULT_DISK="$disk"
        before=$(contents)
        for way in "" --stop; do
                # shellcheck disable=SC2086
                run -1 --separate-stderr "$STASIS" dump process "$pid" --name x $way
                says_full
                unchanged
                goes_on
        done
}

@test "a disk that is really full" {
        ticker 32
        mkdir "$T/small"
        mount -t tmpfs -o size=8m tmpfs "$T/small"
        mounted=$T/small
        disk=$T/small
        before=$(contents)
        for way in "" --stop "--capture grab --stop"; do
                for limit in 1M 64M; do
                        # shellcheck disable=SC2086
                        STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT=$limit run --separate-stderr -1 \
                                "$STASIS" dump process "$pid" --no-server --dir "$disk" $way
                        says_full || { echo "$way $limit: $stderr" >&2; return 1; }
                        unchanged
                done
        done
        intact
}

# The run directory has CRIU's logs, our sockets and records.
nothing_in_run() {
        wait_for "[ -z \"\$(find $T/run -mindepth 2 -not -name '*.lock')\" ]" 5 || { find "$T/run" >&2; return 1; }
}

alive_and_clean() { alive "$pid" && nothing_in_run; }

@test "a full run directory: a dump" {
        counter
        disk=$T/run
        each_stage alive_and_clean "$STASIS" dump process "$pid" --no-server --name one
        goes_on
        "$STASIS" checkpoint verify "$T/ckpt/one.stasis"
}

# A restore that fails leaves nothing, and one that succeeds is right.
@test "a full run directory: a restore with memory that follows" {
        local room
        target "$PROGRAMS/torture" 7 4 "$T/torture" "$T/go"
        wait_for "grep -q ready $T/torture" 30
        dump process "$pid" --no-server --name one --stop
        wait_gone "$pid"
        touch "$T/go"
        for room in 0 8 20 96; do
                : >"$T/torture"
                mkdir -p "$T/small"
                mount -t tmpfs -o size=256k tmpfs "$T/small"
                mounted=$T/small
                head -c $(((256 - room) * 1024)) /dev/zero >"$T/small/filled"
                rm -f "$T/restore.out"
                STASIS_RUN_DIR=$T/small/run "$STASIS" restore process --path "$checkpoint" --lazy --no-server \
                        </dev/null >"$T/restore.out" 2>"$T/restore.err" 3>&- &
                restorer=$!
                wait_for "grep -q ^restored $T/restore.out || ! alive $restorer" 20
                if grep -q ^restored "$T/restore.out"; then
                        wait_for "grep -q 'right\|wrong\|BAD' $T/torture" 60
                        grep -q right "$T/torture"
                        run ! grep 'wrong\|BAD' "$T/torture"
                        kill_tree "$pid"
                        wait "$restorer" || true
                        wait_gone "$pid"
                else
                        wait "$restorer" && return 1
                        stderr=$(cat "$T/restore.err")
                        { says_full && ! alive "$pid"; } || { echo "$room KiB: $stderr" >&2; return 1; }
                        wait_for "[ -z \"\$(ls -A $T/small/run/w 2>/dev/null)\" ]" 5
                fi
                echo "$room KiB: $(cat "$T/restore.out" "$T/restore.err")" >&2
                wait_for "umount $T/small"
                mounted=""
        done
}
