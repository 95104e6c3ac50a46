/* SPDX-License-Identifier: Apache-2.0 */

/* The format `none`: a directory with the files as CRIU made them, and the manifest. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/formats.h"
#include "image/threads.h"

/** Files from this size on are hashed and written by different threads at the same time. */
#define LARGE_FILE ((uint64_t)1 << 20)
#define PIECE ((size_t)1 << 20)
/** How much is handed to the disk at once while more is being written. */
#define WRITEBACK_STEP ((uint64_t)16 << 20)

/** What the threads do: small files all in one job, two jobs for each large one. */
struct none_jobs {
        struct writing *writing;
        int dir_fd;
        size_t *large; /* their indices, the largest first */
        size_t n_large;
};

static int create_file(const struct writing *writing, int dir_fd, const char *name, struct st_error **err) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return writing_failed(writing, errno, err);
        if (fchown(fd, writing->options->uid, writing->options->gid) < 0) {
                int r = writing_failed(writing, errno, err);
                close(fd);
                return r;
        }
        return fd;
}

/** A file that is there already gets the owner, the mode, and is sent to the disk. */
static int adopt_file(struct writing *writing, int dir_fd, const struct store_file *file, struct st_error **err) {
        _cleanup_close_ int fd = openat(dir_fd, file->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return writing_failed(writing, errno, err);
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size)
                return st_error_set(err, EBUSY, "%s is still being written to", file->path);
        if (fchmod(fd, 0600) < 0 || fchown(fd, writing->options->uid, writing->options->gid) < 0)
                return writing_failed(writing, errno, err);
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return 0;
}

static int write_file(struct writing *writing, int dir_fd, size_t index, struct st_error **err) {
        _cleanup_(store_reader_clear) struct store_reader reader = {
                .store = writing->store,
                .file = writing->files[index],
        };
        if (writing->options->in_place && reader.file->path)
                return adopt_file(writing, dir_fd, reader.file, err);
        _cleanup_close_ int fd = create_file(writing, dir_fd, reader.file->name, err);
        if (fd < 0)
                return fd;
        uint64_t written = 0, started = 0;
        const uint8_t *piece;
        ssize_t n;
        while ((n = store_read(&reader, &piece)) > 0) {
                int r = io_write_full(fd, piece, (size_t)n);
                if (r < 0)
                        return writing_failed(writing, r, err);
                written += (uint64_t)n;
                if (written - started >= WRITEBACK_STEP) {
                        (void)sync_file_range(fd, (off_t)started, (off_t)(written - started), SYNC_FILE_RANGE_WRITE);
                        started = written;
                }
                r = writing_step(writing, (uint64_t)n, err);
                if (r < 0)
                        return r;
        }
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read back %s", reader.file->name);
        /* All files are on their way before the first is waited for: one commit of the journal covers them. */
        (void)sync_file_range(fd, (off_t)started, 0, SYNC_FILE_RANGE_WRITE);
        return 0;
}

