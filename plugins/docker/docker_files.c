/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_files.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_root.h"
#include "docker_target.h"
#include "fdio.h"

#define BEFORE ".stasis-before" /* what was there, until the restore has succeeded or failed */
#define PIECE (256 * 1024)

int docker_files_open(const struct docker_restore *ctx, const json_t *inspect, struct docker_files *ret,
                      struct st_error **err) {
        const char *upper = docker_saved_text(inspect, "GraphDriver", "Data", "UpperDir", NULL);
        const char *slash = upper ? strrchr(upper, '/') : NULL;
        struct docker_files files = { .home = -EBADF };
        struct stat st;
        int r = 0;

        if (!slash || *upper != '/' || !slash[1])
                return st_error_set(err, EOPNOTSUPP,
                                    "the Docker engine does not tell where the files of container %.12s are",
                                    docker_inspect_id(inspect));
        files.path = strdup(upper);
        files.upper = strdup(slash + 1);
        _cleanup_free_ char *home = strndup(upper, (size_t)(slash - upper));
        if (!files.path || !files.upper || !home)
                r = st_error_errno(err, ENOMEM, "cannot find the files of the container");
        if (r == 0) {
                files.home = docker_root_openat(ctx->root_fd, home, O_RDONLY | O_DIRECTORY, 0);
                if (files.home < 0)
                        r = st_error_errno(err, files.home, "cannot open %s of the Docker engine", home);
                else if (fstatat(files.home, files.upper, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                        r = st_error_set(err, ENOENT, "the directory %s with the files of the container is missing",
                                         upper);
        }
        if (r < 0)
                docker_files_close(&files);
        else
                *ret = files;
        return r;
}

void docker_files_close(struct docker_files *files) {
        free(files->path);
        free(files->upper);
        if (files->home >= 0)
                close(files->home);
        *files = (struct docker_files){ .home = -EBADF };
}

/* One comparison: a thread writes the archive of what is there, another compares it with what the main one sends. */
struct comparison {
        int upper;                /* directory */
        int present[2], saved[2]; /* pipes */
        bool same;
        int result; /* of layer_save() */
        struct st_error *err;
        int cancel_fd;
};

static void *save_present(void *userdata) {
        struct comparison *comparison = userdata;
        struct layer_io io = { .cancel_fd = comparison->cancel_fd };
        sigset_t pipes;

        /* Whoever compares stops reading at the first difference. */
        sigemptyset(&pipes);
        sigaddset(&pipes, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipes, NULL);
        comparison->result = layer_save(comparison->upper, comparison->present[1], &io, NULL, &comparison->err);
        close(comparison->present[1]);
        return NULL;
}

/* Reads until it is full or the end. */
static size_t fill(int fd, char *buffer) {
        size_t n = 0;

        while (n < PIECE) {
                ssize_t got = read(fd, buffer + n, PIECE - n);
                if (got <= 0 && !(got < 0 && errno == EINTR))
                        break;
                n += got > 0 ? (size_t)got : 0;
        }
        return n;
}

static void *compare(void *userdata) {
        struct comparison *comparison = userdata;
        char *buffers = malloc(2 * (size_t)PIECE), discarded[4096];
        size_t n = PIECE;

        comparison->same = buffers;
        while (comparison->same && n == PIECE) {
                n = fill(comparison->present[0], buffers);
                size_t m = fill(comparison->saved[0], buffers + PIECE);
                comparison->same = n == m && memcmp(buffers, buffers + PIECE, n) == 0;
        }
        free(buffers);
        close(comparison->present[0]);
        while (read(comparison->saved[0], discarded, sizeof(discarded)) > 0)
                ; /* who sends it checks it, to its end */
        close(comparison->saved[0]);
        return NULL;
}

static int send_archive(struct docker_restore *ctx, int tar_fd, int fd, struct st_error **err) {
        if (tar_fd < 0)
                return st_restore_copy(ctx->restore, DOCKER_SAVED_ROOTFS, fd, err);

        _cleanup_free_ char *buffer = malloc(PIECE);
        off_t offset = 0;
        if (!buffer)
                return st_error_errno(err, ENOMEM, "cannot compare the files of the container");
        for (;;) {
                ssize_t n = pread(tar_fd, buffer, PIECE, offset);
                if (n <= 0)
                        return n == 0 ? 0 : st_error_errno(err, errno, "cannot read " DOCKER_SAVED_ROOTFS);
                int r = fdio_write(fd, buffer, (size_t)n, -1, DOCKER_SAVED_ROOTFS, err);
                if (r < 0)
                        return r;
                offset += n;
        }
}

int docker_files_compare(struct docker_restore *ctx, const struct docker_files *files, int tar_fd, bool *ret_same,
                         struct st_error **err) {
        struct comparison comparison = { .cancel_fd = st_operation_cancel_fd(ctx->restore->operation) };
        pthread_t saver, comparer;

        _cleanup_close_ int upper = openat(files->home, files->upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (upper < 0)
                return st_error_errno(err, errno, "cannot open %s", files->path);
        comparison.upper = upper;
        if (pipe2(comparison.present, O_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot make a pipe");
        if (pipe2(comparison.saved, O_CLOEXEC) < 0) {
                int r = st_error_errno(err, errno, "cannot make a pipe");
                close(comparison.present[0]);
                close(comparison.present[1]);
                return r;
        }
        bool comparing = pthread_create(&comparer, NULL, compare, &comparison) == 0;
        bool saving = comparing && pthread_create(&saver, NULL, save_present, &comparison) == 0;
        if (!saving)
                close(comparison.present[1]);
        int r = saving ? send_archive(ctx, tar_fd, comparison.saved[1], err)
                       : st_error_errno(err, EAGAIN, "cannot start a thread");
        close(comparison.saved[1]);
        if (comparing)
                pthread_join(comparer, NULL);
        else {
                close(comparison.present[0]);
                close(comparison.saved[0]);
        }
        if (saving)
                pthread_join(saver, NULL);
        /* A difference ends the saving before its time: not a failure. */
        if (r == 0 && comparison.result < 0 && comparison.result != -EPIPE) {
                r = comparison.result;
                st_error_move(err, comparison.err);
        } else
                st_error_free(comparison.err);
        *ret_same = r == 0 && comparison.same && comparison.result == 0;
        return r;
}

struct progress {
        struct st_operation *operation;
        uint64_t total;
};

static void tell(void *userdata, uint64_t bytes) {
        struct progress *progress = userdata;
        st_operation_progress(progress->operation, "putting files back", bytes, progress->total);
}

int docker_files_replace(struct docker_restore *ctx, struct docker_files *files, int tar_fd, struct st_error **err) {
        struct st_operation *operation = ctx->restore->operation;
        struct progress progress = { .operation = operation };
        struct layer_io io = { st_operation_cancel_fd(operation), tell, &progress };
        char aside[LAYER_NAME_MAX];
        struct stat st;

        if (fstat(tar_fd, &st) == 0)
                progress.total = (uint64_t)st.st_size;
        if (lseek(tar_fd, 0, SEEK_SET) < 0)
                return st_error_errno(err, errno, "cannot read " DOCKER_SAVED_ROOTFS);
        int r = layer_replace(files->home, files->upper, tar_fd, &io, NULL, aside, err);
        if (r < 0)
                return st_error_wrap(err, "cannot put the files of the container back");
        if (renameat2(files->home, aside, files->home, BEFORE, RENAME_NOREPLACE) < 0) {
                r = st_error_errno(err, errno, "cannot keep the files that the container has now");
                (void)layer_replace_undo(files->home, files->upper, aside, NULL);
                return r;
        }
        files->replaced = true;
        return 0;
}

int docker_files_undo(struct docker_files *files, struct st_error **err) {
        if (!files->replaced)
                return 0;
        files->replaced = false;
        int r = layer_replace_undo(files->home, files->upper, BEFORE, err);
        return r < 0 ? st_error_wrap(err, "cannot put back the files that the container had: they are in %s/../" BEFORE,
                                     files->path)
                     : 0;
}

void docker_files_keep(struct docker_restore *ctx, struct docker_files *files) {
        _cleanup_error_ struct st_error *err = NULL;
        char name[LAYER_NAME_MAX];

        if (!files->replaced)
                return;
        files->replaced = false;
        if (ctx->new_name) {
                if (layer_replace_commit(files->home, files->upper, BEFORE, &err) < 0)
                        st_log_warning("%s", st_error_message(err));
                return;
        }
        if (layer_replace_keep(files->home, files->upper, BEFORE, st_operation_by_policy(ctx->restore->operation),
                               name) < 0)
                (void)snprintf(name, sizeof(name), "%s", BEFORE);
        st_restore_message(ctx->restore, "what the container had changed in its files since the dump is kept in %.*s%s",
                           (int)(strlen(files->path) - strlen(files->upper)), files->path, name);
}

void docker_files_recover(const struct docker_restore *ctx, const json_t *inspect) {
        struct docker_files files = { .home = -EBADF };
        char name[LAYER_NAME_MAX];
        struct stat st;

        if (docker_files_open(ctx, inspect, &files, NULL) < 0)
                return;
        if (fstatat(files.home, BEFORE, &st, AT_SYMLINK_NOFOLLOW) == 0) {
                if (docker_inspect_pid(inspect) > 0)
                        (void)layer_replace_keep(files.home, files.upper, BEFORE, false, name);
                else {
                        st_log_info("putting back the files of container %s: a restore into it was killed",
                                    docker_inspect_name(inspect));
                        (void)layer_replace_undo(files.home, files.upper, BEFORE, NULL);
                }
        }
        docker_files_close(&files);
}
