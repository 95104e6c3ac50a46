#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Files that processes write to come back to what they were at the dump, and no byte is ever lost.
# shellcheck disable=SC2154,SC2030,SC2031 # set by common.bash; each test is a subshell
bats_require_minimum_version 1.5.0

load common

setup() {
        start_test
        mounted=""
        other=""
}

teardown() {
        [ -z "$other" ] || kill -9 "$other" 2>/dev/null || true
        [ -z "$mounted" ] || umount -l "$mounted"
        end_test
}

# fails TEXT COMMAND…: must fail, with TEXT (an extended regular expression) in its one line of error.
fails() {
        local text=$1
        shift
        run timeout -k 5 20 "$@" 3>&-
        [ "$status" -ne 0 ] || { echo "it succeeded: $*"; return 1; }
        grep -E '^stasis: error:' <<<"$output" | grep -qE -e "$text" || { echo "no '$text' in: $output"; return 1; }
        [ "$(grep -c '^stasis: error:' <<<"$output")" -eq 1 ] || { echo "not one error line: $output"; return 1; }
}

# writer HOW FILE…: the target; its first file is $F.
writer() {
        F=$2
        target "$PROGRAMS/writer" "$@"
        wait_for "[ -s $F ]"
}

# snap [ARGUMENT…]: a dump of the target, which runs on. $checkpoint.
snap() {
        dump process "$pid" --no-server --compression none --name "ckpt-$((snaps += 1))" "$@"
}

# Ends the target and remembers how its file is then.
crash() {
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
        cp -a "$F" "$F.crashed"
}

# here [ARGUMENT…]: restores it without a daemon. (restore_no_server waits for what restore.out says.)
here() {
        rm -f "$T/restore.out"
        restore_no_server process --path "$checkpoint" "$@"
}

# back [ARGUMENT…]: restores it with its files rolled back.
back() {
        here --files=rollback "$@"
}

# record FILTER: of what the checkpoint says of the file $F, by a filter of jq.
record() {
        jq -re ".files[] | select(.path == \"$F\") | $1" "$checkpoint/stasis.files"
}

size_at_dump() {
        record .size
}

# saved: the path of the file's content in the checkpoint.
saved() {
        echo "$checkpoint/$(record .content)"
}

# the_only SUFFIX: the one companion of the file.
the_only() {
        local found=("$F.stasis-$1"-*)
        if [ "${#found[@]}" -ne 1 ] || [ ! -e "${found[0]}" ]; then
                echo "not one: ${found[*]}"
                return 1
        fi
        echo "${found[0]}"
}

no_companions() {
        local found
        found=$(find "$T" -name '*.stasis-*')
        [ -z "$found" ] || { echo "left: $found"; return 1; }
}

# Lines 1, 2, 3, …: no gap, none twice.
counts() {
        awk '$1 != NR { print "line " NR " is " $0; exit 1 }' "$1"
}

# What the file had at the dump and the tail that was cut off are what was there when it crashed, byte for byte.
nothing_lost() {
        local tail tails=0
        for tail in "$F".stasis-tail-*; do
                { head -c "$(size_at_dump)" "$F" && cat "$tail"; } | cmp - "$F.crashed" || return 1
                tails=$((tails + 1))
        done
        [ "$tails" -ge 1 ]
}

grows_and_rolls_back() { # HOW
        writer "$1" "$T/out"
        wait_lines "$F" 20
        snap
        wait_lines "$F" $(($(lines "$F") + 20))
        crash
        back
        wait_lines "$F" $(($(wc -l <"$F.crashed") + 5))
        nothing_lost
        [ -n "$(the_only tail)" ]
        counts "$F"
        [ "$(stat -c %a:%u:%g "$(the_only tail)")" = "$(stat -c %a:%u:%g "$F")" ]
        grep -q "cut $F from .*: the rest is in $F.stasis-tail" "$T/restore.err"
}

@test "a program that appends lines: no gap, none twice, the tail is kept" {
        grows_and_rolls_back append
}

@test "the same when it writes at a position" {
        grows_and_rolls_back plain
}

@test "the same through the daemon, from an archive, after --stop" {
        writer append "$T/out"
        wait_lines "$F" 10
        start_daemon
        dump process "$pid" --stop
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
        before=$(sha256sum <"$F")
        echo foreign >>"$F"
        restore process --path "$checkpoint" --files=rollback
        wait_lines "$F" 20
        counts "$F"
        [ "$(cat "$(the_only tail)")" = foreign ]
        [ "$(head -c "$(stat -c %s "$F")" "$F" | sha256sum)" != "$before" ]
}

