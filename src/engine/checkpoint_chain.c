/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/checkpoint_chain.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "image/native.h"
#include "image/native_fold.h"
#include "image/native_release.h"

/* Of ioprio_set(2), for which there is no header: this process; the class "idle". */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)

#define NICE_MAX 19

/** What nobody waits for takes what the others leave. The worker does nothing else. */
static void be_quiet(void) {
        (void)setpriority(PRIO_PROCESS, 0, NICE_MAX);
        (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
}

void checkpoint_chain_describe(Stasis__V1__CheckpointInfo *info) {
        _cleanup_(native_freep) struct native *native = NULL;
        _cleanup_close_ int fd = open(info->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;

        message_set_string(&info->parent, NULL);
        info->has_ancestors = 1;
        info->ancestors = 0;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
            native_open_alone(info->path, fd, &native, NULL) < 0 || native->index.n_ancestors == 0)
                return;
        info->ancestors = native->index.n_ancestors;
        message_set_string(&info->parent, native->index.ancestors[0].path);
}

static void add(Stasis__Worker__Folded *resp, const char *path) {
        Stasis__V1__CheckpointInfo *info = message_new(&stasis__v1__checkpoint_info__descriptor);
        struct stat st;

        message_set_string(&info->path, path);
        info->has_size = stat(path, &st) == 0;
        info->size = info->has_size ? (uint64_t)st.st_size : 0;
        checkpoint_chain_describe(info);
        message_append(&resp->n_checkpoints, &resp->checkpoints, info);
}

int engine_release(struct st_operation *operation, const Stasis__Worker__Release *req, Stasis__Worker__Folded *resp,
                   struct st_error **err) {
        const struct native_release release = {
                .place = { .path = req->path, .others = req->others, .n_others = req->n_others },
                .hidden = req->hidden,
                .cancel_fd = st_operation_cancel_fd(operation),
        };
        _cleanup_strv_ struct strv folded = { 0 };
        int r;

        if (req->background)
                be_quiet();
        r = native_release(&release, &folded, err);
        for (size_t i = 0; i < folded.n; i++)
                add(resp, folded.items[i]);
        return r;
}

int engine_fold(struct st_operation *operation, const Stasis__Worker__Fold *req, Stasis__Worker__Folded *resp,
                struct st_error **err) {
        const struct native_fold fold = { .path = req->path, .cancel_fd = st_operation_cancel_fd(operation) };
        int r;

        if (req->background)
                be_quiet();
        r = native_fold(&fold, err);
        if (r >= 0)
                add(resp, req->path);
        return r;
}
