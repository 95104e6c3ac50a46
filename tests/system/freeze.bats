#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Freezing and unfreezing, by cgroups of both versions and by signals; dumps of what is frozen or stopped keep it so.
# shellcheck disable=SC2154,SC2030,SC2031 # pid, checkpoint … are set by common.bash; each test is a subshell

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        cgroups=()
}

teardown() {
        local cgroup
        # What is frozen by a cgroup of version 1 cannot even be killed.
        for cgroup in "${cgroups[@]}"; do
                thaw "$cgroup"
        done
        [ -z "${other:-}" ] || targets+=("$other")
        [ -z "${background:-}" ] || kill -9 "$background" 2>/dev/null || true
        end_test
        for ((i = ${#cgroups[@]} - 1; i >= 0; i--)); do
                wait_for "rmdir ${cgroups[i]} || [ ! -e ${cgroups[i]} ]" 5
        done
}

# hierarchy VERSION: where it is mounted.
hierarchy() {
        awk -v v="$1" 'v == 1 && $3 == "cgroup" && $4 ~ /(^|,)freezer(,|$)/ { print $2; exit }
                v == 2 && $3 == "cgroup2" { print $2; exit }' /proc/mounts
}

# make_cgroup VERSION NAME [PID…]: with those processes in it; sets $cgroup.
make_cgroup() {
        local root process
        root=$(hierarchy "$1")
        [ -n "$root" ] || skip "no freezer of version $1 here"
        cgroup=$root/stasis-test-${T##*.}$2
        mkdir "$cgroup" 2>/dev/null || skip "no cgroup can be made here"
        cgroups+=("$cgroup")
        [ -e "$cgroup/freezer.state" ] || [ -e "$cgroup/cgroup.freeze" ] || skip "no freezer of version $1 here"
        shift 2
        for process; do
                enter "$process"
        done
}

# enter PID: it and all below it move into $cgroup.
enter() {
        local child
        [ -e "/proc/$1" ] || return 0
        echo "$1" >"$cgroup/cgroup.procs"
        # shellcheck disable=SC2013 # words of a line
        for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
                enter "$child" 2>/dev/null || true
        done
}

# tell_frozen CGROUP: true when it is. Version 1 misses a process between two states (about one vfork() in a thousand),
# until it is told again.
tell_frozen() {
        if [ -e "$1/freezer.state" ]; then echo FROZEN >"$1/freezer.state"; else echo 1 >"$1/cgroup.freeze"; fi
        frozen "$1"
}

# Not while one of it waits for a child of vfork(): a shell does that all the time, and so it cannot be dumped.
freeze_by_hand() {
        local try
        for ((try = 0; try < 100; try++)); do
                wait_for "tell_frozen $1"
                find "$1" -name cgroup.procs -exec cat {} + >"$T/frozen"
                # shellcheck disable=SC2046 # a list of words on purpose
                grep -qs kernel_clone $(sed 's|.*|/proc/&/wchan|' "$T/frozen") || return 0
                thaw "$1"
        done
        return 1
}

thaw() {
        if [ -e "$1/freezer.state" ]; then echo THAWED >"$1/freezer.state"; else echo 0 >"$1/cgroup.freeze"; fi
}

# frozen CGROUP: by itself or from above.
frozen() {
        if [ -e "$1/freezer.state" ]; then grep -q FROZEN "$1/freezer.state"; else grep -q 'frozen 1' "$1/cgroup.events"; fi
}

frozen_itself() {
        if [ -e "$1/freezer.state" ]; then grep -q 1 "$1/freezer.self_freezing"; else grep -q 1 "$1/cgroup.freeze"; fi
}

state_of() { sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status"; }

# stands [FILE]: no line is added.
stands() {
        local before
        before=$(lines "${1:-$T/count}")
        sleep 0.15
        [ "$(lines "${1:-$T/count}")" = "$before" ]
}

records() { find "$T/run/frozen" -name '*.json' 2>/dev/null | wc -l; }

freeze() {
        "$STASIS" freeze process "$pid" "$@" >"$T/freeze.out" 2>"$T/freeze.err" 3>&- || { cat "$T/freeze.err" >&2; return 1; }
        [ "$(cat "$T/freeze.out")" = "froze process $pid" ]
}

unfreeze() {
        "$STASIS" unfreeze process "$pid" "$@" >"$T/freeze.out" 2>"$T/freeze.err" 3>&- || { cat "$T/freeze.err" >&2; return 1; }
        [ "$(cat "$T/freeze.out")" = "unfroze process $pid" ]
}

# refused COMMAND…: fails with the text in $output.
refused() {
        run "$STASIS" "$@" 3>&-
        [ "$status" -ne 0 ]
}

restored() { # restored NAME: from the checkpoint of that name
        wait_gone "$pid"
        restore_no_server process --path "$T/ckpt/$1.stasis"
}

by_signals() {
        counter
        freeze "$@"
        grep -q 'stopped, by signals' "$T/freeze.err"
        [ "$(state_of "$pid")" = T ]
        stands
        freeze "$@"
        grep -q 'frozen already' "$T/freeze.err"
        [ "$(stat -c %a "$T/run/frozen/"*.json)" = 600 ]

        dump process "$pid" --name kept "$@"
        [ "$(state_of "$pid")" = T ]
        stands
        unfreeze "$@"
        goes_on
        [ "$(records)" = 0 ]

        freeze "$@"
        dump process "$pid" --stop --name stopped "$@"
        wait_gone "$pid"
        [ "$(records)" = 0 ]
        restored stopped
        goes_on
}

@test "by signals, through the daemon: a dump keeps it frozen, a restore runs" {
        start_daemon
        by_signals
}

@test "by signals, without" { by_signals --no-server; }

by_cgroup() {
        counter
        make_cgroup "$1" "" "$pid"
        start_daemon
        freeze
        grep -q "frozen, by the cgroup $cgroup" "$T/freeze.err"
        frozen "$cgroup"
        stands
        freeze
        grep -q 'frozen already' "$T/freeze.err"

        dump process "$pid" --name kept
        wait_for "frozen $cgroup" 2
        stands

        # The record is found by another daemon.
        kill -9 "$daemon"
        wait "$daemon" || true
        stands
        start_daemon
        unfreeze
        goes_on
        [ "$(records)" = 0 ]

        freeze
        dump process "$pid" --stop --name stopped
        wait_gone "$pid"
        [ "$(records)" = 0 ]
        restored stopped
        goes_on
}

@test "by a cgroup of version 1" { by_cgroup 1; }
@test "by a cgroup of version 2" { by_cgroup 2; }

@test "by a cgroup, where there is only version 2" {
        counter
        make_cgroup 2 "" "$pid"
        local root
        root=$(hierarchy 2)
        # shellcheck disable=SC2016 # the inner shell's
        alone=(unshare -m sh -c 'mount --bind "$0" /sys/fs/cgroup && exec "$@"' "$root")
        "${alone[@]}" "$STASIS" freeze process "$pid" --no-server 2>"$T/freeze.err"
        grep -q "by the cgroup /sys/fs/cgroup/${cgroup##*/}" "$T/freeze.err"
        frozen "$cgroup"
        stands
        "${alone[@]}" "$STASIS" dump process "$pid" --no-server
        wait_for "frozen $cgroup" 2
        "${alone[@]}" "$STASIS" unfreeze process "$pid" --no-server
        goes_on
}

@test "a cgroup that holds somebody else is never frozen" {
        counter
        other=$pid
        mv "$T/count" "$T/count.other" # the shell opens it anew for each line
        counter
        make_cgroup 1 "" "$pid" "$other"
        freeze --no-server
        grep -q 'stopped, by signals' "$T/freeze.err"
        [ "$(state_of "$pid")" = T ]
        [ "$(state_of "$other")" != T ]
        run ! frozen "$cgroup"
        unfreeze --no-server
        [ "$(state_of "$pid")" != T ]
}

nested() {
        # shellcheck disable=SC2016
        target sh -c 'sh -c "while :; do echo x >>$0.inner; sleep 0.02; done" "$0" & echo $! >"$0.pid"
                while :; do echo x >>"$0"; sleep 0.02; done' "$T/count"
        wait_lines "$T/count" 3
        wait_lines "$T/count.inner" 3
        inner_pid=$(cat "$T/count.pid")
        make_cgroup "$1" "" "$pid"
        outer=$cgroup
        make_cgroup "$1" /inner "$inner_pid"
        inner=$cgroup
}

frozen_around() {
        nested "$1"
        freeze_by_hand "$inner"
        # Only a part of it is frozen: CRIU could not take it.
        refused dump process "$pid" --no-server
        [[ "$output" == *"process $inner_pid is in the frozen cgroup $inner, but process $pid is not"*"stasis freeze process $pid"* ]]
        frozen_itself "$inner"

        freeze --no-server
        grep -q "by the cgroup $outer" "$T/freeze.err"
        dump process "$pid" --no-server --name nested
        frozen_itself "$outer"
        frozen_itself "$inner"
        stands
        stands "$T/count.inner"
        unfreeze --no-server
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
        stands "$T/count.inner"
        thaw "$inner"
        wait_lines "$T/count.inner" $(($(lines "$T/count.inner") + 3))
}

@test "frozen cgroups inside frozen cgroups of version 1 stay so" { frozen_around 1; }
@test "frozen cgroups inside frozen cgroups of version 2 stay so" { frozen_around 2; }

@test "a target in somebody else's frozen cgroup: dumped, but not ended" {
        counter
        other=$pid
        counter
        make_cgroup 1 "" "$pid" "$other"
        freeze_by_hand "$cgroup"
        freeze --no-server
        grep -q 'frozen already, by its cgroup, not by stasis' "$T/freeze.err"
        dump process "$pid" --no-server --name kept
        wait_for "frozen $cgroup" 2
        stands

        refused dump process "$pid" --no-server --stop --name ended
        [[ "$output" == *"$cgroup also holds process "* ]]
        frozen "$cgroup"
        refused unfreeze process "$pid" --no-server
        [[ "$output" == *"not frozen by stasis: its cgroup $cgroup is frozen"*--force* ]]
        refused unfreeze process "$pid" --no-server --force
        [[ "$output" == *"also holds process "* ]]
        frozen "$cgroup"
}

@test "what nobody has a record of: only by --force" {
        counter
        unfreeze --no-server
        grep -q 'is not frozen' "$T/freeze.err"
        make_cgroup 1 "" "$pid"
        freeze --no-server
        rm "$T/run/frozen/"*.json
        refused unfreeze process "$pid" --no-server
        frozen "$cgroup"
        unfreeze --no-server --force
        goes_on

        kill -STOP "$pid"
        wait_for "[ \$(state_of $pid) = T ]"
        freeze --no-server # by the cgroup, which is no matter of signals
        unfreeze --no-server
        [ "$(state_of "$pid")" = T ]
        refused unfreeze process "$pid" --no-server
        [[ "$output" == *"is stopped, but not by stasis"*--force* ]]
        unfreeze --no-server --force
        goes_on
}

@test "what somebody else had stopped stays so, over dump, unfreeze and restore" {
        # shellcheck disable=SC2016
        target sh -c 'sh -c "while :; do echo x >>$0.inner; sleep 0.02; done" "$0" & echo $! >"$0.pid"
                while :; do echo x >>"$0"; sleep 0.02; done' "$T/count"
        wait_lines "$T/count" 3
        wait_lines "$T/count.inner" 3
        inner_pid=$(cat "$T/count.pid")
        kill -STOP "$inner_pid"
        wait_for "[ \$(state_of $inner_pid) = T ]"
        freeze --no-server
        grep -q 'others were stopped before' "$T/freeze.err"
        unfreeze --no-server
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
        [ "$(state_of "$inner_pid")" = T ]

        freeze --no-server
        dump process "$pid" --no-server --stop --name partly
        restored partly
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
        [ "$(state_of "$inner_pid")" = T ]
        stands "$T/count.inner"
        kill -CONT "$inner_pid"
        wait_lines "$T/count.inner" $(($(lines "$T/count.inner") + 3))
}

@test "a stopped target is dumped and restored stopped; --leave-stopped keeps what we stopped so" {
        counter
        kill -STOP "$pid"
        wait_for "[ \$(state_of $pid) = T ]"
        freeze --no-server
        grep -q 'stopped already, not by stasis\|by signals; others' "$T/freeze.err"
        unfreeze --no-server || true # its sleep may have been ours
        dump process "$pid" --no-server --stop --name stopped
        restored stopped
        wait_for "[ \$(state_of $pid) = T ]"
        stands
        kill -CONT "$pid"
        goes_on

        freeze --no-server
        dump process "$pid" --no-server --stop --name ours
        wait_gone "$pid"
        restore_no_server process --path "$T/ckpt/ours.stasis" --leave-stopped
        wait_for "[ \$(state_of $pid) = T ]"
        stands
}

@test "processes that make processes, and threads" {
        target "$PROGRAMS/stubborn" storm "$T/count"
        wait_lines "$T/count" 20
        for _ in 1 2 3; do
                freeze --no-server
                stands
                unfreeze --no-server
                wait_lines "$T/count" $(($(lines "$T/count") + 20))
        done

        rm "$T/count"
        kill_tree "$pid"
        target "$PROGRAMS/threads" "$T/count"
        wait_lines "$T/count" 3
        freeze --no-server
        [ "$(cat "/proc/$pid/task/"*/stat | sed 's/.*) //' | cut -c 1 | sort -u)" = T ]
        stands
        unfreeze --no-server
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
}

@test "a freeze that is interrupted, or whose daemon dies, is undone" {
        target "$PROGRAMS/stubborn" vfork "$T/count"
        wait_lines "$T/count" 3
        wait_for "[ \$(state_of $pid) = D ]"
        start_daemon
        # In the foreground it sends one signal, not a second one to the group: two mean "leave at once".
        run --separate-stderr timeout --foreground -s INT 0.5 "$STASIS" freeze process "$pid" 3>&-
        [[ "$stderr" == *"cancelled: process $pid goes on running"* ]]
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
        [ "$(records)" = 0 ]

        timeout --foreground -s INT 0.5 "$STASIS" freeze process "$pid" --no-server 3>&- || true
        wait_lines "$T/count" $(($(lines "$T/count") + 3))

        "$STASIS" freeze process "$pid" >/dev/null 2>&1 3>&- &
        background=$!
        wait_for "[ \$(records) = 1 ]"
        kill -9 "$daemon"
        wait "$daemon" || true
        wait "$background" || true
        background=""
        wait_for "[ \$(records) = 0 ]" 5
        wait_lines "$T/count" $(($(lines "$T/count") + 3))

        # Nobody could undo this one: its record does.
        "$STASIS" freeze process "$pid" --no-server >/dev/null 2>&1 3>&- &
        background=$!
        wait_for "[ \$(records) = 1 ]"
        kill -9 "$background"
        wait "$background" || true
        background=""
        stands
        unfreeze --no-server
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
}

@test "unfreezing waits for a dump that goes on" {
        counter
        start_slow_daemon
        freeze
        "$STASIS" dump process "$pid" --name slow >"$T/dump.out" 2>&1 3>&- &
        background=$!
        wait_for "$STASIS daemon status --json | grep -q dump"
        wait_for "grep -q TracerPid:[[:space:]]*[1-9] /proc/$pid/status"
        unfreeze
        [ -e "$T/ckpt/slow.stasis" ]
        goes_on
        wait "$background"
        background=""
}

@test "targets that are gone, partly gone, or not to be frozen" {
        # shellcheck disable=SC2016
        target sh -c 'sh -c "while :; do echo x >>$0.inner; sleep 0.02; done" "$0" & echo $! >"$0.pid"; wait' "$T/count"
        wait_lines "$T/count.inner" 3
        inner_pid=$(cat "$T/count.pid")
        targets+=("$inner_pid")
        freeze --no-server
        refused unfreeze process "$inner_pid" --no-server
        [[ "$output" == *"was frozen with process $pid"* ]]
        kill -9 "$pid"
        wait_for "[ ! -e /proc/$pid ]" # its child lives on
        unfreeze --no-server
        grep -q 'had ended meanwhile' "$T/freeze.err"
        wait_lines "$T/count.inner" $(($(lines "$T/count.inner") + 3))

        counter
        freeze --no-server
        kill_tree "$pid"
        wait_gone "$pid"
        refused unfreeze process "$pid" --no-server
        [[ "$output" == *"no process $pid"* ]]
        [ "$(records)" = 0 ]
        [ -z "$(ls -A "$T/run/frozen")" ]

        refused freeze process "$$" --no-server
        [[ "$output" == *"stasis itself, or an ancestor"* ]]
        refused freeze process "$pid" --no-server
        [[ "$output" == *"no process $pid"* ]]
        refused freeze process --no-server
        [ "$status" -eq 2 ]
}

@test "the API: methods, and actions of a dump; --json" {
        counter
        start_daemon
        for method in Freeze Dump; do
                for verb in freeze unfreeze; do
                        "${STASIS_PYTHON:?a Python with grpcio}" "$BATS_TEST_DIRNAME/grpcio_client.py" --socket "$T/sock" \
                                --build "$STASIS_BUILD" --stubs "$BATS_FILE_TMPDIR/stubs" "$verb" "$pid" "$method" \
                                >"$T/reply" 3>&-
                        [ "$(jq .response.State.PID "$T/reply")" = "$pid" ]
                        if [ "$verb" = freeze ]; then stands; else goes_on; fi
                done
        done
        "$STASIS" freeze process "$pid" --json | jq -e ".pid == $pid and .type == \"process\" and .state.Status == \"stop\""
        "$STASIS" unfreeze process "$pid" --json | jq -e '.messages == []'
}

@test "types of plugins" {
        # Plugins must lie where only root can write, on the way there too.
        P=$(mktemp -d /var/lib/stasis-test.XXXXXX)
        chmod 755 "$P"
        install -m 644 "$STASIS_BUILD/tests/plugins/freezer.so" "$P/"
        export STASIS_PLUGINS_LIB_DIR=$P
        start_daemon
        "$STASIS" freeze freezer "$T/file"
        [ -e "$T/file" ]
        refused freeze freezer "$T/file"
        [[ "$output" == *"cannot freeze the freezer $T/file: cannot make $T/file"* ]]
        "$STASIS" unfreeze freezer "$T/file" --no-server
        [ ! -e "$T/file" ]
        refused freeze nothing "$T/file"
        "$STASIS" features --errors
        rm -rf "$P"
}
