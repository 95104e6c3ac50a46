#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Programs of the user around a dump and after a restore.
# shellcheck disable=SC2154,SC2016,SC2030,SC2031 # set by common.bash and bats; programs as texts; run in subshells

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# hook NAME [COMMAND]: a program $T/NAME that notes its environment in $T/ran, then runs COMMAND.
hook() {
        printf '#!/bin/sh\n{ echo "== %s $(pwd)"; env | sort; } >>"%s/ran"\n%s\n' "$1" "$T" "${2-:}" >"$T/$1"
        chmod 755 "$T/$1"
}

# ran NAME…: these have run, in this order, and nothing else.
ran() {
        local names
        names=$(sed -n 's/^== \([^ ]*\) .*/\1/p' "$T/ran" 2>/dev/null | tr '\n' ' ')
        [ "$names" = "$*${*:+ }" ] || { echo "ran: $names"; return 1; }
}

# told NAME VARIABLE: what NAME was told.
told() { awk -v hook="$1" -v name="$2" '/^== /{ on = $2 == hook } on && index($0, name "=") == 1 { sub(/^[^=]*=/, ""); print }' "$T/ran"; }

@test "a dump with hooks: configured ones first, told what is going on, in a clean environment" {
        hook pre
        hook pre2 'echo quiesced; [ "$(ls /proc/self/fd | wc -l)" -le 4 ]'
        hook post 'kill -0 "$STASIS_PID" && [ -e "$STASIS_CHECKPOINT" ]'
        counter
        SECRET=x start_daemon STASIS_HOOKS_PRE_DUMP="$T/pre" STASIS_HOOKS_POST_DUMP="$T/post"
        dump process "$pid" --name n --hook "pre-dump=$T/pre2"
        ran pre pre2 post
        grep -q "^== pre /$" "$T/ran"
        [ "$(told pre STASIS_HOOK) $(told post STASIS_HOOK)" = "pre-dump post-dump" ]
        [ "$(told pre STASIS_PID) $(told pre STASIS_TYPE)" = "$pid process" ]
        [ "$(told pre STASIS_CHECKPOINT)" = "$T/ckpt/n.stasis" ]
        [ -z "$(told pre STASIS_RESULT)" ]
        [ "$(told post STASIS_RESULT)" = success ]
        [ -z "$(told post SECRET)$(told post STASIS_ADDRESS)$(told post HOME)" ]
        grep -q "hook pre-dump $T/pre2: quiesced" "$T/daemon.log"
        goes_on
}

@test "a hook before a dump that fails: no dump, nothing was frozen, and what was stopped is released" {
        hook good
        hook bad 'echo first; echo "the database says no" >&2; exit 3'
        hook never
        hook post
        counter
        start_daemon
        run "$STASIS" dump process "$pid" --hook "pre-dump=$T/good" --hook "pre-dump=$T/bad" --hook "pre-dump=$T/never" \
                --hook "post-dump=$T/post" 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"the hook pre-dump $T/bad exited with code 3: the database says no"* ]]
        ran good bad post
        [ "$(told post STASIS_RESULT)" = failure ]
        [[ "$(told post STASIS_ERROR)" == *"the database says no"* ]]
        nothing_left
        goes_on
}

@test "what was quiesced is released at the thaw, before the checkpoint is there; and always, once" {
        hook thaw 'kill -0 "$STASIS_PID"; [ ! -e "$STASIS_CHECKPOINT" ] || echo "too late" >>"${0%/*}/late"'
        hook post
        hook bad 'exit 3'
        counter
        for way in "" "--stop" "--hook=pre-dump=$T/bad"; do
                rm -f "$T/ran" "$T/late"
                # shellcheck disable=SC2086
                "$STASIS" dump process "$pid" --no-server --name "n${way:2:4}" --hook "post-thaw=$T/thaw" --hook "post-dump=$T/post" $way 3>&- || true
                case $way in
                *bad) ran bad thaw post ;;
                *) ran thaw post ;;
                esac
                [ -z "$(told thaw STASIS_RESULT)" ]
                [ "$way" = --stop ] || [ ! -e "$T/late" ]
                [ "$way" != --stop ] || counter
        done
}

@test "a failed dump: the hook after it runs, and knows why" {
        hook pre
        hook post 'exit 1'
        counter
        start_daemon
        run "$STASIS" dump process "$pid" --hook "pre-dump=$T/pre" --hook "post-dump=$T/post" --external 'bad[' \
                --criu-opts '{"network_lock": "SKIP", "freeze_cgroup": "/nowhere"}' 3>&-
        [ "$status" -eq 1 ]
        ran pre post
        [ "$(told post STASIS_RESULT)" = failure ]
        [ -n "$(told post STASIS_ERROR)" ]
        nothing_left
        goes_on
}

