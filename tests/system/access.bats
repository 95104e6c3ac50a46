#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Who may do what: the socket's group, TCP with mutual TLS, and what is logged of it.
# shellcheck disable=SC2154,SC2030,SC2031 # set by common.bash and bats

bats_require_minimum_version 1.5.0
load common

CLIENT=$BATS_TEST_DIRNAME/grpcio_client.py

setup_file() { "$BATS_TEST_DIRNAME/../make-certificates" "$BATS_FILE_TMPDIR/tls"; }

setup() {
        start_test
        C=$BATS_FILE_TMPDIR/tls
        group="tty" # one that Debian's base system has, and nobody of the tests is in
        gid=$(getent group "$group" | cut -d: -f3)
}

teardown() {
        local helper
        for helper in ${helpers:-}; do
                kill "$helper" 2>/dev/null || true
        done
        end_test
}

# ordinary [GROUP…] -- COMMAND…: as a user of these groups only, who sees nothing of the tests' own configuration.
ordinary() {
        local groups=--clear-groups
        [ "$1" = -- ] || { groups=--groups=$1; shift; }
        shift
        chmod 755 "$T"
        [ -e "$T/stasis" ] || cp "$STASIS" "$T/stasis"
        setpriv --reuid=65534 --regid=65534 "$groups" env -u STASIS_CONFIG_DIR HOME=/nonexistent "$@" 3>&-
}

# start_tls_daemon [VARIABLE=VALUE…]: on a free port of 127.0.0.1 and the usual socket; sets $address.
start_tls_daemon() {
        env STASIS_PROTOCOL=tcp STASIS_ADDRESS="${listen:-127.0.0.1:0}" STASIS_SOCKET_PATH="$T/sock" \
                STASIS_TLS_CERT="$C/server.pem" STASIS_TLS_KEY="$C/server.key" STASIS_TLS_CA="$C/ca.pem" \
                STASIS_TLS_ROOT=ops,other "$@" "$STASIS" daemon start >>"$T/daemon.log" 2>&1 3>&- </dev/null &
        daemon=$!
        wait_for "$STASIS daemon status" || { cat "$T/daemon.log"; return 1; }
        address=$(sed -n 's/.*serves \(.*\) by TLS/\1/p' "$T/daemon.log" | tail -n 1)
}

# remote NAME ARGUMENT…: stasis over TCP with the certificate of that name.
remote() {
        local name=$1
        shift
        env STASIS_PROTOCOL=tcp STASIS_ADDRESS="$address" STASIS_TLS_CERT="$C/$name.pem" STASIS_TLS_KEY="$C/$name.key" \
                STASIS_TLS_CA="${trust:-$C/ca.pem}" "$STASIS" "$@" 3>&-
}

# fails TEXT COMMAND…: with 1, and that text in what it says.
fails() {
        local text=$1
        shift
        run "$@"
        if [ "$status" -ne 1 ] || [[ "$output" != *"$text"* ]]; then
                echo "not '$text', but $status: $output"
                return 1
        fi
}

logged() { wait_for "grep -qE '$1' $T/daemon.log" 5 || { cat "$T/daemon.log"; return 1; }; }

# grpc NAME COMMAND…: Python's client over TLS; sets $reply.
grpc() {
        local name=$1
        shift
        reply=$("${STASIS_PYTHON:?a Python with grpcio}" "$CLIENT" --tls "$address" --certificates "$C" --as "$name" \
                --build "$STASIS_BUILD" --stubs "$BATS_FILE_TMPDIR/stubs" "$@" 2>"$T/client.err" 3>&-)
}

