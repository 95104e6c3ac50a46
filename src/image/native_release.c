/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_release.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "image/native.h"
#include "image/native_fold.h"

/** So often somebody may begin to refer to it while the others are being made independent. */
#define ATTEMPTS 10
/** So many of those that were folded before are looked into: the first ones, which have taken over most. */
#define SIBLINGS_MAX 8

static int remove_it(const struct native_release *release, struct st_error **err) {
        const char *path = release->place.path;
        int r = release->hidden ? (rename(path, release->hidden) < 0 ? -errno : 0) : io_remove_tree(path);
        return r < 0 ? st_error_errno(err, r, "cannot remove %s", path) : 0;
}

/** @return 1 with the ID; 0: nothing can refer to what is there; -errno */
static int read_id(const char *path, uint8_t ret[NATIVE_ID], struct st_error **err) {
        _cleanup_(native_freep) struct native *native = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        if (lstat(path, &st) < 0)
                return errno == ENOENT || errno == ENOTDIR
                               ? st_error_set(err, ENOENT, "there is no checkpoint %s", path)
                               : st_error_errno(err, errno, "cannot look at %s", path);
        if (!S_ISREG(st.st_mode))
                return 0;
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open the checkpoint %s", path);
        /* As an ancestor it would be opened in the same way. */
        if (native_open_alone(path, fd, &native, NULL) < 0)
                return 0;
        memcpy(ret, native->sources[0].header.id, NATIVE_ID);
        return 1;
}

static int fold_all(const struct native_release *release, const uint8_t id[NATIVE_ID], const struct strv *dependents,
                    struct strv *ret_folded, struct st_error **err) {
        uint8_t drop[1][NATIVE_ID];
        memcpy(drop[0], id, NATIVE_ID);
        for (size_t i = 0; i < dependents->n; i++) {
                const struct native_fold fold = {
                        .path = dependents->items[i],
                        .drop = (const uint8_t(*)[NATIVE_ID])drop,
                        .n_drop = 1,
                        .siblings = dependents->items,
                        .n_siblings = i < SIBLINGS_MAX ? i : SIBLINGS_MAX,
                        .cancel_fd = release->cancel_fd,
                };
                int r = native_fold(&fold, err);
                if (r < 0) {
                        st_error_wrap(err, "%s needs pages of %s and cannot take them over", fold.path,
                                      release->place.path);
                        if (r == -EBADMSG || r == -ESTALE || r == -ENOENT)
                                st_error_hint(err, "delete %s first", fold.path);
                        return r;
                }
                if (ret_folded)
                        strv_add(ret_folded, fold.path);
        }
        return 0;
}

/** Removes it if nobody refers to it. @return 1: somebody does */
static int try_remove(const struct native_release *release, const uint8_t id[NATIVE_ID], struct st_error **err) {
        _cleanup_strv_ struct strv dependents = { 0 };
        uint8_t now[NATIVE_ID];
        /* Nobody can begin to refer to it from here on. */
        _cleanup_close_ int locked = native_lock(release->place.path, true, release->cancel_fd, err);
        int r = locked < 0 ? locked : read_id(release->place.path, now, err);
        if (r < 0)
                return r;
        if (r == 0 || memcmp(now, id, NATIVE_ID) != 0)
                return st_error_set(err, ESTALE, "%s was replaced meanwhile", release->place.path);
        r = native_dependents(&release->place, id, &dependents, err);
        if (r < 0)
                return r;
        return dependents.n > 0 ? 1 : remove_it(release, err);
}

int native_release(const struct native_release *release, struct strv *ret_folded, struct st_error **err) {
        uint8_t id[NATIVE_ID];
        int r = read_id(release->place.path, id, err);
        if (r < 0)
                return r;
        if (r == 0)
                return remove_it(release, err);
        for (int i = 0; i < ATTEMPTS; i++) {
                _cleanup_strv_ struct strv dependents = { 0 };
                struct st_error *error = NULL;
                r = native_dependents(&release->place, id, &dependents, &error);
                if (r == 0)
                        r = fold_all(release, id, &dependents, ret_folded, &error);
                if (r == 0)
                        r = try_remove(release, id, &error);
                if (r == 0)
                        return 0;
                /* One that somebody else folds at the same time. */
                if (r < 0 && (r != -ESTALE || i + 1 == ATTEMPTS))
                        return st_error_move(err, error);
                st_error_free(error);
        }
        return st_error_set(err, EBUSY, "checkpoints that need %s are made again and again", release->place.path);
}
