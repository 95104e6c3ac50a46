/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The handler of the restore: CRIU, served from the checkpoint. The restored root becomes our own child
 * (--restore-sibling), with its PID; CRIU itself ends.
 */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/memory_budget.h"
#include "engine/operation.h"
#include "engine/restore_context.h"
#include "engine/restore_directory.h"
#include "engine/restore_lazy.h"
#include "image/serve.h"

/* After its stream was closed CRIU ends by itself within 100 ms; it is asked again, then made to. */
#define CRIU_TERM_AFTER_MS 10000
#define CRIU_KILL_AFTER_MS 20000

/* When what it restores was killed, so long each: until that is its end, until CRIU is asked to end, until it is made
 * to. There is no tree then that it would have to end. */
#define KILLED_AFTER_MS 2000
#define LOOK_STEP_MS 500

/* A large process takes a moment to end. */
#define REAP_MS 5000

struct run {
        struct restore_context *context;
        struct serve *serve; /* NULL: CRIU reads from a directory */
        int pidfd;
        pid_t criu;
        struct st_error *failure;
        bool lost;               /* what it restores must not run: its memory is not to be had */
        uint64_t root_killed_ms; /* clock_ms() when that was seen; 0: it was not */
};

static void on_served(uint64_t done, uint64_t total, void *userdata) {
        struct run *run = userdata;
        st_operation_progress(run->context->restore.operation, "restoring", done, total);
}

/** Lets CRIU fail, since run->failure is set: it is not killed. */
static void stop_criu(struct run *run) {
        restore_lazy_abort(run->context->lazy);
        /* With duplicates of its descriptors who waits for a page would go on waiting, and CRIU with it. */
        cleanup_closep(&run->context->memory_fd);
        run->context->memory_fd = -EBADF;
        if (run->serve)
                serve_abort(run->serve);
        else
                (void)pidfd_send_signal(run->pidfd, SIGTERM, NULL, 0);
}

/**
 * What is restored is our child from its beginning. When somebody kills it before CRIU is done, CRIU may wait for it in
 * a futex for ever.
 */
static bool is_root_killed(struct run *run) {
        siginfo_t info = { 0 };

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 || info.si_pid == run->criu)
                return false;
        if (run->root_killed_ms == 0)
                run->root_killed_ms = clock_ms();
        return clock_ms() - run->root_killed_ms > KILLED_AFTER_MS;
}

/** Waits for CRIU's end; a wish to cancel closes its stream, and it fails. */
static int supervise(struct run *run, int *ret_status, struct st_error **err) {
        int timeout = -1, signal_next = SIGTERM, kill_after = CRIU_KILL_AFTER_MS - CRIU_TERM_AFTER_MS;

        for (;;) {
                struct pollfd polled[2 + RESTORE_LAZY_FDS] = {
                        { .fd = run->pidfd, .events = POLLIN },
                        { .fd = run->failure ? -1 : st_operation_cancel_fd(run->context->restore.operation),
                          .events = POLLIN },
                };
                struct restore_lazy *lazy = run->failure ? NULL : run->context->lazy;
                int step = restore_lazy_polled(lazy, polled + 2);
                int n = poll(polled, ELEMENTSOF(polled), run->failure ? timeout : step < 0 ? LOOK_STEP_MS : step);

                if (n < 0 && errno != EINTR)
                        return st_error_errno(err, errno, "cannot wait for CRIU");
                if (n == 0 && run->failure) {
                        /* It once hung in a futex when its tasks were killed under it. */
                        (void)pidfd_send_signal(run->pidfd, signal_next, NULL, 0);
                        signal_next = SIGKILL;
                        timeout = kill_after;
                } else if (n > 0 && polled[0].revents) {
                        int r = spawn_wait(run->criu, ret_status);
                        return r < 0 ? st_error_errno(err, r, "cannot wait for CRIU") : 0;
                } else if (n > 0 && polled[1].revents) {
                        (void)st_operation_check_cancelled(run->context->restore.operation, &run->failure);
                        timeout = CRIU_TERM_AFTER_MS;
                        stop_criu(run);
                } else if (!run->failure && is_root_killed(run)) {
                        st_error_set(&run->failure, ECHILD, "what CRIU was restoring was killed");
                        timeout = kill_after = KILLED_AFTER_MS;
                        stop_criu(run);
                } else if (n >= 0 && lazy && restore_lazy_handle(lazy, polled + 2, &run->failure) < 0) {
                        if (!run->failure)
                                st_error_set(&run->failure, EIO, "its memory is lost");
                        run->lost = true;
                        timeout = CRIU_TERM_AFTER_MS;
                        stop_criu(run);
                }
        }
}

