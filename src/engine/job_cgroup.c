/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/job_cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "process/freezer.h"
#include "process/parse.h"
#include "process/proc.h"

#define PARENT "stasis-jobs"

/* Of start times. */
#define CLOCK_STEP_MS 20

/* The parent goes with the last job in it: who makes one may find it gone again. */
#define MAKE_TRIES 10

/**
 * What the job's cgroup is called; malloc'ed. Daemons may run beside each other, each with a run directory of its own,
 * and with jobs of the same name: freezing or ending one must not touch the other.
 */
static char *name_of(const char *jid) {
        _cleanup_free_ char *run_dir = path_absolute(path_run_dir());

        if (streq(run_dir, PATH_RUN_DIR))
                return xstrdup(jid);
        /* A JID has no such character. */
        return xasprintf("%s@%08" PRIx32, jid, (uint32_t)XXH3_64bits(run_dir, strlen(run_dir)));
}

/** The directory of a cgroup, which need not be one that can be frozen: the root has no files for that. NULL: none */
static char *directory_of(const struct freezer_hierarchy *hierarchy, const char *path) {
        for (size_t i = hierarchy->n; i > 0; i--) { /* what was mounted later hides what was before */
                const struct freezer_mount *mount = &hierarchy->mounts[i - 1];
                const char *rest = streq(mount->root, "/") ? path : path + strlen(mount->root);
                _cleanup_free_ char *directory = NULL, *procs = NULL;

                if (!freezer_path_is_within(path, mount->root) || strstr(path, "/../"))
                        continue;
                directory = xasprintf("%s%s", mount->point, streq(rest, "/") ? "" : rest);
                procs = path_join(directory, "cgroup.procs");
                if (access(procs, F_OK) == 0)
                        return TAKE_PTR(directory);
        }
        return NULL;
}

/** The directory in which the cgroups of jobs are; malloc'ed. @return 0; -ENOENT: no such hierarchy here */
static int find_parent(enum freezer_version version, char **ret) {
        _cleanup_hierarchy_ struct freezer_hierarchy hierarchy = { 0 };
        _cleanup_free_ char *path = NULL, *ours = NULL;
        int r;

        freezer_hierarchy_load(version, &hierarchy);
        if (hierarchy.n == 0)
                return -ENOENT;
        r = freezer_path_of(getpid(), version, &path);
        if (r < 0)
                return r;
        ours = directory_of(&hierarchy, path);
        if (!ours)
                return -ENOENT;
        *ret = path_join(ours, PARENT);
        return 0;
}

static int make_directory(const char *parent, const char *directory) {
        for (int i = 0; i < MAKE_TRIES; i++) {
                if (mkdir(parent, 0755) < 0 && errno != EEXIST)
                        return -errno;
                if (mkdir(directory, 0755) == 0 || errno == EEXIST)
                        return 0;
                if (errno != ENOENT)
                        return -errno;
        }
        return -ENOENT;
}

int job_cgroup_make(const char *jid, struct strv *ret, struct st_error **err) {
        int r = -ENOENT;

        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2; version++) {
                _cleanup_free_ char *parent = NULL, *directory = NULL, *name = NULL;

                r = find_parent(version, &parent);
                if (r == -ENOENT)
                        continue;
                if (r < 0)
                        return st_error_errno(err, r, "cannot find a cgroup for the job");
                name = name_of(jid);
                directory = path_join(parent, name);
                r = make_directory(parent, directory);
                if (r < 0)
                        return st_error_errno(err, r, "cannot make the cgroup %s", directory);
                /* Of a job that was ended while it was frozen: who enters it would stop there. */
                (void)freezer_set(version, directory, false);
                strv_take(ret, TAKE_PTR(directory));
                return 0;
        }
        return st_error_set(err, ENOENT, "no cgroups are mounted here by which a job can be frozen");
}

void job_cgroup_thaw(const char *jid) {
        _cleanup_free_ char *name = name_of(jid);

        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2; version++) {
                _cleanup_free_ char *parent = NULL, *directory = NULL;

                if (find_parent(version, &parent) < 0)
                        continue;
                directory = path_join(parent, name);
                (void)freezer_set(version, directory, false);
        }
}

