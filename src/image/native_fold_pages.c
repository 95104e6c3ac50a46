/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_fold_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/native_encoder.h"
#include "image/threads.h"

#define DIGEST sizeof(struct hash)
/** Pages of a frame that is made of what is needed of others. */
#define FRAME_PAGES PAGE_TABLE_FRAME
/** Source of a page that nobody needs. */
#define NOT_NEEDED (UINT16_MAX - 1)
/** Source of one that is needed, and is nowhere yet. */
#define NEEDED (UINT16_MAX - 2)

/** A page of an ancestor that stays, to be found by its content. */
struct kept_page {
        struct hash digest;
        struct page_place place;
};

struct taking {
        struct folding *folding;
        struct page_place ***places; /* for each dropped source, for each of its frames, for each page; NULL: none */
        struct kept_page *kept;      /* sorted */
        size_t n_kept;
        struct native_coder *coder;
        enum native_codec codec;
        uint8_t *decoded; /* a frame */

        /* A frame of single pages. */
        uint8_t *bytes;
        size_t n;
        uint8_t digests[FRAME_PAGES * DIGEST];
        struct page_place *waiting[FRAME_PAGES]; /* for its number */
};

static struct page_place *places_of(const struct taking *taking, const struct native_run *run) {
        return taking->places[run->source][run->frame];
}

static bool is_dropped(const struct taking *taking, const struct native_run *run) {
        return run->source != NATIVE_ZERO && run->source != 0 && taking->folding->dropped[run->source];
}

static void mark_run(struct taking *taking, const struct native_run *run) {
        size_t pages = fold_pages_of(&taking->folding->old->sources[run->source].frames[run->frame]);
        struct page_place **places = &taking->places[run->source][run->frame];
        if (!*places) {
                *places = xcalloc(pages, sizeof(struct page_place));
                for (size_t i = 0; i < pages; i++)
                        (*places)[i].source = NOT_NEEDED;
        }
        for (uint32_t k = 0; k < run->count; k++)
                (*places)[run->page + k].source = NEEDED;
}

/** Which pages are needed. The runs were checked when the image was opened. */
static void mark(struct taking *taking) {
        const struct native *old = taking->folding->old;
        taking->places = xcalloc(old->n_sources, sizeof(*taking->places));
        for (uint32_t s = 1; s < old->n_sources; s++)
                if (taking->folding->dropped[s])
                        taking->places[s] = xcalloc(old->sources[s].n_frames + (size_t)1, sizeof(**taking->places));
        for (uint32_t i = 0; i < old->index.n_files; i++) {
                const struct native_file *file = &old->index.files[i];
                for (uint32_t k = 0; file->kind == NATIVE_PAGES && k < file->n; k++)
                        if (is_dropped(taking, &file->runs[k]))
                                mark_run(taking, &file->runs[k]);
        }
}

static int compare_kept(const void *a, const void *b) {
        const struct kept_page *left = a, *right = b;
        if (left->digest.high != right->digest.high)
                return left->digest.high < right->digest.high ? -1 : 1;
        return left->digest.low == right->digest.low ? 0 : left->digest.low < right->digest.low ? -1 : 1;
}

/** @param number of the source in the new image */
static int list_source(struct taking *taking, const struct native *native, uint32_t source, uint16_t number,
                       size_t *room, struct st_error **err) {
        const struct native_source *from = &native->sources[source];
        _cleanup_free_ uint8_t *digests = NULL;
        const uint8_t *at;
        size_t pages;
        if (from->header.seed != taking->folding->old->sources[0].header.seed)
                return 0;
        int r = native_read_digests(native, source, &digests, &pages, err);
        at = digests;
        for (uint32_t f = 0; r == 0 && f < from->n_frames; f++)
                for (size_t p = 0; p < fold_pages_of(&from->frames[f]); p++, at += DIGEST) {
                        GROW(taking->kept, taking->n_kept, *room);
                        taking->kept[taking->n_kept++] =
                                (struct kept_page){ native_get_digest(at), { f, (uint16_t)p, number } };
                }
        return r;
}