@test "Socket.Group: its members may what root may, and own their checkpoints; nobody else gets in" {
        start_daemon STASIS_SOCKET_GROUP="$group"
        [ "$(stat -c '%a %u %g %F' "$T/sock")" = "660 0 $gid socket" ]
        counter
        mkdir -m 1777 "$T/open"
        fails "no permission" ordinary -- "$T/stasis" daemon status
        fails "no permission" ordinary -- "$T/stasis" dump process "$pid" --dir "$T/open"
        ordinary "$gid" -- "$T/stasis" dump process "$pid" --dir "$T/open" --name theirs
        [ "$(stat -c '%u %g %a' "$T/open/theirs.stasis")" = "65534 65534 600" ]
        logged "dump .* of process $pid: done in [0-9.]+ ms, for user 65534, group 65534, process [0-9]+ \(stasis\)"
        kill -9 "$pid"
        wait_gone "$pid"
        ordinary "$gid" -- "$T/stasis" restore process --path "$T/open/theirs.stasis" --pid-file "$T/pid"
        [ "$(stat -c %u "$T/pid")" = 65534 ]
        goes_on
}

@test "Socket.Group by number; without it root only; an unknown one: the daemon does not start" {
        start_daemon STASIS_SOCKET_GROUP="$gid"
        [ "$(stat -c '%a %g' "$T/sock")" = "660 $gid" ]
        stop_daemon
        start_daemon
        [ "$(stat -c '%a %u %g' "$T/sock")" = "600 0 0" ]
        stop_daemon
        fails "there is no group no-such-group" env STASIS_SOCKET_GROUP=no-such-group "$STASIS" daemon start
        [ ! -e "$T/sock" ]
}

@test "a socket that was opened by hand lets nobody do anything" {
        start_daemon
        chmod 666 "$T/sock"
        counter
        for what in "dump process $pid" "restore process --path /x" "query process $pid" "daemon status" "daemon check"; do
                # shellcheck disable=SC2086 # words
                fails "user 65534 may not do this: only root may" ordinary -- "$T/stasis" $what
        done
        logged 'refused /stasis.v1.Stasis/Dump, for user 65534, group 65534, process [0-9]+ \(stasis\): user 65534 may not'
        goes_on
}

@test "TLS: dump, query, restore from afar; the UNIX socket stays" {
        start_tls_daemon
        counter
        remote ops dump process "$pid" --dir "$T/ckpt" --name far
        [ -e "$T/ckpt/far.stasis" ]
        logged "dump .* of process $pid: done in .* ms, for CN ops at 127.0.0.1:[0-9]+"
        [ "$(remote ops query process "$pid" --json | jq -r '.[0].PID // .[0].pid // .PID' | head -n 1)" = "$pid" ]
        kill -9 "$pid"
        wait_gone "$pid"
        remote ops restore process --path "$T/ckpt/far.stasis"
        goes_on
        dump process "$pid" --name near
        "$STASIS" daemon status
        remote ops daemon check
        # By name, too: the certificate is for localhost.
        address=localhost:${address##*:} remote ops daemon status
}

@test "one configuration for daemon and tools of a machine: they use its UNIX socket, and TCP only when told" {
        mkdir -p "$T/config"
        jq -n --arg c "$C" --arg t "$T" '{Protocol: "tcp", Address: "127.0.0.1:0", Socket: {Path: "\($t)/own"},
                TLS: {Cert: "\($c)/server.pem", Key: "\($c)/server.key", CA: "\($c)/ca.pem"}}' >"$T/config/config.json"
        unset STASIS_ADDRESS
        "$STASIS" daemon start >>"$T/daemon.log" 2>&1 3>&- </dev/null &
        daemon=$!
        wait_for "[ -S $T/own ] && $STASIS daemon status"
        counter
        dump process "$pid"
        logged "dump .* of process $pid: done in .*, for user 0, group 0, process"
        "$STASIS" daemon status --protocol unix
        address=$(sed -n 's/.*serves \(.*\) by TLS/\1/p' "$T/daemon.log")
        fails "TLS.Root of the daemon does not list it" "$STASIS" daemon status --address "$address"
        "$STASIS" daemon stop
        daemon=""
        # Without the socket it is a client of whoever is at the address.
        fails "127.0.0.1:0" "$STASIS" daemon status
}

@test "TLS: Ctrl-C from afar cancels; IPv6" {
        [ -e /proc/net/if_inet6 ] || skip "no IPv6"
        listen='[::1]:0' start_tls_daemon "${faulty[@]}" STASIS_FAULT=recvmsg:4:pause
        [[ "$address" == "[::1]:"* ]]
        counter
        remote ops dump process "$pid" >"$T/out" 2>&1 &
        client=$!
        wait_for "remote ops daemon status | grep -q 'process $pid'"
        pkill -INT -P "$client" -x stasis || kill -INT "$client"
        wait "$client" || code=$?
        [ "${code:-0}" -eq 130 ]
        grep -q "cancelled: process $pid goes on running" "$T/out"
        nothing_left
        goes_on
}

