#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# `restore docker`: into the same container, another one, a new one; its files, networks and connections; and that a
# restore which cannot be leaves all as it was.
# shellcheck disable=SC2154,SC2153,SC2034,SC2016 # of common.bash, docker.bash, bats; to expand in wait_for, containers

bats_require_minimum_version 1.5.0
load common
load docker

setup_file() {
        load common
        load docker
        # Plugins load only from below directories that nobody but root can change: /tmp is none.
        P=$(mktemp -d /run/stasis-test.XXXXXX)
        export P STASIS_PLUGINS_LIB_DIR=$P
        install -m 644 "$STASIS_BUILD/plugins/stasis-docker.so" "$P/"
        install -D -m 644 "$STASIS_BUILD/plugins/parts/docker.so" "$P/parts/docker.so"
        docker_start --bridge --redis || return 1
        export DOCKER_HOST=unix://$DOCKER_SOCK
        # A container that has been dumped, has gone on, and is stopped: most tests begin with it.
        start_test
        export BASE=$BATS_FILE_TMPDIR/base
        docker_run base >/dev/null && docker_goes_on base 5 && save base --compression none || return 1
        mv "$checkpoint" "$BASE"
        docker_goes_on base
        stop_container base
        end_test
}

teardown_file() {
        docker_stop
        rm -rf "$P"
        docker_nothing_left
}

setup() {
        start_test
        DOCKER_PID=$(cat "$DOCKER_DIR/dockerd.pid") # a test may have restarted it
}

teardown() {
        local id pids=()
        [ -z "${client:-}" ] || kill "$client" 2>/dev/null || true
        for id in $(docker_api GET "/containers/json?all=1" | jq -r '.[] | select(.Names[0] != "/base") | .Id'); do
                docker_api DELETE "/containers/$id?force=true&v=true" &
                pids+=($!)
        done
        wait "${pids[@]}"
        [ "$(docker_get base .State.Status)" = exited ] || stop_container base
        for id in $(docker_api GET /networks | jq -r '.[] | select(.Driver == "bridge" and .Name != "bridge") | .Name'); do
                docker_api DELETE "/networks/$id"
        done
        end_test
}

# save NAME ARGUMENT…: dumps a container; sets $checkpoint.
save() { dump docker "$@" --no-server --dir "$T/ckpt"; }

# The container of setup_file as it was dumped; copied, so that a test may damage it.
base() {
        checkpoint=$T/base
        cp -r "$BASE" "$checkpoint"
}

# back ARGUMENT…: restores $checkpoint; must succeed.
back() { restore docker --path "$checkpoint" --no-server "$@"; }

# refused TEXT ARGUMENT…: a restore of $checkpoint must fail, with this in its error.
refused() {
        if "$STASIS" restore docker --path "$checkpoint" --no-server "${@:2}" >"$T/restore.out" 2>"$T/restore.err" 3>&-; then
                echo "not refused: $*" >&2
                return 1
        fi
        grep -qE -- "$1" "$T/restore.err" || { cat "$T/restore.err" >&2; return 1; }
}

# lose NAME: it ends as with its machine: nobody says goodbye to those it has connections with.
lose() {
        local link
        link=$(cat "/proc/$(docker_get "$1" .State.Pid)/root/sys/class/net/eth0/iflink")
        docker_inside ip link set "$(docker_inside ip -o link | sed -n "s/^$link: \([^@:]*\).*/\1/p")" down
        stop_container "$1"
}

# A line that begins with ! never fails in bats.
not() { ! "$@"; }

exists() { docker_api GET "/containers/$1/json" >/dev/null 2>&1; }

stop_container() {
        docker_api POST "/containers/$1/kill"
        wait_for "[ \"\$(docker_get $1 .State.Running)\" = false ]"
}

# The file of a counter holds each number once: memory and file are of one moment.
agrees() { [ -z "$(awk '$1 != NR' "/proc/$(docker_get "$1" .State.Pid)/root/count")" ]; }

