#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# What a dump or restore asks for and the plugin of its type does not do is refused, before anything is looked at or
# touched: so no engine is needed here.
# shellcheck disable=SC2154 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() {
        start_test
        P=$(mktemp -d /run/stasis-options.XXXXXX) # plugins do not load from /tmp
        install -m 644 "$STASIS_BUILD"/plugins/stasis-{docker,runc}.so "$P/"
        install -D -m 644 "$STASIS_BUILD/plugins/parts/docker.so" "$P/parts/docker.so"
        export STASIS_PLUGINS_LIB_DIR=$P
}

teardown() {
        end_test
        rm -rf "$P"
}

refused() { # refused TEXT ARGUMENT…
        run --separate-stderr "$STASIS" "${@:2}" --no-server 3>&-
        [ "$status" -ne 0 ]
        grep -qE -- "$1" <<<"$stderr" || { echo "$stderr" >&2; return 1; }
        [ ! -e "$T/ckpt" ]
}

@test "a dump of a container: the files of the host, options of CRIU" {
        refused "not possible for type docker: --files=copy " dump docker c --dir "$T/ckpt" --files=copy
        refused "not possible for type runc: --files=record " dump runc c --dir "$T/ckpt" --files record
        refused "type docker: CRIU's option shell_job, CRIU's option external, CRIU's option timeout " \
                dump docker c --dir "$T/ckpt" --shell-job --external 'mnt[/a]:a' --criu-opts '{"timeout": 3}'
        refused "CRIU's option leave_stopped .*/etc/criu/runc.conf" dump docker c --criu-opts '{"leave_stopped": true}'
}

@test "what the plugins do goes on to them" {
        refused "the Docker engine does not run at unix:///nobody" dump docker c --host unix:///nobody --dir "$T/ckpt" \
                --tcp-established --skip-in-flight --file-locks --link-remap --criu-opts '{"ghost_limit": 5}'
        # Existing clients always send it, and mean nothing by it.
        refused "the Docker engine does not run at unix:///nobody" dump docker c --host unix:///nobody --dir "$T/ckpt" \
                --criu-opts '{"shell_job": false, "log_level": 4}'
        refused "there is no container c" dump runc c --root "$T/nobody" --dir "$T/ckpt" --shell-job --external 'mnt[/a]:a'
        # What is configured is asked of nobody.
        export STASIS_CONFIG_DIR=$T/config
        mkdir "$STASIS_CONFIG_DIR"
        echo '{"Checkpoint": {"Files": "copy"}}' >"$STASIS_CONFIG_DIR/config.json"
        refused "there is no container c" dump runc c --root "$T/nobody" --dir "$T/ckpt"
}

@test "a restore of a container" {
        refused "type runc: --files=rollback .*used as they are in its bundle" restore runc --path "$T/nothing" --files=rollback
        refused "type docker: CRIU's option leave_stopped " restore docker --path "$T/nothing" --leave-stopped
        refused "cannot restore from $T/nothing" restore runc --path "$T/nothing" --files=keep
        refused "cannot restore from $T/nothing" restore docker --path "$T/nothing" --files=keep --tcp-close
        refused "cannot restore from $T/nothing" restore runc --path "$T/nothing" --out "$T/out" --leave-stopped
}
