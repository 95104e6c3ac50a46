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
        ino_t theirs = namespace_of(pid, name), ours = namespace_of(getpid(), name);

        return theirs != 0 && ours != 0 && theirs != ours;
}

bool namespaces_cgroups_differ(pid_t pid) {
        _cleanup_free_ char *ours = NULL, *theirs = NULL;

        if (proc_read_file(getpid(), "cgroup", &ours, NULL) < 0 || proc_read_file(pid, "cgroup", &theirs, NULL) < 0)
                return false;
        return !isempty(theirs) && !streq(ours, theirs); /* empty: it has ended */
}

/** @return "major:minor root" of "/", malloc'ed; NULL: none */
static char *root_of(const char *mountinfo) {
        _cleanup_free_ char *copy = xstrdup(mountinfo);
        char *cursor = copy, *line, *found = NULL;

        while ((line = parse_line(&cursor))) {
                struct parse_mount mount;

                if (!parse_mount(line, &mount) || !streq(mount.point, "/"))
                        continue;
                /* The last one lies on top of the others. */
                free(found);
                found = xasprintf("%s %s", mount.device, mount.root);
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
