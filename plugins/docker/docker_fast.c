/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The checkpoint by the engine's own runc, without the engine: its containerd packs CRIU's images into an archive in
 * its content store, and the engine fetches that in small messages and unpacks it, which is where most of its time
 * goes. The container is as well off: what runc is told is what containerd tells it. It is paused by the engine
 * before, so the engine does nothing with it meanwhile.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/child.h>

#include "../common/cleanup.h"
#include "docker_shim.h"
#include "docker_shot.h"

/* The directory of the images, as runc sees it. */
#define IMAGES_FD 3
#define IMAGES "/proc/self/fd/3"

/* One that was killed may have left a CRIU that does not trace the container yet. */
#define CRIU_START_MS 200

static const char *base_name(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

int docker_fast_prepare(struct docker_shot *shot, struct st_error **err) {
        const struct docker_target *target = shot->target;
        _cleanup_free_ char *binary = NULL, *root = NULL, *found = NULL, *path = NULL;
        int r;

        if (target->shim_fd < 0)
                return st_error_set(err, EOPNOTSUPP, "the container's shim cannot be found");
        if (!shot->visible)
                return st_error_set(err, EOPNOTSUPP, "the engine does not see the directory %s", shot->directory);
        r = docker_shim_runc(target->shim_fd, &binary, &root, err);
        if (r < 0)
                return r;
        if (strcmp(base_name(binary), "runc") != 0)
                return st_error_set(err, EOPNOTSUPP, "the container's runtime is %s, not runc", binary);
        if (docker_shim_look_up(target->shim, binary, &found, &path) < 0)
                return st_error_set(err, EOPNOTSUPP, "the engine's %s is not in its PATH", binary);
        shot->runc = TAKE_PTR(found);
        shot->runc_root = TAKE_PTR(root);
        shot->path = TAKE_PTR(path);
        return 0;
}

static int run_runc(struct docker_shot *shot, const char *const arguments[], int images, struct st_error **err) {
        _cleanup_free_ char *environment = NULL, *output = NULL;
        char *variables[] = { NULL, NULL };
        int r;

        if (asprintf(&environment, "PATH=%s", shot->path) < 0) {
                environment = NULL;
                return st_error_errno(err, ENOMEM, "cannot call runc");
        }
        variables[0] = environment;
        const struct st_child_fd fds[] = { { images, IMAGES_FD } };
        const struct st_child child = {
                .size = sizeof(child),
                .path = arguments[0],
                .argv = (char *const *)arguments,
                .environment = variables,
                .directory = "/",
                .fds = fds,
                .n_fds = 1,
        };
        /* Nothing may end it: its CRIU has frozen the container. */
        r = st_child_run(&child, -1, -EBADF, &output, err);
        if (r <= 0)
                return r;
        docker_criu_wait(shot->target->pid, CRIU_START_MS);
        if (r > 128)
                return st_error_set(err, EIO, "runc was killed by signal %d (%s)", r - 128, strsignal(r - 128));
        shot->status = r << 8;
        if (output && strcspn(output, "\n") < strlen(output))
                output[strcspn(output, "\n")] = 0;
        return st_error_set(err, EIO, "runc: %s", output && *output ? output : "it failed without a word");
}

/*
 * runc makes the directory that it is told, with all that lead there. By its descriptor it cannot make anew what was
 * removed because we were killed.
 */
static int make_images(const struct docker_shot *shot, struct st_error **err) {
        _cleanup_free_ char *path = NULL;
        int fd;

        if (asprintf(&path, "%s/%s", shot->directory, shot->name) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot call runc");
        }
        fd = mkdir(path, 0700) < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? st_error_errno(err, errno, "cannot make %s", path) : fd;
}

int docker_fast_run(struct docker_shot *shot, struct st_error **err) {
        _cleanup_close_ int images = make_images(shot, err);
        _cleanup_free_ char *namespace = NULL;
        size_t skip;

        if (images < 0)
                return images;
        if (asprintf(&namespace, "--mount=/proc/%d/ns/mnt", (int)shot->target->shim) < 0) {
                namespace = NULL;
                return st_error_errno(err, ENOMEM, "cannot call runc");
        }
        const char *const arguments[] = {
                "nsenter",         namespace,      "--",   shot->runc,    "--root", shot->runc_root,  "checkpoint",
                "--leave-running", "--image-path", IMAGES, "--work-path", IMAGES,   shot->target->id, NULL
        };
        /* Its paths are those of the engine's mount namespace. */
        skip = docker_shim_shares_mounts(shot->target->shim) ? 3 : 0;
        return run_runc(shot, arguments + skip, images, err);
}
