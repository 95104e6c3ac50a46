/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_output.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"

uid_t restore_owner_uid(const struct st_restore *restore) {
        return restore->req->has_uid ? restore->req->uid : st_operation_uid(restore->operation);
}

gid_t restore_owner_gid(const struct st_restore *restore) {
        return restore->req->has_gid ? restore->req->gid : st_operation_gid(restore->operation);
}

int restore_open_output(const struct st_restore *restore, struct st_error **err) {
        const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY;
        _cleanup_free_ char *path = path_absolute(restore->req->log);
        _cleanup_close_ int fd = open(path, flags | O_CREAT | O_EXCL, 0600);
        bool made = fd >= 0;

        if (!made && errno == EEXIST)
                fd = open(path, flags | O_CREAT, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s", path);
        if (made && fchown(fd, restore_owner_uid(restore), restore_owner_gid(restore)) < 0)
                return st_error_errno(err, errno, "cannot give %s to user %u", path, restore_owner_uid(restore));
        return TAKE_FD(fd);
}
