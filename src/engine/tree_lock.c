/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tree_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "process/parse.h"
#include "process/proc.h"

#define RETRY_MS 20
#define TELL_AFTER_MS 200 /* whoever only looks whether a lock is free is not worth a word */
#define ABOUT_SIZE 64
#define DEPTH_LIMIT 256 /* processes above one */

struct wanted {
        struct st_operation *operation;
        const char *verb;
        pid_t root; /* of the tree that the operation is about */
        pid_t pid;  /* whose lock it is */
        bool exclusive;
        uint64_t begun_ms;
        bool told;
};

static char *lock_path(pid_t pid) {
        return xasprintf("%s/frozen/%d.lock", path_run_dir(), pid);
}

/** For those who wait: of several that share a lock the last one counts. */
static void note_holder(int fd, const struct wanted *wanted) {
        char about[ABOUT_SIZE] = { 0 };

        (void)snprintf(about, sizeof(about), "the %s of process %d", wanted->verb, wanted->root);
        ssize_t written = pwrite(fd, about, sizeof(about), 0);

        (void)written; /* it is for messages only */
}

static void tell(struct wanted *wanted, int fd) {
        char about[ABOUT_SIZE] = { 0 };
        size_t n = pread(fd, about, sizeof(about), 0) > 0 ? strnlen(about, sizeof(about)) : 0;
        _cleanup_free_ char *holder = n > 0 ? text_sanitise(about, n) : xstrdup("another operation");

        st_operation_progress(wanted->operation, "waiting for another operation", 0, 0);
        if (wanted->told || clock_ms() < wanted->begun_ms + TELL_AFTER_MS)
                return;
        /* Who sits before it sees warnings only. */
        st_log(st_operation_no_server(wanted->operation) ? ST_LOG_WARNING : ST_LOG_INFO,
               "the %s of process %d waits for %s to end", wanted->verb, wanted->root, holder);
        wanted->told = true;
}

/** @return a descriptor that holds the lock; -ECANCELED, -ETIMEDOUT or another -errno with err */
static int take(struct wanted *wanted, struct st_error **err) {
        _cleanup_free_ char *path = lock_path(wanted->pid), *directory = path_directory(path);
        int r = io_make_directories(directory, 0700);

        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", directory);
        wanted->begun_ms = clock_ms();
        for (;;) {
                _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
                struct pollfd cancel = { .fd = st_operation_cancel_fd(wanted->operation), .events = POLLIN };

                if (fd < 0)
                        return st_error_errno(err, errno, "cannot open %s", path);
                if (flock(fd, (wanted->exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) {
                        if (!io_is_at(fd, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW))
                                continue; /* its last holder has removed it */
                        note_holder(fd, wanted);
                        return TAKE_FD(fd);
                }
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return st_error_errno(err, errno, "cannot lock %s", path);
                tell(wanted, fd);
                (void)poll(&cancel, 1, RETRY_MS);
                r = st_operation_check_cancelled(wanted->operation, err);
                if (r < 0)
                        return r;
        }
}

static int add(struct wanted *wanted, struct tree_lock *lock, struct st_error **err) {
        int fd;

        for (size_t i = 0; i < lock->n; i++)
                if (lock->held[i].pid == wanted->pid)
                        return 0;
        fd = take(wanted, err);
        if (fd < 0)
                return fd;
        GROW(lock->held, lock->n, lock->room);
        lock->held[lock->n++] = (struct tree_lock_held){ wanted->pid, fd };
        return 0;
}

int tree_lock_take(struct st_operation *operation, const char *verb, pid_t pid, struct tree_lock *lock,
                   struct st_error **err) {
        struct wanted wanted = { .operation = operation, .verb = verb, .root = pid, .pid = pid, .exclusive = true };
        struct proc_stat stat;
        int r = add(&wanted, lock, err);

        wanted.exclusive = false;
        for (unsigned depth = 0; r >= 0 && depth < DEPTH_LIMIT; depth++) {
                if (proc_read_stat(wanted.pid, &stat) < 0 || stat.ppid <= 1)
                        break;
                wanted.pid = stat.ppid;
                r = add(&wanted, lock, err);
        }
        return r;
}

int tree_lock_share(struct st_operation *operation, const char *verb, pid_t pid, struct tree_lock *lock,
                    struct st_error **err) {
        struct wanted wanted = { .operation = operation, .verb = verb, .root = pid, .pid = pid };

        if (lock->n > 0)
                wanted.root = lock->held[0].pid;
        return add(&wanted, lock, err);
}

void tree_lock_release(struct tree_lock *lock) {
        for (size_t i = lock->n; i > 0; i--) {
                const struct tree_lock_held *held = &lock->held[i - 1];
                _cleanup_free_ char *path = lock_path(held->pid);

                if (flock(held->fd, LOCK_EX | LOCK_NB) == 0 && io_is_at(held->fd, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW))
                        (void)unlink(path);
                close(held->fd);
        }
        free(lock->held);
        *lock = (struct tree_lock){ 0 };
}
