/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../common/cleanup.h"

#define DIRECTORY_CLOEXEC (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static void clear_level(struct layer_level *level) {
        for (size_t i = 0; i < level->n_names; i++)
                free(level->names[i]);
        free(level->names);
        free(level->acl);
        *level = (struct layer_level){ 0 };
}

/* Adds a level for the directory that fd is, at the path as it is. */
static int push(struct layer_walk *walk, size_t depth, int fd, struct st_error **err) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return st_error_errno(err, errno, "cannot look at \"%s\"", walk->path);
        if (depth > 0 && st.st_dev != walk->levels[0].dev)
                return st_error_set(err, EXDEV, "\"%s\" is on another file system", walk->path);
        if (depth >= walk->room) {
                size_t room = walk->room ? walk->room * 2 : 16;
                struct layer_level *levels = reallocarray(walk->levels, room, sizeof(*levels));
                if (!levels)
                        return st_error_errno(err, ENOMEM, "cannot go into \"%s\"", walk->path);
                walk->levels = levels;
                walk->room = room;
        }
        walk->depth = depth;
        walk->levels[depth] = (struct layer_level){ .dev = st.st_dev, .ino = st.st_ino, .length = walk->length };
        return 0;
}

int layer_walk_begin(struct layer_walk *walk, int root_fd, struct st_error **err) {
        *walk = (struct layer_walk)LAYER_WALK_NONE;
        walk->root_fd = root_fd;
        walk->path = calloc(1, LAYER_PATH_MAX + NAME_MAX + 2);
        if (!walk->path)
                return st_error_errno(err, ENOMEM, "cannot walk through the directory");
        walk->fd = openat(root_fd, ".", DIRECTORY_CLOEXEC);
        if (walk->fd < 0)
                return st_error_errno(err, errno, "cannot open the directory");
        return push(walk, 0, walk->fd, err);
}

void layer_walk_end(struct layer_walk *walk) {
        if (walk->levels)
                for (size_t i = 0; i <= walk->depth; i++)
                        clear_level(&walk->levels[i]);
        free(walk->levels);
        free(walk->path);
        if (walk->fd >= 0)
                close(walk->fd);
        *walk = (struct layer_walk)LAYER_WALK_NONE;
}

const char *layer_walk_path(struct layer_walk *walk, const char *name) {
        size_t n = strlen(name), at = walk->length;

        if (n > NAME_MAX || at + n + 1 > LAYER_PATH_MAX)
                return NULL;
        if (at > 0)
                walk->path[at++] = '/';
        memcpy(walk->path + at, name, n + 1);
        return walk->path;
}

int layer_walk_enter(struct layer_walk *walk, const char *name, struct st_error **err) {
        size_t length = walk->length;

        if (!layer_walk_path(walk, name))
                return st_error_set(err, ENAMETOOLONG, "a path has more than %zu bytes", LAYER_PATH_MAX);
        _cleanup_close_ int fd = openat(walk->fd, name, DIRECTORY_CLOEXEC);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open \"%s\"", walk->path);

        walk->length = strlen(walk->path);
        int r = push(walk, walk->depth + 1, fd, err);
        if (r < 0) {
                walk->path[walk->length = length] = 0;
                return r;
        }
        close(walk->fd);
        walk->fd = TAKE_FD(fd);
        return 0;
}

int layer_walk_leave(struct layer_walk *walk, struct st_error **err) {
        const struct layer_level *parent = &walk->levels[walk->depth - 1];
        struct stat st;

        _cleanup_close_ int fd = openat(walk->fd, "..", DIRECTORY_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return st_error_errno(err, errno, "cannot leave \"%s\"", walk->path);
        if (st.st_dev != parent->dev || st.st_ino != parent->ino)
                return st_error_set(err, EBUSY, "\"%s\" was moved meanwhile", walk->path);
        close(walk->fd);
        walk->fd = TAKE_FD(fd);
        clear_level(layer_walk_level(walk));
        walk->depth--;
        walk->length = parent->length;
        walk->path[walk->length] = 0;
        return 0;
}

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct layer_level *level, const char *name) {
        if ((level->n_names & (level->n_names - 1)) == 0) {
                size_t room = level->n_names ? level->n_names * 2 : 1;
                char **names = reallocarray(level->names, room, sizeof(*names));
                if (!names)
                        return -ENOMEM;
                level->names = names;
        }
        char *copy = strdup(name);
        if (!copy)
                return -ENOMEM;
        level->names[level->n_names++] = copy;
        return 0;
}

int layer_walk_list(struct layer_walk *walk, struct st_error **err) {
        struct layer_level *level = layer_walk_level(walk);
        int r = 0;

        /*
         * A description of its own: one's offset is shared by all its duplicates. O_NOATIME: looking changes
         * nothing.
         */
        _cleanup_close_ int fd = openat(walk->fd, ".", DIRECTORY_CLOEXEC | O_NOATIME);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir)
                return st_error_errno(err, errno, "cannot read the directory \"%s\"", walk->path);
        (void)TAKE_FD(fd); /* the DIR has it */

        for (;;) {
                errno = 0;
                const struct dirent *entry = readdir(dir);
                if (!entry) {
                        r = -errno;
                        break;
                }
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                r = add_name(level, entry->d_name);
                if (r < 0)
                        break;
        }
        closedir(dir);
        if (r < 0)
                return st_error_errno(err, r, "cannot read the directory \"%s\"", walk->path);
        if (level->n_names > 1)
                qsort(level->names, level->n_names, sizeof(*level->names), compare);
        return 0;
}
