/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Ownership by attribute, as in src/base/cleanup.h, which a plugin does not see: a variable frees what it holds when it
 * leaves its scope, unless TAKE_PTR or TAKE_FD gave it away. errno stays. Any thread.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void common_freep(void *p) {
        free(*(void **)p);
}

static inline void common_closep(int *fd) {
        if (*fd >= 0) {
                int saved = errno;
                close(*fd);
                errno = saved;
        }
}

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(common_freep)
/** Initialise with -EBADF. */
#define _cleanup_close_ _cleanup_(common_closep)

#define TAKE_PTR(p)                        \
        ({                                 \
                __typeof__(p) *_pp = &(p); \
                __typeof__(p) _p = *_pp;   \
                *_pp = NULL;               \
                _p;                        \
        })

#define TAKE_FD(fd)                \
        ({                         \
                int *_fdp = &(fd); \
                int _fd = *_fdp;   \
                *_fdp = -EBADF;    \
                _fd;               \
        })
