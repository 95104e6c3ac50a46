/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_freeze.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "../common/answer.h"
#include "../common/cleanup.h"
#include "docker_criu_conf.h"
#include "docker_root.h"
#include "docker_shim.h"
#include "docker_silence.h"
#include "docker_target.h"

#define CRIU_WAIT_MS 20000
#define CRIU_STEP_MS 20

/**
 * CRIU thaws and freezes the container's cgroup itself: what is unpaused meanwhile would be left frozen. The engine
 * keeps them apart, but not from a runc that was called without it (--fast) by a dump that has died.
 */
static int wait_for_criu(struct st_operation *operation, pid_t pid, struct st_error **err) {
        for (int waited = 0; docker_proc_number(pid, "TracerPid") > 0; waited += CRIU_STEP_MS) {
                struct pollfd cancel = { .fd = st_operation_cancel_fd(operation), .events = POLLIN };

                if (waited >= CRIU_WAIT_MS)
                        return st_error_set(err, EBUSY, "process %d of it is traced, by CRIU or a debugger", (int)pid);
                if (poll(&cancel, 1, CRIU_STEP_MS) > 0)
                        return st_operation_check_cancelled(operation, err);
        }
        return 0;
}

struct subject {
        const Plugins__Docker__Docker *details;
        struct engine *engine;
        json_t *inspect;
        const char *name, *status;
        pid_t pid;
};

static void clear(struct subject *subject) {
        engine_close(subject->engine);
        json_decref(subject->inspect);
}

static int find(struct st_operation *operation, const Daemon__DumpReq *req, struct subject *subject,
                struct st_error **err) {
        int r;

        subject->details = docker_details(req->details, err);
        if (!subject->details)
                return -EINVAL;
        r = docker_engine_open(subject->details->host, subject->details->certpath, st_operation_cancel_fd(operation),
                               &subject->engine, err);
        if (r >= 0)
                r = docker_inspect(subject->engine, subject->details->id, &subject->inspect, err);
        if (r < 0)
                return r;
        subject->name = docker_inspect_name(subject->inspect);
        subject->status = docker_inspect_status(subject->inspect);
        subject->pid = docker_inspect_pid(subject->inspect);
        return 0;
}

static int not_running(const struct subject *subject, struct st_error **err) {
        int r = st_error_set(err, ESRCH, "the container %s is %s, not running", subject->name,
                             *subject->status ? subject->status : "in no known state");

        if (strcmp(subject->status, "exited") == 0 || strcmp(subject->status, "created") == 0)
                st_error_hint(err, "start it: 'docker start %s'", subject->name);
        return r;
}

int docker_freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err) {
        __attribute__((cleanup(clear))) struct subject subject = { 0 };
        int r = find(operation, req, &subject, err);

        if (r < 0)
                return r;
        if (strcmp(subject.status, "paused") == 0) {
                common_tell(resp, "the container %s is paused already", subject.name);
                return 0;
        }
        if (strcmp(subject.status, "running") != 0)
                return not_running(&subject, err);
        r = engine_container_pause(subject.engine, subject.details->id, err);
        if (r >= 0)
                common_tell(resp, "the container %s is paused", subject.name);
        return r;
}

/** A dump that was killed may also have left its lines for CRIU, and the rules that keep a container silent. */
static void tidy_up(const struct subject *subject) {
        _cleanup_close_ int root = -EBADF;

        if (docker_root_open(engine_address(subject->engine), &root, NULL) >= 0)
                (void)docker_criu_conf_mend_at(root, NULL);
        if (strcmp(subject->status, "paused") == 0 && docker_silence_fits(subject->inspect))
                docker_silence_end(subject->pid);
}

int docker_unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err) {
        __attribute__((cleanup(clear))) struct subject subject = { 0 };
        int r = find(operation, req, &subject, err);

        if (r < 0)
                return r;
        tidy_up(&subject);
        if (strcmp(subject.status, "running") == 0) {
                common_tell(resp, "the container %s is not paused", subject.name);
                return 0;
        }
        if (strcmp(subject.status, "paused") != 0)
                return not_running(&subject, err);
        r = wait_for_criu(operation, subject.pid, err);
        if (r >= 0)
                r = engine_container_unpause(subject.engine, subject.details->id, err);
        if (r >= 0)
                common_tell(resp, "the container %s runs again", subject.name);
        return r;
}
