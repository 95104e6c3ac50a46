/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libsmartcols.h>

#include "../common/cleanup.h"
#include "docker_preflight.h"
#include "docker_saved.h"
#include "docker_shim.h"
#include "docker_target.h"

#define SHORT_ID 12

struct query {
        struct st_operation *operation;
        struct engine *engine;
        struct engine_version version;
        json_t *info;
        Plugins__Docker__QueryResp *resp;
};

static void clear(struct query *query) {
        engine_close(query->engine);
        json_decref(query->info);
}

static int no_memory(struct st_error **err) {
        return st_error_set(err, ENOMEM, "no memory for the answer");
}

/* Appends a text to a list of a message; takes it over. */
static int append(size_t *n, char ***list, char *text, struct st_error **err) {
        char **more = text ? realloc(*list, (*n + 1) * sizeof(*more)) : NULL;

        if (!more) {
                free(text);
                return no_memory(err);
        }
        *list = more;
        more[(*n)++] = text;
        return 0;
}

static int fill_lists(Plugins__Docker__Container *container, const json_t *inspect, struct st_error **err) {
        json_t *networks = json_object_get(json_object_get(inspect, "NetworkSettings"), "Networks"), *value;
        const char *name;
        size_t index;
        int r = 0;

        json_object_foreach(networks, name, value) if (r >= 0) r =
                append(&container->n_networks, &container->networks, strdup(name), err);
        json_array_foreach(json_object_get(inspect, "Mounts"), index, value) {
                const char *volume = docker_saved_text(value, "Name", NULL),
                           *to = docker_saved_text(value, "Destination", NULL);
                const char *source = volume && *volume ? volume : docker_saved_text(value, "Source", NULL);
                char *text = NULL;

                if (r >= 0 && asprintf(&text, "%s:%s", source ? source : "", to ? to : "") >= 0)
                        r = append(&container->n_volumes, &container->volumes, text, err);
        }
        return r;
}

static int fill_problems(const struct query *query, Plugins__Docker__Container *container, const json_t *inspect,
                         struct st_error **err) {
        _cleanup_problems_ struct docker_problems problems = { 0 };
        pid_t pid = docker_inspect_pid(inspect);
        int r = 0;

        if (pid == 0) /* it does not run: its status says so */
                return 0;
        docker_preflight_engine(&query->version, query->info, &problems);
        docker_preflight_criu(docker_shim_of(pid), &problems);
        docker_preflight_container(&query->version, query->info, inspect, false, &problems);
        for (size_t i = 0; i < problems.n && r >= 0; i++)
                if (problems.items[i].text)
                        r = append(&container->n_problems, &container->problems, strdup(problems.items[i].text), err);
        return r;
}

static int add_container(struct query *query, const char *id, struct st_error **err) {
        _cleanup_json_ json_t *inspect = NULL;
        Plugins__Docker__Container **list, *container;
        const char *image;
        int r = docker_inspect(query->engine, id, &inspect, err);

        if (r < 0)
                return r;
        list = realloc(query->resp->containers, (query->resp->n_containers + 1) * sizeof(*list));
        if (!list)
                return no_memory(err);
        query->resp->containers = list;
        container = malloc(sizeof(*container));
        if (!container)
                return no_memory(err);
        plugins__docker__container__init(container);
        list[query->resp->n_containers++] = container;

        image = docker_saved_text(inspect, "Config", "Image", NULL);
        container->id = strdup(docker_inspect_id(inspect));
        container->name = strdup(docker_inspect_name(inspect));
        container->status = strdup(docker_inspect_status(inspect));
        container->image = strdup(image ? image : "");
        container->has_pid = 1;
        container->pid = (uint32_t)docker_inspect_pid(inspect);
        if (!container->id || !container->name || !container->status || !container->image)
                return no_memory(err);
        r = fill_lists(container, inspect, err);
        return r < 0 ? r : fill_problems(query, container, inspect, err);
}

