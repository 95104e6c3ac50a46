/* SPDX-License-Identifier: Apache-2.0 */

/* Limits: descriptors, processes, pipes, memory. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/health.h"
#include "process/host.h"

#define PIPE_SIZE_LOW (1u << 20)
#define FILES_LOW 4096
#define PIDS_LOW 4096
#define MEMORY_LOW (256ull << 20)

/** The first line of a small file; malloc'ed, NULL when there is none. */
/** A setting of the kernel, and what a too small one means. */
static void check_setting(struct health *health, const char *name, uint64_t least, const char *problem) {
        _cleanup_free_ char *path = xasprintf("/proc/sys/%s", name), *value = io_read_line(path);

        if (value)
                health_warn(health, name, value, strtoull(value, NULL, 10) < least ? problem : NULL);
}

static void check_limit(struct health *health, const char *name, int resource, rlim_t least, const char *problem) {
        struct rlimit limit;
        _cleanup_free_ char *text = NULL;

        if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
                return;
        text = limit.rlim_max == RLIM_INFINITY ? xstrdup("unlimited") : xasprintf("%" PRIu64, (uint64_t)limit.rlim_max);
        health_warn(health, name, text, limit.rlim_max < least ? problem : NULL);
}

static void check_memory(struct health *health) {
        uint64_t available = host_memory("MemAvailable");
        _cleanup_free_ char *size = text_from_size(available);

        health_warn(health, "memory available", size,
                    available < MEMORY_LOW ? "a target stays frozen while its memory goes to the disk: free some, or "
                                             "set Checkpoint.StreamMemoryLimit"
                                           : NULL);
}

static void check_huge_pages(struct health *health) {
        _cleanup_free_ char *text = io_read_line("/sys/kernel/mm/transparent_hugepage/enabled");

        if (text)
                health_warn(health, "huge pages", text,
                            strstr(text, "[never]") ? "capture is a little slower: write madvise to "
                                                      "/sys/kernel/mm/transparent_hugepage/enabled"
                                                    : NULL);
}

void health_limits(struct health *health) {
        check_limit(health, "open files", RLIMIT_NOFILE, FILES_LOW,
                    "processes with more open files cannot be restored: raise the hard limit of the daemon");
        check_limit(health, "processes", RLIMIT_NPROC, PIDS_LOW,
                    "large trees cannot be restored: raise the limit of the daemon");
        check_setting(health, "kernel/pid_max", 65536,
                      "PIDs wrap early, and a restore needs its old ones: sysctl kernel.pid_max=4194304");
        check_setting(health, "fs/pipe-max-size", PIPE_SIZE_LOW,
                      "small pipes make capture slow: sysctl fs.pipe-max-size=1048576");
        check_memory(health);
        check_huge_pages(health);
}
