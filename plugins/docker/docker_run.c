/* SPDX-License-Identifier: Apache-2.0 */

/* A container as a job: made, attached to, started, all by the engine. */

#include "docker_run.h"

#include <stdio.h>
#include <string.h>

#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_follow.h"
#include "docker_saved.h"
#include "docker_target.h"

struct start {
        struct st_run *run;
        const Plugins__Docker__Docker *details;
        const char *name;
        struct engine *engine; /* cancelled with the operation */
        struct engine *firm;   /* not cancelled: for what changes something, or undoes it */
        char *id;
        struct docker_follower follower;
};

static void clear(struct start *start) {
        docker_follower_stop(&start->follower);
        engine_close(start->engine);
        engine_close(start->firm);
        free(start->id);
}

static bool is_given(const char *text) {
        return text && *text;
}

/** Images come from registries: who pulls is for the user to say. */
static int check_image(struct start *start, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_json_ json_t *image = NULL;
        const char *name = start->details->image;
        int r = engine_image_inspect(start->engine, name, &image, &error);

        if (r != -ENOENT)
                return r < 0 ? st_error_move(err, TAKE_PTR(error)) : 0;
        r = st_error_set(err, ENOENT, "the Docker engine at %s has no image %s", engine_address(start->engine), name);
        st_error_hint(err, "get it with 'docker pull %s' or 'docker load'", name);
        return r;
}

static json_t *list(char *const *items, size_t n) {
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                if (json_array_append_new(array, json_string(items[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

/** The body of POST /containers/create. @return NULL with err */
static json_t *make_config(const struct start *start, struct st_error **err) {
        const Plugins__Docker__Docker *details = start->details;
        bool terminal = start->run->terminal, input = start->run->stdio[0] >= 0;
        json_t *environment = list(details->env, details->n_env), *binds = list(details->volumes, details->n_volumes);
        json_t *command = details->n_args > 0 ? list(details->args, details->n_args) : json_null();
        /* Whoever attaches is the only one to give input: its end is the end of the input. */
        json_t *config =
                json_pack("{s:s, s:o, s:o, s:b, s:b, s:b, s:b, s:b, s:b, s:{s:o}, s:{s:s}}", "Image", details->image,
                          "Env", environment, "Cmd", command, "Tty", terminal, "OpenStdin", input, "StdinOnce", input,
                          "AttachStdin", input, "AttachStdout", true, "AttachStderr", true, "HostConfig", "Binds",
                          binds, "Labels", "stasis.job", start->run->req->jid ? start->run->req->jid : "");

        if (!config) {
                st_error_set(err, EINVAL, "the command or its environment is not UTF-8");
                return NULL;
        }
        if (is_given(details->workingdir))
                json_object_set_new(config, "WorkingDir", json_string(details->workingdir));
        if (is_given(details->network))
                json_object_set_new(json_object_get(config, "HostConfig"), "NetworkMode",
                                    json_string(details->network));
        return config;
}

static int create(struct start *start, struct st_error **err) {
        _cleanup_json_ json_t *config = make_config(start, err);
        int r = config ? engine_container_create(start->firm, start->name, config, &start->id, err) : -EINVAL;

        if (r == -EBUSY)
                st_error_hint(err,
                              "choose another name with --name, or take that one over with 'stasis manage docker "
                              "%s'",
                              start->name);
        return r;
}

/** It is gone from the engine, as if it had never been. */
static void undo(struct start *start) {
        _cleanup_error_ struct st_error *problem = NULL;

        docker_follower_stop(&start->follower);
        if (start->id && engine_container_remove(start->firm, start->id, true, true, &problem) < 0)
                st_log_warning("cannot remove the new container %s: %s", start->name, st_error_message(problem));
}

static int launch(struct start *start, struct st_error **err) {
        struct st_run *run = start->run;
        _cleanup_json_ json_t *inspect = NULL;
        pid_t waiter;
        int r = docker_follower_start(run->operation, engine_address(start->engine), start->id, run->stdio,
                                      run->terminal, &start->follower, err);

        if (r >= 0)
                r = engine_container_start(start->firm, start->id, NULL, err);
        if (r >= 0)
                r = docker_inspect(start->firm, start->id, &inspect, err);
        if (r >= 0)
                r = st_operation_check_cancelled(run->operation, err);
        if (r < 0)
                return r;
        waiter = start->follower.pid;
        docker_follower_go(&start->follower);
        run->pid = docker_inspect_pid(inspect);
        run->waiter = waiter;
        if (run->pid <= 0) { /* it has ended already, and its exit code comes */
                run->pid = waiter;
                run->waiter = 0;
        }
        return 0;
}

static int open_engines(struct start *start, struct st_error **err) {
        const Plugins__Docker__Docker *details = start->details;
        int r = docker_engine_open(details->host, details->certpath, st_operation_cancel_fd(start->run->operation),
                                   &start->engine, err);

        return r < 0 ? r : docker_engine_open(details->host, details->certpath, -1, &start->firm, err);
}

int docker_run(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        static const Plugins__Docker__Docker none = PLUGINS__DOCKER__DOCKER__INIT;
        const Daemon__Details *all = run->req->details;
        _cleanup_(clear) struct start start = {
                .run = run,
                .details = all && all->docker ? all->docker : &none,
                .follower = DOCKER_FOLLOWER_NULL,
        };
        int r;

        (void)next;
        start.name = is_given(start.details->id) ? start.details->id : run->req->jid;
        if (!is_given(start.details->image))
                return st_error_set(err, EINVAL, "the request names no image: Details.Docker.Image is missing");
        if (!is_given(start.name))
                return st_error_set(err, EINVAL, "the request names no container: Details.Docker.ID is missing");
        r = open_engines(&start, err);
        if (r >= 0)
                r = check_image(&start, err);
        if (r >= 0)
                r = create(&start, err);
        if (r >= 0) {
                r = launch(&start, err);
                if (r < 0)
                        undo(&start);
        }
        return r < 0 ? st_error_wrap(err, "cannot run container %s", start.name) : 0;
}

int docker_cleanup(const Daemon__Details *details, struct st_error **err) {
        const Plugins__Docker__Docker *docker = details ? details->docker : NULL;
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_engine_ struct engine *engine = NULL;
        _cleanup_json_ json_t *inspect = NULL;
        int r;

        /* What was only taken over belongs to somebody else. */
        if (!docker || !is_given(docker->id) || !is_given(docker->image))
                return 0;
        r = docker_engine_open(docker->host, docker->certpath, -1, &engine, err);
        if (r < 0)
                return r;
        r = engine_container_inspect(engine, docker->id, &inspect, &error);
        if (r >= 0 &&
            (docker_inspect_pid(inspect) > 0 || !docker_saved_text(inspect, "Config", "Labels", "stasis.job", NULL)))
                return 0; /* it runs, or is another one of that name */
        if (r >= 0)
                r = engine_container_remove(engine, docker->id, false, true, &error);
        return r < 0 && r != -ENOENT ? st_error_move(err, TAKE_PTR(error)) : 0;
}