/* All of the engine; one that goes while they are listed is left out. */
static int add_all(struct query *query, struct st_error **err) {
        _cleanup_json_ json_t *list = NULL;
        json_t *container;
        size_t index;
        int r = engine_call(query->engine, "GET", "/containers/json?all=1", NULL, ENGINE_MOVE, &list, err);

        if (r < 0)
                return r;
        json_array_foreach(list, index, container) {
                _cleanup_error_ struct st_error *error = NULL;
                const char *id = docker_saved_text(container, "Id", NULL);

                r = id ? add_container(query, id, &error) : 0;
                if (r < 0 && r != -ENOENT)
                        return st_error_move(err, TAKE_PTR(error));
        }
        return 0;
}

int docker_query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                 struct st_error **err) {
        __attribute__((cleanup(clear))) struct query query = { .operation = operation };
        const Plugins__Docker__QueryReq *docker = req->docker;
        int r;

        resp->docker = query.resp = malloc(sizeof(*query.resp));
        if (!query.resp)
                return no_memory(err);
        plugins__docker__query_resp__init(query.resp);
        r = docker_engine_open(docker ? docker->host : NULL, docker ? docker->certpath : NULL,
                               st_operation_cancel_fd(operation), &query.engine, err);
        if (r >= 0)
                r = engine_version(query.engine, &query.version, err);
        if (r >= 0)
                r = engine_call(query.engine, "GET", "/info", NULL, ENGINE_SHORT, &query.info, err);
        if (r < 0)
                return r;
        if (!docker || docker->n_ids == 0)
                return add_all(&query, err);
        for (size_t i = 0; i < docker->n_ids && r >= 0; i++)
                r = add_container(&query, docker->ids[i], err);
        return r;
}

static void set_list(struct libscols_line *line, size_t column, char *const *list, size_t n) {
        _cleanup_free_ char *all = NULL;

        for (size_t i = 0; i < n; i++) {
                char *more;
                if (asprintf(&more, "%s%s%s", all ? all : "", all ? ", " : "", list[i]) < 0)
                        return;
                free(all);
                all = more;
        }
        (void)scols_line_set_data(line, column, all ? all : "");
}

static int add_line(struct libscols_table *table, const Plugins__Docker__Container *container) {
        struct libscols_line *line = scols_table_new_line(table, NULL);
        char id[SHORT_ID + 1], pid[16] = "";

        if (!line)
                return -ENOMEM;
        snprintf(id, sizeof(id), "%.*s", SHORT_ID, container->id);
        if (container->pid > 0)
                snprintf(pid, sizeof(pid), "%u", container->pid);
        (void)scols_line_set_data(line, 0, container->name);
        (void)scols_line_set_data(line, 1, id);
        (void)scols_line_set_data(line, 2, container->status);
        (void)scols_line_set_data(line, 3, pid);
        (void)scols_line_set_data(line, 4, container->image);
        set_list(line, 5, container->networks, container->n_networks);
        set_list(line, 6, container->volumes, container->n_volumes);
        set_list(line, 7, container->problems, container->n_problems);
        return 0;
}

int docker_query_print(const struct st_arguments *arguments, const Daemon__QueryResp *resp, struct st_error **err) {
        static const char *const names[] = {
                "NAME", "ID", "STATUS", "PID", "IMAGE", "NETWORKS", "VOLUMES", "PROBLEMS"
        };
        struct libscols_table *table = scols_new_table();
        int r = table ? 0 : -ENOMEM;

        (void)arguments;
        for (size_t i = 0; i < sizeof(names) / sizeof(*names) && r >= 0; i++)
                if (!scols_table_new_column(table, names[i], 0, i == 3 ? SCOLS_FL_RIGHT : 0))
                        r = -ENOMEM;
        for (size_t i = 0; resp->docker && i < resp->docker->n_containers && r >= 0; i++)
                r = add_line(table, resp->docker->containers[i]);
        if (r >= 0)
                r = scols_print_table(table);
        scols_unref_table(table);
        return r < 0 ? st_error_errno(err, r, "cannot print the table") : 0;
}
