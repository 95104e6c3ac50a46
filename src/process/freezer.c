/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "process/freezer.h"
#include "process/parse.h"

/* cgroup.procs of the largest tree that is dealt with: 65,536 PIDs of seven digits each. */
#define LIST_LIMIT ((size_t)1 << 20)

/* Nobody nests deeper; a limit because each level is a call on the stack. */
#define DEPTH_LIMIT 128

/* v1 misses processes that are between two states: it is told again so often (as its documentation says). */
#define NUDGE_MS 100

static const char *control_file(enum freezer_version version) {
        return version == FREEZER_V1 ? "freezer.state" : "cgroup.freeze";
}

/** Is a word in a list with commas? */
static bool list_has(const char *list, const char *word) {
        size_t length = strlen(word);

        for (const char *at = list; at; at = strchr(at, ',')) {
                at += *at == ',';
                if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
                        return true;
        }
        return false;
}

static void add_mount(char *line, struct freezer_hierarchy *hierarchy) {
        struct parse_mount mount;

        if (!parse_mount(line, &mount))
                return;
        if (hierarchy->version == FREEZER_V1 ? !streq(mount.type, "cgroup") || !list_has(mount.super_options, "freezer")
                                             : !streq(mount.type, "cgroup2"))
                return;
        GROW(hierarchy->mounts, hierarchy->n, hierarchy->room);
        hierarchy->mounts[hierarchy->n++] = (struct freezer_mount){ xstrdup(mount.root), xstrdup(mount.point) };
}

void freezer_hierarchy_parse(const char *mountinfo, enum freezer_version version, struct freezer_hierarchy *ret) {
        _cleanup_free_ char *text = xstrdup(mountinfo);
        char *cursor = text, *line;

        *ret = (struct freezer_hierarchy){ .version = version };
        while ((line = parse_line(&cursor)))
                add_mount(line, ret);
}

void freezer_hierarchy_load(enum freezer_version version, struct freezer_hierarchy *ret) {
        _cleanup_free_ char *text = NULL;

        *ret = (struct freezer_hierarchy){ .version = version };
        if (proc_read_file(getpid(), "mountinfo", &text, NULL) >= 0)
                freezer_hierarchy_parse(text, version, ret);
}

void freezer_hierarchy_clear(struct freezer_hierarchy *hierarchy) {
        for (size_t i = 0; i < hierarchy->n; i++) {
                free(hierarchy->mounts[i].root);
                free(hierarchy->mounts[i].point);
        }
        free(hierarchy->mounts);
        *hierarchy = (struct freezer_hierarchy){ 0 };
}

/* cgroups(7): ID:controller,…:path; version 2 has the ID 0 and no controllers. */
int freezer_path_parse(const char *text, enum freezer_version version, char **ret) {
        _cleanup_free_ char *copy = xstrdup(text);
        char *cursor = copy, *line;

        while ((line = parse_line(&cursor))) {
                const char *id = strsep(&line, ":"), *controllers = strsep(&line, ":");

                if (!id || !controllers || !line || *line != '/')
                        return -EBADMSG;
                if (version == FREEZER_V1 ? list_has(controllers, "freezer") : streq(id, "0") && isempty(controllers)) {
                        *ret = xstrdup(line);
                        return 0;
                }
        }
        return -ENOENT;
}

static int path_of(pid_t pid, const char *file, enum freezer_version version, char **ret) {
        _cleanup_free_ char *text = NULL;
        int r = proc_read_file(pid, file, &text, NULL);

        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        return freezer_path_parse(text, version, ret);
}

/* Who is about to end has left its cgroup already (include/linux/sched.h). */
#define PF_EXITING 0x4

int freezer_path_of(pid_t pid, enum freezer_version version, char **ret) {
        _cleanup_free_ char *path = NULL;
        struct proc_stat stat;
        int r = path_of(pid, "cgroup", version, &path);

        if (r < 0)
                return r;
        if (proc_read_stat(pid, &stat) < 0 || proc_stat_is_dead(&stat) ||
            (stat.threads <= 1 && stat.flags & PF_EXITING))
                return -ESRCH;
        *ret = TAKE_PTR(path);
        return 0;
}

