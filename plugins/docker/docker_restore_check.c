/* SPDX-License-Identifier: Apache-2.0 */

/* What a restore looks at before it touches anything: the engine, the image, the volumes. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../common/cleanup.h"
#include "docker_restore_context.h"
#include "docker_root.h"

/* The first release that cannot start from a checkpoint with a network namespace of its own: it hands runc the path of
 * the process 0 ("bind-mount /proc/0/ns/net"), https://github.com/moby/moby/issues/50750. Tried with 28.5. */
#define MAJOR_WITHOUT_NETWORKS 28

int docker_restore_problem(struct docker_restore *ctx, struct st_error **err, int number, const char *check,
                           const char *subject, const char *hint, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list args;

        va_start(args, format);
        int n = vasprintf(&text, format, args);
        va_end(args);
        if (n < 0) {
                text = NULL;
                return st_error_errno(err, ENOMEM, "cannot restore the container");
        }
        if (ctx->check) {
                st_restore_finding(ctx->restore, DAEMON__FINDING_LEVEL__PROBLEM, check, subject, text, hint);
                return 0;
        }
        number = st_error_set(err, number, "%s", text);
        if (hint)
                st_error_hint(err, "%s", hint);
        return number;
}

__attribute__((format(printf, 5, 0))) static void found(struct docker_restore *ctx, Daemon__FindingLevel level,
                                                        const char *check, const char *subject, const char *format,
                                                        va_list args) {
        _cleanup_free_ char *text = NULL;

        if (vasprintf(&text, format, args) < 0) {
                text = NULL;
                return;
        }
        if (ctx->check)
                st_restore_finding(ctx->restore, level, check, subject, text, NULL);
        else if (level != DAEMON__FINDING_LEVEL__OK)
                st_restore_message(ctx->restore, "%s", text);
}

void docker_restore_warn(struct docker_restore *ctx, const char *check, const char *subject, const char *format, ...) {
        va_list args;
        va_start(args, format);
        found(ctx, DAEMON__FINDING_LEVEL__WARNING, check, subject, format, args);
        va_end(args);
}

void docker_restore_fine(struct docker_restore *ctx, const char *check, const char *subject, const char *format, ...) {
        va_list args;
        va_start(args, format);
        found(ctx, DAEMON__FINDING_LEVEL__OK, check, subject, format, args);
        va_end(args);
}

static const char *info_text(const struct docker_restore *ctx, const char *key) {
        const char *text = docker_saved_text(ctx->info, key, NULL);
        return text ? text : "";
}

/* The engine has x86_64, images and the API's versions amd64. */
static const char *architecture(const char *text) {
        return strcmp(text, "amd64") == 0 ? "x86_64" : strcmp(text, "arm64") == 0 ? "aarch64" : text;
}

static int check_features(struct docker_restore *ctx, struct st_error **err) {
        const char *mode = docker_restore_saved(ctx, "HostConfig", "NetworkMode");
        int r = 0;

        if (!ctx->version.experimental && !json_is_true(json_object_get(ctx->info, "ExperimentalBuild")))
                r = docker_restore_problem(
                        ctx, err, EOPNOTSUPP, "engine", NULL,
                        "start dockerd with --experimental, or with \"experimental\": true in its daemon.json",
                        "the Docker engine at %s has no checkpoints: its experimental features are off",
                        engine_address(ctx->engine));
        if (r == 0 && ctx->version.major >= MAJOR_WITHOUT_NETWORKS && strcmp(mode, "host") != 0)
                r = docker_restore_problem(
                        ctx, err, EOPNOTSUPP, "engine", NULL,
                        "restore it with Docker 27 or older; a container with --network host can be restored here",
                        "Docker %s cannot start a container from a checkpoint when it has a network namespace "
                        "of its own (network mode %s)",
                        ctx->version.version, mode);
        return r;
}

