/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_output.h"

#include "engine/job_stdio.h"

uid_t restore_owner_uid(const struct st_restore *restore) {
        return restore->req->has_uid ? restore->req->uid : st_operation_uid(restore->operation);
}

gid_t restore_owner_gid(const struct st_restore *restore) {
        return restore->req->has_gid ? restore->req->gid : st_operation_gid(restore->operation);
}

int restore_open_output(const struct st_restore *restore, struct st_error **err) {
        return job_stdio_open_log(restore->req->log, restore_owner_uid(restore), restore_owner_gid(restore), err);
}
