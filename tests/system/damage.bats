#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Native images cut anywhere, and with any bit flipped: refused before a process runs, by a message that names the file;
# with --lazy the job is ended by one. Each length and 10000 bits are tried by the code of stasis in a program of ours
# (damage.c), a sample by the command line. STASIS_SEED repeats what a run has drawn.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        export STASIS_CHECKPOINT_COMPRESSION=image
        seed=${STASIS_SEED:-$RANDOM}
        RANDOM=$seed
        echo "STASIS_SEED=$seed"
}

teardown() { end_test; }

end_target() {
        kill_tree "$pid"
        wait_gone "$pid"
}

# damage WAY VICTIM cuts|flips …: damages it, and reads $child each time; it must be refused.
damage() { "$PROGRAMS/damage" "$1" "$child" "$2" "$T" "${@:3}" >&2; }

# bits N: so many with a sanitizer are enough.
bits() {
        if [ -n "${STASIS_SANITIZE:-}" ]; then echo $(($1 / 10)); else echo "$1"; fi
}

# A small image $parent, and $child that needs pages of it; the target is gone after that.
chain() {
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        dump process "$pid" --no-server --name parent
        parent=$checkpoint
        wait_lines "$T/count" $(($(lines "$T/count") + 2))
        dump process "$pid" --no-server --name child --parent "$parent"
        child=$checkpoint
        [ "$("$STASIS" checkpoint inspect "$child" --json | jq -r .parent)" = "$parent" ]
        end_target
}

@test "an image that is cut to any length is refused, and so is one whose parent is" {
        chain
        damage gated "$child" cuts
        damage gated "$parent" cuts
        child=$parent
        damage verify "$child" cuts
}

@test "10000 flipped bits, each is found before the end of what a restore reads" {
        chain
        damage gated "$parent" flips "$(bits 1000)" "$seed"
        damage stream "$parent" flips "$(bits ${STASIS_STRESS:+20}100)" "$seed"
        child=$parent
        damage gated "$child" flips "$(bits 10000)" "$seed"
        damage verify "$child" flips "$(bits 10000)" $((seed + 1))
        damage stream "$child" flips "$(bits ${STASIS_STRESS:+10}300)" $((seed + 2))
}

# tells FILE TEXT: does it say that this file is not what it should be?
tells() {
        local why
        for why in damaged 'is of version' 'not a checkpoint' 'is no native image'; do
                [[ $2 != "stasis: error: "*"$1"*"$why"* && $2 != "stasis: error: "*"$why"*"$1"* ]] || return 0
        done
        return 1
}

# refused FILE: $child is not restored, and the one line that says so names the file.
refused() {
        run -1 --separate-stderr timeout -k 5 60 "$STASIS" restore process --path "$child" --no-server
        tells "$1" "$stderr" || { echo "$stderr" >&2; return 1; }
        [ "$(grep -c '^stasis: error:' <<<"$stderr")" = 1 ]
        run ! alive "$pid"
        [ "$(lines "$T/count")" = "$written" ]
}

