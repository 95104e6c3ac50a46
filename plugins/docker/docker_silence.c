/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_silence.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <stasis/child.h>

#include "../common/cleanup.h"
#include "docker_saved.h"
#include "fdio.h"

#define TABLE "table inet stasis-silence"
#define LIMIT_MS 2000

static const char rules[] = TABLE " { chain in { type filter hook input priority -300; policy drop; }; "
                                  "chain out { type filter hook output priority -300; policy drop; }; }\n";
static const char no_rules[] = "delete " TABLE "\n";

bool docker_silence_fits(const json_t *inspect) {
        const char *mode = docker_saved_text(inspect, "HostConfig", "NetworkMode", NULL);

        return mode && strcmp(mode, "host") != 0 && strncmp(mode, "container:", strlen("container:")) != 0;
}

static int run_nft(pid_t pid, const char *text, struct st_error **err) {
        _cleanup_close_ int input = memfd_create("rules", MFD_CLOEXEC);
        _cleanup_free_ char *output = NULL;
        char namespace[64];
        int r;

        if (input < 0)
                return st_error_errno(err, errno, "cannot make a memory file");
        r = fdio_write(input, text, strlen(text), -1, "rules", err);
        if (r < 0)
                return r;
        (void)lseek(input, 0, SEEK_SET);
        snprintf(namespace, sizeof(namespace), "--net=/proc/%d/ns/net", (int)pid);
        const char *const arguments[] = { "nsenter", namespace, "--", "nft", "-f", "-", NULL };
        const struct st_child_fd fds[] = { { .fd = input, .number = STDIN_FILENO } };
        const struct st_child child = {
                .size = sizeof(child),
                .path = arguments[0],
                .argv = (char *const *)arguments,
                .directory = "/",
                .fds = fds,
                .n_fds = 1,
        };
        r = st_child_run(&child, LIMIT_MS, -EBADF, &output, err);
        if (r <= 0)
                return r;
        output[strcspn(output, "\n")] = 0;
        return st_error_set(err, EIO, "%s", *output ? output : "nft failed without a word");
}

int docker_silence(pid_t pid, struct st_error **err) {
        return run_nft(pid, rules, err);
}

void docker_silence_end(pid_t pid) {
        (void)run_nft(pid, no_rules, NULL);
}
