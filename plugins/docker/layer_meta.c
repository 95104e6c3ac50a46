/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_meta.h"

#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include <archive.h>

#include "../common/cleanup.h"

unsigned layer_meta_flags_mask(void) {
        return FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_DIRSYNC_FL;
}

static bool begins(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The part of an attribute of overlayfs after its prefix; NULL: it is none. user.*: mounts with userxattr. */
static const char *overlay_name(const char *name) {
        if (begins(name, "trusted.overlay."))
                return name + strlen("trusted.overlay.");
        return begins(name, "user.overlay.") ? name + strlen("user.overlay.") : NULL;
}

bool layer_meta_keeps(const char *name, bool root) {
        const char *overlay = overlay_name(name);
        if (overlay) {
                /*
                 * Notes about this very mount (Documentation/filesystems/overlayfs.rst); wrong ones make a mount
                 * fail.
                 */
                if (strcmp(overlay, "uuid") == 0 || strcmp(overlay, "nlink") == 0 || strcmp(overlay, "upper") == 0)
                        return false;
                return !(root && strcmp(overlay, "origin") == 0);
        }
        return begins(name, "user.") || begins(name, "trusted.") || strcmp(name, "security.capability") == 0 ||
               strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, LAYER_DEFAULT_ACL) == 0;
}

void layer_meta_proc_path(char path[static LAYER_PROC_PATH_MAX], int dir_fd, const char *name) {
        snprintf(path, LAYER_PROC_PATH_MAX, "/proc/self/fd/%d/%s", dir_fd, name);
}

/* Both calls of xattr(7) that need to be told a size before they tell it. @return the size, or -errno */
static ssize_t get(const char *path, const char *name, char **ret) {
        for (;;) {
                ssize_t size = name ? lgetxattr(path, name, NULL, 0) : llistxattr(path, NULL, 0);
                if (size < 0)
                        return -errno;
                char *data = malloc((size_t)size + 1);
                if (!data)
                        return -ENOMEM;
                ssize_t n = name ? lgetxattr(path, name, data, (size_t)size) : llistxattr(path, data, (size_t)size);
                if (n >= 0 && (size > 0 || n == 0)) {
                        data[n] = 0;
                        *ret = data;
                        return n;
                }
                int saved = n < 0 ? errno : ERANGE;
                free(data);
                if (saved != ERANGE)
                        return -saved;
        }
}

int layer_meta_read_xattrs(int dir_fd, const char *name, bool root, const char *shown, struct archive_entry *entry,
                           struct st_error **err) {
        char path[LAYER_PROC_PATH_MAX];
        _cleanup_free_ char *names = NULL;
        size_t total = 0;

        layer_meta_proc_path(path, dir_fd, name);
        ssize_t n = get(path, NULL, &names);
        if (n == -EOPNOTSUPP)
                return 0;
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot list the attributes of \"%s\"", shown);

        for (const char *p = names; p < names + n; p += strlen(p) + 1) {
                _cleanup_free_ char *value = NULL;
                if (!layer_meta_keeps(p, root))
                        continue;
                ssize_t size = get(path, p, &value);
                if (size < 0)
                        return st_error_errno(err, (int)size, "cannot read the attribute %s of \"%s\"", p, shown);
                total += strlen(p) + (size_t)size;
                if (total > LAYER_XATTRS_MAX)
                        return st_error_set(err, E2BIG, "\"%s\" has more than %zu KiB of extended attributes", shown,
                                            LAYER_XATTRS_MAX >> 10);
                archive_entry_xattr_add_entry(entry, p, value, (size_t)size);
        }
        return 0;
}

int layer_meta_write_xattrs(int dir_fd, const char *name, bool root, const char *shown, struct archive_entry *entry,
                            struct st_error **err) {
        char path[LAYER_PROC_PATH_MAX];
        const char *key;
        const void *value;
        size_t size;

        layer_meta_proc_path(path, dir_fd, name);
        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
                if (strcmp(key, LAYER_DEFAULT_ACL) == 0 || strcmp(key, LAYER_TYPE_XATTR) == 0)
                        continue;
                if (!layer_meta_keeps(key, root))
                        return st_error_set(err, EBADMSG, "\"%s\" has the attribute %.255s, which is never saved",
                                            shown, key);
                if (lsetxattr(path, key, size > 0 ? value : "", size, 0) < 0)
                        return st_error_errno(err, errno, "cannot set the attribute %.255s of \"%s\"", key, shown);
        }
        return 0;
}

int layer_meta_set_flags(int fd, unsigned flags, const char *shown, struct st_error **err) {
        int all = 0;

        if (ioctl(fd, FS_IOC_GETFLAGS, &all) < 0)
                return st_error_errno(err, errno, "cannot read the inode flags of \"%s\"", shown);
        all |= (int)(flags & layer_meta_flags_mask());
        if (ioctl(fd, FS_IOC_SETFLAGS, &all) < 0)
                return st_error_errno(err, errno, "cannot set the inode flags of \"%s\"", shown);
        return 0;
}
