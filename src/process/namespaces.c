/* SPDX-License-Identifier: Apache-2.0 */
#include "process/namespaces.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/parse.h"
#include "process/proc.h"

static ino_t namespace_of(pid_t pid, const char *name) {
        _cleanup_free_ char *path = xasprintf("/proc/%d/ns/%s", (int)pid, name);
        struct stat st;

        return stat(path, &st) < 0 ? 0 : st.st_ino;
}

bool namespaces_differ(pid_t pid, const char *name) {
        return namespace_of(pid, name) != namespace_of(getpid(), name);
}

bool namespaces_cgroups_differ(pid_t pid) {
        _cleanup_free_ char *ours = NULL, *theirs = NULL;

        if (proc_read_file(getpid(), "cgroup", &ours, NULL) < 0 || proc_read_file(pid, "cgroup", &theirs, NULL) < 0)
                return false;
        return !isempty(theirs) && !streq(ours, theirs); /* empty: it has ended */
}

/* proc_pid_mountinfo(5): ID parent major:minor root mount-point …. @return "major:minor root" of "/"; NULL: none */
static char *root_of(const char *mountinfo) {
        _cleanup_free_ char *copy = xstrdup(mountinfo);
        char *cursor = copy, *line, *found = NULL;

        while ((line = parse_line(&cursor))) {
                (void)parse_word(&line);
                (void)parse_word(&line);
                const char *device = parse_word(&line), *root = parse_word(&line), *point = parse_word(&line);

                /* The last one lies on top of the others. */
                if (point && streq(point, "/")) {
                        free(found);
                        found = xasprintf("%s %s", device, root);
                }
        }
        return found;
}

bool namespaces_same_root(const char *a, const char *b) {
        _cleanup_free_ char *root_a = root_of(a), *root_b = root_of(b);

        return root_a && root_b && streq(root_a, root_b);
}

bool namespaces_mounts_on_our_root(pid_t pid) {
        _cleanup_free_ char *ours = NULL, *theirs = NULL;

        return namespaces_differ(pid, "mnt") && proc_read_file(getpid(), "mountinfo", &ours, NULL) == 0 &&
               proc_read_file(pid, "mountinfo", &theirs, NULL) == 0 && namespaces_same_root(ours, theirs);
}
