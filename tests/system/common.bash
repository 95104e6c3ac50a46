# SPDX-License-Identifier: Apache-2.0
#
# What every system test starts with: private directories, a daemon of its own, targets that are ended and reaped.
# shellcheck shell=bash disable=SC2034 # what the tests use is set here

: "${STASIS:?the stasis to test}" "${STASIS_BUILD:?its build directory}"

export PROGRAMS=$STASIS_BUILD/tests/system

# What makes STASIS_FAULT count (fault.c): start_daemon "${faulty[@]}" STASIS_FAULT=…, env "${faulty[@]}" …
faulty=("LD_PRELOAD=$PROGRAMS/fault.so" "ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0")

# A directory for the test, and everything of stasis in it. Short: UNIX sockets lie below it.
start_test() {
        T=$(mktemp -d /tmp/st.XXXXXX)
        export STASIS_ADDRESS=$T/sock STASIS_RUN_DIR=$T/run STASIS_LOG_DIR=$T/log STASIS_CHECKPOINT_DIR=$T/ckpt
        export STASIS_CONFIG_DIR=$T/config STASIS_DB_PATH=$T/stasis.db
        targets=()
        daemon=""
}

end_test() {
        local pid
        for pid in "${targets[@]}"; do
                kill_tree "$pid"
        done
        stop_daemon
        # A restored process belongs to its supervisor, not to the test.
        for pid in "${targets[@]}"; do
                wait_gone "$pid" || true
        done
        rm -rf "$T"
        # Those of jobs that ended without a daemon. A younger one may be another test's.
        find /sys/fs/cgroup/freezer/stasis-jobs /sys/fs/cgroup/stasis-jobs -mindepth 1 -maxdepth 1 -name '*@*' \
                -mmin +1 -exec rmdir {} + 2>/dev/null || true
}

# kill_tree PID: SIGKILL to it and everything below it.
kill_tree() {
        local child
        [ -e "/proc/$1" ] || return 0
        # shellcheck disable=SC2013 # words of a line
        for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
                kill_tree "$child"
        done
        kill -9 "$1" 2>/dev/null || true
}

start_daemon() { # start_daemon [VARIABLE=VALUE…]
        env "$@" "$STASIS" daemon start >>"$T/daemon.log" 2>&1 3>&- </dev/null &
        daemon=$!
        wait_for "$STASIS daemon status" || { cat "$T/daemon.log"; return 1; }
}

# A daemon whose dumps take three seconds longer, the target frozen.
start_slow_daemon() { start_daemon "${faulty[@]}" STASIS_FAULT=recvmsg:4:pause; }

stop_daemon() {
        [ -n "$daemon" ] || return 0
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
        daemon=""
}

# wait_for COMMAND [SECONDS]: until it succeeds.
wait_for() {
        local i
        for ((i = 0; i < ${2:-10} * 50; i++)); do
                eval "$1" >/dev/null 2>&1 && return 0
                sleep 0.02
        done
        echo "waited in vain for: $1" >&2
        return 1
}

# alive PID: exists and is no zombie.
alive() {
        local state
        state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
        [ -n "$state" ] && [ "$state" != Z ]
}

# wait_gone PID: reaped, and no child of it is left in its group or session: the number is free.
wait_gone() {
        wait_for "[ ! -e /proc/$1 ] && ! pgrep -g $1 >/dev/null && ! pgrep -s $1 >/dev/null" 10
}

# target COMMAND…: starts it in a session of its own, with no stream of ours; sets $pid.
target() {
        setsid "$@" </dev/null >"$T/target.out" 2>&1 3>&- &
        pid=$!
        targets+=("$pid")
        wait_for "[ \"\$(readlink /proc/$pid/exe)\" != /usr/bin/setsid ] &&
                [ \"\$(ps -o sid= -p $pid | tr -d ' ')\" = $pid ]"
}

# A target that counts, and must go on counting; sets $pid.
counter() {
        # shellcheck disable=SC2016
        target sh -c 'i=0; while :; do i=$((i + 1)); echo $i >>"$0"; sleep 0.02; done' "$T/count"
        wait_lines "$T/count" 3
}

goes_on() {
        alive "$pid"
        wait_lines "$T/count" $(($(lines "$T/count") + 3))
}

# ticker MIB: a target that holds so much memory; ready when this returns.
ticker() {
        target "$PROGRAMS/ticker" "$1" "$T/tick"
        # Its handler of SIGUSR1 (bit 9) is set when the memory is filled.
        wait_for "[ \$((0x\$(sed -n 's/^SigCgt:[[:space:]]*//p' /proc/$pid/status) & 0x200)) -ne 0 ]" 30
}

# Is the memory of the ticker as it was? Asks it.
intact() {
        rm -f "$T/tick"
        kill -USR1 "$pid"
        wait_for "grep -q intact $T/tick" 30
}

# A file that grows by lines: how many now?
lines() {
        local n
        n=$(wc -l 2>/dev/null <"$1") || n=0
        echo "$n"
}

# wait_lines FILE N: until it has more than N lines.
wait_lines() {
        wait_for "[ \$(wc -l <$1) -gt $2 ]"
}

# dump ARGUMENT…: must succeed; sets $checkpoint to the path its last line ends with.
dump() {
        "$STASIS" dump "$@" >"$T/dump.out" 2>"$T/dump.err" 3>&- || { cat "$T/dump.out" "$T/dump.err" >&2; return 1; }
        checkpoint=$(awk 'END { print $NF }' "$T/dump.out")
        [ -e "$checkpoint" ]
}

# saved NAME: prints a file of the $checkpoint.
saved() {
        rm -rf "$T/saved"
        "$STASIS" checkpoint export "$checkpoint" "$T/saved" >/dev/null
        cat "$T/saved/$1"
}

restore() {
        "$STASIS" restore "$@" >"$T/restore.out" 2>"$T/restore.err" 3>&- ||
                { cat "$T/restore.out" "$T/restore.err" >&2; return 1; }
}

# restore_no_server ARGUMENT…: in the background, where it stays as the parent; sets $restorer.
restore_no_server() {
        rm -f "$T/restore.out" # of the one before
        "$STASIS" restore "$@" --no-server </dev/null >"$T/restore.out" 2>"$T/restore.err" 3>&- &
        restorer=$!
        wait_for "grep -q restored $T/restore.out || ! alive $restorer" 20
        alive "$pid" || { cat "$T/restore.out" "$T/restore.err" >&2; return 1; }
}

# Nothing of a failed dump may be left: no checkpoint, no hidden file, no work directory.
nothing_left() {
        local found
        found=$(find "$T/ckpt" -mindepth 1 2>/dev/null) || true
        [ -z "$found" ] || { echo "left in the checkpoint directory: $found" >&2; return 1; }
        wait_for "[ -z \"\$(ls -A $T/run/w 2>/dev/null)\" ]" 5
}
