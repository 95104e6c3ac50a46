/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/cleanup.h"

/*
 * What this client was written for: checkpoints came with 1.25; up to 1.51 (Docker 28.3) nothing of what is used
 * here has changed. https://docs.docker.com/reference/api/engine/version-history/
 */
#define API_OLDEST 1025
#define API_NEWEST 1051
#define MESSAGE_MAX 2000

static int errno_of(long status) {
        switch (status) {
        case 400:
                return EINVAL;
        case 401:
        case 403:
                return EPERM;
        case 404:
                return ENOENT;
        case 409:
                return EBUSY;
        case 501:
                return EOPNOTSUPP;
        case 503:
                return EAGAIN;
        default:
                return EIO;
        }
}

/*
 * "… write /tmp/ctrd-checkpoint123/pages-1.img: no space left on device: unknown": the engine copies a checkpoint
 * several times, to places that nobody has heard of.
 */
static int full(const char *message, const char *reason, struct st_error **err) {
        size_t end = (size_t)(reason - message), begin;
        int r = st_error_set(err, ENOSPC, "%s", message);

        while (end > 0 && (message[end - 1] == ' ' || message[end - 1] == ':'))
                end--;
        for (begin = end; begin > 0 && message[begin - 1] != ' ';)
                begin--;
        while (end > begin + 1 && message[end - 1] != '/') /* the directory says enough */
                end--;
        if (message[begin] == '/')
                st_error_hint(
                        err,
                        "free space in the file system of %.*s; the engine copies a checkpoint to its data and to "
                        "TMPDIR of its containerd, which can be set where dockerd is started",
                        (int)(end - begin), message + begin);
        return r;
}

/* The engine's "message"; proxies answer in HTML, which nobody wants to read in an error. */
static int failed(long status, const char *body, size_t size, struct st_error **err) {
        json_t *answer = size > 0 ? json_loadb(body, size, 0, NULL) : NULL;
        const char *message = json_string_value(json_object_get(answer, "message"));
        int r;

        if (message && *message) {
                size_t n = strlen(message);
                while (n > 0 && (message[n - 1] == '\n' || message[n - 1] == ' '))
                        n--;
                _cleanup_free_ char *text = strndup(message, n < MESSAGE_MAX ? n : MESSAGE_MAX);
                const char *reason = text ? strstr(text, "no space left on device") : NULL;
                r = reason ? full(text, reason, err)
                           : st_error_set(err, errno_of(status), "%s", text ? text : "out of memory");
        } else
                r = st_error_set(err, errno_of(status), "HTTP status %ld without a reason", status);
        json_decref(answer);
        return r;
}

int engine_reply_parse(long status, const char *body, size_t size, json_t **ret, struct st_error **err) {
        json_error_t problem;

        if (ret)
                *ret = NULL;
        if (status >= 400 && status <= 599)
                return failed(status, body, size, err);
        if (status < 200 || status > 399)
                return st_error_set(err, EPROTO, "HTTP status %ld is none of the Docker API's", status);
        if (!ret || size == 0)
                return (int)status;

        /* `null` is the answer for an empty list in some versions. */
        *ret = json_loadb(body, size, JSON_DECODE_ANY, &problem);
        if (!*ret)
                return st_error_set(err, EPROTO, "the answer is not JSON (%s, at byte %d)", problem.text,
                                    problem.position);
        return (int)status;
}

int engine_reply_api(const char *text) {
        unsigned major, minor;
        int end = -1;

        if (text && strlen(text) <= 8 && sscanf(text, "%3u.%3u%n", &major, &minor, &end) == 2 && end >= 0 &&
            !text[end] && strspn(text, "0123456789.") == strlen(text))
                return (int)(major * 1000 + minor);
        return -EINVAL;
}

int engine_reply_negotiate(const char *minimum, const char *newest, char ret[static 16], struct st_error **err) {
        int lowest = engine_reply_api(minimum), highest = engine_reply_api(newest);

        if (highest < 0 || (minimum && *minimum && lowest < 0))
                return st_error_set(err, EPROTO, "it names no version of the Docker API");
        int api = highest < API_NEWEST ? highest : API_NEWEST;
        if (api < API_OLDEST)
                return st_error_set(err, EOPNOTSUPP,
                                    "it speaks only version %.8s of the Docker API, which has no checkpoints", newest);
        /*
         * An engine that has dropped all we know most likely still understands the newest we know, but in its own
         * version.
         */
        if (lowest > api)
                api = lowest;
        snprintf(ret, 16, "%d.%d", api / 1000, api % 1000);
        return 0;
}
