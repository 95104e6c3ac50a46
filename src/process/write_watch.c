/* SPDX-License-Identifier: Apache-2.0 */
#include "process/write_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "process/remote_call.h"
#include "supervisor/pagemap_scan.h"

/* Debian 12's headers are older than Linux 6.7. */
#define FEATURE_ASYNC ((uint64_t)1 << 15) /* UFFD_FEATURE_WP_ASYNC */
#define USER_MODE_ONLY 1                  /* UFFD_USER_MODE_ONLY: permitted to everybody */

#define SCAN_PROTECT ((uint64_t)1 << 0) /* PM_SCAN_WP_MATCHING */
#define SCAN_CHECK ((uint64_t)1 << 1)   /* PM_SCAN_CHECK_WPASYNC */
#define IS_WRITTEN ((uint64_t)1 << 1)   /* PAGE_IS_WRITTEN */
#define IS_PRESENT ((uint64_t)1 << 3)   /* PAGE_IS_PRESENT */
#define IS_SWAPPED ((uint64_t)1 << 4)   /* PAGE_IS_SWAPPED */

#define REGIONS ((size_t)4096)
#define PAGE ((uint64_t)4096)

/** What the thread that traces works on. */
struct taking {
        pid_t pid;
        int result; /* a descriptor or -errno */
        struct st_error *error;
};

static int take_from(pid_t pid, int number, struct st_error **err) {
        _cleanup_close_ int pidfd = pidfd_open(pid, 0), watch = -EBADF;
        struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_ASYNC };

        if (pidfd >= 0)
                watch = pidfd_getfd(pidfd, number, 0);
        if (watch < 0)
                return st_error_errno(err, errno, "cannot take a descriptor of process %d", (int)pid);
        if (ioctl(watch, UFFDIO_API, &api) < 0)
                return st_error_set(err, EOPNOTSUPP, "the kernel cannot tell which pages are written");
        return TAKE_FD(watch);
}

static void *take(void *userdata) {
        struct taking *taking = userdata;
        struct remote_call remote;
        long number = 0;

        taking->result = remote_call_begin(&remote, taking->pid, &taking->error);
        if (taking->result < 0)
                return NULL;
        const uint64_t flags[6] = { O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY };
        taking->result = remote_call(&remote, SYS_userfaultfd, flags, &number, &taking->error);
        if (taking->result >= 0 && number < 0)
                taking->result = st_error_errno(&taking->error, (int)number, "userfaultfd(2) is refused to process %d",
                                                (int)taking->pid);
        if (taking->result >= 0) {
                const uint64_t descriptor[6] = { (uint64_t)number };
                int watch = take_from(taking->pid, (int)number, &taking->error);

                taking->result =
                        remote_call(&remote, SYS_close, descriptor, &number, taking->error ? NULL : &taking->error);
                if (taking->result < 0 && watch >= 0)
                        close(watch);
                else
                        taking->result = watch;
        }
        remote_call_end(&remote);
        return NULL;
}

int write_watch_take(pid_t pid, struct st_error **err) {
        struct taking taking = { .pid = pid };
        pthread_t thread;
        int r = pthread_create(&thread, NULL, take, &taking);

        if (r != 0)
                return st_error_errno(err, r, "cannot start a thread");
        pthread_join(thread, NULL);
        return taking.result < 0 ? st_error_move(err, taking.error) : taking.result;
}

bool write_watch_is_gone(int watch) {
        /* Nothing is ever mapped at the lowest addresses (vm.mmap_min_addr), so nothing changes. */
        struct uffdio_writeprotect nothing = { .range = { .start = PAGE, .len = PAGE } };

        return ioctl(watch, UFFDIO_WRITEPROTECT, &nothing) < 0 && errno == ESRCH;
}

/** By whomever. */
static bool is_watched(int pagemap_fd, uint64_t start) {
        struct pagemap_scan scan = {
                .size = sizeof(scan),
                .flags = SCAN_CHECK,
                .start = start,
                .end = start + PAGE,
        };

        return pagemap_fd >= 0 && ioctl(pagemap_fd, PAGEMAP_SCAN_REQUEST, &scan) >= 0;
}

/**
 * Takes the marks off all pages. A mapping that is not watched can have them: where mremap(2) puts a watched mapping
 * beside another one that it then becomes one with, the kernel stops to watch both, but clears only the marks of what
 * was moved (mremap_userfaultfd_prep() in fs/userfaultfd.c, copy_vma() in mm/vma.c). Writes do not change them then.
 */
static int clear_marks(int watch, uint64_t start, uint64_t end) {
        struct uffdio_writeprotect nothing = { .range = { .start = start, .len = end - start } };
        struct uffdio_range range = nothing.range;

        if (ioctl(watch, UFFDIO_WRITEPROTECT, &nothing) >= 0)
                return 0;
        int r = -errno;
        /* Something else is there meanwhile; what is left of it is let go of, which clears it, too. */
        return ioctl(watch, UFFDIO_UNREGISTER, &range) < 0 ? -ENOTRECOVERABLE : r;
}

int write_watch_register(int watch, int pagemap_fd, uint64_t start, uint64_t end) {
        struct uffdio_register what = { .range = { .start = start, .len = end - start },
                                        .mode = UFFDIO_REGISTER_MODE_WP };
        bool watched = is_watched(pagemap_fd, start);

        if (ioctl(watch, UFFDIO_REGISTER, &what) < 0)
                return -errno;
        return watched ? 0 : clear_marks(watch, start, end);
}

int write_watch_scan(int pagemap_fd, uint64_t start, uint64_t end, write_watch_fn written, void *userdata) {
        _cleanup_free_ struct pagemap_region *regions = xcalloc(REGIONS, sizeof(*regions));

        while (start < end) {
                /*
                 * Only pages that are there: asked for whatever is written, or without room for an answer, the kernel
                 * puts a mark in the place of those that are not, which CRIU takes for swapped ones
                 * (pagemap_scan_pmd_entry() in fs/proc/task_mmu.c).
                 */
                struct pagemap_scan scan = {
                        .size = sizeof(scan),
                        .flags = SCAN_PROTECT | SCAN_CHECK,
                        .start = start,
                        .end = end,
                        .regions = (uintptr_t)regions,
                        .n_regions = REGIONS,
                        .category_mask = IS_WRITTEN,
                        .category_anyof_mask = IS_PRESENT | IS_SWAPPED,
                        .return_mask = IS_WRITTEN,
                };
                int n = ioctl(pagemap_fd, PAGEMAP_SCAN_REQUEST, &scan);

                if (n < 0)
                        return -errno;
                for (int i = 0; i < n && written; i++) {
                        int r = written(regions[i].start, regions[i].end, userdata);

                        if (r < 0)
                                return r;
                }
                if (scan.walk_end <= start)
                        return -EIO;
                start = scan.walk_end;
        }
        return 0;
}
