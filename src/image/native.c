/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

/** The damage of a file, its details known. @return -EBADMSG */
static int damaged(const char *path, const char *what, struct st_error **err) {
        return st_error_set(err, EBADMSG, "%s is damaged: %s", path, what);
}

/** Reads exactly n bytes. @return 0; -EBADMSG: the file is shorter; -errno */
static int read_exactly(const char *path, int fd, void *bytes, size_t n, uint64_t offset, struct st_error **err) {
        ssize_t got = io_read_at(fd, bytes, n, offset);
        if (got < 0)
                return st_error_errno(err, (int)got, "cannot read %s", path);
        return (size_t)got == n ? 0 : damaged(path, "it became shorter", err);
}

/** What a parser found wrong, with the name of the file around it. */
static int in_file(const char *path, int r, struct st_error **err) {
        if (r == -EOPNOTSUPP)
                return st_error_set(err, EOPNOTSUPP, "cannot read %s", path);
        return r == -EBADMSG ? st_error_set(err, EBADMSG, "%s is damaged", path) : r;
}

static int read_ends(struct native_source *source, struct st_error **err) {
        uint8_t bytes[NATIVE_FOOTER];
        struct stat st;
        if (fstat(source->fd, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s", source->path);
        uint64_t size = (uint64_t)st.st_size;
        if (size < NATIVE_HEADER + NATIVE_FOOTER)
                return damaged(source->path, "it is truncated", err);
        int r = read_exactly(source->path, source->fd, bytes, NATIVE_HEADER, 0, err);
        if (r < 0)
                return r;
        r = native_header_parse(bytes, &source->header, err);
        if (r < 0)
                return in_file(source->path, r, err);
        r = read_exactly(source->path, source->fd, bytes, NATIVE_FOOTER, size - NATIVE_FOOTER, err);
        if (r < 0)
                return r;
        r = native_footer_parse(bytes, size, &source->footer, err);
        if (r < 0)
                return in_file(source->path, r, err);
        if (memcmp(source->header.id, source->footer.id, NATIVE_ID) != 0)
                return damaged(source->path, "its header and its footer are of two images", err);
        return 0;
}

/** The index in its decoded form; malloc'ed. Its sizes were bounded with the footer. */
static int read_index_bytes(const struct native_source *source, uint8_t **ret, struct st_error **err) {
        const struct native_footer *footer = &source->footer;
        size_t size = (size_t)footer->index_decoded;
        _cleanup_free_ uint8_t *stored = malloc((size_t)footer->index_stored + 1);
        if (!stored)
                return st_error_errno(err, ENOMEM, "cannot read the index of %s", source->path);
        int r = read_exactly(source->path, source->fd, stored, (size_t)footer->index_stored, footer->index_at, err);
        if (r < 0)
                return r;
        if (!hash_equal(hash_of(stored, (size_t)footer->index_stored), footer->index))
                return damaged(source->path, "its index has a wrong checksum", err);
        if (footer->index_codec == NATIVE_RAW) {
                if (footer->index_stored != footer->index_decoded)
                        return damaged(source->path, "its index has another size than its footer says", err);
                *ret = TAKE_PTR(stored);
                return 0;
        }
        _cleanup_free_ uint8_t *decoded = malloc(size + 1);
        if (!decoded)
                return st_error_errno(err, ENOMEM, "cannot read the index of %s", source->path);
        size_t got = ZSTD_decompress(decoded, size, stored, (size_t)footer->index_stored);
        if (ZSTD_isError(got) || got != size)
                return damaged(source->path, "its index cannot be decoded", err);
        *ret = TAKE_PTR(decoded);
        return 0;
}

static uint64_t count_pages(const struct native_frame *frames, uint32_t n) {
        uint64_t pages = 0;
        for (uint32_t i = 0; i < n; i++)
                pages += frames[i].kind == NATIVE_PAGES ? frames[i].decoded / NATIVE_PAGE : 0;
        return pages;
}

/** Reads what is not frames. source->path and ->fd are set. @param ret the index, its frames are the source's too */
static int read_source(struct native_source *source, struct native_index *ret, struct st_error **err) {
        int r = read_ends(source, err);
        if (r < 0)
                return r;
        const struct native_footer *footer = &source->footer;
        if (footer->index_stored > NATIVE_INDEX_MAX || footer->index_decoded > NATIVE_INDEX_MAX)
                return damaged(source->path, "its index is too large", err);
        _cleanup_free_ uint8_t *bytes = NULL;
        r = read_index_bytes(source, &bytes, err);
        if (r < 0)
                return r;
        struct native_index index = { 0 };
        r = native_index_parse(bytes, (size_t)footer->index_decoded, footer->digests_at - NATIVE_HEADER, &index, err);
        if (r < 0)
                return in_file(source->path, r, err);
        uint64_t pages = count_pages(index.frames, index.n_frames);
        if (footer->index_at - footer->digests_at != pages * sizeof(struct hash)) {
                native_index_clear(&index);
                return damaged(source->path, "it has not a digest for each page", err);
        }
        source->frames = index.frames;
        source->n_frames = index.n_frames;
        *ret = index;
        return 0;
}

static void source_clear(struct native_source *source) {
        if (source->fd >= 0)
                close(source->fd);
        free(source->path);
}

struct native *native_free(struct native *native) {
        if (!native)
                return NULL;
        for (uint32_t i = 0; i < native->n_sources; i++) {
                source_clear(&native->sources[i]);
                if (i > 0)
                        free(native->sources[i].frames);
        }
        free(native->sources);
        free(native->by_name);
        native_index_clear(&native->index);
        free(native);
        return NULL;
}

/** Reads an ancestor of which only the frames matter. */
static int read_ancestor(struct native_source *source, struct st_error **err) {
        struct native_index index = { 0 };
        int r = read_source(source, &index, err);
        if (r < 0)
                return r;
        index.frames = NULL; /* the source's now */
        index.n_frames = 0;
        native_index_clear(&index);
        return 0;
}

/** Is it a native image at all? */
static bool is_native(int fd) {
        uint8_t head[NATIVE_HEADER];
        ssize_t n = io_read_at(fd, head, sizeof(head), 0);
        return n > 0 && native_recognise(head, (size_t)n);
}

/** @return 0: it is the ancestor; -ENOENT: nothing is there; -ESTALE: something else; -EBADMSG, -errno with err */
static int try_ancestor(const char *path, const struct native_ancestor *ancestor, struct native_source *ret,
                        struct st_error **err) {
        struct native_source source = { .path = xstrdup(path), .fd = -EBADF };
        struct stat st;
        int r = 0;
        source.fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (source.fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
                r = -ENOENT;
        else if (source.fd < 0 || fstat(source.fd, &st) < 0)
                r = st_error_errno(err, errno, "cannot open %s", path);
        else if (!S_ISREG(st.st_mode) || !is_native(source.fd))
                r = st_error_set(err, ESTALE, "%s is no native image", path);
        else
                r = read_ancestor(&source, err);
        if (r == 0 && memcmp(source.header.id, ancestor->id, NATIVE_ID) != 0)
                r = st_error_set(err, ESTALE, "%s is another image", path);
        else if (r == 0 && (source.n_frames < ancestor->n_frames ||
                            !hash_equal(native_frames_digest(source.frames, ancestor->n_frames), ancestor->frames)))
                r = st_error_set(err, ESTALE, "%s was changed: its frames are not those that it had", path);
        if (r == 0) {
                *ret = source;
                return 0;
        }
        free(source.frames);
        source_clear(&source);
        return r;
}

/** How much an error says about the ancestor, the most last. */
static int telling(int r) {
        return r == 0 || r == -ENOENT ? 0 : r == -ESTALE ? 1 : 2;
}

/** No place has the ancestor: says so, above what is known of it. */
static int ancestor_missing(const char *path, const struct native_ancestor *ancestor, int r, struct st_error *error,
                            struct st_error **err) {
        if (r == -ENOENT) {
                st_error_set(&error, ENOENT, "%s is lost: neither beside it nor at %s", ancestor->name, ancestor->path);
                st_error_hint(&error,
                              "put %s beside it, or where both are make one that can be moved alone: 'stasis "
                              "checkpoint fold' or 'export'",
                              ancestor->name);
        } else if (r == -EMFILE) {
                st_error_hint(&error, "raise the limit of open files: ulimit -n");
        } else {
                st_error_hint(&error, "put the %s that it was made with beside it", ancestor->name);
        }
        st_error_set(&error, r, "%s needs pages of its ancestor %s", path, ancestor->name);
        return st_error_move(err, error);
}

/** Beside the image first, then where it was when the image was written. */
static int find_ancestor(const char *path, const struct native_ancestor *ancestor, struct native_source *ret,
                         struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(path), *beside = path_join(directory, ancestor->name);
        const char *places[] = { beside, ancestor->path };
        struct st_error *error = NULL;
        int result = -ENOENT;
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                _cleanup_error_ struct st_error *here = NULL;
                int r = try_ancestor(places[i], ancestor, ret, &here);
                if (r == 0) {
                        st_error_free(error);
                        return 0;
                }
                if (telling(r) > telling(result)) {
                        st_error_free(error);
                        error = TAKE_PTR(here);
                        result = r;
                }
        }
        return ancestor_missing(path, ancestor, result, error, err);
}

/** Are the pages of a run there? */
static bool run_is_inside(const struct native *native, const struct native_run *run) {
        if (run->source == NATIVE_ZERO)
                return true;
        if (run->source >= native->n_sources)
                return false;
        uint32_t n = run->source == 0 ? native->index.n_frames : native->index.ancestors[run->source - 1].n_frames;
        if (run->frame >= n)
                return false;
        const struct native_frame *frame = &native->sources[run->source].frames[run->frame];
        return frame->kind == NATIVE_PAGES && run->page + (uint64_t)run->count <= frame->decoded / NATIVE_PAGE;
}

static int check_runs(const struct native *native, struct st_error **err) {
        for (uint32_t i = 0; i < native->index.n_files; i++) {
                const struct native_file *file = &native->index.files[i];
                for (uint32_t k = 0; file->kind == NATIVE_PAGES && k < file->n; k++)
                        if (!run_is_inside(native, &file->runs[k]))
                                return st_error_set(err, EBADMSG, "%s is damaged: pages of %s are in no frame",
                                                    native->sources[0].path, file->name);
        }
        return 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp((*(const struct native_file *const *)a)->name, (*(const struct native_file *const *)b)->name);
}

static void sort_names(struct native *native) {
        uint32_t n = native->index.n_files;
        native->by_name = xcalloc((size_t)n + 1, sizeof(struct native_file *));
        for (uint32_t i = 0; i < n; i++)
                native->by_name[i] = &native->index.files[i];
        qsort(native->by_name, n, sizeof(struct native_file *), compare_names);
}

int native_open_alone(const char *path, int fd, struct native **ret, struct st_error **err) {
        _cleanup_(native_freep) struct native *native = NEW(struct native);
        native->sources = NEW(struct native_source);
        native->n_sources = 1;
        native->sources[0].path = xstrdup(path);
        native->sources[0].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (native->sources[0].fd < 0)
                return st_error_errno(err, errno, "cannot read %s", path);
        int r = read_source(&native->sources[0], &native->index, err);
        if (r < 0)
                return r;
        sort_names(native);
        *ret = TAKE_PTR(native);
        return 0;
}

/** Was it folded just now, after which its ancestors may go? */
static bool was_replaced(const char *path, int fd) {
        struct stat opened, named;
        return fstat(fd, &opened) == 0 && stat(path, &named) == 0 &&
               (opened.st_ino != named.st_ino || opened.st_dev != named.st_dev);
}

int native_open(const char *path, int fd, struct native **ret, struct st_error **err) {
        _cleanup_(native_freep) struct native *native = NULL;
        int r = native_open_alone(path, fd, &native, err);
        if (r < 0)
                return r;
        const struct native_index *index = &native->index;
        native->sources = xrealloc(native->sources, 1 + (size_t)index->n_ancestors, sizeof(struct native_source));
        for (uint32_t i = 0; i < index->n_ancestors; i++) {
                r = find_ancestor(path, &index->ancestors[i], &native->sources[native->n_sources], err);
                if (r < 0 && was_replaced(path, fd)) {
                        st_error_wrap(err, "%s was replaced meanwhile", path);
                        return -ESTALE;
                }
                if (r < 0)
                        return r;
                native->n_sources++;
        }
        r = check_runs(native, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(native);
        return 0;
}

const struct native_file *native_find(const struct native *native, const char *name) {
        size_t from = 0, to = native->index.n_files;
        while (from < to) {
                size_t middle = from + (to - from) / 2;
                int order = strcmp(native->by_name[middle]->name, name);
                if (order == 0)
                        return native->by_name[middle];
                if (order < 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        return NULL;
}

int native_read_frame(const struct native *native, uint32_t source, uint32_t frame, struct native_coder *coder,
                      uint8_t *stored, uint8_t *out, struct st_error **err) {
        const struct native_source *from = &native->sources[source];
        const struct native_frame *entry = &from->frames[frame];
        int r = read_exactly(from->path, from->fd, stored, entry->stored, entry->offset, err);
        if (r == 0 && native_decode(coder, entry, stored, out) < 0)
                r = st_error_set(err, EBADMSG,
                                 "%s is damaged: its frame %" PRIu32 ", %" PRIu32 " bytes at %" PRIu64
                                 ", has a wrong checksum or cannot be decoded",
                                 from->path, frame, entry->stored, entry->offset);
        return r;
}

int native_read_digests(const struct native *native, uint32_t source, uint8_t **ret, size_t *ret_pages,
                        struct st_error **err) {
        const struct native_source *from = &native->sources[source];
        size_t size = (size_t)(from->footer.index_at - from->footer.digests_at);
        _cleanup_free_ uint8_t *bytes = malloc(size + 1);
        if (!bytes)
                return st_error_errno(err, ENOMEM, "cannot read the page digests of %s", from->path);
        int r = read_exactly(from->path, from->fd, bytes, size, from->footer.digests_at, err);
        if (r < 0)
                return r;
        if (!hash_equal(hash_of(bytes, size), from->footer.digests))
                return damaged(from->path, "its page digests have a wrong checksum", err);
        *ret = TAKE_PTR(bytes);
        *ret_pages = size / sizeof(struct hash);
        return 0;
}