static int write_small(struct none_jobs *jobs, struct st_error **err) {
        struct writing *writing = jobs->writing;
        for (size_t i = 0; i < writing->n_files; i++) {
                if (writing->files[i]->size >= LARGE_FILE)
                        continue;
                int r = writing_hash(writing, i, err);
                if (r == 0)
                        r = write_file(writing, jobs->dir_fd, i, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_job(size_t index, void *userdata, struct st_error **err) {
        struct none_jobs *jobs = userdata;
        if (index == jobs->n_large * 2)
                return write_small(jobs, err);
        size_t file = jobs->large[index / 2];
        return index % 2 == 0 ? write_file(jobs->writing, jobs->dir_fd, file, err)
                              : writing_hash(jobs->writing, file, err);
}

static int write_manifest(struct writing *writing, int dir_fd, struct st_error **err) {
        size_t size;
        _cleanup_free_ char *text = manifest_to_text(&writing->manifest, &size);
        if (size > MANIFEST_TEXT_MAX)
                return st_error_set(err, E2BIG, "the manifest of %zu files would be too large", writing->n_files);
        _cleanup_close_ int fd = create_file(writing, dir_fd, IMAGE_MANIFEST, err);
        if (fd < 0)
                return fd;
        int r = io_write_full(fd, text, size);
        if (r < 0)
                return writing_failed(writing, r, err);
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return 0;
}

static int sync_files(struct writing *writing, int dir_fd, struct st_error **err) {
        for (size_t i = 0; i <= writing->n_files; i++) {
                const char *name = i < writing->n_files ? writing->files[i]->name : IMAGE_MANIFEST;
                _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 || fsync(fd) < 0)
                        return writing_failed(writing, errno, err);
                int r = writing_step(writing, 0, err);
                if (r < 0)
                        return r;
        }
        return fsync(dir_fd) < 0 ? writing_failed(writing, errno, err) : 0;
}

static int compare_large(const void *a, const void *b, void *userdata) {
        struct store_file **files = userdata;
        uint64_t x = files[*(const size_t *)a]->size, y = files[*(const size_t *)b]->size;
        return x < y ? 1 : x > y ? -1 : 0;
}

int none_write(struct writing *writing, int dir_fd, struct st_error **err) {
        _cleanup_free_ size_t *large = xcalloc(writing->n_files, sizeof(*large));
        struct none_jobs jobs = { .writing = writing, .dir_fd = dir_fd, .large = large };
        for (size_t i = 0; i < writing->n_files; i++)
                if (writing->files[i]->size >= LARGE_FILE)
                        large[jobs.n_large++] = i;
        qsort_r(large, jobs.n_large, sizeof(*large), compare_large, writing->files);
        int r = threads_run(jobs.n_large * 2 + 1, write_job, &jobs, err);
        if (r == 0)
                r = write_manifest(writing, dir_fd, err);
        if (r == 0)
                r = sync_files(writing, dir_fd, err);
        return r;
}

/** A directory that plain CRIU made: its files, without checksums. */
static int list_files(struct image *image, struct st_error **err) {
        _cleanup_close_ int copy = openat(image->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_closedir_ DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        if (!dir)
                return st_error_errno(err, errno, "cannot read %s", image->path);
        (void)TAKE_FD(copy); /* the stream's */
        struct dirent *entry;
        while ((errno = 0, entry = readdir(dir))) {
                struct stat st;
                if (streq(entry->d_name, "parent")) {
                        st_error_set(err, EOPNOTSUPP, "%s is incremental: it needs its parent", image->path);
                        st_error_hint(err, "dump without --prev-images-dir");
                        return -EOPNOTSUPP;
                }
                if (!path_is_name(entry->d_name) || fstatat(image->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                    !S_ISREG(st.st_mode))
                        continue;
                if (image->manifest.n == MANIFEST_FILES_MAX)
                        return st_error_set(err, E2BIG, "%s has more than %d files", image->path, MANIFEST_FILES_MAX);
                manifest_add(&image->manifest, entry->d_name, (uint64_t)st.st_size, (struct hash){ 0 });
        }
        if (errno != 0)
                return st_error_errno(err, errno, "cannot read %s", image->path);
        return manifest_index(&image->manifest, err);
}

static int check_file(struct image *image, const struct manifest_entry *entry, const struct stat *st,
                      struct st_error **err) {
        if (!S_ISREG(st->st_mode))
                return image_damaged(image, entry->name, "is not a regular file", err);
        if ((uint64_t)st->st_size == entry->size)
                return 0;
        _cleanup_free_ char *what =
                xasprintf("has %" PRIu64 " bytes instead of %" PRIu64, (uint64_t)st->st_size, entry->size);
        return image_damaged(image, entry->name, what, err);
}

int none_open(struct image *image, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = io_read_file(image->fd, IMAGE_MANIFEST, MANIFEST_TEXT_MAX, &text, &size);
        if (r == -ENOENT) {
                if (faccessat(image->fd, "inventory.img", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                        return st_error_set(err, EINVAL,
                                            "not a checkpoint: the directory %s has neither %s nor inventory.img",
                                            image->path, IMAGE_MANIFEST);
                return list_files(image, err);
        }
        if (r < 0)
                return st_error_errno(err, r, "cannot read %s/%s", image->path, IMAGE_MANIFEST);
        r = manifest_parse(text, size, &image->manifest, err);
        if (r < 0)
                return st_error_set(err, r, "%s is damaged", image->path);
        image->verified = true;
        for (size_t i = 0; i < image->manifest.n; i++) {
                const struct manifest_entry *entry = &image->manifest.entries[i];
                struct stat st;
                if (fstatat(image->fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return errno == ENOENT
                                       ? image_damaged(image, entry->name, "is missing", err)
                                       : st_error_errno(err, errno, "cannot read %s/%s", image->path, entry->name);
                r = check_file(image, entry, &st, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int none_open_file(struct image *image, const struct manifest_entry *entry, struct st_error **err) {
        _cleanup_close_ int fd = openat(image->fd, entry->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;
        if (fd < 0 && (errno == ENOENT || errno == ELOOP))
                return image_damaged(image, entry->name, errno == ENOENT ? "is missing" : "is a link", err);
        if (fd < 0 || fstat(fd, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s/%s", image->path, entry->name);
        int r = check_file(image, entry, &st, err);
        return r < 0 ? r : TAKE_FD(fd);
}

int none_read(struct image *image, const struct manifest_entry *entry, char *data, struct st_error **err) {
        _cleanup_close_ int fd = none_open_file(image, entry, err);
        if (fd < 0)
                return fd;
        int r = io_read_full(fd, data, (size_t)entry->size);
        if (r < 0)
                return st_error_errno(err, r, "cannot read %s/%s", image->path, entry->name);
        return 0;
}

struct none_verifying {
        struct image *image;
        int cancel_fd;
};

/* All of a file. @return 0, -ECANCELED, or what failed */
static int hash_file(int fd, uint64_t size, int cancel_fd, struct hash *ret, uint64_t *ret_size) {
        size_t room = size < PIECE ? (size_t)size + 1 : PIECE;
        _cleanup_free_ uint8_t *buffer = malloc(room);
        if (!buffer)
                return -ENOMEM;
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        for (;;) {
                if (threads_signalled(cancel_fd))
                        return -ECANCELED;
                ssize_t n = read(fd, buffer, room);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                hasher_update(hasher, buffer, (size_t)n);
                *ret_size += (uint64_t)n;
        }
        *ret = hasher_finish(hasher);
        return 0;
}

int none_verify_file(struct image *image, const struct manifest_entry *entry, int cancel_fd, struct st_error **err) {
        _cleanup_close_ int fd = none_open_file(image, entry, err);
        if (fd < 0)
                return fd;
        struct hash hash = { 0 };
        uint64_t size = 0;
        int r = hash_file(fd, entry->size, cancel_fd, &hash, &size);
        if (r == -ECANCELED)
                return st_error_set(err, ECANCELED, "cancelled");
        if (r < 0)
                return st_error_errno(err, r, "cannot read %s/%s", image->path, entry->name);
        if (image->verified && (size != entry->size || !hash_equal(hash, entry->hash)))
                return image_damaged(image, entry->name, "has a wrong checksum", err);
        return 0;
}

static int verify_job(size_t index, void *userdata, struct st_error **err) {
        const struct none_verifying *verifying = userdata;

        return none_verify_file(verifying->image, &verifying->image->manifest.entries[index], verifying->cancel_fd,
                                err);
}

int none_verify(struct image *image, int cancel_fd, struct st_error **err) {
        struct none_verifying verifying = { image, cancel_fd };
        return threads_run(image->manifest.n, verify_job, &verifying, err);
}
