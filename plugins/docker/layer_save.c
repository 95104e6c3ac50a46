/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Saving: libarchive makes the archive, the walk is our own, for it keeps no path open, changes no access time and
 * stores what is there, ACLs as the attributes they are.
 */

#include "layer.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <search.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <archive.h>
#include <archive_entry.h>

#include "../common/cleanup.h"
#include "fdio.h"
#include "layer_meta.h"
#include "layer_walk.h"

#define WHAT "the changes of the root filesystem"
#define CHUNK ((size_t)1 << 20)
#define HOLE_CHUNK ((size_t)1 << 30)
/* More pieces than this and the rest of a file counts as one: the map of the archive is kept in memory. */
#define SEGMENTS_MAX 65536

struct segment {
        off_t start, end;
};

struct seen { /* a file with several links, where it was first met */
        dev_t dev;
        ino_t ino;
        char path[];
};

struct saver {
        struct layer_io io;
        struct layer_stats stats;
        struct layer_walk walk;
        struct archive *archive;
        struct archive_entry *entry;
        int tar_fd;
        struct st_error *error; /* of our callback */
        bool given_up;          /* what libarchive still has is not to be written */
        char *chunk;
        char *zeros; /* HOLE_CHUNK of address space that reads as zeros */
        void *links; /* tsearch() tree of struct seen */
};

/*
 * An archive whose callback has failed does not free its buffer (libarchive 3.6): so it learns of it only when it is
 * closed.
 */
static ssize_t on_write(struct archive *archive, void *userdata, const void *data, size_t size) {
        struct saver *saver = userdata;
        (void)archive;
        if (saver->given_up)
                return -1;
        if (!saver->error)
                fdio_write(saver->tar_fd, data, size, saver->io.cancel_fd, WHAT, &saver->error);
        return (ssize_t)size;
}

static int archive_failed(struct saver *saver, struct st_error **err) {
        if (saver->error)
                return st_error_move(err, TAKE_PTR(saver->error));
        int number = archive_errno(saver->archive);
        return st_error_set(err, number > 0 ? number : EIO, "cannot archive \"%s\": %s", saver->walk.path,
                            archive_error_string(saver->archive));
}

static int compare_seen(const void *a, const void *b) {
        const struct seen *x = a, *y = b;
        if (x->dev != y->dev)
                return x->dev < y->dev ? -1 : 1;
        return x->ino == y->ino ? 0 : x->ino < y->ino ? -1 : 1;
}

/* @return the path under which the file was saved before, NULL if now is the first time; errors by *r */
static const char *saved_before(struct saver *saver, const struct stat *st, const char *path, int *r) {
        struct seen *seen = malloc(sizeof(*seen) + strlen(path) + 1);
        struct seen **found;

        *r = 0;
        if (!seen) {
                *r = -ENOMEM;
                return NULL;
        }
        seen->dev = st->st_dev;
        seen->ino = st->st_ino;
        memcpy(seen->path, path, strlen(path) + 1);
        found = tsearch(seen, &saver->links, compare_seen);
        if (!found || *found != seen)
                free(seen);
        else
                return NULL;
        if (!found)
                *r = -ENOMEM;
        return found ? (*found)->path : NULL;
}

/* Where a file has data: an array that is to be freed. A file without holes has one segment. */
static int find_segments(int fd, off_t size, struct segment **ret, size_t *ret_n) {
        struct segment *segments = NULL;
        size_t n = 0;

        for (off_t at = 0; at < size;) {
                off_t start = lseek(fd, at, SEEK_DATA), end;
                if (start < 0 && errno == ENXIO)
                        break;
                if (start < 0 && errno == EINVAL && at == 0)
                        start = 0; /* a file system that knows no holes */
                else if (start < 0)
                        goto fail;
                if (start >= size)
                        break;
                end = n + 1 < SEGMENTS_MAX ? lseek(fd, start, SEEK_HOLE) : size;
                if (end < 0 || end > size)
                        end = size;
                if ((n & (n - 1)) == 0) {
                        struct segment *more = reallocarray(segments, n ? n * 2 : 1, sizeof(*more));
                        if (!more)
                                goto fail;
                        segments = more;
                }
                segments[n++] = (struct segment){ start, end };
                at = end;
        }
        *ret = segments;
        *ret_n = n;
        return 0;
fail:
        free(segments);
        return -errno;
}

