/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The container that an operation is about: which engine, what it says, and the processes behind it. */

#include <stdbool.h>
#include <sys/types.h>

#include <jansson.h>

#include <daemon/daemon.pb-c.h>
#include <plugins/docker/docker.pb-c.h>
#include <stasis/dump.h>
#include <stasis/error.h>
#include <stasis/operation.h>

#include "engine.h"

/**
 * A client of the engine that a request names: Host, CertPath, or those of our environment.
 *
 * @param cancel_fd -1: not cancelled, for what must be undone
 */
int docker_engine_open(const char *host, const char *cert_path, int cancel_fd, struct engine **ret,
                       struct st_error **err);

/** The details of a request. @return never NULL; -EINVAL as NULL with err when it names no container */
const Plugins__Docker__Docker *docker_details(const Daemon__Details *details, struct st_error **err);

/** GET /containers/ID/json, with a hint when there is no such container. */
int docker_inspect(struct engine *engine, const char *container, json_t **ret, struct st_error **err);

/* From an inspect: never NULL, "" when it is not said. The name is without its slash. */
const char *docker_inspect_name(const json_t *inspect);
const char *docker_inspect_id(const json_t *inspect);
const char *docker_inspect_status(const json_t *inspect);
pid_t docker_inspect_pid(const json_t *inspect);

/** The container of one dump; found by docker_target_find(), valid while what follows it in the chain runs. */
struct docker_target {
        const Plugins__Docker__Docker *details;
        struct engine *engine; /* cancelled with the operation */
        struct engine *firm;   /* not cancelled: for what must happen */
        struct engine_version version;
        json_t *info;    /* GET /info */
        json_t *inspect; /* as it was before anything was touched */
        const char *id, *name;
        pid_t pid;
        bool paused; /* before we came: it stays so */
        int root_fd; /* root directory of the engine's mount namespace, O_PATH; -EBADF */
        int shim_fd; /* what containerd keeps of the container (its "bundle"), O_PATH; -EBADF: cannot be found */
        pid_t shim;  /* who runs runc for it: parent of pid; 0: not known */
};

/** An adapter: finds the container and sets dump->pid, and refuses what cannot be dumped. */
int docker_target_find(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);

/** What docker_target_find() has found; NULL outside of it. */
struct docker_target *docker_target(void);