@test "TLS: a client that is not in TLS.Root may ask for its health only" {
        start_tls_daemon
        counter
        fails "the client bob (CN of its certificate) at 127.0.0.1:" remote bob dump process "$pid"
        [[ "$output" == *'add "bob" to TLS.Root'* ]]
        fails "TLS.Root of the daemon does not list it" remote bob daemon status
        fails "does not have one common name" remote nameless query process "$pid"
        fails "does not have one common name" remote twonames query process "$pid"
        logged 'refused /stasis.v1.Stasis/Dump, for CN bob at 127.0.0.1:'
        fails "stopped on its own machine" remote ops daemon stop
        alive "$daemon"
        grpc bob health
        nothing_left
}

@test "TLS: wrong certificates, said in words on both sides" {
        start_tls_daemon
        fails "refuses our certificate: not signed by a CA that it knows" remote stranger daemon status
        fails "not signed by a CA that it knows" remote self daemon status
        fails "has expired" remote expired daemon status
        fails "not made for this purpose" remote only-server daemon status
        trust=$C/other-ca.pem fails "its certificate is not acceptable" remote ops daemon status
        fails "TLS.Cert is not set" env STASIS_PROTOCOL=tcp STASIS_ADDRESS="$address" "$STASIS" daemon status
        # One that is presented although it has expired, and none at all.
        for client in "-cert $C/expired.pem -key $C/expired.key" ""; do
                # shellcheck disable=SC2086 # words
                timeout 10 openssl s_client -connect "$address" -CAfile "$C/ca.pem" -alpn h2 $client -quiet \
                        </dev/null >"$T/s_client" 2>&1 3>&- || true
        done
        logged 'refused the connection from 127.0.0.1:[0-9]+: its certificate is not acceptable: certificate has expired'
        logged 'refused the connection from .*: it shows no certificate'
        # Old TLS, and no HTTP/2.
        timeout 10 openssl s_client -connect "$address" -cert "$C/ops.pem" -key "$C/ops.key" -tls1_1 \
                -cipher ALL:@SECLEVEL=0 </dev/null >"$T/s_client" 2>&1 3>&- && return 1
        timeout 10 openssl s_client -connect "$address" -cert "$C/ops.pem" -key "$C/ops.key" -alpn http/1.1 \
                </dev/null >"$T/s_client" 2>&1 3>&- && return 1
        logged 'refused the connection from .*: it does not speak HTTP/2'
        printf 'GET / HTTP/1.1\r\n\r\n' | timeout 5 socat - "TCP:$address" >"$T/plain" 3>&- || true
        [ "$(stat -c %s "$T/plain")" -le 7 ]
        logged 'refused the connection from .*: it speaks plain HTTP, not TLS'
        remote ops daemon status
}

@test "TLS: clients that begin and do not go on hold up nobody" {
        start_tls_daemon
        for _ in 1 2 3 4 5 6 7 8; do
                socat -u "EXEC:sleep 60" "TCP:$address" 3>&- >/dev/null 2>&1 &
                helpers="${helpers:-} $!"
        done
        begin=${EPOCHREALTIME/./}
        remote ops daemon status
        [ $((${EPOCHREALTIME/./} - begin)) -lt 3000000 ]
        # The daemon does not wait for them, either.
        begin=${EPOCHREALTIME/./}
        stop_daemon
        [ $((${EPOCHREALTIME/./} - begin)) -lt 3000000 ]
}

