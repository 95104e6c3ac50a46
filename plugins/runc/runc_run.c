/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Starting a container as a job, by `runc run` in the foreground: it stays, hands on the container's streams, and ends
 * with its exit code; so it is who is waited for. That the container runs shows in the PID file that it then writes.
 */

#include <poll.h>
#include <signal.h>

#include <stasis/child.h>

#include "runc_run.h"

#define STEP_MS 5
#define LOG_MAX ((size_t)1 << 20)

struct start {
        struct st_run *run;
        const Plugins__Runc__Runc *details;
        char *id, *root, *bundle;
        char *log; /* of the program */
        pid_t program;
};

static void start_clear(struct start *start) {
        free(start->id);
        free(start->root);
        free(start->bundle);
        free(start->log);
}

static int check_details(const Plugins__Runc__Runc *runc, struct st_error **err) {
        if (runc->has_detach && runc->detach)
                return st_error_set(err, EINVAL,
                                    "Detach: a job's container is always kept by somebody who waits for it");
        if (!isempty(runc->consolesocket))
                return st_error_set(err, EINVAL, "ConsoleSocket: the terminal of a job is kept by its supervisor");
        if (runc->has_preservefds && runc->preservefds != 0)
                return st_error_set(err, EOPNOTSUPP, "PreserveFDs: a job gets no descriptors but its streams");
        return 0;
}

/** What the request leaves open. */
static int fill_start(struct start *start, struct st_error **err) {
        const Daemon__RunReq *req = start->run->req;
        const Plugins__Runc__Runc *runc = start->details;
        const char *id = isempty(runc->id) ? req->jid : runc->id;
        int r;

        if (isempty(id))
                return st_error_set(err, EINVAL, "the request names no container: Details.Runc.ID is missing");
        r = runc_check_id(id, err);
        if (r < 0)
                return r;
        if (isempty(runc->bundle) && isempty(runc->workingdir))
                return st_error_set(err, EINVAL, "the request names no bundle: Details.Runc.Bundle is missing");
        start->id = util_strdup(id);
        start->root = runc_root(runc->root, runc->workingdir);
        start->bundle = util_absolute(isempty(runc->bundle) ? "." : runc->bundle, runc->workingdir);
        start->log = isempty(runc->log) ? util_printf("%s/engine.log", st_operation_work_dir(start->run->operation))
                                        : util_absolute(runc->log, runc->workingdir);
        return 0;
}

/** Will its terminal have one to be handed on to? That of the command line, or the job's. */
static bool has_terminal(const struct st_run *run) {
        return run->terminal || (st_operation_no_server(run->operation) && run->stdio[0] >= 0 && isatty(run->stdio[0]));
}

static int check_bundle(const struct start *start, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/config.json", start->bundle), *text = NULL;
        _cleanup_json_ json_t *config = NULL;
        json_error_t error;
        size_t size;
        int r = util_read_file(path, RUNC_JSON_MAX, &text, &size);

        if (r < 0) {
                st_error_errno(err, r, "%s is no bundle: cannot read %s", start->bundle, path);
                st_error_hint(err, "name the bundle with --bundle; '%s spec' makes a config.json", runc_engine.name);
                return r;
        }
        config = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(config))
                return st_error_set(err, EBADMSG, "%s is no JSON object: %s", path, error.text);
        if (json_is_true(util_json_get(config, "process", "terminal", NULL)) && !has_terminal(start->run)) {
                st_error_set(err, EINVAL, "%s asks for a terminal, and the job has none", path);
                st_error_hint(err,
                              "use --attach or --attachable on a terminal, or set process.terminal to false there");
                return -EINVAL;
        }
        return 0;
}

static int check_free(const struct start *start, struct st_error **err) {
        _cleanup_container_ struct runc_container container = { 0 };

        if (!runc_exists(start->root, start->id))
                return 0;
        if (runc_container_load(start->root, start->id, &container, NULL) >= 0 && container.status == RUNC_STOPPED) {
                st_error_set(err, EEXIST, "there is a container %s already: it has stopped", start->id);
                st_error_hint(err, "remove it with '%s --root %s delete %s'", runc_engine.name, start->root, start->id);
                return -EEXIST;
        }
        st_error_set(err, EEXIST, "there is a container %s already", start->id);
        st_error_hint(err, "choose another ID; or take that one over with 'stasis manage %s %s'", runc_engine.name,
                      start->id);
        return -EEXIST;
}

