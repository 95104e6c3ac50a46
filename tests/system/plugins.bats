#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Plugins, good and bad ones: what a good one adds, why a bad one is refused, and that nobody else suffers from either.
# shellcheck disable=SC2154 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common
load plugins

setup() {
        start_test
        plugins_start
}

teardown() {
        end_test
        plugins_end
}

# install_plugins PLUGIN…: of those that are made for tests.
install_plugins() {
        for plugin in "$@"; do
                plugins_add "tests/plugins/$plugin.so"
        done
}

# refused_plugin NAME REASON: why it cannot be used, an extended regular expression, and that everything else can.
refused_plugin() {
        run --separate-stderr "$STASIS" features --errors 3>&-
        [ "$status" -eq 1 ]
        grep -qE "^plugin $P/$1.so: $2" <<<"$output" || { echo "$output"; return 1; }
        [ "$(grep -c '' <<<"$output")" -eq 1 ] || { echo "$output"; return 1; }
        # The one beside it works, and so does all that needs none.
        "$STASIS" dump sample --help >/dev/null
        "$STASIS" query process $$ --no-server >/dev/null
        [ "$("$STASIS" plugin list --json | jq -r '.plugins[] | select(.name == "sample").status')" = loaded ]
        [ "$("$STASIS" plugin list --json | jq -r --arg file "$P/$1.so" '.plugins[] | select(.file == $file).status')" != loaded ]
        run --separate-stderr "$STASIS" features 3>&-
        [ "$status" -eq 0 ]
        [[ "$stderr" == *"1 plugin cannot be used"*"features --errors"* ]]
        # "check" warns.
        "$STASIS" check --json | jq -e '.[] | select(.Name == "plugins").Components[] | select(.Warnings)'
}

@test "a command exists exactly while its plugin is installed" {
        run --separate-stderr "$STASIS" dump sample 1 3>&-
        [ "$status" -eq 2 ]
        [[ "$stderr" == *"unknown type 'sample'"* ]]
        [[ "$("$STASIS" dump --help)" != *sample* ]]
        run "$STASIS" query sample 1 --no-server 3>&-
        [ "$status" -eq 2 ]

        install_plugins sample
        [[ "$("$STASIS" dump --help)" == *"sample PID"*"by way of the sample plugin"* ]]
        [[ "$("$STASIS" dump sample --help)" == *--sample-note* ]]
        [[ "$("$STASIS" restore sample --help)" == *--sample-note* ]]
        [ "$("$STASIS" query sample 41 42 --no-server --json | jq -c '[.[].PID]')" = "[41,42]" ]
        # Its flag belongs to its type.
        run "$STASIS" dump process 1 --no-server --sample-note x 3>&-
        [ "$status" -eq 2 ]
        [[ "$output" == *"unknown flag --sample-note"* ]]

        rm "$P/sample.so"
        run "$STASIS" dump sample 1 3>&-
        [ "$status" -eq 2 ]
}

# in_order FILE TEXT…: each in a line after that of the one before.
in_order() {
        local file=$1 from=1 at
        shift
        for text in "$@"; do
                at=$(tail -n "+$from" "$file" | grep -nF -m 1 -- "$text" | cut -d : -f 1)
                [ -n "$at" ] || { echo "no '$text' from line $from of:"; cat "$file"; return 1; }
                from=$((from + at))
        done
}

@test "dump sample, restore sample: a process goes round, the adapters run around CRIU" {
        install_plugins sample
        start_daemon
        counter
        dump sample "$pid" --stop --sample-note "from here" --name sample
        wait_gone "$pid"
        in_order "$T/daemon.log" "sample: before CRIU" "sample: note: from here" "sample: after CRIU: done"
        restore sample --path "$checkpoint" --sample-note "to there"
        in_order "$T/daemon.log" "sample: note: to there" "sample: early, no state yet" "sample: late, the state is loaded" \
                "sample: late: after: PID $pid" "sample: early: after: done"
        goes_on
        # Nothing of the plugin's own is left.
        [ -z "$(ls -A "$T/run/w")" ]
        # Its adapters are in the profile, with its name.
        "$STASIS" dump sample "$pid" --sample-note x --profiling-path "$T/profile" >/dev/null 3>&-
        [ "$(jq -c '[.Spans[] | select(.Plugin == "sample").Name]' "$T/profile")" = '["sample target","sample note"]' ]
}

@test "dump sample, restore sample, without the daemon" {
        install_plugins sample
        export STASIS_LOG_LEVEL_NO_SERVER=info
        counter
        dump sample "$pid" --stop --no-server --sample-note "from here"
        wait_gone "$pid"
        in_order "$T/dump.err" "sample: before CRIU" "sample: note: from here" "sample: after CRIU: done"
        restore_no_server sample --path "$checkpoint"
        goes_on
        in_order "$T/restore.err" "sample: early, no state yet" "sample: late, the state is loaded"
}

