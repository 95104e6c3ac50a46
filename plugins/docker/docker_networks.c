/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_networks.h"

#include <stdio.h>
#include <string.h>

#include "../common/cleanup.h"
#include "docker_subnet.h"

/* The text under a key; "" when there is none. */
static const char *text(const json_t *object, const char *key) {
        const char *value = json_string_value(json_object_get(object, key));
        return value ? value : "";
}

static json_t *saved_endpoints(const struct docker_restore *ctx) {
        return json_object_get(json_object_get(ctx->saved.inspect, "NetworkSettings"), "Networks");
}

static bool is_predefined(const char *network) {
        return strcmp(network, "bridge") == 0 || strcmp(network, "host") == 0 || strcmp(network, "none") == 0;
}

static bool in_network(const json_t *network, const char *address) {
        const json_t *config = json_object_get(json_object_get(network, "IPAM"), "Config");
        json_t *pool;
        size_t i;

        json_array_foreach(config, i, pool) if (docker_subnet_contains(text(pool, "Subnet"), address)) return true;
        return json_array_size(config) == 0; /* it does not say: the engine knows */
}

/* "10.1.2.3/24" and "10.1.2.3" are the same address. */
static bool same_address(const char *a, const char *b) {
        size_t n = strcspn(a, "/");
        return n > 0 && n == strcspn(b, "/") && strncmp(a, b, n) == 0;
}

/* Which other container has the address, or MAC? @return its name; NULL: none that runs */
static const char *holder_of(const struct docker_restore *ctx, const json_t *network, const char *address) {
        const char *id;
        json_t *other;

        json_object_foreach(json_object_get(network, "Containers"), id, other) {
                if (ctx->id && strcmp(id, ctx->id) == 0)
                        continue;
                if (same_address(text(other, "IPv4Address"), address) ||
                    same_address(text(other, "IPv6Address"), address) ||
                    (*address && strcmp(text(other, "MacAddress"), address) == 0))
                        return *text(other, "Name") ? text(other, "Name") : id;
        }
        return NULL;
}

/* May the address be asked for? 1, 0, or an error. */
static int check_address(struct docker_restore *ctx, const char *name, const json_t *network, const char *address,
                         struct st_error **err) {
        static const char *const hint = "restore with --tcp-close, and the container gets another address";
        const char *holder = holder_of(ctx, network, address);

        if (!*address)
                return 0;
        if (holder && ctx->connections)
                return docker_restore_problem(
                        ctx, err, EADDRINUSE, "network", name,
                        "stop that one; or restore with --tcp-close, and the container gets another address",
                        "the address %s on the network %s, with which the container has TCP connections, is in "
                        "use by container %s",
                        address, name, holder);
        if (holder) {
                docker_restore_warn(
                        ctx, "network", name,
                        "the address %s on the network %s is in use by container %s: the container gets another one",
                        address, name, holder);
                return 0;
        }
        if (in_network(network, address))
                return !is_predefined(name);
        if (ctx->connections)
                return docker_restore_problem(
                        ctx, err, EADDRNOTAVAIL, "network", name, hint,
                        "the address %s, with which the container has TCP connections, is none of the network "
                        "%s, as it is now",
                        address, name);
        docker_restore_warn(ctx, "network", name,
                            "the address %s is none of the network %s, as it is now: the container gets "
                            "another one",
                            address, name);
        return 0;
}

/* Every container is known by the first twelve digits of its ID on its networks: a new one has its own. */
static json_t *aliases_of(const struct docker_restore *ctx, const json_t *endpoint) {
        json_t *aliases = json_array(), *alias;
        size_t i;

        json_array_foreach(json_object_get(endpoint, "Aliases"), i, alias) {
                const char *name = json_string_value(alias);
                if (name && !(strlen(name) == 12 && strncmp(name, docker_saved_id(&ctx->saved), 12) == 0))
                        json_array_append(aliases, alias);
        }
        return aliases;
}

