/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loading: libarchive reads the archive, the files are made by us. An entry can only be in a directory that was made
 * just before and is still open (the order of layer_save()), so there is no path to be resolved, and nobody's link
 * to be followed; only the target of a hard link is looked up, from the root, one real directory after the other.
 */

#include "layer.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <archive.h>
#include <archive_entry.h>

#include "../common/cleanup.h"
#include "fdio.h"
#include "layer_meta.h"
#include "layer_walk.h"

#define WHAT "the changes of the root filesystem"
#define CHUNK ((size_t)256 << 10)
/* Of the directories that are open, which may be as many as a path has components. */
#define ACLS_MAX ((size_t)16 << 20)

struct loader {
        struct layer_io io;
        struct layer_stats stats;
        struct layer_walk walk;
        struct archive *archive;
        int tar_fd;
        struct st_error *error; /* of our callback */
        char *chunk;
        int64_t delivered; /* bytes that libarchive got */
        size_t acls;
        char *path; /* of the entry, without what tar adds to directories */
};

static ssize_t on_read(struct archive *archive, void *userdata, const void **data) {
        struct loader *loader = userdata;
        ssize_t n = fdio_read(loader->tar_fd, loader->chunk, CHUNK, loader->io.cancel_fd, WHAT, &loader->error);
        if (n < 0) {
                archive_set_error(archive, (int)-n, "read");
                return -1;
        }
        loader->delivered += n;
        *data = loader->chunk;
        return n;
}

static int archive_failed(struct loader *loader, struct st_error **err) {
        if (loader->error)
                return st_error_move(err, TAKE_PTR(loader->error));
        const char *text = archive_error_string(loader->archive);
        return st_error_set(err, EBADMSG, "the archive is damaged: %s",
                            text ? text : "no archive of a container's changes");
}

