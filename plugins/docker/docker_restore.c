/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_restore.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_collision.h"
#include "docker_criu_conf.h"
#include "docker_criu_log.h"
#include "docker_files.h"
#include "docker_follow.h"
#include "docker_networks.h"
#include "docker_pages.h"
#include "docker_place.h"
#include "docker_restore_context.h"
#include "docker_root.h"
#include "docker_target.h"
#include "fdio.h"

#define OPTIONS_MAX 8

static const char *given(const char *text) {
        return text ? text : "";
}

static bool is_set(protobuf_c_boolean has, protobuf_c_boolean value) {
        return has && value;
}

/* What the request asks for and nobody could do. */
static int check_request(struct docker_restore *ctx, const Plugins__Docker__Docker *details, struct st_error **err) {
        const Daemon__RestoreReq *req = ctx->restore->req;

        if (*given(details->id) && *given(details->name))
                return st_error_set(err, EINVAL, "either into container %s or into a new one called %s, not both",
                                    details->id, details->name);
        if (*given(details->name) && engine_check_reference("container", details->name, err) < 0)
                return -EINVAL;
        if (*given(req->log) && st_operation_no_server(ctx->restore->operation)) {
                int r = st_error_set(err, EOPNOTSUPP,
                                     "without the daemon nobody carries the container's output to a "
                                     "file");
                st_error_hint(err, "see 'docker logs'");
                return r;
        }
        return 0;
}

static int read_saved(struct docker_restore *ctx, struct st_error **err) {
        struct st_restore *restore = ctx->restore;
        _cleanup_free_ char *text = NULL;
        size_t size;

        int r = st_restore_read(restore, DOCKER_SAVED_FILE, &text, &size, err);
        if (r == -ENOENT)
                st_error_hint(err, "it was not made by 'stasis dump docker'");
        if (r == 0)
                r = docker_saved_parse(text, size, &ctx->saved, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < st_restore_count(restore); i++)
                if (strcmp(st_restore_name(restore, i), DOCKER_SAVED_ROOTFS) == 0)
                        ctx->has_files = true;
        ctx->connections = is_set(restore->criu->has_tcp_established, restore->criu->tcp_established);
        return 0;
}

/* The container of that ID or name. @return 0 also when there is none: *ret stays NULL */
static int find(struct docker_restore *ctx, const char *reference, json_t **ret, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;

        int r = engine_container_inspect(ctx->engine, reference, ret, &error);
        if (r < 0 && r != -ENOENT) {
                st_error_move(err, error);
                error = NULL;
                return r;
        }
        return 0;
}

static int check_target(struct docker_restore *ctx, struct st_error **err) {
        const char *status = docker_inspect_status(ctx->target), *name = docker_inspect_name(ctx->target);
        const char *image = docker_saved_text(ctx->target, "Image", NULL);
        const char *saved_image = docker_saved_text(ctx->saved.image, "Id", NULL);

        if (strcmp(status, "exited") != 0 && strcmp(status, "created") != 0)
                return docker_restore_problem(
                        ctx, err, EBUSY, "container", name,
                        strcmp(status, "running") == 0 || strcmp(status, "paused") == 0
                                ? "stop it; or restore into a new one with --name NEW"
                                : "wait until it is stopped, or restore into a new one with --name NEW",
                        "container %s is %s", name, *status ? status : "in no known state");
        if (!image || strcmp(image, saved_image) != 0)
                return docker_restore_problem(
                        ctx, err, EINVAL, "image", name, "restore into a new one with --name NEW",
                        "container %s is made of another image (%.19s) than the checkpoint (%.19s)", name,
                        image ? image : "none", saved_image);
        docker_restore_fine(ctx, "container", name, "is %s", status);
        return 0;
}