@test "a hook after a dump or a restore that fails is told, and undoes nothing" {
        hook post 'echo cannot release; exit 1'
        counter
        start_daemon
        dump process "$pid" --stop --hook "post-dump=$T/post"
        grep -q "the hook post-dump $T/post exited with code 1: cannot release" "$T/dump.out" "$T/dump.err"
        wait_gone "$pid"
        rm "$T/ran"
        restore process --path "$checkpoint" --hook "post-restore=$T/post"
        grep -q "the hook post-restore $T/post exited with code 1: cannot release" "$T/restore.out" "$T/restore.err"
        ran post
        [ "$(told post STASIS_PID) $(told post STASIS_RESULT)" = "$pid success" ]
        [ "$(told post STASIS_CHECKPOINT)" = "$checkpoint" ]
        goes_on
}

@test "a hook that hangs is killed with all it has started" {
        # shellcheck disable=SC2016
        hook slow 'sleep 97.531 & echo "$!" >"'"$T"'/child"; echo waiting; wait'
        hook post
        counter
        start_daemon STASIS_HOOKS_TIMEOUT=1
        run "$STASIS" dump process "$pid" --hook "pre-dump=$T/slow" --hook "post-dump=$T/post" 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"$T/slow did not end within 1 s: waiting"*"Hooks.Timeout"* ]]
        ran slow post
        wait_for "! alive $(cat "$T/child")"
        goes_on
}

@test "Ctrl-C and a client that goes away end a hook at once; the one after the dump still runs" {
        # shellcheck disable=SC2016
        hook slow 'echo "$$" >"'"$T"'/child"; exec sleep 97'
        hook post
        counter
        start_daemon
        for signal in INT KILL; do
                rm -f "$T/ran" "$T/child"
                "$STASIS" dump process "$pid" --hook "pre-dump=$T/slow" --hook "post-dump=$T/post" >/dev/null 2>&1 3>&- &
                client=$!
                wait_for "[ -s $T/child ]"
                kill -$signal "$client"
                wait "$client" || true
                wait_for "! alive $(cat "$T/child")" 5
                wait_for "grep -q '^== post' $T/ran"
        done
        nothing_left
        goes_on
}

@test "without the daemon, too" {
        hook pre
        hook post
        counter
        dump process "$pid" --stop --no-server --hook "pre-dump=$T/pre" --hook "post-dump=$T/post"
        ran pre post
        wait_gone "$pid"
        (cd "$T" && "$STASIS" restore process --path "$checkpoint" --no-server --hook post-restore=post \
                </dev/null >"$T/restore.out" 2>&1 3>&- &)
        wait_for "grep -q restored $T/restore.out"
        ran pre post post
        goes_on
}

# refused TEXT ARGUMENT…: a dump with these hooks is not begun, for that reason.
refused() {
        local text=$1
        shift
        run "$STASIS" dump process "$pid" "$@" 3>&-
        if [ "$status" -ne 1 ] || [[ "$output" != *"$text"* ]]; then
                echo "not '$text': $output"
                return 1
        fi
        ran
        nothing_left
}

@test "programs that others could change, or that cannot be run, are refused before anything is done" {
        counter
        start_daemon
        hook pre
        hook open
        chmod 777 "$T/open"
        hook theirs
        chown 65534 "$T/theirs"
        hook plain
        chmod 644 "$T/plain"
        mkdir -m 777 "$T/public"
        cp "$T/pre" "$T/public/"
        ln -s "$T/public/pre" "$T/link"
        refused "mode 0777" --hook "pre-dump=$T/pre" --hook "post-dump=$T/open"
        refused "owner uid 65534" --hook "pre-dump=$T/theirs"
        refused "not an executable file" --hook "pre-dump=$T/plain"
        refused "$T/public has owner" --hook "pre-dump=$T/public/pre"
        refused "$T/public has owner" --hook "pre-dump=$T/link"
        refused "cannot find $T/absent" --hook "pre-dump=$T/pre" --hook "post-dump=$T/absent"
        refused "is no hook" --hook "$T/pre"
        refused "is no hook" --hook "sometimes=$T/pre"
        refused "is no hook" --hook "pre-dump"
        refused "belongs to the other operation" --hook "post-restore=$T/pre"
        goes_on
        # A program with a bad interpreter, or none, is known only when it is started.
        printf '#!/nonexistent\n' >"$T/pre"
        refused "cannot start $T/pre" --hook "pre-dump=$T/pre"
        stop_daemon
        start_daemon STASIS_HOOKS_PRE_DUMP=relative/path
        refused "not an absolute path"
}

@test "what a hook prints is bounded" {
        hook noisy 'i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i + 1)); done; head -c 3000000 /dev/zero | tr "\\0" x; exit 1'
        counter
        start_daemon
        run "$STASIS" dump process "$pid" --hook "pre-dump=$T/noisy" 3>&-
        [ "$status" -eq 1 ]
        [ "${#output}" -lt 20000 ]
        [ "$(grep -c 'noisy: line' "$T/daemon.log")" -eq 200 ]
        grep -q 'prints more than 200 lines' "$T/daemon.log"
}
