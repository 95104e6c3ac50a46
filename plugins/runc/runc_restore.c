/* SPDX-License-Identifier: Apache-2.0 */

/* The handler of the restore, and bringing back what a dump has ended. */

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <stasis/checkpoint.h>

#include "runc_restore.h"

void runc_plan_clear(struct runc_plan *plan) {
        runc_mounts_undo(&plan->made);
        if (plan->lock >= 0)
                (void)close(plan->lock);
        free(plan->id);
        free(plan->root);
        free(plan->bundle);
        free(plan->console_socket);
        free(plan->log);
        json_decref(plan->saved);
        json_decref(plan->config);
        free(plan->work);
        free(plan->bundle_used);
}

bool runc_is_bind_mount(const json_t *mount) {
        const char *type = util_json_text(mount, "type", NULL);
        json_t *options = json_object_get(mount, "options"), *option;
        size_t i;

        if (type && streq(type, "bind"))
                return true;
        json_array_foreach(options, i, option) {
                const char *text = json_string_value(option);
                if (text && (streq(text, "bind") || streq(text, "rbind")))
                        return true;
        }
        return false;
}

static bool has_file(const struct st_restore *restore, const char *name) {
        for (size_t i = 0; i < st_restore_count(restore); i++)
                if (streq(st_restore_name(restore, i), name))
                        return true;
        return false;
}

/** Reads a JSON object of the checkpoint. @return NULL: there is none, or (with *ret < 0) it is bad */
static json_t *read_saved(struct st_restore *restore, const char *name, int *ret, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        json_t *json;
        size_t size;

        *ret = 0;
        if (!has_file(restore, name))
                return NULL;
        *ret = st_restore_read(restore, name, &text, &size, err);
        if (*ret < 0)
                return NULL;
        json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(json))
                return json;
        json_decref(json);
        *ret = st_error_set(err, EBADMSG, "%s of the checkpoint is no JSON object", name);
        return NULL;
}

/** What the request leaves open is as it was. */
static int fill_plan(struct runc_plan *plan, struct st_error **err) {
        const Daemon__Details *details = plan->restore->req->details;
        static const Plugins__Runc__Runc none = PLUGINS__RUNC__RUNC__INIT;
        const Plugins__Runc__Runc *runc = plan->details = details && details->runc ? details->runc : &none;
        const char *id, *bundle;
        int r;

        plan->saved = read_saved(plan->restore, RUNC_FILE_STATE, &r, err);
        if (r < 0)
                return r;
        id = isempty(runc->id) ? util_json_text(plan->saved, "id", NULL) : runc->id;
        if (!id) {
                st_error_set(err, EINVAL, "the checkpoint does not say which container it is of");
                st_error_hint(err, "name one with --id");
                return -EINVAL;
        }
        r = runc_check_id(id, err);
        if (r < 0)
                return r;
        plan->id = util_strdup(id);
        plan->root = runc_root(runc->root, runc->workingdir);
        bundle = isempty(runc->bundle) ? util_json_text(plan->saved, "bundle", NULL) : runc->bundle;
        if (isempty(bundle)) {
                st_error_set(err, EINVAL, "the checkpoint does not say where the bundle is");
                st_error_hint(err, "name it with --bundle");
                return -EINVAL;
        }
        plan->bundle = util_absolute(bundle, runc->workingdir);
        plan->bundle_used = util_strdup(plan->bundle);
        if (!isempty(runc->consolesocket))
                plan->console_socket = util_absolute(runc->consolesocket, runc->workingdir);
        if (!isempty(runc->log))
                plan->log = util_absolute(runc->log, runc->workingdir);
        plan->detach = runc->has_detach && runc->detach;
        if (runc->has_preservefds && runc->preservefds != 0)
                return st_error_set(err, EOPNOTSUPP, "PreserveFDs: %s restore hands over no descriptors",
                                    runc_engine.name);
        return 0;
}

/** Nothing of a failed restore stays: only what was not there before it. */
static void remove_rest(const struct runc_plan *plan) {
        _cleanup_error_ struct st_error *problem = NULL;

        if (!plan->started || plan->others)
                return;
        if (runc_remove(plan->root, plan->id, true, &problem) < 0)
                st_log_warning("the rest of container %s cannot be removed: %s", plan->id, st_error_message(problem));
}

