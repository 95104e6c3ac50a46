/* SPDX-License-Identifier: Apache-2.0 */

/* Taking over a container that runs, or that somebody is about to start. */

#include "docker_run.h"

#include <poll.h>
#include <string.h>

#include "../common/cleanup.h"
#include "docker_target.h"

/* How often it is looked whether it has come. */
#define STEP_MS 200

/** @return its process; 0: it has none; -errno with err */
static int look(struct engine *engine, const char *id, struct st_error **err) {
        _cleanup_json_ json_t *inspect = NULL;
        const char *status;
        int r = docker_inspect(engine, id, &inspect, err);

        if (r < 0)
                return r;
        status = docker_inspect_status(inspect);
        return strcmp(status, "running") == 0 || strcmp(status, "paused") == 0 ? (int)docker_inspect_pid(inspect) : 0;
}

/** An engine that is not there yet is waited for, too. */
static int wait_for(struct st_run *run, struct engine *engine, const char *id, struct st_error **err) {
        struct pollfd cancel = { .fd = st_operation_cancel_fd(run->operation), .events = POLLIN };

        st_operation_progress(run->operation, "waiting", 0, 0);
        for (;;) {
                int pid = look(engine, id, NULL), r;

                if (pid > 0)
                        return pid;
                (void)poll(&cancel, 1, STEP_MS);
                r = st_operation_check_cancelled(run->operation, err);
                if (r < 0)
                        return r;
        }
}

int docker_manage(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        const Plugins__Docker__Docker *details = docker_details(run->req->details, err);
        _cleanup_engine_ struct engine *engine = NULL;
        int r;

        (void)next;
        if (!details)
                return -EINVAL;
        r = engine_check_reference("container", details->id, err);
        if (r >= 0)
                r = docker_engine_open(details->host, details->certpath, st_operation_cancel_fd(run->operation),
                                       &engine, err);
        if (r < 0)
                return r;
        if (run->req->has_action && run->req->action == DAEMON__RUN_ACTION__MANAGE_UPCOMING)
                r = wait_for(run, engine, details->id, err);
        else
                r = look(engine, details->id, err);
        if (r == 0) {
                r = st_error_set(err, ESRCH, "it does not run: only one that runs can become a job");
                st_error_hint(err, "start it, or wait for that with --upcoming");
        }
        if (r < 0)
                return st_error_wrap(err, "cannot manage container %s", details->id);
        run->pid = r;
        run->waiter = ST_RUN_NOBODY;
        return 0;
}
