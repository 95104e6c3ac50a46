/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The settings as bytes: texts "KEY=VALUE", each with its NUL. The first is "launch=1", the version; a key that may
 * come several times makes a list, in this order.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/launch.h"

#define VERSION "1"

enum { ARGUMENTS, ENVIRONMENT, CGROUPS };

static const char *const list_keys[] = { "argument", "environment", "cgroup" };

struct packer {
        char *bytes;
        size_t size, room;
};

static void put(struct packer *packer, const char *key, const char *value) {
        size_t n = strlen(key), m = strlen(value), needed = packer->size + n + m + 2;

        if (needed > packer->room) {
                packer->room = needed > 2 * packer->room ? needed : 2 * packer->room;
                packer->bytes = xrealloc(packer->bytes, packer->room, 1);
        }
        memcpy(packer->bytes + packer->size, key, n);
        packer->bytes[packer->size + n] = '=';
        memcpy(packer->bytes + packer->size + n + 1, value, m + 1);
        packer->size = needed;
}

static void put_number(struct packer *packer, const char *key, int64_t value) {
        _cleanup_free_ char *text = xasprintf("%" PRId64, value);
        put(packer, key, text);
}

static void put_list(struct packer *packer, const char *key, char *const *list) {
        for (; list && *list && packer->size <= LAUNCH_SIZE_MAX; list++)
                put(packer, key, *list);
}

static void put_identity(struct packer *packer, const struct launch_settings *settings) {
        put_number(packer, "uid", settings->uid);
        put_number(packer, "gid", settings->gid);
        for (size_t i = 0; i < settings->n_groups && packer->size <= LAUNCH_SIZE_MAX; i++)
                put_number(packer, "group", settings->groups[i]);
}

int launch_pack(const struct launch_settings *settings, const char *init_path, char **ret, size_t *ret_size) {
        struct packer packer = { 0 };
        char *const *lists[] = { settings->argv, settings->environment, settings->cgroups };

        if (isempty(settings->path) || !settings->argv || !settings->argv[0])
                return -EINVAL;
        put(&packer, "launch", VERSION);
        put(&packer, "path", settings->path);
        if (settings->directory)
                put(&packer, "directory", settings->directory);
        if (settings->init && init_path)
                put(&packer, "init", init_path);
        if (settings->namespaces >= 0)
                put(&packer, "namespaces", "");
        if (settings->session)
                put(&packer, "session", "");
        if (settings->terminal)
                put(&packer, "terminal", "");
        if (settings->set_oom)
                put_number(&packer, "oom", settings->oom_score_adj);
        if (settings->set_nice)
                put_number(&packer, "nice", settings->nice);
        if (settings->cpus)
                put(&packer, "cpus", settings->cpus);
        if (settings->set_umask)
                put_number(&packer, "umask", settings->umask);
        if (settings->set_identity)
                put_identity(&packer, settings);
        for (size_t i = 0; i < settings->n_limits && packer.size <= LAUNCH_SIZE_MAX; i++) {
                const struct launch_limit *limit = &settings->limits[i];
                _cleanup_free_ char *text =
                        xasprintf("%d:%" PRIu64 ":%" PRIu64, limit->resource, limit->soft, limit->hard);
                put(&packer, "limit", text);
        }
        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                put_list(&packer, list_keys[i], lists[i]);
        if (packer.size > LAUNCH_SIZE_MAX) {
                free(packer.bytes);
                return -E2BIG;
        }
        *ret = packer.bytes;
        *ret_size = packer.size;
        return 0;
}

/* Lists grow while they are read. */
struct parser {
        struct launch_parsed *parsed;
        size_t n_texts[3], texts_room[3], limits_room, groups_room;
        bool uid, gid;
};

static int parse_limit(struct parser *parser, const char *value) {
        struct launch_parsed *parsed = parser->parsed;
        struct launch_settings *settings = &parsed->settings;
        const char *soft = strchr(value, ':'), *hard = soft ? strchr(soft + 1, ':') : NULL;
        struct launch_limit limit;
        uint64_t resource;

        if (!hard)
                return -EBADMSG;
        _cleanup_free_ char *first = xstrndup(value, (size_t)(soft - value));
        _cleanup_free_ char *second = xstrndup(soft + 1, (size_t)(hard - soft - 1));
        if (text_to_uint(first, INT16_MAX, &resource) < 0 || text_to_uint(second, UINT64_MAX, &limit.soft) < 0 ||
            text_to_uint(hard + 1, UINT64_MAX, &limit.hard) < 0)
                return -EBADMSG;
        limit.resource = (int)resource;
        GROW(parsed->limits, settings->n_limits, parser->limits_room);
        parsed->limits[settings->n_limits++] = limit;
        return 0;
}

