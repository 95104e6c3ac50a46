/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_firm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../common/cleanup.h"

struct docker_firm {
        pthread_t thread;
        int done; /* readable once it has ended */
        int (*call)(void *userdata, struct st_error **err);
        void *userdata;
        int result;
        struct st_error *error;
};

static void *run(void *userdata) {
        struct docker_firm *firm = userdata;

        firm->result = firm->call(firm->userdata, &firm->error);
        (void)eventfd_write(firm->done, 1);
        return NULL;
}

int docker_firm_start(int (*call)(void *userdata, struct st_error **err), void *userdata, struct docker_firm **ret,
                      struct st_error **err) {
        struct docker_firm *firm = calloc(1, sizeof(*firm));
        int r;

        if (!firm)
                return st_error_errno(err, ENOMEM, "cannot start a thread");
        *firm = (struct docker_firm){ .done = eventfd(0, EFD_CLOEXEC), .call = call, .userdata = userdata };
        r = firm->done < 0 ? errno : pthread_create(&firm->thread, NULL, run, firm);
        if (r != 0) {
                if (firm->done >= 0)
                        close(firm->done);
                free(firm);
                return st_error_errno(err, r, "cannot start a thread");
        }
        *ret = firm;
        return 0;
}

int docker_firm_wait(struct docker_firm *firm, int milliseconds, struct st_operation *operation,
                     struct st_error **err) {
        struct pollfd fds[] = {
                { .fd = firm->done, .events = POLLIN },
                { .fd = operation ? st_operation_cancel_fd(operation) : -1, .events = POLLIN },
        };
        int n = poll(fds, 2, milliseconds);

        if (n < 0 && errno != EINTR)
                return st_error_errno(err, errno, "cannot wait for the Docker engine");
        if (n <= 0)
                return 0;
        if (fds[0].revents)
                return 1;
        return st_operation_check_cancelled(operation, err) ?: st_error_set(err, ECANCELED, "cancelled");
}

int docker_firm_end(struct docker_firm *firm, struct st_error **err) {
        int r;

        (void)pthread_join(firm->thread, NULL);
        r = firm->result;
        if (r < 0)
                st_error_move(err, TAKE_PTR(firm->error));
        st_error_free(firm->error);
        close(firm->done);
        free(firm);
        return r;
}