@test "without being asked, a file that CRIU would refuse stops the restore; the message names it" {
        writer plain "$T/out"
        snap
        size=$(size_at_dump)
        wait_lines "$F" $(($(lines "$F") + 5))
        crash
        now=$(stat -c %s "$F")
        fails "$F grew from $size to $now bytes .*--files=rollback puts it back, --files=keep" \
                "$STASIS" restore process --path "$checkpoint" --no-server
        fails 'files.*rollback,all' "$STASIS" restore process --path "$checkpoint" --no-server --files=rollback,all
        cmp "$F" "$F.crashed"
        [ ! -e "/proc/$pid" ]
        no_companions
}

@test "an appended file that grew is only told of" {
        writer append "$T/out"
        snap
        wait_lines "$F" $(($(lines "$F") + 5))
        crash
        here
        grep -q "$F grew from .*would come twice: --files=rollback" "$T/restore.err"
        no_companions
}

@test "two checkpoints, restored one after the other" {
        writer plain "$T/out"
        wait_lines "$F" 10
        snap
        first=$checkpoint
        wait_lines "$F" $(($(lines "$F") + 10))
        snap
        wait_lines "$F" $(($(lines "$F") + 10))
        crash
        back
        wait_lines "$F" $(($(wc -l <"$F.crashed") + 5))
        counts "$F"
        second=$checkpoint checkpoint=$first
        crash
        wait "$restorer" || true
        back
        wait_lines "$F" $(($(wc -l <"$F.crashed") + 5))
        counts "$F"
        # Back to the second: the file is longer or shorter than it was then; its content was saved.
        checkpoint=$second
        crash
        wait "$restorer" || true
        back
        wait_lines "$F" $(($(wc -l <"$F.crashed") + 5))
        counts "$F"
}

@test "a file that is written over: its saved content comes back, the present one is kept" {
        head -c 5000 /dev/urandom >"$T/data"
        writer update "$T/data"
        snap
        wait_for "[ \$(head -c 16 $F | sed 's/^0*//') -gt 30 ]"
        crash
        back
        cmp "$(the_only kept)" "$F.crashed"
        [ "$(stat -c %s "$F")" -eq 5000 ]
        cmp -i 16 "$F" "$F.crashed"
        wait_for "[ \$(head -c 16 $F | sed 's/^0*//') -gt 30 ]"
}

@test "a shared mapping" {
        writer mapped "$T/map"
        sleep 0.2
        snap
        record .mapped
        cp "$(saved)" "$T/saved"
        sleep 0.2
        kill -STOP "$pid"
        run ! cmp -s "$F" "$T/saved"
        # A new mapping writes on by itself: stopped, it shows what it got.
        crash
        back --leave-stopped
        cmp "$F" "$T/saved"
        cmp "$(the_only kept)" "$F.crashed"
        kill -CONT "$pid"
        wait_for "! cmp -s $F $T/saved"
}

@test "replaced by another file (log rotation), shrunk, missing" {
        writer append "$T/out"
        wait_lines "$F" 5
        snap
        size=$(size_at_dump)
        crash
        saved=$(head -c "$size" "$F" | sha256sum)

        mv "$F" "$F.1"
        echo new >"$F"
        fails "$F shrank from $size to 4 bytes" "$STASIS" restore process --path "$checkpoint" \
                --no-server
        back --leave-stopped
        [ "$(sha256sum <"$F")" = "$saved" ]
        [ "$(cat "$(the_only kept)")" = new ]
        rm "$(the_only kept)"

        crash
        wait "$restorer" || true
        truncate -s 3 "$F"
        back --leave-stopped
        [ "$(sha256sum <"$F")" = "$saved" ]
        [ "$(stat -c %s "$(the_only kept)")" -eq 3 ]
        rm "$(the_only kept)"

        crash
        wait "$restorer" || true
        rm "$F"
        fails "$F is missing .*--files=rollback" "$STASIS" restore process --path "$checkpoint" --no-server
        fails "$F is missing" "$STASIS" restore process --path "$checkpoint" --no-server --files=keep
        back --leave-stopped
        [ "$(sha256sum <"$F")" = "$saved" ]
        [ "$(stat -c %a "$F")" = 640 ]
        no_companions
}