static int parse_number(struct parser *parser, const char *key, const char *value) {
        struct launch_settings *settings = &parser->parsed->settings;
        int64_t number;

        if (streq(key, "oom") && text_to_int(value, -1000, 1000, &number) >= 0) {
                settings->set_oom = true;
                settings->oom_score_adj = (int)number;
        } else if (streq(key, "nice") && text_to_int(value, -20, 19, &number) >= 0) {
                settings->set_nice = true;
                settings->nice = (int)number;
        } else if (streq(key, "umask") && text_to_int(value, 0, 0777, &number) >= 0) {
                settings->set_umask = true;
                settings->umask = (mode_t)number;
        } else if (text_to_int(value, 0, (int64_t)UINT32_MAX - 1, &number) < 0) { /* the last one means "keep" */
                return -EBADMSG;
        } else if (streq(key, "uid")) {
                parser->uid = true;
                settings->uid = (uid_t)number;
        } else if (streq(key, "gid")) {
                parser->gid = true;
                settings->gid = (gid_t)number;
        } else if (streq(key, "group")) {
                GROW(parser->parsed->groups, settings->n_groups, parser->groups_room);
                parser->parsed->groups[settings->n_groups++] = (gid_t)number;
        } else {
                return -EBADMSG;
        }
        return 0;
}

static int parse_entry(struct parser *parser, const char *key, char *value) {
        struct launch_parsed *parsed = parser->parsed;
        struct launch_settings *settings = &parsed->settings;

        for (size_t i = 0; i < ELEMENTSOF(list_keys); i++) {
                if (!streq(key, list_keys[i]))
                        continue;
                GROW(parsed->texts[i], parser->n_texts[i], parser->texts_room[i]);
                parsed->texts[i][parser->n_texts[i]++] = value;
                return 0;
        }
        if (streq(key, "path"))
                settings->path = value;
        else if (streq(key, "directory"))
                settings->directory = value;
        else if (streq(key, "cpus"))
                settings->cpus = value;
        else if (streq(key, "init"))
                parsed->init_path = value;
        else if (streq(key, "namespaces"))
                settings->namespaces = LAUNCH_NAMESPACES_FD;
        else if (streq(key, "session"))
                settings->session = true;
        else if (streq(key, "terminal"))
                settings->terminal = true;
        else if (streq(key, "limit"))
                return parse_limit(parser, value);
        else
                return parse_number(parser, key, value);
        return 0;
}

static int finish(struct parser *parser) {
        struct launch_parsed *parsed = parser->parsed;
        struct launch_settings *settings = &parsed->settings;

        for (size_t i = 0; i < ELEMENTSOF(parsed->texts); i++) {
                GROW(parsed->texts[i], parser->n_texts[i], parser->texts_room[i]);
                parsed->texts[i][parser->n_texts[i]] = NULL;
        }
        settings->argv = parsed->texts[ARGUMENTS];
        settings->environment = parsed->texts[ENVIRONMENT];
        settings->cgroups = parsed->texts[CGROUPS];
        settings->limits = parsed->limits;
        settings->groups = parsed->groups;
        settings->init = parsed->init_path != NULL;
        settings->set_identity = parser->uid;
        if (parser->uid != parser->gid || (settings->n_groups > 0 && !parser->uid))
                return -EBADMSG;
        return isempty(settings->path) || parser->n_texts[ARGUMENTS] == 0 ? -EBADMSG : 0;
}

int launch_parse(const char *data, size_t size, struct launch_parsed *ret) {
        struct launch_parsed parsed = { .settings.namespaces = -EBADF };
        struct parser parser = { .parsed = &parsed };
        bool first = true;
        int r = 0;

        if (size == 0 || size > LAUNCH_SIZE_MAX || data[size - 1] != '\0')
                return -EBADMSG;
        for (const char *at = data; r >= 0 && at < data + size; at += strlen(at) + 1) {
                const char *equals = strchr(at, '=');

                if (!equals || equals - at > 16) {
                        r = -EBADMSG;
                        break;
                }
                _cleanup_free_ char *key = xstrndup(at, (size_t)(equals - at));
                if (first)
                        r = streq(at, "launch=" VERSION) ? 0 : -EBADMSG;
                else
                        r = parse_entry(&parser, key, (char *)equals + 1);
                first = false;
        }
        if (r >= 0)
                r = finish(&parser);
        if (r < 0) {
                launch_parsed_clear(&parsed);
                return r;
        }
        *ret = parsed;
        return 0;
}

void launch_parsed_clear(struct launch_parsed *parsed) {
        for (size_t i = 0; i < ELEMENTSOF(parsed->texts); i++)
                free(parsed->texts[i]);
        free(parsed->limits);
        free(parsed->groups);
        *parsed = (struct launch_parsed){ .settings.namespaces = -EBADF };
}
