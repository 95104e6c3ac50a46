/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_gather.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <stasis/checkpoint.h>
#include <stasis/log.h>

#include "../common/cleanup.h"
#include "fdio.h"

static int no_memory(struct st_error **err) {
        return st_error_errno(err, ENOMEM, "cannot keep what the Docker engine says about the container");
}

/* Copies the values of some keys; those that there are. */
static json_t *pick(const json_t *from, const char *const keys[]) {
        json_t *to = json_object();

        for (; to && *keys; keys++) {
                json_t *value = json_object_get(from, *keys);
                if (value)
                        json_object_set(to, *keys, value);
        }
        return to;
}

static int gather_engine(const struct docker_target *target, struct docker_saved *saved) {
        saved->engine =
                json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s*}", "Version", target->version.version, "ApiVersion",
                          target->version.api, "Os", docker_saved_text(target->info, "OSType", NULL), "Arch",
                          docker_saved_text(target->info, "Architecture", NULL), "KernelVersion",
                          docker_saved_text(target->info, "KernelVersion", NULL), "CgroupDriver",
                          docker_saved_text(target->info, "CgroupDriver", NULL));
        return saved->engine ? 0 : -ENOMEM;
}

/* An image can be gone while a container of it runs: then its ID and the name it was called by are all there is. */
static int gather_image(const struct docker_target *target, struct docker_saved *saved, struct st_error **err) {
        static const char *const keys[] = { "Id", "RepoTags", "RepoDigests", "Architecture", "Os", "Created", NULL };
        const char *id = docker_saved_text(target->inspect, "Image", NULL);
        const char *name = docker_saved_text(target->inspect, "Config", "Image", NULL);
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_json_ json_t *image = NULL;
        int r = engine_image_inspect(target->engine, id ? id : name, &image, &error);

        if (r == -ENOENT)
                saved->image = json_pack("{s:s, s:[s*]}", "Id", id ? id : "", "RepoTags", name);
        else if (r < 0)
                return st_error_move(err, TAKE_PTR(error));
        else
                saved->image = pick(image, keys);
        return saved->image ? 0 : no_memory(err);
}

/* A network that was removed under the container has an endpoint, and nothing else to keep. */
static int gather_networks(const struct docker_target *target, struct docker_saved *saved, struct st_error **err) {
        json_t *endpoints = json_object_get(json_object_get(target->inspect, "NetworkSettings"), "Networks"), *endpoint;
        const char *name;

        saved->networks = json_object();
        json_object_foreach(endpoints, name, endpoint) {
                _cleanup_error_ struct st_error *error = NULL;
                const char *id = docker_saved_text(endpoint, "NetworkID", NULL);
                json_t *network = NULL;
                int r = engine_network_inspect(target->engine, id && *id ? id : name, &network, &error);

                if (r < 0 && r != -ENOENT)
                        return st_error_move(err, TAKE_PTR(error));
                if (r >= 0) {
                        json_object_del(network, "Containers"); /* others' */
                        json_object_set_new(saved->networks, name, network);
                }
        }
        return saved->networks ? 0 : no_memory(err);
}

static int gather_volumes(const struct docker_target *target, struct docker_saved *saved, struct st_error **err) {
        static const char *const keys[] = { "Type", "Name", "Source",      "Destination", "Driver",
                                            "Mode", "RW",   "Propagation", NULL };
        json_t *mounts = json_object_get(target->inspect, "Mounts"), *mount;
        size_t index;

        saved->volumes = json_array();
        json_array_foreach(mounts, index, mount) if (docker_saved_text(mount, "Type", NULL) &&
                                                     docker_saved_text(mount, "Destination", NULL))
                json_array_append_new(saved->volumes, pick(mount, keys));
        return saved->volumes ? 0 : no_memory(err);
}

int docker_gather(const struct docker_target *target, struct docker_saved *saved, struct st_error **err) {
        const char *driver = docker_saved_text(target->inspect, "GraphDriver", "Name", NULL);
        int r;

        if (!driver || !*driver)
                driver = docker_saved_text(target->inspect, "Driver", NULL);
        saved->time = time(NULL);
        saved->inspect = json_incref(target->inspect);
        saved->storage_driver = strdup(driver && *driver ? driver : "unknown");
        if (!saved->storage_driver || gather_engine(target, saved) < 0)
                return no_memory(err);
        r = gather_image(target, saved, err);
        if (r >= 0)
                r = gather_networks(target, saved, err);
        if (r >= 0)
                r = gather_volumes(target, saved, err);
        return r;
}

