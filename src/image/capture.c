/* SPDX-License-Identifier: Apache-2.0 */
#include "image/capture.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/streamer.h"
#include "image/threads.h"

/** A file that has come to this size gets a large pipe: CRIU goes on to pin pages while we copy. */
#define LARGE_FILE ((uint64_t)128 << 10)
#define PIPE_SIZE (1 << 20)
#define PIPE_SIZE_PAGES (32 << 20)
#define PROGRESS_STEP ((uint64_t)16 << 20)
/** CRIU has ended, yet somebody else holds its end of the connection: how long to wait for more, milliseconds. */
#define QUIET_MS 2000

/*
 * Pipes that are read at the same time. Further requests wait in the socket: CRIU itself never has many open for
 * writing, and descriptors are few (1,024 by default).
 */
#define SOURCES_MAX 256

/** A pipe that CRIU writes a file into. */
struct source {
        int fd;
        struct store_file *file;
        bool grown;
};

struct capture {
        struct store *store;
        void (*progress)(uint64_t bytes, void *userdata);
        void *userdata;
        pthread_t thread;
        char *socket_path;
        int ended_fd; /* readable when the thread has ended */
        int wake_fd;  /* readable when one of the flags was set */
        atomic_bool aborted, finishing;
        atomic_uint drains_asked; /* how often capture_drain() was called */

        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned drains_done; /* of them, answered; this and `ended` are under the lock */
        bool ended;
        struct st_error *error; /* of the thread; others read it when it has ended */

        /* The thread's own. */
        int listen_fd, epoll_fd;
        struct streamer streamer;
        struct source *expected; /* its name came, its pipe did not yet */
        struct source **sources;
        size_t n_sources, room_sources;
        uint64_t told;
};

