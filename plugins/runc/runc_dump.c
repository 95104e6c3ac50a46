/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The dump. CRIU's options beyond the flags of runc reach it by a configuration file, which a container names in its
 * annotation org.criu.config. It is set in a copy of the container's state, in a --root of our own: nothing of the host
 * or the container is changed, and runc leaves its mark "checkpoint" there, too.
 *
 * The container is paused before CRIU begins, which leaves a frozen cgroup frozen. With --stop it stays so until the
 * checkpoint is committed, and ends only then. There is one exception: connections. The kernel says goodbye for a
 * process that is killed; only CRIU ends one without a word to its peers. So with established connections and --stop it
 * is CRIU that ends the container, after its action script has waited for the commit. An engine without a configuration
 * of CRIU for one container has no such script: there the commit comes after, and should it fail, the container is
 * restored at once.
 */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stasis/checkpoint.h>

#include "runc.h"
#include "runc_restore.h"

#define END_MS 10000
#define GONE_ATTEMPTS 100
#define GONE_STEP_MS 20

struct plan {
        struct st_dump *dump;
        struct runc_container container;
        const char *images; /* directory of the checkpoint's files */
        char *work;         /* of CRIU: its log */
        char *root;         /* the --root with the copy of the state; the container's own for crun */
        bool was_paused;
        bool paused_by_us;
        bool ended_by_criu;
        const char *hook; /* CRIU's action script, which waits for the commit; NULL: none */
};

static void plan_clear(struct plan *plan) {
        runc_container_clear(&plan->container);
        free(plan->work);
        free(plan->root);
}

int runc_find(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        _cleanup_container_ struct runc_container container = { 0 };
        int r = runc_check_criu(err);

        if (r >= 0)
                r = runc_check_options(dump->given, false, err);
        if (r >= 0)
                r = runc_container_find(dump->req->details, &container, err);
        if (r < 0)
                return r;
        if (container.status == RUNC_CREATED || container.status == RUNC_STOPPED) {
                bool created = container.status == RUNC_CREATED;

                st_error_set(err, EBUSY, "container %s %s", container.id,
                             created ? "was created, but not started" : "has stopped");
                st_error_hint(err, created ? "start it by '%s start %s'" : "remove it by '%s delete %s'",
                              runc_engine.name, container.id);
                return st_error_wrap(err, "cannot dump container %s", container.id);
        }
        dump->pid = container.pid;
        r = st_dump_proceed(next, dump, err);
        return r < 0 ? st_error_wrap(err, "cannot dump container %s", container.id) : r;
}

