#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Plugins with a handler in the place of CRIU: what the host does for them (directory, commit, guard, clean-up), and
# that it does so for bad ones, too. The plugin is tests/plugins/box.c: it stops its target, a process group, for a dump.
# shellcheck disable=SC2154,SC2016 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        # Plugins load only from below directories that nobody but root can change: /tmp is none.
        P=$(mktemp -d /run/stasis-test.XXXXXX)
        export STASIS_PLUGINS_LIB_DIR=$P TMPDIR=$T
        install -m 644 "$STASIS_BUILD/tests/plugins/box.so" "$P/"
}

teardown() {
        [ -z "${pid:-}" ] || kill -9 -- "-$pid" 2>/dev/null || true
        end_test
        rm -rf "$P"
        [ -z "${mounted:-}" ] || umount "$mounted"
}

# As counter, in one process: one that is stopped while it starts another cannot be dumped (vfork(2)).
counter() {
        # shellcheck disable=SC2016
        target perl -e 'for (;;) { open F, ">>", $ARGV[0]; print F ++$i, "\n"; close F; select undef, undef, undef, 0.02 }' "$T/count"
        wait_lines "$T/count" 3
}

# A PID is free again when it is nobody's process group either.
group_gone() { wait_for "[ -z \"\$(ps -o pid= --pgroup $1; ps -o pid= -g $1)\" ]" 20; }

