/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where a Docker engine listens, as DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say it. Touches no network. */

#include <stdbool.h>

#include <stasis/error.h>

struct engine_address {
        char *text;      /* as it was given */
        char *socket;    /* the path of a UNIX socket; NULL: TCP */
        char *url;       /* "http://localhost", "https://10.1.2.3:2376" */
        char *cert_path; /* the directory with ca.pem, cert.pem, key.pem; NULL: no TLS */
};

/** @param host NULL: the environment's. @param address to be cleared, also on failure */
int engine_address_parse(const char *host, struct engine_address *address, struct st_error **err);

void engine_address_clear(struct engine_address *address);
