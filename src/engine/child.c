/* SPDX-License-Identifier: Apache-2.0 */

/* Programs that plugins start: base/spawn.h for them. */

#include <stasis/child.h>

#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "base/text.h"
#include "criu/environment.h"

/** What a plugin of the first ABI that has it fills in. */
#define SIZE_MIN (offsetof(struct st_child, keep_session) + sizeof(bool))

/**
 * @param fds of the plugin's, in our type
 * @param environment empty; filled when it is not the plugin's own, to be cleared by the caller
 */
static struct spawn make_spawn(const struct st_child *child, const struct spawn_fd *fds, struct strv *environment) {
        if (child->size >= offsetof(struct st_child, dumps) + sizeof(bool) && child->dumps) {
                criu_environment(child->environment, environment);
                criu_environment_limits(environment, true);
        }
        return (struct spawn){
                .path = child->path,
                .argv = child->argv,
                .environment = environment->n > 0 ? environment->items : child->environment,
                .directory = child->directory,
                .fds = fds,
                .n_fds = child->n_fds,
                .inherit_stdio = child->keep_stdio,
                .new_session = !child->keep_session,
        };
}

static struct spawn_fd *copy_fds(const struct st_child *child) {
        struct spawn_fd *fds = xcalloc(child->n_fds, sizeof(*fds));

        for (size_t i = 0; i < child->n_fds; i++)
                fds[i] = (struct spawn_fd){ .fd = child->fds[i].fd, .number = child->fds[i].number };
        return fds;
}

static int check(const struct st_child *child, struct st_error **err) {
        return child->size >= SIZE_MIN && child->path && child->argv
                       ? 0
                       : st_error_set(err, EINVAL, "struct st_child has no size, path or argv");
}

pid_t st_child_start(const struct st_child *child, int *ret_pidfd, struct st_error **err) {
        _cleanup_free_ struct spawn_fd *fds = NULL;
        _cleanup_strv_ struct strv environment = { 0 };
        int r = check(child, err);

        if (r < 0)
                return r;
        fds = copy_fds(child);
        const struct spawn spawn = make_spawn(child, fds, &environment);
        return spawn_start(&spawn, ret_pidfd, err);
}

int st_child_wait(pid_t pid, int *ret_status) {
        return spawn_wait(pid, ret_status);
}

int st_child_run(const struct st_child *child, int timeout_ms, int cancel_fd, char **ret_output,
                 struct st_error **err) {
        _cleanup_free_ struct spawn_fd *fds = NULL;
        _cleanup_strv_ struct strv environment = { 0 };
        int r = check(child, err);

        if (r < 0)
                return r;
        fds = copy_fds(child);
        const struct spawn spawn = make_spawn(child, fds, &environment);
        r = spawn_run_until(&spawn, timeout_ms, cancel_fd, child->keep_stdio ? NULL : ret_output, err);
        if (r >= 0 && ret_output && child->keep_stdio)
                *ret_output = xstrdup("");
        return r;
}
