/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Texts, lists, small files and JSON, as in src/base, which a plugin does not see. Running out of memory ends the
 * process: it is a worker's, or the command line's. Any thread.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <stasis/error.h>

#include "../common/cleanup.h"

static inline void util_jsonp(json_t **json) {
        json_decref(*json);
}

#define _cleanup_json_ _cleanup_(util_jsonp)

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

static inline bool isempty(const char *text) {
        return !text || *text == '\0';
}

char *util_strdup(const char *text);
char *util_printf(const char *format, ...) ST_PRINTF(1, 2);

/** A growing list of texts, NULL-terminated for exec; { 0 } is empty. */
struct util_list {
        char **items; /* NULL while empty */
        size_t n, room;
};

void util_list_add(struct util_list *list, const char *text);
void util_list_addf(struct util_list *list, const char *format, ...) ST_PRINTF(2, 3);
void util_list_clear(struct util_list *list);
#define _cleanup_list_ _cleanup_(util_list_clear)

/**
 * Reads a file of at most `max` bytes.
 *
 * @param ret malloc'ed, a NUL behind it
 * @param ret_size may be NULL
 * @return 0 or -errno; -EFBIG
 */
int util_read_file(const char *path, size_t max, char **ret, size_t *ret_size);

/** Creates a file, 0600, that must not exist. @return 0 or -errno */
int util_write_new(const char *path, const char *data, size_t size);

/** Exchanges the content of a file atomically; mode and owner stay. @return 0 or -errno */
int util_replace_file(const char *path, const char *data, size_t size);

/** A member of a member, … (names ended by NULL); NULL when there is none. */
json_t *util_json_path(const json_t *json, const char *const *names);
/** util_json_get(config, "process", "env", NULL) */
#define util_json_get(json, ...) util_json_path((json), (const char *const[]){ __VA_ARGS__ })
/** Its text; NULL when it has none. */
#define util_json_text(json, ...) json_string_value(util_json_get(json, __VA_ARGS__))

/** @return `path` made absolute, below `directory` (NULL: that of this process) unless it is; malloc'ed */
char *util_absolute(const char *path, const char *directory);

/** Is `path` the directory, or below it? Both absolute, normal. */
bool util_is_below(const char *path, const char *directory);

/** A field of mountinfo: spaces and such are written as \ooo there (proc(5)). malloc'ed */
char *util_unescape(const char *text);
/** As a field of mountinfo, and so in plain ASCII without spaces, whatever bytes it holds. malloc'ed */
char *util_escape(const char *text);
