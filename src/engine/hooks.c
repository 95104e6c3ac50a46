/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Programs of the user that run around a dump and after a restore: docs/hooks.md. Those of the configuration come
 * first, then those of the request. All are looked at before the first one runs, and before anything is frozen: one
 * that cannot be run afterwards must be known before.
 */

#include <errno.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/dump_context.h"
#include "engine/hook_program.h"
#include "engine/hooks.h"
#include "engine/operation.h"
#include "engine/restore_context.h"

#define TIMEOUT_MAX_S 86400

enum when { PRE_DUMP, POST_THAW, POST_DUMP, POST_RESTORE, N_WHEN };

static const struct {
        const char *name, *key;
} places[N_WHEN] = {
        [PRE_DUMP] = { "pre-dump", "Hooks.PreDump" },
        [POST_THAW] = { "post-thaw", "Hooks.PostThaw" },
        [POST_DUMP] = { "post-dump", "Hooks.PostDump" },
        [POST_RESTORE] = { "post-restore", "Hooks.PostRestore" },
};

/* The hooks of one operation, for each place. */
struct hooks {
        struct st_operation *operation;
        struct strv programs[N_WHEN];
        int timeout_ms;
        bool thawed; /* the post-thaw hooks have run */
};

static void hooks_clear(struct hooks *hooks) {
        for (size_t i = 0; i < N_WHEN; i++)
                strv_clear(&hooks->programs[i]);
}

static int add(struct hooks *hooks, enum when when, const char *path, struct st_error **err) {
        int r = hook_program_check(path, st_operation_uid(hooks->operation), err);

        if (r < 0)
                return st_error_wrap(err, "the hook %s cannot be run", places[when].name);
        strv_add(&hooks->programs[when], path);
        return 0;
}

/* "WHEN=PROGRAM", of a place that the operation has. */
static int add_requested(struct hooks *hooks, unsigned wanted, const char *text, struct st_error **err) {
        if (!operation_privileged(hooks->operation))
                return st_error_set(err, EPERM, "Hooks: only root may name programs to run");
        for (unsigned i = 0; i < N_WHEN; i++) {
                const char *rest = text_after(text, places[i].name);

                if (!rest || *rest != '=')
                        continue;
                if (!(wanted & 1u << i))
                        return st_error_set(err, EINVAL, "a hook '%s' belongs to the other operation", places[i].name);
                return add(hooks, (enum when)i, rest + 1, err);
        }
        st_error_set(err, EINVAL, "'%s' is no hook", text);
        st_error_hint(err, "write it as WHEN=PROGRAM; WHEN is pre-dump, post-thaw, post-dump or post-restore");
        return -EINVAL;
}