@test "emptied and filled anew by more than it had (copytruncate)" {
        writer append "$T/out"
        wait_lines "$F" 5
        snap --files=record
        crash
        # The same inode, longer, but other bytes: cutting it would not make it what it was.
        cat "$F.crashed" "$F.crashed" | tr 0-9 a-j >"$F"
        fails "$F was rewritten: .*its content is not in the checkpoint" "$STASIS" restore process \
                --path "$checkpoint" --no-server --files=rollback
        no_companions
}

@test "a file with other names keeps its inode" {
        writer update "$T/data"
        ln "$F" "$T/also"
        snap
        wait_for "[ \$(sed 's/^0*//' $F) -gt 30 ]"
        crash
        inode=$(stat -c %i "$F")
        back --leave-stopped
        [ "$(stat -c %i "$F" "$T/also" | sort -u)" = "$inode" ]
        cmp "$F" "$(saved)"
        cmp "$(the_only kept)" "$F.crashed"
}

@test "a restore that fails puts everything back" {
        writer append "$T/out"
        head -c 5000 /dev/urandom >"$T/data"
        other_pid=$pid
        snap
        wait_lines "$F" $(($(lines "$F") + 5))
        crash
        stat -c '%i %s %y %a' "$F" >"$T/before"
        # CRIU gets as far as the pages.
        pages=$checkpoint/pages-1.img
        printf 'X' | dd of="$pages" bs=1 seek=$(($(stat -c %s "$pages") / 2)) conv=notrunc status=none
        fails 'pages-1.img' "$STASIS" restore process --path "$checkpoint" --no-server --files=rollback
        cmp "$F" "$F.crashed"
        stat -c '%i %s %y %a' "$F" | diff "$T/before" -
        no_companions
        [ "$other_pid" = "$pid" ]
}

@test "the same with content put back" {
        head -c 5000 /dev/urandom >"$T/data"
        writer update "$T/data"
        snap
        wait_for "[ \$(head -c 16 $F | sed 's/^0*//') -gt 30 ]"
        crash
        stat -c '%i %s %y %a' "$F" >"$T/before"
        pages=$checkpoint/pages-1.img
        printf 'X' | dd of="$pages" bs=1 seek=$(($(stat -c %s "$pages") / 2)) conv=notrunc status=none
        fails 'pages-1.img' "$STASIS" restore process --path "$checkpoint" --no-server --files=rollback
        cmp "$F" "$F.crashed"
        stat -c '%i %s %y %a' "$F" | diff "$T/before" -
        no_companions
}

@test "killed at any step, no byte is lost and the next rollback works" {
        writer append "$T/out"
        wait_lines "$F" 5
        snap
        wait_lines "$F" $(($(lines "$F") + 5))
        crash
        size=$(size_at_dump)
        for fault in fsync:1:kill linkat:1:kill linkat:1:after fsync:2:kill ftruncate:1:kill ftruncate:1:after \
                futimens:1:kill futimens:1:after; do
                env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=$fault "$STASIS" restore process \
                        --path "$checkpoint" --no-server --files=rollback >/dev/null 2>&1 3>&- && return 1
                wait_gone "$pid"
                if [ "$(stat -c %s "$F")" -eq "$size" ]; then
                        nothing_lost
                else
                        cmp "$F" "$F.crashed"
                fi
                back --leave-stopped
                [ "$(stat -c %s "$F")" -eq "$size" ]
                # A rollback that was killed may have left its copy of the tail, too.
                nothing_lost
                kill -9 "$pid"
                wait "$restorer" || true
                wait_gone "$pid"
                rm -f "$F".stasis-tail-*
                cp -a "$F.crashed" "$T/again"
                cat "$T/again" >"$F"
        done
}

@test "killed at any step while content is put back" {
        head -c 3000 /dev/urandom >"$T/data"
        writer update "$T/data"
        snap
        wait_for "[ \$(head -c 16 $F | sed 's/^0*//') -gt 30 ]"
        crash
        for fault in fsync:1:kill linkat:1:after renameat2:1:kill renameat2:1:after; do
                env "${faulty[@]}" STASIS_FAULT_ANY=1 STASIS_FAULT=$fault "$STASIS" restore process \
                        --path "$checkpoint" --no-server --files=rollback >/dev/null 2>&1 3>&- && return 1
                wait_gone "$pid"
                cat "$F" "$F".stasis-kept-* 2>/dev/null | grep -qF "$(head -c 16 "$F.crashed")"
                back --leave-stopped
                cmp "$F" "$(saved)"
                kill -9 "$pid"
                wait "$restorer" || true
                wait_gone "$pid"
                rm -f "$F".stasis-kept-*
                cat "$F.crashed" >"$F"
        done
}

