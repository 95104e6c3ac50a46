/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_shot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <stasis/checkpoint.h>
#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_collision.h"
#include "docker_root.h"
#include "docker_saved.h"
#include "docker_shim.h"
#include "fdio.h"
#include "layer.h"

#define PREFIX "stasis-dump-"
#define STEP_MS 5
#define COPY_SIZE ((size_t)1 << 20)
#define EXITED_WITH_1 0x100 /* a wait status */

static void closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

/* Is the directory at that path of ours the same for the engine? */
static bool is_visible(int root_fd, const char *directory) {
        _cleanup_close_ int fd = docker_root_openat(root_fd, directory, O_PATH | O_DIRECTORY, 0);
        struct stat ours, theirs;

        return fd >= 0 && fstat(fd, &theirs) == 0 && stat(directory, &ours) == 0 && ours.st_dev == theirs.st_dev &&
               ours.st_ino == theirs.st_ino;
}

/* Of what the engine keeps itself: a dump that was killed has left its own there. One dump of a container at a time. */
static void remove_stale(const struct docker_shot *shot) {
        _cleanup_json_ json_t *list = NULL;
        json_t *checkpoint;
        size_t index;

        if (engine_checkpoint_list(shot->target->engine, shot->target->id, NULL, &list, NULL) < 0)
                return;
        json_array_foreach(list, index, checkpoint) {
                const char *name = docker_saved_text(checkpoint, "Name", NULL);
                if (name && strncmp(name, PREFIX, strlen(PREFIX)) == 0)
                        (void)engine_checkpoint_delete(shot->target->engine, shot->target->id, name, NULL, NULL);
        }
}

int docker_shot_prepare(struct docker_shot *shot, struct st_dump *dump, const struct docker_target *target,
                        const char *directory, struct st_error **err) {
        *shot = (struct docker_shot){ .dump = dump, .target = target, .directory = directory };
        snprintf(shot->name, sizeof(shot->name), PREFIX "%d", (int)getpid());
        shot->visible = is_visible(target->root_fd, directory);
        if (!shot->visible)
                remove_stale(shot);
        if (target->details->has_fast && target->details->fast) {
                _cleanup_error_ struct st_error *error = NULL;
                if (docker_fast_prepare(shot, &error) < 0)
                        st_dump_message(dump, "by way of the engine, not --fast: %s", st_error_message(error));
        }
        return docker_engine_open(target->details->host, target->details->certpath, -1, &shot->engine, err);
}

void docker_shot_clear(struct docker_shot *shot) {
        if (shot->firm)
                docker_shot_abandon(shot);
        engine_close(shot->engine);
        free(shot->runc);
        free(shot->runc_root);
        free(shot->path);
        *shot = (struct docker_shot){ 0 };
}

static int run(void *userdata, struct st_error **err) {
        struct docker_shot *shot = userdata;

        if (shot->runc)
                return docker_fast_run(shot, err);
        return engine_checkpoint_create(shot->engine, shot->target->id, shot->name,
                                        shot->visible ? shot->directory : NULL, false, err);
}

int docker_shot_start(struct docker_shot *shot, struct st_error **err) {
        /* As the times of files: one that was written before has none that is later. */
        (void)clock_gettime(CLOCK_REALTIME_COARSE, &shot->started);
        shot->collided = false;
        return docker_firm_start(run, shot, &shot->firm, err);
}

int docker_shot_wait_criu(struct docker_shot *shot, struct st_error **err) {
        bool seized = false;

        for (;;) {
                /* CRIU traces the first process from the moment at which it stops it until it lets go of all. */
                long tracer = docker_proc_number(shot->target->pid, "TracerPid");
                int r;

                if (tracer > 0)
                        seized = true;
                else if (tracer == 0 && seized && !shot->runc)
                        return 1;
                r = docker_firm_wait(shot->firm, STEP_MS, shot->dump->operation, err);
                if (r != 0)
                        return r > 0 ? 0 : r;
        }
}