/** What of a path is below another one: "" or "/…"; NULL: it is not below it. */
static const char *path_below(const char *path, const char *cgroup) {
        const char *rest = streq(cgroup, "/") ? path : text_after(path, cgroup);

        if (rest && streq(rest, "/"))
                return rest + 1;
        return rest && (*rest == '\0' || *rest == '/') ? rest : NULL;
}

bool freezer_path_is_within(const char *path, const char *cgroup) {
        return path_below(path, cgroup);
}

char *freezer_path_common(const char *a, const char *b) {
        size_t common = 0, i = 0;

        for (;; i++) {
                bool end_a = a[i] == '\0' || a[i] == '/', end_b = b[i] == '\0' || b[i] == '/';

                if (end_a && end_b)
                        common = i;
                if (a[i] != b[i] || a[i] == '\0')
                        break;
        }
        return common == 0 ? xstrdup("/") : xstrndup(a, common);
}

bool freezer_holds_threads(pid_t pid, enum freezer_version version, const char *path) {
        _cleanup_close_ int proc_fd = proc_open(pid);
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;
        int fd = proc_fd < 0 ? -EBADF : openat(proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return true;
        dir = fdopendir(fd);
        if (!dir) {
                close(fd);
                return false;
        }
        while ((entry = readdir(dir))) {
                _cleanup_free_ char *file = NULL, *cgroup = NULL;

                if (entry->d_name[0] == '.')
                        continue;
                file = xasprintf("task/%s/cgroup", entry->d_name);
                int r = path_of(pid, file, version, &cgroup);
                if (r != -ESRCH && (r < 0 || !freezer_path_is_within(cgroup, path)))
                        return false;
        }
        return true;
}

int freezer_directory(const struct freezer_hierarchy *hierarchy, const char *path, char **ret) {
        for (size_t i = hierarchy->n; i > 0; i--) { /* what was mounted later hides what was before */
                const struct freezer_mount *mount = &hierarchy->mounts[i - 1];
                const char *rest = path_below(path, mount->root);
                _cleanup_free_ char *directory = NULL, *control = NULL;

                if (!rest || strstr(rest, "/../"))
                        continue;
                directory = xasprintf("%s%s", mount->point, rest);
                control = path_join(directory, control_file(hierarchy->version));
                if (access(control, F_OK) == 0) {
                        *ret = TAKE_PTR(directory);
                        return 0;
                }
        }
        return -ENOENT;
}

static int read_file(const char *directory, const char *file, char **ret) {
        _cleanup_free_ char *path = path_join(directory, file);

        return io_read_file(AT_FDCWD, path, LIST_LIMIT, ret, NULL);
}

int freezer_is_frozen(enum freezer_version version, const char *directory) {
        _cleanup_free_ char *text = NULL;
        int r = read_file(directory, version == FREEZER_V1 ? "freezer.state" : "cgroup.events", &text);

        if (r < 0)
                return r;
        return version == FREEZER_V1 ? streq(text, "FROZEN\n") : strstr(text, "frozen 1\n") != NULL;
}

int freezer_is_frozen_itself(enum freezer_version version, const char *directory) {
        _cleanup_free_ char *text = NULL;
        int r = read_file(directory, version == FREEZER_V1 ? "freezer.self_freezing" : "cgroup.freeze", &text);

        return r < 0 ? r : text[0] == '1';
}

bool freezer_holds(const struct freezer_hierarchy *hierarchy, pid_t pid) {
        _cleanup_free_ char *path = NULL, *directory = NULL;

        return hierarchy->n > 0 && freezer_path_of(pid, hierarchy->version, &path) >= 0 &&
               freezer_directory(hierarchy, path, &directory) >= 0 &&
               freezer_is_frozen(hierarchy->version, directory) > 0;
}

bool freezer_holds_process(pid_t pid) {
        bool held = false;

        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2 && !held; version++) {
                _cleanup_hierarchy_ struct freezer_hierarchy hierarchy = { 0 };

                freezer_hierarchy_load(version, &hierarchy);
                held = freezer_holds(&hierarchy, pid);
        }
        return held;
}

