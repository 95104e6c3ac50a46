/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-limits.so: preloaded into the criu of a dump where root lacks CAP_SYS_RESOURCE, as in many a container.
 *
 * CRIU asks for the resource limits of each task by prlimit(2), which the kernel allows for another user's process only
 * with that capability; so without it no dump of a process that is not root's would succeed. The same numbers are in
 * /proc/PID/limits for everybody. CRIU calls it by way of syscall(2) (dump_task_rlimits() in cr-dump.c of 4.2.1): only
 * that question, and only when the kernel refuses it, is answered here.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the columns of /proc/PID/limits begin: proc_pid_limits() in fs/proc/base.c of the kernel. */
#define SOFT_COLUMN 26
#define HARD_COLUMN 47

#define EXPORTED __attribute__((visibility("default")))

typedef long system_call(long number, ...);

static system_call *next;

__attribute__((constructor)) static void find_next(void) {
        next = (system_call *)dlsym(RTLD_NEXT, "syscall");
        /* What CRIU starts needs none of this. An engine that starts CRIU has to pass it on. */
        if (getenv("STASIS_LIMITS_THROUGH"))
                (void)unsetenv("STASIS_LIMITS_THROUGH");
        else
                (void)unsetenv("LD_PRELOAD");
}

static rlim_t parse_limit(const char *text) {
        return strncmp(text, "unlimited", strlen("unlimited")) == 0 ? RLIM_INFINITY : strtoull(text, NULL, 10);
}

/* The lines below the heading are in the order of the resources' numbers. */
static int read_limit(int pid, int resource, struct rlimit *ret) {
        char path[32], line[256];
        int r = -EIO;

        (void)snprintf(path, sizeof(path), "/proc/%d/limits", pid);
        FILE *f = fopen(path, "re");
        if (!f)
                return -errno;
        for (int i = -1; fgets(line, sizeof(line), f); i++)
                if (i == resource && strlen(line) > HARD_COLUMN) {
                        ret->rlim_cur = parse_limit(line + SOFT_COLUMN);
                        ret->rlim_max = parse_limit(line + HARD_COLUMN);
                        r = 0;
                        break;
                }
        (void)fclose(f);
        return r;
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the C library's name is reserved */
EXPORTED long syscall(long number, ...) {
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (size_t i = 0; i < sizeof(a) / sizeof(*a); i++)
                a[i] = va_arg(ap, long);
        va_end(ap);

        if (!next) {
                errno = ENOSYS;
                return -1;
        }
        long r = next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (r == -1 && errno == EPERM && number == SYS_prlimit64 && a[2] == 0 && a[3] != 0) {
                if (read_limit((int)a[0], (int)a[1], (struct rlimit *)a[3]) == 0)
                        return 0;
                errno = EPERM;
        }
        return r;
}
