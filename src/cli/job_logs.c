/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis job logs JID`: the file to which the output of a job is appended, read here. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/job.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "db/job_state.h"

#define COPY_SIZE 65536
/* Beside inotify: it tells nothing of a network's file system, and a job may come back without a change of the file. */
#define LOOK_AGAIN_MS 1000

static const struct st_option logs_options[] = {
        { .flag = "follow",
          .letter = 'f',
          .type = ST_OPTION_BOOL,
          .help = "go on with what is appended, until the job ends" },
        ST_OPTION_END,
};

struct follower {
        struct cli *cli;
        const char *jid, *path;
        int file;      /* -EBADF: it is not there */
        off_t offset;  /* up to where it was read */
        char last[64]; /* the bytes before that */
        size_t n_last;
        struct stat st;
        int inotify, pidfd; /* pidfd -EBADF: the job does not run */
};

static void follower_clear(struct follower *follower) {
        cleanup_closep(&follower->file);
        cleanup_closep(&follower->inotify);
        cleanup_closep(&follower->pidfd);
}

static void begin_anew(struct follower *follower) {
        follower->offset = 0;
        follower->n_last = 0;
}

/* Remembers the end of what was read. */
static void remember(struct follower *follower, const char *data, size_t n) {
        size_t keep = n < sizeof(follower->last) ? sizeof(follower->last) - n : 0;

        if (keep > follower->n_last)
                keep = follower->n_last;
        if (n > sizeof(follower->last)) {
                data += n - sizeof(follower->last);
                n = sizeof(follower->last);
        }
        memmove(follower->last, follower->last + follower->n_last - keep, keep);
        memcpy(follower->last + keep, data, n);
        follower->n_last = keep + n;
}

/* Is what was read last still there? A file may be emptied, and have as many bytes again when we look. */
static bool is_as_read(const struct follower *follower) {
        char now[sizeof(follower->last)];
        ssize_t n = pread(follower->file, now, follower->n_last, follower->offset - (off_t)follower->n_last);

        return n == (ssize_t)follower->n_last && memcmp(now, follower->last, follower->n_last) == 0;
}

static int open_log(struct follower *follower) {
        int fd = open(follower->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        if (fd < 0)
                return -errno;
        cleanup_closep(&follower->file);
        follower->file = fd;
        begin_anew(follower);
        return fstat(fd, &follower->st) < 0 ? -errno : 0;
}

/* @return 1: something was read; 0: nothing more is there; -errno with err */
static int copy(struct follower *follower, struct st_error **err) {
        bool any = false;

        for (;;) {
                char buffer[COPY_SIZE];
                ssize_t n = follower->file < 0 ? 0 : pread(follower->file, buffer, sizeof(buffer), follower->offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return st_error_errno(err, errno, "cannot read %s", follower->path);
                if (n == 0 || interrupt_count() > 0)
                        return any;
                int r = io_write_full(STDOUT_FILENO, buffer, (size_t)n);
                if (r < 0)
                        return st_error_errno(err, r, "cannot write the output");
                follower->offset += n;
                remember(follower, buffer, (size_t)n);
                any = true;
        }
}

/* A file that was emptied is read from its beginning; so is another one that has its name now. */
static int look_again(struct follower *follower, struct st_error **err) {
        struct stat named;

        if (follower->file >= 0 && fstat(follower->file, &follower->st) == 0 && !is_as_read(follower))
                begin_anew(follower);
        if (stat(follower->path, &named) < 0 ||
            (follower->file >= 0 && named.st_ino == follower->st.st_ino && named.st_dev == follower->st.st_dev))
                return 0;
        int r = copy(follower, err); /* what came to the old one last */
        if (r >= 0 && open_log(follower) < 0)
                cleanup_closep(&follower->file);
        return r < 0 ? r : 0;
}

static int watch(struct follower *follower, struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(follower->path);

        follower->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (follower->inotify < 0)
                return st_error_errno(err, errno, "cannot watch %s", follower->path);
        /* The directory tells of writes to the file, and of another one that takes its name. */
        (void)inotify_add_watch(follower->inotify, directory, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE);
        return 0;
}

/* Is there still somebody who may write? @return 1 or 0, -errno with err */
static int look_after_job(struct follower *follower, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;
        struct pollfd ended = { .fd = follower->pidfd, .events = POLLIN };

        if (follower->pidfd >= 0 && poll(&ended, 1, 0) == 0)
                return 1;
        cleanup_closep(&follower->pidfd);
        int r = job_ask_one(follower->cli, follower->jid, false, &resp, err);
        if (r < 0)
                return r;
        if (!job_state_is_alive(resp->jobs[0]->state))
                return 0;
        if (resp->jobs[0]->pid > 0)
                follower->pidfd = pidfd_open((pid_t)resp->jobs[0]->pid, 0);
        return 1;
}

static int wait_for_more(const struct follower *follower) {
        struct pollfd fds[] = {
                { .fd = interrupt_fd(), .events = POLLIN },
                { .fd = follower->inotify, .events = POLLIN },
                { .fd = follower->pidfd, .events = POLLIN },
                { .fd = STDOUT_FILENO }, /* only its end */
        };
        char events[4096];

        if (poll(fds, ELEMENTSOF(fds), LOOK_AGAIN_MS) < 0)
                return errno == EINTR ? 0 : -errno;
        while (fds[1].revents && read(follower->inotify, events, sizeof(events)) > 0)
                ;
        return fds[3].revents & POLLERR ? -EPIPE : 0;
}

static int follow(struct follower *follower, struct st_error **err) {
        int r = watch(follower, err);

        while (r >= 0) {
                int alive = look_after_job(follower, err);

                if (alive < 0)
                        return alive;
                r = copy(follower, err); /* after the look: what it wrote last is there */
                if (r >= 0)
                        r = look_again(follower, err);
                if (r >= 0)
                        r = copy(follower, err);
                if (r < 0)
                        return r;
                if (!alive || interrupt_count() > 0)
                        return 0;
                if (r > 0)
                        continue;
                r = wait_for_more(follower);
                if (r < 0)
                        return st_error_errno(err, r, "cannot go on");
        }
        return r;
}

static int run_logs(struct cli *cli, struct st_error **err) {
        const char *jid = st_arguments_words(cli->arguments)[0];
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;
        bool wanted = st_arguments_bool(cli->arguments, "follow");
        int r;

        cli_begin_work(cli);
        r = daemon_is_here(cli, "so are the logs of its jobs", err);
        if (r >= 0)
                r = job_ask_one(cli, jid, false, &resp, err);
        if (r < 0)
                return r;
        const char *path = resp->jobs[0]->spec->log;
        if (isempty(path)) {
                st_error_set(err, ENOENT, "job %s has no log", jid);
                st_error_hint(err, resp->jobs[0]->spec->managed ? "it was running before it became a job"
                                                                : "'stasis job attach' shows what it prints");
                return -ENOENT;
        }
        _cleanup_(follower_clear) struct follower follower = {
                .cli = cli, .jid = jid, .path = path, .file = -EBADF, .inotify = -EBADF, .pidfd = -EBADF
        };
        r = open_log(&follower);
        if (r < 0 && !(r == -ENOENT && wanted))
                return st_error_errno(err, r, "cannot read the log of job %s, %s", jid, path);
        r = wanted ? follow(&follower, err) : copy(&follower, err);
        if (r == -EPIPE)
                return EXIT_PIPE;
        if (r < 0)
                return r;
        return interrupt_count() > 0 ? EXIT_INTERRUPTED : EXIT_OK;
}

const struct command command_job_logs = {
        .path = "job logs",
        .words = "JID",
        .min_words = 1,
        .max_words = 1,
        .summary = "Prints what a job has written, from its log",
        .examples = "job logs calm-otter\njob logs -f calm-otter",
        .options = (const struct st_option *const[]){ logs_options, NULL },
        .config = true,
        .run = run_logs,
};
