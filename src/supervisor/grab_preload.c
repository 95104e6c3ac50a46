/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-grab.so: preloaded into the criu of a dump whose memory stasis copies itself (image/grab.h).
 *
 * CRIU leaves out the content of a page, and sends only where it is, when a parent checkpoint exists and the kernel's
 * soft-dirty tracking says that the page has not changed since. We are the parent, and want all pages left out. So here
 * the tracking exists, and says so of every page; nothing of it reaches the kernel, where a soft-dirty bit that is
 * cleared would disturb who relies on it. Facts of CRIU 4.2.1:
 *
 * - kerndat_get_dirty_track() (kerndat.c) writes to clear_refs of itself, then reads eight bytes of its pagemap with
 *   read(2), in which bit 55 says that the kernel tracks (Documentation/admin-guide/mm/soft-dirty.rst of the kernel).
 *   All else in pagemaps is read by pread(2) or PAGEMAP_SCAN.
 * - do_task_reset_dirty_track() (mem.c) writes to clear_refs of each task, by a descriptor of its /proc directory.
 * - pmc_fill() (pagemap-cache.c) asks by PAGEMAP_SCAN; PAGE_IS_SOFT_DIRTY in the answer is a changed page.
 * - What kerndat_init() found out is kept in criu.kdat in /run, which every criu reads: ours is kept elsewhere.
 */

/* open() and open64() are two functions here, as they are in the C library. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/grab_protocol.h"
#include "supervisor/pagemap_scan.h"

#define KDAT "/criu.kdat"
#define SOFT_DIRTY ((uint64_t)1 << 55)

#define EXPORTED __attribute__((visibility("default")))

static struct {
        int (*open)(const char *path, int flags, ...);
        int (*openat)(int dir_fd, const char *path, int flags, ...);
        ssize_t (*read)(int fd, void *buffer, size_t n);
        int (*ioctl)(int fd, unsigned long request, ...);
        int (*rename)(const char *from, const char *to);
        int (*unlink)(const char *path);
} next;

static char kdat[PATH_MAX]; /* where ours is; empty: nowhere */
static bool was_reset;      /* its tracking; whether it works is looked at next */
static int pagemap = -1;    /* the descriptor for that */

static void *find(const char *name) {
        void *function = dlsym(RTLD_NEXT, name);
        if (!function)
                abort(); /* criu would fail at its next step, its target not touched yet */
        return function;
}

/* Other libraries may call what is here before its constructor has run. */
__attribute__((constructor)) static void begin(void) {
        const char *path = getenv(GRAB_KDAT_VARIABLE);

        if (next.open)
                return;
        next.open = find("open64");
        next.openat = find("openat64");
        next.read = find("read");
        next.ioctl = find("ioctl");
        next.rename = find("rename");
        next.unlink = find("unlink");
        if (path && strlen(path) < sizeof(kdat) - sizeof(".tmp"))
                memcpy(kdat, path, strlen(path) + 1);
        /* What CRIU starts needs none of this. */
        (void)unsetenv(GRAB_KDAT_VARIABLE);
        (void)unsetenv("LD_PRELOAD");
}

static bool ends_with(const char *path, const char *end) {
        size_t n = strlen(path), m = strlen(end);

        return n >= m && memcmp(path + n - m, end, m) == 0;
}

/* Our own path for CRIU's cache. */
static const char *redirect(const char *path, char buffer[static PATH_MAX]) {
        if (!path || kdat[0] == '\0')
                return path;
        if (ends_with(path, KDAT))
                return kdat;
        if (!ends_with(path, KDAT ".tmp"))
                return path;
        (void)snprintf(buffer, PATH_MAX, "%.*s.tmp", PATH_MAX - 5, kdat);
        return buffer;
}

static int open_at(int dir_fd, const char *path, int flags, mode_t mode) {
        char buffer[PATH_MAX];

        begin();
        if (path && ends_with(path, "clear_refs")) {
                was_reset = true;
                return next.open("/dev/null", O_RDWR | O_CLOEXEC);
        }
        int fd = next.openat(dir_fd, redirect(path, buffer), flags, mode);
        if (fd >= 0 && was_reset && path && ends_with(path, "pagemap"))
                pagemap = fd;
        return fd;
}

#define MODE_OF(flags)                                             \
        ({                                                         \
                mode_t _mode = 0;                                  \
                if ((flags)&O_CREAT || ((flags)&O_TMPFILE)) {      \
                        va_list _ap;                               \
                        va_start(_ap, flags);                      \
                        _mode = (mode_t)va_arg(_ap, unsigned int); \
                        va_end(_ap);                               \
                }                                                  \
                _mode;                                             \
        })

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the C library's names are reserved */
EXPORTED int open(const char *path, int flags, ...) {
        return open_at(AT_FDCWD, path, flags, MODE_OF(flags));
}

EXPORTED int open64(const char *path, int flags, ...) {
        return open_at(AT_FDCWD, path, flags, MODE_OF(flags));
}

EXPORTED int openat(int dir_fd, const char *path, int flags, ...) {
        return open_at(dir_fd, path, flags, MODE_OF(flags));
}

EXPORTED int openat64(int dir_fd, const char *path, int flags, ...) {
        return open_at(dir_fd, path, flags, MODE_OF(flags));
}

EXPORTED int rename(const char *from, const char *to) {
        char from_buffer[PATH_MAX], to_buffer[PATH_MAX];

        begin();
        return next.rename(redirect(from, from_buffer), redirect(to, to_buffer));
}

EXPORTED int unlink(const char *path) {
        char buffer[PATH_MAX];

        begin();
        /* What cannot be kept, not being in memory, is to be removed: of its two names CRIU forgets one. */
        if (kdat[0] != '\0' && ends_with(path, KDAT))
                (void)next.unlink(redirect(KDAT ".tmp", buffer));
        return next.unlink(redirect(path, buffer));
}

/* Is it still that file? The number may be another one's by now. */
static bool is_pagemap(int fd) {
        char link[32], path[64];

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof(path) - 1);
        if (n < 0)
                return false;
        path[n] = '\0';
        return ends_with(path, "/pagemap");
}

EXPORTED ssize_t read(int fd, void *buffer, size_t n) {
        begin();
        ssize_t r = next.read(fd, buffer, n);

        if (r == (ssize_t)sizeof(uint64_t) && n == sizeof(uint64_t) && fd >= 0 && fd == pagemap) {
                int saved = errno;
                uint64_t entry;

                memcpy(&entry, buffer, sizeof(entry));
                entry |= is_pagemap(fd) ? SOFT_DIRTY : 0;
                memcpy(buffer, &entry, sizeof(entry));
                was_reset = false;
                pagemap = -1;
                errno = saved;
        }
        return r;
}

EXPORTED int ioctl(int fd, unsigned long request, ...) {
        va_list ap;

        begin();
        va_start(ap, request);
        void *argument = va_arg(ap, void *);
        va_end(ap);
        int r = next.ioctl(fd, request, argument);

        if (request == PAGEMAP_SCAN_REQUEST && r > 0) {
                const struct pagemap_scan *scan = argument;
                struct pagemap_region *regions = (struct pagemap_region *)(uintptr_t)scan->regions;

                for (int i = 0; i < r; i++)
                        regions[i].categories &= ~PAGEMAP_SOFT_DIRTY;
        }
        return r;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
