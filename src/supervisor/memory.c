/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/spawn.h"

/** Does its server live? Who has removed the record was done, too. */
static bool is_looked_after(const char *record) {
        _cleanup_close_ int fd = open(record, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? errno == ENOENT : flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int memory_abandoned(int *socket, const char *record, const char *program) {
        char *const argv[] = { (char *)"stasis", (char *)MEMORY_GUARD, NULL };
        const struct spawn_fd fds[] = { { .fd = *socket, .number = MEMORY_GUARD_FD } };
        const struct spawn spawn = {
                .path = program,
                .argv = argv,
                .directory = "/",
                .fds = fds,
                .n_fds = 1,
                .new_session = true,
        };
        pid_t pid = is_looked_after(record) ? 0 : spawn_start(&spawn, NULL, NULL);

        close(*socket);
        *socket = -EBADF;
        return pid > 0 ? 1 : (int)pid;
}