void docker_shot_abandon(struct docker_shot *shot) {
        int directory = open(shot->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

        /* Without its directory the engine's copying ends, with an error. */
        while (directory >= 0 && docker_firm_wait(shot->firm, 20 * STEP_MS, NULL, NULL) == 0)
                (void)layer_remove(directory, shot->name, NULL);
        if (docker_firm_end(shot->firm, NULL) >= 0 && !shot->visible && !shot->runc)
                (void)engine_checkpoint_delete(shot->target->firm, shot->target->id, shot->name, NULL, NULL);
        shot->firm = NULL;
        if (directory >= 0) {
                (void)layer_remove(directory, shot->name, NULL);
                close(directory);
        }
}

/* Is it of this shot? The log of one that failed before is still there. */
static bool is_of(const struct docker_shot *shot, const struct timespec *time) {
        return time->tv_sec > shot->started.tv_sec ||
               (time->tv_sec == shot->started.tv_sec && time->tv_nsec >= shot->started.tv_nsec);
}

/* Hands CRIU's log of a run by the engine to the one place where logs are explained. */
static int explain_failure(const struct docker_shot *shot, struct st_error *error, struct st_error **err) {
        const char *work = st_operation_work_dir(shot->dump->operation);
        _cleanup_close_ int from = shot->target->shim_fd >= 0
                                           ? openat(shot->target->shim_fd, DOCKER_SHIM_CRIU_LOG, O_RDONLY | O_CLOEXEC)
                                           : -EBADF;
        _cleanup_close_ int to = -EBADF;
        _cleanup_free_ char *path = NULL, *temporary = NULL;
        struct stat st;
        char data[16384];
        ssize_t n;
        int r;

        if (from < 0 || !work || fstat(from, &st) < 0 || !S_ISREG(st.st_mode) || !is_of(shot, &st.st_mtim))
                return st_error_move(err, error);
        if (asprintf(&path, "%s/dump.log", work) < 0) {
                path = NULL;
                return st_error_move(err, error);
        }
        to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        while (to >= 0 && (n = fdio_read(from, data, sizeof(data), -1, "CRIU's log", NULL)) > 0)
                if (fdio_write(to, data, (size_t)n, -1, "CRIU's log", NULL) < 0)
                        break;
        st_error_free(error);
        r = st_dump_criu_failed(shot->dump, work, EXITED_WITH_1, err);
        temporary = r == -ENOSPC ? docker_shim_temporary(shot->target->shim) : NULL;
        return temporary ? st_error_wrap(err, "%s is full, the TMPDIR of the engine's containerd, which CRIU writes to",
                                         temporary)
                         : r;
}

static int explain_fast(const struct docker_shot *shot, struct st_error *error, struct st_error **err) {
        _cleanup_free_ char *images = NULL, *log = NULL;

        if (asprintf(&images, "%s/%s", shot->directory, shot->name) < 0)
                images = NULL;
        if (!images || asprintf(&log, "%s/dump.log", images) < 0)
                log = NULL;
        /* Without a log, or killed, it is runc that failed, and the error has its words. */
        if (!log || shot->status == 0 || access(log, R_OK) < 0)
                return st_error_move(err, error);
        st_error_free(error);
        return st_dump_criu_failed(shot->dump, images, shot->status, err);
}

/* Files that are no part of a checkpoint, or are made anew at a restore. */
static bool is_unwanted(const char *name) {
        return strcmp(name, DOCKER_SAVED_ENGINE_CONFIG) == 0 || strcmp(name, "dump.log") == 0 ||
               strcmp(name, "stats-dump") == 0;
}

static int copy_file(int from_directory, int to_directory, const char *name, int cancel_fd, struct st_error **err) {
        _cleanup_close_ int from = openat(from_directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        _cleanup_close_ int to = openat(to_directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        _cleanup_free_ char *data = malloc(COPY_SIZE);
        ssize_t n;
        int r;

        if (from < 0 || to < 0 || !data)
                return st_error_errno(err, errno, "cannot copy %s from the engine's checkpoint", name);
        while ((n = fdio_read(from, data, COPY_SIZE, cancel_fd, name, err)) > 0) {
                r = fdio_write(to, data, (size_t)n, cancel_fd, name, err);
                if (r < 0)
                        return r;
        }
        return (int)n;
}

/* Brings all files of a directory into ours: moved when it is below ours, else copied. */
static int collect(const struct docker_shot *shot, int from, int to, struct st_error **err) {
        __attribute__((cleanup(closedirp))) DIR *d = fdopendir(fcntl(from, F_DUPFD_CLOEXEC, 3));
        struct dirent *entry;
        size_t n = 0;

        if (!d)
                return st_error_errno(err, errno, "cannot read the engine's checkpoint");
        rewinddir(d);
        while ((errno = 0, entry = readdir(d))) {
                int r = 0;

                if (entry->d_name[0] == '.' || is_unwanted(entry->d_name))
                        continue;
                if (!shot->visible && !shot->runc)
                        r = copy_file(from, to, entry->d_name, st_operation_cancel_fd(shot->dump->operation), err);
                else if (renameat2(from, entry->d_name, to, entry->d_name, RENAME_NOREPLACE) < 0)
                        r = st_error_errno(err, errno, "cannot move %s out of the engine's checkpoint", entry->d_name);
                if (r < 0)
                        return r;
                n++;
        }
        if (errno)
                return st_error_errno(err, errno, "cannot read the engine's checkpoint");
        return n > 0 ? 0 : st_error_set(err, EIO, "the engine says that it made a checkpoint, but it is empty");
}

/* Where the engine has put its images. */
static int open_images(const struct docker_shot *shot, int directory, struct st_error **err) {
        _cleanup_free_ char *path = NULL;
        int fd;

        if (shot->visible || shot->runc) {
                fd = openat(directory, shot->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
                return fd < 0 ? st_error_errno(err, errno, "cannot open the engine's checkpoint %s/%s", shot->directory,
                                               shot->name)
                              : fd;
        }
        const char *root = docker_saved_text(shot->target->info, "DockerRootDir", NULL);
        if (asprintf(&path, "%s/containers/%s/checkpoints/%s", root ? root : "/var/lib/docker", shot->target->id,
                     shot->name) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot find the engine's checkpoint");
        }
        fd = docker_root_openat(shot->target->root_fd, path, O_RDONLY | O_DIRECTORY, 0);
        return fd < 0 ? st_error_errno(err, fd, "cannot open the engine's checkpoint %s", path) : fd;
}

int docker_shot_finish(struct docker_shot *shot, struct st_error **err) {
        _cleanup_close_ int directory = open(shot->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), images = -EBADF;
        struct st_error *error = NULL;
        int r;

        if (directory < 0)
                return st_error_errno(err, errno, "cannot open %s", shot->directory);
        do
                r = docker_firm_wait(shot->firm, -1, shot->dump->operation, err);
        while (r == 0);
        if (r < 0)
                return r;
        r = docker_firm_end(shot->firm, &error);
        shot->firm = NULL;
        shot->collided = r < 0 && docker_collided(error);
        if (r < 0)
                r = shot->runc ? explain_fast(shot, error, err) : explain_failure(shot, error, err);
        else
                r = images = open_images(shot, directory, err);
        if (r >= 0)
                r = collect(shot, images, directory, err);
        if (!shot->visible && !shot->runc)
                (void)engine_checkpoint_delete(shot->target->firm, shot->target->id, shot->name, NULL, NULL);
        (void)layer_remove(directory, shot->name, NULL);
        return r < 0 ? r : 0;
}
