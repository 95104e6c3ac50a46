/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../common/cleanup.h"
#include "engine_address.h"
#include "engine_http.h"
#include "engine_internal.h"
#include "engine_reply.h"

struct engine {
        struct engine_address address;
        struct engine_http *http;
        bool known; /* the versions below were asked for */
        char *version;
        char *minimum_api;
        char api[16];
        bool experimental;
};

int engine_open(const char *host, int cancel_fd, struct engine **ret, struct st_error **err) {
        _cleanup_engine_ struct engine *engine = calloc(1, sizeof(*engine));
        if (!engine)
                return st_error_errno(err, ENOMEM, "cannot use the Docker engine");
        int r = engine_address_parse(host, &engine->address, err);
        if (r == 0)
                r = engine_http_open(&engine->address, cancel_fd, &engine->http, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(engine);
        return 0;
}

struct engine *engine_close(struct engine *engine) {
        if (engine) {
                engine_http_close(engine->http);
                engine_address_clear(&engine->address);
                free(engine->version);
                free(engine->minimum_api);
                free(engine);
        }
        return NULL;
}

const char *engine_address(const struct engine *engine) {
        return engine->address.text;
}

/* Adds who said it; errors of the connection name the address themselves. */
static int refused(struct engine *engine, int r, struct st_error **err) {
        st_error_wrap(err, "the Docker engine at %s", engine->address.text);
        return r;
}

static char *text_of(const json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));
        return strdup(text ? text : "");
}

static int learn(struct engine *engine, const json_t *answer, struct st_error **err) {
        const char *wanted = getenv("DOCKER_API_VERSION");

        engine->version = text_of(answer, "Version");
        engine->minimum_api = text_of(answer, "MinAPIVersion");
        engine->experimental = json_is_true(json_object_get(answer, "Experimental"));
        if (!engine->version || !engine->minimum_api)
                return st_error_errno(err, ENOMEM, "cannot keep its versions");

        if (wanted && *wanted) {
                if (engine_reply_api(wanted) < 0)
                        return st_error_set(err, EINVAL, "DOCKER_API_VERSION=%s is not a version such as 1.41", wanted);
                snprintf(engine->api, sizeof(engine->api), "%s", wanted);
                return 0;
        }
        return engine_reply_negotiate(engine->minimum_api, json_string_value(json_object_get(answer, "ApiVersion")),
                                      engine->api, err);
}

static int ask_version(struct engine *engine, struct st_error **err) {
        struct engine_http_request request = {
                .method = "GET", .path = "/version", .upload_fd = -1, .download_fd = -1, .limit = ENGINE_SHORT
        };
        struct engine_http_answer answer;
        _cleanup_json_ json_t *versions = NULL;

        if (engine->known)
                return 0;
        int r = engine_http_exchange(engine->http, &request, &answer, err);
        _cleanup_free_ __attribute__((unused)) char *body = answer.body;
        if (r < 0)
                return r;
        r = engine_reply_parse(answer.status, answer.body, answer.size, &versions, err);
        if (r >= 0)
                r = learn(engine, versions, err);
        if (r < 0) {
                free(engine->version);
                free(engine->minimum_api);
                engine->version = engine->minimum_api = NULL;
                return refused(engine, r, err);
        }
        engine->known = true;
        return 0;
}

int engine_version(struct engine *engine, struct engine_version *ret, struct st_error **err) {
        int r = ask_version(engine, err);
        if (r < 0)
                return r;
        *ret = (struct engine_version){
                .version = engine->version,
                .api = engine->api,
                .minimum_api = engine->minimum_api,
                .experimental = engine->experimental,
        };
        if (sscanf(engine->version, "%4d.%4d", &ret->major, &ret->minor) < 1)
                ret->major = ret->minor = 0;
        return 0;
}

int engine_exchange(struct engine *engine, const struct engine_http_request *wanted, json_t **ret_reply,
                    struct st_error **err) {
        struct engine_http_request request = *wanted;
        struct engine_http_answer answer;
        _cleanup_free_ char *path = NULL;

        if (ret_reply)
                *ret_reply = NULL;
        int r = ask_version(engine, err);
        if (r < 0)
                return r;
        if (asprintf(&path, "/v%s%s", engine->api, wanted->path) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        }
        request.path = path;
        r = engine_http_exchange(engine->http, &request, &answer, err);
        _cleanup_free_ __attribute__((unused)) char *body = answer.body;
        if (r < 0)
                return r;
        r = engine_reply_parse(answer.status, answer.body, answer.size, ret_reply, err);
        return r < 0 ? refused(engine, r, err) : r;
}

int engine_call(struct engine *engine, const char *method, const char *path, json_t *body, unsigned limit,
                json_t **ret_reply, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        if (body) {
                text = json_dumps(body, JSON_COMPACT);
                if (!text)
                        return st_error_set(err, EINVAL, "cannot write what %s %s is to say as JSON", method, path);
        }
        struct engine_http_request request = {
                .method = method, .path = path, .body = text, .upload_fd = -1, .download_fd = -1, .limit = limit
        };
        return engine_exchange(engine, &request, ret_reply, err);
}

/* RFC 3986, 2.3: what needs no escaping. "/" and "." do: a name must not become another path. */
static void append_escaped(char **to, const char *text) {
        static const char digits[] = "0123456789ABCDEF";
        for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
                if (isalnum(*p) || *p == '-' || *p == '_' || *p == '~' ||
                    (*p == '.' && p != (const unsigned char *)text))
                        *(*to)++ = (char)*p;
                else {
                        *(*to)++ = '%';
                        *(*to)++ = digits[*p >> 4];
                        *(*to)++ = digits[*p & 15];
                }
        }
}

char *engine_path(const char *format, ...) {
        size_t size = strlen(format) + 1;
        va_list args;

        va_start(args, format);
        for (const char *p = strstr(format, "%s"); p; p = strstr(p + 2, "%s"))
                size += 3 * strlen(va_arg(args, const char *));
        va_end(args);

        char *path = malloc(size), *to = path;
        if (!path)
                return NULL;
        va_start(args, format);
        while (*format) {
                if (format[0] == '%' && format[1] == 's') {
                        append_escaped(&to, va_arg(args, const char *));
                        format += 2;
                } else
                        *to++ = *format++;
        }
        va_end(args);
        *to = 0;
        return path;
}