/** The client of the API may name a file for the PID in the details, too. */
static void write_pid_file(const struct runc_plan *plan) {
        _cleanup_free_ char *path = NULL;
        FILE *file;

        if (isempty(plan->details->pidfile))
                return;
        path = util_absolute(plan->details->pidfile, plan->details->workingdir);
        file = fopen(path, "we");
        if (!file || fprintf(file, "%d", (int)plan->restore->pid) < 0)
                st_restore_message(plan->restore, "cannot write the PID file %s", path);
        if (file)
                (void)fclose(file);
}

static int run(struct runc_plan *plan, struct st_error **err) {
        bool check = plan->restore->req->has_check && plan->restore->req->check;
        int r = runc_check_criu(err);

        if (r >= 0)
                r = runc_check_options(plan->restore->given, true, err);
        if (r >= 0)
                r = fill_plan(plan, err);
        if (r >= 0 && !check)
                r = runc_restore_lock(plan, err);
        if (r >= 0)
                r = runc_restore_check(plan, err);
        if (r < 0 || check)
                return r;
        plan->work = util_printf("%s/criu", st_operation_work_dir(plan->operation));
        if (mkdir(plan->work, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", plan->work);
        r = runc_bundle_prepare(plan, err);
        if (r < 0)
                return r;
        r = runc_restore_start(plan, err);
        if (r < 0) {
                remove_rest(plan);
                return r;
        }
        runc_bundle_correct(plan);
        write_pid_file(plan);
        return 0;
}

int runc_restore(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        _cleanup_(runc_plan_clear) struct runc_plan plan = {
                .restore = restore, .operation = restore->operation, .given = restore->given, .lock = -EBADF
        };
        int r = run(&plan, err);

        (void)next;
        return r < 0 && plan.id ? st_error_wrap(err, "cannot restore container %s", plan.id) : r;
}

/** What could not be committed and is all there is is kept beside the checkpoint's name. malloc'ed; NULL: it cannot */
static char *keep_images(const struct st_dump *dump, const char *images) {
        char *kept = util_printf("%s.stasis-kept-%lld", dump->destination, (long long)time(NULL));

        if (rename(images, kept) == 0)
                return kept;
        free(kept);
        return NULL;
}

int runc_bring_back(struct st_dump *dump, const struct runc_container *container, const char *images,
                    struct st_error **err) {
        static const Plugins__Runc__Runc no_details = PLUGINS__RUNC__RUNC__INIT;
        static const Criu__CriuOpts no_options = CRIU__CRIU_OPTS__INIT;
        _cleanup_free_ char *state = util_printf("%s/%s", images, RUNC_FILE_STATE), *kept = NULL;
        _cleanup_error_ struct st_error *problem = NULL;
        _cleanup_(runc_plan_clear) struct runc_plan plan = {
                .operation = dump->operation,
                .details = &no_details,
                .given = &no_options,
                .id = util_strdup(container->id),
                .root = util_strdup(container->root),
                .bundle = util_strdup(container->bundle),
                .bundle_used = util_strdup(container->bundle),
                .config = json_incref(container->config),
                .saved = json_load_file(state, 0, NULL),
                .work = util_printf("%s/back", st_operation_work_dir(dump->operation)),
                .images = images,
                .detach = true,
                .lock = -EBADF,
        };
        int r = mkdir(plan.work, 0700) < 0 ? st_error_errno(&problem, errno, "cannot make %s", plan.work)
                                           : runc_bundle_prepare(&plan, &problem);

        if (r >= 0)
                r = runc_restore_again(&plan, dump, &problem);
        if (r >= 0) {
                runc_bundle_correct(&plan);
                return st_error_wrap(err, "the container was ended for its checkpoint and started again from it");
        }
        kept = keep_images(dump, images);
        st_error_wrap(err, "the container was ended for its checkpoint and could not be started again (%s)",
                      st_error_message(problem));
        return kept ? st_error_wrap(err, "restore the container from %s, which is complete but not compressed", kept)
                    : st_error_wrap(err, "container %s is lost", container->id);
}
