/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The handler of the dump: CRIU, streaming into our memory, and the commit of what it wrote.
 *
 * Without --stop: CRIU runs, the target goes on, then everything is encoded, synced and renamed. With --stop the same
 * happens while CRIU waits at its post-dump hook with the tasks frozen: only a committed checkpoint ends the target.
 * CRIU is never killed: closing its stream makes it fail, roll back and resume the target.
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
#include "engine/dump_context.h"
#include "engine/operation.h"
#include "engine/memory_budget.h"
#include "engine/stop_hook.h"
#include "image/capture.h"
#include "process/proc.h"
#include "engine/hook_protocol.h"

/* Beside the tree's memory, a dump has CRIU's small files. */
#define CAPTURE_SLACK (512u * 1024)

/* All pipes have been filled when the hook runs; only reading them is left. */
#define DRAIN_TIMEOUT_MS 60000

struct run {
        struct dump_context *context;
        struct store *store;
        struct capture *capture;
        struct stop_hook hook;
        int pidfd;
        pid_t criu;
        bool cancelled;
        bool committed;
        struct st_error *failure; /* ours; more telling than what CRIU says after it */
};

static void on_captured(uint64_t bytes, void *userdata) {
        struct run *run = userdata;
        st_operation_progress(run->context->dump.operation, "capturing", bytes, run->context->analysis->memory);
}

static void on_written(uint64_t done, uint64_t total, void *userdata) {
        struct run *run = userdata;
        st_operation_progress(run->context->dump.operation, "writing", done, total);
}

/** Encodes, syncs and renames: from here on the checkpoint exists. */
static int commit(struct run *run, struct st_error **err) {
        struct dump_context *context = run->context;
        struct st_operation *operation = context->dump.operation;
        struct image_write options = {
                .format = context->format,
                .destination = context->dump.destination,
                .partial = context->partial,
                .uid = st_operation_uid(operation),
                .gid = st_operation_gid(operation),
                .cancel_fd = st_operation_cancel_fd(operation),
                .progress = on_written,
                .userdata = run,
        };
        int r;

        r = operation_record_partial(operation, context->partial, err);
        if (r < 0)
                return r;
        r = image_write(run->store, &options, err);
        if (r == -ECANCELED) {
                /* Says why: the caller's wish or the time. */
                _cleanup_error_ struct st_error *reason = NULL;
                if (st_operation_check_cancelled(operation, &reason) < 0 && st_error_number(reason) != r) {
                        if (err)
                                *err = st_error_free(*err);
                        return st_error_move(err, TAKE_PTR(reason));
                }
        }
        if (r >= 0)
                run->committed = true;
        return r;
}

/** CRIU's post-dump action: all files are in our pipes, the tasks are frozen. */
static void on_hook(struct run *run) {
        struct st_error *error = NULL;
        int r;

        r = stop_hook_accept(&run->hook, &error);
        if (r >= 0)
                r = capture_drain(run->capture, DRAIN_TIMEOUT_MS, &error);
        if (r >= 0)
                r = commit(run, &error);
        if (r >= 0)
                r = stop_hook_commit(&run->hook, &error);
        if (r < 0) {
                st_error_free(run->failure);
                run->failure = error;
        }
        stop_hook_close(&run->hook);
}