static int load(struct hooks *hooks, unsigned wanted, char *const *requested, size_t n, struct st_error **err) {
        const struct st_arguments *config = st_operation_config(hooks->operation);
        int64_t seconds = st_arguments_int(config, "Hooks.Timeout");
        int r;

        if (seconds < 1 || seconds > TIMEOUT_MAX_S)
                return st_error_set(err, EINVAL, "Hooks.Timeout must be 1 to %d seconds", TIMEOUT_MAX_S);
        hooks->timeout_ms = (int)seconds * 1000;
        for (unsigned i = 0; i < N_WHEN; i++) {
                const char *const *programs = st_arguments_list(config, places[i].key);

                for (; (wanted & 1u << i) && *programs; programs++) {
                        r = add(hooks, (enum when)i, *programs, err);
                        if (r < 0)
                                return r;
                }
        }
        for (size_t i = 0; i < n; i++) {
                r = add_requested(hooks, wanted, requested[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What is told to a hook; NULL and 0: not known. */
struct facts {
        const char *type, *jid, *checkpoint;
        pid_t pid;
        bool failed;
        const char *error;
};

static void add_fact(struct strv *environment, const char *name, const char *value) {
        if (!isempty(value))
                strv_addf(environment, "%s=%s", name, value);
}

static int run(struct hooks *hooks, enum when when, const char *program, const struct facts *facts, int cancel_fd,
               struct st_error **err) {
        _cleanup_strv_ struct strv environment = { 0 };

        strv_add(&environment, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        add_fact(&environment, "STASIS_HOOK", places[when].name);
        add_fact(&environment, "STASIS_TYPE", facts->type);
        add_fact(&environment, "STASIS_JID", facts->jid);
        add_fact(&environment, "STASIS_CHECKPOINT", facts->checkpoint);
        if (facts->pid > 0)
                strv_addf(&environment, "STASIS_PID=%d", (int)facts->pid);
        if (when == POST_DUMP || when == POST_RESTORE)
                add_fact(&environment, "STASIS_RESULT", facts->failed ? "failure" : "success");
        add_fact(&environment, "STASIS_ERROR", facts->error);

        const struct hook_program hook = {
                .when = places[when].name,
                .path = program,
                .environment = environment.items,
                .timeout_ms = hooks->timeout_ms,
                .cancel_fd = cancel_fd,
        };
        return hook_program_run(&hook, err);
}

static struct facts dump_facts(const struct st_dump *dump) {
        return (struct facts){
                .type = dump->req->type,
                .jid = dump->req->details ? dump->req->details->jid : NULL,
                .checkpoint = dump->destination,
                .pid = dump->pid,
        };
}

/* All of them, whatever becomes of the others: each releases what its own counterpart has stopped. */
static void run_all(struct hooks *hooks, enum when when, struct st_dump *dump, const struct facts *facts) {
        for (size_t i = 0; i < hooks->programs[when].n; i++) {
                _cleanup_error_ struct st_error *problem = NULL;

                if (run(hooks, when, hooks->programs[when].items[i], facts, -1, &problem) >= 0)
                        continue;
                st_dump_message(dump, "%s", st_error_message(problem));
                st_log_warning("%s", st_error_message(problem));
        }
}

void hooks_after_thaw(struct dump_context *context) {
        const struct facts facts = dump_facts(&context->dump);

        if (!context->hooks || context->hooks->thawed)
                return;
        context->hooks->thawed = true;
        run_all(context->hooks, POST_THAW, &context->dump, &facts);
}

static void run_post_dump(struct hooks *hooks, struct st_dump *dump, int result, struct st_error *error) {
        struct facts facts = dump_facts(dump);

        facts.failed = result < 0;
        facts.error = st_error_message(error);
        run_all(hooks, POST_DUMP, dump, &facts);
}

static int run_pre_dump(struct hooks *hooks, struct st_dump *dump, struct st_error **err) {
        const struct facts facts = dump_facts(dump);
        int r = 0;

        for (size_t i = 0; i < hooks->programs[PRE_DUMP].n && r >= 0; i++)
                r = run(hooks, PRE_DUMP, hooks->programs[PRE_DUMP].items[i], &facts,
                        st_operation_cancel_fd(hooks->operation), err);
        return r;
}

int dump_hooks(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        _cleanup_(hooks_clear) struct hooks hooks = { .operation = dump->operation };
        _cleanup_error_ struct st_error *error = NULL;
        int r;

        r = load(&hooks, 1u << PRE_DUMP | 1u << POST_THAW | 1u << POST_DUMP, dump->req->hooks, dump->req->n_hooks, err);
        if (r < 0)
                return r;
        context->hooks = &hooks;
        r = run_pre_dump(&hooks, dump, &error);
        if (r >= 0)
                r = st_dump_proceed(next, dump, &error);
        hooks_after_thaw(context); /* also when there was nothing to thaw */
        context->hooks = NULL;
        run_post_dump(&hooks, dump, r, error);
        if (r < 0)
                st_error_move(err, TAKE_PTR(error));
        return r;
}

int restore_hooks(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        _cleanup_(hooks_clear) struct hooks hooks = { .operation = restore->operation };
        const Daemon__RestoreReq *req = restore->req;
        int r;

        r = load(&hooks, 1u << POST_RESTORE, req->hooks, req->n_hooks, err);
        if (r >= 0)
                r = st_restore_proceed(next, restore, err);
        if (r < 0 || (req->has_check && req->check))
                return r;

        const struct facts facts = {
                .type = req->type,
                .jid = req->details ? req->details->jid : NULL,
                .checkpoint = req->path,
                .pid = restore->pid,
        };
        for (size_t i = 0; i < hooks.programs[POST_RESTORE].n; i++) {
                _cleanup_error_ struct st_error *problem = NULL;

                if (run(&hooks, POST_RESTORE, hooks.programs[POST_RESTORE].items[i], &facts,
                        st_operation_cancel_fd(restore->operation), &problem) >= 0)
                        continue;
                /* The process runs already: ending it for that would lose more than it saves. */
                st_restore_message(restore, "%s", st_error_message(problem));
                st_log_warning("%s", st_error_message(problem));
        }
        return 0;
}