static int add_endpoint(struct docker_restore *ctx, const char *name, const json_t *endpoint, const json_t *network,
                        struct st_error **err) {
        const char *mac = text(endpoint, "MacAddress"), *address = text(endpoint, "IPAddress");
        const char *address6 = text(endpoint, "GlobalIPv6Address");
        _cleanup_json_ json_t *ipam = json_object();

        int r = check_address(ctx, name, network, address, err);
        if (r > 0)
                json_object_set_new(ipam, "IPv4Address", json_string(address));
        if (r >= 0)
                r = check_address(ctx, name, network, address6, err);
        if (r > 0)
                json_object_set_new(ipam, "IPv6Address", json_string(address6));
        if (r < 0)
                return r;
        json_t *config =
                json_pack("{s:o, s:O*, s:O*}", "Aliases", aliases_of(ctx, endpoint), "Links",
                          json_object_get(endpoint, "Links"), "DriverOpts", json_object_get(endpoint, "DriverOpts"));
        if (!config || json_object_set_new(ctx->endpoints, name, config) < 0)
                return st_error_errno(err, ENOMEM, "cannot look at the networks");
        if (json_object_size(ipam) > 0)
                json_object_set(config, "IPAMConfig", ipam);
        if (*mac && !holder_of(ctx, network, mac))
                json_object_set_new(config, "MacAddress", json_string(mac));
        docker_restore_fine(ctx, "network", name, "%s%s",
                            json_object_size(ipam) > 0 ? "is here, and free is " : "is here",
                            json_object_size(ipam) > 0 ? address : "");
        return 0;
}

/* How to make a network as it was. */
static char *how_to_make(const struct docker_restore *ctx, const char *name) {
        const json_t *network = json_object_get(ctx->saved.networks, name);
        const json_t *pool = json_array_get(json_object_get(json_object_get(network, "IPAM"), "Config"), 0);
        const char *driver = text(network, "Driver"), *subnet = text(pool, "Subnet"), *gateway = text(pool, "Gateway");
        char *hint;

        if (asprintf(&hint, "docker network create%s%s%s%s%s%s%s%s %s", *driver ? " --driver " : "", driver,
                     json_is_true(json_object_get(network, "Internal")) ? " --internal" : "",
                     json_is_true(json_object_get(network, "EnableIPv6")) ? " --ipv6" : "", *subnet ? " --subnet " : "",
                     subnet, *gateway ? " --gateway " : "", gateway, name) < 0)
                return NULL;
        return hint;
}

static int check_network(struct docker_restore *ctx, const char *name, const json_t *endpoint, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_json_ json_t *network = NULL;

        int r = engine_network_inspect(ctx->engine, name, &network, &error);
        if (r == -ENOENT) {
                _cleanup_free_ char *hint = how_to_make(ctx, name);
                return docker_restore_problem(ctx, err, ENOENT, "network", name, hint, "the network %s does not exist",
                                              name);
        }
        if (r < 0) {
                st_error_move(err, error);
                error = NULL;
                return r;
        }
        return add_endpoint(ctx, name, endpoint, network, err);
}

/* The network of another container: that one must run. */
static int check_joined(struct docker_restore *ctx, const char *other, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_json_ json_t *inspect = NULL;

        int r = engine_container_inspect(ctx->engine, other, &inspect, &error);
        if (r < 0 && r != -ENOENT) {
                st_error_move(err, error);
                error = NULL;
                return r;
        }
        if (r == 0 && json_is_true(json_object_get(json_object_get(inspect, "State"), "Running")))
                return 0;
        return docker_restore_problem(ctx, err, ENOENT, "network", other, "start that one before",
                                      "the container shares the network of container %.12s, which %s", other,
                                      r == 0 ? "does not run" : "does not exist");
}

