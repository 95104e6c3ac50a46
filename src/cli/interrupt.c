/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/exit.h"

static int event_fd = -EBADF;
static atomic_int count;

static void handle(int number) {
        int saved = errno;

        (void)number;
        if (atomic_fetch_add(&count, 1) > 0)
                _exit(EXIT_INTERRUPTED);
        (void)eventfd_write(event_fd, 1); /* a write(2): safe here (signal-safety(7)) */
        errno = saved;
}

int interrupt_watch(struct st_error **err) {
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
        struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };

        if (event_fd >= 0)
                return 0;
        event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (event_fd < 0)
                return st_error_errno(err, errno, "cannot watch for signals");
        sigemptyset(&action.sa_mask);
        for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
                struct sigaction old;

                /* What nohup(1) and shells ignore for us stays ignored. */
                if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
                        (void)sigaction(signals[i], &action, NULL);
        }
        return 0;
}

int interrupt_fd(void) {
        return event_fd;
}

int interrupt_count(void) {
        return atomic_load(&count);
}
