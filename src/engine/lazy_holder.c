/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lazy_holder.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "supervisor/memory.h"

struct holder {
        int fd;
        char *record;
        pid_t root;
};

static void holder_free(struct holder *holder) {
        cleanup_closep(&holder->fd);
        free(holder->record);
        free(holder);
}

static void *hold(void *userdata) {
        struct holder *holder = userdata;
        struct pollfd polled = { .fd = holder->fd };
        int r;

        while (poll(&polled, 1, -1) < 0 && errno == EINTR)
                continue;
        r = memory_abandoned(&holder->fd, holder->record, "/proc/self/exe");
        if (r < 0) {
                st_log_error("process %d is killed: its memory cannot be guarded: %s", holder->root, strerror(-r));
                (void)kill(holder->root, SIGKILL);
        }
        holder_free(holder);
        return NULL;
}

void lazy_holder_start(struct engine_started *started) {
        struct holder *holder;
        sigset_t all, before;
        pthread_t thread;
        int r;

        if (started->memory_fd < 0)
                return;
        holder = NEW(struct holder);
        holder->fd = TAKE_FD(started->memory_fd);
        holder->record = TAKE_PTR(started->memory_record);
        holder->root = started->pid;
        /* Signals are for who waits for the process: a SIGCHLD that this thread got would be lost. */
        sigfillset(&all);
        (void)pthread_sigmask(SIG_BLOCK, &all, &before);
        r = pthread_create(&thread, NULL, hold, holder);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r == 0) {
                (void)pthread_detach(thread);
                return;
        }
        st_log_warning("the memory that still comes is looked after by its server alone: %s", strerror(r));
        holder_free(holder);
}
