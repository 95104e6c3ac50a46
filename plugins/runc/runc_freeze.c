/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pausing and resuming. Resuming is also what the guard of a dump does when the dump has died; then CRIU may still be
 * at work, and would pause the container again at its end: so that is waited for.
 */

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>

#include "../common/answer.h"
#include "runc.h"

#define WAIT_MS 10000
#define STEP_MS 20
#define START_MS 200
#define ATTEMPTS 5
#define AGAIN_MS 100

#define CMDLINE_MAX ((size_t)65536)

int runc_set_paused(const struct runc_container *container, bool pause, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_list_ struct util_list argv = { 0 };
        int r = -EIO;

        runc_program(&argv, container->root);
        util_list_add(&argv, pause ? "pause" : "resume");
        util_list_add(&argv, container->id);
        /* On a busy machine runc gives a freezer of cgroups v1 up too early, and thaws it: "unable to freeze". */
        for (int attempt = 0; r < 0 && attempt < ATTEMPTS; attempt++) {
                error = st_error_free(error);
                if (attempt > 0)
                        (void)poll(NULL, 0, AGAIN_MS);
                r = runc_program_run(&argv, NULL, &error);
                if (r < 0 && (!pause || !strstr(st_error_message(error), "unable to freeze")))
                        break;
        }
        if (r >= 0)
                return 0;
        st_error_move(err, TAKE_PTR(error));
        return st_error_wrap(err, "cannot %s the container", pause ? "pause" : "resume");
}

/* How our programs that are at work on a container are known by their arguments. */
struct marks {
        char *work; /* the end of a checkpoint's --work-path= */
        char *root; /* a pause: --root=, then the command, at last the ID */
        const char *id;
};

/** Is it `runc checkpoint` or `runc pause` of ours? Arguments are NUL-terminated, one after the other. */
static bool is_at_work(const char *arguments, size_t size, const struct marks *marks) {
        bool pauses = false, root = false;
        const char *last = arguments;

        for (const char *at = arguments; at < arguments + size; at += strlen(at) + 1) {
                size_t length = strlen(at), n = strlen(marks->work);

                if (strncmp(at, "--work-path=", strlen("--work-path=")) == 0 && length > n &&
                    streq(at + length - n, marks->work))
                        return true;
                root = root || streq(at, marks->root);
                pauses = pauses || streq(at, "pause");
                last = at;
        }
        return root && pauses && streq(last, marks->id);
}

/** The directory in which CRIU works is that --work-path; it outlives a program that was killed. */
static bool works_there(const char *pid, const struct marks *marks) {
        _cleanup_free_ char *link = util_printf("/proc/%s/cwd", pid);
        char directory[PATH_MAX];
        ssize_t n = readlink(link, directory, sizeof(directory) - 1);
        size_t length = strlen(marks->work);

        if (n < 0 || (size_t)n < length)
                return false;
        directory[n] = '\0';
        return streq(directory + (size_t)n - length, marks->work);
}

/** The PID of a program of ours that is at work, or of its CRIU; 0: none. */
static pid_t find_at_work(const struct marks *marks) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        pid_t found = 0;

        while (proc && !found && (entry = readdir(proc))) {
                _cleanup_free_ char *path = NULL, *arguments = NULL;
                size_t size;

                if (!isdigit((unsigned char)*entry->d_name))
                        continue;
                path = util_printf("/proc/%s/cmdline", entry->d_name);
                if (works_there(entry->d_name, marks) || (util_read_file(path, CMDLINE_MAX, &arguments, &size) == 0 &&
                                                          size > 0 && is_at_work(arguments, size, marks)))
                        found = (pid_t)strtol(entry->d_name, NULL, 10);
        }
        if (proc)
                closedir(proc);
        return found;
}

static int wait_for_others(struct st_operation *operation, const struct runc_container *container,
                           struct st_error **err) {
        _cleanup_free_ char *work = util_printf("/" RUNC_WORK "%d", (int)container->pid);
        _cleanup_free_ char *root = util_printf("--root=%s", container->root);
        const struct marks marks = { work, root, container->id };
        struct pollfd cancel = { .fd = st_operation_cancel_fd(operation), .events = POLLIN };
        pid_t pid = 0;

        for (int waited = 0; waited < WAIT_MS; waited += STEP_MS) {
                int r = st_operation_check_cancelled(operation, err);

                if (r < 0)
                        return r;
                pid = find_at_work(&marks);
                if (!pid)
                        return 0;
                (void)poll(&cancel, 1, STEP_MS);
        }
        return st_error_set(err, EBUSY, "it is being dumped: process %d is at work on it", (int)pid);
}

void runc_wait_for_criu(const struct runc_container *container) {
        _cleanup_free_ char *work = util_printf("/" RUNC_WORK "%d", (int)container->pid);
        const struct marks marks = { work, work, container->id }; /* no program has that as its --root */

        /* One that was just started is not in its directory yet. */
        for (int idle = 0; idle < START_MS; idle = find_at_work(&marks) ? 0 : idle + STEP_MS)
                (void)poll(NULL, 0, STEP_MS);
}

/** Loads it, and refuses what does not run. */
static int find_live(const Daemon__DumpReq *req, struct runc_container *container, struct st_error **err) {
        int r = runc_container_find(req->details, container, err);

        if (r < 0)
                return r;
        if (container->status == RUNC_CREATED || container->status == RUNC_STOPPED)
                return st_error_set(err, EBUSY, "container %s is %s", container->id,
                                    runc_status_name(container->status));
        return 0;
}

/** Also waits for those who are at work on it; what is known of its state may be from before that. */
static int find_settled(struct st_operation *operation, const Daemon__DumpReq *req, struct runc_container *container,
                        struct st_error **err) {
        int r = find_live(req, container, err);

        return r < 0 ? r : wait_for_others(operation, container, err);
}

int runc_freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                struct st_error **err) {
        _cleanup_container_ struct runc_container container = { 0 };
        int r = find_settled(operation, req, &container, err);

        if (r < 0)
                return r;
        if (container.status == RUNC_PAUSED) {
                common_tell(resp, "container %s is paused already", container.id);
                return 0;
        }
        return runc_set_paused(&container, true, err);
}

int runc_unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err) {
        _cleanup_container_ struct runc_container container = { 0 };
        int r = find_settled(operation, req, &container, err);

        if (r < 0)
                return r;
        /* As it is now that nobody checkpoints it. */
        runc_container_clear(&container);
        r = find_live(req, &container, err);
        if (r < 0)
                return r;
        if (container.status == RUNC_RUNNING) {
                common_tell(resp, "container %s is not paused: there was nothing to do", container.id);
                return 0;
        }
        return runc_set_paused(&container, false, err);
}
