/* SPDX-License-Identifier: Apache-2.0 */
#include "docker_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/cleanup.h"
#include "engine.h"
#include "fdio.h"

#define VERSION 1

void docker_saved_clear(struct docker_saved *saved) {
        json_decref(saved->engine);
        json_decref(saved->inspect);
        json_decref(saved->image);
        json_decref(saved->networks);
        json_decref(saved->volumes);
        free(saved->storage_driver);
        free(saved->rootfs_reason);
        *saved = (struct docker_saved){ 0 };
}

const char *docker_saved_text(const json_t *object, ...) {
        va_list keys;
        const char *key;

        va_start(keys, object);
        while ((key = va_arg(keys, const char *)))
                object = json_object_get(object, key);
        va_end(keys);
        return json_string_value(object);
}

const char *docker_saved_id(const struct docker_saved *saved) {
        return docker_saved_text(saved->inspect, "Id", NULL);
}

const char *docker_saved_name(const struct docker_saved *saved) {
        const char *name = docker_saved_text(saved->inspect, "Name", NULL);

        return name && *name == '/' ? name + 1 : name;
}

/* The value of a key, with a reference of its own; NULL when it is not of that type. */
static json_t *take(const json_t *object, const char *key, json_type type) {
        json_t *value = json_object_get(object, key);

        return value && json_typeof(value) == type ? json_incref(value) : NULL;
}

static int bad(struct st_error **err, const char *what) {
        return st_error_set(err, EBADMSG, DOCKER_SAVED_FILE " of the checkpoint is damaged: %s", what);
}

/* What a restore uses without looking again. */
static int check(const struct docker_saved *saved, struct st_error **err) {
        size_t index;
        const char *name;
        json_t *value;

        if (!saved->engine || !saved->inspect || !saved->image || !saved->networks || !saved->volumes ||
            !saved->storage_driver)
                return bad(err, "something is missing in it");
        if (engine_check_reference("container", docker_saved_id(saved), NULL) < 0 ||
            engine_check_reference("container", docker_saved_name(saved), NULL) < 0)
                return bad(err, "it does not name the container");
        if (!json_is_object(json_object_get(saved->inspect, "Config")) ||
            !json_is_object(json_object_get(saved->inspect, "HostConfig")))
                return bad(err, "it has no configuration of the container");
        if (!docker_saved_text(saved->image, "Id", NULL))
                return bad(err, "it does not name the image");
        json_array_foreach(
                saved->volumes, index,
                value) if (!docker_saved_text(value, "Type", NULL) ||
                           !docker_saved_text(value, "Destination", NULL)) return bad(err, "a volume in it is none");
        json_object_foreach(saved->networks, name,
                            value) if (engine_check_reference("network", name, NULL) < 0 ||
                                       !json_is_object(value)) return bad(err, "a network in it is none");
        return 0;
}

int docker_saved_parse(const char *text, size_t size, struct docker_saved *ret, struct st_error **err) {
        _cleanup_saved_ struct docker_saved saved = { 0 };
        json_error_t error;
        const char *driver, *rootfs, *reason;

        if (size > DOCKER_SAVED_MAX)
                return bad(err, "it is too long");
        _cleanup_json_ json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(root))
                return bad(err, "it is no JSON object");
        json_int_t version = json_integer_value(json_object_get(root, "version"));
        if (version > VERSION) {
                int r = st_error_set(err, EBADMSG,
                                     DOCKER_SAVED_FILE " of the checkpoint is of version %lld, this stasis knows %d",
                                     (long long)version, VERSION);
                st_error_hint(err, "use the stasis that made it, or a newer one");
                return r;
        }
        if (version != VERSION)
                return bad(err, "it has no version");
        saved.engine = take(root, "engine", JSON_OBJECT);
        saved.inspect = take(root, "inspect", JSON_OBJECT);
        saved.image = take(root, "image", JSON_OBJECT);
        saved.networks = take(root, "networks", JSON_OBJECT);
        saved.volumes = take(root, "volumes", JSON_ARRAY);
        saved.time = json_integer_value(json_object_get(root, "time"));
        driver = docker_saved_text(root, "storage_driver", NULL);
        saved.storage_driver = driver ? strdup(driver) : NULL;
        rootfs = docker_saved_text(root, "rootfs", NULL);
        reason = docker_saved_text(root, "rootfs_reason", NULL);
        if (!rootfs || (strcmp(rootfs, "diff") != 0 && strcmp(rootfs, "none") != 0))
                return bad(err, "it does not say where the files are");
        if (strcmp(rootfs, "none") == 0) {
                saved.rootfs_reason = strdup(reason ? reason : "the reason is not known");
                if (!saved.rootfs_reason)
                        return st_error_errno(err, ENOMEM, "cannot read " DOCKER_SAVED_FILE);
        }
        int r = check(&saved, err);
        if (r < 0)
                return r;
        *ret = saved;
        saved = (struct docker_saved){ 0 };
        return 0;
}

char *docker_saved_format(const struct docker_saved *saved, struct st_error **err) {
        _cleanup_json_ json_t *root =
                json_pack("{s:i, s:O, s:O, s:O, s:O, s:O, s:s, s:s, s:s*, s:I}", "version", VERSION, "engine",
                          saved->engine, "inspect", saved->inspect, "image", saved->image, "networks", saved->networks,
                          "volumes", saved->volumes, "storage_driver", saved->storage_driver, "rootfs",
                          saved->rootfs_reason ? "none" : "diff", "rootfs_reason", saved->rootfs_reason, "time",
                          (json_int_t)saved->time);
        char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;

        if (!text)
                st_error_set(err, EINVAL, "cannot write what the engine says about the container as JSON");
        return text;
}

int docker_saved_write(const struct docker_saved *saved, const char *directory, struct st_error **err) {
        _cleanup_free_ char *text = docker_saved_format(saved, err), *path = NULL;

        if (!text)
                return -EINVAL;
        if (asprintf(&path, "%s/" DOCKER_SAVED_FILE, directory) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot write " DOCKER_SAVED_FILE);
        }
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        return fdio_write(fd, text, strlen(text), -1, DOCKER_SAVED_FILE, err);
}
