/* SPDX-License-Identifier: Apache-2.0 */

/* A new container from the configuration that the checkpoint holds. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../common/cleanup.h"
#include "docker_networks.h"
#include "docker_restore_context.h"
#include "docker_target.h"
#include "engine_reply.h"

/* From this version of the API on a MAC address belongs to the endpoint; before, to the container. */
#define API_ENDPOINT_MAC 1044

static bool starts_with(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Does the configuration itself say what is mounted at a path? */
static bool is_configured(const json_t *host, const char *destination) {
        json_t *entry;
        size_t i;

        json_array_foreach(json_object_get(host, "Mounts"), i, entry) {
                const char *target = docker_saved_text(entry, "Target", NULL);
                if (target && strcmp(target, destination) == 0)
                        return true;
        }
        json_array_foreach(json_object_get(host, "Binds"), i, entry) { /* SOURCE:DESTINATION[:OPTIONS] */
                const char *bind = json_string_value(entry), *at = bind ? strchr(bind, ':') : NULL;
                size_t n = at ? strcspn(at + 1, ":") : 0;
                if (at && n == strlen(destination) && strncmp(at + 1, destination, n) == 0)
                        return true;
        }
        return false;
}

/*
 * What the engine found a volume for by itself (an image's VOLUME, --volumes-from): the new container gets the very
 * same, not an empty one.
 */
static int add_volumes(const struct docker_restore *ctx, json_t *host, struct st_error **err) {
        json_t *binds = json_object_get(host, "Binds"), *volume;
        size_t i;

        if (!json_is_array(binds)) {
                binds = json_array();
                json_object_set_new(host, "Binds", binds);
        }
        json_array_foreach(ctx->saved.volumes, i, volume) {
                const char *at = docker_saved_text(volume, "Destination", NULL),
                           *type = docker_saved_text(volume, "Type", NULL);
                const char *source = docker_saved_text(volume, strcmp(type, "volume") == 0 ? "Name" : "Source", NULL);
                bool writable = !json_is_false(json_object_get(volume, "RW"));

                if (!source || !*source || is_configured(host, at) ||
                    (strcmp(type, "volume") != 0 && strcmp(type, "bind") != 0))
                        continue;
                json_t *bind = json_sprintf("%s:%s%s", source, at, writable ? "" : ":ro");
                if (!bind || json_array_append_new(binds, bind) < 0)
                        return st_error_set(err, EINVAL, "cannot mount %s at %s: it is not UTF-8", source, at);
        }
        json_object_set_new(host, "VolumesFrom", json_null());
        json_object_set_new(host, "ContainerIDFile", json_string(""));
        return 0;
}

/* The engine refuses what contradicts the network mode, though it tells it itself of a container. */
static void fit_network(const struct docker_restore *ctx, json_t *config, json_t *host) {
        const char *mode = docker_restore_saved(ctx, "HostConfig", "NetworkMode");
        const char *primary = docker_networks_primary(ctx);
        const char *mac = primary ? docker_saved_text(ctx->endpoints, primary, "MacAddress", NULL) : NULL;
        bool joined = starts_with(mode, "container:");

        if (joined || strcmp(docker_restore_saved(ctx, "HostConfig", "UTSMode"), "host") == 0) {
                json_object_del(config, "Hostname");
                json_object_del(config, "Domainname");
        }
        if (joined)
                json_object_del(config, "ExposedPorts");
        json_object_del(config, "MacAddress");
        if (mac && engine_reply_api(ctx->version.api) < API_ENDPOINT_MAC)
                json_object_set_new(config, "MacAddress", json_string(mac));
        if (primary && strcmp(mode, "default") != 0)
                json_object_set_new(host, "NetworkMode", json_string(primary));
        if (primary) {
                json_t *endpoints =
                        json_pack("{s:{s:O}}", "EndpointsConfig", primary, json_object_get(ctx->endpoints, primary));
                json_object_set_new(config, "NetworkingConfig", endpoints);
        }
}

static int create(struct docker_restore *ctx, struct st_error **err) {
        _cleanup_json_ json_t *config = json_deep_copy(json_object_get(ctx->saved.inspect, "Config"));
        _cleanup_json_ json_t *host = json_deep_copy(json_object_get(ctx->saved.inspect, "HostConfig"));
        char name[64];

        if (!config || !host)
                return st_error_errno(err, ENOMEM, "cannot use the saved configuration");
        int r = add_volumes(ctx, host, err);
        if (r < 0)
                return r;
        fit_network(ctx, config, host);
        json_object_set_new(config, "Image", json_string(ctx->image));
        json_object_set(config, "HostConfig", host);
        snprintf(name, sizeof(name), DOCKER_CREATE_PREFIX "%d", (int)getpid());
        r = engine_container_create(ctx->firm, name, config, &ctx->id, err);
        return r < 0 ? st_error_wrap(err, "cannot create container %s", ctx->new_name) : 0;
}

int docker_create(struct docker_restore *ctx, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;

        int r = create(ctx, &error);
        if (r < 0 && docker_networks_no_addresses(error)) {
                error = st_error_free(error);
                r = docker_networks_give_up_addresses(ctx, &error);
                if (r == 0)
                        r = create(ctx, &error);
        }
        if (r < 0) {
                st_error_move(err, error);
                error = NULL;
                return r;
        }
        return docker_networks_connect(ctx, err);
}

int docker_create_name(struct docker_restore *ctx, struct st_error **err) {
        int r = engine_container_rename(ctx->firm, ctx->id, ctx->new_name, err);

        return r < 0 ? r : docker_inspect(ctx->firm, ctx->id, &ctx->target, err);
}

void docker_create_clean(const struct docker_restore *ctx) {
        _cleanup_json_ json_t *list = NULL;
        json_t *container;
        size_t i;

        if (engine_call(ctx->engine, "GET", "/containers/json?all=1", NULL, ENGINE_SHORT, &list, NULL) < 0)
                return;
        json_array_foreach(list, i, container) {
                const char *name = json_string_value(json_array_get(json_object_get(container, "Names"), 0));
                const char *state = docker_saved_text(container, "State", NULL),
                           *id = docker_saved_text(container, "Id", NULL);
                int pid, end = 0;

                if (!name || !state || !id || strcmp(state, "created") != 0 ||
                    sscanf(name, "/" DOCKER_CREATE_PREFIX "%9d%n", &pid, &end) != 1 || name[end] || pid <= 0)
                        continue;
                if (kill(pid, 0) < 0 && errno == ESRCH)
                        (void)engine_container_remove(ctx->firm, id, true, false, NULL);
        }
}