/* A relative path whose components are names. The root is ".". */
static bool is_clean(const char *path) {
        if (strcmp(path, ".") == 0)
                return true;
        for (const char *p = path;; p++) {
                size_t n = strcspn(p, "/");
                if (n == 0 || n > NAME_MAX || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
                        return false;
                p += n;
                if (!*p)
                        return true;
        }
}

static int take_path(struct loader *loader, struct archive_entry *entry, struct st_error **err) {
        const char *path = archive_entry_pathname(entry);
        size_t n = path ? strlen(path) : 0;

        if (n > 1 && archive_entry_filetype(entry) == AE_IFDIR && path[n - 1] == '/')
                n--;
        if (n == 0 || n >= LAYER_PATH_MAX)
                return st_error_set(err, EBADMSG, "the archive has a file without a usable name");
        free(loader->path);
        loader->path = strndup(path, n);
        if (!loader->path)
                return st_error_errno(err, ENOMEM, "cannot unpack");
        if (!is_clean(loader->path))
                return st_error_set(err, EBADMSG, "the archive has the unsafe path \"%.200s\"", loader->path);
        return 0;
}

/* What could not be done to a directory while files were still to be made in it. */
static int finish_directory(struct loader *loader, struct st_error **err) {
        struct layer_level *level = layer_walk_level(&loader->walk);
        char path[LAYER_PROC_PATH_MAX];

        if (level->acl) {
                layer_meta_proc_path(path, loader->walk.fd, ".");
                if (lsetxattr(path, LAYER_DEFAULT_ACL, level->acl, level->acl_size, 0) < 0)
                        return st_error_errno(err, errno, "cannot set the default ACL of \"%s\"", loader->walk.path);
                loader->acls -= level->acl_size;
        }
        if (futimens(loader->walk.fd, level->times) < 0)
                return st_error_errno(err, errno, "cannot set the times of \"%s\"", loader->walk.path);
        return level->flags ? layer_meta_set_flags(loader->walk.fd, level->flags, loader->walk.path, err) : 0;
}

/* Leaves directories until the present one is the entry's. @return its name in there */
static int go_to(struct loader *loader, const char **ret_name, struct st_error **err) {
        struct layer_walk *walk = &loader->walk;
        const char *path = loader->path;
        size_t parent = strrchr(path, '/') ? (size_t)(strrchr(path, '/') - path) : 0;

        while (walk->depth > 0 &&
               (walk->length > parent || memcmp(walk->path, path, walk->length) != 0 || path[walk->length] != '/')) {
                walk->path[walk->length] = 0;
                int r = finish_directory(loader, err);
                if (r == 0)
                        r = layer_walk_leave(walk, err);
                if (r < 0)
                        return r;
        }
        if (walk->length != parent)
                return st_error_set(err, EBADMSG,
                                    "the archive has \"%.200s\" in another place than after its directory", path);
        *ret_name = parent > 0 ? path + parent + 1 : path;
        return 0;
}

static struct timespec time_of(bool set, time_t seconds, long nanoseconds) {
        return (struct timespec){ set ? seconds : 0, set ? nanoseconds : UTIME_OMIT };
}

static void times_of(struct archive_entry *entry, struct timespec times[2]) {
        times[0] =
                time_of(archive_entry_atime_is_set(entry), archive_entry_atime(entry), archive_entry_atime_nsec(entry));
        times[1] =
                time_of(archive_entry_mtime_is_set(entry), archive_entry_mtime(entry), archive_entry_mtime_nsec(entry));
}

static unsigned flags_of(struct archive_entry *entry) {
        unsigned long set = 0, clear = 0;
        archive_entry_fflags(entry, &set, &clear);
        return (unsigned)set & layer_meta_flags_mask();
}

/*
 * Owner, mode, attributes, in the order in which the kernel does not undo one by the other: chown(2) drops
 * set-user-ID bits and capabilities.
 */
static int set_meta(struct loader *loader, const char *name, struct archive_entry *entry, struct st_error **err) {
        int dir = loader->walk.fd;
        bool root = strcmp(loader->path, ".") == 0;
        int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

        if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
                return st_error_set(err, EBADMSG, "\"%s\" has an owner that cannot be", loader->path);
        if (fchownat(dir, name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
                return st_error_errno(err, errno, "cannot set the owner of \"%s\"", loader->path);
        /* No link is ever here: the name was made by us as something else. */
        if (archive_entry_filetype(entry) != AE_IFLNK && fchmodat(dir, name, archive_entry_perm(entry), 0) < 0)
                return st_error_errno(err, errno, "cannot set the mode of \"%s\"", loader->path);
        return layer_meta_write_xattrs(dir, name, root, loader->path, entry, err);
}

static int set_times(struct loader *loader, const char *name, struct archive_entry *entry, struct st_error **err) {
        struct timespec times[2];
        times_of(entry, times);
        if (utimensat(loader->walk.fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
                return st_error_errno(err, errno, "cannot set the times of \"%s\"", loader->path);
        return 0;
}

static int keep_acl(struct loader *loader, struct archive_entry *entry, struct st_error **err) {
        struct layer_level *level = layer_walk_level(&loader->walk);
        const char *key;
        const void *value;
        size_t size;

        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
                if (strcmp(key, LAYER_DEFAULT_ACL) != 0 || level->acl)
                        continue;
                if (size > ACLS_MAX - loader->acls)
                        return st_error_set(err, EBADMSG, "the archive has too many default ACLs");
                level->acl = malloc(size ? size : 1);
                if (!level->acl)
                        return st_error_errno(err, ENOMEM, "cannot unpack \"%s\"", loader->path);
                if (size > 0)
                        memcpy(level->acl, value, size);
                level->acl_size = size;
                loader->acls += size;
        }
        return 0;
}

static int load_directory(struct loader *loader, const char *name, struct archive_entry *entry, struct st_error **err) {
        bool root = strcmp(name, ".") == 0;

        if (!root && mkdirat(loader->walk.fd, name, 0700) < 0)
                return st_error_errno(err, errno, "cannot make the directory \"%s\"", loader->path);
        int r = set_meta(loader, name, entry, err);
        if (r == 0 && !root)
                r = layer_walk_enter(&loader->walk, name, err);
        if (r == 0)
                r = keep_acl(loader, entry, err);
        if (r < 0)
                return r;
        times_of(entry, layer_walk_level(&loader->walk)->times);
        layer_walk_level(&loader->walk)->flags = flags_of(entry);
        return 0;
}

static int write_at(struct loader *loader, int fd, const char *data, size_t size, int64_t at, struct st_error **err) {
        while (size > 0) {
                ssize_t n = pwrite(fd, data, size, at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        int r = st_error_errno(err, n < 0 ? errno : EIO, "cannot write \"%s\"", loader->path);
                        fdio_hint_full(fd, err);
                        return r;
                }
                data += n;
                size -= (size_t)n;
                at += n;
                loader->stats.bytes += (uint64_t)n;
        }
        if (loader->io.progress)
                loader->io.progress(loader->io.userdata, loader->stats.bytes);
        return fdio_check(loader->io.cancel_fd, err);
}

static int load_content(struct loader *loader, int fd, int64_t size, struct st_error **err) {
        if (size < 0)
                return st_error_set(err, EBADMSG, "\"%s\" has a length that cannot be", loader->path);
        for (;;) {
                const void *data;
                size_t n;
                int64_t at;
                int r = archive_read_data_block(loader->archive, &data, &n, &at);
                if (r == ARCHIVE_EOF)
                        break;
                if (r != ARCHIVE_OK)
                        return archive_failed(loader, err);
                if (at < 0 || at > size || n > (uint64_t)(size - at))
                        return st_error_set(err, EBADMSG, "\"%s\" has more content than its length", loader->path);
                r = write_at(loader, fd, data, n, at, err);
                if (r < 0)
                        return r;
        }
        if (ftruncate(fd, size) < 0)
                return st_error_errno(err, errno, "cannot give \"%s\" its length", loader->path);
        return 0;
}

static int load_file(struct loader *loader, const char *name, struct archive_entry *entry, struct st_error **err) {
        _cleanup_close_ int fd =
                openat(loader->walk.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make the file \"%s\"", loader->path);
        int r = load_content(loader, fd, archive_entry_size(entry), err);
        if (r == 0)
                r = set_meta(loader, name, entry, err);
        if (r == 0)
                r = set_times(loader, name, entry, err);
        if (r == 0 && flags_of(entry))
                r = layer_meta_set_flags(fd, flags_of(entry), loader->path, err);
        return r;
}

static bool is_socket(struct archive_entry *entry) {
        const char *key;
        const void *value;
        size_t size;

        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK)
                if (strcmp(key, LAYER_TYPE_XATTR) == 0)
                        return size == strlen(LAYER_TYPE_SOCKET) && memcmp(value, LAYER_TYPE_SOCKET, size) == 0;
        return false;
}

static int load_special(struct loader *loader, const char *name, struct archive_entry *entry, struct st_error **err) {
        mode_t type = archive_entry_filetype(entry);
        int r;

        if (type == AE_IFLNK) {
                const char *target = archive_entry_symlink(entry);
                r = target ? symlinkat(target, loader->walk.fd, name) : (errno = EBADMSG, -1);
        } else {
                bool device = type == AE_IFCHR || type == AE_IFBLK;
                dev_t dev = device ? makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry)) : 0;
                mode_t real = type == AE_IFIFO && is_socket(entry) ? S_IFSOCK : type;
                r = mknodat(loader->walk.fd, name, real | 0600, dev);
        }
        if (r < 0)
                return st_error_errno(err, errno, "cannot make \"%s\"", loader->path);
        r = set_meta(loader, name, entry, err);
        return r < 0 ? r : set_times(loader, name, entry, err);
}

/* The directory of a path below the root, reached by real directories only. @return a descriptor */
static int open_parent(struct loader *loader, const char *path, const char **ret_name, struct st_error **err) {
        const char *name = path, *slash;
        int number = 0;

        /* There is no way back from here to the root but "..": so the root's descriptor is used. */
        _cleanup_close_ int fd = openat(loader->walk.root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                number = errno;
        while (number == 0 && (slash = strchr(name, '/'))) {
                char part[NAME_MAX + 1] = { 0 };
                memcpy(part, name, (size_t)(slash - name)); /* is_clean() has seen its length */
                int next = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (next < 0)
                        number = errno;
                else {
                        close(fd);
                        fd = next;
                        name = slash + 1;
                }
        }
        if (number != 0)
                return st_error_errno(err, number, "cannot find \"%.200s\", which \"%s\" is another link to", path,
                                      loader->path);
        *ret_name = name;
        return TAKE_FD(fd);
}

static int load_hardlink(struct loader *loader, const char *name, struct archive_entry *entry, struct st_error **err) {
        const char *target = archive_entry_hardlink(entry);
        const char *target_name = target;

        if (!is_clean(target) || strlen(target) >= LAYER_PATH_MAX || archive_entry_size(entry) > 0)
                return st_error_set(err, EBADMSG, "\"%s\" is a link to the unsafe path \"%.200s\"", loader->path,
                                    target);
        _cleanup_close_ int fd = open_parent(loader, target, &target_name, err);
        if (fd < 0)
                return fd;
        if (linkat(fd, target_name, loader->walk.fd, name, 0) < 0)
                return st_error_errno(err, errno, "cannot link \"%s\" to \"%.200s\"", loader->path, target);
        return 0;
}

static int load_entry(struct loader *loader, struct archive_entry *entry, struct st_error **err) {
        const char *name = NULL;

        int r = take_path(loader, entry, err);
        if (r == 0)
                r = go_to(loader, &name, err);
        if (r < 0)
                return r;
        loader->stats.entries++;
        if (archive_entry_hardlink(entry))
                return load_hardlink(loader, name, entry, err);
        if ((strcmp(name, ".") == 0) != (loader->stats.entries == 1))
                return st_error_set(err, EBADMSG,
                                    "the archive does not begin with its root directory, or has two of them");
        switch (archive_entry_filetype(entry)) {
        case AE_IFDIR:
                return load_directory(loader, name, entry, err);
        case AE_IFREG:
                return strcmp(name, ".") != 0 ? load_file(loader, name, entry, err)
                                              : st_error_set(err, EBADMSG, "the archive's root is a file");
        case AE_IFLNK:
        case AE_IFCHR:
        case AE_IFBLK:
        case AE_IFIFO:
                return load_special(loader, name, entry, err);
        default:
                return st_error_set(err, EBADMSG, "\"%s\" is of an unknown kind", loader->path);
        }
}

/* libarchive takes an archive that was cut off between two entries for a whole one: its end mark must be there. */
static int check_end(struct loader *loader, struct st_error **err) {
        if (loader->stats.entries == 0 || loader->delivered - archive_read_header_position(loader->archive) < 1024)
                return st_error_set(err, EBADMSG, "the archive is cut off");
        return 0;
}

static int open_archive(struct loader *loader, struct st_error **err) {
        loader->archive = archive_read_new();
        loader->chunk = malloc(CHUNK);
        if (!loader->archive || !loader->chunk)
                return st_error_errno(err, ENOMEM, "cannot read an archive");
        /* "._NAME" is the name of a file here, not a note of another system about NAME. */
        if (archive_read_support_format_tar(loader->archive) != ARCHIVE_OK ||
            archive_read_set_options(loader->archive, "tar:!mac-ext") != ARCHIVE_OK ||
            archive_read_open(loader->archive, loader, NULL, on_read, NULL) != ARCHIVE_OK)
                return archive_failed(loader, err);
        return 0;
}

static int check_empty(struct loader *loader, struct st_error **err) {
        int r = layer_walk_list(&loader->walk, err);
        if (r == 0 && layer_walk_level(&loader->walk)->n_names > 0)
                r = st_error_set(err, EEXIST, "the directory is not empty: it has \"%s\"",
                                 layer_walk_level(&loader->walk)->names[0]);
        return r;
}

static int load_all(struct loader *loader, struct st_error **err) {
        int r;

        for (;;) {
                struct archive_entry *entry;
                r = fdio_check(loader->io.cancel_fd, err);
                if (r < 0)
                        return r;
                r = archive_read_next_header(loader->archive, &entry);
                if (r == ARCHIVE_EOF)
                        break;
                if (r != ARCHIVE_OK)
                        return archive_failed(loader, err);
                r = load_entry(loader, entry, err);
                if (r < 0)
                        return r;
        }
        r = check_end(loader, err);
        while (r == 0) {
                loader->walk.path[loader->walk.length] = 0;
                r = finish_directory(loader, err);
                if (r < 0 || loader->walk.depth == 0)
                        break;
                r = layer_walk_leave(&loader->walk, err);
        }
        return r;
}

int layer_load(int tar_fd, int upper_fd, const struct layer_io *io, struct layer_stats *stats, struct st_error **err) {
        struct loader loader = { .io = io ? *io : (struct layer_io){ .cancel_fd = -1 },
                                 .tar_fd = tar_fd,
                                 .walk = LAYER_WALK_NONE };

        int r = layer_walk_begin(&loader.walk, upper_fd, err);
        if (r == 0)
                r = check_empty(&loader, err);
        if (r == 0)
                r = open_archive(&loader, err);
        if (r == 0)
                r = load_all(&loader, err);
        if (r == 0 && stats)
                *stats = loader.stats;

        archive_read_free(loader.archive);
        layer_walk_end(&loader.walk);
        st_error_free(loader.error);
        free(loader.chunk);
        free(loader.path);
        if (r < 0 && r != -ECANCELED)
                st_error_wrap(err, "cannot put back " WHAT);
        return r;
}
