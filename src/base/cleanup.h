/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Ownership by attribute: a variable frees what it holds when it leaves its scope, unless TAKE_PTR/TAKE_FD gave it. */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_freep(void *p) {
        free(*(void **)p);
}

static inline void cleanup_closep(int *fd) {
        if (*fd >= 0) {
                int saved = errno;
                close(*fd);
                errno = saved;
        }
}

static inline void cleanup_fclosep(FILE **f) {
        if (*f)
                fclose(*f);
}

static inline void cleanup_closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(cleanup_freep)
/** Initialise with -EBADF. */
#define _cleanup_close_ _cleanup_(cleanup_closep)
#define _cleanup_fclose_ _cleanup_(cleanup_fclosep)
#define _cleanup_closedir_ _cleanup_(cleanup_closedirp)

/** Defines the cleanup function of a type with a free function that takes a pointer and accepts NULL. */
#define DEFINE_CLEANUP(type, function)             \
        static inline void function##p(type **p) { \
                if (*p)                            \
                        function(*p);              \
        }

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

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