@test "a daemon that cannot serve by TLS does not start, and says what to set" {
        start() {
                fails "$1" env STASIS_PROTOCOL=tcp STASIS_ADDRESS="${at:-127.0.0.1:0}" STASIS_SOCKET_PATH="$T/sock" "${@:2}" \
                        timeout 10 "$STASIS" daemon start
                [ ! -e "$T/sock" ]
        }
        good=(STASIS_TLS_CERT="$C/server.pem" STASIS_TLS_KEY="$C/server.key" STASIS_TLS_CA="$C/ca.pem")
        start "TLS.Cert is not set"
        [[ "$output" == *"hint: set TLS.Cert, TLS.Key and TLS.CA"* ]]
        start "TLS.Key is not set" STASIS_TLS_CERT="$C/server.pem"
        start "$C/absent" "${good[@]}" STASIS_TLS_CA="$C/absent"
        start "does not belong to" "${good[@]}" STASIS_TLS_KEY="$C/ops.key"
        start "has expired" "${good[@]}" STASIS_TLS_CERT="$C/expired.pem" STASIS_TLS_KEY="$C/expired.key"
        cp "$C/server.key" "$T/key"
        chmod 640 "$T/key"
        start "must be readable by nobody but root" "${good[@]}" STASIS_TLS_KEY="$T/key"
        openssl ec -in "$C/server.key" -aes128 -passout pass:x -out "$T/locked" 2>/dev/null
        chmod 600 "$T/locked"
        start "is encrypted" "${good[@]}" STASIS_TLS_KEY="$T/locked"
        at=$T/sock start "is not a TCP address" "${good[@]}"
        start_tls_daemon
        stop=$daemon
        at=$address
        fails "cannot listen at $address" env STASIS_PROTOCOL=tcp STASIS_ADDRESS="$address" STASIS_SOCKET_PATH="$T/other" \
                STASIS_DB_PATH="$T/other.db" STASIS_RUN_DIR="$T/other.run" \
                "${good[@]}" timeout 10 "$STASIS" daemon start
        alive "$stop"
}

@test "UID and GID of a restore: files that are made for it belong to them" {
        start_tls_daemon
        # Its output goes into a pipe to a process outside: the restore needs a file for it.
        exec 7> >(exec cat >"$T/cat" 3>&-)
        setsid sh -c 'while :; do echo x; sleep 0.02; done' </dev/null 2>/dev/null 3>&- >&7 7>&- &
        pid=$!
        exec 7>&-
        targets+=("$pid")
        wait_for "[ -s $T/cat ]"
        dump process "$pid" --stop
        wait_gone "$pid"
        fields=$(jq -nc --arg t "$T" '{UID: 1234, GID: 2345, Groups: [7], Env: ["A=b"], Log: "\($t)/out", PidFile: "\($t)/pid"}')
        grpc bob restore "$checkpoint" "$fields" || true
        [ "$(jq -r .code <<<"$reply")" = PERMISSION_DENIED ]
        [ ! -e "$T/out" ] && [ ! -e "$T/pid" ]
        grpc ops restore "$checkpoint" "$fields" || { echo "$reply"; false; }
        [ "$(stat -c '%u %g %a' "$T/out")" = "1234 2345 600" ]
        [ "$(stat -c '%u %g' "$T/pid")" = "1234 2345" ]
        wait_for "[ -s $T/out ]"
        # A file that was there stays whose it is.
        kill -9 "$pid"
        wait_gone "$pid"
        chown 42 "$T/out"
        grpc ops restore "$checkpoint" "$fields" || { echo "$reply"; false; }
        [ "$(stat -c %u "$T/out")" = 42 ]
}

@test "Python's grpcio by mutual TLS; health by service" {
        start_tls_daemon
        counter
        grpc ops health
        grpc ops health daemon.Daemon
        grpc ops query "$pid"
        [ "$(jq -r '.response.States[0].PID' <<<"$reply")" = "$pid" ]
        grpc ops dump "$pid" "$T/ckpt" one
        [ -e "$T/ckpt/one.stasis" ]
        run ! grpc ops health no.such.Service
        grpc ops health no.such.Service || true
        [ "$(jq -r .code <<<"$reply")" = NOT_FOUND ]
        grpc bob query "$pid" || true
        [ "$(jq -r .code <<<"$reply")" = PERMISSION_DENIED ]
        grpc stranger health || true
        [ "$(jq -r .code <<<"$reply")" = UNAVAILABLE ]
        goes_on
}