# What of a container must not change by a restore that is refused.
state_of() { docker_get "$1" '[.Id, .State.Status, .State.StartedAt, .NetworkSettings.Networks]'; }

nothing_placed() {
        [ -z "$(find "$DOCKER_DIR"/data/containers/*/checkpoints -mindepth 1)" ]
        [ -z "$(find "$DOCKER_DIR"/data/overlay2 -maxdepth 2 -name '.stasis-*')" ]
        [ -z "$(docker_inside find /etc/criu 2>/dev/null)" ]
}

@test "a counter whose container was removed comes back as a new one, memory and file of one moment" {
        docker_run one
        docker_goes_on one 5
        save one --stop
        before=$(docker_get one .State.Status)
        [ "$before" = exited ]
        docker_api DELETE /containers/one
        refused "container one, of which the checkpoint was made, does not exist.*--name"
        back --name two --pid-file "$T/pid"
        [ "$(cat "$T/pid")" = "$(docker_get two .State.Pid)" ]
        docker_goes_on two 6
        agrees two
        nothing_placed
}

@test "--fast: the memory does not go through the engine, and nothing of it is left" {
        docker_run one
        docker_goes_on one 5
        save one --fast
        back --name two --fast
        not grep "not the fast way" "$T/restore.out" "$T/restore.err"
        docker_goes_on two 6
        agrees two
        nothing_placed
        # The engine's own copy has links in the place of the memory.
        [ -n "$(find "$DOCKER_DIR/tmp" -name 'pages-*.img' -type l)" ]
}

@test "by way of the daemon, the engine restarted in between; the daemon may end" {
        start_daemon
        docker_run one
        docker_goes_on one 5
        dump docker one --dir "$T/ckpt" --stop
        docker_down
        docker_up
        restore docker --path "$checkpoint"
        stop_daemon
        docker_goes_on one
        agrees one
}

@test "the same container: what it changed since is kept, its files are those of the checkpoint, or as they are" {
        base
        last=$(tail -n 1 "$(docker_get base .GraphDriver.Data.UpperDir)/count")
        back --check --json
        jq -e '.[] | select(.check == "files" and (.text | contains("changed since")))' "$T/restore.out"
        [ "$(docker_get base .State.Status)" = exited ]
        refused "files have changed" --files=check
        back base
        docker_goes_on base
        agrees base
        kept=$(sed -n 's/.*is kept in //p' "$T/restore.err")
        [ "$(tail -n 1 "$kept/count")" = "$last" ]
        nothing_placed
        stop_container base
        back base --files=keep
        docker_goes_on base
        not agrees base
        not grep -q "is kept in" "$T/restore.err"
}

@test "several restores into one container at once: one of them does it" {
        base
        local i pids=()
        for i in 1 2 3; do
                "$STASIS" restore docker --path "$checkpoint" --no-server >"$T/out.$i" 2>&1 3>&- &
                pids+=($!)
        done
        done=0
        for i in "${pids[@]}"; do
                if wait "$i"; then done=$((done + 1)); fi
        done
        [ "$done" = 1 ]
        [ "$(cat "$T"/out.* | grep -cE "is running|is under way")" = 2 ]
        docker_goes_on base
        agrees base
        nothing_placed
}

@test "two clones from one checkpoint, while the original runs" {
        docker_run one
        docker_goes_on one 5
        save one
        back --name two
        back --name three
        for name in one two three; do
                docker_goes_on "$name"
                agrees "$name"
        done
        [ "$(docker_api GET /containers/json | jq -r '[.[].NetworkSettings.Networks.bridge.IPAddress] | unique | length')" = 3 ]
        grep -q "is in use by container one" "$T/restore.err"
        docker_api DELETE "/containers/one?force=true"
        docker_goes_on three
}