static int save_file(const struct plan *plan, const char *name, const char *text, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/%s", plan->images, name);
        int r = util_write_new(path, text, strlen(text));

        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

/** What a restore needs of the container beside CRIU's images. */
static int save_container(const struct plan *plan, const json_t *mounts, struct st_error **err) {
        _cleanup_free_ char *state = runc_state_save(&plan->container), *text = NULL;
        _cleanup_json_ json_t *json = json_loads(state, 0, NULL);
        int r = 0;

        json_object_set(json, "mounts", (json_t *)mounts);
        text = json_dumps(json, JSON_INDENT(1));
        r = save_file(plan, RUNC_FILE_STATE, text, err);
        if (r >= 0 && plan->container.config) {
                _cleanup_free_ char *config = json_dumps(plan->container.config, JSON_INDENT(8));
                r = save_file(plan, RUNC_FILE_CONFIG, config, err);
        } else if (r >= 0)
                st_dump_message(plan->dump, "the bundle %s has no config.json any more: it is not in the checkpoint",
                                plan->container.bundle);
        return r;
}

/** The defaults of stasis come before the configuration of the machine, what was asked for after it. */
static int write_criu_config(const struct plan *plan, const char *path, const struct util_list *lines,
                             struct st_error **err) {
        const json_t *labels = util_json_get(plan->container.state, "config", "labels", NULL);
        _cleanup_free_ char *first = NULL, *last = NULL, *configured = NULL;
        Criu__CriuOpts defaults = CRIU__CRIU_OPTS__INIT;
        const Criu__CriuOpts *criu = plan->dump->criu;
        json_t *label;
        size_t i;
        int r;

        defaults.has_ghost_limit = criu->has_ghost_limit;
        defaults.ghost_limit = criu->ghost_limit;
        defaults.has_network_lock = criu->has_network_lock;
        defaults.network_lock = criu->network_lock;
        r = st_criu_config(&defaults, false, &first, err);
        if (r >= 0)
                r = st_criu_config(plan->dump->given, false, &last, err);
        if (r < 0)
                return r;
        if (plan->hook) {
                char *longer = util_printf("%saction-script %s\n", last, plan->hook);
                free(last);
                last = longer;
        }
        for (i = 0; i < lines->n; i++) {
                char *longer = util_printf("%s%s\n", last, lines->items[i]);
                free(last);
                last = longer;
        }
        json_array_foreach((json_t *)labels, i, label) {
                const char *text = json_string_value(label);
                if (text && strncmp(text, RUNC_CRIU_CONFIG "=", strlen(RUNC_CRIU_CONFIG "=")) == 0)
                        configured = util_strdup(text + strlen(RUNC_CRIU_CONFIG "="));
        }
        return runc_write_criu_config(path, first, configured, last, err);
}

/** The --root of our own: a copy of the state, whose labels name our configuration of CRIU. */
static int copy_state(struct plan *plan, const struct util_list *lines, struct st_error **err) {
        const char *work = st_operation_work_dir(plan->dump->operation);
        _cleanup_free_ char *directory = util_printf("%s/root/%s", work, plan->container.id);
        _cleanup_free_ char *path = util_printf("%s/state.json", directory), *text = NULL;
        _cleanup_free_ char *criu_config = util_printf("%s/criu.conf", work);
        _cleanup_free_ char *label = util_printf(RUNC_CRIU_CONFIG "=%s", criu_config);
        _cleanup_json_ json_t *state = json_deep_copy(plan->container.state);
        json_t *config = json_object_get(state, "config"), *labels = json_array(), *item;
        size_t i;
        int r;

        r = write_criu_config(plan, criu_config, lines, err);
        json_array_append_new(labels, json_string(label)); /* the first one counts */
        json_array_foreach(json_object_get(config, "labels"), i, item) {
                const char *said = json_string_value(item);
                if (said && strncmp(said, RUNC_CRIU_CONFIG "=", strlen(RUNC_CRIU_CONFIG "=")) != 0)
                        json_array_append(labels, item);
        }
        json_object_set_new(config, "labels", labels);
        if (r < 0)
                return r;
        plan->root = util_printf("%s/root", work);
        text = json_dumps(state, JSON_COMPACT);
        if (mkdir(plan->root, 0700) < 0 || mkdir(directory, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", directory);
        r = util_write_new(path, text, strlen(text));
        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

static void tell_mounts(const struct plan *plan) {
        json_t *mounts = json_object_get(plan->container.config, "mounts"), *mount;
        size_t i;

        json_array_foreach(mounts, i, mount) {
                const char *source = util_json_text(mount, "source", NULL);
                const char *destination = util_json_text(mount, "destination", NULL);

                if (source && destination && runc_is_bind_mount(mount))
                        st_log_debug("%s comes from %s of this machine, and is not in the checkpoint", destination,
                                     source);
        }
}

static int prepare(struct plan *plan, struct st_error **err) {
        const char *work = st_operation_work_dir(plan->dump->operation);
        _cleanup_list_ struct util_list lines = { 0 };
        _cleanup_json_ json_t *mounts = NULL;
        int r;

        r = st_dump_directory(plan->dump, &plan->images, err);
        if (r < 0)
                return r;
        plan->work = util_printf("%s/" RUNC_WORK "%d", work, (int)plan->container.pid);
        if (mkdir(plan->work, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", plan->work);
        r = runc_mounts_find(plan->dump, &plan->container, &lines, &mounts, err);
        if (r >= 0)
                r = save_container(plan, mounts, err);
        if (r < 0)
                return r;
        tell_mounts(plan);
        if (runc_engine.has_state_file && plan->ended_by_criu)
                r = st_dump_commit_at_hook(plan->dump, &plan->hook, err);
        if (r < 0)
                return r;
        if (runc_engine.has_state_file)
                return copy_state(plan, &lines, err);
        plan->root = util_strdup(plan->container.root);
        if (lines.n > 0) {
                st_error_set(err, EOPNOTSUPP, "%s cannot leave the mounts of " RUNC_VARIABLE " out", runc_engine.name);
                st_error_hint(err, "make them bind mounts of its config.json");
                return -EOPNOTSUPP;
        }
        return 0;
}

/** After CRIU failed: does the container go on? If it was about to end it, that takes a moment. */
static bool is_alive(const struct plan *plan) {
        (void)poll(NULL, 0, 300);
        return kill(plan->container.pid, 0) == 0;
}

/* The directory of the images, as runc sees it. */
#define IMAGES_FD 3
#define IMAGES "/proc/self/fd/3"

/**
 * CRIU is never killed while it works: that would leave the container frozen. runc makes the directory of the images,
 * with all that lead there; by a descriptor it cannot make anew what was removed because we were killed.
 */
static int checkpoint(struct plan *plan, struct st_error **err) {
        const char *configured = st_arguments_string(st_operation_config(plan->dump->operation), "CRIU.BinaryPath");
        _cleanup_list_ struct util_list argv = { 0 };
        _cleanup_free_ char *log = util_printf("%s/dump.log", plan->work);
        _cleanup_close_ int images = open(plan->images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const struct st_child_fd fds[] = { { images, IMAGES_FD } };
        _cleanup_error_ struct st_error *error = NULL;
        int code = 0, r;

        if (images < 0)
                return st_error_errno(err, errno, "cannot open %s", plan->images);
        runc_program(&argv, plan->root);
        if (!isempty(configured) && runc_engine.has_state_file)
                util_list_addf(&argv, "--criu=%s", configured);
        util_list_add(&argv, "checkpoint");
        if (!plan->ended_by_criu)
                util_list_add(&argv, "--leave-running");
        util_list_add(&argv, "--image-path=" IMAGES);
        util_list_addf(&argv, "--work-path=%s", plan->work);
        runc_add_flags(&argv, plan->dump->criu, plan->dump->given);
        util_list_add(&argv, plan->container.id);

        st_operation_progress(plan->dump->operation, "dumping", 0, 0);
        r = runc_program_dump(&argv, fds, &code, &error);
        if (plan->hook) {
                int committed = st_dump_hook_result(plan->dump, err);

                if (committed < 0) /* so CRIU has failed, and the container goes on */
                        return committed;
                if (committed > 0 && r >= 0)
                        return 0;
        }
        if (r >= 0)
                return st_operation_check_cancelled(plan->dump->operation, err);
        if (plan->hook && is_alive(plan))
                st_dump_withdraw(plan->dump);
        if (code > 0 && code <= 128 && access(log, F_OK) == 0)
                return st_dump_criu_failed(plan->dump, plan->work, runc_wait_status(code), err);
        return st_error_move(err, TAKE_PTR(error));
}

static int pause_container(struct plan *plan, struct st_error **err) {
        int r;

        if (plan->was_paused || plan->ended_by_criu)
                return 0;
        r = st_dump_guard(plan->dump, err);
        if (r < 0)
                return r;
        plan->paused_by_us = true;
        return runc_set_paused(&plan->container, true, err);
}

static int resume_container(struct plan *plan, struct st_error **err) {
        int r = 0;

        if (plan->paused_by_us && runc_exists(plan->container.root, plan->container.id))
                r = runc_set_paused(&plan->container, false, err);
        plan->paused_by_us = plan->paused_by_us && r < 0;
        if (r >= 0)
                st_dump_unguard(plan->dump);
        return r;
}

static bool ends_within(int pidfd, int timeout_ms) {
        struct pollfd end = { .fd = pidfd, .events = POLLIN };

        return pidfd < 0 || poll(&end, 1, timeout_ms) > 0;
}

/** Nothing of it remains but what runc itself would leave: a `runc run` in the foreground removes it, too. */
static int remove_container(const struct plan *plan, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;

        for (int attempt = 0; attempt < GONE_ATTEMPTS; attempt++) {
                error = st_error_free(error);
                if (runc_remove(plan->container.root, plan->container.id, false, &error) >= 0)
                        return 0;
                (void)poll(NULL, 0, GONE_STEP_MS);
        }
        if (!error)
                return 0;
        st_error_move(err, TAKE_PTR(error));
        return st_error_wrap(err, "the container has ended, but cannot be removed");
}

/** Ends the paused container, whose checkpoint stands. */
static int end_container(struct plan *plan, struct st_error **err) {
        _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, plan->container.pid, 0);
        _cleanup_list_ struct util_list argv = { 0 };
        int r;

        runc_program(&argv, plan->container.root);
        util_list_add(&argv, "kill");
        util_list_add(&argv, plan->container.id);
        util_list_add(&argv, "KILL");
        r = runc_program_run(&argv, NULL, err);
        if (r < 0)
                return r;
        /* Some versions of it thaw what they kill, others do not; then it ends when it is resumed. */
        if (!ends_within(pidfd, 100)) {
                (void)runc_set_paused(&plan->container, false, NULL);
                if (!ends_within(pidfd, END_MS))
                        return st_error_set(err, ETIMEDOUT, "process %d did not end within %d s of its SIGKILL",
                                            (int)plan->container.pid, END_MS / 1000);
        }
        plan->paused_by_us = false;
        st_dump_unguard(plan->dump);
        st_dump_thawed(plan->dump);
        return remove_container(plan, err);
}

static int finish_stop(struct plan *plan, struct st_error **err) {
        int r;

        if (plan->ended_by_criu) {
                st_dump_thawed(plan->dump);
                r = st_dump_commit(plan->dump, err);
                if (r >= 0)
                        return remove_container(plan, err);
                (void)remove_container(plan, NULL);
                return runc_bring_back(plan->dump, &plan->container, plan->images, err);
        }
        r = st_dump_commit(plan->dump, err);
        if (r < 0)
                return r;
        r = end_container(plan, err);
        if (r < 0 && plan->paused_by_us) { /* it goes on, so its checkpoint is not to be */
                st_dump_withdraw(plan->dump);
                return st_error_wrap(err, "cannot end the container");
        }
        return r;
}

int runc_dump(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        _cleanup_(plan_clear) struct plan plan = { .dump = dump };
        bool stay = dump->given->has_leave_stopped && dump->given->leave_stopped;
        int r;

        (void)next;
        r = runc_container_find(dump->req->details, &plan.container, err);
        if (r >= 0 && plan.container.pid != dump->pid)
                r = st_error_set(err, ESRCH, "it has ended meanwhile");
        if (r < 0)
                return r;
        plan.was_paused = plan.container.status == RUNC_PAUSED;
        plan.ended_by_criu = dump->stop && dump->criu->has_tcp_established && dump->criu->tcp_established;

        r = prepare(&plan, err);
        if (r >= 0)
                r = pause_container(&plan, err);
        if (r >= 0)
                r = checkpoint(&plan, err);
        if (r >= 0 && dump->stop)
                r = finish_stop(&plan, err);
        if (r >= 0 && stay)
                st_dump_unguard(dump);
        else if (r >= 0)
                r = resume_container(&plan, err);
        if (r < 0 && plan.paused_by_us) {
                _cleanup_error_ struct st_error *problem = NULL;

                runc_wait_for_criu(&plan.container);
                if (resume_container(&plan, &problem) < 0)
                        st_dump_message(dump, "container %s may still be paused: %s", plan.container.id,
                                        st_error_message(problem));
        }
        if (r >= 0)
                st_dump_thawed(dump);
        return r;
}