static int watch(struct capture *capture, int fd, void *what) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
        return epoll_ctl(capture->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static struct source *source_free(struct source *source) {
        if (source && source->fd >= 0)
                close(source->fd);
        free(source);
        return NULL;
}

static void end_source(struct capture *capture, struct source *source) {
        for (size_t i = 0; i < capture->n_sources; i++) {
                if (capture->sources[i] != source)
                        continue;
                capture->sources[i] = capture->sources[--capture->n_sources];
                break;
        }
        source_free(source);
}

static void close_connection(struct capture *capture) {
        if (capture->streamer.socket >= 0)
                close(capture->streamer.socket);
        capture->streamer.socket = -EBADF;
}

static int accept_criu(struct capture *capture, struct st_error **err) {
        int fd = accept4(capture->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
                return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED
                               ? -EAGAIN
                               : st_error_errno(err, errno, "cannot accept CRIU's connection");
        capture->streamer.socket = fd;
        close(capture->listen_fd);
        capture->listen_fd = -EBADF;
        int r = watch(capture, fd, &capture->streamer);
        return r < 0 ? st_error_errno(err, r, "cannot watch CRIU's connection") : 0;
}

/** Takes the pipe of the file that was named last. */
static int take_pipe(struct capture *capture, struct st_error **err) {
        struct source *source = capture->expected;
        int fd = streamer_receive_pipe(&capture->streamer, err);
        if (fd < 0)
                return fd;
        source->fd = fd;
        capture->expected = NULL;
        GROW(capture->sources, capture->n_sources, capture->room_sources);
        capture->sources[capture->n_sources++] = source;
        if (streamer_is_pages(source->file->name))
                streamer_grow_pipe(fd, PIPE_SIZE);
        int r = watch(capture, fd, source);
        return r < 0 ? st_error_errno(err, r, "cannot watch a pipe of CRIU") : 0;
}

/** Takes all requests that have come. @return 0 or a negative errno with err */
static int serve_connection(struct capture *capture, struct st_error **err) {
        for (;;) {
                int r;
                if (!capture->expected) {
                        /* CRIU runs ahead: a tree of thousands of tasks has ten times as many small files. */
                        if (capture->n_sources >= SOURCES_MAX)
                                return 0;
                        _cleanup_free_ char *name = NULL;
                        r = streamer_receive_name(&capture->streamer, &name, err);
                        if (r == 0)
                                close_connection(capture);
                        if (r <= 0)
                                return r == -EAGAIN ? 0 : r;
                        struct store_file *file = store_add(capture->store, name, err);
                        if (!file)
                                return err && *err ? st_error_number(*err) : -EINVAL;
                        capture->expected = NEW(struct source);
                        *capture->expected = (struct source){ .fd = -EBADF, .file = file };
                }
                r = take_pipe(capture, err);
                if (r < 0)
                        return r == -EAGAIN ? 0 : r;
        }
}

/** Has CRIU closed the connection? Requests that have not been taken yet do not count. */
static bool is_closed(const struct capture *capture) {
        struct pollfd poller = { .fd = capture->streamer.socket, .events = POLLRDHUP };
        return poller.fd < 0 || poll(&poller, 1, 0) > 0;
}

static int read_source(struct capture *capture, struct source *source, struct st_error **err) {
        ssize_t n = store_append_pipe(capture->store, source->file, source->fd, err);
        if (n == -EAGAIN)
                return 0;
        if (n < 0)
                return (int)n;
        if (n == 0) {
                end_source(capture, source);
                return 0;
        }
        /*
         * CRIU lets the target run on before it closes the connection: these may be pages of a process that runs, not
         * of the moment of the dump. Never so when capture_drain() was waited for.
         */
        if (streamer_is_pages(source->file->name) && is_closed(capture))
                return st_error_set(err, ESTALE, "the process ran on before its memory had been copied");
        if (!source->grown && source->file->size >= LARGE_FILE) {
                streamer_grow_pipe(source->fd, streamer_is_pages(source->file->name) ? PIPE_SIZE_PAGES : PIPE_SIZE);
                source->grown = true;
        }
        if (capture->progress && capture->store->total - capture->told >= PROGRESS_STEP) {
                capture->told = capture->store->total;
                capture->progress(capture->told, capture->userdata);
        }
        return 0;
}

static int handle_event(struct capture *capture, void *what, struct st_error **err) {
        if (what == &capture->listen_fd) {
                int r = accept_criu(capture, err);
                return r == -EAGAIN ? 0 : r;
        }
        if (what == &capture->streamer)
                return serve_connection(capture, err);
        if (what == &capture->wake_fd) {
                uint64_t count;
                if (read(capture->wake_fd, &count, sizeof(count)) < 0) {
                        /* Somebody else's wake-up was taken together with this one. */
                }
                return 0;
        }
        return read_source(capture, what, err);
}

/** Nothing that was announced is missing, so far. */
static bool is_idle(const struct capture *capture) {
        return capture->listen_fd < 0 && !capture->expected && capture->n_sources == 0 && capture->streamer.have == 0;
}

static void tell_drained(struct capture *capture, unsigned asked) {
        pthread_mutex_lock(&capture->lock);
        capture->drains_done = asked;
        pthread_cond_broadcast(&capture->changed);
        pthread_mutex_unlock(&capture->lock);
}

/** Nothing came although CRIU has ended: it is all there, or never will be. */
static int handle_silence(struct capture *capture, struct st_error **err) {
        if (capture->listen_fd >= 0)
                return st_error_set(err, ENOTCONN, "CRIU ended before it sent anything");
        if (is_idle(capture)) {
                close_connection(capture);
                return 0;
        }
        return st_error_set(err, EPIPE, "CRIU ended before it had sent everything");
}

static int run(struct capture *capture, struct st_error **err) {
        struct epoll_event events[64];
        unsigned drained = 0;
        while (capture->listen_fd >= 0 || capture->streamer.socket >= 0 || capture->n_sources > 0) {
                bool finishing = atomic_load(&capture->finishing);
                unsigned asked = atomic_load(&capture->drains_asked);
                bool answering = asked != drained && is_idle(capture);
                int timeout = finishing && capture->listen_fd < 0 ? QUIET_MS : finishing || answering ? 0 : -1;
                int n = epoll_wait(capture->epoll_fd, events, (int)ELEMENTSOF(events), timeout);
                if (atomic_load(&capture->aborted))
                        return st_error_set(err, ECANCELED, "the capture was stopped");
                if (n < 0 && errno != EINTR)
                        return st_error_errno(err, errno, "cannot wait for CRIU");
                for (int i = 0; i < n; i++) {
                        int r = handle_event(capture, events[i].data.ptr, err);
                        if (r < 0)
                                return r;
                }
                /* What was sent before the question has come: this look was after it. */
                if (n == 0 && answering) {
                        drained = asked;
                        tell_drained(capture, asked);
                } else if (n == 0 && finishing) {
                        int r = handle_silence(capture, err);
                        if (r < 0)
                                return r;
                }
        }
        if (capture->expected)
                return st_error_set(err, EPIPE, "CRIU's connection ended before the pipe of %s came",
                                    capture->expected->file->name);
        return 0;
}

/** Closes all that CRIU writes to: the sooner, the sooner it notices. */
static void close_all(struct capture *capture) {
        close_connection(capture);
        while (capture->n_sources > 0)
                end_source(capture, capture->sources[0]);
        capture->expected = source_free(capture->expected);
        if (capture->listen_fd >= 0)
                close(capture->listen_fd);
        capture->listen_fd = -EBADF;
}

static void *capture_thread(void *userdata) {
        struct capture *capture = userdata;
        struct st_error *error = NULL;
        run(capture, &error);
        close_all(capture);
        if (capture->progress)
                capture->progress(capture->store->total, capture->userdata);

        pthread_mutex_lock(&capture->lock);
        capture->error = error;
        capture->ended = true;
        pthread_cond_broadcast(&capture->changed);
        pthread_mutex_unlock(&capture->lock);
        eventfd_write(capture->ended_fd, 1);
        return NULL;
}

static struct capture *capture_free(struct capture *capture) {
        if (!capture)
                return NULL;
        close_all(capture);
        if (capture->socket_path)
                unlink(capture->socket_path);
        free(capture->socket_path);
        free(capture->sources);
        if (capture->epoll_fd >= 0)
                close(capture->epoll_fd);
        if (capture->ended_fd >= 0)
                close(capture->ended_fd);
        if (capture->wake_fd >= 0)
                close(capture->wake_fd);
        st_error_free(capture->error);
        pthread_cond_destroy(&capture->changed);
        pthread_mutex_destroy(&capture->lock);
        free(capture);
        return NULL;
}
DEFINE_CLEANUP(struct capture, capture_free)

static struct capture *capture_new(struct store *store) {
        struct capture *capture = NEW(struct capture);
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&capture->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        pthread_mutex_init(&capture->lock, NULL);
        capture->store = store;
        capture->streamer.socket = -EBADF;
        capture->listen_fd = -EBADF;
        capture->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        capture->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        capture->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return capture;
}

int capture_start(const char *work_dir, struct store *store, void (*progress)(uint64_t bytes, void *userdata),
                  void *userdata, struct capture **ret, struct st_error **err) {
        _cleanup_(capture_freep) struct capture *capture = capture_new(store);
        capture->progress = progress;
        capture->userdata = userdata;
        if (capture->epoll_fd < 0 || capture->ended_fd < 0 || capture->wake_fd < 0)
                return st_error_errno(err, errno, "cannot start the capture");

        capture->listen_fd = streamer_listen(work_dir, STREAMER_CAPTURE_SOCKET, &capture->socket_path, err);
        if (capture->listen_fd < 0)
                return capture->listen_fd;
        int r = watch(capture, capture->listen_fd, &capture->listen_fd);
        if (r == 0)
                r = watch(capture, capture->wake_fd, &capture->wake_fd);
        if (r == 0)
                r = threads_start(&capture->thread, capture_thread, capture);
        if (r < 0)
                return st_error_errno(err, r, "cannot start the capture");
        *ret = TAKE_PTR(capture);
        return 0;
}

int capture_fd(const struct capture *capture) {
        return capture->ended_fd;
}

int capture_drain(struct capture *capture, int timeout_ms, struct st_error **err) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000L;
        }
        unsigned ticket = atomic_fetch_add(&capture->drains_asked, 1) + 1;
        eventfd_write(capture->wake_fd, 1);

        int r = 0;
        pthread_mutex_lock(&capture->lock);
        while (capture->drains_done < ticket && !capture->ended && r == 0)
                r = pthread_cond_timedwait(&capture->changed, &capture->lock, &until);
        bool drained = capture->drains_done >= ticket;
        if (capture->ended && capture->error)
                r = st_error_set(err, st_error_number(capture->error), "%s", st_error_message(capture->error));
        else if (capture->ended || drained)
                r = 0;
        else
                r = st_error_set(err, ETIMEDOUT, "the capture of CRIU's files did not end within %d ms", timeout_ms);
        pthread_mutex_unlock(&capture->lock);
        return r;
}

void capture_abort(struct capture *capture) {
        atomic_store(&capture->aborted, true);
        eventfd_write(capture->wake_fd, 1);
}

int capture_finish(struct capture *capture, struct st_error **err) {
        atomic_store(&capture->finishing, true);
        eventfd_write(capture->wake_fd, 1);
        pthread_join(capture->thread, NULL);
        int r = capture->error ? st_error_move(err, TAKE_PTR(capture->error)) : 0;
        capture_free(capture);
        return r;
}
