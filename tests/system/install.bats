#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# What an installation has beside its programs: manual pages, completions, the service.
# shellcheck disable=SC2154 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

setup() { start_test; }
teardown() { end_test; }

# installed PATH: of an installation with the build's own prefix, below $T/root.
install_all() {
        DESTDIR=$T/root meson install -C "$STASIS_BUILD" --no-rebuild --quiet >"$T/install.log" 2>&1 || { cat "$T/install.log"; return 1; }
        prefix=$T/root$(meson introspect --buildoptions "$STASIS_BUILD" | jq -r '.[] | select(.name == "prefix").value')
}

# complete WORD…: the candidates that bash shows for the last word.
complete_in_bash() {
        # shellcheck disable=SC2016
        PATH="$(dirname "$STASIS"):$PATH" bash -c '
                eval "$("$0" completion bash)"
                COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
                _stasis stasis 2>/dev/null
                printf "%s\n" "${COMPREPLY[@]}"' "$STASIS" "$@"
}

@test "make install puts everything in its place, and what is installed works" {
        install_all
        for file in bin/stasis libexec/stasis/stasis-hook libexec/stasis/stasis-supervisor \
                libexec/stasis/stasis-launch libexec/stasis/stasis-init libexec/stasis/stasis-limits.so \
                libexec/stasis/stasis-grab.so include/stasis/api/stasis/v1/stasis.pb-c.h share/man/man1/stasis.1 \
                share/man/man1/stasis-dump.1 share/man/man5/stasis-config.5 share/bash-completion/completions/stasis \
                share/zsh/site-functions/_stasis share/fish/vendor_completions.d/stasis.fish include/stasis/plugin.h \
                lib/systemd/system/stasis.service share/stasis/install-criu; do
                [ -e "$prefix/$file" ] || { echo "$file is missing"; find "$T/root"; return 1; }
        done
        [ "$("$prefix/bin/stasis" version)" = "$("$STASIS" version)" ]
}

@test "every command has a manual page, in which groff finds no fault, with all its flags" {
        install_all
        local pages=0
        while read -r command; do
                page=$prefix/share/man/man1/stasis-${command// /-}.1
                [ -e "$page" ] || { echo "no page for $command"; return 1; }
                # shellcheck disable=SC2086
                for flag in $("$STASIS" $command --help | sed -n '/^Flags of every command/q; s/^ \{2,6\}\(-., \)\?\(--[a-z-]*\).*/\2/p'); do
                        grep -q -- "${flag//-/\\\\-}" "$page" || { echo "$page does not have $flag"; return 1; }
                done
                pages=$((pages + 1))
        done < <("$STASIS" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z ]*[a-z]\)\( TYPE.*\| \[.*\|  .*\| [A-Z].*\)$/\1/p')
        [ "$pages" -gt 12 ]
        for page in "$prefix"/share/man/man*/*; do
                faults=$(groff -man -Tutf8 -Kutf8 -ww -z "$page" 2>&1) || true
                [ -z "$faults" ] || { echo "$page: $faults"; return 1; }
        done
        # Every key of the configuration is explained.
        for key in $("$STASIS" config show --json | jq -r 'paths(scalars) | map(tostring) | join(".")' | grep -v '\.[0-9]*$'); do
                grep -qF "${key}" "$prefix/share/man/man5/stasis-config.5" || { echo "no $key in stasis-config.5"; return 1; }
        done
}

@test "bash completes commands, types, flags, values, files and PIDs" {
        [ "$(complete_in_bash stasis d | sort | tr '\n' ' ')" = "daemon delete dump " ]
        [ "$(complete_in_bash stasis dump '' | sort | tr '\n' ' ')" = "crun docker job process runc " ]
        complete_in_bash stasis dump process --comp | grep -qx -- --compression
        complete_in_bash stasis dump process --compression '' | grep -qx zstd
        complete_in_bash stasis dump process --compression = no | grep -qx none
        [ "$(complete_in_bash stasis --no-color daemon sta | sort | tr '\n' ' ')" = "start status " ]
        target sleep 1000
        complete_in_bash stasis dump process "${pid%?}" | grep -qx "$pid"
        touch "$T/a file"
        [ "$(complete_in_bash stasis restore process --path "$T/a f")" = "$T/a file" ]
        # What is not known has no candidates, and no error either.
        [ -z "$(complete_in_bash stasis nonsense '' 2>&1 | tr -d '\n')" ]
}

@test "the completions of zsh and fish are sound" {
        command -v zsh >/dev/null || command -v fish >/dev/null || skip "neither zsh nor fish is installed"
        if command -v zsh >/dev/null; then
                "$STASIS" completion zsh >"$T/_stasis"
                zsh -n "$T/_stasis"
        fi
        if command -v fish >/dev/null; then
                "$STASIS" completion fish >"$T/stasis.fish"
                PATH="$(dirname "$STASIS"):$PATH" HOME=$T fish -c "source $T/stasis.fish; complete -C 'stasis dump '" | grep -q '^process'
        fi
}

@test "the service's file is sound, and takes nothing from what a job inherits" {
        install_all
        unit=$prefix/lib/systemd/system/stasis.service
        grep -qx 'KillMode=process' "$unit"
        grep -qx 'Delegate=yes' "$unit"
        run grep -E '^(Private|Protect|NoNewPrivileges|SystemCall|Capability|Restrict|RootDirectory|Limit)' "$unit"
        [ "$status" -eq 1 ]
        command -v systemd-analyze >/dev/null || skip "systemd-analyze is not installed"
        # It looks for the program where the service will find it.
        sed "s|^ExecStart=[^ ]*|ExecStart=$STASIS|" "$unit" >"$T/stasis.service"
        run systemd-analyze verify --man=no "$T/stasis.service"
        [ "$status" -eq 0 ] && [ -z "$output" ] || { echo "$output"; return 1; }
}
