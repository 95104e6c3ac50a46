/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_lazy.h"

#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/dump_hook.h"
#include "engine/lazy_process.h"
#include "engine/operation.h"
#include "engine/preflight_restore.h"
#include "engine/restore_directory.h"
#include "lazy/server.h"
#include "lazy/uffd.h"
#include "supervisor/hook_protocol.h"

/* Less than this CRIU reads as fast. */
#define GATED_FROM_PAGES ((uint64_t)4096)

/* No page for so long: the disk hangs. Nothing from CRIU for so long after its hook: it does, it once waited for ever
 * when its tasks were killed under it. */
#define STALL_MS 60000
#define STEP_MS 100
/* CRIU has failed: what serves the memory may just be saying why. */
#define LAST_WORD_MS 200

struct restore_lazy {
        struct restore_context *context;
        struct lazy_plan *plan;
        bool runs_at_once;
        struct dump_hook hook;
        struct lazy *server;          /* gated */
        struct lazy_process *process; /* lazy */
        bool answered;
        uint64_t started_ms, pages, since_ms; /* clock_ms(); pages there were, and since when */
};

static bool is_at_once(const struct st_restore *restore) {
        return restore->req->has_lazy && restore->req->lazy;
}

static const char *method_of(const struct st_restore *restore) {
        return st_arguments_string(st_operation_config(restore->operation), "Restore.Method");
}