/** Lists what the ancestors that stay have: a sibling that was folded before may be one of them. */
static int list_kept(struct taking *taking, struct st_error **err) {
        const struct native *old = taking->folding->old;
        size_t room = 0;
        int r = 0;
        for (uint32_t s = 1; s < old->n_sources && r == 0; s++)
                if (!taking->folding->dropped[s])
                        r = list_source(taking, old, s, taking->folding->sources[s], &room, err);
        for (size_t i = 0; i < taking->folding->n_siblings && r == 0; i++)
                r = list_source(taking, taking->folding->siblings[i], 0, (uint16_t)(taking->folding->n_kept + 1 + i),
                                &room, err);
        if (taking->n_kept > 0)
                qsort(taking->kept, taking->n_kept, sizeof(*taking->kept), compare_kept);
        return r;
}

static const struct kept_page *find_kept(const struct taking *taking, const uint8_t *digest) {
        const struct kept_page key = { .digest = native_get_digest(digest) };
        return taking->n_kept > 0 ? bsearch(&key, taking->kept, taking->n_kept, sizeof(key), compare_kept) : NULL;
}

/** Writes the frame of single pages. */
static int flush(struct taking *taking, struct st_error **err) {
        struct folding *folding = taking->folding;
        struct native_frame frame = { .kind = NATIVE_PAGES, .decoded = (uint32_t)(taking->n * NATIVE_PAGE) };
        if (taking->n == 0)
                return 0;
        ssize_t n = native_encode(taking->coder, taking->codec, taking->bytes, frame.decoded, folding->buffer,
                                  &frame.codec);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot encode a frame of %s", folding->target);
        frame.stored = (uint32_t)n;
        frame.digest = hash_of(folding->buffer, frame.stored);
        for (size_t i = 0; i < taking->n; i++)
                taking->waiting[i]->frame = folding->index.n_frames;
        taking->n = 0;
        int r = fold_put(folding, folding->buffer, frame.stored, err);
        return r < 0 ? r : fold_add_frame(folding, &frame, taking->digests, err);
}

static int add_page(struct taking *taking, const uint8_t *page, const uint8_t *digest, struct page_place *place,
                    struct st_error **err) {
        if (!taking->bytes)
                taking->bytes = xmalloc(FRAME_PAGES * NATIVE_PAGE);
        memcpy(taking->bytes + taking->n * NATIVE_PAGE, page, NATIVE_PAGE);
        memcpy(taking->digests + taking->n * DIGEST, digest, DIGEST);
        *place = (struct page_place){ .page = (uint16_t)taking->n };
        taking->waiting[taking->n++] = place;
        return taking->n == FRAME_PAGES ? flush(taking, err) : 0;
}

/** The needed pages of a frame, one by one. */
static int take_single(struct taking *taking, uint32_t source, uint32_t frame, const uint8_t *digests,
                       struct st_error **err) {
        struct folding *folding = taking->folding;
        struct page_place *places = taking->places[source][frame];
        size_t pages = fold_pages_of(&folding->old->sources[source].frames[frame]);
        if (!taking->decoded)
                taking->decoded = xmalloc(NATIVE_FRAME_MAX);
        int r = native_read_frame(folding->old, source, frame, taking->coder, folding->buffer, taking->decoded, err);
        for (size_t i = 0; i < pages && r == 0; i++)
                if (places[i].source == NEEDED)
                        r = add_page(taking, taking->decoded + i * NATIVE_PAGE, digests + i * DIGEST, &places[i], err);
        return r;
}

/** A frame of which most is needed is copied as it is. */
static int take_whole(struct taking *taking, uint32_t source, uint32_t frame, const uint8_t *digests,
                      struct st_error **err) {
        struct folding *folding = taking->folding;
        const struct native_frame *entry = &folding->old->sources[source].frames[frame];
        struct page_place *places = taking->places[source][frame];
        for (size_t i = 0; i < fold_pages_of(entry); i++)
                if (places[i].source == NEEDED)
                        places[i] = (struct page_place){ .frame = folding->index.n_frames, .page = (uint16_t)i };
        int r = fold_copy_frame(folding, source, frame, err);
        return r < 0 ? r : fold_add_frame(folding, entry, digests, err);
}

static int take_frame(struct taking *taking, uint32_t source, uint32_t frame, const uint8_t *digests,
                      struct st_error **err) {
        struct page_place *places = taking->places[source][frame];
        size_t pages = fold_pages_of(&taking->folding->old->sources[source].frames[frame]), missing = 0;
        for (size_t i = 0; i < pages; i++) {
                const struct kept_page *found =
                        places[i].source == NEEDED ? find_kept(taking, digests + i * DIGEST) : NULL;
                if (found)
                        places[i] = found->place;
                if (found && found->place.source > taking->folding->n_kept)
                        taking->folding->sibling_used[found->place.source - taking->folding->n_kept - 1] = true;
                missing += places[i].source == NEEDED;
        }
        if (missing == 0)
                return 0;
        if (threads_signalled(taking->folding->fold->cancel_fd))
                return st_error_set(err, ECANCELED, "cancelled");
        return 2 * missing >= pages ? take_whole(taking, source, frame, digests, err)
                                    : take_single(taking, source, frame, digests, err);
}

