/* SPDX-License-Identifier: Apache-2.0 */

/* What was in an upper directory before its content was exchanged, kept beside it under a name that tells of when. */
#define _GNU_SOURCE
#include "layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../common/cleanup.h"

#define KEPT ".stasis-kept-"
#define BY_POLICY "restart-"
#define NAMES_TRIED 100

static void remove_older(int home_fd, const char *prefix, const char *newest) {
        _cleanup_close_ int fd = openat(home_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;

        if (!dir)
                return;
        fd = -EBADF;
        while ((entry = readdir(dir)))
                if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && strcmp(entry->d_name, newest) != 0)
                        (void)layer_remove(home_fd, entry->d_name, NULL); /* else the next one does */
        closedir(dir);
}

int layer_replace_keep(int home_fd, const char *upper, const char *aside, bool by_policy,
                       char ret_name[static LAYER_NAME_MAX]) {
        char prefix[LAYER_NAME_MAX], when[32];
        time_t now = time(NULL);
        struct tm tm;

        (void)strftime(when, sizeof(when), "%Y%m%d-%H%M%S", localtime_r(&now, &tm));
        (void)snprintf(prefix, sizeof(prefix), "%.200s" KEPT "%s", upper, by_policy ? BY_POLICY : "");
        for (int i = 0; i < NAMES_TRIED; i++) {
                int n = snprintf(ret_name, LAYER_NAME_MAX, i ? "%s%s-%d" : "%s%s", prefix, when, i);

                if (n < 0 || n >= LAYER_NAME_MAX)
                        return -ENAMETOOLONG;
                if (renameat2(home_fd, aside, home_fd, ret_name, RENAME_NOREPLACE) == 0) {
                        if (by_policy)
                                remove_older(home_fd, prefix, ret_name);
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}
