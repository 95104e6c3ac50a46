/* SPDX-License-Identifier: Apache-2.0 */

/* The kernel: version, what stasis itself uses of it, and the capabilities of this process. */

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "engine/health.h"
#include "process/proc.h"

/* statfs(2): of the unified cgroup hierarchy. */
#define CGROUP2_MAGIC 0x63677270

/* Of userfaultfd, in kernels from 6.7 on (linux/userfaultfd.h); the header here may be older. */
#define FEATURE_WP_ASYNC (1u << 15)

static void check_capabilities(struct health *health) {
        static const struct {
                const char *name;
                int number;
                bool required;
                const char *problem;
        } capabilities[] = {
                { "CAP_SYS_ADMIN", CAP_SYS_ADMIN, true, "CRIU needs it: run the daemon as root" },
                { "CAP_SYS_PTRACE", CAP_SYS_PTRACE, true, "CRIU needs it: run the daemon as root" },
                { "CAP_NET_ADMIN", CAP_NET_ADMIN, false, "TCP connections cannot be dumped: run the daemon with it" },
                { "CAP_SYS_RESOURCE", CAP_SYS_RESOURCE, false,
                  "limits that a process had raised cannot be restored: run the daemon with it" },
                { "CAP_CHECKPOINT_RESTORE", CAP_CHECKPOINT_RESTORE, false, "run the daemon with all capabilities" },
        };
        uint64_t effective = proc_capabilities();

        for (size_t i = 0; i < ELEMENTSOF(capabilities); i++) {
                bool have = effective >> capabilities[i].number & 1;
                const char *problem = have ? NULL : capabilities[i].problem;

                if (capabilities[i].required)
                        health_require(health, capabilities[i].name, have ? "yes" : "no", problem);
                else
                        health_warn(health, capabilities[i].name, have ? "yes" : "no", problem);
        }
}

/** Does the kernel track written pages by itself (bit 55 of pagemap, Documentation/admin-guide/mm/soft-dirty.rst)? */
static bool has_soft_dirty(void) {
        _cleanup_close_ int clear = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
        _cleanup_close_ int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        volatile char probe = 0;
        uint64_t entry = 0;
        long page = sysconf(_SC_PAGESIZE);

        /* A page that was written after its bit was cleared has it again, where there are such bits. */
        if (clear < 0 || pagemap < 0 || write(clear, "4", 1) != 1)
                return false;
        probe = 1;
        if (pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)&probe / (uintptr_t)page * sizeof(entry))) !=
            (ssize_t)sizeof(entry))
                return false;
        return entry >> 55 & 1;
}

static uint64_t userfaultfd_features(void) {
        _cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        struct uffdio_api api = { .api = UFFD_API };

        /* What everybody may have (Documentation/admin-guide/mm/userfaultfd.rst) tells as well whether there is one. */
        if (fd < 0 && errno == EPERM)
                fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 ? api.features | 1ull << 63 : 0;
}

static void check_memory_tracking(struct health *health) {
        uint64_t uffd = userfaultfd_features();

        health_warn(health, "soft-dirty", has_soft_dirty() ? "yes" : "no", NULL);
        health_warn(health, "userfaultfd", uffd ? "yes" : "no",
                    uffd ? NULL : "lazy restore does not work: set CONFIG_USERFAULTFD in the kernel");
        health_warn(health, "write tracking", uffd & FEATURE_WP_ASYNC ? "yes" : "no", NULL);
}

static void check_calls(struct health *health) {
        int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

        health_require(health, "pidfd", fd >= 0 ? "yes" : "no",
                       fd >= 0 ? NULL : "stasis watches processes by pidfd: a kernel from 5.3 on is needed");
        if (fd >= 0)
                close(fd);
}

/** Which cgroups there are decides how targets are frozen. */
static void check_cgroups(struct health *health) {
        struct statfs fs;
        bool unified = statfs("/sys/fs/cgroup", &fs) == 0 && (unsigned long)fs.f_type == CGROUP2_MAGIC;
        bool freezer = access("/sys/fs/cgroup/freezer", F_OK) == 0;

        health_warn(health, "cgroups",
                    unified   ? "v2"
                    : freezer ? "v1"
                              : "none with a freezer",
                    unified || freezer ? NULL : "targets are frozen by signals: mount cgroups to freeze by them");
}

void health_kernel(struct health *health) {
        struct utsname name;

        if (uname(&name) == 0)
                health_require(health, "kernel", name.release, NULL);
        if (!health->full)
                return;
        check_calls(health);
        check_memory_tracking(health);
        check_cgroups(health);
        check_capabilities(health);
}