@test "an adapter sees that what is below it failed" {
        install_plugins sample
        start_daemon
        # CRIU refuses: a ghost file, larger than it may be.
        # shellcheck disable=SC2016
        target sh -c 'exec 4>"$0"; head -c 100000 /dev/urandom >&4; rm "$0"; exec sleep 1000' "$T/ghost"
        wait_for "[ \"\$(cat /proc/$pid/comm)\" = sleep ]"
        run "$STASIS" dump sample "$pid" --sample-note x --criu-opts '{"ghost_limit": 1000}' 3>&-
        [ "$status" -eq 1 ]
        in_order "$T/daemon.log" "sample: before CRIU" "sample: note: x" "sample: after CRIU: failed"
        alive "$pid"
        nothing_left
}

@test "a plugin of another ABI is refused, the rest works" {
        install_plugins sample other_abi
        refused_plugin other_abi 'ABI 2\.[0-9]+, this stasis has 1\.[0-9]+: it was built for a newer stasis'
}

@test "a plugin with a missing symbol is refused, the rest works" {
        install_plugins sample missing_symbol
        refused_plugin missing_symbol 'missing symbol st_function_of_tomorrow'
}

@test "a plugin that cannot start is refused, the rest works" {
        install_plugins sample failing_init
        refused_plugin failing_init 'its init failed: the engine is not there'
}

@test "a plugin that others can write to is refused, the rest works" {
        install_plugins sample
        for mode in 664 646 666; do
                install -m "$mode" "$STASIS_BUILD/tests/plugins/crash.so" "$P/"
                refused_plugin crash ".*mode 0$mode.*writable by nobody else.*chmod go-w $P/crash.so"
                rm "$P/crash.so"
        done
}

@test "a plugin that is not root's is refused, the rest works" {
        install_plugins sample crash
        chown 65534 "$P/crash.so"
        refused_plugin crash '.*owner uid 65534.*must belong to root.*chown root'
}

@test "what is no plugin is refused, the rest works" {
        install_plugins sample
        echo "not a library" >"$P/text.so"
        refused_plugin text 'it cannot be loaded: '
        rm "$P/text.so"
        ln -s "$P/sample.so" "$P/link.so"
        refused_plugin link 'it is a link'
        rm "$P/link.so"
        mkdir "$P/directory.so"
        refused_plugin directory 'it is not a regular file'
        rmdir "$P/directory.so"
        install -m 644 "$(ldd "$STASIS" | awk '/libz(std)?\./ { print $3; exit }')" "$P/library.so"
        refused_plugin library 'it is no stasis plugin'
}

@test "a plugin that was copied in part is refused, the rest works" {
        install_plugins sample
        for n in 60 1000 4000 8000; do
                head -c "$n" "$STASIS_BUILD/tests/plugins/crash.so" >"$P/cut.so"
                refused_plugin cut 'it (cannot be loaded|is cut off|is no)'
        done
}

@test "two plugins of one name: the second is refused, the rest works" {
        install_plugins sample crash
        cp "$P/crash.so" "$P/zzz.so"
        run "$STASIS" features --errors 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"plugin $P/zzz.so: "*crash* ]]
        [[ "$("$STASIS" dump --help)" == *"crash PID"* ]]
}

# refused_directory DIRECTORY TEXT: nothing in it is loaded, because of TEXT.
refused_directory() {
        STASIS_PLUGINS_LIB_DIR=$1 run "$STASIS" dump sample --help 3>&-
        [ "$status" -eq 2 ]
        STASIS_PLUGINS_LIB_DIR=$1 run "$STASIS" features --errors 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"$2"* ]] || { echo "$output"; return 1; }
        [ "$(STASIS_PLUGINS_LIB_DIR=$1 "$STASIS" plugin list --json | jq '[.plugins[] | select(.status == "loaded")] | length')" = 0 ]
}

@test "a directory that others can write to is not looked into" {
        install_plugins sample
        chmod 777 "$P"
        refused_directory "$P" "$P has owner root and mode 0777"
        chmod 755 "$P"
        chown 65534 "$P"
        refused_directory "$P" "$P has owner uid 65534"
        chown 0 "$P"
        # Nor one that is reached through such a directory.
        mkdir "$T/plugins"
        cp "$P/sample.so" "$T/plugins/"
        chmod 755 "$T/plugins"
        refused_directory "$T/plugins" "/tmp has owner root and mode 1777"
        ln -s "$P" "$T/link"
        refused_directory "$T/link" "/tmp has owner root and mode 1777"
        # Without a directory there are no plugins, and nothing is wrong.
        STASIS_PLUGINS_LIB_DIR=$P/none "$STASIS" features --errors
}

