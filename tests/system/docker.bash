# SPDX-License-Identifier: Apache-2.0
#
# A Docker Engine of the test's own: directories, mounts, hostname, cgroups and, when asked for, the network are
# private. Needs no registry; images are made of what is installed. Start it once for each file:
#
#   setup_file() { load common; load docker; docker_start; }
#   teardown_file() { docker_stop; docker_nothing_left; }
#
# What the engine does to /etc and /run stays in its mount namespace: /etc/criu/runc.conf, as it reads it, is
# /proc/$DOCKER_PID/root/etc/criu/runc.conf. Memory, pids, … of its containers lie in the cgroup $DOCKER_CGROUP.
# shellcheck shell=bash

# shellcheck source=tests/system/cgroup.bash
source "${BASH_SOURCE[0]%/*}/cgroup.bash"

# docker_start [--bridge] [--redis] [--packages DIRECTORY] [--] [DOCKERD-OPTION…]
# --bridge: a network namespace of its own with docker0, user-defined networks are possible; --redis: also the image
# redis:1; --packages: the engine unpacked there by dpkg -x, with the libraries it needs (libc6, …).
# Exports DOCKER_DIR, DOCKER_SOCK, DOCKER_PID, DOCKER_CGROUP.
docker_start() {
        local redis=""
        DOCKER_DIR=$(mktemp -d /tmp/sd.XXXXXX) # short: a socket's path has 108 bytes, and the engine adds to it
        DOCKER_SOCK=$DOCKER_DIR/docker.sock
        DOCKER_CGROUP=/stasis-${DOCKER_DIR##*/}
        DOCKER_HOSTNAME=$(uname -n)
        DOCKER_LINKS=$(docker_links)
        DOCKER_PATH=$PATH DOCKER_PACKAGES=""
        DOCKER_UNSHARE="--mount --uts"
        local options=(--data-root "$DOCKER_DIR/data" --exec-root "$DOCKER_DIR/exec" --pidfile "$DOCKER_DIR/dockerd.pid"
                --host "unix://$DOCKER_SOCK" --cgroup-parent "$DOCKER_CGROUP" --iptables=false --ip6tables=false
                --experimental)
        while [ $# -gt 0 ]; do
                case $1 in
                --bridge) DOCKER_UNSHARE+=" --net" ;;
                --redis) redis=1 ;;
                --packages) DOCKER_PACKAGES=$2 && shift ;;
                --) shift && break ;;
                *) break ;;
                esac
                shift
        done
        [[ $DOCKER_UNSHARE == *--net* ]] || options+=(--bridge=none)
        [ -z "$DOCKER_PACKAGES" ] || DOCKER_PATH=$DOCKER_PACKAGES/usr/sbin:$DOCKER_PACKAGES/usr/bin:$PATH
        printf '%s\n' "${options[@]}" "$@" >"$DOCKER_DIR/options"
        export DOCKER_DIR DOCKER_SOCK DOCKER_CGROUP DOCKER_UNSHARE DOCKER_PACKAGES DOCKER_PATH
        export DOCKER_HOSTNAME DOCKER_LINKS
        docker_guard
        docker_up || return 1
        docker_image bb:1 /bin/busybox || return 1
        [ -z "$redis" ] || docker_image redis:1 /bin/busybox "$(command -v redis-server)" "$(command -v redis-cli)"
}

# Stops the engine when the shell that started it ends without having done so: killed, timed out.
docker_guard() {
        # shellcheck disable=SC2016 # for the inner shell
        setsid bash -c 'source "$0/common.bash" && source "$0/docker.bash"
                while [ -e "$DOCKER_DIR" ] && alive "$1"; do sleep 1; done
                [ ! -e "$DOCKER_DIR" ] || DOCKER_PID=$(cat "$DOCKER_DIR/dockerd.pid") docker_stop' \
                "${BASH_SOURCE[0]%/*}" $$ </dev/null >/dev/null 2>&1 3>&- &
        disown $!
}

