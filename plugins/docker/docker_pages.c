/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_pages.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/cleanup.h"
#include "layer.h"

#define PAGES "pages-"

/* From deeper than that nobody restores: PATH_MAX is 4096. */
#define UP "../../../../../../../../../../../../../../../../../../../../../../../../../../../../../../../.."

/* Beside the checkpoint; the name begins as the checkpoint's own, so whoever cleans up finds both. */
static void aside_name(const struct docker_place *place, char name[static 80]) {
        snprintf(name, 80, "%s.pages", place->name);
}

static bool is_runc(const struct docker_restore *ctx) {
        const char *runtime = docker_saved_text(ctx->target, "HostConfig", "Runtime", NULL);

        return !runtime || !*runtime || strcmp(runtime, "runc") == 0 || strcmp(runtime, "io.containerd.runc.v2") == 0;
}

/* Calls `move` for each file with memory that is in a directory. @return 0 or -errno of the first that failed */
static int each_pages(int directory, int (*move)(const char *name, void *userdata), void *userdata) {
        _cleanup_close_ int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
        int r = 0;

        if (!stream)
                return -errno;
        (void)TAKE_FD(fd); /* the stream has it */
        for (struct dirent *entry; r == 0 && (entry = readdir(stream));)
                if (strncmp(entry->d_name, PAGES, strlen(PAGES)) == 0)
                        r = move(entry->d_name, userdata);
        closedir(stream);
        return r;
}

struct moving {
        int checkpoint, aside;
        const char *path; /* of `aside`, from the root of the engine's mount namespace */
};

static int move_out(const char *name, void *userdata) {
        const struct moving *moving = userdata;
        _cleanup_free_ char *target = NULL;
        struct stat st;

        if (fstatat(moving->checkpoint, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return 0; /* a link by now: the directory is read while it changes */
        if (asprintf(&target, UP "%s/%s", moving->path, name) < 0) {
                target = NULL;
                return -ENOMEM;
        }
        if (renameat(moving->checkpoint, name, moving->aside, name) < 0 ||
            symlinkat(target, moving->checkpoint, name) < 0)
                return -errno;
        return 0;
}

static int move_in(const char *name, void *userdata) {
        const struct moving *moving = userdata;

        /* Over the link. */
        return renameat(moving->aside, name, moving->checkpoint, name) < 0 ? -errno : 0;
}

int docker_pages_set_aside(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err) {
        const char *root = docker_saved_text(ctx->info, "DockerRootDir", NULL);
        _cleanup_close_ int aside = -EBADF;
        _cleanup_free_ char *path = NULL;
        char name[80];

        if (!is_runc(ctx))
                return st_error_set(err, EOPNOTSUPP, "the container's runtime is not runc");
        if (!root || *root != '/')
                return st_error_set(err, EOPNOTSUPP, "the engine does not say where its data are");
        aside_name(place, name);
        if (asprintf(&path, "%s/containers/%s/checkpoints/%s", root, ctx->id, name) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot set the memory of the checkpoint aside");
        }
        if (mkdirat(place->directory, name, 0700) == 0)
                aside = openat(place->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        else if (errno == EEXIST)
                return 0; /* it was for the start before this one, which failed for another reason */
        if (aside < 0)
                return st_error_errno(err, errno, "cannot make %s", path);

        struct moving moving = { place->fd, aside, path };
        int r = each_pages(place->fd, move_out, &moving);
        if (r < 0) {
                r = st_error_errno(err, r, "cannot set the memory of the checkpoint aside in %s", path);
                (void)docker_pages_put_back(place, NULL);
        }
        return r;
}

int docker_pages_put_back(const struct docker_place *place, struct st_error **err) {
        char name[80];

        aside_name(place, name);
        _cleanup_close_ int aside = openat(place->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (aside < 0)
                return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot open %s", name);

        struct moving moving = { place->fd, aside, NULL };
        int r = each_pages(aside, move_in, &moving);
        if (r < 0)
                return st_error_errno(err, r, "cannot put the memory of the checkpoint back");
        return layer_remove(place->directory, name, err);
}

void docker_pages_remove(const struct docker_place *place) {
        char name[80];

        if (place->directory < 0 || !*place->name)
                return;
        aside_name(place, name);
        (void)layer_remove(place->directory, name, NULL);
}
