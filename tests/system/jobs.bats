#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Jobs, as the daemon keeps them: through crashes of it, of supervisors and of the database.
# shellcheck disable=SC2154,SC2030,SC2031,SC2016 # set by common.bash and bats; expanded by jobs

bats_require_minimum_version 1.5.0
load common
load grpc

# Named here: scripts/run-tests provides it to those who do.
export GRPC_PYTHON=${STASIS_PYTHON:-}

setup() { start_test; }

teardown() {
        local each
        for each in $("$STASIS" job list --json 2>/dev/null | jq -r '.[] | select(.state == "running") | .pid'); do
                kill_tree "$each"
        done
        end_test
}

# job JID COMMAND…: starts it; sets $pid.
job() {
        "$STASIS" run process --jid "$@" >"$T/run.out" 3>&-
        pid=$(of "$1" .pid)
        alive "$pid"
}

# of JID FILTER: what is known of a job.
of() { "$STASIS" job list --json | jq -r --arg jid "$1" ".[] | select(.jid == \$jid) | $2"; }

# becomes JID STATE [SECONDS]
becomes() { wait_for "[ \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"$1\") | .state')\" = $2 ]" "${3:-10}"; }

# A job that counts into its log, and must go on counting; sets $pid.
counting_job() {
        # shellcheck disable=SC2016
        job "$1" sh -c 'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done'
        T_count=$T/log/stasis-output-$1.log
        wait_lines "$T_count" 3
}

job_goes_on() {
        alive "$pid"
        wait_lines "$T_count" $(($(lines "$T_count") + 3))
}

kill_daemon() {
        kill -9 "$daemon"
        wait "$daemon" || true
        daemon=""
}

@test "a job is deleted while it is found out whether its interrupted dump had succeeded: the checkpoint is kept" {
        local id verifier
        start_daemon
        counting_job gone
        targets+=("$pid")
        dump job gone
        id=$("$STASIS" checkpoints gone --json | jq -r '.[0].id')
        "$STASIS" kill gone
        stop_daemon
        python3 - "$T/stasis.db" <<'EOF'
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    assert db.execute("UPDATE checkpoints SET ready = 0, operation = 'none'").rowcount == 1
EOF
        # The first read of every process takes three seconds: that of who looks at the checkpoint, too.
        start_daemon "${faulty[@]}" STASIS_FAULT=read:1:pause STASIS_FAULT_ANY=1
        wait_for "pgrep -P $daemon -f 'checkpoint inspect'"
        verifier=$(pgrep -P "$daemon" -f 'checkpoint inspect')
        kill -STOP "$verifier"
        [ "$("$STASIS" delete gone)" = "deleted job gone; its checkpoint is kept" ]
        kill -CONT "$verifier"
        wait_for "grep -q 'had succeeded: $checkpoint' $T/daemon.log"
        # It is known as those of other deleted jobs are.
        "$STASIS" checkpoint verify "$checkpoint"
        "$STASIS" checkpoint delete "$id"
        [ ! -e "$checkpoint" ]
}