/** When did it begin, in milliseconds since 1970? */
static int64_t begin_of(const struct proc_stat *stat) {
        struct timespec boot, now;
        long ticks = sysconf(_SC_CLK_TCK);

        (void)clock_gettime(CLOCK_BOOTTIME, &boot);
        (void)clock_gettime(CLOCK_REALTIME, &now);
        return (now.tv_sec - boot.tv_sec) * 1000 + (now.tv_nsec - boot.tv_nsec) / 1000000 +
               (int64_t)(stat->start_time * 1000 / (uint64_t)(ticks > 0 ? ticks : 100));
}

void job_cgroup_kill(const char *jid, int64_t since_ms) {
        _cleanup_free_ char *name = name_of(jid);

        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2; version++) {
                _cleanup_free_ char *parent = NULL, *directory = NULL;
                _cleanup_free_ pid_t *pids = NULL;
                struct proc_stat stat;
                bool by_criu = false;
                size_t n = 0;

                if (find_parent(version, &parent) < 0)
                        continue;
                directory = path_join(parent, name);
                if (freezer_members(directory, &pids, &n) < 0)
                        continue;
                for (size_t i = 0; i < n; i++)
                        by_criu = by_criu || (proc_read_stat(pids[i], &stat) >= 0 && streq(stat.command, "criu"));
                for (size_t i = 0; i < n && !by_criu; i++)
                        if (pids[i] > 1 && proc_read_stat(pids[i], &stat) >= 0 &&
                            begin_of(&stat) >= since_ms - CLOCK_STEP_MS)
                                (void)kill(pids[i], SIGKILL);
        }
}

int job_cgroup_remove(const char *jid) {
        _cleanup_free_ char *name = name_of(jid);
        int result = 0;

        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2; version++) {
                _cleanup_free_ char *parent = NULL, *directory = NULL;

                if (find_parent(version, &parent) < 0)
                        continue;
                directory = path_join(parent, name);
                if (rmdir(directory) < 0 && errno != ENOENT)
                        result = -errno;
                (void)rmdir(parent); /* with the last job */
        }
        return result;
}

/** "/a/stasis-jobs/JID" or below, where ours is "/a" */
static bool is_job_below(const char *ours, const char *path) {
        const char *rest = streq(ours, "/") ? path : text_after(path, ours);
        const char *name = rest ? text_after(rest, "/" PARENT "/") : NULL;

        return !isempty(name);
}

/** One line of /proc/PID/cgroup each: the same hierarchy, and the same cgroup or a job's below it? */
static bool line_agrees(const char *ours, const char *theirs) {
        const char *our_path = strstr(ours, ":/"), *their_path = strstr(theirs, ":/");

        if (streq(ours, theirs))
                return true;
        return our_path && their_path && our_path - ours == their_path - theirs &&
               strncmp(ours, theirs, (size_t)(our_path - ours)) == 0 && is_job_below(our_path + 1, their_path + 1);
}

bool job_cgroup_texts_agree(const char *ours, const char *theirs) {
        _cleanup_free_ char *a = xstrdup(ours), *b = xstrdup(theirs);
        char *cursor_a = a, *cursor_b = b;

        for (;;) {
                const char *line_a = parse_line(&cursor_a), *line_b = parse_line(&cursor_b);

                if (!line_a || !line_b)
                        return !line_a && !line_b;
                if (!line_agrees(line_a, line_b))
                        return false;
        }
}

bool job_cgroup_is_all(pid_t pid) {
        _cleanup_free_ char *ours = NULL, *theirs = NULL, *path = NULL;

        if (proc_read_file(getpid(), "cgroup", &ours, NULL) < 0)
                return false;
        if (proc_read_file(pid, "cgroup", &theirs, NULL) < 0 || job_cgroup_texts_agree(ours, theirs))
                return true;
        /* Who ends leaves its cgroups before it is gone. */
        return freezer_path_of(pid, FREEZER_V1, &path) == -ESRCH || freezer_path_of(pid, FREEZER_V2, &path) == -ESRCH;
}
