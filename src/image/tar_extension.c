/* SPDX-License-Identifier: Apache-2.0 */

/* Extended headers: pax (POSIX.1-2017, pax, "pax Extended Header") and the long names of GNU tar. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "image/tar.h"

void tar_extension_clear(struct tar_extension *extension) {
        free(extension->path);
        *extension = (struct tar_extension){ 0 };
}

static int set_path(struct tar_extension *extension, const char *text, size_t length, struct st_error **err) {
        if (length == 0 || length > TAR_PATH_MAX || memchr(text, 0, length))
                return st_error_set(err, EBADMSG, "a file in it has no valid name");
        free(extension->path);
        extension->path = xstrndup(text, length);
        return 0;
}

/** "key=value" of a pax header; what does not matter for the content of a file is passed over. */
static int take_record(struct tar_extension *extension, const char *record, size_t length, struct st_error **err) {
        static const char path[] = "path=", size[] = "size=", sparse[] = "GNU.sparse.";
        if (length >= sizeof(sparse) - 1 && memcmp(record, sparse, sizeof(sparse) - 1) == 0)
                return st_error_set(err, EINVAL, "a file in it is sparse: pack it without --sparse");
        if (length >= sizeof(path) - 1 && memcmp(record, path, sizeof(path) - 1) == 0)
                return set_path(extension, record + sizeof(path) - 1, length - (sizeof(path) - 1), err);
        if (length < sizeof(size) - 1 || memcmp(record, size, sizeof(size) - 1) != 0)
                return 0;
        char *text = xstrndup(record + sizeof(size) - 1, length - (sizeof(size) - 1));
        int r = text_to_uint(text, TAR_SIZE_MAX, &extension->size);
        free(text);
        extension->has_size = true;
        return r < 0 ? st_error_set(err, EBADMSG, "a file in it has no valid size") : 0;
}

/** Records of "length key=value\n", the length counting itself. */
static int parse_pax(struct tar_extension *extension, const char *text, size_t size, struct st_error **err) {
        while (size > 0) {
                size_t length = 0, digits = 0;
                for (; digits < size && digits < 6 && text[digits] >= '0' && text[digits] <= '9'; digits++)
                        length = length * 10 + (size_t)(text[digits] - '0');
                if (digits == 0 || length < digits + 2 || length > size || text[digits] != ' ' ||
                    text[length - 1] != '\n')
                        return st_error_set(err, EBADMSG, "an extended header in it is not valid");
                int r = take_record(extension, text + digits + 1, length - digits - 2, err);
                if (r < 0)
                        return r;
                text += length;
                size -= length;
        }
        return 0;
}

int tar_extension_parse(struct tar_extension *extension, char type, const char *text, size_t size,
                        struct st_error **err) {
        struct tar_extension all = { 0 };
        switch (type) {
        case 'L':
                return set_path(extension, text, strnlen(text, size), err);
        case 'x':
                return parse_pax(extension, text, size, err);
        case 'g': { /* for all files: a name or a size there would make no sense */
                int r = parse_pax(&all, text, size, err);
                bool any = all.path || all.has_size;
                tar_extension_clear(&all);
                return r == 0 && any ? st_error_set(err, EBADMSG, "a header in it names all files the same") : r;
        }
        default: /* 'K', the target of a link, which the next header then is */
                return 0;
        }
}
