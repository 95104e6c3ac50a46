#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The API, as programs see it that share nothing with stasis but the .proto files: a Python with grpcio, and curl.
# shellcheck disable=SC2154,SC2153 # set by common.bash, grpc.bash and bats

bats_require_minimum_version 1.5.0
load common
load grpc

# Named here: scripts/run-tests provides it to those who do.
export GRPC_PYTHON=${STASIS_PYTHON:-}

setup() { start_test; }

teardown() {
        [ -z "${client:-}" ] || kill -9 "$client" 2>/dev/null || true
        end_test
}

idle() {
        wait_for "[ \"\$($STASIS daemon status --json | jq '.Operations // [] | length')\" = 0 ]" 10
}

@test "health, query, dump, restore: a process goes round" {
        counter
        start_daemon
        grpc health
        grpc query "$pid"
        [ "$(field '.response.States[0].PID')" = "$pid" ]
        [[ "$(field '.response.States[0].Cmdline')" == sh* ]]
        grpc dump "$pid" "$T/ckpt" one
        [ "$(field '.response.Paths[0]')" = "$T/ckpt/one.stasis" ]
        [ "$(field '.response.State.PID')" = "$pid" ]
        [ "$(field '.trailers | index("stasis-profile-bin") != null')" = true ]
        goes_on
        grpc dump "$pid" "$T/ckpt" two none
        [ -d "$T/ckpt/two" ]
        for path in one.stasis two; do
                kill -9 "$pid"
                wait_gone "$pid"
                before=$(lines "$T/count")
                grpc restore "$T/ckpt/$path"
                [ "$(field .response.PID)" = "$pid" ]
                alive "$pid"
                wait_lines "$T/count" "$((before + 3))"
        done
        idle
}

@test "each wrong request has its status, and does nothing" {
        counter
        start_daemon
        grpc dump "$pid" "$T/ckpt" here
        grpc error
        grpc unimplemented
        grpc statuses "$pid" "$T/ckpt" here || { field .different; return 1; }
        [ "$(field .checked)" -gt 20 ]
        [ "$(ls -A "$T/ckpt")" = here.stasis ]
        goes_on
        grpc health
}

@test "a deadline that passes: the target lives, nothing is left, the daemon serves on" {
        counter
        start_slow_daemon
        grpc deadline "$pid" "$T/ckpt" late 1
        [ "$(field .code)" = DEADLINE_EXCEEDED ]
        idle
        nothing_left
        goes_on
        # So short that nothing begins.
        grpc deadline "$pid" "$T/ckpt" later
        idle
        nothing_left
        goes_on
}

@test "a client that cancels: the target lives, nothing is left, the daemon serves on" {
        counter
        start_slow_daemon
        grpc cancel "$pid" "$T/ckpt" cancelled 1
        [ "$(field .code)" = CANCELLED ]
        idle
        nothing_left
        goes_on
}

@test "a client that is killed during a dump: cancelled, the target lives, nothing is left" {
        counter
        start_slow_daemon
        "$STASIS_PYTHON" "$CLIENT" --socket "$T/sock" --build "$STASIS_BUILD" --stubs "$BATS_FILE_TMPDIR/stubs" \
                dump "$pid" "$T/ckpt" orphan >"$T/client.out" 2>&1 3>&- &
        client=$!
        wait_for "$STASIS daemon status --json | jq -e '.Operations | length == 1'" 20
        sleep 0.5
        kill -9 "$client"
        wait "$client" || true
        idle
        grep -q 'dump .* of process '"$pid"': .*cancel' "$T/daemon.log"
        nothing_left
        goes_on
}

@test "a hundred queries at once, on one connection and on fifty" {
        counter
        start_daemon
        grpc queries 50 "$pid" $$
        [ "$(field .calls)" = 100 ]
        idle
        wait_for "[ -z \"\$(cat /proc/$daemon/task/$daemon/children)\" ]"
        [ -z "$(ls -A "$T/run/w")" ]
}

@test "invalid UTF-8 in a command line, a name and a message does not break a client" {
        mkdir "$T/dir"
        target python3 -c 'import sys, time
open("/proc/self/comm", "wb").write(b") R\n\xff\x1b(1")
held = open(sys.argv[1].encode("utf-8", "surrogateescape") + b"/fi\nle\xfe", "w")
open(sys.argv[1] + "/ready", "w")
time.sleep(1000)' "$T/dir" $'li\nne\xff\xc3'
        wait_for "[ -e $T/dir/ready ]"
        start_daemon
        grpc query "$pid"
        [ "$(field '.response.States[0].PID')" = "$pid" ]
        [[ "$(field '.response.States[0].Cmdline')" == *li*ne* ]]
        grpc dump "$pid" "$T/ckpt" odd
        # The error names the process that has the PID.
        run grpc restore "$T/ckpt/odd.stasis"
        [ "$status" -eq 1 ]
        [[ "$output" == *ALREADY_EXISTS*"PID $pid is taken"* ]]
}