# flip FILE AT BIT
flip() {
        local byte
        byte=$(od -An -tu1 -j"$2" -N1 "$1")
        # shellcheck disable=SC2059 # the format is the byte
        printf "\\$(printf %o $((byte ^ 1 << $3)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# borders FILE: sets $borders, where its sections begin and end.
borders() {
        local size
        size=$(stat -c %s "$1")
        read -r digests index < <(od -An -tu8 -j$((size - 128 + 24)) -N16 "$1")
        borders=(64 "$digests" "$index" $((size - 128)) "$size")
        [ "$digests" -lt "$index" ]
}

@test "by the command line: cut at its borders, alone and as a parent" {
        local at file written
        chain
        written=$(lines "$T/count")
        for file in "$child" "$parent"; do
                borders "$file"
                cp "$file" "$T/whole"
                for at in 0 4 "${borders[@]}"; do
                        for cut in $((at - 1)) "$at" $((at + 1)); do
                                [ "$cut" -ge 0 ] && [ "$cut" -lt "${borders[4]}" ] || continue
                                # In place: another file would be replaced by it.
                                truncate -s "$cut" "$file"
                                refused "$file"
                                cp "$T/whole" "$file"
                        done
                done
        done
        restore_no_server process --path "$child"
        wait_lines "$T/count" $((written + 3))
}

# The numbers of its processes are free for a while yet: each restore takes some of those that there are.
pids_left() {
        local max last
        max=$(</proc/sys/kernel/pid_max)
        last=$(</proc/sys/kernel/ns_last_pid)
        (((last - pid + max) % max < max - 4000))
}

@test "by the command line: flipped bits" {
        local round at method end written rounds=12
        [ -z "${STASIS_STRESS:-}" ] || rounds=100000
        chain
        child=$parent
        cp "$child" "$T/whole"
        written=$(lines "$T/count")
        borders "$child"
        end=$((SECONDS + 300))
        # Not i: run has one of its own.
        for ((round = 0; round < rounds && SECONDS < end; round++)); do
                pids_left || break
                # Any of them, but of short sections, too.
                at=$((RANDOM * 32768 + RANDOM))
                case $((round % 4)) in
                0) at=$((at % borders[4])) ;;
                1) at=$((borders[0] + at % (borders[1] - borders[0]))) ;;
                2) at=$((borders[1] + at % (borders[2] - borders[1]))) ;;
                3) at=$((borders[2] + at % (borders[4] - borders[2]))) ;;
                esac
                method=gated
                ((round % 3)) || method=stream
                flip "$child" "$at" $((RANDOM % 8))
                STASIS_RESTORE_METHOD=$method refused "$child" || { echo "$method, at $at" >&2; return 1; }
                cp "$T/whole" "$child"
        done
        echo "$round flipped bits" >&2
        restore_no_server process --path "$child"
        wait_lines "$T/count" $((written + 3))
}

# It has ended, refused at once or killed later, for a reason that was told; it never met a wrong page.
ended_by_damage() {
        run timeout -k 5 60 "$STASIS" restore process --path "$child" --lazy --no-server --out "$T/said"
        [ "$status" -eq 1 ] || [ "$status" -eq 137 ]
        tells "$child" "$output" || grep "killed while its memory was still coming from $child.*damaged" "$T/said" ||
                { echo "$output" >&2; return 1; }
        run ! alive "$pid"
        run ! grep 'wrong\|BAD' "$T/torture"
        wait_for "! pgrep -f 'stasis (serve|guard)-pages[^ ]* $T/'" 20
        [ -z "$(ls -A "$T/run/lazy")" ]
}

@test "by the command line: flipped bits while memory follows" {
        local round at end rounds=6
        [ -z "${STASIS_STRESS:-}" ] || rounds=100000
        target "$PROGRAMS/torture" "$seed" 8 "$T/torture" "$T/go"
        wait_for "grep -q ready $T/torture" 30
        dump process "$pid" --no-server
        child=$checkpoint
        end_target
        borders "$child"
        touch "$T/go"
        end=$((SECONDS + 300))
        for ((round = 0; round < rounds && SECONDS < end; round++)); do
                pids_left || break
                at=$(((RANDOM * 32768 + RANDOM) % borders[4]))
                bit=$((RANDOM % 8))
                rm -f "$T/said"
                : >"$T/torture"
                flip "$child" "$at" $bit
                ended_by_damage || { echo "at $at" >&2; return 1; }
                flip "$child" "$at" $bit
        done
        echo "$round flipped bits" >&2
        restore_no_server process --path "$child" --lazy
        wait_for "grep -q 'right\|wrong\|BAD' $T/torture" 60
        run ! grep 'wrong\|BAD' "$T/torture"
}
