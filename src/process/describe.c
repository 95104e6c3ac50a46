/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/parse.h"

/* "3 min": how long ago a process started, in the largest unit that fits. */
static char *describe_age(uint64_t start_time) {
        static const struct {
                uint64_t seconds;
                const char *name;
        } units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
        struct timespec now;
        size_t i = 0;

        clock_gettime(CLOCK_BOOTTIME, &now);
        uint64_t started = start_time / (uint64_t)sysconf(_SC_CLK_TCK), seconds = (uint64_t)now.tv_sec;
        seconds = seconds > started ? seconds - started : 0;
        while (i + 1 < ELEMENTSOF(units) && seconds < units[i].seconds)
                i++;
        return xasprintf("%" PRIu64 " %s", seconds / units[i].seconds, units[i].name);
}

static char *describe_zombie(const struct proc_stat *stat) {
        struct proc_stat parent;

        if (stat->ppid > 0 && proc_read_stat(stat->ppid, &parent) == 0)
                return xasprintf("a zombie %d (%s), whose parent %d (%s) has not reaped it", (int)stat->pid,
                                 stat->command, (int)parent.pid, parent.command);
        return xasprintf("a zombie %d (%s)", (int)stat->pid, stat->command);
}

/* The group or session of a leader that is gone keeps the number taken as long as somebody is in it. */
static char *describe_member(pid_t pid) {
        _cleanup_closedir_ DIR *dir = opendir("/proc");
        const struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                struct proc_stat stat;
                pid_t member;

                if (text_to_pid(entry->d_name, &member) < 0 || proc_read_stat(member, &stat) < 0)
                        continue;
                if (stat.pgid != pid && stat.sid != pid)
                        continue;
                return xasprintf("a %s %d that %s %d (%s) is in", stat.pgid == pid ? "process group" : "session",
                                 (int)pid, proc_stat_is_dead(&stat) ? "the zombie" : "process", (int)member,
                                 stat.command);
        }
        return NULL;
}

char *proc_describe_pid(pid_t pid) {
        _cleanup_close_ int proc_fd = proc_open(pid);
        _cleanup_status_ struct proc_status status = { 0 };
        struct proc_stat stat, process;

        if (pid <= 0)
                return NULL;
        if (proc_fd < 0 || proc_read_stat_at(proc_fd, &stat) < 0)
                return describe_member(pid);
        if (proc_read_status_at(proc_fd, &status) == 0 && status.tgid != pid) {
                const char *name = proc_read_stat(status.tgid, &process) == 0 ? process.command : stat.command;
                return xasprintf("thread %d of process %d (%s)", (int)pid, (int)status.tgid, name);
        }
        if (proc_stat_is_dead(&stat))
                return describe_zombie(&stat);

        _cleanup_free_ char *age = describe_age(stat.start_time);
        return xasprintf("process %d (%s, since %s)", (int)pid, stat.command, age);
}

bool proc_pid_is_of_dying(pid_t pid) {
        _cleanup_closedir_ DIR *dir = opendir("/proc");
        const struct dirent *entry;
        size_t dying = 0;

        while (dir && (entry = readdir(dir))) {
                struct proc_stat stat;
                pid_t member;

                if (text_to_pid(entry->d_name, &member) < 0 || proc_read_stat(member, &stat) < 0)
                        continue;
                if (stat.pid != pid && stat.pgid != pid && stat.sid != pid)
                        continue;
                if (!proc_stat_is_dead(&stat) && !proc_is_being_killed(member))
                        return false;
                dying++;
        }
        return dying > 0;
}