@test "a rollback for which there is no room changes nothing" {
        mkdir "$T/small"
        mount -t tmpfs -o size=128k tmpfs "$T/small"
        mounted=$T/small
        F=$T/small/out
        target "$PROGRAMS/writer" append "$T/other" "$F"
        wait_lines "$F" 5
        snap
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
        head -c 90000 /dev/urandom >>"$F"
        cp "$F" "$T/crashed"
        echo more >>"$T/other"
        fails "no space left in $T/small to save the tail of $F" "$STASIS" restore process --path "$checkpoint" \
                --no-server --files=rollback
        cmp "$F" "$T/crashed"
        [ "$(tail -n 1 "$T/other")" = more ]
        no_companions
}

@test "a file that is only read: named, kept when asked" {
        echo one >"$T/log"
        writer read "$T/log"
        snap
        crash
        echo two >>"$F"
        fails "$F grew from 4 to 8 bytes .*--files=keep" "$STASIS" restore process --path "$checkpoint" --no-server
        fails "$F grew .*the process only reads it.*--files=rollback,keep" "$STASIS" restore process \
                --path "$checkpoint" --no-server --files=rollback
        here --files=keep
        kill -9 "$pid"
        wait "$restorer" || true
        wait_gone "$pid"
        chmod 600 "$F"
        here --files=rollback,keep
        no_companions
}

@test "the permissions alone" {
        writer append "$T/out"
        snap
        crash
        cp -a "$F.crashed" "$T/x"
        chmod 600 "$F"
        truncate -s "$(size_at_dump)" "$F"
        fails "$F has the mode 0600 instead of 0640|$F was changed" "$STASIS" restore process --path "$checkpoint" \
                --no-server
        back --leave-stopped
        [ "$(stat -c %a "$F")" = 640 ]
        no_companions
}

@test "another process that writes to it: named, not rolled back" {
        writer plain "$T/out"
        snap
        wait_lines "$F" $(($(lines "$F") + 3))
        crash
        sleep 100 >>"$F" 3>&- &
        other=$!
        fails "$F .*process $other \(sleep.* has it open for writing" "$STASIS" restore process \
                --path "$checkpoint" --no-server --files=rollback
        cmp "$F" "$F.crashed"
        no_companions
}

@test "a log that others write to, too, is used as it is" {
        writer append "$T/out"
        snap
        crash
        sleep 100 >>"$F" 3>&- &
        other=$!
        echo theirs >>"$F"
        back --leave-stopped
        grep -q "$F grew from .*process $other .*has it open for writing" "$T/restore.err"
        grep -q theirs "$F"
        no_companions
}

@test "a planted symbolic link is not followed" {
        writer append "$T/out"
        snap
        crash
        cp "$F" "$T/victim"
        echo secret >>"$T/victim"
        cp "$T/victim" "$T/victim.before"
        ln -sf "$T/victim" "$F"
        fails 'symbolic link' "$STASIS" restore process --path "$checkpoint" --no-server --files=rollback
        cmp "$T/victim" "$T/victim.before"
        no_companions
}