static int check_machine(struct docker_restore *ctx, struct st_error **err) {
        const char *there = docker_saved_text(ctx->saved.engine, "Arch", NULL), *here = info_text(ctx, "Architecture");
        const char *system = info_text(ctx, "OSType");
        int r = 0;

        if (strcmp(system, "linux") != 0)
                r = docker_restore_problem(ctx, err, EOPNOTSUPP, "engine", NULL, NULL,
                                           "the Docker engine at %s runs containers of %s, not of Linux",
                                           engine_address(ctx->engine), *system ? system : "another system");
        if (r == 0 && there && *here && strcmp(architecture(there), architecture(here)) != 0)
                r = docker_restore_problem(ctx, err, ENOEXEC, "engine", NULL, "restore it on a machine of that kind",
                                           "the checkpoint was made on %s, this machine is %s", architecture(there),
                                           here);
        return r;
}

static int check_storage(struct docker_restore *ctx, struct st_error **err) {
        const char *driver = info_text(ctx, "Driver");

        if (!ctx->has_files) {
                docker_restore_warn(ctx, "files", NULL,
                                    "what the container changed in its root filesystem is not in the checkpoint: %s",
                                    ctx->saved.rootfs_reason ? ctx->saved.rootfs_reason
                                                             : DOCKER_SAVED_ROOTFS " is missing");
                return 0;
        }
        if (strcmp(driver, ctx->saved.storage_driver) != 0)
                return docker_restore_problem(
                        ctx, err, EOPNOTSUPP, "storage driver", driver,
                        "restore it with an engine that has the same (\"storage-driver\" in daemon.json)",
                        "the files of the checkpoint are of the storage driver %s, this engine has %s",
                        ctx->saved.storage_driver, *driver ? driver : "none that it tells");
        if (strcmp(driver, "overlay2") != 0)
                return docker_restore_problem(
                        ctx, err, EOPNOTSUPP, "storage driver", driver,
                        "use overlay2 (\"storage-driver\" in daemon.json)",
                        "files cannot be put back with the storage driver %s: by the engine's API alone, "
                        "what the container deleted would come back",
                        driver);
        docker_restore_fine(ctx, "storage driver", driver, "the same as at the dump");
        return 0;
}

/* Where runc looks for it: in the PATH of the engine, which is rarely anything else. */
static void check_criu(struct docker_restore *ctx) {
        static const char *const places[] = { "/usr/local/sbin/criu", "/usr/local/bin/criu", "/usr/sbin/criu",
                                              "/usr/bin/criu",        "/sbin/criu",          "/bin/criu" };

        for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
                _cleanup_close_ int fd = docker_root_openat(ctx->root_fd, places[i], O_PATH, 0);
                if (fd >= 0) {
                        docker_restore_fine(ctx, "CRIU", places[i], "found");
                        return;
                }
        }
        docker_restore_warn(ctx, "CRIU", NULL, "the Docker engine seems to have no CRIU: install it");
}

int docker_restore_check_engine(struct docker_restore *ctx, struct st_error **err) {
        int r = check_features(ctx, err);

        if (r == 0)
                r = check_machine(ctx, err);
        if (r == 0)
                r = check_storage(ctx, err);
        if (r == 0)
                check_criu(ctx);
        if (r == 0)
                docker_restore_fine(ctx, "engine", NULL, "Docker %s at %s", ctx->version.version,
                                    engine_address(ctx->engine));
        return r;
}

/* Is there an image of that name? @return 1 with its ID; 0; or an error */
static int look_up(struct docker_restore *ctx, const char *name, char **ret_id, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_json_ json_t *image = NULL;

        if (!name || engine_check_reference("image", name, NULL) < 0)
                return 0;
        int r = engine_image_inspect(ctx->engine, name, &image, &error);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                st_error_move(err, error);
                error = NULL;
                return r;
        }
        const char *id = docker_saved_text(image, "Id", NULL);
        *ret_id = id ? strdup(id) : NULL;
        return *ret_id ? 1 : st_error_set(err, EPROTO, "the Docker engine tells no ID of the image %s", name);
}

