/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A client of the Docker Engine API (https://docs.docker.com/reference/api/engine/), without the docker command.
 *
 * One struct engine is one address and one connection that is kept between calls; it belongs to one thread at a
 * time. Each call blocks for at most its limit (milliseconds), and ends early with -ECANCELED when the engine's
 * cancel descriptor becomes readable or is hung up. A call that was cancelled or timed out may still take effect in
 * the engine.
 *
 * Errors are one line with the address, the engine's own words as the root cause, and a hint where there is
 * something to do: -ENOENT (404), -EEXIST or -EBUSY (409), -EPERM (401, 403), -EINVAL (400), -EIO (500 and others),
 * -ETIMEDOUT, -EPROTO (an answer that is none of the API's), -ECONNREFUSED, -EACCES, -ENOENT (no socket),
 * -EOPNOTSUPP.
 *
 * References of objects (IDs and names) are checked, and escaped in paths.
 */

#include <stdbool.h>

#include <jansson.h>

#include <stasis/error.h>

#define ENGINE_DEFAULT_HOST "unix:///var/run/docker.sock"
/** Limits, in milliseconds: what only looks something up; what moves a container; what CRIU or a disk takes part in. */
#define ENGINE_SHORT 2000
#define ENGINE_MOVE 30000
#define ENGINE_LONG (30 * 60000)
#define ENGINE_NO_LIMIT 0

struct engine;

/** What the engine says about itself; the texts belong to the struct engine. */
struct engine_version {
        const char *version;     /* "20.10.24+dfsg1" */
        const char *api;         /* the version of the API that calls use: "1.41" */
        const char *minimum_api; /* the oldest that the engine takes */
        int major, minor;        /* of `version`; 0 when it does not begin with numbers */
        bool experimental;
};

/**
 * Prepares a client; contacts nobody.
 *
 * @param host unix:///PATH or tcp://HOST[:PORT]; NULL: DOCKER_HOST, else the default. With tcp and
 * DOCKER_TLS_VERIFY, TLS with ca.pem, cert.pem and key.pem of DOCKER_CERT_PATH (default ~/.docker)
 * @param cancel_fd cancels every call; -1 for none; stays the caller's, and open as long as the engine
 */
int engine_open(const char *host, int cancel_fd, struct engine **ret, struct st_error **err);

/** Frees the engine; NULL is fine. @return NULL */
struct engine *engine_close(struct engine *engine);

/**
 * Asks once, within ENGINE_SHORT, for the versions, and settles which API is spoken. Every other call does it first.
 */
int engine_version(struct engine *engine, struct engine_version *ret, struct st_error **err);

/** @return the address in the form of DOCKER_HOST, for messages */
const char *engine_address(const struct engine *engine);

/**
 * Any call.
 *
 * @param path without the version: "/containers/json?all=1"; its parts by engine_path()
 * @param body sent as JSON; NULL: none. Stays the caller's
 * @param limit milliseconds; ENGINE_NO_LIMIT: until it ends or is cancelled
 * @param ret_reply the answer, NULL when it has no content; json_decref() it. A NULL pointer: not wanted
 * @return the HTTP status, 200 to 399 (304: it was so already)
 */
int engine_call(struct engine *engine, const char *method, const char *path, json_t *body, unsigned limit,
                json_t **ret_reply, struct st_error **err);

/**
 * Formats a path; each %s is escaped as one component or query value.
 * @return the path, to be freed; NULL without memory
 */
char *engine_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * @return 0 if text can be an ID or a name, else -EINVAL with an error that says what kind ("container") it is not
 * of
 */
int engine_check_reference(const char *kind, const char *text, struct st_error **err);

/* GET /info */
int engine_info(struct engine *engine, json_t **ret, struct st_error **err);

/*
 * Containers; `container` is an ID, its beginning, or a name (without the "/" that "Name" of an inspect begins
 * with).
 */
int engine_container_inspect(struct engine *engine, const char *container, json_t **ret, struct st_error **err);
int engine_container_changes(struct engine *engine, const char *container, json_t **ret, struct st_error **err);
/** name NULL: the engine makes one up. config: the body of POST /containers/create. @param ret_id to be freed */
int engine_container_create(struct engine *engine, const char *name, json_t *config, char **ret_id,
                            struct st_error **err);
/** checkpoint NULL: an ordinary start. */
int engine_container_start(struct engine *engine, const char *container, const char *checkpoint, struct st_error **err);
int engine_container_pause(struct engine *engine, const char *container, struct st_error **err);
int engine_container_unpause(struct engine *engine, const char *container, struct st_error **err);
/** signal NULL: SIGKILL */
int engine_container_kill(struct engine *engine, const char *container, const char *signal, struct st_error **err);
/** Waits until it does not run. limit as of engine_call(). */
int engine_container_wait(struct engine *engine, const char *container, unsigned limit, int *ret_exit_code,
                          struct st_error **err);
int engine_container_rename(struct engine *engine, const char *container, const char *name, struct st_error **err);
/** With its anonymous volumes when asked for; force: also while it runs. */
int engine_container_remove(struct engine *engine, const char *container, bool force, bool volumes,
                            struct st_error **err);

/** Streams a tar archive of `path` in the container to fd. */
int engine_archive_get(struct engine *engine, const char *container, const char *path, int fd, struct st_error **err);
/** Unpacks the tar archive read from fd into the directory `path` of the container. */
int engine_archive_put(struct engine *engine, const char *container, const char *path, int fd, struct st_error **err);

/** directory NULL: where the engine keeps them. exit: the container ends once it is written. */
int engine_checkpoint_create(struct engine *engine, const char *container, const char *checkpoint,
                             const char *directory, bool exit, struct st_error **err);
/** An array of objects with "Name"; empty: none. */
int engine_checkpoint_list(struct engine *engine, const char *container, const char *directory, json_t **ret,
                           struct st_error **err);
int engine_checkpoint_delete(struct engine *engine, const char *container, const char *checkpoint,
                             const char *directory, struct st_error **err);

int engine_image_inspect(struct engine *engine, const char *image, json_t **ret, struct st_error **err);
int engine_network_inspect(struct engine *engine, const char *network, json_t **ret, struct st_error **err);
/** endpoint: an EndpointConfig ("IPAMConfig", "MacAddress" …); NULL: all by default. */
int engine_network_connect(struct engine *engine, const char *network, const char *container, json_t *endpoint,
                           struct st_error **err);
int engine_network_disconnect(struct engine *engine, const char *network, const char *container, bool force,
                              struct st_error **err);

static inline void engine_closep(struct engine **engine) {
        engine_close(*engine);
}

static inline void engine_json_freep(json_t **json) {
        json_decref(*json);
}

/** Closes the engine, or gives the JSON value back, when the variable leaves its scope. */
#define _cleanup_engine_ __attribute__((cleanup(engine_closep)))
#define _cleanup_json_ __attribute__((cleanup(engine_json_freep)))
