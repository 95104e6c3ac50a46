# SPDX-License-Identifier: Apache-2.0
#
# A directory of plugins of the test's own. Needs start_test first:
#
#   setup() { start_test; plugins_start; }
#   teardown() { end_test; plugins_end; }
# shellcheck shell=bash

# plugins_start [FILE…]: makes $P with these files below the build directory, and has stasis load from there.
plugins_start() {
        # Plugins load only from below directories that nobody but root can change: /tmp is none.
        P=$(mktemp -d /run/stasis-test.XXXXXX)
        export P STASIS_PLUGINS_LIB_DIR=$P
        plugins_add "$@"
}

# plugins_add FILE…: the way a package does it, never into a file that is in use.
plugins_add() {
        [ $# -eq 0 ] || install -m 644 "${@/#/$STASIS_BUILD/}" "$P/"
}

plugins_end() {
        [ -z "${P:-}" ] || rm -rf "$P"
}