/* Other names of the very same content: digests of a registry. */
static int look_up_digests(struct docker_restore *ctx, char **ret_id, struct st_error **err) {
        json_t *digest;
        size_t i;

        json_array_foreach(json_object_get(ctx->saved.image, "RepoDigests"), i, digest) {
                int r = look_up(ctx, json_string_value(digest), ret_id, err);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int image_missing(struct docker_restore *ctx, const char *name, const char *id, struct st_error **err) {
        _cleanup_free_ char *hint = NULL;
        const char *digest = json_string_value(json_array_get(json_object_get(ctx->saved.image, "RepoDigests"), 0));

        if (asprintf(&hint, "%s%s%s'docker save %s | gzip >image.tar.gz' where it is, 'docker load <image.tar.gz' here",
                     digest ? "docker pull " : "", digest ? digest : "", digest ? "; or " : "", name) < 0)
                hint = NULL;
        return docker_restore_problem(ctx, err, ENOENT, "image", name, hint, "the image %s (%.19s) is not here", name,
                                      id);
}

int docker_restore_check_image(struct docker_restore *ctx, struct st_error **err) {
        const char *name = docker_restore_saved(ctx, "Config", "Image");
        const char *id = docker_saved_text(ctx->saved.image, "Id", NULL);
        _cleanup_free_ char *by_id = NULL, *by_name = NULL;

        if (!ctx->new_name)
                return 0; /* it is made of it already */
        int r = look_up(ctx, id, &by_id, err);
        if (r == 0)
                r = look_up_digests(ctx, &by_id, err);
        if (r < 0)
                return r;
        r = look_up(ctx, name, &by_name, err);
        if (r < 0)
                return r;
        if (!by_id && !by_name)
                return image_missing(ctx, *name ? name : id, id, err);
        if (!by_id)
                docker_restore_warn(ctx, "image", name,
                                    "the image %s is another one now than at the dump (%.19s, was %.19s)", name,
                                    by_name, id);
        else
                docker_restore_fine(ctx, "image", name, "is here");
        /* By its name where that means the same: that is what the engine shows. */
        if (by_name && (!by_id || strcmp(by_name, by_id) == 0))
                ctx->image = strdup(name);
        else
                ctx->image = TAKE_PTR(by_id);
        return ctx->image ? 0 : st_error_errno(err, ENOMEM, "cannot look at the image");
}

static int check_volume(struct docker_restore *ctx, const json_t *volume, struct st_error **err) {
        const char *type = docker_saved_text(volume, "Type", NULL),
                   *at = docker_saved_text(volume, "Destination", NULL);
        const char *name = docker_saved_text(volume, "Name", NULL), *source = docker_saved_text(volume, "Source", NULL);
        _cleanup_free_ char *hint = NULL, *path = NULL;

        if (strcmp(type, "volume") == 0 && name && *name) {
                _cleanup_error_ struct st_error *error = NULL;
                path = engine_path("/volumes/%s", name);
                int r = path ? engine_call(ctx->engine, "GET", path, NULL, ENGINE_SHORT, NULL, &error) : -ENOMEM;
                if (r >= 0)
                        return 0;
                if (r != -ENOENT) {
                        st_error_move(err, error);
                        error = NULL;
                        return r;
                }
                if (asprintf(&hint, "docker volume create %s, and put back what was in it", name) < 0)
                        hint = NULL;
                return docker_restore_problem(ctx, err, ENOENT, "volumes", name, hint,
                                              "the volume %s, which the container has at %s, does not exist", name, at);
        }
        if (strcmp(type, "bind") == 0 && source && *source) {
                _cleanup_close_ int fd = docker_root_openat(ctx->root_fd, source, O_PATH, 0);
                if (fd < 0)
                        return docker_restore_problem(
                                ctx, err, ENOENT, "volumes", source, "make it, with what was in it",
                                "%s, which the container has at %s, is not there: %s", source, at, strerror(-fd));
        }
        return 0;
}

int docker_restore_check_volumes(struct docker_restore *ctx, struct st_error **err) {
        json_t *volume;
        size_t i;

        json_array_foreach(ctx->saved.volumes, i, volume) {
                int r = check_volume(ctx, volume, err);
                if (r < 0)
                        return r;
        }
        return 0;
}
