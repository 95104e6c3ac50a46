/* SPDX-License-Identifier: Apache-2.0 */
#include "image/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#define HEADER "stasis-manifest 1"
/* Of one file, and of all of them, bytes: so sums do not overflow. */
#define SIZE_MAX_FILE (UINT64_C(1) << 60)

void manifest_add(struct manifest *manifest, const char *name, uint64_t size, struct hash hash) {
        GROW(manifest->entries, manifest->n, manifest->room);
        manifest->entries[manifest->n++] = (struct manifest_entry){ .name = xstrdup(name), .size = size, .hash = hash };
        manifest->total += size;
}

void manifest_clear(struct manifest *manifest) {
        for (size_t i = 0; i < manifest->n; i++)
                free(manifest->entries[i].name);
        free(manifest->entries);
        free(manifest->by_name);
        *manifest = (struct manifest){ 0 };
}

static int compare_entries(const void *a, const void *b) {
        const struct manifest_entry *const *x = a, *const *y = b;
        return strcmp((*x)->name, (*y)->name);
}

int manifest_index(struct manifest *manifest, struct st_error **err) {
        manifest->by_name = xrealloc(manifest->by_name, manifest->n, sizeof(*manifest->by_name));
        for (size_t i = 0; i < manifest->n; i++)
                manifest->by_name[i] = &manifest->entries[i];
        qsort(manifest->by_name, manifest->n, sizeof(*manifest->by_name), compare_entries);
        for (size_t i = 1; i < manifest->n; i++)
                if (streq(manifest->by_name[i - 1]->name, manifest->by_name[i]->name))
                        return st_error_set(err, EEXIST, "the file %s is listed twice", manifest->by_name[i]->name);
        return 0;
}

const struct manifest_entry *manifest_find(const struct manifest *manifest, const char *name) {
        const struct manifest_entry key = { .name = (char *)name }, *wanted = &key;
        if (manifest->n == 0)
                return NULL;
        struct manifest_entry **found =
                bsearch(&wanted, manifest->by_name, manifest->n, sizeof(*manifest->by_name), compare_entries);
        return found ? *found : NULL;
}

char *manifest_to_text(const struct manifest *manifest, size_t *ret_size) {
        char *text = NULL, hex[HASH_TEXT + 1];
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);
        if (!f)
                abort();
        fprintf(f, HEADER "\nformat %s\n", image_format_name(manifest->format));
        if (manifest->streams > 0)
                fprintf(f, "streams %u %" PRIu64 "\n", manifest->streams, manifest->piece);
        for (size_t i = 0; i < manifest->n; i++) {
                const struct manifest_entry *entry = &manifest->entries[i];
                hash_to_text(entry->hash, hex);
                fprintf(f, "file %" PRIu64 " %s %s\n", entry->size, hex, entry->name);
        }
        fflush(f);
        hash_to_text(hash_of(text, size), hex);
        fprintf(f, "end %s\n", hex);
        if (fclose(f) != 0)
                abort(); /* no memory, as in xmalloc() */
        *ret_size = size;
        return text;
}

/** Takes a line out of the text, ending it by a NUL. @return NULL: no whole line is left */
static char *take_line(char **at, const char *end) {
        char *line = *at;
        char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline || memchr(line, 0, (size_t)(newline - line)))
                return NULL;
        *newline = 0;
        *at = newline + 1;
        return line;
}

/** A number exactly as printf writes it, no sign, no leading zero, and what ends it. */
static bool take_size(char **at, char end, uint64_t *ret) {
        char *p = *at;
        uint64_t value = 0;
        if (*p == '0' && p[1] != end)
                return false;
        for (; *p >= '0' && *p <= '9'; p++) {
                value = value * 10 + (uint64_t)(*p - '0');
                if (value > SIZE_MAX_FILE)
                        return false;
        }
        if (p == *at || *p != end)
                return false;
        *at = p + (end != 0);
        *ret = value;
        return true;
}

/** "<archives> <bytes of a piece>" */
static bool parse_streams(char *line, struct manifest *manifest) {
        uint64_t streams, piece;
        if (manifest->streams > 0 || manifest->n > 0 || !take_size(&line, ' ', &streams) ||
            !take_size(&line, 0, &piece))
                return false;
        if (streams < 2 || streams > IMAGE_STREAMS_MAX || piece < MANIFEST_PIECE_MIN)
                return false;
        manifest->streams = (unsigned)streams;
        manifest->piece = piece;
        return true;
}

/** "<size> <hash> <name>" */
static bool parse_file(char *line, struct manifest *manifest) {
        uint64_t size;
        struct hash hash;
        if (manifest->n >= MANIFEST_FILES_MAX || !take_size(&line, ' ', &size) ||
            size > SIZE_MAX_FILE - manifest->total)
                return false;
        if (strlen(line) < HASH_TEXT + 2 || line[HASH_TEXT] != ' ' || !hash_from_text(line, &hash))
                return false;
        const char *name = line + HASH_TEXT + 1;
        if (!path_is_name(name) || streq(name, IMAGE_MANIFEST))
                return false;
        manifest_add(manifest, name, size, hash);
        return true;
}

/** Everything up to the line "end …", which the caller has checked. */
static int parse_lines(char *text, const char *end, struct manifest *manifest, struct st_error **err) {
        char *line = take_line(&text, end);
        if (!line || !streq(line, HEADER))
                return st_error_set(err, EBADMSG, "its manifest is of an unknown version");
        line = take_line(&text, end);
        const char *format = line ? text_after(line, "format ") : NULL;
        if (!format || image_format_from_text(format, &manifest->format, NULL) < 0)
                return st_error_set(err, EBADMSG, "its manifest names an unknown format");
        for (size_t n = 3; text < end; n++) {
                line = take_line(&text, end);
                const char *streams = line ? text_after(line, "streams ") : NULL;
                bool valid =
                        streams ? parse_streams(line + strlen("streams "), manifest)
                                : line && text_after(line, "file ") && parse_file(line + strlen("file "), manifest);
                if (!valid)
                        return st_error_set(err, EBADMSG, "line %zu of its manifest is not valid", n);
        }
        int r = manifest_index(manifest, err);
        return r < 0 ? st_error_set(err, EBADMSG, "its manifest is not valid") : 0;
}

int manifest_parse(const char *text, size_t size, struct manifest *ret, struct st_error **err) {
        const size_t last = strlen("end ") + HASH_TEXT + 1;
        struct hash expected;
        if (size > MANIFEST_TEXT_MAX)
                return st_error_set(err, EBADMSG, "its manifest is too large");
        if (size < strlen(HEADER) || memcmp(text, HEADER, strlen(HEADER) - 1) != 0)
                return st_error_set(err, EBADMSG, "its manifest is not one");
        if (size <= last || text[size - 1] != '\n' || text[size - last - 1] != '\n' ||
            memcmp(text + size - last, "end ", 4) != 0 || !hash_from_text(text + size - last + 4, &expected))
                return st_error_set(err, EBADMSG, "its manifest is truncated");
        if (!hash_equal(hash_of(text, size - last), expected))
                return st_error_set(err, EBADMSG, "its manifest has a wrong checksum");

        _cleanup_free_ char *copy = malloc(size);
        if (!copy)
                return st_error_errno(err, ENOMEM, "cannot read its manifest");
        memcpy(copy, text, size);
        struct manifest manifest = { 0 };
        int r = parse_lines(copy, copy + size - last, &manifest, err);
        if (r < 0) {
                manifest_clear(&manifest);
                return r;
        }
        *ret = manifest;
        return 0;
}