# Starts the engine of docker_start (again, after docker_down), and waits until it answers.
docker_up() {
        local options libraries=""
        mapfile -t options <"$DOCKER_DIR/options"
        [ -z "$DOCKER_PACKAGES" ] || libraries=$(echo "$DOCKER_PACKAGES"/usr/lib/*-linux-gnu)
        mkdir -p "$DOCKER_DIR/etc" "$DOCKER_DIR/etc.work" "$DOCKER_DIR/tmp"
        # containerd leaves directories of images in its TMPDIR. Only exec from here to dockerd: the PID stays.
        # shellcheck disable=SC2016,SC2086 # for the inner shell; words on purpose
        TMPDIR=$DOCKER_DIR/tmp PATH=$DOCKER_PATH setsid unshare $DOCKER_UNSHARE sh -c '
                mount -t tmpfs -o mode=755 run /run &&
                mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/etc.work" etc /etc || exit 1
                [ -z "$1" ] || mount -t overlay -o "lowerdir=$1:/usr/lib/$2" libraries "/usr/lib/$2" || exit 1
                ip link set lo up
                shift 2
                exec dockerd "$@"' "$DOCKER_DIR" "$libraries" "${libraries##*/}" "${options[@]}" \
                </dev/null >>"$DOCKER_DIR/dockerd.log" 2>&1 3>&- &
        export DOCKER_PID=$!
        disown "$DOCKER_PID"
        wait_for "docker_api GET /_ping || ! alive $DOCKER_PID" 20
        docker_api GET /_ping >/dev/null || { tail -n 20 "$DOCKER_DIR/dockerd.log" >&2; return 1; }
}

# Ends the engine as an orderly stop does; its containers are killed first. Its data stay, for docker_up.
docker_down() {
        docker_kill_containers
        kill -TERM "$DOCKER_PID" 2>/dev/null || true
        wait_for "! alive $DOCKER_PID" 20
        docker_kill_rest
}

# Ends the engine, its containerd, shims and containers, whatever state they are in, and removes all it has made.
docker_stop() {
        [ -n "${DOCKER_DIR:-}" ] || return 0
        docker_kill_containers
        docker_kill_rest
        docker_remove_cgroups
        rm -rf --one-file-system "$DOCKER_DIR"
}

