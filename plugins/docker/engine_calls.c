/* SPDX-License-Identifier: Apache-2.0 */

/* The calls that have a name: each says its path, its limit, and what its answer must be. */

#include <stdio.h>
#include <string.h>

#include "../common/cleanup.h"
#include "engine.h"
#include "engine_internal.h"

/* A call on one object. path NULL: no memory; it is freed. */
static int call(struct engine *engine, const char *method, char *path, json_t *body, unsigned limit, json_t **ret,
                struct st_error **err) {
        _cleanup_free_ __attribute__((unused)) char *owned = path;
        if (!path)
                return st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        return engine_call(engine, method, path, body, limit, ret, err);
}

/* The status says nothing more once it is a success. */
static int done(int r) {
        return r < 0 ? r : 0;
}

/* As call(), with an answer that must be of a JSON type; an empty list may be null. */
static int ask(struct engine *engine, char *path, unsigned limit, json_type type, json_t **ret, struct st_error **err) {
        _cleanup_json_ json_t *reply = NULL;
        int r = call(engine, "GET", path, NULL, limit, &reply, err);
        if (r < 0)
                return r;
        if (type == JSON_ARRAY && (!reply || json_is_null(reply))) {
                json_decref(reply);
                reply = json_array();
        }
        if (!reply || json_typeof(reply) != type)
                return st_error_set(err, EPROTO,
                                    "the Docker engine at %s gave an answer of another kind than its API says",
                                    engine_address(engine));
        *ret = TAKE_PTR(reply);
        return 0;
}

int engine_info(struct engine *engine, json_t **ret, struct st_error **err) {
        return ask(engine, engine_path("/info"), ENGINE_MOVE, JSON_OBJECT, ret, err);
}

int engine_container_inspect(struct engine *engine, const char *container, json_t **ret, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        return r < 0 ? r
                     : ask(engine, engine_path("/containers/%s/json", container), ENGINE_SHORT, JSON_OBJECT, ret, err);
}

int engine_container_changes(struct engine *engine, const char *container, json_t **ret, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        return r < 0 ? r
                     : ask(engine, engine_path("/containers/%s/changes", container), ENGINE_LONG, JSON_ARRAY, ret, err);
}

int engine_container_create(struct engine *engine, const char *name, json_t *config, char **ret_id,
                            struct st_error **err) {
        _cleanup_json_ json_t *reply = NULL;
        int r = name ? engine_check_reference("container", name, err) : 0;
        if (r < 0)
                return r;
        r = call(engine, "POST",
                 name ? engine_path("/containers/create?name=%s", name) : engine_path("/containers/create"), config,
                 ENGINE_MOVE, &reply, err);
        if (r < 0)
                return r;
        const char *id = json_string_value(json_object_get(reply, "Id"));
        if (!id || engine_check_reference("container", id, NULL) < 0)
                return st_error_set(err, EPROTO, "the Docker engine at %s created a container without an ID",
                                    engine_address(engine));
        *ret_id = strdup(id);
        return *ret_id ? 0 : st_error_errno(err, ENOMEM, "cannot keep the ID of container %s", id);
}

/* POST /containers/ID/WHAT */
static int move(struct engine *engine, const char *container, const char *what, unsigned limit, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        if (r < 0)
                return r;
        return done(call(engine, "POST", engine_path("/containers/%s/%s", container, what), NULL, limit, NULL, err));
}

int engine_container_start(struct engine *engine, const char *container, const char *checkpoint,
                           struct st_error **err) {
        if (!checkpoint)
                return move(engine, container, "start", ENGINE_LONG, err);
        int r = engine_check_reference("container", container, err);
        if (r == 0)
                r = engine_check_reference("checkpoint", checkpoint, err);
        if (r < 0)
                return r;
        r = call(engine, "POST", engine_path("/containers/%s/start?checkpoint=%s", container, checkpoint), NULL,
                 ENGINE_LONG, NULL, err);
        /* An ordinary start of what runs already is fine; what was to be restored has not been. */
        if (r == 304)
                return st_error_set(err, EBUSY, "the Docker engine at %s: container %s runs already",
                                    engine_address(engine), container);
        return done(r);
}

int engine_container_pause(struct engine *engine, const char *container, struct st_error **err) {
        return move(engine, container, "pause", ENGINE_MOVE, err);
}

int engine_container_unpause(struct engine *engine, const char *container, struct st_error **err) {
        return move(engine, container, "unpause", ENGINE_MOVE, err);
}

int engine_container_kill(struct engine *engine, const char *container, const char *signal, struct st_error **err) {
        if (!signal)
                return move(engine, container, "kill", ENGINE_MOVE, err);
        int r = engine_check_reference("container", container, err);
        if (r < 0)
                return r;
        return done(call(engine, "POST", engine_path("/containers/%s/kill?signal=%s", container, signal), NULL,
                         ENGINE_MOVE, NULL, err));
}

int engine_container_wait(struct engine *engine, const char *container, unsigned limit, int *ret_exit_code,
                          struct st_error **err) {
        _cleanup_json_ json_t *reply = NULL;
        int r = engine_check_reference("container", container, err);
        if (r < 0)
                return r;
        r = call(engine, "POST", engine_path("/containers/%s/wait", container), NULL, limit, &reply, err);
        if (r < 0)
                return r;
        const json_t *code = json_object_get(reply, "StatusCode");
        if (!json_is_integer(code))
                return st_error_set(err, EPROTO, "the Docker engine at %s told no exit code of container %s",
                                    engine_address(engine), container);
        *ret_exit_code = (int)json_integer_value(code);
        return 0;
}