/** Ends all children of ours: there are none but what CRIU left, whose descendants come to us (we are a subreaper). */
static void kill_children(void) {
        _cleanup_free_ char *path = xasprintf("/proc/self/task/%d/children", (int)getpid()), *text = NULL;

        if (io_read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
                return;
        for (char *at = text, *end;; at = end) {
                long pid = strtol(at, &end, 10);
                if (end == at || pid <= 1)
                        return;
                (void)kill((pid_t)pid, SIGKILL);
        }
}

/**
 * After a failed restore CRIU leaves a zombie that holds the PID, and when it was killed half a tree. All of it is
 * ended and reaped.
 */
static void reap_leftovers(void) {
        int status;

        for (int ms = 0; ms < REAP_MS; ms += 10) {
                pid_t pid = waitpid(-1, &status, WNOHANG);

                if (pid < 0)
                        return;
                if (pid == 0) {
                        kill_children();
                        (void)poll(NULL, 0, 10);
                }
        }
}

static int read_pid(const char *path, pid_t *ret, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        int r = io_read_file(AT_FDCWD, path, 64, &text, NULL);

        if (r < 0)
                return st_error_errno(err, r, "CRIU wrote no PID file %s", path);
        text[strcspn(text, "\n")] = '\0';
        if (text_to_pid(text, ret) < 0)
                return st_error_set(err, EBADMSG, "CRIU's PID file %s holds '%s'", path, text);
        return 0;
}

/** Makes one error of a failed restore. Damage that the server found is the root cause of what CRIU said after it. */
static int fail(struct run *run, int status, int serve_result, struct st_error *serve_error, struct st_error **err) {
        struct restore_context *context = run->context;
        _cleanup_free_ char *name = xasprintf("restore-%s", operation_id(context->restore.operation));

        reap_leftovers();
        if (run->failure) {
                st_error_free(serve_error);
                return st_error_move(err, TAKE_PTR(run->failure));
        }
        if (serve_result < 0 && serve_result != -EPIPE && serve_result != -ECONNRESET && serve_result != -ENOTCONN)
                st_error_move(err, TAKE_PTR(serve_error));
        st_error_free(serve_error);
        int64_t keep = st_arguments_int(st_operation_config(context->restore.operation), "Log.KeepFailed");

        return criu_fail(st_operation_work_dir(context->restore.operation), CRIU_RESTORE, status, name, 0,
                         keep > 0 ? (size_t)keep : 0, err);
}

static int start(struct run *run, const char *pid_file, const char *images_dir, struct st_error **err) {
        struct restore_context *context = run->context;
        _cleanup_free_ char *hook = path_libexec("stasis-hook");
        _cleanup_strv_ struct strv environment = { 0 };
        const Criu__CriuOpts *criu_options = context->restore.criu;
        struct criu_run criu = {
                .binary = context->criu,
                .operation = CRIU_RESTORE,
                .options = criu_options,
                .work_dir = st_operation_work_dir(context->restore.operation),
                .images_dir = images_dir,
                .leave_stopped = criu_options->has_leave_stopped && criu_options->leave_stopped,
                .pid_file = pid_file,
                .fds = context->fds,
                .n_fds = context->n_fds,
                .cgroups = context->cgroups.items,
                .in_session = criu_options->has_shell_job && criu_options->shell_job,
                .lock_fd = operation_lock_fd(context->restore.operation),
        };
        uint64_t budget = memory_budget(st_operation_config(context->restore.operation));
        int r = restore_lazy_start(context, err);

        if (r < 0)
                return r;
        if (context->lazy) {
                if (access(hook, X_OK) < 0)
                        return st_error_errno(err, errno, "a part of stasis is missing, %s", hook);
                criu.action_script = hook;
                restore_lazy_options(context->lazy, &criu, &environment);
        }
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        if (!images_dir)
                r = serve_start(context->image, criu.work_dir, budget, path_temporary_dir(), on_served, run,
                                &run->serve, err);
        if (r < 0)
                return r;
        run->criu = criu_start(&criu, &run->pidfd, err);
        if (run->criu < 0) {
                if (run->serve) {
                        serve_abort(run->serve);
                        (void)serve_finish(run->serve, NULL);
                }
                return (int)run->criu;
        }
        return 0;
}

static int run_criu(struct run *run, const char *pid_file, struct st_error **err) {
        const char *images_dir = NULL;
        struct st_error *serve_error = NULL;
        int status = 0, serve_result = 0, r;

        r = restore_directory(run->context, &images_dir, err);
        if (r >= 0)
                r = start(run, pid_file, images_dir, err);
        if (r < 0)
                return r;
        r = supervise(run, &status, err);
        if (r < 0 && run->serve)
                serve_abort(run->serve);
        if (run->serve)
                serve_result = serve_finish(run->serve, &serve_error);
        if (r < 0) {
                st_error_free(serve_error);
                return r;
        }
        if (status != 0 && !run->failure)
                (void)restore_lazy_explain(run->context->lazy, &run->failure);
        /* It may have been done when what it was to be told came: then it is not to run all the same. */
        if (status != 0 || run->lost)
                return fail(run, status, serve_result, serve_error, err);
        st_error_free(serve_error);
        r = read_pid(pid_file, &run->context->restore.pid, err);
        if (r >= 0 && run->context->lazy) {
                r = restore_lazy_restored(run->context->lazy, run->context->restore.pid, err);
                if (r < 0)
                        reap_leftovers();
        }
        return r;
}

int restore_criu(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct run run = { .context = restore_context(restore), .pidfd = -EBADF };
        _cleanup_free_ char *pid_file = path_join(st_operation_work_dir(restore->operation), "pid");
        struct criu_statistics statistics;
        int r;

        (void)next;
        r = run_criu(&run, pid_file, err);
        st_error_free(run.failure);
        if (run.pidfd >= 0)
                close(run.pidfd);
        if (r < 0)
                return r;
        if (criu_statistics_read(st_operation_work_dir(restore->operation), CRIU_RESTORE, &statistics) == 0)
                st_log_info("process %d was restored in %.1f ms, %llu pages", restore->pid,
                            (double)statistics.restore_us / 1000, (unsigned long long)statistics.pages_restored);
        return 0;
}