static int find_new(struct docker_restore *ctx, struct st_error **err) {
        _cleanup_json_ json_t *other = NULL;

        int r = find(ctx, ctx->new_name, &other, err);
        if (r < 0)
                return r;
        if (other && strcmp(docker_inspect_name(other), ctx->new_name) == 0)
                return docker_restore_problem(
                        ctx, err, EEXIST, "name", ctx->new_name, "choose another name, or remove that one",
                        "there is a container %s already (%s)", ctx->new_name, docker_inspect_status(other));
        docker_restore_fine(ctx, "name", ctx->new_name, "is free");
        return 0;
}

/* Which container it is to become: sets ctx->target and ctx->id unless it is a new one. */
static int find_target(struct docker_restore *ctx, const Plugins__Docker__Docker *details, struct st_error **err) {
        int r;

        if (ctx->new_name)
                return find_new(ctx, err);
        r = find(ctx, *given(details->id) ? details->id : docker_saved_id(&ctx->saved), &ctx->target, err);
        if (r == 0 && !ctx->target && !*given(details->id))
                r = find(ctx, docker_saved_name(&ctx->saved), &ctx->target, err);
        if (r < 0)
                return r;
        if (!ctx->target) {
                _cleanup_free_ char *hint = NULL;
                const char *name = docker_saved_name(&ctx->saved);

                if (asprintf(&hint, "'--name %s' makes a new one from the configuration in the checkpoint", name) < 0)
                        hint = NULL;
                if (*given(details->id))
                        return docker_restore_problem(ctx, err, ENOENT, "container", details->id, hint,
                                                      "there is no container %s", details->id);
                return docker_restore_problem(ctx, err, ENOENT, "container", name, hint,
                                              "container %s, of which the checkpoint was made, does not exist any more",
                                              name);
        }
        ctx->id = strdup(docker_inspect_id(ctx->target));
        if (!ctx->id)
                return st_error_errno(err, ENOMEM, "cannot keep the ID of the container");
        return check_target(ctx, err);
}

/* --files of the request: "check", "keep", or what is the default here, "rollback". */
static bool files_are(const struct docker_restore *ctx, const char *how) {
        return ctx->restore->req->files && strcmp(ctx->restore->req->files, how) == 0;
}

/* What an existing container has changed since: told by --check, refused by --files=check. */
static int check_files(struct docker_restore *ctx, struct st_error **err) {
        struct docker_files files = { .home = -EBADF };
        bool same = true;

        if (!ctx->target || !ctx->has_files || !(ctx->check || files_are(ctx, "check")))
                return 0;
        if (docker_inspect_pid(ctx->target) > 0)
                return 0; /* a finding by now */
        int r = docker_files_open(ctx, ctx->target, &files, err);
        if (r == 0)
                r = docker_files_compare(ctx, &files, -1, &same, err);
        docker_files_close(&files);
        if (r < 0)
                return r;
        if (same)
                docker_restore_fine(ctx, "files", NULL, "as they were at the dump");
        else if (files_are(ctx, "check"))
                return docker_restore_problem(
                        ctx, err, ESTALE, "files", docker_inspect_name(ctx->target),
                        "--files=rollback puts those of the checkpoint back, --files=keep uses them as they are",
                        "the container's files have changed since the dump");
        else
                docker_restore_warn(ctx, "files", NULL,
                                    files_are(ctx, "keep")
                                            ? "changed since the dump, and used as they are"
                                            : "changed since the dump: those of the checkpoint would be put "
                                              "back, the present ones kept");
        return 0;
}

static int open_engine(struct docker_restore *ctx, const Plugins__Docker__Docker *details, struct st_error **err) {
        int cancel_fd = st_operation_cancel_fd(ctx->restore->operation);

        int r = docker_engine_open(details->host, details->certpath, cancel_fd, &ctx->engine, err);
        if (r == 0)
                r = docker_engine_open(details->host, details->certpath, -1, &ctx->firm, err);
        if (r == 0)
                r = engine_version(ctx->engine, &ctx->version, err);
        /* Not engine_info(): its limit is for an engine that is only slow. */
        if (r >= 0)
                r = engine_call(ctx->engine, "GET", "/info", NULL, ENGINE_SHORT, &ctx->info, err);
        if (r >= 0)
                r = docker_root_open(engine_address(ctx->engine), &ctx->root_fd, err);
        return r < 0 ? r : 0;
}