# Proves that docker_stop left no process, mount, namespace, cgroup, link, hostname and file behind.
docker_nothing_left() {
        local left=""
        left+=$(docker_processes | tr '\n' ' ')
        left+=$(grep -E "$DOCKER_DIR|criu\.cgyard" /proc/self/mountinfo || true)
        left+=$(ls -d /sys/fs/cgroup"$DOCKER_CGROUP" /sys/fs/cgroup/*"$DOCKER_CGROUP" 2>/dev/null || true)
        [ "$(docker_links)" = "$DOCKER_LINKS" ] || left+=" network links: $(docker_links | tr '\n' ' ')"
        [ "$(uname -n)" = "$DOCKER_HOSTNAME" ] || left+=" hostname $(uname -n)"
        [ ! -e "$DOCKER_DIR" ] || left+=" $DOCKER_DIR"
        [ -z "$left" ] || { echo "left by the engine: $left" >&2; return 1; }
}

# docker_api METHOD PATH [BODY]: the answer's body; fails, and shows it on stderr, when the engine reports an error.
docker_api() {
        local answer code
        local arguments=(--silent --show-error --max-time 60 --unix-socket "$DOCKER_SOCK" --request "$1"
                --write-out '\n%{http_code}')
        [ $# -lt 3 ] || arguments+=(--header 'Content-Type: application/json' --data-binary "$3")
        answer=$(curl "${arguments[@]}" "http://docker$2" 3>&-) || return 1
        code=${answer##*$'\n'}
        answer=${answer%$'\n'*}
        [ "$code" -lt 400 ] || { echo "$1 $2: $code $answer" >&2; return 1; }
        printf '%s\n' "$answer"
}

# docker_image NAME:TAG PROGRAM…: an image of these programs, the libraries they need, and the commands of busybox,
# which must be among them.
docker_image() {
        local root program library
        root=$(mktemp -d "$DOCKER_DIR/image.XXXXXX")
        mkdir -p "$root/bin" "$root/tmp" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/root"
        chmod 1777 "$root/tmp"
        printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
        for program in "${@:2}"; do
                cp "$program" "$root/bin/"
                for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true); do
                        mkdir -p "$root${library%/*}"
                        cp -L "$library" "$root$library"
                done
        done
        chroot "$root" /bin/busybox --install -s /bin
        tar -C "$root" -c . | curl --silent --fail --show-error --max-time 60 --unix-socket "$DOCKER_SOCK" \
                --request POST --header 'Content-Type: application/x-tar' --upload-file - \
                "http://docker/images/create?fromSrc=-&repo=${1%:*}&tag=${1#*:}" >/dev/null || return 1
        rm -rf "$root"
}

# docker_create NAME [JQ-EDIT]: a container that counts in memory, each number also into /count. The edit changes the
# body of the request: '.Image = "redis:1" | .Cmd = ["redis-server"]'. Prints its ID.
docker_create() {
        local body answer network=none
        [[ $DOCKER_UNSHARE != *--net* ]] || network=bridge
        # shellcheck disable=SC2016
        body=$(jq -n --arg network "$network" '{Image: "bb:1", HostConfig: {NetworkMode: $network},
                Cmd: ["sh", "-c", "i=0; while :; do i=$((i + 1)); echo $i >>/count; sleep 0.05; done"]} | '"${2:-.}")
        answer=$(docker_api POST "/containers/create?name=$1" "$body") || return 1
        jq -r .Id <<<"$answer"
}

# docker_run NAME [JQ-EDIT]: the same, started.
docker_run() {
        docker_create "$@" && docker_api POST "/containers/$1/start"
}

# docker_get NAME JQ-FILTER: from what inspect tells.
docker_get() {
        docker_api GET "/containers/$1/json" | jq -r "$2"
}

# docker_count NAME: the last number that the container wrote; 0 when there is none. Reads the container's own root.
docker_count() {
        local pid number
        pid=$(docker_get "$1" .State.Pid)
        number=$(tail -n 1 "/proc/$pid/root/count" 2>/dev/null) || true
        echo "${number:-0}"
}

# docker_goes_on NAME [NUMBER]: it counts on, and is beyond the number.
docker_goes_on() {
        wait_for "[ \"\$(docker_count $1)\" -gt ${2:-$(docker_count "$1")} ]"
}

# docker_inside COMMAND…: in the namespaces of the engine, where its networks and mounts are.
docker_inside() {
        nsenter --target "$DOCKER_PID" --mount --uts --net --wdns=/ -- "$@"
}

docker_links() {
        ls /sys/class/net
}

# The PIDs that belong to the engine: those in its cgroups, and those that name its directory (containerd, shims).
docker_processes() {
        cgroup_processes "${DOCKER_CGROUP:?}" "${DOCKER_DIR:?}/"
}

docker_kill_containers() {
        local cgroup pid
        cgroup_thaw "$DOCKER_CGROUP"
        for cgroup in /sys/fs/cgroup/*"$DOCKER_CGROUP"/*/ /sys/fs/cgroup"$DOCKER_CGROUP"/*/; do
                [ -e "$cgroup/cgroup.procs" ] || continue
                while read -r pid; do
                        kill -KILL "$pid" || true
                done <"$cgroup/cgroup.procs" || true # gone meanwhile
        done 2>/dev/null
}

# Namespaces and mounts go with the last process in them.
docker_kill_rest() {
        kill -KILL "$DOCKER_PID" 2>/dev/null || true
        kill_until_gone docker_processes || true
}

docker_remove_cgroups() { cgroup_remove "$DOCKER_CGROUP" || true; }
