/* SPDX-License-Identifier: Apache-2.0 */

/* Adapters of the restore for the request and the checkpoint: defaults, validation, PID file, storage, state. */

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "criu/options.h"
#include "engine/chain.h"
#include "engine/pid_file.h"
#include "engine/request.h"
#include "engine/restore_context.h"
#include "engine/restore_output.h"

int restore_defaults(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        Criu__CriuOpts *criu = restore->criu;

        if (!criu->has_log_level || criu->log_level <= 0) {
                criu->has_log_level = 1;
                criu->log_level = (int32_t)st_arguments_int(st_operation_config(restore->operation), "CRIU.LogLevel");
        }
        return st_restore_proceed(next, restore, err);
}

int restore_validate(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        static const enum st_feature features[] = { ST_FEATURE_restore_command, ST_FEATURE_restore_handler,
                                                    ST_FEATURE_restore_middleware_early,
                                                    ST_FEATURE_restore_middleware_late, ST_FEATURE_COUNT };
        const Daemon__RestoreReq *req = restore->req;
        int r;

        r = request_check_type("restore", req->type, features, err);
        if (r >= 0)
                r = request_check_off(req->off, req->n_off, err);
        if (r < 0)
                return r;
        if (!isempty(req->gpuid))
                return st_error_set(err, EOPNOTSUPP, "GPUID: GPUs are not supported");
        if (req->has_lazy && req->lazy && chain_has_feature(ST_FEATURE_restore_handler, req->type))
                return st_error_set(err, EOPNOTSUPP,
                                    "a %s is restored by its engine, which cannot let it run before "
                                    "its memory is there",
                                    req->type);
        if (isempty(req->path) && req->details && !isempty(req->details->jid))
                return st_error_set(err, EOPNOTSUPP, "only the daemon knows the job %s: name a checkpoint",
                                    req->details->jid);
        if (isempty(req->path)) {
                st_error_set(err, EINVAL, "the request names no checkpoint");
                st_error_hint(err, "name one with --path");
                return -EINVAL;
        }
        return st_restore_proceed(next, restore, err);
}

int restore_pid_file(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        bool check = restore->req->has_check && restore->req->check;
        _cleanup_free_ char *path = NULL, *problem = NULL;
        int r = check ? 0 : pid_file_prepare(restore->req->pidfile, &path, err);

        if (r >= 0)
                r = st_restore_proceed(next, restore, err);
        if (r < 0)
                return r;
        problem = pid_file_write(path, restore->pid, restore_owner_uid(restore), restore_owner_gid(restore));
        if (problem)
                st_restore_message(restore, "%s", problem);
        return 0;
}

int restore_storage(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        _cleanup_free_ char *path = NULL;
        int r;

        if (strstr(restore->req->path, "://"))
                return st_error_set(err, EOPNOTSUPP, "no plugin for the storage %s is loaded", restore->req->path);
        path = path_absolute(restore->req->path);
        r = image_open(path, &context->image, err);
        if (r >= 0 && !image_verified(context->image))
                st_restore_message(restore, "%s has no manifest: it was not made by stasis and cannot be verified",
                                   path);
        if (r >= 0)
                r = st_restore_proceed(next, restore, err);
        if (r < 0)
                return st_error_wrap(err, "cannot restore from %s", path);
        return r;
}

/** What the dump was made with holds for the restore too, unless the caller says otherwise. */
static int merge_saved_options(struct st_restore *restore, const Criu__CriuOpts *saved, struct st_error **err) {
        Criu__CriuOpts *given = message_copy(&restore->criu->base);
        Criu__CriuOpts *criu = restore->criu;
        int r;

        /* Existing clients always send these three: false means "not set". */
        given->has_shell_job = given->shell_job;
        given->has_tcp_established = given->tcp_established;
        given->has_ext_unix_sk = given->ext_unix_sk;
        r = criu_options_merge(criu, saved, err);
        if (r >= 0)
                r = criu_options_merge(criu, given, err);
        message_freep(&given);
        if (r < 0)
                return r;
        for (size_t i = 0; i < restore->req->n_off; i++)
                criu_options_clear(criu, restore->req->off[i]);
        return 0;
}

int restore_reload_state(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        _cleanup_free_ char *text = NULL;
        int r;

        r = image_read(context->image, IMAGE_STATE, &text, NULL, err);
        if (r == -ENOENT) { /* made by plain CRIU, or imported from that */
                if (err)
                        *err = st_error_free(*err);
                return st_restore_proceed(next, restore, err);
        }
        if (r < 0)
                return r;
        r = state_from_json(text, &context->saved, err);
        if (r < 0)
                return r;
        if (!streq(context->saved->type, restore->req->type)) {
                st_error_set(err, EINVAL, "it holds a %s, not a %s", context->saved->type, restore->req->type);
                st_error_hint(err, "use 'stasis restore %s'", context->saved->type);
                return -EINVAL;
        }
        r = merge_saved_options(restore, context->saved->criu, err);
        if (r < 0)
                return r;
        message_freep(&restore->resp->state);
        restore->resp->state = restore->state = message_copy(&context->saved->state->base);
        return st_restore_proceed(next, restore, err);
}

int restore_network(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        Criu__CriuOpts *criu = restore->criu;

        /* The caller's wish to close connections wins over the dump's to keep them: CRIU refuses both at once. */
        if (criu->has_tcp_close && criu->tcp_close)
                criu->has_tcp_established = criu->tcp_established = 0;
        return st_restore_proceed(next, restore, err);
}

int restore_check_criu(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        const char *configured = st_arguments_string(st_operation_config(restore->operation), "CRIU.BinaryPath");
        int r;

        r = criu_find(configured, &context->criu, err);
        if (r < 0)
                return r;
        return st_restore_proceed(next, restore, err);
}
