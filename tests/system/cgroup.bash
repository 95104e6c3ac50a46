# SPDX-License-Identifier: Apache-2.0
#
# Ending what tests leave in cgroups.
# shellcheck shell=bash

# cgroup_thaw CGROUP: all below it, of every hierarchy, so that they can die.
cgroup_thaw() {
        local cgroup
        for cgroup in /sys/fs/cgroup/*"$1"/*/ /sys/fs/cgroup"$1"/*/; do
                [ ! -e "$cgroup/freezer.state" ] || echo THAWED >"$cgroup/freezer.state"
                [ ! -e "$cgroup/cgroup.freeze" ] || echo 0 >"$cgroup/cgroup.freeze"
        done 2>/dev/null
}

# cgroup_processes CGROUP TEXT: the PIDs below it, and those whose command lines have the text.
cgroup_processes() {
        local pid
        : "${1:?}" "${2:?}"
        {
                cat /sys/fs/cgroup/*"$1"/*/cgroup.procs /sys/fs/cgroup"$1"/*/cgroup.procs
                grep -lsaF "$2" /proc/[0-9]*/cmdline | sed 's,/proc/\([0-9]*\)/.*,\1,'
        } 2>/dev/null | sort -un | while read -r pid; do
                if [ "$pid" != "$BASHPID" ] && alive "$pid"; then echo "$pid"; fi
        done
}

# kill_until_gone COMMAND: what it prints the PIDs of, again and again; fails when some are left in the end.
kill_until_gone() {
        local i pid left
        for ((i = 0; i < 100; i++)); do
                left=$("$1")
                [ -n "$left" ] || return 0
                for pid in $left; do
                        kill -KILL "$pid" 2>/dev/null || true
                done
                sleep 0.05
        done
        return 1
}

# cgroup_remove CGROUP: of all hierarchies. A cgroup is busy until the zombies in it are reaped.
cgroup_remove() {
        local cgroup left=0
        for cgroup in /sys/fs/cgroup/*"$1" /sys/fs/cgroup"$1"; do
                [ ! -d "$cgroup" ] || wait_for "find $cgroup -depth -type d -exec rmdir {} + ; [ ! -e $cgroup ]" 10 || left=1
        done
        return $left
}
