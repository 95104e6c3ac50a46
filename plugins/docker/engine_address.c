/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_address.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "../common/cleanup.h"
#include "engine.h"

/* HOST, HOST:PORT or [IPV6]:PORT, and nothing that would change the meaning of a URL. */
static bool is_authority(const char *text) {
        size_t n = strlen(text);
        return n > 0 && n <= 300 &&
               strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") == n;
}

static const char *port_of(const char *authority) {
        const char *bracket = strrchr(authority, ']');
        return strchr(bracket ? bracket : authority, ':');
}

static int find_certificates(struct engine_address *address, struct st_error **err) {
        const char *path = getenv("DOCKER_CERT_PATH");
        const char *home = getenv("HOME");
        static const char *const files[] = { "ca.pem", "cert.pem", "key.pem" };

        if (path && *path)
                address->cert_path = strdup(path);
        else if (asprintf(&address->cert_path, "%s/.docker", home ? home : "") < 0)
                address->cert_path = NULL;
        if (!address->cert_path)
                return st_error_errno(err, ENOMEM, "cannot find Docker's certificates");

        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
                _cleanup_free_ char *file = NULL;
                if (asprintf(&file, "%s/%s", address->cert_path, files[i]) < 0)
                        return st_error_errno(err, ENOMEM, "cannot find Docker's certificates");
                if (access(file, R_OK) < 0) {
                        int r = st_error_errno(err, errno, "cannot read %s", file);
                        st_error_hint(err, "DOCKER_CERT_PATH names the directory with ca.pem, cert.pem and key.pem");
                        return r;
                }
        }
        return 0;
}

static int parse_tcp(const char *authority, struct engine_address *address, struct st_error **err) {
        const char *verify = getenv("DOCKER_TLS_VERIFY");
        bool tls = verify && *verify;

        if (!is_authority(authority))
                return st_error_set(err, EINVAL, "\"%s\" is not the address of a Docker engine (tcp://HOST:PORT)",
                                    address->text);
        /* The ports that docker itself assumes. */
        const char *port = port_of(authority) ? "" : tls ? ":2376" : ":2375";
        if (asprintf(&address->url, "%s://%s%s", tls ? "https" : "http", authority, port) < 0) {
                address->url = NULL;
                return st_error_errno(err, ENOMEM, "cannot use the address of the Docker engine");
        }
        return tls ? find_certificates(address, err) : 0;
}

static int parse_unix(const char *path, struct engine_address *address, struct st_error **err) {
        if (*path != '/' || strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
                return st_error_set(err, EINVAL,
                                    "\"%s\" is not the address of a socket (unix:///PATH, at most %zu bytes)",
                                    address->text, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
        address->socket = strdup(path);
        address->url = strdup("http://localhost");
        if (!address->socket || !address->url)
                return st_error_errno(err, ENOMEM, "cannot use the address of the Docker engine");
        return 0;
}

int engine_address_parse(const char *host, struct engine_address *address, struct st_error **err) {
        int r;

        *address = (struct engine_address){ 0 };
        if (!host)
                host = getenv("DOCKER_HOST");
        if (!host || !*host)
                host = ENGINE_DEFAULT_HOST;
        address->text = strdup(host);
        if (!address->text)
                return st_error_errno(err, ENOMEM, "cannot use the address of the Docker engine");

        if (strncmp(host, "unix://", 7) == 0)
                return parse_unix(host + 7, address, err);
        if (strncmp(host, "tcp://", 6) == 0)
                return parse_tcp(host + 6, address, err);
        if (strncmp(host, "ssh://", 6) == 0) {
                r = st_error_set(err, EOPNOTSUPP, "cannot reach the Docker engine at %s: ssh is not supported", host);
                st_error_hint(err,
                              "run stasis on that machine, or forward its socket and set DOCKER_HOST=unix:///PATH");
                return r;
        }
        r = st_error_set(err, EINVAL, "\"%s\" is not the address of a Docker engine", host);
        st_error_hint(err, "unix:///PATH or tcp://HOST:PORT, in DOCKER_HOST");
        return r;
}

void engine_address_clear(struct engine_address *address) {
        free(address->text);
        free(address->socket);
        free(address->url);
        free(address->cert_path);
        *address = (struct engine_address){ 0 };
}
