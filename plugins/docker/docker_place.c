/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_place.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_files.h"
#include "docker_pages.h"
#include "docker_root.h"
#include "docker_target.h"
#include "layer.h"

#define PREFIX "stasis-"
#define PREFIX_NEW PREFIX "new-" /* the container was made for it */
#define PREFIX_OLD PREFIX "old-"

#define LOCK_TRIES 100
#define LOCK_STEP_US 10000

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY)

static const char *root_dir(const struct docker_restore *ctx) {
        const char *path = docker_saved_text(ctx->info, "DockerRootDir", NULL);
        return path && *path == '/' ? path : "/var/lib/docker";
}

/* <DockerRootDir>/containers/ID/checkpoints, locked. @return -errno; -EWOULDBLOCK: somebody has it */
static int open_checkpoints(const struct docker_restore *ctx, const char *id, bool make, int *ret) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/containers/%s", root_dir(ctx), id) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        _cleanup_close_ int container = docker_root_openat(ctx->root_fd, path, DIRECTORY_FLAGS, 0);
        if (container < 0)
                return container;
        if (make && mkdirat(container, "checkpoints", 0700) < 0 && errno != EEXIST)
                return -errno;
        _cleanup_close_ int fd = openat(container, "checkpoints", DIRECTORY_FLAGS | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        /* Others that only look for what was left have it for a moment. */
        for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
                if (errno != EWOULDBLOCK || !make || i == LOCK_TRIES)
                        return -errno;
                usleep(LOCK_STEP_US);
        }
        *ret = TAKE_FD(fd);
        return 0;
}

int docker_place_make(struct docker_restore *ctx, bool created, struct docker_place *ret, struct st_error **err) {
        struct docker_place place = { -EBADF, -EBADF, "" };
        struct stat st;
        uint64_t random;

        int r = open_checkpoints(ctx, ctx->id, true, &place.directory);
        if (r == -EWOULDBLOCK)
                return st_error_set(err, EBUSY, "another restore into container %.12s is under way", ctx->id);
        if (r < 0) {
                r = st_error_errno(err, r, "cannot place the checkpoint in %s/containers/%.12s… of the Docker engine",
                                   root_dir(ctx), ctx->id);
                st_error_hint(err, "stasis must run on the machine of the engine, as root");
                return r;
        }
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                random = (uint64_t)getpid();
        snprintf(place.name, sizeof(place.name), "%s%016llx", created ? PREFIX_NEW : PREFIX_OLD,
                 (unsigned long long)random);
        if (mkdirat(place.directory, place.name, 0700) == 0)
                place.fd = openat(place.directory, place.name, DIRECTORY_FLAGS | O_CLOEXEC | O_NOFOLLOW);
        /* Where user namespaces are remapped the engine's directories are not root's. */
        if (place.fd < 0 || fstat(place.directory, &st) < 0 || fchown(place.fd, st.st_uid, st.st_gid) < 0) {
                r = st_error_errno(err, errno, "cannot make the directory of the checkpoint for container %.12s",
                                   ctx->id);
                docker_place_remove(&place);
                return r;
        }
        *ret = place;
        return 0;
}

void docker_place_remove(struct docker_place *place) {
        _cleanup_error_ struct st_error *err = NULL;

        if (place->fd >= 0)
                close(TAKE_FD(place->fd));
        if (place->directory < 0)
                return;
        docker_pages_remove(place);
        if (*place->name && layer_remove(place->directory, place->name, &err) < 0)
                st_log_warning("cannot remove the checkpoint %s of a container: %s", place->name,
                               st_error_message(err));
        close(TAKE_FD(place->directory));
}

/* One restore into a container was killed; nobody else has it locked. @return is the container gone with it? */
static bool undo(struct docker_restore *ctx, const char *id, bool created) {
        _cleanup_json_ json_t *inspect = NULL;

        if (docker_inspect(ctx->engine, id, &inspect, NULL) < 0)
                return false;
        if (created && strcmp(docker_inspect_status(inspect), "created") == 0) {
                st_log_info("removing container %s, which a restore that was killed has left",
                            docker_inspect_name(inspect));
                return engine_container_remove(ctx->firm, id, true, false, NULL) == 0;
        }
        docker_files_recover(ctx, inspect);
        return false;
}

static void clean_container(struct docker_restore *ctx, const char *id) {
        _cleanup_close_ int directory = -EBADF, listing = -EBADF;

        if (open_checkpoints(ctx, id, false, &directory) < 0)
                return;
        listing = openat(directory, ".", DIRECTORY_FLAGS | O_CLOEXEC);
        DIR *stream = listing >= 0 ? fdopendir(listing) : NULL;
        if (!stream)
                return;
        (void)TAKE_FD(listing); /* the stream has it */
        for (struct dirent *entry; (entry = readdir(stream));) {
                if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
                        continue;
                if (undo(ctx, id, strncmp(entry->d_name, PREFIX_NEW, strlen(PREFIX_NEW)) == 0))
                        break;
                (void)layer_remove(directory, entry->d_name, NULL);
        }
        closedir(stream);
}

void docker_place_clean(struct docker_restore *ctx) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/containers", root_dir(ctx)) < 0) {
                path = NULL;
                return;
        }
        _cleanup_close_ int fd = docker_root_openat(ctx->root_fd, path, DIRECTORY_FLAGS, 0);
        DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
        if (!stream)
                return;
        (void)TAKE_FD(fd); /* the stream has it */
        for (struct dirent *entry; (entry = readdir(stream));)
                if (engine_check_reference("container", entry->d_name, NULL) == 0)
                        clean_container(ctx, entry->d_name);
        closedir(stream);
}
