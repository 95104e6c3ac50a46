/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The handler of the dump: CRIU, streaming into our memory, and the commit of what it wrote. Or we copy the memory and
 * CRIU does the rest (dump_grab.h); when that fails, everything is done once more, by streaming.
 *
 * At its post-dump hook CRIU waits for us with the tasks frozen. Then the pipes are read to their ends. Without --stop
 * the target runs on after that, and everything is encoded, synced and renamed while it does; with --stop that is done
 * at the hook, too: only a committed checkpoint ends the target. CRIU is never killed: closing its stream makes it
 * fail, roll back and resume the target.
 */

#include <poll.h>
#include <sys/sysinfo.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/dump_commit.h"
#include "engine/dump_context.h"
#include "engine/dump_grab.h"
#include "engine/operation.h"
#include "engine/hooks.h"
#include "engine/memory_budget.h"
#include "engine/dump_files.h"
#include "engine/dump_hook.h"
#include "image/capture.h"
#include "process/proc.h"
#include "supervisor/hook_protocol.h"

/* Beside the tree's memory, a dump has CRIU's small files. */
#define CAPTURE_SLACK (512u * 1024)

/* All pipes have been filled when the hook runs; only reading them is left. */
#define DRAIN_TIMEOUT_MS 60000

struct run {
        struct dump_context *context;
        struct store *store;
        struct capture *capture; /* NULL: the memory is grabbed */
        struct dump_grab grab;
        struct dump_hook hook;
        int pidfd;
        pid_t criu;
        uint64_t grabbed; /* pages that CRIU did not write */
        bool cancelled;
        bool committed;
        bool answered;            /* CRIU was told to go on */
        bool unwritten;           /* it could not be committed while CRIU waited: not a failure of CRIU */
        struct st_error *failure; /* ours; more telling than what CRIU says after it */
};

static void on_captured(uint64_t bytes, void *userdata) {
        struct run *run = userdata;
        st_operation_progress(run->context->dump.operation, "capturing", bytes, run->context->analysis->memory);
}

static int commit(struct run *run, struct st_error **err) {
        int r = dump_files_finish(run->context, run->store, err);

        if (r >= 0)
                r = dump_commit(run->context, run->store, false, err);
        if (r >= 0)
                run->committed = true;
        return r;
}

/** Takes what CRIU has made ready for us, the tasks being frozen. */
static int drain(struct run *run, struct st_error **err) {
        int r;

        if (run->capture)
                return capture_drain(run->capture, DRAIN_TIMEOUT_MS, err);
        r = dump_grab_collect(&run->grab, DRAIN_TIMEOUT_MS, err);
        if (r >= 0)
                run->grabbed = grab_statistics(run->grab.grab).pages;
        return r;
}

/** Makes CRIU fail, and resume the target. */
static void abort_capture(struct run *run) {
        if (run->capture)
                capture_abort(run->capture);
        if (run->grab.grab)
                grab_abort(run->grab.grab);
}

static int finish_capture(struct run *run, struct st_error **err) {
        int r = 0;

        if (run->capture)
                r = capture_finish(TAKE_PTR(run->capture), err);
        if (run->grab.grab)
                r = grab_finish(TAKE_PTR(run->grab.grab), err);
        return r;
}

/** CRIU's post-dump action: all files are in our pipes, the tasks are frozen. */
static void on_hook(struct run *run) {
        struct st_error *error = NULL;
        int r;

        r = dump_hook_accept(&run->hook, &error);
        if (r >= 0)
                r = drain(run, &error);
        if (r >= 0)
                r = dump_files_capture(run->context, run->store, &error);
        if (r >= 0 && run->context->dump.stop) {
                r = commit(run, &error);
                run->unwritten = r < 0;
        }
        if (r >= 0)
                r = dump_hook_answer(&run->hook, &error);
        run->answered = r >= 0;
        if (r < 0) {
                st_error_free(run->failure);
                run->failure = error;
        }
        dump_hook_close(&run->hook);
}

static void on_cancel(struct run *run) {
        run->cancelled = true;
        if (!run->failure)
                (void)st_operation_check_cancelled(run->context->dump.operation, &run->failure);
        abort_capture(run);
        dump_hook_close(&run->hook);
}

