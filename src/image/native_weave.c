/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_weave.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "image/native_encoder.h"

/** Where one is in the runs of a file; pages come in order. */
struct place {
        const struct native_file *file;
        uint32_t run;
        uint64_t page; /* the run's first one's number in the file */
};

struct weaving {
        struct native_run *runs;
        uint32_t n, room;
};

static void add_run(struct weaving *weaving, struct native_run run) {
        struct native_run *last = weaving->n > 0 ? &weaving->runs[weaving->n - 1] : NULL;
        if (last && native_run_continues(last, run.source, run.frame, run.page) &&
            run.count <= UINT32_MAX - last->count) {
                last->count += run.count;
                return;
        }
        GROW(weaving->runs, weaving->n, weaving->room);
        weaving->runs[weaving->n++] = run;
}

/** Adds pages of a file. @param generation how many further away its sources are */
static int add_pages(struct weaving *weaving, struct place *place, uint64_t first, uint64_t pages, uint16_t generation,
                     struct st_error **err) {
        while (pages > 0) {
                const struct native_file *file = place->file;
                if (first < place->page) /* another file of the same parent, or a page before */
                        *place = (struct place){ .file = file };
                while (place->run < file->n && first - place->page >= file->runs[place->run].count)
                        place->page += file->runs[place->run++].count;
                if (place->run == file->n)
                        return st_error_set(err, EBADMSG, "%s has no page %llu", file->name, (unsigned long long)first);
                struct native_run run = file->runs[place->run];
                uint64_t skip = first - place->page, left = run.count - skip;
                if (left > pages)
                        left = pages;
                run.count = (uint32_t)left;
                if (run.source != NATIVE_ZERO) {
                        run.page = (uint16_t)(run.page + skip);
                        run.source = (uint16_t)(run.source + generation);
                }
                add_run(weaving, run);
                first += left;
                pages -= left;
        }
        return 0;
}

int native_weave(const struct store_file *source, struct native_file *file, struct st_error **err) {
        struct place stored = { .file = file }, parent = { 0 };
        struct weaving weaving = { 0 };
        uint64_t done = 0;
        int r = 0;
        for (size_t i = 0; i < source->n_references && r == 0; i++) {
                const struct store_reference *reference = &source->references[i];
                uint64_t before = reference->before / NATIVE_PAGE;
                if (parent.file != reference->file)
                        parent = (struct place){ .file = reference->file };
                r = add_pages(&weaving, &stored, done, before - done, 0, err);
                if (r == 0)
                        r = add_pages(&weaving, &parent, reference->first, reference->pages, 1, err);
                done = before;
        }
        if (r == 0)
                r = add_pages(&weaving, &stored, done, file->size / NATIVE_PAGE - done, 0, err);
        if (r < 0) {
                free(weaving.runs);
                return r;
        }
        free(file->runs);
        file->runs = weaving.runs;
        file->n = weaving.n;
        file->size += store_referred(source);
        return 0;
}
