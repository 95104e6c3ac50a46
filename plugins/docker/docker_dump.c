/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The container is paused by the engine while CRIU saves its memory and we save what it changed in its root filesystem,
 * so both are of one moment. What the engine then does with CRIU's images does not keep the container waiting.
 */

#define _GNU_SOURCE
#include "docker_dump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stasis/checkpoint.h>
#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_collision.h"
#include "docker_criu_conf.h"
#include "docker_gather.h"
#include "docker_root.h"
#include "docker_saved.h"
#include "docker_shim.h"
#include "docker_shot.h"
#include "docker_silence.h"
#include "docker_target.h"
#include "layer.h"

#define GHOST_LIMIT_DEFAULT 10000000 /* of every dump, whether the caller said so or not */
#define OPTIONS_MAX 8
#define UNPAUSE_ATTEMPTS 20
#define UNPAUSE_STEP_MS 100

/** One dump from the pause to its end. */
struct dumping {
        struct st_dump *dump;
        struct docker_target *target;
        const char *directory;
        struct docker_saved saved;
        struct docker_shot shot;
        struct docker_criu_conf *conf;
        bool paused; /* by us, and not unpaused yet */
};

/** Lines for the CRIU that the engine runs; what it has no flag for. @param ghost holds one of them */
static void choose_options(const struct st_dump *dump, const char *options[static OPTIONS_MAX], char ghost[static 32]) {
        const Criu__CriuOpts *criu = dump->criu;
        size_t n = 0;

        if (criu->has_tcp_established && criu->tcp_established)
                options[n++] = "tcp-established";
        if (criu->has_tcp_skip_in_flight && criu->tcp_skip_in_flight)
                options[n++] = "skip-in-flight";
        if (criu->has_file_locks && criu->file_locks)
                options[n++] = "file-locks";
        if (criu->has_link_remap && criu->link_remap)
                options[n++] = "link-remap";
        if (criu->has_ext_unix_sk && criu->ext_unix_sk)
                options[n++] = "ext-unix-sk";
        if (criu->has_ghost_limit && criu->ghost_limit != GHOST_LIMIT_DEFAULT) {
                snprintf(ghost, 32, "ghost-limit %u", criu->ghost_limit);
                options[n++] = ghost;
        }
        options[n] = NULL;
}

/** Its state as the engine has it: 1 when it is that one, 0 when it is another, or there is no such container. */
static int is_in_state(const struct dumping *dumping, const char *status) {
        json_t *inspect = NULL;
        int r = docker_inspect(dumping->target->firm, dumping->target->id, &inspect, NULL);

        if (r >= 0)
                r = strcmp(docker_inspect_status(inspect), status) == 0;
        json_decref(inspect);
        return r == -ENOENT ? 0 : r;
}

/** The engine answers "unpause" when CRIU has ended; a busy one may take longer than a call. */
static void unpause(struct dumping *dumping) {
        _cleanup_error_ struct st_error *error = NULL;

        if (dumping->paused)
                docker_criu_wait(dumping->target->pid, 0);
        for (int i = 0; dumping->paused && i < UNPAUSE_ATTEMPTS; i++) {
                error = st_error_free(error);
                int r = engine_container_unpause(dumping->target->firm, dumping->target->id, &error);
                /* Somebody else has unpaused or ended it: the engine has an error for that, too. */
                if (r >= 0 || (r != -ETIMEDOUT && is_in_state(dumping, "paused") == 0))
                        dumping->paused = false;
                else if (r != -ETIMEDOUT)
                        (void)poll(NULL, 0, UNPAUSE_STEP_MS);
        }
        if (dumping->paused && error)
                st_log_error("the container %s may still be paused: %s", dumping->target->name,
                             st_error_message(error));
        if (!dumping->paused) {
                st_dump_unguard(dumping->dump);
                st_dump_thawed(dumping->dump);
        }
}

static int pause_container(struct dumping *dumping, struct st_error **err) {
        int r;

        if (dumping->target->paused || dumping->paused)
                return 0;
        r = st_dump_guard(dumping->dump, err);
        if (r < 0)
                return r;
        /* Also when the call fails: it may have taken effect. */
        dumping->paused = true;
        return engine_container_pause(dumping->target->firm, dumping->target->id, err);
}

