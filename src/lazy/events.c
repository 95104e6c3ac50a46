/* SPDX-License-Identifier: Apache-2.0 */

/* The thread that reads what processes wait for and do to their memory, and what CRIU says. */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "lazy/private.h"
#include "lazy/uffd.h"

/* After the last process CRIU says that it is done: its criu/uffd.c. */
#define RESTORE_FINISHED 0x52535446

/* So often a page is asked for that is said to be in, before it is put in again. */
#define ASKED_MAX 8

/* Descriptors of processes that have ended are looked for when there are this many. */
#define PURGE_FIRST 256

#define EVENTS 64

static void watch(struct lazy *lazy, int fd, void *what) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

        (void)epoll_ctl(lazy->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Frees those of a list whose processes have ended; with the lock. */
static void purge_list(struct lazy *lazy, struct lazy_task **list) {
        while (*list) {
                struct lazy_task *task = *list;

                if (task->users == 0 && uffd_is_gone(task->uffd)) {
                        *list = task->next;
                        /* It forgets a closed descriptor by itself only when nobody has a duplicate. */
                        (void)epoll_ctl(lazy->epoll, EPOLL_CTL_DEL, task->uffd, NULL);
                        lazy_task_free(task);
                        lazy->n_tasks--;
                } else
                        list = &task->next;
        }
}

/** Adds a process, so that copiers find it. */
static void add_task(struct lazy *lazy, struct lazy_task *task) {
        struct lazy_task **list = task->number >= 0 ? &lazy->tasks[task->number] : &lazy->others;

        if (lazy->options.on_descriptor)
                lazy->options.on_descriptor(task->uffd, lazy->options.userdata);
        pthread_mutex_lock(&lazy->lock);
        task->next = *list;
        *list = task;
        lazy->n_tasks++;
        if (task->number >= 0)
                lazy->arrived[task->number] = true;
        pthread_cond_broadcast(&lazy->changed);
        pthread_mutex_unlock(&lazy->lock);
        watch(lazy, task->uffd, task);
}

/* Between two rounds of events, so that none is of a task that was freed. */
static void purge(struct lazy *lazy) {
        pthread_mutex_lock(&lazy->lock);
        if (lazy->n_tasks >= lazy->purge_at) {
                for (size_t i = 0; i < lazy->options.plan->n_tasks; i++)
                        purge_list(lazy, &lazy->tasks[i]);
                purge_list(lazy, &lazy->others);
                lazy->purge_at = lazy->n_tasks * 2 > PURGE_FIRST ? lazy->n_tasks * 2 : PURGE_FIRST;
        }
        pthread_mutex_unlock(&lazy->lock);
}

/* Somebody waits for a frame that their process has not got. */
static void urge(struct lazy *lazy, uint32_t frame) {
        pthread_mutex_lock(&lazy->lock);
        if (lazy->states[frame] == LAZY_DONE) {
                lazy->states[frame] = LAZY_TODO;
                lazy->n_done--;
        }
        lazy_urge(lazy, frame);
        pthread_mutex_unlock(&lazy->lock);
}

/* Somebody waits for a page that was put in. Most often it was on its way when they asked. */
static void ask_again(struct lazy *lazy, struct lazy_task *task, uint64_t now, uint32_t frame) {
        task->n_asked = task->asked == now ? task->n_asked + 1 : 1;
        task->asked = now;
        if (task->n_asked < ASKED_MAX) {
                uffd_wake(task->uffd, now, LAZY_PAGE);
                return;
        }
        task->n_asked = 0;
        lazy_task_set(task, frame, false);
        urge(lazy, frame);
}

static void on_fault(struct lazy *lazy, struct lazy_task *task, uint64_t now) {
        const struct lazy_plan *plan = lazy->options.plan;
        const struct lazy_piece *piece = NULL;
        uint64_t then;
        size_t done;

        if (task->number >= 0 && lazy_task_origin(task, now, &then))
                piece = lazy_plan_piece(&plan->tasks[task->number], then);
        if (!piece || piece->frame == LAZY_ZERO) {
                /* While an event waits this fails, and they ask again. */
                if (uffd_zero(task->uffd, now, LAZY_PAGE, &done) < 0)
                        uffd_wake(task->uffd, now, LAZY_PAGE);
        } else if (lazy_task_has(task, piece->frame))
                ask_again(lazy, task, now, piece->frame);
        else
                urge(lazy, piece->frame);
}

static void fail_event(struct lazy *lazy, int r) {
        struct st_error *error = NULL;

        st_error_errno(&error, r, "cannot read what happens to the memory of a restored process");
        lazy_fail(lazy, error);
}

void lazy_drain(struct lazy *lazy, struct lazy_task *task) {
        struct lazy_task *child;

        for (int i = 0; i < EVENTS; i++) {
                struct uffd_event event;
                int r;

                child = NULL;
                (void)pthread_rwlock_wrlock(&task->lock);
                r = uffd_read(task->uffd, &event);
                if (r > 0 && event.kind == UFFD_FAULT)
                        on_fault(lazy, task, event.start);
                else if (r > 0 && event.kind == UFFD_REMOVE)
                        lazy_task_cut(task, event.start, event.end);
                else if (r > 0 && event.kind == UFFD_REMAP)
                        lazy_task_move(task, event.start, event.end, event.to);
                else if (r > 0 && event.kind == UFFD_FORK) {
                        child = lazy_task_clone(lazy->options.plan, task, event.child);
                        add_task(lazy, child);
                }
                (void)pthread_rwlock_unlock(&task->lock);
                if (r < 0)
                        fail_event(lazy, r);
                if (r <= 0)
                        return;
        }
}

/** A PID, minus a zombie's PID, or the end. @return false: the connection is over */
static bool on_message(struct lazy *lazy, int connection) {
        int32_t number = 0;
        int fd;

        if (lazy->waiting_fd) {
                fd = io_receive_fd(connection);
                if (fd < 0)
                        return false;
                (void)io_set_nonblocking(fd, true);
                lazy->waiting_fd = false;
                add_task(lazy, lazy_task_new(lazy->options.plan, lazy_plan_find(lazy->options.plan, lazy->pid), fd));
                return true;
        }
        if (io_read_full(connection, &number, sizeof(number)) < 0)
                return false;
        if (number == RESTORE_FINISHED) {
                atomic_store(&lazy->mapped, true);
                pthread_mutex_lock(&lazy->lock);
                lazy->over = true;
                pthread_cond_broadcast(&lazy->changed);
                pthread_mutex_unlock(&lazy->lock);
                lazy_tell(lazy);
        } else if (number > 0) {
                lazy->pid = number;
                lazy->waiting_fd = true;
        }
        return true;
}

static void on_end(struct lazy *lazy) {
        pthread_mutex_lock(&lazy->lock);
        lazy->broken = !lazy->over;
        pthread_mutex_unlock(&lazy->lock);
        lazy_tell(lazy);
}

void *lazy_events_thread(void *userdata) {
        struct lazy *lazy = userdata;
        _cleanup_close_ int connection = -EBADF;
        struct epoll_event events[EVENTS];

        watch(lazy, lazy->stop_fd, &lazy->stop_fd);
        watch(lazy, lazy->options.listener, &lazy->options.listener);
        while (!lazy_stopped(lazy)) {
                int n = epoll_wait(lazy->epoll, events, EVENTS, -1);

                if (n < 0 && errno != EINTR) {
                        fail_event(lazy, -errno);
                        return NULL;
                }
                for (int i = 0; i < n; i++) {
                        void *what = events[i].data.ptr;

                        if (what == &lazy->stop_fd)
                                continue;
                        if (what == &connection) {
                                if (!on_message(lazy, connection)) {
                                        (void)epoll_ctl(lazy->epoll, EPOLL_CTL_DEL, connection, NULL);
                                        on_end(lazy);
                                }
                        } else if (what == &lazy->options.listener) {
                                connection = io_accept(lazy->options.listener);
                                (void)epoll_ctl(lazy->epoll, EPOLL_CTL_DEL, lazy->options.listener, NULL);
                                if (connection >= 0)
                                        watch(lazy, connection, &connection);
                        } else
                                lazy_drain(lazy, what);
                }
                purge(lazy);
        }
        return NULL;
}