static int write_piece(struct saver *saver, const char *data, size_t size, struct st_error **err) {
        while (size > 0) {
                ssize_t n = archive_write_data(saver->archive, data, size);
                if (n <= 0 || saver->error)
                        return archive_failed(saver, err);
                data += n;
                size -= (size_t)n;
        }
        return fdio_check(saver->io.cancel_fd, err);
}

/* libarchive wants to be given the holes too, and drops them: so it gets memory that costs nothing. */
static int write_hole(struct saver *saver, off_t size, struct st_error **err) {
        if (size > 0 && !saver->zeros) {
                void *zeros = mmap(NULL, HOLE_CHUNK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (zeros == MAP_FAILED)
                        return st_error_errno(err, errno, "cannot archive the holes of \"%s\"", saver->walk.path);
                saver->zeros = zeros;
        }
        while (size > 0) {
                size_t n = size < (off_t)HOLE_CHUNK ? (size_t)size : HOLE_CHUNK;
                int r = write_piece(saver, saver->zeros, n, err);
                if (r < 0)
                        return r;
                size -= (off_t)n;
        }
        return 0;
}

static int write_segment(struct saver *saver, int fd, const struct segment *segment, struct st_error **err) {
        for (off_t at = segment->start; at < segment->end;) {
                off_t left = segment->end - at;
                ssize_t n = pread(fd, saver->chunk, left < (off_t)CHUNK ? (size_t)left : CHUNK, at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return st_error_errno(err, errno, "cannot read \"%s\"", saver->walk.path);
                if (n == 0)
                        return st_error_set(err, EBUSY, "\"%s\" became shorter while it was read", saver->walk.path);
                int r = write_piece(saver, saver->chunk, (size_t)n, err);
                if (r < 0)
                        return r;
                at += n;
                saver->stats.bytes += (uint64_t)n;
                if (saver->io.progress)
                        saver->io.progress(saver->io.userdata, saver->stats.bytes);
        }
        return 0;
}

static int write_header(struct saver *saver, struct st_error **err) {
        /* A warning is about something that the archive does not have then. */
        if (archive_write_header(saver->archive, saver->entry) != ARCHIVE_OK || saver->error)
                return archive_failed(saver, err);
        saver->stats.entries++;
        return 0;
}

static int save_content(struct saver *saver, int fd, off_t size, struct st_error **err) {
        _cleanup_free_ struct segment *segments = NULL;
        size_t n = 0;
        off_t at = 0;

        int r = find_segments(fd, size, &segments, &n);
        if (r < 0)
                return st_error_errno(err, r, "cannot find the holes of \"%s\"", saver->walk.path);
        if (size > 0 && !(n == 1 && segments[0].start == 0 && segments[0].end == size)) {
                for (size_t i = 0; i < n; i++)
                        archive_entry_sparse_add_entry(saver->entry, segments[i].start,
                                                       segments[i].end - segments[i].start);
                if (n == 0)
                        archive_entry_sparse_add_entry(saver->entry, 0, 0);
        }
        r = write_header(saver, err);
        for (size_t i = 0; r == 0 && i < n; i++) {
                r = write_hole(saver, segments[i].start - at, err);
                if (r == 0)
                        r = write_segment(saver, fd, &segments[i], err);
                at = segments[i].end;
        }
        return r < 0 ? r : write_hole(saver, size - at, err);
}

/* What a directory and any file have. */
static int fill_entry(struct saver *saver, const char *name, const struct stat *st, struct st_error **err) {
        struct archive_entry *entry = saver->entry;
        bool root = strcmp(name, ".") == 0;

        archive_entry_clear(entry);
        archive_entry_copy_pathname(entry, root ? "." : saver->walk.path);
        archive_entry_set_mode(entry, st->st_mode);
        archive_entry_set_uid(entry, st->st_uid);
        archive_entry_set_gid(entry, st->st_gid);
        archive_entry_set_atime(entry, st->st_atim.tv_sec, st->st_atim.tv_nsec);
        archive_entry_set_mtime(entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
        archive_entry_set_size(entry, S_ISREG(st->st_mode) ? st->st_size : 0);
        if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
                archive_entry_set_rdevmajor(entry, major(st->st_rdev));
                archive_entry_set_rdevminor(entry, minor(st->st_rdev));
        }
        if (S_ISSOCK(st->st_mode)) { /* tar has no type for it */
                archive_entry_set_filetype(entry, AE_IFIFO);
                archive_entry_xattr_add_entry(entry, LAYER_TYPE_XATTR, LAYER_TYPE_SOCKET, strlen(LAYER_TYPE_SOCKET));
        }
        return layer_meta_read_xattrs(saver->walk.fd, name, root, saver->walk.path, entry, err);
}

static void add_flags(struct saver *saver, int fd) {
        int flags = 0;
        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && ((unsigned)flags & layer_meta_flags_mask()))
                archive_entry_set_fflags(saver->entry, (unsigned)flags & layer_meta_flags_mask(), 0);
}

static int save_file(struct saver *saver, const char *name, const struct stat *st, struct st_error **err) {
        struct stat opened;
        /* O_NONBLOCK: a lease that a frozen process holds would make us wait for ever. */
        _cleanup_close_ int fd =
                openat(saver->walk.fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &opened) < 0)
                return st_error_errno(err, errno, "cannot open \"%s\"", saver->walk.path);
        if (opened.st_ino != st->st_ino || opened.st_dev != st->st_dev)
                return st_error_set(err, EBUSY, "\"%s\" was replaced while it was read", saver->walk.path);
        int r = fill_entry(saver, name, &opened, err);
        if (r < 0)
                return r;
        add_flags(saver, fd);
        return save_content(saver, fd, opened.st_size, err);
}