# stopped PID: stands by SIGSTOP.
stopped() { [ "$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status")" = T ]; }

# refused COMMAND…: fails within reason, and says nothing of a crash; its words are in $output.
refused() {
        run "$STASIS" "$@" 3>&-
        [ "$status" -ne 0 ] || { echo "$output"; return 1; }
}

ended_badly() { # ended_badly PID: of a child
        local code=0
        wait "$1" || code=$?
        [ "$code" -ne 0 ]
}

# What $output says of a crash in the plugin; with a sanitizer there is no handler that would say so without a server.
tells_crash() { [ -n "${STASIS_SANITIZE:-}" ] || [[ "$output" == *"killed by SIGSEGV in plugin box, adapter box"* ]]; }

# The worker of the only operation that runs.
worker_of() { "$STASIS" daemon status --json | jq -r '.Operations[0].PID // empty'; }

# nothing_hidden: of what a handler writes to.
nothing_hidden() {
        local found
        found=$(find "$T" -name '.*partial*' 2>/dev/null) || true
        [ -z "$found" ] || { echo "left: $found"; return 1; }
        wait_for "[ -z \"\$(ls -A $T/run/w 2>/dev/null)\" ]" 5
        # No guard either, of those that this test started.
        for guard in $(pgrep -f '^stasis guard$'); do
                ! tr '\0' '\n' <"/proc/$guard/environ" 2>/dev/null | grep -qx "STASIS_RUN_DIR=$T/run" || return 1
        done
}

@test "round trips in every format, in one stream and in several, through the daemon" {
        start_daemon
        counter
        for format in none tar gzip lz4 zlib zstd image zstd:3; do
                streams=()
                [[ "$format" != *:* ]] || streams=(--streams "${format#*:}")
                dump box "$pid" --compression "${format%:*}" "${streams[@]}" --name "c-$format" --stop
                group_gone "$pid"
                "$STASIS" checkpoint verify "$checkpoint" >/dev/null
                grep -q "the box was emptied" "$T/dump.err" "$T/dump.out"
                restore box --path "$checkpoint"
                goes_on
        done
        [ "$(find "$T/ckpt" -mindepth 1 -maxdepth 1 | wc -l)" -eq 8 ]
        nothing_hidden
        # Somebody of ours is its parent.
        [ "$(cat "/proc/$(ps -o ppid= -p "$pid" | tr -d ' ')/comm")" = stasis-supervis ]
        # The others are dumped while they run on.
        dump box "$pid"
        goes_on
}

@test "a round trip without the daemon" {
        counter
        dump box "$pid" --no-server --stop
        group_gone "$pid"
        restore_no_server box --path "$checkpoint"
        goes_on
        kill -TERM -- "-$pid"
        wait "$restorer" || status=$?
        [ "$status" -eq 143 ]
        nothing_hidden
}

@test "the format none is committed in place: nothing is copied, all of it is the caller's and private" {
        start_daemon
        target sleep 1000
        other=$pid
        counter
        "$STASIS" dump box "$pid" --compression none --name c --box-fault wait >"$T/dump.out" 2>&1 3>&- &
        dumper=$!
        wait_for "grep -q 'box: waits' $T/daemon.log"
        hidden=$(find "$T/ckpt" -maxdepth 1 -name '.c.partial-*')
        [ -d "$hidden" ] && [ "$(stat -c %a "$hidden")" = 700 ]
        # Somebody else's dump to the same place leaves it alone.
        dump process "$other" --name other
        [ -d "$hidden" ]
        kill -INT "$dumper"
        wait "$dumper" || true
        [ ! -e "$hidden" ]
        dump box "$pid" --compression none --name c
        [ "$(stat -c %a "$checkpoint")" = 700 ]
        [ -z "$(find "$checkpoint" -type f ! -perm 600)" ]
        # The file that the handler has made, which it names by its inode.
        grep -qx "box: box.data is inode $(stat -c %i "$checkpoint/box.data")" <(sed 's/.*: box: /box: /' "$T/daemon.log")
        "$STASIS" checkpoint verify "$checkpoint" >/dev/null
        "$STASIS" checkpoint inspect "$checkpoint" >/dev/null
}

@test "who waits: a process of the plugin's in the place of the restored one; nobody" {
        start_daemon
        counter
        dump box "$pid" --stop
        group_gone "$pid"
        restore box --path "$checkpoint" --box-fault waiter
        goes_on
        # The supervisor tells of the process, and keeps the exit code of the one that waited.
        [ "$("$STASIS" daemon status --json | jq -r '[.. | objects | select(.PID? == '"$pid"')] | length')" -ge 1 ]
        kill -9 -- "-$pid"
        wait_for "grep -q 'process $pid.*7' $T/daemon.log"
        group_gone "$pid"
        restore box --path "$checkpoint" --box-fault nobody
        goes_on
        ls "$T/run/jobs" >"$T/jobs"
        [ ! -s "$T/jobs" ]
        kill -9 -- "-$pid"
        group_gone "$pid"
        # Without the daemon the command line ends with the waiter's exit code.
        restore_no_server box --path "$checkpoint" --box-fault waiter
        goes_on
        kill -9 -- "-$pid"
        wait "$restorer" || status=$?
        [ "$status" -eq 7 ]
        group_gone "$pid"
        # … or at once, when it is nobody's.
        "$STASIS" restore box --path "$checkpoint" --no-server --box-fault nobody >"$T/restore.out" 2>&1 3>&-
        goes_on
        nothing_hidden
}

@test "a damaged checkpoint is refused before anything runs" {
        start_daemon
        counter
        dump box "$pid" --compression none --name none --stop
        group_gone "$pid"
        none=$checkpoint
        "$STASIS" checkpoint export "$none" "$T/z.tar.zst"
        "$STASIS" checkpoint export "$none" "$T/z.stasis"
        for file in box.data stasis.json pages-1.img; do
                cp -a "$none" "$T/damaged"
                printf 'X' | dd of="$T/damaged/$file" bs=1 seek=30 conv=notrunc status=none
                refused restore box --path "$T/damaged"
                [[ "$output" == *damaged* ]]
                refused restore box --path "$T/damaged" --no-server
                rm -r "$T/damaged"
        done
        for archive in "$T/z.tar.zst" "$T/z.stasis"; do
                printf 'XXXX' | dd of="$archive" bs=1 seek=$(($(stat -c %s "$archive") / 2)) conv=notrunc status=none
                refused restore box --path "$archive"
        done
        [ ! -e "/proc/$pid" ]
        run grep "box: restores" "$T/daemon.log"
        [ "$status" -eq 1 ]
        nothing_hidden
        restore box --path "$none"
        goes_on
}

@test "what a handler may not do: an error that names it, nothing is left, the target goes on" {
        start_daemon
        counter
        local rows=(
                "subdirectory|trouble is no regular file"
                "symlink|trouble is no regular file"
                "pipe|trouble is no regular file"
                "state|stasis.json"
                "manifest|stasis.manifest"
                "no-directory|the handler of type box has made no checkpoint"
                "proceed|it is the last"
                "criu-fails|CRIU could not dump"
                "withdraw|the engine could not end it"
        )
        for row in "${rows[@]}"; do
                for how in "--compression=none --stop" "--compression=lz4${server:-}"; do
                        # shellcheck disable=SC2086
                        refused dump box "$pid" --name c --box-fault "${row%%|*}" $how
                        [[ "$output" == *"${row#*|}"* ]] || { echo "$row: $output"; return 1; }
                        [[ "$output" != *"killed by"* ]]
                        [ -z "$(ls -A "$T/ckpt" 2>/dev/null)" ]
                        goes_on || return 1
                done
                [ -z "${server:-}" ] && server=" --no-server" || server=""
        done
        nothing_hidden
        dump box "$pid" --name c
        # An adapter that has run the rest of the chain does not run it again.
        refused dump box "$pid" --name d --box-fault adapter-proceeds-twice
        [[ "$output" == *"adapter box target called the next one"*"a second time"* ]]
        goes_on
}

@test "a restore's handler that misbehaves: an error that names it" {
        start_daemon
        counter
        dump box "$pid" --stop
        group_gone "$pid"
        printf '#!/bin/sh\ntouch %s/hooked\n' "$T" >"$T/hook"
        chmod 755 "$T/hook"
        for row in "no-pid|the handler of type box restored no process" "proceed|it is the last" \
                "crash|in plugin box, adapter box"; do
                refused restore box --path "$checkpoint" --box-fault "${row%%|*}" --hook "post-restore=$T/hook" \
                        --pid-file "$T/pid"
                [[ "$output" == *"${row#*|}"* ]] || { echo "$output"; return 1; }
                [ ! -e "/proc/$pid" ] && [ ! -e "$T/hooked" ] && [ ! -e "$T/pid" ]
        done
        refused restore box --path "$checkpoint" --no-server --box-fault crash
        tells_crash
        # It cleans up what the crash has left.
        restore box --path "$checkpoint" --hook "post-restore=$T/hook" --pid-file "$T/pid"
        [ -e "$T/hooked" ] && [ "$(cat "$T/pid")" = "$pid" ]
        "$STASIS" query process "$pid" --no-server >/dev/null
        nothing_hidden
}

@test "restore --check is answered by the handler, restores nothing, runs no hooks" {
        start_daemon
        counter
        dump box "$pid" --stop
        group_gone "$pid"
        printf '#!/bin/sh\ntouch %s/hooked\n' "$T" >"$T/hook"
        chmod 755 "$T/hook"
        for server in "" --no-server; do
                run "$STASIS" restore box --path "$checkpoint" --check $server --hook "post-restore=$T/hook" 3>&-
                [ "$status" -eq 0 ]
                [[ "$output" == *"the box has 3000000 bytes"*"the box is there"* ]]
                run "$STASIS" restore box --path "$checkpoint" --check $server --box-fault finding 3>&-
                [ "$status" -eq 1 ]
                [[ "$output" == *"the box is shut"*"open it"* ]]
        done
        [ ! -e "$T/hooked" ] && [ ! -e "/proc/$pid" ]
}

@test "hooks run once, in order: before it is frozen, when it runs again, at the end" {
        start_daemon
        counter
        for name in pre-dump post-thaw post-dump; do
                printf '#!/bin/sh\necho "%s $(sed -n "s/^State:[[:space:]]*\\(.\\).*/\\1/p" /proc/%s/status)" >>%s/ran\n' \
                        "$name" "$pid" "$T" >"$T/$name"
                chmod 755 "$T/$name"
                hooks+=(--hook "$name=$T/$name")
        done
        dump box "$pid" "${hooks[@]}"
        sed -i 's/ [SR]$//' "$T/ran" # not T: never while it was frozen
        [ "$(tr '\n' ' ' <"$T/ran")" = "pre-dump post-thaw post-dump " ] || { cat "$T/ran"; return 1; }
        rm "$T/ran"
        refused dump box "$pid" "${hooks[@]}" --box-fault no-directory
        [ "$(wc -l <"$T/ran")" -eq 3 ]
}

@test "cancelled while it waits frozen: it is thawed, nothing is left" {
        start_daemon
        counter
        for server in "" --no-server; do
                LC_ALL=C STASIS_LOG_LEVEL_NO_SERVER=info "$STASIS" dump box "$pid" --box-fault wait --stop $server \
                        >"$T/out" 2>&1 3>&- &
                dumper=$!
                wait_for "grep -q 'box: waits' $T/out $T/daemon.log"
                wait_for "stopped $pid"
                kill -INT "$dumper"
                wait "$dumper" || status=$?
                [ "$status" -eq 130 ]
                goes_on
                nothing_left
                : >"$T/daemon.log"
        done
        nothing_hidden
}

# thawed_after: the target of a dump that was ended hard goes on, thanks to the guard.
thawed_after() {
        wait_for "! stopped $pid" 15
        goes_on
        wait_for "[ -z \"\$(find $T/ckpt -mindepth 1 2>/dev/null)\" ]"
        nothing_left
        nothing_hidden
}

@test "a handler that crashes while its target is frozen" {
        start_daemon
        counter
        refused dump box "$pid" --box-fault crash
        tells_crash
        thawed_after
        refused dump box "$pid" --box-fault crash --no-server
        tells_crash
        thawed_after
}

@test "a worker that is killed while its target is frozen, before and after the commit" {
        start_daemon
        counter
        for fault in hang hang-after-commit; do
                : >"$T/daemon.log"
                "$STASIS" dump box "$pid" --stop --name c --box-fault "$fault" >"$T/out" 2>&1 3>&- &
                dumper=$!
                wait_for "grep -q 'box: hangs' $T/daemon.log" 20
                stopped "$pid"
                kill -9 "$(worker_of)"
                ended_badly "$dumper"
                grep -q "killed by SIGKILL in plugin box" "$T/out"
                if [ "$fault" = hang-after-commit ]; then
                        # What is there is whole, and the target was not ended.
                        "$STASIS" checkpoint verify "$T/ckpt/c.stasis" >/dev/null
                        rm "$T/ckpt/c.stasis"
                fi
                thawed_after
        done
}

@test "without the daemon: a second Ctrl-C at a deaf handler, kill -9" {
        counter
        for signal in INT KILL; do
                STASIS_LOG_LEVEL_NO_SERVER=info "$STASIS" dump box "$pid" --no-server --box-fault hang >"$T/out" 2>&1 3>&- &
                dumper=$!
                wait_for "grep -q 'box: hangs' $T/out" 20
                kill "-$signal" "$dumper"
                if [ "$signal" = INT ]; then
                        sleep 0.2
                        kill -INT "$dumper"
                fi
                ended_badly "$dumper"
                wait_for "! stopped $pid" 15
                goes_on
                # Its work directory and hidden files go with the next operation, at the latest.
                dump box "$pid" --no-server --name c
                rm -r "$T/ckpt"
                nothing_hidden
        done
}

@test "a deaf handler under the daemon: its worker is killed after a while, the target thawed" {
        start_daemon STASIS_CANCEL_KILL_AFTER=1
        counter
        "$STASIS" dump box "$pid" --stop --box-fault hang >"$T/out" 2>&1 3>&- &
        dumper=$!
        wait_for "grep -q 'box: hangs' $T/daemon.log" 20
        kill -INT "$dumper"
        ended_badly "$dumper"
        wait_for "grep -q 'did not react to being cancelled, and is killed' $T/daemon.log" 10
        thawed_after
        # One that reacts is not.
        "$STASIS" dump box "$pid" --box-fault wait >"$T/out" 2>&1 3>&- &
        dumper=$!
        wait_for "grep -q 'box: waits' $T/daemon.log" 20
        kill -INT "$dumper"
        wait "$dumper" || [ $? -eq 130 ]
        [ "$(grep -c 'and is killed' "$T/daemon.log")" -eq 1 ]
        goes_on
        # A senseless setting is refused.
        run env STASIS_CANCEL_KILL_AFTER=0 STASIS_ADDRESS="$T/other" "$STASIS" daemon start 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"Cancel.KillAfter"* ]]
}

