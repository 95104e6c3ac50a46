/* SPDX-License-Identifier: Apache-2.0 */

/* Failures of cgroups. */

#include <errno.h>

#include "base/cleanup.h"
#include "criu/digest.h"

#define HINT_IGNORE \
        "use --criu-opts '{\"manage_cgroups_mode\": \"IGNORE\"}': the process gets the cgroups of the daemon"

static const struct digest_row rows[] = {
        { .patterns = { "Unable to freeze cgroup *(" },
          .id = "cgroup-freeze",
          .title = "A cgroup that does not freeze",
          .phase = DIGEST_DUMP,
          .number = ETIMEDOUT,
          .names = "NAME",
          .cause = "the cgroup $1could not be frozen",
          .hint = "a process in it does not stop; try again" },
        { .patterns = { "Neither a cgroupv1 (freezer.state) or cgroupv2" },
          .id = "cgroup-no-freezer",
          .title = "Not a cgroup that can be frozen",
          .phase = DIGEST_DUMP,
          .number = ENOENT,
          .cause = "freeze_cgroup names no cgroup that can be frozen",
          .hint = "it is the path of a directory below /sys/fs/cgroup" },
        { .patterns = { "Cgroup dir * doesn't exist" },
          .id = "cgroup-missing",
          .title = "A cgroup that is gone",
          .phase = DIGEST_RESTORE,
          .number = ENOENT,
          .names = "NAME",
          .cause = "the cgroup $1 of the checkpoint does not exist here",
          .hint = "make it first; or " HINT_IGNORE },
        { .patterns = { "Can't make cgroup dir *", "Can't make controller dir *", "Can't mount controller dir *",
                        "Can't make temp cgyard dir*" },
          .id = "cgroup-make",
          .title = "A cgroup that cannot be made",
          .phase = DIGEST_RESTORE,
          .number = EACCES,
          .names = "NAME",
          .cause = "a cgroup of the checkpoint cannot be made: $1",
          .hint = HINT_IGNORE ", which is what stasis does unless told otherwise",
          .more = "Between cgroup v1 and v2, or with other controllers mounted, the cgroups of a checkpoint "
                  "cannot be made again." },
        { .patterns = { "Can't move * into *" },
          .id = "cgroup-move",
          .title = "A process cannot get into its cgroup",
          .phase = DIGEST_RESTORE,
          .number = EACCES,
          .names = "PID CGROUP",
          .cause = "a process cannot be put into its cgroup: $2",
          .hint = "a cgroup v2 with controllers switched on for its children takes no processes; or " HINT_IGNORE },
        { .patterns = { "cg: Failed writing * to *", "Failed writing * to *cgroup*" },
          .id = "cgroup-property",
          .title = "A setting of a cgroup that is refused",
          .phase = DIGEST_RESTORE,
          .number = EINVAL,
          .names = "VALUE SETTING",
          .cause = "the kernel refuses a setting of a cgroup: $1 for $2",
          .hint = "fewer CPUs or less memory here? Use --criu-opts '{\"manage_cgroups_mode\": \"NONE\"}'" },
        { .patterns = { "CG paths mismatch: *", "cg * shorter than path prefix *", "controller * not found" },
          .id = "cgroup-layout",
          .title = "Other cgroups than expected",
          .number = EINVAL,
          .names = "WHICH",
          .cause = "the cgroups do not fit to those of the checkpoint ($1)",
          .hint = HINT_IGNORE },
};

const struct digest_theme digest_cgroups = { .title = "Cgroups", .rows = rows, .n = ELEMENTSOF(rows) };