static int save_symlink(struct saver *saver, const char *name, const struct stat *st, struct st_error **err) {
        char target[PATH_MAX + 1];
        ssize_t n = readlinkat(saver->walk.fd, name, target, PATH_MAX);
        if (n < 0)
                return st_error_errno(err, errno, "cannot read the link \"%s\"", saver->walk.path);
        target[n] = 0;
        int r = fill_entry(saver, name, st, err);
        if (r < 0)
                return r;
        archive_entry_copy_symlink(saver->entry, target);
        return write_header(saver, err);
}

static int save_directory(struct saver *saver, const char *name, const struct stat *st, struct st_error **err) {
        int r = fill_entry(saver, name, st, err);
        if (r == 0 && strcmp(name, ".") != 0)
                r = layer_walk_enter(&saver->walk, name, err);
        if (r < 0)
                return r;
        if (st->st_ino != layer_walk_level(&saver->walk)->ino)
                return st_error_set(err, EBUSY, "\"%s\" was replaced while it was read", saver->walk.path);
        add_flags(saver, saver->walk.fd);
        r = write_header(saver, err);
        return r < 0 ? r : layer_walk_list(&saver->walk, err);
}

/* A whiteout has as many links as overlayfs made of one inode of its own: these are no links to keep. */
static bool is_whiteout(const struct stat *st) {
        return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int save_entry(struct saver *saver, const char *name, struct st_error **err) {
        struct stat st;
        int r;

        if (!layer_walk_path(&saver->walk, name))
                return st_error_set(err, ENAMETOOLONG, "a path has more than %zu bytes", LAYER_PATH_MAX);
        if (fstatat(saver->walk.fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
                return st_error_errno(err, errno, "cannot look at \"%s\"", saver->walk.path);

        if (S_ISDIR(st.st_mode))
                return save_directory(saver, name, &st, err);
        if (st.st_nlink > 1 && !is_whiteout(&st)) {
                const char *first = saved_before(saver, &st, saver->walk.path, &r);
                if (r < 0)
                        return st_error_errno(err, r, "cannot keep track of the links of \"%s\"", saver->walk.path);
                if (first) {
                        archive_entry_clear(saver->entry);
                        archive_entry_copy_pathname(saver->entry, saver->walk.path);
                        archive_entry_set_mode(saver->entry, S_IFREG);
                        archive_entry_copy_hardlink(saver->entry, first);
                        return write_header(saver, err);
                }
        }
        if (S_ISREG(st.st_mode))
                return save_file(saver, name, &st, err);
        if (S_ISLNK(st.st_mode))
                return save_symlink(saver, name, &st, err);
        r = fill_entry(saver, name, &st, err);
        return r < 0 ? r : write_header(saver, err);
}

/* Without it the kernel would not show trusted.*, and with them opaque directories would be lost. */
static int check_capability(struct st_error **err) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2] = { 0 };
        if (syscall(SYS_capget, &header, data) == 0 && !(data[0].effective & (1U << CAP_SYS_ADMIN)))
                return st_error_set(err, EPERM, "only root (CAP_SYS_ADMIN) sees all of an overlay's directories");
        return 0;
}

static int open_archive(struct saver *saver, struct st_error **err) {
        saver->archive = archive_write_new();
        saver->entry = archive_entry_new();
        saver->chunk = malloc(CHUNK);
        if (!saver->archive || !saver->entry || !saver->chunk)
                return st_error_errno(err, ENOMEM, "cannot make an archive");
        if (archive_write_set_format_pax(saver->archive) != ARCHIVE_OK ||
            archive_write_set_options(saver->archive, "hdrcharset=BINARY,xattrheader=LIBARCHIVE") != ARCHIVE_OK ||
            archive_write_add_filter_none(saver->archive) != ARCHIVE_OK ||
            archive_write_set_bytes_per_block(saver->archive, 1 << 18) != ARCHIVE_OK ||
            archive_write_set_bytes_in_last_block(saver->archive, 1) != ARCHIVE_OK ||
            archive_write_open(saver->archive, saver, NULL, on_write, NULL) != ARCHIVE_OK)
                return archive_failed(saver, err);
        return 0;
}

static int save_all(struct saver *saver, struct st_error **err) {
        struct layer_walk *walk = &saver->walk;

        int r = save_entry(saver, ".", err);
        while (r == 0) {
                struct layer_level *level = layer_walk_level(walk);
                r = fdio_check(saver->io.cancel_fd, err);
                if (r < 0)
                        break;
                if (level->next < level->n_names)
                        r = save_entry(saver, level->names[level->next++], err);
                else if (walk->depth > 0)
                        r = layer_walk_leave(walk, err);
                else
                        break;
        }
        if (r == 0 && (archive_write_close(saver->archive) != ARCHIVE_OK || saver->error))
                r = archive_failed(saver, err);
        return r;
}

int layer_save(int upper_fd, int tar_fd, const struct layer_io *io, struct layer_stats *stats, struct st_error **err) {
        struct saver saver = { .io = io ? *io : (struct layer_io){ .cancel_fd = -1 },
                               .tar_fd = tar_fd,
                               .walk = LAYER_WALK_NONE };

        int r = check_capability(err);
        if (r == 0)
                r = layer_walk_begin(&saver.walk, upper_fd, err);
        if (r == 0)
                r = open_archive(&saver, err);
        if (r == 0)
                r = save_all(&saver, err);
        if (r == 0 && stats)
                *stats = saver.stats;

        saver.given_up = true;
        archive_write_free(saver.archive);
        archive_entry_free(saver.entry);
        layer_walk_end(&saver.walk);
        st_error_free(saver.error);
        if (saver.zeros)
                munmap(saver.zeros, HOLE_CHUNK);
        free(saver.chunk);
        tdestroy(saver.links, free);
        if (r < 0 && r != -ECANCELED)
                st_error_wrap(err, "cannot save " WHAT);
        return r;
}
