/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One HTTP exchange with a Docker engine, by libcurl's multi interface, so that it can be cancelled and never takes
 * longer than its limit. Knows nothing of JSON or versions. One thread at a time.
 */

#include <stddef.h>

#include <stasis/error.h>

#include "engine_address.h"

struct engine_http;

struct engine_http_request {
        const char *method;
        const char *path;
        const char *body; /* JSON; NULL: none */
        int upload_fd;    /* a tar archive to send instead of a body; -1: none */
        int download_fd;  /* where the body of a successful answer goes; -1: into the answer */
        unsigned limit;   /* milliseconds; 0: none. Streams fail when nothing moves for a minute */
};

struct engine_http_answer {
        long status;
        char *body; /* ends with a 0 that size does not count */
        size_t size, room;
};

int engine_http_open(const struct engine_address *address, int cancel_fd, struct engine_http **ret,
                     struct st_error **err);

/** Tells a handle of libcurl where the engine is, and the certificates; its URL is for the caller to set. */
void engine_http_set_address(void *easy, const struct engine_address *address);

struct engine_http *engine_http_close(struct engine_http *http);

/** @param answer body to be freed, also on failure. The error names the address and says what to do. */
int engine_http_exchange(struct engine_http *http, const struct engine_http_request *request,
                         struct engine_http_answer *answer, struct st_error **err);
