/* SPDX-License-Identifier: Apache-2.0 */

/* CRIU: is there one, does it work here, and what does it miss in the kernel? */

#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "criu/criu.h"
#include "criu/environment.h"
#include "engine/health.h"

/* All features together must be asked within HEALTH_LIMIT_MS; one takes about 40 ms. */
#define FEATURE_LIMIT_MS 500

/* Names as `criu check --feature` knows them (criu/cr-check.c). */
static const struct {
        const char *name;
        const char *without; /* what cannot be done, and what to do */
} features[] = {
        { "clone3_set_tid", "PIDs are restored by a slower and racy way: a kernel from 5.5 on has clone3" },
        { "userns", "processes in user namespaces cannot be dumped: set CONFIG_USER_NS in the kernel" },
        { "timens", "processes in time namespaces cannot be dumped: a kernel from 5.6 on has them" },
        { "tcp_half_closed", "half-closed TCP connections cannot be dumped: a kernel from 4.18 on can" },
        { "seccomp_filters", "processes with seccomp filters cannot be dumped: set CONFIG_CHECKPOINT_RESTORE" },
        { "network_lock_nftables",
          "TCP connections are locked by iptables, one by one: frozen for about 45 ms more for each. "
          "A CRIU with libnftables and a kernel with nf_tables lock all at once" },
        { "uffd-noncoop", "lazy restore does not work: set CONFIG_USERFAULTFD" },
        { "pagemap_scan", "memory is looked through in a slower way: a kernel from 6.7 on has PAGEMAP_SCAN" },
        { "mem_dirty_track", "CRIU's own incremental dumps (pre-dump) do not work: set CONFIG_MEM_SOFT_DIRTY" },
        { "overlayfs_maps", "mapped files on overlayfs may not be found: a kernel from 6.8 on tells them" },
        { "pidfd_store", "a PID that was used again may be taken for another process between two dumps" },
        { "apparmor_stacking", "AppArmor profiles of containers cannot be restored" },
};

static void check_features(struct health *health, const struct criu_binary *criu) {
        for (size_t i = 0; i < ELEMENTSOF(features); i++) {
                _cleanup_strv_ struct strv environment = { 0 };
                _cleanup_error_ struct st_error *error = NULL;
                _cleanup_free_ char *name = xasprintf("feature %s", features[i].name), *output = NULL;

                criu_environment(NULL, &environment);
                const struct spawn spawn = {
                        .path = criu->path,
                        .argv = (char *[]){ criu->path, (char *)"--no-default-config", (char *)"check",
                                            (char *)"--feature", (char *)features[i].name, NULL },
                        .environment = environment.items,
                        .new_session = true,
                        .parent_death_signal = SIGKILL,
                };
                int r = spawn_run(&spawn, FEATURE_LIMIT_MS, &output, &error);
                if (r == 0)
                        health_warn(health, name, "yes", NULL);
                else if (r < 0)
                        health_warn(health, name, NULL, st_error_message(error));
                else if (!strstr(output ?: "", "Unknown feature")) /* an older CRIU: it cannot tell */
                        health_warn(health, name, "no", features[i].without);
        }
}

void health_criu(struct health *health) {
        _cleanup_(criu_binary_freep) struct criu_binary *criu = NULL;
        _cleanup_error_ struct st_error *error = NULL;

        if (criu_find(health->criu, &criu, &error) < 0) {
                health_require(health, "CRIU", NULL, st_error_message(error));
                return;
        }
        health_require(health, "CRIU", criu->path, NULL);
        health_require(health, "version", criu->version, criu->working ? NULL : criu->problem);
        if (health->full && criu->working)
                check_features(health, criu);
}
