/* SPDX-License-Identifier: Apache-2.0 */
#include "util.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

static void *check(void *p) {
        if (!p)
                abort();
        return p;
}

char *util_strdup(const char *text) {
        return check(strdup(text));
}

static char *print(const char *format, va_list ap) {
        char *text;

        if (vasprintf(&text, format, ap) < 0)
                abort();
        return text;
}

char *util_printf(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        char *text = print(format, ap);
        va_end(ap);
        return text;
}

static void take(struct util_list *list, char *text) {
        if (list->n + 1 >= list->room) {
                list->room = list->room ? list->room * 2 : 16;
                list->items = check(realloc(list->items, list->room * sizeof(*list->items)));
        }
        list->items[list->n++] = text;
        list->items[list->n] = NULL;
}

void util_list_add(struct util_list *list, const char *text) {
        take(list, util_strdup(text));
}

void util_list_addf(struct util_list *list, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        take(list, print(format, ap));
        va_end(ap);
}

void util_list_clear(struct util_list *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i]);
        free(list->items);
        *list = (struct util_list){ 0 };
}

int util_read_file(const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *data = NULL;
        size_t size = 0, room = 0;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        for (;;) {
                if (size + 1 >= room) {
                        room = room ? room * 2 : 16384;
                        data = check(realloc(data, room));
                }
                ssize_t n = read(fd, data + size, room - size - 1);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t)n;
                if (size > max)
                        return -EFBIG;
        }
        data[size] = '\0';
        *ret = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

static int write_full(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

int util_write_new(const char *path, const char *data, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        return fd < 0 ? -errno : write_full(fd, data, size);
}

int util_replace_file(const char *path, const char *data, size_t size) {
        _cleanup_free_ char *beside = util_printf("%s.stasis-%d", path, (int)getpid());
        struct stat st;
        int r;

        if (stat(path, &st) < 0)
                return -errno;
        (void)unlink(beside);
        r = util_write_new(beside, data, size);
        if (r == 0 && (chmod(beside, st.st_mode & 07777) < 0 || chown(beside, st.st_uid, st.st_gid) < 0 ||
                       rename(beside, path) < 0))
                r = -errno;
        if (r < 0)
                (void)unlink(beside);
        return r;
}

json_t *util_json_path(const json_t *json, const char *const *names) {
        for (; json && *names; names++)
                json = json_object_get(json, *names);
        return (json_t *)json;
}

char *util_absolute(const char *path, const char *directory) {
        char here[PATH_MAX] = "/";

        if (*path == '/')
                return util_strdup(path);
        if (isempty(directory))
                directory = getcwd(here, sizeof(here)) ?: "/";
        return util_printf("%s/%s", directory, path);
}

bool util_is_below(const char *path, const char *directory) {
        size_t n = strlen(directory);

        if (streq(directory, "/"))
                return *path == '/';
        return strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

char *util_escape(const char *text) {
        char *result = check(malloc(4 * strlen(text) + 1)), *to = result;

        for (; *text; text++) {
                unsigned char byte = (unsigned char)*text;

                if (byte > ' ' && byte < 0x7f && !strchr("\\#\"", byte))
                        *to++ = *text;
                else
                        to += snprintf(to, 5, "\\%03o", byte);
        }
        *to = '\0';
        return result;
}

char *util_unescape(const char *text) {
        char *result = util_strdup(text), *to = result;

        for (; *text; text++) {
                if (*text == '\\' && text[1] >= '0' && text[1] <= '3' && isdigit((unsigned char)text[2]) &&
                    isdigit((unsigned char)text[3])) {
                        *to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
                        text += 3;
                } else
                        *to++ = *text;
        }
        *to = '\0';
        return result;
}
