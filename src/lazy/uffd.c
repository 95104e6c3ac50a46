/* SPDX-License-Identifier: Apache-2.0 */
#include "lazy/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* What CRIU asks for, its criu/uffd.c. */
#define FEATURES \
        (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

/* Nothing is ever mapped there, not by us. */
#define NOWHERE 4096u

int uffd_probe(struct st_error **err) {
        _cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };

        if (fd < 0)
                return st_error_errno(err, errno, "userfaultfd(2) is not to be had");
        if (ioctl(fd, UFFDIO_API, &api) < 0)
                return st_error_errno(err, errno, "userfaultfd(2) has not all that is needed");
        return 0;
}

int uffd_read(int uffd, struct uffd_event *ret) {
        struct uffd_msg message;
        ssize_t n;

        do
                n = read(uffd, &message, sizeof(message));
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (n != sizeof(message))
                return n == 0 ? 0 : -EPROTO;
        *ret = (struct uffd_event){ .kind = UFFD_OTHER, .child = -EBADF };
        switch (message.event) {
        case UFFD_EVENT_PAGEFAULT:
                ret->kind = UFFD_FAULT;
                ret->start = message.arg.pagefault.address & ~(uint64_t)4095;
                ret->end = ret->start + 4096;
                break;
        case UFFD_EVENT_FORK:
                ret->kind = UFFD_FORK;
                ret->child = (int)message.arg.fork.ufd;
                (void)fcntl(ret->child, F_SETFD, FD_CLOEXEC);
                break;
        case UFFD_EVENT_REMAP:
                ret->kind = UFFD_REMAP;
                ret->start = message.arg.remap.from;
                ret->end = message.arg.remap.from + message.arg.remap.len;
                ret->to = message.arg.remap.to;
                break;
        case UFFD_EVENT_REMOVE:
        case UFFD_EVENT_UNMAP:
                ret->kind = UFFD_REMOVE;
                ret->start = message.arg.remove.start;
                ret->end = message.arg.remove.end;
                break;
        default:
                break;
        }
        return 1;
}

int uffd_copy(int uffd, uint64_t to, const void *from, size_t size, size_t *ret_done) {
        struct uffdio_copy copy = { .dst = to, .src = (uintptr_t)from, .len = size };
        int r = ioctl(uffd, UFFDIO_COPY, &copy) < 0 ? -errno : 0;

        /* What is in, or why nothing is. */
        *ret_done = r == 0 ? size : copy.copy > 0 ? (size_t)copy.copy : 0;
        /* A part that ended for another reason says only -EAGAIN: what that is the next call tells. */
        return r;
}

int uffd_zero(int uffd, uint64_t at, size_t size, size_t *ret_done) {
        struct uffdio_zeropage zero = { .range = { .start = at, .len = size } };
        int r = ioctl(uffd, UFFDIO_ZEROPAGE, &zero) < 0 ? -errno : 0;

        *ret_done = r == 0 ? size : zero.zeropage > 0 ? (size_t)zero.zeropage : 0;
        return r;
}

void uffd_wake(int uffd, uint64_t at, size_t size) {
        struct uffdio_range range = { .start = at, .len = size };

        (void)ioctl(uffd, UFFDIO_WAKE, &range);
}

bool uffd_is_gone(int uffd) {
        size_t done;

        return uffd_zero(uffd, NOWHERE, 4096, &done) == -ESRCH;
}