@test "redis on a network of its own: its client keeps its connection" {
        docker_api POST /networks/create '{"Name": "net1", "IPAM": {"Config": [{"Subnet": "10.201.7.0/24"}]}}'
        docker_run other '.HostConfig.NetworkMode = "net1"'
        docker_run cache '.Image = "redis:1" | .Cmd = ["redis-server", "--save", "", "--protected-mode", "no"] |
                .HostConfig.NetworkMode = "net1"'
        address=$(docker_get cache .NetworkSettings.Networks.net1.IPAddress)
        mac=$(docker_get cache .NetworkSettings.Networks.net1.MacAddress)
        mkfifo "$T/commands"
        wait_for "docker_inside redis-cli -h $address ping"
        docker_inside redis-cli -h "$address" <"$T/commands" >"$T/answers" 2>&1 3>&- &
        client=$!
        exec 8>"$T/commands"
        echo "set key value" >&8
        echo "client id" >&8
        wait_for "[ \$(wc -l <$T/answers) = 2 ]"
        # Into the same container: not with the lower address that is free now. Then into a new one.
        save cache
        docker_api DELETE "/containers/other?force=true"
        lose cache
        back
        grep -q "fixed address $address on the network net1" "$T/restore.err"
        save cache
        lose cache
        docker_api DELETE /containers/cache
        back --name cache2
        echo "get key" >&8
        echo "client id" >&8
        wait_for "[ \$(wc -l <$T/answers) = 4 ]" || { cat "$T/answers" >&2; return 1; }
        exec 8>&-
        [ "$(sed -n 3p "$T/answers")" = value ] || { cat "$T/answers" "$T/restore.err" >&2; return 1; }
        [ "$(sed -n 2p "$T/answers")" = "$(sed -n 4p "$T/answers")" ]
        [ "$(docker_get cache2 .NetworkSettings.Networks.net1.IPAddress)" = "$address" ]
        [ "$(docker_get cache2 .NetworkSettings.Networks.net1.MacAddress)" = "$mac" ]
        nothing_placed

        # Its address is taken now: by whom is said, and nothing is made.
        refused "$address on the network net1.*in use by container cache2.*tcp-close" --name cache3
        not exists cache3
}

@test "redis, --stop: its client keeps its connection, the host is as it was; also when workers are killed" {
        docker_api POST /networks/create '{"Name": "net1", "IPAM": {"Config": [{"Subnet": "10.201.7.0/24"}]}}'
        docker_run cache '.Image = "redis:1" | .Cmd = ["redis-server", "--save", "", "--protected-mode", "no",
                "--enable-debug-command", "yes"] | .HostConfig.NetworkMode = "net1"'
        address=$(docker_get cache .NetworkSettings.Networks.net1.IPAddress)
        wait_for "docker_inside redis-cli -h $address debug populate 20000 key 500"
        mkfifo "$T/commands"
        docker_inside redis-cli -h "$address" <"$T/commands" >"$T/answers" 2>&1 3>&- &
        client=$!
        exec 8>"$T/commands"
        answer() { # answer COMMAND [TEXT]: what the client is answered
                local before
                before=$(lines "$T/answers")
                echo "$1" >&8
                wait_for "[ \$(wc -l <$T/answers) -gt $before ]" 20
                [ $# = 1 ] || [ "$(tail -n 1 "$T/answers")" = "$2" ] || { cat "$T/answers" >&2; return 1; }
        }
        host() {
                docker_inside nft list ruleset
                nft list ruleset
                find /etc/criu "/proc/$DOCKER_PID/root/etc/criu" -type f -exec sha256sum {} + || true
        } 2>/dev/null
        answer "set key value" OK
        answer "client id"
        id=$(tail -n 1 "$T/answers")
        host >"$T/host"
        start_daemon
        for moment in paused traced silenced never; do
                pid=$(docker_get cache .State.Pid)
                "$STASIS" dump docker cache --stop --dir "$T/ckpt" --name "$moment" >"$T/dump.out" 2>&1 3>&- &
                dumper=$!
                case $moment in
                paused) wait_for '[ "$(docker_get cache .State.Status)" = paused ]' ;;
                traced) wait_for "grep -q '^TracerPid:.*[1-9]' /proc/$pid/status" ;;
                silenced) # or ended already: that takes no time
                        until nsenter --target "$pid" --net nft list tables 2>/dev/null | grep -q stasis || not alive "$pid"; do :; done ;;
                esac
                # What a killed one has committed, it has: with --stop the container may have ended then.
                [ "$moment" = never ] || pkill -KILL -P "$daemon" -f "stasis worker" || true
                wait "$dumper" || [ "$moment" != never ]
                wait_for '[ "$(docker_get cache .State.Status)" != paused ]' 20
                if [ "$(docker_get cache .State.Status)" = exited ]; then
                        [[ $moment = @(silenced|never) ]]
                        "$STASIS" checkpoint verify "$T/ckpt/$moment.stasis" >/dev/null 3>&-
                        restore docker --path "$T/ckpt/$moment.stasis"
                fi
                answer "get key" value
                answer "strlen key:19999" 500
                answer "client id" "$id"
                tables=$(nsenter --target "$(docker_get cache .State.Pid)" --net nft list ruleset 2>/dev/null)
                [[ "$tables" != *@(stasis|CRIU|drop)* ]] || { echo "$tables" >&2; return 1; }
                wait_for 'host | diff "$T/host" -'
                rm -rf "$T/ckpt/$moment.stasis"
                wait_for '[ -z "$(find "$T/ckpt" -mindepth 1)" ]'
                wait_for nothing_placed
        done
        exec 8>&-
}

