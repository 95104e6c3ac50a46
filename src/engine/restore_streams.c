/* SPDX-License-Identifier: Apache-2.0 */

/* The streams of what a plugin's handler restores: to attach to, or the file of its output. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/operation.h"
#include "engine/restore_context.h"
#include "engine/restore_output.h"

int st_restore_streams(struct st_restore *restore, bool terminal, int ret[3], struct st_error **err) {
        const Stasis__V1__JobSpec *job = operation_job(restore->operation);
        struct job_stdio *stdio = &restore_context(restore)->stdio;
        const Daemon__RestoreReq *req = restore->req;
        int r = 0;

        ret[0] = ret[1] = ret[2] = -EBADF;
        if (isempty(req->log) && job && !isempty(job->log)) /* its output goes where it went */
                message_set_string(&restore->req->log, job->log);
        if (terminal || req->attachable) /* whoever takes our ends writes the log, too */
                r = terminal ? job_stdio_make_terminal(req->terminal, NULL, 0, stdio, err)
                             : job_stdio_make_pipes(stdio, err);
        else if (!isempty(req->log))
                r = job_stdio_use_log(stdio, req->log, restore_owner_uid(restore), restore_owner_gid(restore), err);
        if (r < 0)
                return r;
        for (int i = 0; i < 3; i++) {
                ret[i] = stdio->job[i];
                stdio->job[i] = -EBADF;
        }
        return ret[1] >= 0;
}
