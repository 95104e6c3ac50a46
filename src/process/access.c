/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "process/access.h"
#include "process/parse.h"

int access_denied(pid_t pid, struct st_error **err) {
        _cleanup_close_ int proc_fd = proc_open(pid);
        _cleanup_status_ struct proc_status status = { 0 };

        if (proc_fd >= 0 && proc_read_status_at(proc_fd, &status) == 0 && status.uids[0] != geteuid())
                st_error_set(err, EPERM, "process %d belongs to another user (UID %u)", (int)pid,
                             (unsigned)status.uids[0]);
        else
                st_error_set(err, EPERM, "process %d does not let its descriptors be read", (int)pid);
        if (geteuid() != 0)
                st_error_hint(err, "root may read them; ask the daemon, or use sudo");
        return -EPERM;
}
