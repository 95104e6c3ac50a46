/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/file_companions.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"

#define POLICY "restart-"
#define TIME_FORMAT "%Y%m%dT%H%M%SZ"
#define TIME_LENGTH 16

void file_companion_suffix(const char *what, bool by_policy, time_t now, char *ret, size_t size) {
        char text[TIME_LENGTH + 1] = "";
        struct tm tm;

        (void)strftime(text, sizeof(text), TIME_FORMAT, gmtime_r(&now, &tm));
        (void)snprintf(ret, size, "stasis-%s-%s%s", what, by_policy ? POLICY : "", text);
}

/** Digits for '0', else the very characters. */
static bool is_like(const char *text, const char *pattern) {
        for (; *pattern; text++, pattern++)
                if (*pattern == '0' ? *text < '0' || *text > '9' : *text != *pattern)
                        return false;
        return true;
}

/** The time in the name of a companion that a restore by policy has made of this file; NULL: it is none. */
static const char *time_of(const char *name, const char *file) {
        const char *rest = text_after(name, file);
        const char *time =
                rest ? text_after(rest, ".stasis-tail-" POLICY) ?: text_after(rest, ".stasis-kept-" POLICY) : NULL;
        const char *end;

        if (!time || !is_like(time, "00000000T000000Z"))
                return NULL;
        end = time + TIME_LENGTH;
        /* When there was one of that second already. */
        if (end[0] == '-' && end[1] != '\0')
                end += 1 + strspn(end + 1, "0123456789");
        return *end == '\0' ? time : NULL;
}

static bool remove_one(int dir_fd, const char *name, uid_t uid) {
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_uid == uid &&
               unlinkat(dir_fd, name, 0) == 0;
}

size_t file_companions_remove_older(int dir_fd, const char *file, const char *newest) {
        const char *newest_time = time_of(newest, file); /* NULL also when the name of the file was too long for it */
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;
        struct stat st;
        size_t n = 0;
        int fd;

        if (!newest_time || fstatat(dir_fd, newest, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                if (fd >= 0)
                        close(fd);
                return 0;
        }
        while ((entry = readdir(dir))) {
                const char *time = time_of(entry->d_name, file);

                if (time && !streq(entry->d_name, newest) && strncmp(time, newest_time, TIME_LENGTH) <= 0)
                        n += remove_one(dir_fd, entry->d_name, st.st_uid);
        }
        return n;
}