@test "the guard is killed, too: the dump goes on all the same" {
        start_daemon
        counter
        "$STASIS" dump box "$pid" --box-fault wait >"$T/out" 2>&1 3>&- &
        dumper=$!
        wait_for "grep -q 'box: waits' $T/daemon.log" 20
        guard=$(pgrep -P "$(worker_of)" -f '^stasis guard$')
        kill -9 "$guard"
        kill -INT "$dumper"
        ended_badly "$dumper"
        goes_on
        nothing_left
        # Stubborn against what ends its parent's group.
        "$STASIS" dump box "$pid" --no-server --box-fault hang >"$T/out" 2>&1 3>&- &
        dumper=$!
        wait_for "stopped $pid" 20
        wait_for "pgrep -P $dumper -f '^stasis guard\$'"
        kill -TERM "$(pgrep -P "$dumper" -f '^stasis guard$')"
        kill -9 "$dumper"
        ended_badly "$dumper"
        wait_for "! stopped $pid" 15
        goes_on
}

@test "after the commit: a failure keeps what may be the only copy, and says so" {
        start_daemon
        counter
        for format in none zstd image; do
                refused dump box "$pid" --stop --compression "$format" --name "c-$format" --box-fault fail-after-commit
                [[ "$output" == *"the checkpoint $T/ckpt/c-$format"*"is complete and kept, but"*"the engine could not end it"* ]]
                "$STASIS" checkpoint verify "$T/ckpt/c-$format"* >/dev/null
                goes_on
        done
        nothing_hidden
}