static void on_cancel(struct run *run) {
        run->cancelled = true;
        if (!run->failure)
                (void)st_operation_check_cancelled(run->context->dump.operation, &run->failure);
        capture_abort(run->capture);
        stop_hook_close(&run->hook);
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

/** What was committed but whose target lives on after all is no checkpoint that anybody asked for. */
static void withdraw(struct run *run) {
        struct dump_context *context = run->context;
        const struct process_task *root = &context->analysis->tasks[0];

        if (!run->committed)
                return;
        if (proc_is_alive(root->pid, root->start_time)) {
                (void)io_remove_tree(context->dump.destination);
                run->committed = false;
        } else
                st_log_warning("CRIU failed after the checkpoint was complete, and process %d is gone: %s is kept",
                               root->pid, context->dump.destination);
}

/** Makes one error of a failed dump: the nearest to the root cause that is known. */
static int fail(struct run *run, int status, int capture_result, struct st_error *capture_error,
                struct st_error **err) {
        struct dump_context *context = run->context;
        _cleanup_free_ char *name = xasprintf("dump-%d-%s", context->dump.pid, operation_id(context->dump.operation));

        withdraw(run);
        if (run->failure) {
                st_error_free(capture_error);
                return st_error_move(err, TAKE_PTR(run->failure));
        }
        /* A closed stream is the effect of CRIU's failure, not its cause. */
        if (capture_result < 0 && capture_result != -ECONNRESET && capture_result != -ENODATA)
                return st_error_move(err, capture_error);
        st_error_free(capture_error);
        return criu_fail(st_operation_work_dir(context->dump.operation), CRIU_DUMP, status, name, 0, err);
}

static int start(struct run *run, struct st_error **err) {
        struct dump_context *context = run->context;
        struct st_operation *operation = context->dump.operation;
        const char *work_dir = st_operation_work_dir(operation);
        _cleanup_free_ char *script = NULL;
        _cleanup_strv_ struct strv environment = { 0 };
        struct criu_run criu = {
                .binary = context->criu,
                .operation = CRIU_DUMP,
                .options = context->dump.criu,
                .work_dir = work_dir,
                .pid = context->dump.pid,
                .leave_running = !context->stop,
                .lock_fd = operation_lock_fd(operation),
        };
        int r;

        store_warm(run->store, context->analysis->memory + CAPTURE_SLACK);
        r = capture_start(work_dir, run->store, on_captured, run, &run->capture, err);
        if (r < 0)
                return r;
        if (context->stop) {
                r = stop_hook_listen(&run->hook, work_dir, err);
                if (r < 0)
                        return r;
                script = path_libexec("stasis-hook");
                for (char **e = environ; *e; e++)
                        strv_add(&environment, *e);
                strv_addf(&environment, HOOK_SOCKET_VARIABLE "=%s", run->hook.path);
                criu.action_script = script;
                criu.environment = environment.items;
        }
        run->criu = criu_start(&criu, &run->pidfd, err);
        return run->criu < 0 ? (int)run->criu : 0;
}

static void report_statistics(struct dump_context *context) {
        struct criu_statistics statistics;

        if (criu_statistics_read(st_operation_work_dir(context->dump.operation), CRIU_DUMP, &statistics) < 0)
                return;
        st_log_info("process %d was frozen for %.1f ms, %llu pages written", context->dump.pid,
                    (double)statistics.frozen_us / 1000, (unsigned long long)statistics.pages_written);
}

static int run_criu(struct run *run, struct st_error **err) {
        struct st_error *capture_error = NULL;
        int status = 0, r, capture_result;

        r = start(run, err);
        if (r < 0) {
                if (run->capture) {
                        capture_abort(run->capture);
                        (void)capture_finish(run->capture, NULL);
                }
                return r;
        }
        r = supervise(run, &status);
        if (r < 0) {
                capture_abort(run->capture);
                (void)capture_finish(run->capture, NULL);
                return st_error_errno(err, r, "cannot wait for CRIU");
        }
        capture_result = capture_finish(run->capture, &capture_error);
        if (status != 0 || run->failure || (capture_result < 0 && !run->committed))
                return fail(run, status, capture_result, capture_error, err);
        st_error_free(capture_error);
        if (run->committed)
                return 0;
        return commit(run, err);
}

int dump_criu(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        _cleanup_free_ char *spill = path_directory(dump->destination);
        _cleanup_(store_freep) struct store *store = NULL;
        struct run run = { .context = context, .hook = STOP_HOOK_NULL, .pidfd = -EBADF };
        struct store_file *state;
        int r;

        (void)next;
        store = run.store = store_new(memory_budget(st_operation_config(dump->operation)), spill);
        state = store_add(store, IMAGE_STATE, err);
        if (!state)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        r = store_append(store, state, context->state, strlen(context->state), err);
        if (r >= 0)
                r = run_criu(&run, err);

        stop_hook_close(&run.hook);
        st_error_free(run.failure);
        if (run.pidfd >= 0)
                close(run.pidfd);
        if (r < 0)
                return r;
        report_statistics(context);
        message_append(&dump->resp->n_paths, &dump->resp->paths, xstrdup(dump->destination));
        return 0;
}