/** The upper directory of the container's overlay, as the engine sees it; NULL when there is none, with the reason. */
static const char *upper_directory(const struct docker_saved *saved, char **ret_reason) {
        const char *upper = docker_saved_text(saved->inspect, "GraphDriver", "Data", "UpperDir", NULL);

        if (!upper && asprintf(ret_reason, "the storage driver %s does not keep them apart", saved->storage_driver) < 0)
                *ret_reason = NULL;
        return upper;
}

static void on_layer(void *userdata, uint64_t bytes) {
        struct dumping *dumping = userdata;

        st_operation_progress(dumping->dump->operation, "files", bytes, 0);
}

/** What the container changed in its root filesystem, while it is paused. */
static int save_files(struct dumping *dumping, struct st_error **err) {
        struct docker_saved *saved = &dumping->saved;
        const char *upper = upper_directory(saved, &saved->rootfs_reason);
        const struct layer_io io = {
                .cancel_fd = st_operation_cancel_fd(dumping->dump->operation),
                .progress = on_layer,
                .userdata = dumping,
        };
        _cleanup_close_ int from = -EBADF, to = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r;

        if (!upper) {
                st_dump_message(dumping->dump, "not in the checkpoint: the files that the container changed; %s",
                                saved->rootfs_reason);
                return 0;
        }
        from = docker_root_openat(dumping->target->root_fd, upper, O_RDONLY | O_DIRECTORY, 0);
        if (from < 0)
                return st_error_errno(err, from, "cannot open %s, what the container changed of its files", upper);
        if (asprintf(&path, "%s/" DOCKER_SAVED_ROOTFS, dumping->directory) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot save the container's files");
        }
        to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (to < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        r = layer_save(from, to, &io, NULL, err);
        return r < 0 ? st_error_wrap(err, "cannot save the container's files") : 0;
}

/** Paused: CRIU's images and the files. Returns with the container running again, unless it is to be stopped. */
static int shoot(struct dumping *dumping, struct st_error **err) {
        bool let_go;
        int r = docker_shot_start(&dumping->shot, err);

        if (r < 0)
                return r;
        st_operation_progress(dumping->dump->operation, "memory", 0, 0);
        r = docker_shot_wait_criu(&dumping->shot, err);
        if (r < 0)
                return r;
        let_go = r == 1;
        /* CRIU has read it: what is not there cannot be left behind. */
        dumping->conf = docker_criu_conf_end(dumping->conf);
        if (!let_go) {
                r = docker_shot_finish(&dumping->shot, err);
                if (r < 0)
                        return r;
        }
        r = save_files(dumping, err);
        if (r < 0)
                return r;
        if (!dumping->dump->stop)
                unpause(dumping);
        st_operation_progress(dumping->dump->operation, "engine", 0, 0);
        return let_go ? docker_shot_finish(&dumping->shot, err) : 0;
}

/** The user's programs before and after a freeze have run: they would not run around a second one. */
static bool has_hooks(const struct st_dump *dump) {
        const struct st_arguments *config = st_operation_config(dump->operation);

        return dump->req->n_hooks > 0 || *st_arguments_list(config, "Hooks.PreDump") ||
               *st_arguments_list(config, "Hooks.PostThaw");
}

/** What a shot has left that failed after the container was saved. */
static int prepare_another(struct dumping *dumping, unsigned tries, struct st_error **err) {
        _cleanup_close_ int directory = open(dumping->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (directory < 0 || (unlinkat(directory, DOCKER_SAVED_ROOTFS, 0) < 0 && errno != ENOENT))
                return st_error_errno(err, errno, "cannot remove " DOCKER_SAVED_ROOTFS);
        if (!dumping->dump->stop && dumping->paused && !has_hooks(dumping->dump))
                unpause(dumping);
        return docker_collision_wait(dumping->dump->operation, tries, err);
}

/** Pauses and saves it, again when the engine could not keep what CRIU had made. */
static int shoot_until_kept(struct dumping *dumping, struct st_error **err) {
        struct st_dump *dump = dumping->dump;
        const char *options[OPTIONS_MAX];
        char ghost[32];
        int r;

        choose_options(dump, options, ghost);
        for (unsigned tries = 1;; tries++) {
                _cleanup_error_ struct st_error *error = NULL;

                r = docker_criu_conf_begin_at(dump->operation, dumping->target->root_fd, options, &dumping->conf,
                                              &error);
                if (r >= 0)
                        r = pause_container(dumping, &error);
                if (r >= 0)
                        r = shoot(dumping, &error);
                if (r >= 0)
                        return r;
                if (!dumping->shot.collided || tries == DOCKER_COLLISION_TRIES || (!dumping->paused && has_hooks(dump)))
                        return st_error_move(err, TAKE_PTR(error));
                r = prepare_another(dumping, tries, err);
                if (r < 0)
                        return r;
        }
}

/** Its connections are in the checkpoint: their other ends are to wait for the restore. */
static bool silence(struct dumping *dumping) {
        const Criu__CriuOpts *criu = dumping->dump->criu;
        _cleanup_error_ struct st_error *error = NULL;

        if (!criu->has_tcp_established || !criu->tcp_established)
                return false;
        if (docker_silence_fits(dumping->target->inspect) && docker_silence(dumping->target->pid, &error) >= 0)
                return true;
        st_dump_message(dumping->dump, "its TCP connections are in the checkpoint, but were reset at its end: %s",
                        error ? st_error_message(error) : "its network is not its own");
        return false;
}

/** The checkpoint is all there is of it then. */
static bool has_ended(const struct dumping *dumping) {
        return is_in_state(dumping, "running") == 0 && is_in_state(dumping, "paused") == 0;
}

/** The checkpoint stands, the container is still paused: it ends without having run on. */
static int end_container(struct dumping *dumping, struct st_error **err) {
        const struct docker_target *target = dumping->target;
        bool silenced = silence(dumping);
        int code, r;

        r = engine_container_kill(target->firm, target->id, NULL, err);
        if (r < 0 && r != -ETIMEDOUT && has_ended(dumping)) {
                if (err)
                        *err = st_error_free(*err);
                st_dump_message(dumping->dump, "the container was ended by somebody else before");
        } else if (r < 0 && r != -ETIMEDOUT) {
                st_dump_withdraw(dumping->dump);
                if (silenced)
                        docker_silence_end(target->pid);
                return st_error_wrap(err, "the checkpoint was removed: the container could not be ended, and runs on");
        }
        dumping->paused = false;
        st_dump_unguard(dumping->dump);
        r = engine_container_wait(target->firm, target->id, ENGINE_MOVE, &code, err);
        /* With --rm it is gone by then. */
        if (r == -ENOENT && err)
                *err = st_error_free(*err);
        return r == -ENOENT ? 0 : r;
}

static int finish(struct dumping *dumping, struct st_error **err) {
        const struct docker_target *target = dumping->target;
        int r = docker_saved_write(&dumping->saved, dumping->directory, err);

        if (r >= 0)
                r = docker_gather_summary(&dumping->saved, dumping->directory, err);
        if (r < 0 || !dumping->dump->stop)
                return r;
        r = st_dump_commit(dumping->dump, err);
        if (r < 0)
                return r;
        r = end_container(dumping, err);
        if (r >= 0 && json_is_true(json_object_get(json_object_get(target->inspect, "HostConfig"), "AutoRemove")))
                st_dump_message(dumping->dump, "the engine removes the container, as it was started with --rm: "
                                               "its restore needs --name");
        return r;
}

/**
 * In the order in which it must be undone. CRIU thaws and freezes the container itself: the engine waits for its own,
 * but knows nothing of that of --fast.
 */
static void clear(struct dumping *dumping) {
        if (dumping->shot.runc)
                docker_shot_clear(&dumping->shot);
        unpause(dumping);
        docker_shot_clear(&dumping->shot);
        docker_criu_conf_end(dumping->conf);
        docker_saved_clear(&dumping->saved);
}

int docker_dump_run(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        __attribute__((cleanup(clear))) struct dumping dumping = { .dump = dump, .target = docker_target() };
        int r;

        (void)next;
        r = st_dump_directory(dump, &dumping.directory, err);
        if (r >= 0)
                r = docker_gather(dumping.target, &dumping.saved, err);
        if (r >= 0)
                r = docker_shot_prepare(&dumping.shot, dump, dumping.target, dumping.directory, err);
        if (r < 0)
                return r;
        r = shoot_until_kept(&dumping, err);
        if (r < 0 && r != -ECANCELED && docker_proc_number(dumping.target->pid, "TracerPid") < 0)
                (void)st_error_wrap(err, "the container ended while it was dumped");
        if (r >= 0)
                r = finish(&dumping, err);
        if (r >= 0)
                docker_gather_tell(dumping.target, &dumping.saved, dump);
        return r;
}