@test "the disk is full: by the handler's files, by the commit" {
        mkdir -p "$T/small"
        mount -t tmpfs -o size=12m tmpfs "$T/small"
        mounted=$T/small
        start_daemon
        counter
        # The images fit, the archive beside them does not.
        refused dump box "$pid" --dir "$T/small" --stop --box-fault big
        [[ "$output" == *"no space left on $T/small"* ]]
        [ -z "$(ls -A "$T/small")" ]
        goes_on
        for format in none lz4 image; do
                refused dump box "$pid" --dir "$T/small" --compression "$format" --stop --box-fault huge
                [[ "$output" == *"No space left on device"* ]]
                [ -z "$(ls -A "$T/small")" ]
                goes_on
        done
        # In place nothing is needed twice.
        dump box "$pid" --dir "$T/small" --compression none --box-fault big
        "$STASIS" checkpoint verify "$checkpoint" >/dev/null
        rm -r "${checkpoint:?}"
        nothing_hidden
        umount "$T/small"
        mounted=""
}

@test "freeze, unfreeze and query are the plugin's" {
        start_daemon
        counter
        "$STASIS" freeze box "$pid" >/dev/null 3>&-
        stopped "$pid"
        "$STASIS" unfreeze box "$pid" >/dev/null 3>&-
        goes_on
        [ "$("$STASIS" query box --json | jq -c '[.[].PID]')" = "[4711]" ]
}

@test "the words by which stasis starts itself refuse to be used by hand" {
        run "$STASIS" guard </dev/null 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"not by hand"* ]]
}