int docker_networks_check(struct docker_restore *ctx, struct st_error **err) {
        const char *mode = docker_restore_saved(ctx, "HostConfig", "NetworkMode"), *name;
        json_t *endpoint;

        ctx->endpoints = json_object();
        if (strncmp(mode, "container:", 10) == 0)
                return check_joined(ctx, mode + 10, err);
        if (strcmp(mode, "host") == 0 || strcmp(mode, "none") == 0)
                return 0;
        json_object_foreach(saved_endpoints(ctx), name, endpoint) {
                int r = check_network(ctx, name, endpoint, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

const char *docker_networks_primary(const struct docker_restore *ctx) {
        const char *mode = docker_restore_saved(ctx, "HostConfig", "NetworkMode"), *name;
        json_t *endpoint;

        if (strcmp(mode, "default") == 0)
                mode = "bridge";
        if (json_object_get(ctx->endpoints, mode))
                return mode;
        json_object_foreach(saved_endpoints(ctx), name,
                            endpoint) if (json_object_get(ctx->endpoints, name) &&
                                          strcmp(text(endpoint, "NetworkID"), mode) == 0) return name;
        return json_object_iter_key(json_object_iter(ctx->endpoints));
}

int docker_networks_connect(struct docker_restore *ctx, struct st_error **err) {
        const char *primary = docker_networks_primary(ctx), *name;
        json_t *endpoint;

        json_object_foreach(ctx->endpoints, name, endpoint) {
                int r = strcmp(name, primary) == 0 ? 0
                                                   : engine_network_connect(ctx->firm, name, ctx->id, endpoint, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

bool docker_networks_no_addresses(struct st_error *error) {
        return strstr(st_error_message(error), "user configured subnets");
}

static int reconnect(struct docker_restore *ctx, const char *name, json_t *endpoint, struct st_error **err) {
        int r = engine_network_disconnect(ctx->firm, name, ctx->id, false, err);
        return r < 0 ? r : engine_network_connect(ctx->firm, name, ctx->id, endpoint, err);
}

int docker_networks_give_up_addresses(struct docker_restore *ctx, struct st_error **err) {
        const char *name;
        json_t *endpoint;

        json_object_foreach(ctx->endpoints, name, endpoint) {
                if (json_object_del(endpoint, "IPAMConfig") < 0 || !ctx->id)
                        continue;
                int r = reconnect(ctx, name, endpoint, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static json_t *target_endpoint(const struct docker_restore *ctx, const char *name) {
        return json_object_get(json_object_get(json_object_get(ctx->target, "NetworkSettings"), "Networks"), name);
}

static bool has_address(const struct docker_restore *ctx, const char *name, const json_t *endpoint) {
        const char *wanted = docker_saved_text(endpoint, "IPAMConfig", "IPv4Address", NULL);
        const char *present = docker_saved_text(target_endpoint(ctx, name), "IPAMConfig", "IPv4Address", NULL);

        return !wanted || (present && strcmp(wanted, present) == 0);
}

int docker_networks_pin(struct docker_restore *ctx, struct st_error **err) {
        const char *name;
        json_t *endpoint;

        if (!ctx->connections)
                return 0;
        json_object_foreach(ctx->endpoints, name, endpoint) {
                if (has_address(ctx, name, endpoint))
                        continue;
                ctx->pinned = true;
                int r = reconnect(ctx, name, endpoint, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int docker_networks_unpin(struct docker_restore *ctx, struct st_error **err) {
        const char *name;
        json_t *endpoint;

        if (!ctx->pinned)
                return 0;
        json_object_foreach(ctx->endpoints, name, endpoint) {
                json_t *before = target_endpoint(ctx, name);
                if (has_address(ctx, name, endpoint) && json_object_get(endpoint, "IPAMConfig"))
                        continue;
                (void)engine_network_disconnect(ctx->firm, name, ctx->id, false, NULL); /* it may not be connected */
                int r = before ? engine_network_connect(ctx->firm, name, ctx->id, before, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static void tell_pinned(struct docker_restore *ctx) {
        const char *name;
        json_t *endpoint;

        json_object_foreach(ctx->endpoints, name, endpoint) if (!has_address(ctx, name, endpoint))
                st_restore_message(ctx->restore,
                                   "the container has the fixed address %s on the network %s from now on, "
                                   "for the sake of its connections",
                                   docker_saved_text(endpoint, "IPAMConfig", "IPv4Address", NULL), name);
}

void docker_networks_compare(struct docker_restore *ctx, const json_t *inspect) {
        const json_t *now = json_object_get(json_object_get(inspect, "NetworkSettings"), "Networks");
        const char *name;
        json_t *endpoint;

        if (ctx->pinned)
                tell_pinned(ctx);

        json_object_foreach(saved_endpoints(ctx), name, endpoint) {
                const char *before = text(endpoint, "IPAddress"),
                           *after = text(json_object_get(now, name), "IPAddress");
                if (*before && *after && strcmp(before, after) != 0)
                        st_restore_message(ctx->restore,
                                           "on the network %s the address is %s now, at the dump it was %s%s", name,
                                           after, before, ctx->connections ? ": its connections are lost" : "");
        }
}
