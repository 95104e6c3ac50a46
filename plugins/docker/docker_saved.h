/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a checkpoint of a Docker container holds beside CRIU's images: docker.json (all that a restore must know of the
 * container) and rootfs-diff.tar (layer.h). Reading takes untrusted bytes: whoever made the checkpoint may be somebody
 * else. Any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <stasis/error.h>

#define DOCKER_SAVED_FILE "docker.json"
#define DOCKER_SAVED_ROOTFS "rootfs-diff.tar"
/** Of the engine, about its own checkpoint: made anew at a restore, never in ours. */
#define DOCKER_SAVED_ENGINE_CONFIG "config.json"

/** Longer ones are refused. */
#define DOCKER_SAVED_MAX ((size_t)16 << 20)

/** The JSON values are as the engine gave them; docker_saved_clear() gives them back. */
struct docker_saved {
        json_t *engine;       /* "Version", "ApiVersion", "Os", "Arch", "KernelVersion" */
        json_t *inspect;      /* GET /containers/ID/json; its Id, Name, Config and HostConfig are of the right types */
        json_t *image;        /* "Id", "RepoTags", "RepoDigests", "Architecture" */
        json_t *networks;     /* NAME: GET /networks/NAME */
        json_t *volumes;      /* array of "Type", "Name", "Source", "Destination", "RW" */
        char *storage_driver; /* "overlay2" */
        char *rootfs_reason;  /* why there is no DOCKER_SAVED_ROOTFS; NULL: there is one */
        int64_t time;         /* seconds since 1970 */
};

void docker_saved_clear(struct docker_saved *saved);
#define _cleanup_saved_ __attribute__((cleanup(docker_saved_clear)))

/** @param text need not end with a NUL. @return 0; -EBADMSG with what is wrong in it */
int docker_saved_parse(const char *text, size_t size, struct docker_saved *ret, struct st_error **err);

/** @return the text, to be freed; NULL with err */
char *docker_saved_format(const struct docker_saved *saved, struct st_error **err);

/** Writes DOCKER_SAVED_FILE into a directory, 0600. */
int docker_saved_write(const struct docker_saved *saved, const char *directory, struct st_error **err);

/** The text at a path of keys: docker_saved_text(inspect, "HostConfig", "NetworkMode", NULL). NULL: there is none. */
const char *docker_saved_text(const json_t *object, ...) __attribute__((sentinel));

/** @return ID (64 characters) and name (without its slash) of the container; never NULL in what was parsed */
const char *docker_saved_id(const struct docker_saved *saved);
const char *docker_saved_name(const struct docker_saved *saved);
