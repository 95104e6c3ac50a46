/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_info.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/checkpoint_chain.h"
#include "engine/operation.h"

/** A checkpoint is a file, or a directory of files without directories in it. */
static uint64_t size_of(const char *path) {
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;
        uint64_t size = 0;
        struct stat st;

        if (stat(path, &st) < 0)
                return 0;
        if (!S_ISDIR(st.st_mode))
                return (uint64_t)st.st_size;
        dir = opendir(path);
        while (dir && (entry = readdir(dir)))
                if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
                        size += (uint64_t)st.st_size;
        return size;
}

static int64_t now_ms(void) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

Stasis__V1__CheckpointInfo *dump_info(const struct st_operation *operation, const Daemon__DumpReq *req,
                                      const Daemon__DumpResp *resp, uint64_t duration_us) {
        const struct operation_statistics statistics = operation_statistics(operation);
        Stasis__V1__CheckpointInfo *info = message_new(&stasis__v1__checkpoint_info__descriptor);

        message_set_string(&info->type, req->type);
        message_set_string(&info->format, req->compression);
        info->has_time = info->has_size = info->has_duration = 1;
        info->time = now_ms();
        info->duration = duration_us;
        if (resp->n_paths > 0) {
                message_set_string(&info->path, resp->paths[0]);
                info->size = size_of(resp->paths[0]);
                checkpoint_chain_describe(info);
        }
        info->has_frozen = info->has_pages = statistics.frozen_us > 0;
        info->frozen = statistics.frozen_us;
        info->pages = statistics.pages;
        return info;
}