@test "the address is kept where the network allows it, else it is told" {
        docker_api POST /networks/create '{"Name": "auto"}' # without a subnet: no address on request
        docker_run one '.HostConfig.NetworkMode = "auto"'
        address=$(docker_get one .NetworkSettings.Networks.auto.IPAddress)
        save one --stop
        docker_api DELETE /containers/one
        back --name two
        docker_goes_on two
        [ "$(docker_get two .NetworkSettings.Networks.auto.IPAddress)" = "$address" ] || grep -q "at the dump it was $address" "$T/restore.err"
}

@test "two networks, published ports, aliases, volumes and limits come back" {
        docker_api POST /networks/create '{"Name": "net1", "IPAM": {"Config": [{"Subnet": "10.201.7.0/24"}]}}'
        docker_api POST /networks/create '{"Name": "net2", "IPAM": {"Config": [{"Subnet": "10.201.8.0/24"}]}}'
        mkdir "$T/bind"
        id=$(docker_create one ".HostConfig += {NetworkMode: \"net1\", Binds: [\"$T/bind:/bind\", \"vol1:/vol\"],
                Memory: 67108864, PidsLimit: 100} | .Volumes = {\"/anonymous\": {}} | .Labels = {a: \"b\"} | .Env = [\"X=ü\"] |
                .NetworkingConfig = {EndpointsConfig: {net1: {Aliases: [\"web\"]}}}")
        docker_api POST /networks/net2/connect "{\"Container\": \"$id\"}"
        docker_api POST /containers/one/start
        docker_goes_on one
        about='{n: [.NetworkSettings.Networks | to_entries[] | [.key, .value.IPAddress, .value.MacAddress]] | sort,
                m: [.Mounts[] | [.Type, .Name, .Source, .Destination, .RW]] | sort, c: .Config.Env, l: .Config.Labels,
                h: [.HostConfig.Memory, .HostConfig.PidsLimit]}'
        docker_get one "$about" >"$T/before"
        save one --stop
        docker_api DELETE /containers/one
        back --name two
        docker_goes_on two
        docker_get two "$about" >"$T/after"
        diff "$T/before" "$T/after"
        docker_get two '.NetworkSettings.Networks.net1.Aliases[]' | grep -x web
        for volume in vol1 "$T/bind"; do
                grep -q "volume $volume at .* is not in the checkpoint" "$T/restore.err"
        done
        docker_api DELETE "/containers/two?force=true"
        docker_api DELETE /volumes/vol1
        refused "volume vol1.*at /vol.*does not exist" --name three
}

@test "with an init of the engine's, a terminal, and removed by the engine when it ends" {
        docker_run one '.HostConfig.Init = true | .HostConfig.AutoRemove = true | .Tty = true'
        docker_goes_on one 5
        save one --stop
        wait_for "not exists one"
        back --name one
        docker_goes_on one
        agrees one
        nothing_placed
}

@test "files of every kind in the upper layer come back bit for bit" {
        docker_run one
        docker_goes_on one
        root=/proc/$(docker_get one .State.Pid)/root
        # Through the container's own mount, so that the overlay makes what it needs.
        nsenter --target "$(docker_get one .State.Pid)" --mount --wdns=/ /bin/sh -c '
                rm /etc/passwd; rm -r /tmp; mkdir -m 1777 /tmp; mkdir -p /d/e; echo x >/d/e/f; ln /d/e/f /d/g
                ln -s /nowhere /d/link; mkfifo -m 640 /d/fifo; mknod /d/null c 1 3; mknod /d/loop b 7 200
                cp /bin/busybox /d/suid; chmod 4755 /d/suid; chown 1234:4321 /d/e/f; touch -d "2001-02-03 04:05:06" /d/e/f
                truncate -s 10M /d/sparse; echo end >>/d/sparse; mkdir -m 2770 /d/sgid; mv /d/e /d/moved' 
        printf x >"$root/d/"$'new\nline \xff'
        python3 -c 'import os, sys; os.setxattr(sys.argv[1] + "/d/g", "user.note", b"te\0xt")
os.setxattr(sys.argv[1] + "/d/suid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))' "$root"
        save one --stop
        list() { # list NAME: all there is to know of the files
                local upper
                upper=$(docker_get "$1" .GraphDriver.Data.UpperDir)
                (
                        cd "$upper"
                        find . ! -name count \( -type f -printf '%P %n links\0' -o -true \) -printf '%P %y %m %U:%G %s %b %T@ %l\0' | sort -z | tr '\0' '\n'
                        find . -type f ! -name count -exec sha256sum {} + | sort -k 2
                        find . \( -type c -o -type b \) -exec stat -c '%n %t:%T' {} + | sort
                        find . ! -name count -print0 | sort -z | python3 -c 'import os, sys
for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        if name.startswith(("user.", "security.", "trusted.overlay.opaque")):
            print(path, name, os.getxattr(path, name, follow_symlinks=False))'
                )
        }
        list one >"$T/before"
        grep -q "etc/passwd c" "$T/before"
        grep -q "trusted.overlay.opaque" "$T/before"
        grep -q security.capability "$T/before"
        docker_api DELETE /containers/one
        back --name two
        docker_goes_on two
        list two >"$T/after"
        diff -a "$T/before" "$T/after"
}

# A way to the engine, on which so many checkpoints and starts from one end as they do when containerd has not let go of
# what another has sent: a checkpoint once CRIU has done its work, a start before. Each failure is a line of its output.
colliding() { # colliding TIMES
        cat >"$T/way.py" <<'END'
import socket, sys, threading
left = {b"/checkpoints ": int(sys.argv[3]), b"/start?checkpoint=": int(sys.argv[3])}
text = b'{"message":"failed to upload checkpoint to containerd: commit failed: content sha256:c859: already exists"}'
answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
def carry(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
def connect():
    engine = socket.socket(socket.AF_UNIX)
    engine.connect(sys.argv[2])
    return engine
def serve(client):
    engine = connect()
    threading.Thread(target=carry, args=(engine, client), daemon=True).start()
    while data := client.recv(65536):
        line = data.split(b"\r\n")[0]
        which = [key for key in left if line.startswith(b"POST ") and key in line and left[key] > 0]
        if not which:
            engine.sendall(data)
            continue
        left[which[0]] -= 1
        if which[0] == b"/checkpoints ":
            done = connect()
            done.sendall(data)
            while b"\r\n\r\n" not in data[-4:] and b"}" not in data[-1:]:
                data = client.recv(65536)
                done.sendall(data)
            done.recv(65536)
        print(line.decode(), flush=True)
        client.sendall(answer)
    engine.close()
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(16)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
END
        python3 "$T/way.py" "$T/way" "$DOCKER_SOCK" "$1" >"$T/collisions" 3>&- &
        client=$!
        wait_for "[ -S $T/way ]"
}

@test "the engine has not let go of an earlier checkpoint: it is tried again" {
        colliding 2
        docker_run collides >/dev/null
        docker_goes_on collides 5
        save collides --host "unix://$T/way"
        docker_goes_on collides
        [ "$(wc -l <"$T/collisions")" = 2 ]
        kill "$client"
        rm "$T/way"
        colliding 2
        save collides --host "unix://$T/way" --stop
        [ "$(docker_get collides .State.Status)" = exited ]
        back collides --host "unix://$T/way"
        docker_goes_on collides
        agrees collides
        [ "$(grep -c "/checkpoints " "$T/collisions") $(grep -c "/start?" "$T/collisions")" = "2 2" ]
        kill "$client"
        rm "$T/way"
        # A program of the user's has run at the end of the first freeze: there is no second one without it.
        colliding 1
        run ! "$STASIS" dump docker collides --no-server --dir "$T/ckpt" --host "unix://$T/way" --hook post-thaw=/bin/true 3>&-
        [[ "$output" == *"content sha256:"*"already exists"* ]]
        docker_goes_on collides
        [ "$(wc -l <"$T/collisions")" = 1 ]
        nothing_placed
}

@test "what cannot be is refused before anything is touched: running, name, network, image" {
        docker_api POST /networks/create '{"Name": "net1", "IPAM": {"Config": [{"Subnet": "10.201.7.0/24", "Gateway": "10.201.7.1"}]}}'
        docker_image second:1 /bin/busybox
        docker_run one '.HostConfig.NetworkMode = "net1" | .Image = "second:1"'
        docker_goes_on one
        save one
        refused "container one is running.*--name NEW"
        refused "container one is running" one
        docker_api POST /containers/one/pause
        refused "container one is paused" one
        docker_api POST /containers/one/unpause
        refused "there is a container one already" --name one
        refused "no container nobody" nobody
        docker_create other
        state_of other >"$T/before"
        refused "made of another image" other
        state_of other | diff "$T/before" -
        refused "not the name or ID" --name 'a b'
        docker_goes_on one
        docker_api DELETE "/containers/one?force=true"
        docker_api DELETE /networks/net1
        refused "network net1 does not exist.*docker network create --driver bridge --subnet 10.201.7.0/24 --gateway 10.201.7.1 net1" --name two
        docker_api POST /networks/create '{"Name": "net1", "IPAM": {"Config": [{"Subnet": "10.201.7.0/24"}]}}'
        docker_api DELETE "/images/second:1"
        refused "image second:1 .*is not here.*docker load" --name two
        run "$STASIS" restore docker --path "$checkpoint" --no-server --name two --check --json 3>&-
        jq -e '.[] | select(.check == "image" and .level == "PROBLEM")' <<<"$output"
        [ "$(docker_api GET "/containers/json?all=1" | jq length)" = 2 ]
        nothing_placed
}

@test "a damaged checkpoint is refused, the container untouched" {
        base
        state_of base >"$T/before"
        for file in pages-1.img rootfs-diff.tar docker.json; do
                cp "$checkpoint/$file" "$T/good"
                printf X | dd of="$checkpoint/$file" bs=1 seek=600 conv=notrunc status=none
                refused "damaged|checksum|does not match|differs" base
                refused "damaged|checksum|does not match|differs" --name two
                cp "$T/good" "$checkpoint/$file"
        done
        state_of base | diff "$T/before" -
        [ "$(docker_api GET "/containers/json?all=1" | jq length)" = 1 ]
        nothing_placed
        back base
        docker_goes_on base
}

@test "CRIU fails at the start: its reason, its log, and everything as it was" {
        mkdir "$T/vol"
        echo content >"$T/vol/file"
        docker_run one ".HostConfig.Binds = [\"$T/vol:/vol\"] | .Cmd = [\"sh\", \"-c\", \"exec 3</vol/file; \" + .Cmd[2]]"
        docker_goes_on one 5
        save one
        docker_goes_on one
        stop_container one
        rm "$T/vol/file"
        state_of one >"$T/before"
        upper=$(docker_get one .GraphDriver.Data.UpperDir)
        sha256sum "$upper/count" >"$T/sum"
        refused "could not start container one from the checkpoint: CRIU could not restore.*vol/file.*log: " one
        log=$(sed -n 's/.*(log: \([^)]*\)).*/\1/p' "$T/restore.err")
        grep -q "vol/file" "$log"
        state_of one | diff "$T/before" -
        sha256sum --check "$T/sum"
        refused "vol/file" --name two
        [ "$(docker_api GET "/containers/json?all=1" | jq length)" = 2 ]
        nothing_placed
        echo content >"$T/vol/file"
        back one
        docker_goes_on one
        agrees one
}

@test "what a killed restore has left is undone by the next one" {
        base
        new=$(docker_create made)
        mkdir -p "$DOCKER_DIR/data/containers/$new/checkpoints/stasis-new-0123456789abcdef"
        docker_create stasis-new-999999999 # of a process that is gone
        id=$(docker_get base .Id)
        mkdir "$DOCKER_DIR/data/containers/$id/checkpoints/stasis-old-0123456789abcdef"
        upper=$(docker_get base .GraphDriver.Data.UpperDir)
        mv "$upper" "${upper%/*}/.stasis-before"
        mkdir "$upper"
        refused "" nobody
        back base
        not exists made
        not exists stasis-new-999999999
        # The files that were put aside were those of the dump, and some numbers more.
        grep -q "is kept in" "$T/restore.err"
        docker_goes_on base
        agrees base
        nothing_placed
}

@test "an engine that cannot restore is refused at once, with the reason" {
        base
        state_of base >"$T/before"
        cat >"$T/engine.py" <<'END'
import json, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(16)
version = {"Version": sys.argv[2], "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Experimental": True}
info = {"Driver": sys.argv[3], "Architecture": sys.argv[4], "OSType": "linux", "ExperimentalBuild": True,
        "DockerRootDir": "/nonexistent"}
if sys.argv[5] == "off":
    version["Experimental"] = info["ExperimentalBuild"] = False
held = []
while True:
    client, _ = server.accept()
    if sys.argv[5] == "hung":
        held.append(client)
        continue
    while True:
        request = client.recv(65536).split()
        if not request:
            break
        status, answer = "200 OK", version if request[1].endswith(b"/version") else info
        if b"/containers" in request[1]:
            status, answer = "404 Not Found", {"message": "No such container"}
        text = json.dumps(answer)
        client.sendall(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
END
        try() { # try TEXT VERSION DRIVER ARCHITECTURE HOW: refused by such an engine, within 2 s and a little
                local start=$EPOCHREALTIME
                rm -f "$T/engine.sock"
                python3 "$T/engine.py" "$T/engine.sock" "${@:2}" >&2 3>&- &
                client=$!
                wait_for "[ -S $T/engine.sock ]"
                start=${EPOCHREALTIME/./}
                refused "$1" --host "unix://$T/engine.sock" --name two
                [ $((${EPOCHREALTIME/./} - start)) -lt 3500000 ]
                kill "$client"
                wait "$client" || true
        }
        try "Docker 28.5.1 cannot start a container from a checkpoint" 28.5.1 overlay2 x86_64 on
        try "experimental features are off" 20.10 overlay2 x86_64 off
        try "made on x86_64, this machine is aarch64" 20.10 overlay2 aarch64 on
        try "storage driver overlay2, this engine has btrfs" 20.10 btrfs x86_64 on
        try "engine at unix://.*engine.sock" 20.10 overlay2 x86_64 hung
        refused "engine does not run at unix://.*nobody" --host "unix://$T/nobody" --name two
        state_of base | diff "$T/before" -
}