/* Looks at all that could be wrong; nothing is touched. */
static int look(struct docker_restore *ctx, const Plugins__Docker__Docker *details, struct st_error **err) {
        int r = open_engine(ctx, details, err);

        if (r == 0)
                r = read_saved(ctx, err);
        if (r == 0)
                r = docker_restore_check_engine(ctx, err);
        if (r == 0)
                r = find_target(ctx, details, err);
        if (r == 0)
                r = docker_restore_check_image(ctx, err);
        if (r == 0)
                r = docker_restore_check_volumes(ctx, err);
        if (r == 0)
                r = docker_networks_check(ctx, err);
        return r < 0 ? r : check_files(ctx, err);
}

static bool is_wanted(const char *name, void *userdata) {
        (void)userdata;
        return strcmp(name, DOCKER_SAVED_FILE) != 0 && strcmp(name, DOCKER_SAVED_ENGINE_CONFIG) != 0;
}

/*
 * A checkpoint that is a directory on the engine's file system needs no copy: the engine only reads what it starts
 * from. With --fast CRIU itself would open these files, and one that is configured to (auto-dedup) changes them.
 *
 * @return 1; 0: it must be unpacked; -errno: the checkpoint is damaged, or the operation cancelled
 */
static int link_images(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err) {
        struct st_restore *restore = ctx->restore;
        const char *directory;
        struct stat there, here;

        if (ctx->fast || stat(restore->req->path, &there) < 0 || !S_ISDIR(there.st_mode) ||
            fstat(place->fd, &here) < 0 || there.st_dev != here.st_dev)
                return 0;
        int r = st_restore_directory(restore, &directory, err);
        if (r < 0)
                return r;
        _cleanup_close_ int from = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        for (size_t i = 0; i < st_restore_count(restore); i++) {
                const char *name = st_restore_name(restore, i);
                if (!is_wanted(name, NULL))
                        continue;
                if (fstatat(from, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(there.st_mode) &&
                    linkat(from, name, place->fd, name, 0) == 0)
                        continue;
                for (size_t j = 0; j < i; j++) /* not on one file system after all, too many links, … */
                        (void)unlinkat(place->fd, st_restore_name(restore, j), 0);
                return 0;
        }
        return 1;
}

/*
 * What the engine makes of two directories with the same files collides when they are started from at the same time
 * (docker_collision.h): so each has a file of its own.
 */
static int mark(const struct docker_place *place, struct st_error **err) {
        _cleanup_close_ int fd =
                openat(place->fd, "stasis.place", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return st_error_errno(err, errno, "cannot write to the directory of the checkpoint");
        return fdio_write(fd, place->name, strlen(place->name), -1, "to the directory of the checkpoint", err);
}

/* CRIU's images to where the engine looks, the archive of the files out of there again: *ret_tar is its descriptor. */
static int unpack(struct docker_restore *ctx, const struct docker_place *place, int *ret_tar, struct st_error **err) {
        char path[DOCKER_ROOT_PATH_MAX];

        int r = link_images(ctx, place, err);
        if (r == 0)
                r = st_restore_unpack(ctx->restore, docker_root_fd_path(place->fd, path), is_wanted, NULL, err);
        if (r >= 0)
                r = mark(place, err);
        if (r < 0)
                fdio_hint_full(place->fd, err);
        if (r < 0 || !ctx->has_files)
                return r;
        int fd = openat(place->fd, DOCKER_SAVED_ROOTFS, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open " DOCKER_SAVED_ROOTFS);
        *ret_tar = fd;
        if (unlinkat(place->fd, DOCKER_SAVED_ROOTFS, 0) < 0)
                return st_error_errno(err, errno, "cannot remove " DOCKER_SAVED_ROOTFS);
        return 0;
}

static int put_files(struct docker_restore *ctx, struct docker_files *files, int tar_fd, struct st_error **err) {
        bool same = false;

        if (tar_fd < 0 || files_are(ctx, "keep"))
                return 0;
        int r = docker_files_open(ctx, ctx->target, files, err);
        /* Only what differs is replaced: nothing has to be kept then. */
        if (r == 0 && !ctx->new_name)
                r = docker_files_compare(ctx, files, tar_fd, &same, err);
        return r < 0 || same ? r : docker_files_replace(ctx, files, tar_fd, err);
}

/* The options of CRIU that runc does not set itself, as lines of its configuration. */
static void find_options(const struct docker_restore *ctx, const char *options[static OPTIONS_MAX]) {
        const Criu__CriuOpts *criu = ctx->restore->criu;
        size_t n = 0;

        if (is_set(criu->has_tcp_close, criu->tcp_close))
                options[n++] = "tcp-close";
        else if (ctx->connections)
                options[n++] = "tcp-established";
        if (is_set(criu->has_ext_unix_sk, criu->ext_unix_sk))
                options[n++] = "ext-unix-sk";
        if (is_set(criu->has_file_locks, criu->file_locks))
                options[n++] = "file-locks";
        if (is_set(criu->has_link_remap, criu->link_remap))
                options[n++] = "link-remap";
        /*
         * docker run --init: the mount of docker-init fails with CRIU's newer way ("mnt-v2: Can't remount", tried on
         * 4.2.1).
         */
        if (json_is_true(json_object_get(json_object_get(ctx->saved.inspect, "HostConfig"), "Init")))
                options[n++] = "mntns-compat-mode";
        options[n] = NULL;
}

/* Starts it; the log of a CRIU that fails becomes part of the error. */
static int start_once(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err) {
        struct st_operation *operation = ctx->restore->operation;
        _cleanup_error_ struct st_error *refusal = NULL;

        struct docker_criu_log *log = docker_criu_log_watch(ctx->root_fd, ctx->id);
        int r = engine_container_start(ctx->firm, ctx->id, place->name, &refusal);
        ctx->started = r != -EBUSY; /* somebody else has started it */
        bool has_log = docker_criu_log_end(log, r < 0 ? st_operation_work_dir(operation) : NULL);
        if (r == 0)
                return 0;
        /* The engine says only that CRIU failed, and names a log that it has removed. */
        if (has_log && strstr(st_error_message(refusal), "criu"))
                return st_restore_criu_failed(ctx->restore, st_operation_work_dir(operation), 1 << 8, err);
        st_error_move(err, refusal);
        refusal = NULL;
        return r;
}

/* As start_once(), again when the engine still has what another start from the same images has sent. */
static int start_until_taken(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err) {
        for (unsigned tries = 1;; tries++) {
                _cleanup_error_ struct st_error *error = NULL;

                int r = start_once(ctx, place, &error);
                if (r == 0)
                        return 0;
                if (!docker_collided(error) || tries == DOCKER_COLLISION_TRIES)
                        return st_error_move(err, TAKE_PTR(error));
                r = docker_collision_wait(ctx->restore->operation, tries, err);
                if (r < 0)
                        return r;
        }
}

/*
 * As start_until_taken(), with the memory set aside if that was asked for and can be. When the start fails then it is
 * tried again in the ordinary way: so --fast never makes a restore fail.
 */
static int start_either(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err) {
        _cleanup_error_ struct st_error *refusal = NULL;
        int r;

        if (!ctx->fast)
                return start_until_taken(ctx, place, err);
        r = docker_pages_set_aside(ctx, place, &refusal);
        if (r == 0)
                r = start_until_taken(ctx, place, &refusal);
        if (r == 0 || r == -EBUSY || docker_networks_no_addresses(refusal)) {
                st_error_move(err, TAKE_PTR(refusal));
                return r;
        }
        st_restore_message(ctx->restore, "not the fast way: %s", st_error_message(refusal));
        ctx->fast = false;
        r = docker_pages_put_back(place, err);
        return r < 0 ? r : start_until_taken(ctx, place, err);
}

static int start(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err) {
        _cleanup_criu_conf_ struct docker_criu_conf *conf = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        const char *options[OPTIONS_MAX];

        find_options(ctx, options);
        int r = docker_criu_conf_begin(ctx->restore->operation, engine_address(ctx->engine), options, &conf, err);
        if (r < 0)
                return r;
        r = start_either(ctx, place, &error);
        if (r < 0 && docker_networks_no_addresses(error)) {
                error = st_error_free(error);
                r = docker_networks_give_up_addresses(ctx, &error);
                if (r == 0)
                        r = start_either(ctx, place, &error);
        }
        if (r == 0)
                return 0;
        st_error_move(err, error);
        error = NULL;
        (void)st_error_wrap(err, "the Docker engine could not start container %s from the checkpoint",
                            docker_inspect_name(ctx->target));
        return r;
}

/* It runs: as which process? */
static int look_at_started(struct docker_restore *ctx, struct st_error **err) {
        _cleanup_json_ json_t *inspect = NULL;

        int r = docker_inspect(ctx->firm, ctx->id, &inspect, err);
        if (r == 0)
                r = st_operation_check_cancelled(ctx->restore->operation, err);
        if (r < 0)
                return r;
        pid_t pid = docker_inspect_pid(inspect);
        if (pid <= 0) {
                r = st_error_set(
                        err, ECHILD, "container %s ended right after it was restored, with exit code %lld",
                        docker_inspect_name(inspect),
                        (long long)json_integer_value(json_object_get(json_object_get(inspect, "State"), "ExitCode")));
                st_error_hint(err, "see 'docker logs %s'", docker_inspect_name(inspect));
                return r;
        }
        ctx->restore->pid = pid;
        ctx->restore->waiter = ST_RESTORE_NOBODY;
        docker_networks_compare(ctx, inspect);
        return 0;
}

/* A failure leaves all as it was; what cannot be undone is told. */
static void undo(struct docker_restore *ctx, struct docker_files *files) {
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_json_ json_t *inspect = NULL;
        int code;

        if (!ctx->id)
                return;
        if (ctx->new_name) {
                int r = engine_container_remove(ctx->firm, ctx->id, true, false, &err);
                if (r < 0 && r != -ENOENT)
                        st_log_warning("cannot remove the new container %s: %s", ctx->new_name, st_error_message(err));
                return;
        }
        /* Only under a stopped container can its files be exchanged. */
        if (engine_container_inspect(ctx->firm, ctx->id, &inspect, NULL) == 0 && docker_inspect_pid(inspect) > 0) {
                if (!ctx->started) {
                        docker_files_keep(ctx, files);
                        return;
                }
                (void)engine_container_kill(ctx->firm, ctx->id, NULL, NULL);
                (void)engine_container_wait(ctx->firm, ctx->id, ENGINE_MOVE, &code, NULL);
        }
        if (docker_files_undo(files, &err) < 0)
                st_log_warning("%s", st_error_message(err));
        err = st_error_free(err);
        if (docker_networks_unpin(ctx, &err) < 0)
                st_log_warning("cannot connect container %s as it was: %s", docker_inspect_name(ctx->target),
                               st_error_message(err));
}

static void tell(struct docker_restore *ctx) {
        struct st_restore *restore = ctx->restore;
        json_t *volume;
        size_t i;

        json_array_foreach(ctx->saved.volumes, i, volume) {
                const char *name = docker_saved_text(volume, "Name", NULL),
                           *source = docker_saved_text(volume, "Source", NULL);
                const char *at = docker_saved_text(volume, "Destination", NULL);
                if (strcmp(docker_saved_text(volume, "Type", NULL), "tmpfs") != 0)
                        st_restore_message(restore,
                                           "the volume %s at %s is not in the checkpoint: it is used as it is now",
                                           name && *name ? name
                                           : source      ? source
                                                         : "without a name",
                                           at);
        }
}

/* Between the first look and the lock another restore may have been at it. */
static int look_again(struct docker_restore *ctx, struct st_error **err) {
        if (ctx->new_name)
                return docker_create_name(ctx, err);
        json_decref(TAKE_PTR(ctx->target));
        int r = docker_inspect(ctx->firm, ctx->id, &ctx->target, err);
        return r < 0 ? r : check_target(ctx, err);
}

/*
 * A job, and whatever is to be attached to or logged, is followed: its streams, its exit code. All else belongs to the
 * engine alone.
 */
static int start_follower(struct docker_restore *ctx, struct docker_follower *follower, struct st_error **err) {
        struct st_restore *restore = ctx->restore;
        bool terminal = restore->req->attachable &&
                        json_is_true(json_object_get(json_object_get(ctx->target, "Config"), "Tty"));
        int stdio[3], r;

        if (st_operation_no_server(restore->operation) ||
            !(restore->req->attachable || *given(restore->req->log) || st_operation_jid(restore->operation)))
                return 0;
        r = st_restore_streams(restore, terminal, stdio, err);
        if (r < 0)
                return r;
        if (!json_is_true(json_object_get(json_object_get(ctx->target, "Config"), "OpenStdin")) && !terminal)
                common_closep(&stdio[0]), stdio[0] = -EBADF;
        r = docker_follower_start(restore->operation, engine_address(ctx->engine), ctx->id, stdio, terminal, follower,
                                  err);
        for (int i = 0; i < 3; i++)
                common_closep(&stdio[i]);
        return r;
}

static int perform(struct docker_restore *ctx, struct st_error **err) {
        __attribute__((cleanup(docker_follower_stop))) struct docker_follower follower = DOCKER_FOLLOWER_NULL;
        struct docker_place place = { -EBADF, -EBADF, "" };
        struct docker_files files = { .home = -EBADF };
        _cleanup_close_ int tar = -EBADF;
        int r = 0;

        docker_place_clean(ctx);
        docker_create_clean(ctx);
        (void)docker_criu_conf_mend_at(ctx->root_fd, NULL); /* what is in the way there is told by who needs it */
        if (ctx->new_name)
                r = docker_create(ctx, err);
        if (r == 0)
                r = docker_place_make(ctx, ctx->new_name, &place, err);
        if (r == 0)
                r = look_again(ctx, err);
        if (r == 0)
                r = unpack(ctx, &place, &tar, err);
        if (r == 0)
                r = put_files(ctx, &files, tar, err);
        if (r == 0 && !ctx->new_name)
                r = docker_networks_pin(ctx, err);
        if (r == 0)
                r = start_follower(ctx, &follower, err);
        if (r == 0)
                r = start(ctx, &place, err);
        if (r == 0)
                r = look_at_started(ctx, err);
        if (r == 0 && follower.pid > 0) {
                ctx->restore->waiter = follower.pid;
                docker_follower_go(&follower);
        }
        if (r == 0) {
                docker_files_keep(ctx, &files);
                tell(ctx);
        } else
                undo(ctx, &files);
        docker_place_remove(&place);
        docker_files_close(&files);
        return r;
}

static void clear(struct docker_restore *ctx) {
        engine_close(ctx->engine);
        engine_close(ctx->firm);
        json_decref(ctx->info);
        json_decref(ctx->target);
        json_decref(ctx->endpoints);
        docker_saved_clear(&ctx->saved);
        free(ctx->id);
        free(ctx->image);
        if (ctx->root_fd >= 0)
                close(ctx->root_fd);
}

int docker_restore_run(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        static const Plugins__Docker__Docker nothing = PLUGINS__DOCKER__DOCKER__INIT;
        const Daemon__Details *all = restore->req->details;
        const Plugins__Docker__Docker *details = all && all->docker ? all->docker : &nothing;
        _cleanup_(clear) struct docker_restore ctx = { .restore = restore, .root_fd = -EBADF };

        (void)next; /* the handler is the end of the chain */
        ctx.check = restore->req->has_check && restore->req->check;
        ctx.new_name = *given(details->name) ? details->name : NULL;
        ctx.fast = is_set(details->has_fast, details->fast);
        int r = check_request(&ctx, details, err);
        if (r == 0)
                r = look(&ctx, details, err);
        return r < 0 || ctx.check ? r : perform(&ctx, err);
}