@test "somebody else's client: run, attach, list, dump, kill, restore, delete" {
        start_daemon
        # shellcheck disable=SC2016
        grpc job -- first sh -c 'read -r line; echo "got $line"; echo bad >&2; exit 42'
        [ "$(field .attached.code)" = 42 ]
        [ "$(field .attached.stdout)" = "got hello" ]
        [ "$(field .attached.stderr)" = bad ]
        [ "$(field '.jobs[0].State.Status')" = halted ]
        [ "$(field '.jobs[0].Checkpoint')" = null ]
        [ "$(field '.response.Messages[-1]')" = "job first runs, PID $(field .response.PID)" ]
        # One that has ended tells its code to whoever comes later.
        grpc attach "$(field .response.PID)"
        [ "$(field .attached.code)" = 42 ]

        counting_job second
        grpc dump_job second "$T/ckpt" one
        grpc jobs second
        [ "$(field '.jobs[0].Get.Details.JID')" = second ]
        [ "$(field '.jobs[0].State.PID')" = "$pid" ]
        [ "$(field '.jobs[0].State.IsRunning')" = true ]
        [[ "$(field '.jobs[0].State.Status')" =~ ^(sleep|running)$ ]]
        [ "$(field '.jobs[0].Log')" = "$T_count" ]
        [ "$(field '.jobs[0].Checkpoint.Path')" = "$T/ckpt/one.stasis" ]
        [ "$(field '.jobs[0].Checkpoint.Size')" = "$(stat -c %s "$T/ckpt/one.stasis")" ]
        # Milliseconds.
        [ $(($(date +%s) - $(field '.jobs[0].Checkpoint.Time') / 1000)) -lt 60 ]
        [ "$(field '.jobs[0].Checkpoints')" = 1 ]
        grpc kill second
        [[ "$(field '.response.Messages[0]')" == "killed job second"* ]]
        [ "$(of second .state)" = exited ]
        grpc restore_job second
        [ "$(field .response.PID)" = "$pid" ]
        job_goes_on
        grpc kill second 15
        becomes second exited
        grpc delete second
        [[ "$(field '.response.Messages[0]')" == *"its checkpoint is kept"* ]]
        [ -e "$T/ckpt/one.stasis" ]
        grpc jobs
        [ "$(field '.jobs | length')" = 1 ]
}

@test "each wrong request about jobs has its status, and leaves nothing" {
        start_daemon
        counting_job here
        grpc job_statuses here
        [ "$("$STASIS" job list --json | jq length)" = 1 ]
        job_goes_on
}

@test "dump --stop leaves a job checkpointed; it is restored from its newest checkpoint that is there" {
        start_daemon
        counting_job one
        dump job one --name old
        dump job one --name mid
        dump job one --name new --stop
        [ "$(of one .state)" = checkpointed ]
        before=$(lines "$T_count")
        run "$STASIS" dump job one 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"does not run: it is checkpointed"* ]]
        restore job one
        [ "$(of one .state)" = running ]
        wait_lines "$T_count" "$((before + 3))"
        [ "$(head -n "$((before + 2))" "$T_count" | sort -n | uniq -d)" = "" ]
        "$STASIS" kill one
        rm "$T/ckpt/new.stasis"
        restore job one
        job_goes_on
        "$STASIS" kill one
        rm "$T"/ckpt/*
        run "$STASIS" restore job one 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"no checkpoint to be restored from"* ]]
        [ "$(of one .state)" = exited ]
}

@test "a restore that fails leaves the job as it was" {
        start_daemon
        counting_job one
        dump job one --name one --stop
        target sleep 100
        printf garbage >"$T/garbage"
        run "$STASIS" restore job one --path "$T/garbage" 3>&-
        [ "$status" -eq 1 ]
        [ "$(of one .state)" = checkpointed ]
        pid=$(of one .pid)
        restore job one
        job_goes_on
}

@test "kill -9 of the daemon: jobs go on, their ends are known to the next one" {
        start_daemon
        job gone sh -c 'while [ ! -e "$0/go" ]; do sleep 0.02; done; exit 42' "$T"
        job killed sleep 1000
        killed=$pid
        counting_job stays
        kill_daemon
        touch "$T/go"
        kill -9 "$killed"
        wait_gone "$killed"
        job_goes_on
        start_daemon
        becomes gone exited
        [ "$(of gone .exit_code)" = 42 ]
        [ "$(of killed .state)" = exited ]
        [ "$(of killed .exit_code)" = 137 ]
        [ "$(of stays .state)" = running ]
        dump job stays --stop
        wait_for "[ -z \"\$(ls -A $T/run/jobs)\" ]"
        restore job stays
        job_goes_on
}

@test "kill -9 of the daemon in the middle of a dump --stop: running or checkpointed, as it is" {
        start_slow_daemon
        counting_job one
        "$STASIS" dump job one --stop >"$T/out" 2>&1 3>&- &
        local dumper=$!
        wait_for "[ \"\$($STASIS daemon status --json | jq '.Operations // [] | length')\" = 1 ]"
        sleep 0.7
        kill_daemon
        wait "$dumper" && return 1
        start_daemon
        wait_for "[ -z \"\$(ls -A $T/run/w)\" ]"
        [ "$(of one .state)" = running ]
        [ "$("$STASIS" job list --json | jq '.[0].checkpoint')" = null ]
        nothing_left
        job_goes_on
}

@test "a checkpoint that an interrupted daemon left is taken when it is good, and a kill by its dump is no exit" {
        start_daemon
        counting_job one
        dump job one --name one --stop
        restore job one
        dump job one --name two --stop
        stop_daemon
        # As if the daemon had died before the end of the dump was recorded.
        python3 - "$T/stasis.db" <<'EOF'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE checkpoints SET ready = 0 WHERE path LIKE '%two%'")
db.execute("UPDATE jobs SET state = 1, since = since - 60000")
db.commit()
EOF
        start_daemon
        becomes one checkpointed
        [[ "$(of one .checkpoint.path)" == */two.stasis ]]
        stop_daemon
        python3 - "$T/stasis.db" <<'EOF'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE checkpoints SET ready = 0 WHERE path LIKE '%two%'")
