/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/file_record.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/json_path.h"
#include "base/memory.h"
#include "base/text.h"

#define VERSION 1
#define NS_PER_S 1000000000
/* Beyond these no file system goes; sums of them do not overflow. */
#define NUMBER_MAX ((json_int_t)1 << 62)

static json_t *time_to_json(struct timespec time) {
        return json_pack("[I,I]", (json_int_t)time.tv_sec, (json_int_t)time.tv_nsec);
}

static void add_hash(json_t *object, const char *key, bool known, struct hash hash) {
        char text[HASH_TEXT + 1];

        if (!known)
                return;
        hash_to_text(hash, text);
        json_object_set_new(object, key, json_string(text));
}

static json_t *record_to_json(const struct file_record *record) {
        json_t *object = json_object();

        json_path_put(object, "path", record->path);
        json_object_set_new(object, "dev", json_integer((json_int_t)record->was.dev));
        json_object_set_new(object, "inode", json_integer((json_int_t)record->was.inode));
        if (record->was.birth.tv_sec != 0)
                json_object_set_new(object, "birth", time_to_json(record->was.birth));
        json_object_set_new(object, "size", json_integer((json_int_t)record->was.size));
        json_object_set_new(object, "mtime", time_to_json(record->was.mtime));
        json_object_set_new(object, "mode", json_integer(record->was.mode));
        json_object_set_new(object, "uid", json_integer(record->was.uid));
        json_object_set_new(object, "gid", json_integer(record->was.gid));
        json_object_set_new(object, "links", json_integer((json_int_t)record->was.links));
        json_object_set_new(object, "append", json_boolean(record->append));
        json_object_set_new(object, "at_end", json_boolean(record->at_end));
        json_object_set_new(object, "mapped", json_boolean(record->mapped));
        json_object_set_new(object, "position", json_integer((json_int_t)record->position));
        if (record->content)
                json_object_set_new(object, "content", json_string(record->content));
        add_hash(object, "hash", record->has_hash, record->hash);
        add_hash(object, "tail", record->has_tail, record->tail);
        return object;
}

char *file_records_to_json(const struct file_records *records) {
        json_t *root = json_object(), *list = json_array();

        json_object_set_new(root, "version", json_integer(VERSION));
        json_object_set_new(root, "boot", json_string(records->boot));
        for (size_t i = 0; i < records->n; i++)
                json_array_append_new(list, record_to_json(&records->items[i]));
        json_object_set_new(root, "files", list);
        char *text = json_dumps(root, JSON_COMPACT);
        json_decref(root);
        return text;
}

/** A whole number in [0, max] that must be there. */
static int get_number(json_t *object, const char *key, uint64_t max, uint64_t *ret) {
        json_t *value = json_object_get(object, key);

        if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
                return -EBADMSG;
        *ret = (uint64_t)json_integer_value(value);
        return 0;
}

/* Device and inode numbers use all 64 bits; JSON's numbers have a sign. */
static int get_identity(json_t *object, const char *key, uint64_t *ret) {
        json_t *value = json_object_get(object, key);

        if (!json_is_integer(value))
                return -EBADMSG;
        *ret = (uint64_t)json_integer_value(value);
        return 0;
}

static int get_flag(json_t *object, const char *key, bool *ret) {
        json_t *value = json_object_get(object, key);

        if (!json_is_boolean(value))
                return -EBADMSG;
        *ret = json_is_true(value);
        return 0;
}

static int get_time(json_t *value, struct timespec *ret) {
        json_t *s = json_array_get(value, 0), *ns = json_array_get(value, 1);

        if (json_array_size(value) != 2 || !json_is_integer(s) || !json_is_integer(ns) ||
            json_integer_value(s) > NUMBER_MAX || json_integer_value(s) < -NUMBER_MAX || json_integer_value(ns) < 0 ||
            json_integer_value(ns) >= NS_PER_S)
                return -EBADMSG;
        *ret = (struct timespec){ .tv_sec = (time_t)json_integer_value(s), .tv_nsec = (long)json_integer_value(ns) };
        return 0;
}

static int get_hash(json_t *object, const char *key, bool *known, struct hash *ret) {
        json_t *value = json_object_get(object, key);

        if (!value)
                return 0;
        if (!json_is_string(value) || json_string_length(value) != HASH_TEXT ||
            !hash_from_text(json_string_value(value), ret))
                return -EBADMSG;
        *known = true;
        return 0;
}

/** Such as the kernel shows: absolute, without double slashes, ".", "..", or a slash at its end. */
static bool is_plain_path(const char *path) {
        if (path[0] != '/' || strlen(path) >= PATH_MAX)
                return false;
        for (const char *part = path; *part;) {
                size_t n = strcspn(++part, "/");

                if (n == 0 || n > NAME_MAX || (n <= 2 && strncmp(part, "..", n) == 0))
                        return false;
                part += n;
        }
        return true;
}

