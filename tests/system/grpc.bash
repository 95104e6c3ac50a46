# SPDX-License-Identifier: Apache-2.0
#
# Somebody else's client of the API: grpcio_client.py, for tests that set GRPC_PYTHON to a Python with grpcio.
# shellcheck shell=bash disable=SC2154 # T is set by common.bash

CLIENT=$BATS_TEST_DIRNAME/grpcio_client.py

# grpc COMMAND ARGUMENT…: what the client answers, in $reply; must be what its command expects.
grpc() {
        reply=$("${GRPC_PYTHON:?a Python with grpcio}" "$CLIENT" --socket "$T/sock" --build "$STASIS_BUILD" \
                --stubs "$BATS_FILE_TMPDIR/stubs" "$@" 2>"$T/client.err" 3>&-) ||
                { cat "$T/client.err"; echo "$reply"; return 1; }
}

# field FILTER: of the reply.
field() { jq -r "$1" <<<"$reply"; }