# raw PATH [FRAME [CURL ARGUMENT…]]: a request, of an empty message unless told (as printf(1) has it); headers and
# trailers in $T/head, the body in $T/body. Some versions of curl lose an answer that comes before they have sent all,
# and end with 92: an error may do so (RFC 9113, 8.1).
raw() {
        local i
        # shellcheck disable=SC2059
        printf "${2:-\\0\\0\\0\\0\\0}" >"$T/frame"
        for ((i = 0; i < 20; i++)); do
                rm -f "$T/head"
                : >"$T/body"
                curl --silent --show-error --max-time 20 --http2-prior-knowledge --unix-socket "$T/sock" \
                        --data-binary "@$T/frame" -H "content-type: ${type:-application/grpc}" -H 'te: trailers' \
                        -D "$T/head" -o "$T/body" "${@:3}" "http://localhost$1" 3>&- && return 0 || [ $? = 92 ] || return 1
        done
        return 1
}

header() { tr -d '\r' <"$T/head" | sed -n "s/^$1: //p" | tail -n 1; }

@test "curl: gRPC by hand" {
        curl --version | grep -q HTTP2 || skip "this curl has no HTTP/2"
        start_daemon
        raw /daemon.Daemon/HealthCheck
        head -n 1 "$T/head" | grep -q '^HTTP/2 200'
        [ "$(header content-type)" = application/grpc ]
        [ "$(header grpc-status)" = 0 ]
        # One message: not compressed, as long as it says, with the check of CRIU in it.
        python3 -c 'import struct, sys
data = open(sys.argv[1], "rb").read()
compressed, length = struct.unpack(">BI", data[:5])
assert compressed == 0 and length == len(data) - 5 and b"CRIU" in data, data' "$T/body"

        raw /grpc.health.v1.Health/Check
        [ "$(od -An -tx1 "$T/body" | tr -d ' \n')" = 00000000020801 ]
        raw /daemon.Daemon/NoSuchMethod
        [ "$(header grpc-status)" = 12 ] && [ ! -s "$T/body" ]
        raw /no.such.Service/Dump
        [ "$(header grpc-status)" = 12 ]
        raw /daemon.Daemon/Query
        [ "$(header grpc-status)" = 3 ]
        [[ "$(header grpc-message)" == *"names no process"* ]]
}

# Answered, but not with success.
is_refused() {
        [ -s "$T/head" ] && ! grep -q '^grpc-status: 0' "$T/head"
}

@test "curl: what is no gRPC is refused, and the daemon serves on" {
        curl --version | grep -q HTTP2 || skip "this curl has no HTTP/2"
        start_daemon
        type=text/plain raw /daemon.Daemon/HealthCheck
        head -n 1 "$T/head" | grep -q '^HTTP/2 415'
        raw /daemon.Daemon/HealthCheck '' -X PUT
        is_refused
        # A message that is longer than what comes, one that is longer than any may be, a compressed one, two instead of one.
        for frame in '\0\0\0\0\377' '\0\377\377\377\377' '\1\0\0\0\0' '\0\0\0\0\0\0\0\0\0\0' '\0'; do
                raw /daemon.Daemon/HealthCheck "$frame"
                is_refused || { echo "$frame"; cat "$T/head"; return 1; }
        done
        raw /daemon.Daemon/HealthCheck '\0\377\377\377\377'
        [ "$(header grpc-status)" = 8 ]
        raw /daemon.Daemon/HealthCheck '\1\0\0\0\0'
        [ "$(header grpc-status)" = 12 ]
        # HTTP/1, and noise.
        run curl --silent --max-time 5 --http1.1 --unix-socket "$T/sock" http://localhost/ 3>&-
        [ "$status" -ne 0 ]
        head -c 100000 /dev/urandom | timeout 5 python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(sys.stdin.buffer.read())
    assert len(s.recv(65536)) < 1000
except (BrokenPipeError, ConnectionResetError):
    pass' "$T/sock"
        raw /grpc.health.v1.Health/Check
        [ "$(header grpc-status)" = 0 ]
        alive "$daemon"
}