static void make_argv(const struct start *start, struct util_list *argv) {
        const Plugins__Runc__Runc *runc = start->details;

        if (start->run->terminal) /* its own, so that it is told of a new size of the window */
                runc_on_terminal(argv);
        runc_global_flags(argv, start->root, start->log, runc);
        util_list_add(argv, "run");
        util_list_addf(argv, "--bundle=%s", start->bundle);
        util_list_addf(argv, "--pid-file=%s/pid", st_operation_work_dir(start->run->operation));
        if (runc->has_nopivot && runc->nopivot)
                util_list_add(argv, "--no-pivot");
        if (runc->has_nosubreaper && runc->nosubreaper)
                util_list_add(argv, "--no-subreaper");
        if (runc->has_nonewkeyring && runc->nonewkeyring)
                util_list_add(argv, "--no-new-keyring");
        util_list_add(argv, start->id);
}

static int explain(const struct start *start, struct st_error **err) {
        _cleanup_free_ char *text = NULL, *said = NULL;

        if (util_read_file(start->log, LOG_MAX, &text, NULL) == 0)
                said = runc_last_error(text);
        return said ? st_error_set(err, EIO, "%s: %s", runc_engine.name, said)
                    : st_error_set(err, EIO, "%s run failed and said nothing", runc_engine.name);
}

/** Whatever of it has come into being by now. */
static void undo(const struct start *start) {
        _cleanup_error_ struct st_error *problem = NULL;

        (void)kill(start->program, SIGKILL);
        (void)st_child_wait(start->program, NULL);
        if (runc_remove(start->root, start->id, true, &problem) < 0)
                st_log_warning("the rest of container %s cannot be removed: %s", start->id, st_error_message(problem));
}

/** Waits until the container runs, or the program has ended without. */
static int wait_for_start(struct start *start, int pidfd, struct st_error **err) {
        struct pollfd events[] = {
                { .fd = pidfd, .events = POLLIN },
                { .fd = st_operation_cancel_fd(start->run->operation), .events = POLLIN },
        };
        int r;

        for (;;) {
                (void)poll(events, ELEMENTSOF(events), STEP_MS);
                r = st_operation_check_cancelled(start->run->operation, err);
                if (r < 0) {
                        undo(start);
                        return r;
                }
                start->run->pid = runc_read_pid(start->run->operation);
                if (start->run->pid > 0)
                        return 0;
                if (events[0].revents)
                        break;
        }
        (void)st_child_wait(start->program, NULL);
        return explain(start, err);
}

static int run_program(struct start *start, struct st_error **err) {
        struct st_run *run = start->run;
        const struct st_child_fd fds[] = {
                { run->stdio[0], STDIN_FILENO },
                { run->stdio[1], STDOUT_FILENO },
                { run->stdio[2], STDERR_FILENO },
        };
        _cleanup_list_ struct util_list argv = { 0 };
        _cleanup_close_ int pidfd = -EBADF;
        int r;

        make_argv(start, &argv);
        const struct st_child child = {
                .size = sizeof(child),
                .path = argv.items[0],
                .argv = argv.items,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                /* A program of the command line's terminal stays one; who gets a terminal makes its session itself. */
                .keep_session = run->terminal || st_operation_no_server(run->operation),
        };
        st_operation_progress(run->operation, "starting", 0, 0);
        start->program = st_child_start(&child, &pidfd, err);
        if (start->program < 0)
                return (int)start->program;
        r = wait_for_start(start, pidfd, err);
        if (r >= 0)
                run->waiter = start->program;
        return r;
}

int runc_run(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        static const Plugins__Runc__Runc none = PLUGINS__RUNC__RUNC__INIT;
        const Daemon__Details *details = run->req->details;
        _cleanup_(start_clear) struct start start = { .run = run,
                                                      .details = details && details->runc ? details->runc : &none };
        int r = check_details(start.details, err);

        (void)next;
        if (r >= 0)
                r = fill_start(&start, err);
        if (r >= 0)
                r = check_bundle(&start, err);
        if (r >= 0)
                r = check_free(&start, err);
        if (r >= 0)
                r = run_program(&start, err);
        return r < 0 && start.id ? st_error_wrap(err, "cannot run container %s", start.id) : r;
}