/* A tmpfs is memory: CRIU saves it. */
static bool is_outside(const json_t *volume) {
        const char *type = docker_saved_text(volume, "Type", NULL);

        return type && strcmp(type, "tmpfs") != 0;
}

/* "web-data at /var/lib/web", "/srv at /srv (read-only)"; to be freed */
static char *describe_volume(const json_t *volume) {
        const char *name = docker_saved_text(volume, "Name", NULL), *source = docker_saved_text(volume, "Source", NULL);
        char *text;

        if (asprintf(&text, "%s at %s%s",
                     name && *name ? name
                     : source      ? source
                                   : "?",
                     docker_saved_text(volume, "Destination", NULL),
                     json_is_false(json_object_get(volume, "RW")) ? " (read-only)" : "") < 0)
                return NULL;
        return text;
}

void docker_gather_tell(const struct docker_target *target, const struct docker_saved *saved, struct st_dump *dump) {
        size_t index, sessions = json_array_size(json_object_get(target->inspect, "ExecIDs"));
        json_t *volume;

        json_array_foreach(saved->volumes, index, volume) {
                _cleanup_free_ char *text = is_outside(volume) ? describe_volume(volume) : NULL;

                if (text)
                        st_dump_message(dump, "not in the checkpoint: the volume %s", text);
        }
        if (sessions > 0)
                st_dump_message(dump, "not in the checkpoint: %zu exec session%s", sessions, sessions == 1 ? "" : "s");
}

static void add_row(json_t *rows, const char *label, const char *text) {
        if (text && *text)
                json_array_append_new(rows, json_pack("[s, s]", label, text));
}

static void add_networks(const struct docker_saved *saved, json_t *rows) {
        json_t *endpoints = json_object_get(json_object_get(saved->inspect, "NetworkSettings"), "Networks"), *endpoint;
        const char *name;

        json_object_foreach(endpoints, name, endpoint) {
                const char *address = docker_saved_text(endpoint, "IPAddress", NULL);
                _cleanup_free_ char *text = NULL;

                if (asprintf(&text, "%s%s%s", name, address && *address ? ", " : "", address ? address : "") < 0)
                        text = NULL;
                add_row(rows, "network", text);
        }
}

static json_t *summary(const struct docker_saved *saved) {
        _cleanup_free_ char *engine = NULL, *container = NULL, *files = NULL;
        json_t *rows = json_array(), *volume;
        size_t index;

        if (asprintf(&engine, "Docker %s", docker_saved_text(saved->engine, "Version", NULL)) < 0)
                engine = NULL;
        if (asprintf(&container, "%s (%.12s)", docker_saved_name(saved), docker_saved_id(saved)) < 0)
                container = NULL;
        if (saved->rootfs_reason && asprintf(&files, "not in the checkpoint: %s", saved->rootfs_reason) < 0)
                files = NULL;
        add_row(rows, "engine", engine);
        add_row(rows, "container", container);
        add_row(rows, "image", docker_saved_text(saved->inspect, "Config", "Image", NULL));
        add_networks(saved, rows);
        json_array_foreach(saved->volumes, index, volume) {
                _cleanup_free_ char *text = is_outside(volume) ? describe_volume(volume) : NULL;

                add_row(rows, "volume", text);
        }
        add_row(rows, "changed files", saved->rootfs_reason ? files : "in " DOCKER_SAVED_ROOTFS);
        return rows;
}

int docker_gather_summary(const struct docker_saved *saved, const char *directory, struct st_error **err) {
        _cleanup_json_ json_t *root = json_pack("{s:i, s:o}", "version", 1, "rows", summary(saved));
        _cleanup_free_ char *text = root ? json_dumps(root, JSON_COMPACT) : NULL, *path = NULL;

        if (!text || asprintf(&path, "%s/" ST_SUMMARY_FILE, directory) < 0)
                return no_memory(err);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        return fdio_write(fd, text, strlen(text), -1, ST_SUMMARY_FILE, err);
}
