/* SPDX-License-Identifier: Apache-2.0 */
#include "image/threads.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "base/memory.h"

#define STACK ((size_t)256 << 10)

int threads_start(pthread_t *ret, void *(*function)(void *), void *userdata) {
        sigset_t all, before;
        pthread_attr_t attributes;
        int r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        pthread_attr_setstacksize(&attributes, STACK);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(ret, &attributes, function, userdata);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
        return -r;
}

struct run {
        pthread_mutex_t lock;
        size_t n, next;
        threads_job job;
        void *userdata;
        struct st_error *error; /* the first */
        int result;
};

static void *work(void *userdata) {
        struct run *run = userdata;
        pthread_mutex_lock(&run->lock);
        while (run->next < run->n && run->result == 0) {
                size_t index = run->next++;
                pthread_mutex_unlock(&run->lock);
                struct st_error *error = NULL;
                int r = run->job(index, run->userdata, &error);
                pthread_mutex_lock(&run->lock);
                if (r < 0 && run->result == 0) {
                        run->result = r;
                        run->error = error;
                        error = NULL;
                }
                st_error_free(error);
        }
        pthread_mutex_unlock(&run->lock);
        return NULL;
}

/** @param width how many threads, the caller's included; fewer do when there are no more */
static int run_jobs(size_t n, size_t width, threads_job job, void *userdata, struct st_error **err) {
        struct run run = { .lock = PTHREAD_MUTEX_INITIALIZER, .n = n, .job = job, .userdata = userdata };
        pthread_t *helpers = xcalloc(width, sizeof(*helpers));
        size_t helped = 0;
        while (helped + 1 < width && helped + 1 < n && threads_start(&helpers[helped], work, &run) == 0)
                helped++;
        work(&run);
        while (helped > 0)
                pthread_join(helpers[--helped], NULL);
        free(helpers);
        pthread_mutex_destroy(&run.lock);
        if (run.error)
                return st_error_move(err, run.error);
        return run.result;
}

int threads_run(size_t n, threads_job job, void *userdata, struct st_error **err) {
        return run_jobs(n, 2, job, userdata, err);
}

int threads_run_all(size_t n, threads_job job, void *userdata, struct st_error **err) {
        return run_jobs(n, n, job, userdata, err);
}

bool threads_signalled(int fd) {
        if (fd < 0)
                return false;
        struct pollfd poller = { .fd = fd, .events = POLLIN };
        return poll(&poller, 1, 0) > 0;
}