static int take_source(struct taking *taking, uint32_t source, struct st_error **err) {
        const struct native_source *from = &taking->folding->old->sources[source];
        _cleanup_free_ uint8_t *digests = NULL;
        const uint8_t *at;
        size_t pages;
        int r = native_read_digests(taking->folding->old, source, &digests, &pages, err);
        at = digests;
        for (uint32_t f = 0; f < from->n_frames && r == 0; f++) {
                if (taking->places[source][f])
                        r = take_frame(taking, source, f, at, err);
                at += fold_pages_of(&from->frames[f]) * DIGEST;
        }
        return r;
}

static void append_run(struct native_file *file, size_t *room, struct native_run run) {
        struct native_run *last = file->n > 0 ? &file->runs[file->n - 1] : NULL;
        if (last && native_run_continues(last, run.source, run.frame, run.page) &&
            run.count <= UINT32_MAX - last->count) {
                last->count += run.count;
                return;
        }
        GROW(file->runs, file->n, *room);
        file->runs[file->n++] = run;
}

/** The number of a source when only those siblings are listed that are used. */
static uint16_t final_number(const struct folding *folding, uint16_t source) {
        uint16_t number = folding->n_kept;
        if (source <= folding->n_kept)
                return source;
        for (uint16_t i = 0; i < source - folding->n_kept; i++)
                number = (uint16_t)(number + folding->sibling_used[i]);
        return number;
}

/** Every page of the file is somewhere by now. */
static void convert_runs(const struct taking *taking, struct native_file *file) {
        struct native_file changed = { 0 };
        size_t room = 0;
        for (uint32_t i = 0; i < file->n; i++) {
                struct native_run run = file->runs[i];
                if (!is_dropped(taking, &run)) {
                        if (run.source != NATIVE_ZERO)
                                run.source = taking->folding->sources[run.source];
                        append_run(&changed, &room, run);
                        continue;
                }
                for (uint32_t k = 0; k < run.count; k++) {
                        const struct page_place *place = &places_of(taking, &run)[run.page + k];
                        append_run(&changed, &room,
                                   (struct native_run){ 1, place->frame, place->page,
                                                        final_number(taking->folding, place->source) });
                }
        }
        free(file->runs);
        file->runs = changed.runs;
        file->n = changed.n;
}

/** As the frames are that are there. */
static enum native_codec choose_codec(const struct native *old) {
        for (uint32_t s = 0; s < old->n_sources; s++)
                for (uint32_t f = 0; f < old->sources[s].n_frames; f++)
                        if (old->sources[s].frames[f].codec != NATIVE_RAW)
                                return (enum native_codec)old->sources[s].frames[f].codec;
        return NATIVE_RAW;
}

static void taking_clear(struct taking *taking) {
        const struct native *old = taking->folding->old;
        for (uint32_t s = 0; s < old->n_sources; s++) {
                for (uint32_t f = 0; taking->places && taking->places[s] && f < old->sources[s].n_frames; f++)
                        free(taking->places[s][f]);
                free(taking->places ? taking->places[s] : NULL);
        }
        free(taking->places);
        free(taking->kept);
        free(taking->decoded);
        free(taking->bytes);
        native_coder_free(taking->coder);
}

int fold_take_pages(struct folding *folding, struct st_error **err) {
        _cleanup_(taking_clear) struct taking taking = {
                .folding = folding,
                .coder = native_coder_new(),
                .codec = choose_codec(folding->old),
        };
        struct native_index *index = &folding->old->index;
        mark(&taking);
        int r = list_kept(&taking, err);
        for (uint32_t s = 1; s < folding->old->n_sources && r == 0; s++)
                if (folding->dropped[s])
                        r = take_source(&taking, s, err);
        if (r == 0)
                r = flush(&taking, err);
        for (uint32_t i = 0; i < index->n_files && r == 0; i++)
                if (index->files[i].kind == NATIVE_PAGES)
                        convert_runs(&taking, &index->files[i]);
        return r;
}
