/* SPDX-License-Identifier: Apache-2.0 */
#include "lazy/private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/threads.h"
#include "lazy/uffd.h"

#define WAIT_STEP_MS 100
#define COPIERS_MAX 64
#define PURGE_FIRST 256

int lazy_listen(const char *work_dir, struct st_error **err) {
        _cleanup_free_ char *path = path_join(work_dir, LAZY_SOCKET);
        int fd;

        (void)unlink(path);
        fd = io_listen_unix(path, 0600, 1);
        return fd < 0 ? st_error_errno(err, fd, "cannot listen at %s", path) : fd;
}

void lazy_tell(struct lazy *lazy) {
        (void)eventfd_write(lazy->state_fd, 1);
}

void lazy_abort(struct lazy *lazy) {
        atomic_store(&lazy->stopped, true);
        (void)eventfd_write(lazy->stop_fd, 1);
        pthread_mutex_lock(&lazy->lock);
        pthread_cond_broadcast(&lazy->changed);
        pthread_mutex_unlock(&lazy->lock);
}

void lazy_fail(struct lazy *lazy, struct st_error *error) {
        pthread_mutex_lock(&lazy->lock);
        lazy->failed = true;
        if (!lazy->error)
                lazy->error = TAKE_PTR(error);
        pthread_mutex_unlock(&lazy->lock);
        st_error_free(error);
        lazy_abort(lazy);
        lazy_tell(lazy);
}

void lazy_urge(struct lazy *lazy, uint32_t frame) {
        size_t n = lazy->options.plan->n_frames;

        if (lazy->is_urgent[frame] || lazy->states[frame] == LAZY_DONE)
                return;
        lazy->is_urgent[frame] = true;
        if (lazy->states[frame] == LAZY_BUSY)
                return; /* who has it wakes them, or gives it back */
        lazy->urgent[(lazy->first_urgent + lazy->n_urgent++) % n] = frame;
        pthread_cond_broadcast(&lazy->changed);
}

int lazy_fd(const struct lazy *lazy) {
        return lazy->state_fd;
}

enum lazy_state lazy_poll(struct lazy *lazy, bool *ret_done) {
        enum lazy_state state = LAZY_RUNNING;
        eventfd_t value;

        (void)eventfd_read(lazy->state_fd, &value);
        pthread_mutex_lock(&lazy->lock);
        if (lazy->failed)
                state = LAZY_FAILED;
        else if (lazy->broken)
                state = LAZY_BROKEN;
        else if (lazy->n_done == lazy->options.plan->n_frames)
                state = LAZY_COMPLETE;
        if (ret_done)
                *ret_done = lazy->over;
        pthread_mutex_unlock(&lazy->lock);
        return state;
}

void lazy_set_mapped(struct lazy *lazy) {
        atomic_store(&lazy->mapped, true);
}

uint64_t lazy_pages(const struct lazy *lazy, uint64_t *ret_total) {
        if (ret_total)
                *ret_total = lazy->options.plan->pages;
        return atomic_load(&lazy->pages);
}

int lazy_failure(struct lazy *lazy, struct st_error **err) {
        int r;

        pthread_mutex_lock(&lazy->lock);
        r = lazy->error ? st_error_set(err, st_error_number(lazy->error), "%s", st_error_message(lazy->error))
                        : st_error_set(err, EIO, "pages are lost");
        pthread_mutex_unlock(&lazy->lock);
        return r;
}

int lazy_wait_complete(struct lazy *lazy, int stall_ms, int cancel_fd, struct st_error **err) {
        uint64_t pages = lazy_pages(lazy, NULL), since = clock_ms();

        for (;;) {
                struct pollfd fds[] = { { .fd = lazy->state_fd, .events = POLLIN },
                                        { .fd = cancel_fd, .events = POLLIN } };
                enum lazy_state state = lazy_poll(lazy, NULL);

                if (state == LAZY_COMPLETE)
                        return 0;
                if (state == LAZY_BROKEN)
                        return st_error_set(err, EPIPE, "CRIU has given up");
                if (state == LAZY_FAILED)
                        return lazy_failure(lazy, err);
                (void)poll(fds, ELEMENTSOF(fds), WAIT_STEP_MS);
                if (fds[1].revents)
                        return -ECANCELED;
                if (lazy_pages(lazy, NULL) != pages) {
                        pages = lazy_pages(lazy, NULL);
                        since = clock_ms();
                } else if (clock_ms() - since > (uint64_t)stall_ms)
                        return st_error_set(err, ETIMEDOUT, "no page came in for %d s", stall_ms / 1000);
        }
}

/* Calls a function for all processes, with the lock, until it returns false. */
static void each_task(struct lazy *lazy, bool (*call)(struct lazy *lazy, struct lazy_task *task)) {
        bool more = true;

        pthread_mutex_lock(&lazy->lock);
        for (size_t i = 0; i <= lazy->options.plan->n_tasks; i++) {
                struct lazy_task *task = i < lazy->options.plan->n_tasks ? lazy->tasks[i] : lazy->others;

                for (; task && more; task = task->next)
                        more = call(lazy, task);
        }
        pthread_mutex_unlock(&lazy->lock);
}