db.commit()
EOF
        truncate -s 1000 "$T/ckpt/two.stasis"
        start_daemon
        wait_for "grep -q 'what it left is no checkpoint' $T/daemon.log"
        [[ "$(of one .checkpoint.path)" == */one.stasis ]]
}

@test "a job that was being started when the daemon died, and never ran, is forgotten" {
        start_daemon
        counting_job one
        stop_daemon
        python3 - "$T/stasis.db" <<'EOF'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.row_factory = sqlite3.Row
row = dict(db.execute("SELECT * FROM jobs").fetchone())
row.update(id=row["id"] + 1, jid="never", state=0, pid=None, start_time=None, boot=None, record=None, exit_status=None)
db.execute(f"INSERT INTO jobs ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values()))
db.execute("UPDATE jobs SET boot = 'another', state = 1, record = NULL WHERE jid = 'one'")
db.commit()
EOF
        start_daemon
        [ "$(of never .state)" = starting ]
        wait_for "[ -z \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"never\") | .jid')\" ]"
        # Its record knows better than the database.
        [ "$(of one .state)" = running ]
        job_goes_on
}

@test "after a reboot what ran is lost" {
        start_daemon
        job one sleep 1000
        stop_daemon
        kill -9 "$pid"
        wait_gone "$pid"
        rm -rf "$T/run"
        python3 - "$T/stasis.db" <<'EOF'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE jobs SET boot = 'another'")
db.commit()
EOF
        start_daemon
        [ "$(of one .state)" = lost ]
        "$STASIS" job inspect one --json | grep -q reboot
}

@test "a damaged database is moved aside, said, and running jobs are adopted" {
        start_daemon
        counting_job one
        job two sleep 1000
        kill_daemon
        rm -f "$T"/stasis.db-*
        dd if=/dev/urandom of="$T/stasis.db" bs=4096 count=4 conv=notrunc status=none
        start_daemon
        grep -q "the database $T/stasis.db was damaged: it was moved to $T/stasis.db.corrupt-" "$T/daemon.log"
        [ -n "$(find "$T" -name 'stasis.db.corrupt-*')" ]
        [ "$("$STASIS" job list --json | jq -c '[.[] | [.jid, .state]] | sort')" = '[["one","running"],["two","running"]]' ]
        job_goes_on
        dump job one
        "$STASIS" kill two
        [ "$(of two .exit_code)" = 137 ]
}

@test "a full disk under the database: nothing new, what lives goes on, ends are recorded later" {
        mkdir "$T/db"
        mount -t tmpfs -o size=1m none "$T/db" || skip "may not mount"
        export STASIS_DB_PATH=$T/db/stasis.db
        start_daemon
        job ends sh -c 'while [ ! -e "$0/go" ]; do sleep 0.02; done; exit 3' "$T"
        counting_job one
        head -c 2m /dev/zero >"$T/db/fill" 2>/dev/null || true
        run "$STASIS" run process --jid new true 3>&-
        failed=$status said=$output
        touch "$T/go"
        job_goes_on
        "$STASIS" job list >/dev/null
        rm "$T/db/fill"
        wait_for "[ \"\$($STASIS job list --json | jq -r '.[] | select(.jid == \"ends\") | .exit_code')\" = 3 ]" 20
        "$STASIS" kill one
        stop_daemon
        umount "$T/db"
        [ "$failed" -eq 1 ] || { echo "$said"; return 1; }
        [[ "$said" == *"pace left"* || "$said" == *"full"* ]] || { echo "$said"; return 1; }
}

@test "a supervisor that is killed: the job goes on, and its end is known" {
        start_daemon
        job one sh -c 'while [ ! -e "$0/go" ]; do sleep 0.02; done; exit 9' "$T"
        supervisor=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")
        kill -9 "$supervisor"
        wait_for "grep -q '^PPid:[[:space:]]*$daemon\$' /proc/$pid/status"
        [ "$(of one .state)" = running ]
        touch "$T/go"
        becomes one exited
        [ "$(of one .exit_code)" = 9 ]
        wait_for "[ -z \"\$(ls -A $T/run/jobs)\" ]"
}

@test "a dump whose worker is killed when the checkpoint stands: it is on record" {
        start_daemon "${faulty[@]}" STASIS_FAULT=renameat2:1:after
        counting_job one
        run -1 "$STASIS" dump job one --name there 3>&-
        [[ "$output" == *"killed by SIGKILL"* ]]
        wait_for "[ \"\$($STASIS checkpoints one --json | jq -r .[].path)\" = $T/ckpt/there.stasis ]"
        "$STASIS" checkpoint verify "$T/ckpt/there.stasis"
        # What stood there before is not the dump's.
        run -1 "$STASIS" dump job one --name there 3>&-
        [[ "$output" == *"exists already"* ]]
        [ "$("$STASIS" checkpoints one --json | jq length)" = 1 ]
        alive "$pid"
}

@test "a supervisor that is killed before it can answer: the job runs, and is on record" {
        start_daemon "${faulty[@]}" STASIS_FAULT=rename:1:after STASIS_FAULT_PROGRAM=stasis-supervisor
        run -1 "$STASIS" run process --jid one sleep 1000 3>&-
        [[ "$output" == *"killed by SIGKILL"* ]]
        becomes one running
        pid=$(of one .pid)
        alive "$pid"
        "$STASIS" dump job one --stop >"$T/dump.out"
        becomes one checkpointed
        run -1 "$STASIS" restore job one 3>&-
        [[ "$output" == *"killed by SIGKILL"* ]]
        becomes one running
        [ "$(of one .pid)" = "$pid" ]
        alive "$pid"
        "$STASIS" kill one
        becomes one exited
        wait_gone "$pid"
        wait_for "[ -z \"\$(ls -A $T/run/jobs)\" ]"
}

@test "manage: the end of somebody else's process is noticed, and it cannot be attached to" {
        start_daemon
        target sleep 1000
        grpc manage "$pid" mine
        [ "$(field .response.PID)" = "$pid" ]
        [ "$(of mine .state)" = running ]
        run grpc attach "$pid"
        [[ "$output" == *FAILED_PRECONDITION*"job logs"* ]]
        run "$STASIS" manage process "$pid" 3>&-
        [ "$status" -ne 0 ]
        [[ "$output" == *"is a job already"* ]]
        kill_daemon
        start_daemon
        [ "$(of mine .state)" = running ]
        kill -9 "$pid"
        becomes mine lost
        "$STASIS" delete mine
}

@test "operations on one job wait for each other, and can be cancelled while they do" {
        start_slow_daemon
        counting_job one
        "$STASIS" dump job one --name first >"$T/first" 2>&1 3>&- &
        local first=$!
        wait_for "[ \"\$($STASIS daemon status --json | jq '.Operations // [] | length')\" = 1 ]"
        "$STASIS" dump job one --name second >"$T/second" 2>&1 3>&- &
        local second=$!
        wait_for "$STASIS daemon status --json | jq -e '.Operations[1].Queued'"
        [[ "$("$STASIS" daemon status)" == *queued* ]]
        kill -INT "$second"
        wait "$second" && return 1
        grep -q "cancelled: job one goes on running" "$T/second" || { cat "$T/second"; return 1; }
        [ ! -e "$T/ckpt/second.stasis" ]
        wait "$first" || { cat "$T/first"; return 1; }
        [ "$("$STASIS" checkpoints one --json | jq '[.. | objects | select(.path?)] | length')" = 1 ]
        job_goes_on
}

@test "a deleted job does not come back, whatever of its processes still lives" {
        start_daemon
        # Its root ends, and leaves a process behind.
        "$STASIS" run process --jid one sh -c 'sleep 1000 & echo $! >"$0/left"; exit 5' "$T" >/dev/null
        becomes one exited
        left=$(cat "$T/left")
        alive "$left"
        "$STASIS" delete one
        kill_daemon
        start_daemon
        [ "$("$STASIS" job list --json | jq length)" = 0 ]
        kill -9 "$left"
        wait_for "[ -z \"\$(ls -A $T/run/jobs)\" ]"
}

@test "many jobs at once: the daemon stays small, and none of its descriptors reach them" {
        start_daemon
        for i in {1..40}; do "$STASIS" run process --jid "j$i" sleep 1000 >/dev/null 3>&-; done
        [ "$("$STASIS" job list --json | jq '[.[] | select(.state == "running")] | length')" = 40 ]
        [ -n "${STASIS_SANITIZE:-}" ] || [ "$(awk '/^VmRSS/ { print $2 }' "/proc/$daemon/status")" -lt 30720 ]
        [ "$(prlimit --nofile --output SOFT --noheadings --pid "$(of j1 .pid)" | tr -d ' ')" = "$(ulimit -n)" ]
        "$STASIS" kill -a -y >/dev/null
        [ "$("$STASIS" job list --json | jq '[.[] | select(.state == "exited")] | length')" = 40 ]
        "$STASIS" delete -a -y >/dev/null
        wait_for "[ -z \"\$(ls -A $T/run/jobs)\" ]"
        # A job has left nothing.
        wait_for "[ \$(find /proc/$daemon/fd -mindepth 1 | wc -l) -le 25 ]" || { ls -l "/proc/$daemon/fd"; return 1; }
}

@test "a checkpoint that is deleted: the file goes, with what earlier ones left; one that cannot go stays on record" {
        mkdir "$T/ckpt"
        mount -t tmpfs none "$T/ckpt" || skip "may not mount"
        start_daemon
        counting_job one
        dump job one --name file
        dump job one --name dir --compression none
        mkdir "$T/ckpt/.gone.partial-12ab"
        id=$(of one .checkpoint.id)
        [[ "$(of one .checkpoint.path)" == */dir ]]
        mount -o remount,ro "$T/ckpt"
        run "$STASIS" checkpoint delete "$id" 3>&-
        mount -o remount,rw "$T/ckpt"
        failed=$status said=$output still=$(of one .checkpoint.id)
        "$STASIS" checkpoint delete "$id" >/dev/null
        wait_for "[ \"\$(ls -A $T/ckpt)\" = file.stasis ]"
        last=$(of one .checkpoint.path)
        "$STASIS" checkpoint delete "$(of one .checkpoint.id)" >/dev/null
        wait_for "[ -z \"\$(ls -A $T/ckpt)\" ]"
        none=$(of one .checkpoint)
        umount "$T/ckpt"
        [ "$failed" -eq 1 ]
        [[ "$said" == *"cannot remove $T/ckpt/dir: Read-only"* ]]
        [ "$still" = "$id" ]
        [[ "$last" == */file.stasis ]]
        [ "$none" = null ]
        job_goes_on
}

@test "two daemons do not share a run directory" {
        start_daemon
        counting_job one
        run env STASIS_ADDRESS="$T/other" STASIS_DB_PATH="$T/other.db" "$STASIS" daemon start 3>&-
        [ "$status" -eq 1 ]
        [[ "$output" == *"another daemon, with another socket, keeps its jobs in $T/run"*STASIS_RUN_DIR* ]]
        [ "$(of one .state)" = running ]
        kill_daemon
        start_daemon
        job_goes_on
}

@test "jobs that close their output, ignore SIGTERM, fork and end" {
        start_daemon
        job closes sh -c 'exec >&- 2>&- <&-; while [ ! -e "$0/go" ]; do sleep 0.02; done; exit 6' "$T"
        job pipes --attachable sh -c 'exec >&- 2>&- <&-; while [ ! -e "$0/go" ]; do sleep 0.02; done; exit 7' "$T"
        job ignores sh -c 'trap "" TERM; echo ready; while :; do sleep 0.02; done'
        wait_lines "$T/log/stasis-output-ignores.log" 0
        "$STASIS" kill -s TERM ignores
        "$STASIS" run process --jid forks sh -c 'sleep 1000 & echo $! >"$0/left"; exit 8' "$T" >/dev/null 3>&-
        becomes forks exited
        [ "$(of forks .exit_code)" = 8 ]
        alive "$(cat "$T/left")"
        kill -9 "$(cat "$T/left")"
        [ "$(of closes .state)-$(of pipes .state)-$(of ignores .state)" = running-running-running ]
        touch "$T/go"
        becomes closes exited
        becomes pipes exited
        [ "$(of closes .exit_code)-$(of pipes .exit_code)" = 6-7 ]
        "$STASIS" kill ignores
        [ "$(of ignores .exit_code)" = 137 ]
        wait_for "[ -z \"\$(ls -A $T/run/jobs)\" ]"
}

@test "a job that writes 200 MB, to its log and to whoever is attached" {
        start_daemon
        "$STASIS" run process --jid logged sh -c 'head -c 200000000 /dev/zero; exit 4' >/dev/null 3>&-
        becomes logged exited 60
        [ "$(of logged .exit_code)" = 4 ]
        [ "$(stat -c %s "$T/log/stasis-output-logged.log")" = 200000000 ]
        rm "$T/log/stasis-output-logged.log"
        code=0
        size=$("$STASIS" run process --jid seen --attach sh -c 'head -c 200000000 /dev/zero; exit 4' \
                </dev/null 2>/dev/null 3>&- | wc -c; exit "${PIPESTATUS[0]}") || code=$?
        [ "$code" = 4 ]
        [ "$size" = 200000000 ]
        [ "$(stat -c %s "$T/log/stasis-output-seen.log")" = 200000000 ]
        # The daemon holds none of it.
        [ -n "${STASIS_SANITIZE:-}" ] || [ "$(awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status")" -lt 61440 ]
}

@test "an attachable job whose log cannot be opened runs on, and says so" {
        start_daemon
        "$STASIS" run process --jid one --attachable --out "$T/none/log" sleep 1000 >"$T/out" 2>&1 3>&-
        grep -q "its output is not recorded: cannot open $T/none/log" "$T/out"
        [ "$(of one .state)" = running ]
        ln -s "$T/elsewhere" "$T/link"
        chown -h 65534 "$T/link"
        "$STASIS" run process --jid two --attachable --out "$T/link" echo x >"$T/out" 2>&1 3>&-
        grep -q "somebody else's link" "$T/out"
        becomes two exited
        [ ! -e "$T/elsewhere" ]
}