@test "plugin list, features NAME, --json" {
        install_plugins sample other_abi crash
        run --separate-stderr "$STASIS" plugin list 3>&-
        [ "$status" -eq 0 ]
        [ "$(awk '/^sample / { print $2, $3, $4 }' <<<"$output")" = "1.0 loaded $P/sample.so" ]
        grep -q '^other_abi .* incompatible ' <<<"$output"
        [ "$("$STASIS" plugins)" = "$output" ]
        run "$STASIS" plugin list sample 3>&-
        [ "$(grep -c '' <<<"$output")" = 2 ]

        "$STASIS" plugin list --json |
                jq -e '.plugins | length == 3 and (.[] | select(.name == "sample") | .version == "1.0" and .error == null)'
        run --separate-stderr "$STASIS" features sample 3>&-
        [ "$status" -eq 0 ] && [ -z "$stderr" ]
        grep -q '^command: dump TYPE .*✔' <<<"$output"
        grep -q '^command: freeze TYPE .*•' <<<"$output"
        [[ "$output" != *other_abi* ]]
        run "$STASIS" features docker 3>&-
        [ "$status" -eq 0 ]
        [[ "$output" == *—* ]]
        run --separate-stderr "$STASIS" features other_abi 3>&-
        [[ "$output" == *✖* ]]
        "$STASIS" features sample crash --json | jq -e '.plugins | map(.name) == ["sample", "crash"] and
                (.[0].features | index("dump_command")) and .[1].without_effect == ["reaper"]'
        run --separate-stderr "$STASIS" features --errors --json 3>&-
        [ "$status" -eq 1 ]
        jq -e '.plugins[] | select(.name == "other_abi") | .error | test("ABI")' <<<"$output"
        run "$STASIS" features nonsense 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"no plugin nonsense"* ]]
        # A feature without effect is a warning, no error.
        rm "$P/other_abi.so"
        run "$STASIS" features --errors 3>&-
        [ "$status" -eq 0 ]
        [[ "$output" == *"warning: reaper"*"has no effect"* ]]
}

# A crash is one: no sanitizer may turn it into a report.
start_daemon_that_may_crash() {
        start_daemon ASAN_OPTIONS="${ASAN_OPTIONS:-}:handle_segv=0" UBSAN_OPTIONS=log_path=/dev/null:halt_on_error=0
}

@test "a plugin that crashes: the error names it and its adapter; the target lives, the daemon serves on, nothing is left" {
        install_plugins crash sample
        start_daemon_that_may_crash
        counter
        for way in "" --stop; do
                # shellcheck disable=SC2086
                run --separate-stderr "$STASIS" dump crash "$pid" $way 3>&-
                [ "$status" -eq 1 ]
                [[ "$stderr" == *"worker killed by SIGSEGV in plugin crash, adapter crashing"* ]] || { echo "$stderr"; return 1; }
                [[ "$stderr" == *"hint: "* ]]
                [ "$(grep -c '' <<<"$stderr")" = 1 ]
                nothing_left
                goes_on
        done
        run "$STASIS" dump crash "$pid" --json 3>&-
        [ "$status" -eq 1 ]
        alive "$daemon"
        grep -q 'worker killed by SIGSEGV in plugin crash, adapter crashing' "$T/daemon.log"
        # The next operations are as good as ever.
        dump sample "$pid"
        dump process "$pid" --name later
        wait_for "[ -z \"\$(cat /proc/$daemon/task/$daemon/children)\" ]"
}

@test "a running daemon uses a plugin that is added, and no more one that is removed" {
        start_daemon
        counter
        run "$STASIS" dump sample "$pid" 3>&-
        [ "$status" -eq 2 ]
        install_plugins sample
        dump sample "$pid" --name one
        [ "$("$STASIS" query sample 42 --json | jq '.[0].PID')" = 42 ]
        "$STASIS" daemon check --json | jq -e '.[] | select(.Name == "sample").Components[0].Data == "fine"'
        "$STASIS" daemon check --full --json | jq -e '.[] | select(.Name == "sample").Components[0].Data == "all of it"'
        # An update, while it runs.
        install_plugins sample
        dump sample "$pid" --name two
        rm "$P/sample.so"
        run "$STASIS" query sample 42 3>&-
        [ "$status" -eq 2 ]
        # The daemon has no such type either, whoever asks.
        install_plugins sample
        mkdir "$P/elsewhere"
        mv "$P/sample.so" "$P/elsewhere/"
        STASIS_PLUGINS_LIB_DIR=$P/elsewhere run --separate-stderr "$STASIS" dump sample "$pid" 3>&-
        [ "$status" -eq 1 ]
        [[ "$stderr" == *sample* ]]
        goes_on
}