static bool offer_descriptor(struct lazy *lazy, struct lazy_task *task) {
        lazy->options.on_descriptor(task->uffd, lazy->options.userdata);
        return true;
}

void lazy_each_descriptor(struct lazy *lazy) {
        each_task(lazy, offer_descriptor);
}

static bool note_gone(struct lazy *lazy, struct lazy_task *task) {
        (void)lazy;
        if (uffd_is_gone(task->uffd))
                atomic_store(&task->gone, true);
        return atomic_load(&task->gone);
}

bool lazy_all_gone(struct lazy *lazy) {
        bool all = true;

        each_task(lazy, note_gone);
        pthread_mutex_lock(&lazy->lock);
        for (size_t i = 0; i <= lazy->options.plan->n_tasks; i++)
                for (struct lazy_task *task = i < lazy->options.plan->n_tasks ? lazy->tasks[i] : lazy->others; task;
                     task = task->next)
                        all = all && atomic_load(&task->gone);
        pthread_mutex_unlock(&lazy->lock);
        return all;
}

static void free_list(struct lazy_task *task) {
        while (task) {
                struct lazy_task *next = task->next;

                lazy_task_free(task);
                task = next;
        }
}

static struct lazy *lazy_free(struct lazy *lazy) {
        for (size_t i = 0; i < lazy->options.plan->n_tasks; i++)
                free_list(lazy->tasks[i]);
        free_list(lazy->others);
        if (lazy->epoll >= 0)
                close(lazy->epoll);
        if (lazy->stop_fd >= 0)
                close(lazy->stop_fd);
        if (lazy->state_fd >= 0)
                close(lazy->state_fd);
        close(lazy->options.listener);
        st_error_free(lazy->error);
        pthread_cond_destroy(&lazy->changed);
        pthread_mutex_destroy(&lazy->lock);
        free(lazy->tasks);
        free(lazy->arrived);
        free(lazy->states);
        free(lazy->urgent);
        free(lazy->is_urgent);
        free(lazy->copiers);
        free(lazy);
        return NULL;
}

static int start_threads(struct lazy *lazy) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        unsigned n = lazy->options.threads ? lazy->options.threads : cores > 0 ? (unsigned)cores : 1;
        int r = threads_start(&lazy->events, lazy_events_thread, lazy);

        if (r < 0)
                return r;
        if (n > COPIERS_MAX)
                n = COPIERS_MAX;
        lazy->copiers = xcalloc(n, sizeof(*lazy->copiers));
        for (; lazy->n_copiers < n && r >= 0; lazy->n_copiers += r >= 0)
                r = threads_start(&lazy->copiers[lazy->n_copiers], lazy_copier_thread, lazy);
        if (r >= 0 || lazy->n_copiers > 0)
                return 0;
        lazy_abort(lazy);
        (void)pthread_join(lazy->events, NULL);
        return r;
}

int lazy_start(const struct lazy_options *options, struct lazy **ret, struct st_error **err) {
        struct lazy *lazy = NEW(struct lazy);
        const struct lazy_plan *plan = options->plan;
        int r = 0;

        lazy->options = *options;
        lazy->purge_at = PURGE_FIRST;
        pthread_mutex_init(&lazy->lock, NULL);
        pthread_cond_init(&lazy->changed, NULL);
        lazy->tasks = xcalloc(plan->n_tasks + 1, sizeof(struct lazy_task *));
        lazy->arrived = xcalloc(plan->n_tasks + 1, sizeof(*lazy->arrived));
        lazy->states = xcalloc(plan->n_frames + 1, sizeof(*lazy->states));
        lazy->urgent = xcalloc(plan->n_frames + 1, sizeof(*lazy->urgent));
        lazy->is_urgent = xcalloc(plan->n_frames + 1, sizeof(*lazy->is_urgent));
        lazy->epoll = epoll_create1(EPOLL_CLOEXEC);
        lazy->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        lazy->state_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (lazy->epoll < 0 || lazy->stop_fd < 0 || lazy->state_fd < 0)
                r = -errno;
        if (r >= 0)
                r = start_threads(lazy);
        if (r < 0) {
                lazy_free(lazy);
                return st_error_errno(err, r, "cannot start serving pages");
        }
        *ret = lazy;
        return 0;
}

int lazy_finish(struct lazy *lazy, struct st_error **err) {
        int r = 0;

        lazy_abort(lazy);
        (void)pthread_join(lazy->events, NULL);
        for (unsigned i = 0; i < lazy->n_copiers; i++)
                (void)pthread_join(lazy->copiers[i], NULL);
        if (lazy->failed)
                r = lazy->error ? st_error_move(err, TAKE_PTR(lazy->error)) : st_error_set(err, EIO, "pages are lost");
        lazy_free(lazy);
        return r;
}