static int get_path(json_t *object, char **ret) {
        return json_path_get(object, "path", ret) >= 0 && is_plain_path(*ret) ? 0 : -EBADMSG;
}

static int get_content(json_t *object, struct file_record *record) {
        json_t *value = json_object_get(object, "content");
        const char *number;
        uint64_t unused;

        if (!value)
                return 0;
        if (!json_is_string(value) || !record->has_hash)
                return -EBADMSG;
        number = text_after(json_string_value(value), FILE_RECORD_CONTENT);
        if (!number || text_to_uint(number, FILE_RECORD_MAX, &unused) < 0)
                return -EBADMSG;
        record->content = xstrdup(json_string_value(value));
        return 0;
}

static int record_from_json(json_t *object, struct file_record *record) {
        uint64_t mode = 0, uid = 0, gid = 0;
        json_t *birth = json_object_get(object, "birth");

        /* S_IFREG and permissions: nothing else can be put back. */
        if (get_path(object, &record->path) < 0 || get_identity(object, "dev", &record->was.dev) < 0 ||
            get_identity(object, "inode", &record->was.inode) < 0 ||
            (birth && get_time(birth, &record->was.birth) < 0) ||
            get_number(object, "size", NUMBER_MAX, &record->was.size) < 0 ||
            get_time(json_object_get(object, "mtime"), &record->was.mtime) < 0 ||
            get_number(object, "mode", 0177777, &mode) < 0 || !S_ISREG(mode) ||
            get_number(object, "uid", UINT32_MAX - 1, &uid) < 0 || get_number(object, "gid", UINT32_MAX - 1, &gid) < 0)
                return -EBADMSG;
        record->was.mode = (mode_t)mode;
        record->was.uid = (uid_t)uid;
        record->was.gid = (gid_t)gid;
        if (get_number(object, "links", NUMBER_MAX, &record->was.links) < 0 ||
            get_flag(object, "append", &record->append) < 0 || get_flag(object, "at_end", &record->at_end) < 0 ||
            get_flag(object, "mapped", &record->mapped) < 0 ||
            get_number(object, "position", NUMBER_MAX, &record->position) < 0 ||
            get_hash(object, "hash", &record->has_hash, &record->hash) < 0 ||
            get_hash(object, "tail", &record->has_tail, &record->tail) < 0)
                return -EBADMSG;
        return get_content(object, record);
}

static int compare_records(const void *a, const void *b) {
        return strcmp(((const struct file_record *)a)->path, ((const struct file_record *)b)->path);
}

static int parse(json_t *root, struct file_records *records, struct st_error **err) {
        json_t *list, *item;
        const char *boot;
        json_error_t why;
        int version;
        size_t i;

        if (json_unpack_ex(root, &why, 0, "{s:i,s:s,s:o}", "version", &version, "boot", &boot, "files", &list) < 0)
                return st_error_set(err, EBADMSG, "%s", why.text);
        if (version != VERSION)
                return st_error_set(err, EOPNOTSUPP, "it was written by another stasis (version %d, this one knows %d)",
                                    version, VERSION);
        if (!json_is_array(list) || json_array_size(list) > FILE_RECORD_MAX)
                return st_error_set(err, EBADMSG, "it names %zu files", json_array_size(list));
        records->boot = xstrdup(boot);
        json_array_foreach(list, i, item) {
                GROW(records->items, records->n, records->room);
                records->items[records->n] = (struct file_record){ 0 };
                if (record_from_json(item, &records->items[records->n++]) < 0)
                        return st_error_set(err, EBADMSG, "file %zu of it is not readable", i);
        }
        if (records->n > 0)
                qsort(records->items, records->n, sizeof(*records->items), compare_records);
        for (i = 1; i < records->n; i++)
                if (streq(records->items[i - 1].path, records->items[i].path))
                        return st_error_set(err, EBADMSG, "it names the same file twice");
        return 0;
}

int file_records_from_json(const char *text, size_t size, struct file_records *ret, struct st_error **err) {
        json_error_t why;
        json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
        int r;

        if (!root)
                r = st_error_set(err, EBADMSG, "%s", why.text);
        else
                r = parse(root, ret, err);
        json_decref(root);
        if (r < 0) {
                file_records_clear(ret);
                return st_error_wrap(err, "the record of files is not readable");
        }
        return 0;
}

void file_records_clear(struct file_records *records) {
        for (size_t i = 0; i < records->n; i++) {
                free(records->items[i].path);
                free(records->items[i].content);
        }
        free(records->items);
        free(records->boot);
        *records = (struct file_records){ 0 };
}
