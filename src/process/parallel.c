/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "process/parallel.h"

/* More of them would wait for each other: the kernel takes a lock of the process that is looked at. */
#define THREADS_MAX 8

struct crew {
        size_t n, step;
        parallel_fn work;
        void *userdata;
        atomic_size_t next; /* the first item that nobody took yet */
};

/* Each takes the next items when it is done with its last ones: who is slow, or late, gets less. */
static void *work(void *userdata) {
        struct crew *crew = userdata;
        size_t begin;

        while ((begin = atomic_fetch_add(&crew->next, crew->step)) < crew->n) {
                size_t left = crew->n - begin;

                crew->work(begin, begin + (left < crew->step ? left : crew->step), crew->userdata);
        }
        return NULL;
}

static size_t count_threads(const struct crew *crew) {
        size_t steps = (crew->n + crew->step - 1) / crew->step, processors = 1;
        cpu_set_t set;

        if (sched_getaffinity(0, sizeof(set), &set) == 0)
                processors = (size_t)CPU_COUNT(&set);
        if (processors > THREADS_MAX)
                processors = THREADS_MAX;
        return processors < steps ? processors : steps;
}

void parallel_each(size_t n, size_t step, parallel_fn call, void *userdata) {
        struct crew crew = { .n = n, .step = step > 0 ? step : 1, .work = call, .userdata = userdata };
        size_t wanted = count_threads(&crew), started = 0;
        pthread_t threads[THREADS_MAX];
        sigset_t all, saved;

        /* Signals are for the thread that called. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        while (started + 1 < wanted && pthread_create(&threads[started], NULL, work, &crew) == 0)
                started++;
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        (void)work(&crew);
        for (size_t i = 0; i < started; i++)
                (void)pthread_join(threads[i], NULL);
}