/** Can its memory come from us? @return 0 with a plan; -EOPNOTSUPP and others: it cannot, err says why */
static int make_plan(struct restore_context *context, struct lazy_plan **ret, struct st_error **err) {
        _cleanup_(lazy_plan_freep) struct lazy_plan *plan = NULL;
        int r = restore_directory_is_needed(context, err);

        if (r > 0)
                return st_error_set(err, EOPNOTSUPP, "it has private huge pages");
        if (r >= 0)
                r = lazy_plan_make(context->image, &plan, err);
        if (r >= 0)
                r = uffd_probe(err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(plan);
        return 0;
}

static int refuse(const struct st_restore *restore, struct st_error *error, struct st_error **err) {
        st_error_move(err, error);
        if (is_at_once(restore)) {
                st_error_wrap(err, "its memory cannot come while it runs");
                st_error_hint(err, "leave --lazy out");
        }
        return st_error_number(err ? *err : NULL) ?: -EOPNOTSUPP;
}

/**
 * Who reads the memory.
 *
 * @param ret the plan of what comes from us; NULL: CRIU reads it
 * @param why NULL with a plan; else why there is none, NULL: nobody wants one
 * @return 0; a failure: it cannot be restored like that
 */
static int choose(struct restore_context *context, struct lazy_plan **ret, struct st_error **why,
                  struct st_error **err) {
        struct st_restore *restore = &context->restore;
        bool at_once = is_at_once(restore), must = at_once || streq(method_of(restore), "gated");
        _cleanup_(lazy_plan_freep) struct lazy_plan *plan = NULL;
        struct st_error *error = NULL;
        int r;

        if (at_once && image_get_format(context->image) != IMAGE_NATIVE) {
                st_error_set(err, EOPNOTSUPP, "only a checkpoint in the format 'image' can be restored with --lazy");
                st_error_hint(err,
                              "make one of it by 'stasis checkpoint export PATH COPY.stasis', or leave --lazy out");
                return -EOPNOTSUPP;
        }
        if (image_get_format(context->image) != IMAGE_NATIVE || (!at_once && streq(method_of(restore), "stream")))
                return 0;
        r = make_plan(context, &plan, &error);
        if (r == -EBADMSG || (r < 0 && must))
                return refuse(restore, error, err);
        if (r < 0)
                st_error_move(why, error);
        else if (!must && plan->pages < GATED_FROM_PAGES)
                st_error_set(why, EOPNOTSUPP, "there is little of it");
        else
                *ret = TAKE_PTR(plan);
        return 0;
}

int restore_memory(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        _cleanup_(lazy_plan_freep) struct lazy_plan *plan = NULL;
        _cleanup_error_ struct st_error *why = NULL;
        int r = choose(context, &plan, &why, err);

        if (r < 0)
                return r;
        if (why)
                st_log_info("CRIU reads the memory itself: %s", st_error_message(why));
        if (plan) {
                context->lazy = NEW(struct restore_lazy);
                *context->lazy = (struct restore_lazy){ .context = context,
                                                        .hook = DUMP_HOOK_NULL,
                                                        .plan = TAKE_PTR(plan),
                                                        .runs_at_once = is_at_once(restore) };
        }
        r = st_restore_proceed(next, restore, err);
        context->lazy = restore_lazy_free(context->lazy);
        return r;
}

int preflight_reading(struct preflight *preflight, struct st_error **err) {
        _cleanup_(lazy_plan_freep) struct lazy_plan *plan = NULL;
        _cleanup_error_ struct st_error *why = NULL;
        int r = choose(restore_context(preflight->restore), &plan, &why, err);

        if (r < 0)
                return r;
        if (!plan)
                preflight_summary(preflight, "CRIU reads it before the process runs%s%s", why ? ": " : "",
                                  why ? st_error_message(why) : "");
        else
                preflight_summary(preflight, "%.1f MiB are read %s the process runs",
                                  (double)plan->pages * LAZY_PAGE / (1 << 20),
                                  is_at_once(preflight->restore) ? "while" : "before");
        return 0;
}

static int start_server(struct restore_lazy *lazy, struct st_error **err) {
        struct restore_context *context = lazy->context;
        const char *work_dir = st_operation_work_dir(context->restore.operation);
        _cleanup_close_ int listener = lazy_listen(work_dir, err);
        int r;

        if (listener < 0)
                return listener;
        if (lazy->runs_at_once)
                return lazy_process_start(context, listener, &lazy->process, err);

        const struct lazy_options options = {
                .plan = lazy->plan,
                .listener = listener,
        };
        r = lazy_start(&options, &lazy->server, err);
        if (r >= 0)
                (void)TAKE_FD(listener);
        return r;
}

int restore_lazy_start(struct restore_context *context, struct st_error **err) {
        struct restore_lazy *lazy = context->lazy;
        int r;

        if (!lazy)
                return 0;
        lazy->started_ms = lazy->since_ms = clock_ms();
        r = dump_hook_listen(&lazy->hook, st_operation_work_dir(context->restore.operation), err);
        if (r >= 0)
                r = lazy_plan_apply(lazy->plan, context->image, err);
        if (r >= 0)
                r = start_server(lazy, err);
        return r;
}

void restore_lazy_options(const struct restore_lazy *lazy, struct criu_run *criu, struct strv *environment) {
        for (char **e = environ; *e; e++)
                strv_add(environment, *e);
        strv_addf(environment, HOOK_SOCKET_VARIABLE "=%s", lazy->hook.path);
        criu->environment = environment->items;
        criu->lazy_pages = true;
}

int restore_lazy_polled(const struct restore_lazy *lazy, struct pollfd fds[RESTORE_LAZY_FDS]) {
        fds[0] =
                (struct pollfd){ .fd = lazy && lazy->hook.connection < 0 ? lazy->hook.listener : -1, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = -1, .events = POLLIN };
        if (lazy && lazy->server)
                fds[1].fd = lazy_fd(lazy->server);
        else if (lazy && lazy->process)
                fds[1].fd = lazy_process_fd(lazy->process);
        return lazy && lazy->hook.connection >= 0 ? STEP_MS : -1;
}

static int answer(struct restore_lazy *lazy, struct st_error **err) {
        int r = lazy->answered ? 0 : dump_hook_answer(&lazy->hook, err);

        lazy->answered = true;
        lazy->since_ms = clock_ms();
        return r;
}

static int stalled(const struct restore_lazy *lazy, struct st_error **err) {
        if (clock_ms() - lazy->since_ms < STALL_MS)
                return 0;
        return lazy->answered ? st_error_set(err, ETIMEDOUT, "CRIU has not ended for %d s", STALL_MS / 1000)
                              : st_error_set(err, ETIMEDOUT, "no page of its memory came in for %d s", STALL_MS / 1000);
}

/** All must be in before CRIU goes on. */
static int handle_gated(struct restore_lazy *lazy, struct st_error **err) {
        bool over;
        enum lazy_state state = lazy_poll(lazy->server, &over);
        uint64_t total, pages = lazy_pages(lazy->server, &total), now = clock_ms();

        if (state == LAZY_FAILED) {
                struct lazy *server = TAKE_PTR(lazy->server);
                return lazy_finish(server, err);
        }
        if (lazy->answered)
                return stalled(lazy, err);
        if (pages != lazy->pages || lazy->hook.connection < 0) {
                lazy->pages = pages;
                lazy->since_ms = now;
        }
        if (lazy->hook.connection < 0)
                return 0;
        st_operation_progress(lazy->context->restore.operation, "restoring", pages * LAZY_PAGE, total * LAZY_PAGE);
        if (state != LAZY_COMPLETE)
                return stalled(lazy, err);
        st_log_info("all %.1f MiB of its memory were in after %llu ms", (double)pages * LAZY_PAGE / (1 << 20),
                    (unsigned long long)(now - lazy->started_ms));
        return answer(lazy, err);
}

int restore_lazy_handle(struct restore_lazy *lazy, const struct pollfd fds[RESTORE_LAZY_FDS], struct st_error **err) {
        int r = 0;

        if (!lazy || (!lazy->server && !lazy->process))
                return 0;
        if (fds[0].revents) {
                r = dump_hook_accept(&lazy->hook, err);
                if (r < 0)
                        return r;
                lazy->since_ms = clock_ms();
                if (lazy->server)
                        lazy_set_mapped(lazy->server);
                else
                        r = lazy_process_ask(lazy->process, err);
        }
        if (r < 0)
                return r;
        if (lazy->server)
                return handle_gated(lazy, err);
        if (!fds[1].revents)
                return lazy->hook.connection >= 0 ? stalled(lazy, err) : 0;
        r = lazy_process_receive(lazy->process, err);
        return r <= 0 ? r : answer(lazy, err);
}

int restore_lazy_explain(struct restore_lazy *lazy, struct st_error **err) {
        struct st_error *error = NULL;
        int r = 0;

        if (lazy && lazy->server && lazy_poll(lazy->server, NULL) == LAZY_FAILED)
                return lazy_failure(lazy->server, err);
        if (!lazy || !lazy->process)
                return 0;
        struct pollfd said = { .fd = lazy_process_fd(lazy->process), .events = POLLIN };
        while (r >= 0 && poll(&said, 1, LAST_WORD_MS) > 0)
                r = lazy_process_receive(lazy->process, &error);
        if (r == -EBADMSG)
                return st_error_move(err, error);
        st_error_free(error);
        return 0;
}

void restore_lazy_abort(struct restore_lazy *lazy) {
        if (!lazy)
                return;
        /* Whoever waits for a page goes on, and ends: the hook does not let CRIU succeed. */
        dump_hook_close(&lazy->hook);
        if (lazy->server)
                (void)lazy_finish(TAKE_PTR(lazy->server), NULL);
        lazy->process = lazy_process_free(lazy->process);
}

int restore_lazy_restored(struct restore_lazy *lazy, pid_t root, struct st_error **err) {
        if (lazy->server) {
                (void)lazy_finish(TAKE_PTR(lazy->server), NULL);
                return lazy->answered ? 0 : st_error_set(err, EPROTO, "CRIU did not run its action script");
        }
        if (!lazy->answered)
                return st_error_set(err, EPROTO, "CRIU did not run its action script");
        int r = lazy_process_let_go(lazy->process, root, err);

        if (r < 0)
                return r;
        st_log_info("process %d runs after %llu ms, %.1f MiB of its memory follow", root,
                    (unsigned long long)(clock_ms() - lazy->started_ms),
                    (double)lazy->plan->pages * LAZY_PAGE / (1 << 20));
        st_restore_message(&lazy->context->restore, "it runs while its memory follows, %.1f MiB",
                           (double)lazy->plan->pages * LAZY_PAGE / (1 << 20));
        return 0;
}

struct restore_lazy *restore_lazy_free(struct restore_lazy *lazy) {
        if (!lazy)
                return NULL;
        restore_lazy_abort(lazy);
        lazy_plan_free(lazy->plan);
        free(lazy);
        return NULL;
}
