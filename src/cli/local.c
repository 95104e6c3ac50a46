/* SPDX-License-Identifier: Apache-2.0 */

/* Operations in this process, for --no-server. */

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/messages.h"
#include "cli/cli.h"
#include "cli/crash.h"
#include "cli/interrupt.h"
#include "cli/operation.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "engine/engine.h"
#include "engine/operation.h"

/* One call at a time, on any thread of the operation. */
static void take_report(const Stasis__Worker__Report *report, void *userdata) {
        switch (report->kind_case) {
        case STASIS__WORKER__REPORT__KIND_PROGRESS:
                progress_update(report->progress->phase ?: "", report->progress->done, report->progress->total);
                break;
        case STASIS__WORKER__REPORT__KIND_SPAN:
                profile_add(userdata, report->span);
                break;
        default:
                break;
        }
}

static int run_operation(const struct cli *cli, const struct local_work *work, Stasis__V1__Profile *profile,
                         struct st_error **err) {
        struct operation_options options = {
                .config = cli->arguments,
                .uid = getuid(),
                .gid = getgid(),
                .privileged = geteuid() == 0,
                .no_server = true,
                .no_work_dir = !work->needs_root && geteuid() != 0,
                .cancel_fd = interrupt_fd(),
                .report = take_report,
                .userdata = profile,
        };
        _cleanup_(operation_freep) struct st_operation *operation = NULL;
        int r;

        r = operation_new(&options, &operation, err);
        if (r < 0)
                return r;
        progress_begin();
        r = work->run(operation, work->userdata, err);
        progress_end();
        return r;
}

int local_operate(struct cli *cli, const struct local_work *work, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__Profile *profile = message_new(&stasis__v1__profile__descriptor);
        int r;

        if (work->needs_root && geteuid() != 0) {
                st_error_set(err, EPERM, "--no-server needs root");
                st_error_hint(err, "run it as root, or leave it out to ask the daemon");
                return -EPERM;
        }
        r = interrupt_watch(err);
        if (r < 0)
                return r;
        crash_handler_install();
        umask(0077); /* as the daemon: what a checkpoint holds is nobody else's */
        engine_load_plugins(cli->arguments);

        r = run_operation(cli, work, profile, err);
        if (r == -ECANCELED && interrupt_count() > 0)
                return operation_interrupted(work->outcome, err);
        if (profile_wanted(cli->arguments))
                profile_show(profile, cli->arguments);
        return r;
}
