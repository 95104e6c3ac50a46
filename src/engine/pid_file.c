/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pid_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

int pid_file_prepare(const char *given, char **ret, struct st_error **err) {
        _cleanup_free_ char *path = NULL;
        int r;

        *ret = NULL;
        if (isempty(given))
                return 0;
        path = path_absolute(given);
        r = io_can_put_file(path);
        if (r < 0)
                return st_error_errno(err, r, "cannot write the PID file %s", path);
        *ret = TAKE_PTR(path);
        return 0;
}

char *pid_file_write(const char *path, pid_t pid, uid_t uid, gid_t gid) {
        _cleanup_free_ char *text = NULL;
        struct stat st;
        int r;

        if (!path)
                return NULL;
        text = xasprintf("%d\n", (int)pid);
        r = io_put_file(path, text, strlen(text), 0644);
        /* A device that it was written to belongs to whom it did. */
        if (r == 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode) && lchown(path, uid, gid) < 0)
                r = -errno;
        return r < 0 ? xasprintf("cannot write the PID file %s: %s", path, strerror(-r)) : NULL;
}