@test "what is saved: --files, Checkpoint.FilesLimit, deleted files" {
        head -c 2000000 /dev/urandom >"$T/big"
        writer update "$T/big" "$T/small" "$T/gone"
        wait_for "[ -s $T/gone ]"
        rm "$T/gone"
        snap --files=none
        [ ! -e "$checkpoint/stasis.files" ]
        snap --files=record
        [ "$(jq "[.files[].path | select(startswith(\"$T\"))] | length" "$checkpoint/stasis.files")" -eq 3 ]
        [ -z "$(find "$checkpoint" -name 'stasis.file-*')" ]
        snap
        jq -e ".files[] | select(.path == \"$T/small\") | .content" "$checkpoint/stasis.files"
        jq -e ".files[] | select(.path == \"$T/big\") | .content == null" "$checkpoint/stasis.files"
        STASIS_CHECKPOINT_FILES_LIMIT=0 snap
        jq -e 'all(.files[]; .content == null)' "$checkpoint/stasis.files"
        snap --files=copy
        jq -e 'all(.files[]; .content != null or .size == 0)' "$checkpoint/stasis.files"
        crash
        back --leave-stopped
        cmp "$F" "$(saved)"
        fails 'files' "$STASIS" dump process "$pid" --no-server --files=all
}

@test "what did not fit is said" {
        writer update "$T/a"
        truncate -s 200000 "$T/a"
        STASIS_CHECKPOINT_FILES_LIMIT=300000 snap
        run ! grep -q 'not in the checkpoint' "$T/dump.out" "$T/dump.err"
        STASIS_CHECKPOINT_FILES=copy STASIS_CHECKPOINT_FILES_LIMIT=10 snap
        record .content
        crash
}

@test "a clone where the file system shares extents" {
        command -v mkfs.xfs >/dev/null || skip "mkfs.xfs is not installed"
        truncate -s 400M "$T/disk"
        mkfs.xfs -q "$T/disk" || skip "mkfs.xfs cannot"
        mkdir "$T/xfs"
        mount -o loop "$T/disk" "$T/xfs" || skip "no loop devices or no xfs"
        mounted=$T/xfs
        head -c 3000000 /dev/urandom >"$T/xfs/data"
        writer update "$T/xfs/data"
        # More than may be copied: only a clone can take it.
        export STASIS_LOG_LEVEL_NO_SERVER=debug
        snap --files=copy
        grep -q '1 of them cloned' "$T/dump.err"
        wait_for "[ \$(head -c 16 $F | sed 's/^0*//') -gt 30 ]"
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
        back --leave-stopped
        cmp "$F" "$(saved)"
        kill -9 "$pid"
        wait "$restorer" || true
}

@test "200 files" {
        mkdir "$T/d"
        files=()
        for i in $(seq 200); do
                files+=("$T/d/$i")
        done
        writer append "${files[@]}"
        snap
        sleep 0.2
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        wait_gone "$pid"
        back
        [ "$(find "$T/d" -name '*.stasis-tail-*' | wc -l)" -eq 200 ]
        grep -q 'and 180 more files' "$T/restore.err"
        wait_lines "$T/d/200" 30
        for i in 1 77 200; do
                counts "$T/d/$i"
        done
}

@test "sqlite with a write-ahead log" {
        cat >"$T/rows.py" <<'EOF'
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma journal_mode=wal")
db.execute("create table if not exists t (n integer)")
n = 0
while True:
    n += 1
    db.execute("insert into t values (?)", (n,))
    time.sleep(0.002)
EOF
        F=$T/db
        target python3 "$T/rows.py" "$F"
        wait_for "[ -s $F-wal ]"
        sleep 0.3
        snap
        sleep 0.3
        crash
        # Another program looks into it: the log is merged into the database and removed.
        sqlite3 "$F" 'select count(*) from t' >"$T/crashed-rows"
        back
        sleep 0.3
        kill -9 "$pid"
        wait "$restorer" || true
        [ "$(sqlite3 "$F" 'pragma integrity_check')" = ok ]
        [ "$(sqlite3 "$F" 'select count(*) = max(n) and count(*) > 10 from t')" = 1 ]
}

@test "redis with an append-only file" {
        mkdir "$T/redis"
        F=$T/redis/server.log
        target redis-server --unixsocket "$T/redis/sock" --port 0 --save '' --appendonly yes --appendfsync always \
                --dir "$T/redis" --logfile "$F"
        rcli() { redis-cli -s "$T/redis/sock" "$@"; }
        wait_for "redis-cli -s $T/redis/sock ping | grep -q PONG"
        for i in $(seq 20); do echo "rpush l $i"; done | rcli >/dev/null
        snap
        for i in $(seq 21 40); do echo "rpush l $i"; done | rcli >/dev/null
        crash
        back
        wait_for "redis-cli -s $T/redis/sock ping | grep -q PONG"
        [ "$(rcli llen l)" -eq 20 ]
        rcli rpush l 21 >/dev/null
        kill -9 "$pid"
        wait "$restorer" || true
        wait_gone "$pid"
        # It starts from its file again: what is there is what it had in memory.
        rm -f "$T/redis/sock"
        target redis-server --unixsocket "$T/redis/sock" --port 0 --save '' --appendonly yes --dir "$T/redis"
        wait_for "redis-cli -s $T/redis/sock ping | grep -q PONG"
        [ "$(rcli lrange l 0 -1 | tr '\n' ' ')" = "$(seq -s ' ' 21) " ]
}
