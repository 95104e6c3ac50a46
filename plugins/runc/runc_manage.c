/* SPDX-License-Identifier: Apache-2.0 */

/* Taking over a container that runs, or that somebody is about to start. */

#include <poll.h>

#include "runc_run.h"

/* How often it is looked whether it has come. */
#define STEP_MS 100

static int check_running(const struct runc_container *container, struct st_error **err) {
        if (container->status == RUNC_RUNNING || container->status == RUNC_PAUSED)
                return 0;
        st_error_set(err, ESRCH, "container %s is %s: only one that runs can become a job", container->id,
                     runc_status_name(container->status));
        if (container->status == RUNC_CREATED)
                st_error_hint(err, "start it with '%s --root %s start %s', or wait for that with --upcoming",
                              runc_engine.name, container->root, container->id);
        return -ESRCH;
}

/** Waits until it is there. What is not there yet, or only by half, is no error. */
static int wait_for(struct st_run *run, struct runc_container *container, struct st_error **err) {
        struct pollfd cancel = { .fd = st_operation_cancel_fd(run->operation), .events = POLLIN };
        int r;

        st_operation_progress(run->operation, "waiting", 0, 0);
        for (;;) {
                r = runc_container_find(run->req->details, container, NULL);
                if (r >= 0)
                        r = check_running(container, NULL);
                if (r >= 0)
                        return 0;
                runc_container_clear(container);
                (void)poll(&cancel, 1, STEP_MS);
                r = st_operation_check_cancelled(run->operation, err);
                if (r < 0)
                        return r;
        }
}

int runc_manage(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        const Plugins__Runc__Runc *runc = run->req->details ? run->req->details->runc : NULL;
        _cleanup_container_ struct runc_container container = { 0 };
        int r;

        (void)next;
        if (!runc || isempty(runc->id))
                return st_error_set(err, EINVAL, "the request names no container: Details.Runc.ID is missing");
        r = runc_check_id(runc->id, err);
        if (r < 0)
                return r;
        if (run->req->has_action && run->req->action == DAEMON__RUN_ACTION__MANAGE_UPCOMING)
                r = wait_for(run, &container, err);
        else {
                r = runc_container_find(run->req->details, &container, err);
                if (r >= 0)
                        r = check_running(&container, err);
        }
        if (r < 0)
                return st_error_wrap(err, "cannot manage container %s", runc->id);
        run->pid = container.pid;
        run->waiter = ST_RUN_NOBODY;
        return 0;
}
