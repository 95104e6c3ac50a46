/* SPDX-License-Identifier: Apache-2.0 */

/* Starting the command of docker_follow.c as a child that outlives the operation. */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <stasis/child.h>

#include "../common/cleanup.h"
#include "docker_follow.h"
#include "fdio.h"

#define START_MS 10000
#define SYNC_FD 3

/** The first byte says whether it is attached; what follows, why not. */
static int wait_until_ready(struct st_operation *operation, const struct docker_follower *follower,
                            struct st_error **err) {
        char text[1024];
        size_t n = 0;

        for (;;) {
                struct pollfd events[] = {
                        { .fd = follower->sync, .events = POLLIN },
                        { .fd = st_operation_cancel_fd(operation), .events = POLLIN },
                };
                int ready = poll(events, 2, START_MS), r = st_operation_check_cancelled(operation, err);

                if (r < 0)
                        return r;
                if (ready == 0)
                        return st_error_set(err, ETIMEDOUT, "attaching to the container takes too long");
                ssize_t got = read(follower->sync, text + n, sizeof(text) - 1 - n);
                if (got > 0)
                        n += (size_t)got;
                if (n > 0 && text[0] == 'R')
                        return 0;
                if (got <= 0 || n == sizeof(text) - 1)
                        break;
        }
        text[n] = '\0';
        return st_error_set(err, EIO, "cannot attach to the container: %s",
                            n > 1 ? text + 1 : "the command " DOCKER_FOLLOW " does not run");
}

int docker_follower_start(struct st_operation *operation, const char *host, const char *container, const int stdio[3],
                          bool terminal, struct docker_follower *ret, struct st_error **err) {
        const char *plugins = st_arguments_string(st_operation_config(operation), "Plugins.LibDir");
        const struct st_child_fd fds[] = {
                { stdio[0], STDIN_FILENO }, { stdio[1], STDOUT_FILENO }, { stdio[2], STDERR_FILENO }, { 0, SYNC_FD }
        };
        const char *argv[10] = { "stasis", DOCKER_FOLLOW, "--host", host, "--sync", "3" };
        struct st_child_fd all[4];
        int pair[2], r;
        size_t n = 6;

        if (stdio[0] >= 0)
                argv[n++] = "--input";
        if (terminal)
                argv[n++] = "--terminal";
        argv[n++] = container;
        /* It is to load the plugins that we have; and this process is here for one request. */
        if (plugins && *plugins && setenv("STASIS_PLUGINS_LIB_DIR", plugins, 1) < 0)
                return st_error_errno(err, errno, "cannot start " DOCKER_FOLLOW);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return st_error_errno(err, errno, "cannot make a socket");
        memcpy(all, fds, sizeof(all));
        all[3].fd = pair[1];
        const struct st_child child = {
                .size = sizeof(child),
                .path = "/proc/self/exe",
                .argv = (char *const *)argv,
                .directory = "/",
                .fds = all,
                .n_fds = sizeof(all) / sizeof(*all),
                .keep_session = st_operation_no_server(operation), /* Ctrl-C is for the container, too */
        };
        ret->sync = pair[0];
        ret->pid = st_child_start(&child, NULL, err);
        close(pair[1]);
        if (ret->pid < 0) {
                r = (int)ret->pid;
                ret->pid = 0;
        } else
                r = wait_until_ready(operation, ret, err);
        if (r < 0)
                docker_follower_stop(ret);
        return r;
}

static void forget(struct docker_follower *follower) {
        common_closep(&follower->sync);
        *follower = DOCKER_FOLLOWER_NULL;
}

void docker_follower_go(struct docker_follower *follower) {
        (void)!write(follower->sync, "G", 1);
        forget(follower);
}

void docker_follower_stop(struct docker_follower *follower) {
        if (follower->pid > 0) {
                (void)kill(follower->pid, SIGKILL);
                (void)st_child_wait(follower->pid, NULL);
        }
        forget(follower);
}