int freezer_set(enum freezer_version version, const char *directory, bool frozen) {
        static const char *const words[][2] = { { "THAWED", "FROZEN" }, { "0", "1" } };
        const char *word = words[version == FREEZER_V2][frozen];
        _cleanup_free_ char *path = path_join(directory, control_file(version));
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return -errno;
        return io_write_full(fd, word, strlen(word));
}

static int wait_until_frozen(enum freezer_version version, const char *directory, int timeout_ms, int cancel_fd) {
        uint64_t end = clock_ms() + (uint64_t)timeout_ms, nudge = clock_ms() + NUDGE_MS;

        for (int pause_ms = 1;; pause_ms = pause_ms < 20 ? pause_ms * 2 : pause_ms) {
                struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
                int r = freezer_is_frozen(version, directory);

                if (r != 0)
                        return r < 0 ? r : 0;
                if (clock_ms() >= end)
                        return -ETIMEDOUT;
                if (poll(&cancel, 1, pause_ms) > 0)
                        return -ECANCELED;
                if (version == FREEZER_V1 && clock_ms() >= nudge) {
                        (void)freezer_set(version, directory, true);
                        nudge = clock_ms() + NUDGE_MS;
                }
        }
}

int freezer_freeze(enum freezer_version version, const char *directory, int timeout_ms, int cancel_fd) {
        int r = freezer_set(version, directory, true);

        if (r >= 0)
                r = wait_until_frozen(version, directory, timeout_ms, cancel_fd);
        if (r < 0)
                (void)freezer_set(version, directory, false);
        return r;
}

int freezer_outermost(enum freezer_version version, const char *directory, char **ret) {
        char *at = xstrdup(directory), *found = NULL;

        for (;;) {
                int r = freezer_is_frozen_itself(version, at);

                if (r < 0)
                        break; /* above the highest that can be frozen */
                if (r > 0) {
                        free(found);
                        found = xstrdup(at);
                }
                char *above = path_directory(at);
                free(at);
                at = above;
        }
        free(at);
        *ret = found;
        return found ? 0 : -ENOENT;
}

struct members {
        pid_t *items;
        size_t n, room;
};

static int add_members(const char *directory, struct members *members) {
        _cleanup_free_ char *text = NULL;
        int r = read_file(directory, "cgroup.procs", &text);
        char *cursor = text, *line;

        if (r < 0)
                return r;
        while ((line = parse_line(&cursor))) {
                uint64_t pid;

                if (parse_number(line, 10, INT32_MAX, &pid) < 0)
                        return -EBADMSG;
                GROW(members->items, members->n, members->room);
                members->items[members->n++] = (pid_t)pid;
        }
        return 0;
}

static int walk_members(const char *directory, unsigned depth, struct members *members) {
        _cleanup_closedir_ DIR *dir = opendir(directory);
        const struct dirent *entry;
        int r;

        if (!dir)
                return errno == ENOENT && depth > 0 ? 0 : -errno;
        if (depth > DEPTH_LIMIT)
                return -ELOOP;
        r = add_members(directory, members);
        if (r == -ENODEV || (r == -ENOENT && depth > 0)) /* removed meanwhile */
                return 0;
        while (r >= 0 && (entry = readdir(dir))) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                _cleanup_free_ char *below = path_join(directory, entry->d_name);
                r = walk_members(below, depth + 1, members);
        }
        return r;
}

int freezer_members(const char *directory, pid_t **ret, size_t *ret_n) {
        struct members members = { 0 };
        int r = walk_members(directory, 0, &members);

        if (r < 0) {
                free(members.items);
                return r;
        }
        *ret = members.items;
        *ret_n = members.n;
        return 0;
}