/** Waits for CRIU's end, serving its hook and the wish to cancel. @return its wait status or -errno */
static int supervise(struct run *run, int *ret_status) {
        for (;;) {
                struct pollfd polled[] = {
                        { .fd = run->pidfd, .events = POLLIN },
                        /* Once committed there is nothing left to cancel: CRIU is ending the target. */
                        { .fd = run->cancelled || run->committed ? -1
                                                                 : st_operation_cancel_fd(run->context->dump.operation),
                          .events = POLLIN },
                        { .fd = run->hook.listener, .events = POLLIN },
                };

                if (poll(polled, ELEMENTSOF(polled), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (polled[0].revents)
                        return spawn_wait(run->criu, ret_status);
                if (polled[1].revents)
                        on_cancel(run);
                else if (polled[2].revents)
                        on_hook(run);
        }
}

/** Are all tasks of the tree alive, and none of them about to die? */
static bool is_whole(const struct process_analysis *analysis) {
        for (size_t i = 0; i < analysis->n_tasks; i++)
                if (!proc_is_alive(analysis->tasks[i].pid, analysis->tasks[i].start_time) ||
                    proc_is_being_killed(analysis->tasks[i].pid))
                        return false;
        return true;
}

/**
 * What was committed but whose target lives on after all is no checkpoint that anybody asked for. But once CRIU was
 * told to go on it may have begun to end the target, and the checkpoint be the only copy: then it is kept unless the
 * whole tree stays alive.
 */
static void withdraw(struct run *run) {
        struct dump_context *context = run->context;
        bool alive = is_whole(context->analysis);

        if (!run->committed)
                return;
        for (int i = 0; run->answered && alive && i < 3; i++) {
                (void)poll(NULL, 0, 100);
                alive = is_whole(context->analysis);
        }
        if (alive) {
                (void)io_remove_tree(context->dump.destination);
                run->committed = false;
        } else
                st_log_warning("CRIU failed after the checkpoint was complete: %s is kept", context->dump.destination);
}

/**
 * Makes one error of a failed dump: the nearest to the root cause that is known. Ours is nearer than what CRIU's log
 * says, unless it only tells that CRIU ended early.
 */
static int fail(struct run *run, int status, int capture_result, struct st_error *capture_error,
                struct st_error **err) {
        struct dump_context *context = run->context;
        _cleanup_free_ char *name = xasprintf("dump-%d-%s", context->dump.pid, operation_id(context->dump.operation));
        /* What a CRIU that failed leaves in the stream, or not, is an effect of it. */
        bool ended_early = capture_result == -ENOTCONN || capture_result == -EPIPE || capture_result == -ECONNRESET ||
                           (capture_result == -ESTALE && status != 0);

        withdraw(run);
        if (run->failure)
                st_error_move(err, TAKE_PTR(run->failure));
        else if (capture_result < 0 && !ended_early)
                st_error_move(err, TAKE_PTR(capture_error));
        st_error_free(capture_error);
        if (run->cancelled || run->unwritten)
                return st_error_number(err ? *err : NULL) ?: -ECANCELED;
        int64_t keep = st_arguments_int(st_operation_config(context->dump.operation), "Log.KeepFailed");

        return criu_fail(st_operation_work_dir(context->dump.operation), CRIU_DUMP, status, name, 0,
                         keep > 0 ? (size_t)keep : 0, err);
}

static int start(struct run *run, struct st_error **err) {
        struct dump_context *context = run->context;
        struct st_operation *operation = context->dump.operation;
        const char *work_dir = st_operation_work_dir(operation);
        _cleanup_free_ char *hook = path_libexec("stasis-hook");
        _cleanup_strv_ struct strv environment = { 0 };
        struct criu_run criu = {
                .binary = context->criu,
                .operation = CRIU_DUMP,
                .options = context->dump.criu,
                .work_dir = work_dir,
                .pid = context->dump.pid,
                .leave_running = !context->dump.stop && !context->leave_stopped,
                .leave_stopped = context->leave_stopped,
                .lock_fd = operation_lock_fd(operation),
        };
        int r;

        if (context->grab)
                dump_grab_track(&run->grab, context, run->store);
        /* Of what is copied again after a while a quarter is a lot. */
        store_warm(run->store,
                   context->analysis->memory / (run->grab.base ? 4 : 1) + dump_files_expected(context) + CAPTURE_SLACK);
        if (context->grab)
                r = dump_grab_start(&run->grab, context, run->store, on_captured, run, &criu, err);
        else
                r = capture_start(work_dir, run->store, on_captured, run, &run->capture, err);
        if (r < 0)
                return r;
        r = dump_hook_listen(&run->hook, work_dir, err);
        if (r < 0)
                return r;
        if (access(hook, X_OK) < 0)
                return st_error_errno(err, errno, "a part of stasis is missing, %s", hook);
        for (char **e = environ; *e; e++)
                strv_add(&environment, *e);
        strv_addf(&environment, HOOK_SOCKET_VARIABLE "=%s", run->hook.path);
        criu.action_script = hook;
        criu.environment = environment.items;
        run->criu = criu_start(&criu, &run->pidfd, err);
        dump_grab_started(&run->grab);
        return run->criu < 0 ? (int)run->criu : 0;
}

static void report_statistics(const struct run *run) {
        const struct dump_context *context = run->context;
        struct criu_statistics statistics;

        if (criu_statistics_read(st_operation_work_dir(context->dump.operation), CRIU_DUMP, &statistics) < 0)
                return;
        statistics.pages_written += run->grabbed;
        operation_set_statistics(context->dump.operation,
                                 &(struct operation_statistics){ statistics.frozen_us, statistics.pages_written });
        st_log_info("process %d was frozen for %.1f ms, %llu pages written", context->dump.pid,
                    (double)statistics.frozen_us / 1000, (unsigned long long)statistics.pages_written);
}

static int run_criu(struct run *run, struct st_error **err) {
        const struct dump_context *context = run->context;
        struct st_error *capture_error = NULL;
        int status = 0, r, capture_result;

        r = start(run, err);
        if (r < 0) {
                abort_capture(run);
                (void)finish_capture(run, NULL);
                return r;
        }
        r = supervise(run, &status);
        if (r < 0) {
                abort_capture(run);
                (void)finish_capture(run, NULL);
                return st_error_errno(err, r, "cannot wait for CRIU");
        }
        capture_result = finish_capture(run, &capture_error);
        if (!context->grab || (status == 0 && capture_result >= 0 && !run->failure))
                hooks_after_thaw(run->context);
        if (status != 0 || run->failure || (capture_result < 0 && !run->committed))
                return fail(run, status, capture_result, capture_error, err);
        st_error_free(capture_error);
        /*
         * CRIU lets the target run on without waiting for us: its last pages may be of another moment. Of a target that
         * has ended there is nothing better.
         */
        if (!run->answered && !context->dump.stop)
                return st_error_set(err, EPROTO, "CRIU did not run its action script: the copy is not of one moment");
        return run->committed ? 0 : commit(run, err);
}

/** May the same dump succeed by streaming? Not what failed for want of room, or because it was to. */
static bool may_try_again(const struct run *run, int result) {
        return result < 0 && run->context->grab && !run->cancelled && !run->unwritten && !run->answered &&
               result != -ENOSPC && result != -EDQUOT && result != -ECANCELED;
}

/** Dumps once. @param ret_again it failed, and streaming may succeed */
static int dump_once(struct dump_context *context, bool *ret_again, struct st_error **err) {
        struct st_operation *operation = context->dump.operation;
        _cleanup_free_ char *spill = path_directory(context->dump.destination);
        _cleanup_(store_freep) struct store *store = NULL;
        struct run run = { .context = context, .grab = DUMP_GRAB_NULL, .hook = DUMP_HOOK_NULL, .pidfd = -EBADF };
        int r;

        store = run.store = store_new(memory_budget(st_operation_config(operation)), spill);
        r = dump_commit_state(context, store, err);
        if (r >= 0)
                r = dump_commit_early(context, store, err);
        if (r >= 0)
                r = run_criu(&run, err);

        dump_hook_close(&run.hook);
        if (r >= 0)
                dump_grab_committed(&run.grab);
        dump_grab_clear(&run.grab);
        st_error_free(run.failure);
        if (run.pidfd >= 0)
                close(run.pidfd);
        *ret_again = may_try_again(&run, r);
        if (r >= 0)
                report_statistics(&run);
        return r;
}

int dump_criu(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        struct st_error *error = NULL;
        bool again;
        int r;

        (void)next;
        context->grab = dump_grab_is_possible(context);
        r = dump_once(context, &again, &error);
        if (again) {
                st_log_warning("the memory of process %d could not be grabbed, it is streamed now: %s", dump->pid,
                               st_error_message(error));
                error = st_error_free(error);
                context->grab = false;
                r = dump_once(context, &again, &error);
        }
        hooks_after_thaw(context);
        if (r < 0)
                return st_error_move(err, error);
        message_append(&dump->resp->n_paths, &dump->resp->paths, xstrdup(dump->destination));
        return 0;
}
