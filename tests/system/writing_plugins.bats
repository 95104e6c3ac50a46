#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The example of docs/writing-plugins.md: taken out of it, built as it says against an installed copy, and run.
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

# code LANGUAGE: the blocks of the document, in order.
code() { awk -v fence="\`\`\`$1" '$0 == fence { on = 1; next } /^```/ { on = 0 } on' "$STASIS_SOURCE/docs/writing-plugins.md"; }

build_example() {
        DESTDIR=$T/root meson install -C "$STASIS_BUILD" --no-rebuild --quiet >"$T/install.log" 2>&1 ||
                { cat "$T/install.log"; return 1; }
        pc=$(find "$T/root" -name stasis.pc)
        code c >"$T/nap.c"
        # As the document has it, with the place of the copy, and as strict as we are.
        command=$(code sh | grep '^cc ')
        flags="-Wall -Wextra -Werror -Wno-missing-field-initializers"
        [[ "${STASIS_SANITIZE:-}" != address ]] || flags+=" -fsanitize=address,undefined"
        (cd "$T" && PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$T/root \
                sh -c "${command/#cc /cc $flags }") >"$T/cc.log" 2>&1 || { cat "$T/cc.log"; return 1; }
        [ -n "$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --variable=plugindir stasis)" ]
        install -m 644 "$T/nap.so" "$P/"
}

@test "the example of the tutorial builds against what is installed, and does what it says" {
        build_example
        run --separate-stderr "$STASIS" features --errors 3>&-
        [ "$status" -eq 0 ] || { echo "$output"; return 1; }
        [[ "$("$STASIS" dump nap --help)" == *--note* ]]
        "$STASIS" check --json | jq -e '[.. | objects | select(.Name? == "sleep")] | length == 1' >/dev/null

        start_daemon
        target sleep 4711
        dump nap "$pid" --note tired
        [[ "$(cat "$T/dump.out" "$T/dump.err")" == *noted* ]]
        alive "$pid"
        "$STASIS" checkpoint verify "$checkpoint" >/dev/null
        dump nap "$pid" --note tired --stop --compression none
        wait_gone "$pid"
        [ "$(cat "$checkpoint/nap.txt")" = "$(printf '4711\ntired')" ]
        [[ "$("$STASIS" restore nap --path "$checkpoint" --check)" == *"can be slept again"* ]]
        restore nap --path "$checkpoint"
        [[ "$(cat "$T/restore.out" "$T/restore.err")" == *"note: tired"* ]]
        pid=$(awk '/^restored/ { print $NF }' "$T/restore.out")
        targets+=("$pid")
        [ "$(tr '\0' ' ' <"/proc/$pid/cmdline")" = "sleep 4711 " ]

        "$STASIS" freeze nap "$pid" >/dev/null 3>&-
        wait_for "grep -q '^State:.*T' /proc/$pid/status"
        "$STASIS" unfreeze nap "$pid" >/dev/null 3>&-
        wait_for "grep -q '^State:.*S' /proc/$pid/status"

        # Wrong words and wrong targets are told.
        run "$STASIS" dump nap nonsense 3>&-
        [ "$status" -eq 2 ]
        [[ "$output" == *"one PID must be named"* ]]
        run "$STASIS" dump nap $$ --no-server 3>&-
        [ "$status" -ne 0 ]
}
