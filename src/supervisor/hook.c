/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-hook: CRIU's --action-script. At "post-dump" it asks whether all that CRIU handed over is in safety (with
 * --stop: whether the checkpoint is committed), and waits for the answer; CRIU waits for us, and the tasks for CRIU. A
 * failure here makes CRIU resume the target. At "post-restore" it asks whether the memory that comes without CRIU may
 * be relied on; a failure here makes CRIU end what it has restored. All other actions pass.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/hook_protocol.h"

static int ask(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char answer = 0;
        ssize_t n;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));

        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        do
                n = read(fd, &answer, 1);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        return n == 1 && answer == HOOK_GO_ON ? 0 : -ECANCELED;
}

/* An engine that runs CRIU by itself does not pass our variable on, only the name of the script. */
static const char *find_socket(const char *called, char beside[static PATH_MAX]) {
        const char *path = getenv(HOOK_SOCKET_VARIABLE), *slash = strrchr(called, '/');

        if (path || !slash)
                return path;
        int n = snprintf(beside, PATH_MAX, "%.*s/" HOOK_SOCKET_NAME, (int)(slash - called), called);
        return n > 0 && n < PATH_MAX ? beside : NULL;
}

int main(int argc, char **argv) {
        const char *action = getenv("CRTOOLS_SCRIPT_ACTION");
        char beside[PATH_MAX];
        const char *path = find_socket(argc > 0 ? argv[0] : "", beside);
        int r;

        if (!action || (strcmp(action, "post-dump") != 0 && strcmp(action, "post-restore") != 0))
                return EXIT_SUCCESS;
        r = path ? ask(path) : -ENOENT;
        if (r < 0) {
                fprintf(stderr, "stasis-hook: the %s is not to go on: %s\n", action + strlen("post-"), strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
