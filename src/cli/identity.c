/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/identity.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"

static int fill_groups(Daemon__RunReq *req, struct st_error **err) {
        int n = getgroups(0, NULL);

        if (n < 0)
                return st_error_errno(err, errno, "cannot read our groups");
        _cleanup_free_ gid_t *groups = xcalloc((size_t)n + 1, sizeof(*groups));
        n = getgroups(n, groups);
        if (n < 0)
                return st_error_errno(err, errno, "cannot read our groups");
        for (int i = 0; i < n; i++)
                message_append(&req->n_groups, &req->groups, (uint32_t)groups[i]);
        return 0;
}

static void fill_limits(Daemon__RunReq *req) {
        for (unsigned resource = 0; resource < RLIM_NLIMITS; resource++) {
                struct rlimit limit;

                if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
                        continue; /* an older kernel does not have it */
                Daemon__ResourceLimit *message = message_new(&daemon__resource_limit__descriptor);
                message->has_resource = message->has_soft = message->has_hard = 1;
                message->resource = resource;
                message->soft = limit.rlim_cur;
                message->hard = limit.rlim_max;
                message_append(&req->n_limits, &req->limits, message);
        }
}

/** "0-3,8": the CPUs that we may run on; malloc'ed, NULL: not known */
static char *list_cpus(void) {
        _cleanup_strv_ struct strv ranges = { 0 };
        cpu_set_t cpus;

        if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
                return NULL; /* more than that has room for */
        for (int first = 0, last; first < CPU_SETSIZE; first = last + 1) {
                last = first;
                if (!CPU_ISSET(first, &cpus))
                        continue;
                while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &cpus))
                        last++;
                strv_addf(&ranges, last > first ? "%d-%d" : "%d", first, last);
        }
        return strv_join(&ranges, ",");
}

static void fill_scheduling(Daemon__RunReq *req) {
        errno = 0;
        int nice = getpriority(PRIO_PROCESS, 0);

        req->has_nice = nice != -1 || errno == 0;
        req->nice = nice;
        req->cpus = list_cpus();
}

int identity_fill(Daemon__RunReq *req, bool as_root, struct st_error **err) {
        mode_t mask = umask(0);

        (void)umask(mask);
        req->has_umask = 1;
        req->umask = mask;
        req->has_uid = req->has_gid = 1;
        req->uid = as_root ? 0 : geteuid();
        req->gid = as_root ? 0 : getegid();
        for (char **variable = environ; variable && *variable; variable++)
                message_append(&req->n_env, &req->env, xstrdup(*variable));
        fill_limits(req);
        fill_scheduling(req);
        if (!as_root)
                return fill_groups(req, err);
        message_append(&req->n_groups, &req->groups, 0);
        return 0;
}

/* Relative to where we are, as it was written: a link before a .. is followed. */
static int make_absolute(const char *path, char **ret, struct st_error **err) {
        if (path[0] == '/') {
                *ret = xstrdup(path);
                return 0;
        }
        _cleanup_free_ char *directory = getcwd(NULL, 0);
        if (!directory)
                return st_error_errno(err, errno, "cannot find out the current directory");
        *ret = path_join(directory, path);
        return 0;
}

/* @return 0 or the errno that running it would fail with */
static int try_path(const char *path) {
        struct stat st;

        if (stat(path, &st) < 0)
                return errno;
        if (S_ISDIR(st.st_mode))
                return EISDIR;
        return access(path, X_OK) < 0 ? errno : 0;
}

static int cannot_run(const char *command, int number, struct st_error **err) {
        switch (number) {
        case ENOENT:
                return st_error_set(err, ENOENT, "cannot run %s: there is no such command", command);
        case EISDIR:
                return st_error_set(err, EISDIR, "cannot run %s: it is a directory", command);
        case EACCES:
                st_error_set(err, EACCES, "cannot run %s: it is not executable", command);
                st_error_hint(err, "chmod +x makes it so");
                return -EACCES;
        default:
                return st_error_errno(err, number, "cannot run %s", command);
        }
}

int identity_find_command(const char *command, char **ret, struct st_error **err) {
        const char *path = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin";
        _cleanup_strv_ struct strv directories = { 0 };
        int worst = ENOENT;

        if (strchr(command, '/')) {
                int number = try_path(command);

                return number == 0 ? make_absolute(command, ret, err) : cannot_run(command, number, err);
        }
        strv_split(&directories, path, ':');
        for (size_t i = 0; i < directories.n && *command; i++) {
                _cleanup_free_ char *candidate = path_join(directories.items[i], command);
                int number = try_path(candidate);

                if (number == 0)
                        return make_absolute(candidate, ret, err);
                if (number == EACCES)
                        worst = number;
        }
        return cannot_run(command, worst, err);
}
