/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

int supervisor_status_write(const char *dir, const struct supervisor_status *status) {
        _cleanup_free_ char *path = path_join(dir, "status");
        _cleanup_free_ char *text =
                xasprintf("version 1\n"
                          "pid %d\n"
                          "start %" PRIu64 "\n"
                          "boot %s\n"
                          "supervisor %d\n"
                          "supervisor-start %" PRIu64 "\n"
                          "state %s\n"
                          "exit %d\n"
                          "time %" PRId64 "\n",
                          status->pid, status->start_time, status->boot, status->supervisor, status->supervisor_start,
                          status->exited ? "exited" : "running", status->exit_status, status->time);

        return io_replace_file(path, text, strlen(text), 0600, false);
}

int supervisor_status_read(const char *dir, struct supervisor_status *ret) {
        _cleanup_free_ char *path = path_join(dir, "status");
        _cleanup_free_ char *text = NULL;
        struct supervisor_status status = { 0 };
        char state[16] = "";
        int version = 0, r;

        r = io_read_file(AT_FDCWD, path, 4096, &text, NULL);
        if (r < 0)
                return r;
        r = sscanf(text,
                   "version %d pid %d start %" SCNu64 " boot %63s supervisor %d supervisor-start %" SCNu64
                   " state %15s exit %d time %" SCNd64,
                   &version, &status.pid, &status.start_time, status.boot, &status.supervisor, &status.supervisor_start,
                   state, &status.exit_status, &status.time);
        if (r != 9 || version != 1 || status.pid <= 0 || status.supervisor <= 0)
                return -EBADMSG;
        status.exited = streq(state, "exited");
        if (!status.exited && !streq(state, "running"))
                return -EBADMSG;
        *ret = status;
        return 0;
}

uint64_t supervisor_start_time(pid_t pid) {
        _cleanup_free_ char *path = xasprintf("/proc/%d/stat", pid);
        _cleanup_free_ char *text = NULL;
        const char *at;
        uint64_t start = 0;

        if (io_read_file(AT_FDCWD, path, 8192, &text, NULL) < 0)
                return 0;
        /* The command may hold anything, ")" too: the fields begin after the last one. Start time is field 22. */
        at = strrchr(text, ')');
        for (int field = 2; at && field < 22; field++)
                at = strchr(at + 1, ' ');
        if (at)
                start = strtoull(at + 1, NULL, 10);
        return start;
}

void supervisor_boot_id(char buffer[static 64]) {
        _cleanup_free_ char *text = NULL;

        buffer[0] = '\0';
        if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 256, &text, NULL) < 0)
                return;
        text[strcspn(text, "\n")] = '\0';
        if (strlen(text) < 64)
                memcpy(buffer, text, strlen(text) + 1);
}