int engine_container_rename(struct engine *engine, const char *container, const char *name, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        if (r == 0)
                r = engine_check_reference("container", name, err);
        if (r < 0)
                return r;
        return done(call(engine, "POST", engine_path("/containers/%s/rename?name=%s", container, name), NULL,
                         ENGINE_MOVE, NULL, err));
}

int engine_container_remove(struct engine *engine, const char *container, bool force, bool volumes,
                            struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        if (r < 0)
                return r;
        return done(call(engine, "DELETE",
                         engine_path("/containers/%s?force=%s&v=%s", container, force ? "1" : "0", volumes ? "1" : "0"),
                         NULL, ENGINE_MOVE, NULL, err));
}

static int stream(struct engine *engine, const char *method, const char *container, const char *path, int upload_fd,
                  int download_fd, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        if (r < 0)
                return r;
        _cleanup_free_ char *url = engine_path("/containers/%s/archive?path=%s", container, path);
        if (!url)
                return st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        struct engine_http_request request = { .method = method,
                                               .path = url,
                                               .upload_fd = upload_fd,
                                               .download_fd = download_fd,
                                               .limit = ENGINE_NO_LIMIT };
        return done(engine_exchange(engine, &request, NULL, err));
}

int engine_archive_get(struct engine *engine, const char *container, const char *path, int fd, struct st_error **err) {
        return stream(engine, "GET", container, path, -1, fd, err);
}

int engine_archive_put(struct engine *engine, const char *container, const char *path, int fd, struct st_error **err) {
        return stream(engine, "PUT", container, path, fd, -1, err);
}

int engine_checkpoint_create(struct engine *engine, const char *container, const char *checkpoint,
                             const char *directory, bool exit, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        if (r == 0)
                r = engine_check_reference("checkpoint", checkpoint, err);
        if (r < 0)
                return r;
        _cleanup_json_ json_t *body =
                json_pack("{s:s, s:b, s:s*}", "CheckpointID", checkpoint, "Exit", exit, "CheckpointDir", directory);
        if (!body)
                return st_error_set(err, EINVAL, "the directory of checkpoint %s is not UTF-8, which JSON needs",
                                    checkpoint);
        return done(call(engine, "POST", engine_path("/containers/%s/checkpoints", container), body, ENGINE_LONG, NULL,
                         err));
}

static char *checkpoint_path(const char *container, const char *checkpoint, const char *directory) {
        if (directory)
                return engine_path(checkpoint ? "/containers/%s/checkpoints/%s?dir=%s"
                                              : "/containers/%s/checkpoints%s?dir=%s",
                                   container, checkpoint ? checkpoint : "", directory);
        return checkpoint ? engine_path("/containers/%s/checkpoints/%s", container, checkpoint)
                          : engine_path("/containers/%s/checkpoints", container);
}

int engine_checkpoint_list(struct engine *engine, const char *container, const char *directory, json_t **ret,
                           struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        return r < 0 ? r : ask(engine, checkpoint_path(container, NULL, directory), ENGINE_MOVE, JSON_ARRAY, ret, err);
}

int engine_checkpoint_delete(struct engine *engine, const char *container, const char *checkpoint,
                             const char *directory, struct st_error **err) {
        int r = engine_check_reference("container", container, err);
        if (r == 0)
                r = engine_check_reference("checkpoint", checkpoint, err);
        if (r < 0)
                return r;
        return done(call(engine, "DELETE", checkpoint_path(container, checkpoint, directory), NULL, ENGINE_MOVE, NULL,
                         err));
}

int engine_image_inspect(struct engine *engine, const char *image, json_t **ret, struct st_error **err) {
        int r = engine_check_reference("image", image, err);
        return r < 0 ? r : ask(engine, engine_path("/images/%s/json", image), ENGINE_SHORT, JSON_OBJECT, ret, err);
}

int engine_network_inspect(struct engine *engine, const char *network, json_t **ret, struct st_error **err) {
        int r = engine_check_reference("network", network, err);
        return r < 0 ? r : ask(engine, engine_path("/networks/%s", network), ENGINE_SHORT, JSON_OBJECT, ret, err);
}

/* POST /networks/ID/WHAT; takes body over. */
static int plug(struct engine *engine, const char *network, const char *what, const char *container, json_t *body,
                struct st_error **err) {
        _cleanup_json_ __attribute__((unused)) json_t *owned = body;
        int r = engine_check_reference("network", network, err);
        if (r == 0)
                r = engine_check_reference("container", container, err);
        if (r < 0)
                return r;
        if (!body)
                return st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        return done(call(engine, "POST", engine_path("/networks/%s/%s", network, what), body, ENGINE_MOVE, NULL, err));
}

int engine_network_connect(struct engine *engine, const char *network, const char *container, json_t *endpoint,
                           struct st_error **err) {
        return plug(engine, network, "connect", container,
                    json_pack("{s:s, s:O*}", "Container", container, "EndpointConfig", endpoint), err);
}

int engine_network_disconnect(struct engine *engine, const char *network, const char *container, bool force,
                              struct st_error **err) {
        return plug(engine, network, "disconnect", container,
                    json_pack("{s:s, s:b}", "Container", container, "Force", force), err);
}
