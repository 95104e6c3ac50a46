/* SPDX-License-Identifier: Apache-2.0 */
#include "lazy/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "criu/images.h"
#include "image/formats.h"

/* A task of 16 TiB; more is no process of this machine, but damage. */
#define TASK_PAGES_MAX ((uint64_t)1 << 32)

/* Of one task: how far its files have been read. */
struct reader {
        struct lazy_plan *plan;
        size_t task; /* in plan->tasks */
        const CriuImage__Mm *mm;
        size_t vma;                     /* of mm, the next that may be of use */
        const struct native_file *file; /* the pages */
        size_t run;                     /* of file */
        uint64_t run_page;              /* the first page's number in the file */
        struct lazy_rest *rest;
};

/* As they lie in the files. */
static int compare_frames(const void *a, const void *b) {
        const struct lazy_frame *x = a, *y = b;

        if (x->source != y->source)
                return x->source < y->source ? -1 : 1;
        return x->frame < y->frame ? -1 : x->frame > y->frame;
}

static int compare_uses(const void *a, const void *b) {
        const struct lazy_use *x = a, *y = b;

        if (x->frame != y->frame)
                return x->frame < y->frame ? -1 : 1;
        if (x->task != y->task)
                return x->task < y->task ? -1 : 1;
        return x->piece < y->piece ? -1 : x->piece > y->piece;
}

struct lazy_plan *lazy_plan_free(struct lazy_plan *plan) {
        if (!plan)
                return NULL;
        for (size_t i = 0; i < plan->n_tasks; i++)
                free(plan->tasks[i].pieces);
        for (size_t i = 0; i < plan->n_rests; i++) {
                free(plan->rests[i].name);
                free(plan->rests[i].ranges);
                free(plan->rests[i].pagemap_name);
                free(plan->rests[i].pagemap);
        }
        free(plan->tasks);
        free(plan->frames);
        free(plan->uses);
        free(plan->rests);
        free(plan);
        return NULL;
}

ssize_t lazy_plan_find(const struct lazy_plan *plan, int32_t pid) {
        for (size_t i = 0; i < plan->n_tasks; i++)
                if (plan->tasks[i].pid == pid)
                        return (ssize_t)i;
        return -ENOENT;
}

const struct lazy_piece *lazy_plan_piece(const struct lazy_plan_task *task, uint64_t at) {
        size_t low = 0, high = task->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const struct lazy_piece *piece = &task->pieces[middle];

                if (at < piece->at)
                        high = middle;
                else if (at - piece->at >= piece->count * LAZY_PAGE)
                        low = middle + 1;
                else
                        return piece;
        }
        return NULL;
}

/* What CRIU registers for faults (vma_entry_can_be_lazy() in its vma.h), less what a child must not inherit. */
static bool can_be_lazy(const CriuImage__Vma *vma) {
        const uint32_t kernel = CRIU_VMA_VDSO | CRIU_VMA_VVAR | CRIU_VMA_VSYSCALL;

        return (vma->flags & MAP_ANONYMOUS) && (vma->flags & MAP_PRIVATE) &&
               !(vma->flags & (MAP_LOCKED | MAP_HUGETLB)) && !(vma->status & kernel) &&
               !(vma->has_madv && (vma->madv >> MADV_WIPEONFORK & 1));
}

/* The mapping that an address is in; addresses come in order. NULL: none */
static const CriuImage__Vma *find_vma(struct reader *reader, uint64_t at) {
        while (reader->vma < reader->mm->n_vmas && reader->mm->vmas[reader->vma]->end <= at)
                reader->vma++;
        if (reader->vma == reader->mm->n_vmas || reader->mm->vmas[reader->vma]->start > at)
                return NULL;
        return reader->mm->vmas[reader->vma];
}

/* The run that a page of the file is in; pages come in order. NULL: it has none */
static const struct native_run *find_run(struct reader *reader, uint64_t page) {
        const struct native_file *file = reader->file;

        while (reader->run < file->n && page >= reader->run_page + file->runs[reader->run].count)
                reader->run_page += file->runs[reader->run++].count;
        return reader->run < file->n ? &file->runs[reader->run] : NULL;
}

/* Pages that belong to a task, as far as they are in one run and one mapping. Zeros that follow zeros join them. */
static void add_piece(struct reader *reader, uint64_t at, uint64_t count, const struct native_run *run, uint64_t skip) {
        struct lazy_plan *plan = reader->plan;
        struct lazy_plan_task *task = &plan->tasks[reader->task];
        struct lazy_piece piece = { .at = at, .count = (uint32_t)count, .frame = LAZY_ZERO };

        if (run->source != NATIVE_ZERO) {
                piece.page = (uint16_t)(run->page + skip);
                GROW(plan->frames, plan->n_frames, plan->room_frames);
                plan->frames[plan->n_frames] = (struct lazy_frame){ .source = run->source, .frame = run->frame };
                piece.frame = (uint32_t)plan->n_frames++; /* until all are known */
                plan->pages += count;
        }
        if (task->n > 0 && piece.frame == LAZY_ZERO) {
                struct lazy_piece *last = &task->pieces[task->n - 1];

                if (last->frame == LAZY_ZERO && last->at + last->count * LAZY_PAGE == at &&
                    last->count + count < UINT32_MAX) {
                        last->count += (uint32_t)count;
                        return;
                }
        }
        GROW(task->pieces, task->n, task->room);
        task->pieces[task->n++] = piece;
}

/* An entry of the pagemap that may come later. */
static int add_lazy(struct reader *reader, uint64_t at, uint64_t pages, uint64_t page, struct st_error **err) {
        while (pages > 0) {
                const CriuImage__Vma *vma = find_vma(reader, at);
                const struct native_run *run = find_run(reader, page);
                uint64_t count = pages, skip;

                if (!vma || !run)
                        return st_error_set(err, EBADMSG, "the image is damaged: page %llx of process %d is %s",
                                            (unsigned long long)at, reader->plan->tasks[reader->task].pid,
                                            vma ? "not stored" : "in no mapping");
                skip = page - reader->run_page;
                if (count > run->count - skip)
                        count = run->count - skip;
                if (count > (vma->end - at) / LAZY_PAGE)
                        count = (vma->end - at) / LAZY_PAGE;
                if (count == 0)
                        return st_error_set(err, EBADMSG, "the image is damaged: a mapping ends inside a page");
                add_piece(reader, at, count, run, skip);
                at += count * LAZY_PAGE;
                page += count;
                pages -= count;
        }
        return 0;
}

static void add_rest(struct lazy_rest *rest, uint64_t page, uint64_t pages) {
        if (rest->n > 0) {
                struct image_page_range *last = &rest->ranges[rest->n - 1];

                if (last->first + last->count == page) {
                        last->count += pages;
                        return;
                }
        }
        GROW(rest->ranges, rest->n, rest->room);
        rest->ranges[rest->n++] = (struct image_page_range){ .first = page, .count = pages };
}

/* Is all of it in mappings whose pages may come later? */
static bool all_lazy(struct reader *reader, uint64_t at, uint64_t pages) {
        size_t begin = reader->vma;
        bool all = true;

        for (uint64_t end = at + pages * LAZY_PAGE; at < end && all;) {
                const CriuImage__Vma *vma = find_vma(reader, at);

                all = vma && can_be_lazy(vma);
                at = vma ? vma->end : end;
        }
        reader->vma = begin;
        return all;
}

/* A file of CRIU's: magic numbers as they were, then messages with their lengths. */
static void append(struct lazy_rest *rest, const void *data, size_t size) {
        rest->pagemap = xrealloc(rest->pagemap, rest->pagemap_size + size, 1);
        memcpy((uint8_t *)rest->pagemap + rest->pagemap_size, data, size);
        rest->pagemap_size += size;
}

static size_t append_message(uint8_t *out, const ProtobufCMessage *message) {
        uint32_t size = (uint32_t)protobuf_c_message_get_packed_size(message);
        uint8_t length[4] = { (uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), (uint8_t)(size >> 24) };

        memcpy(out, length, sizeof(length));
        return sizeof(length) + protobuf_c_message_pack(message, out + sizeof(length));
}

/* What they take at most when the flags of each are written, too. */
static size_t rewritten_size(const struct criu_image_list *list) {
        size_t size = 0;

        for (size_t i = 0; i < list->n; i++)
                size += protobuf_c_message_get_packed_size(list->items[i]) + sizeof(uint32_t) + 16;
        return size;
}

/* Reads all entries and writes them anew: who is served a stream gets no bytes for what comes later. */
static int read_entries(struct reader *reader, const struct criu_image_list *list, struct st_error **err) {
        uint64_t page = 0, next = 0, total = reader->file->size / LAZY_PAGE;
        _cleanup_free_ uint8_t *out = xmalloc(rewritten_size(list));
        size_t size = append_message(out, list->items[0]);
        int r = 0;

        for (size_t i = 1; i < list->n && r >= 0; i++) {
                CriuImage__Pagemap *entry = (CriuImage__Pagemap *)list->items[i];
                uint64_t pages = criu_pagemap_pages(entry);
                uint32_t flags = criu_pagemap_flags(entry);

                if (pages == 0 || pages > TASK_PAGES_MAX || entry->vaddr < next || entry->vaddr % LAZY_PAGE ||
                    entry->vaddr > UINT64_MAX - pages * LAZY_PAGE)
                        return st_error_set(err, EBADMSG, "the image is damaged: %s is not in order",
                                            reader->rest->pagemap_name);
                next = entry->vaddr + pages * LAZY_PAGE;
                if (flags & CRIU_PAGEMAP_PARENT)
                        return st_error_set(err, EOPNOTSUPP, "%s refers to a parent", reader->rest->pagemap_name);
                if ((flags & CRIU_PAGEMAP_PRESENT) && pages > total - page)
                        return st_error_set(err, EBADMSG, "the image is damaged: %s has fewer pages than %s says",
                                            reader->rest->name, reader->rest->pagemap_name);
                if ((flags & CRIU_PAGEMAP_LAZY) && (flags & CRIU_PAGEMAP_PRESENT) &&
                    all_lazy(reader, entry->vaddr, pages)) {
                        r = add_lazy(reader, entry->vaddr, pages, page, err);
                        page += pages;
                        flags = CRIU_PAGEMAP_LAZY;
                } else if (flags & CRIU_PAGEMAP_PRESENT) {
                        add_rest(reader->rest, page, pages);
                        page += pages;
                        flags = CRIU_PAGEMAP_PRESENT;
                }
                entry->has_flags = 1;
                entry->flags = flags;
                size += append_message(out + size, &entry->base);
        }
        append(reader->rest, out, size);
        return r;
}

static int read_mm(struct image *image, int32_t pid, CriuImage__Mm **ret, struct st_error **err) {
        _cleanup_free_ char *name = xasprintf("mm-%d.img", pid), *data = NULL;
        size_t size;
        int r = image_read(image, name, &data, &size, err);

        if (r >= 0)
                r = criu_images_load_one(name, data, size, &criu_image__mm__descriptor, ret, err);
        return r;
}

static int read_task(struct lazy_plan *plan, struct image *image, const char *name, int32_t pid,
                     struct st_error **err) {
        _cleanup_(message_freep) CriuImage__Mm *mm = NULL;
        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        _cleanup_free_ char *data = NULL;
        struct reader reader = { .plan = plan, .task = plan->n_tasks };
        size_t size;
        int r = image_read(image, name, &data, &size, err);

        if (r >= 0)
                r = criu_images_load(name, data, size, &criu_image__pagemap__descriptor, &list, err);
        if (r >= 0)
                r = read_mm(image, pid, &mm, err);
        if (r < 0)
                return r;
        if (list.n == 0 || list.items[0]->descriptor != &criu_image__pagemap_head__descriptor)
                return st_error_set(err, EBADMSG, "%s is damaged: it does not name its pages", name);

        GROW(plan->tasks, plan->n_tasks, plan->room_tasks);
        plan->tasks[plan->n_tasks++] = (struct lazy_plan_task){ .pid = pid };
        GROW(plan->rests, plan->n_rests, plan->room_rests);
        reader.rest = &plan->rests[plan->n_rests++];
        *reader.rest = (struct lazy_rest){
                .name = xasprintf("pages-%u.img", ((CriuImage__PagemapHead *)list.items[0])->pages_id),
                .pagemap_name = xstrdup(name),
        };
        reader.mm = mm;
        reader.file = native_find(image->native, reader.rest->name);
        /* A process without pages has an empty file, which may be data or not there. */
        static const struct native_file empty = { .kind = NATIVE_PAGES };
        if (!reader.file || reader.file->size == 0)
                reader.file = &empty;
        else if (reader.file->kind != NATIVE_PAGES)
                return st_error_set(err, EOPNOTSUPP, "%s is not stored as pages", reader.rest->name);
        append(reader.rest, data, 8);
        return read_entries(&reader, &list, err);
}

/* Gives each frame one number and finds the pieces in it. */
static void number_frames(struct lazy_plan *plan) {
        struct lazy_frame *all = plan->frames;
        size_t n = plan->n_frames, n_unique = 0;
        struct lazy_frame *unique = xmalloc((n + 1) * sizeof(*unique));

        if (n > 0)
                memcpy(unique, all, n * sizeof(*unique));
        qsort(unique, n, sizeof(*unique), compare_frames);
        for (size_t i = 0; i < n; i++)
                if (n_unique == 0 || compare_frames(&unique[n_unique - 1], &unique[i]) != 0)
                        unique[n_unique++] = unique[i];
        for (size_t i = 0; i < plan->n_tasks; i++)
                for (size_t j = 0; j < plan->tasks[i].n; j++) {
                        struct lazy_piece *piece = &plan->tasks[i].pieces[j];
                        const struct lazy_frame *found;

                        if (piece->frame == LAZY_ZERO)
                                continue;
                        found = bsearch(&all[piece->frame], unique, n_unique, sizeof(*unique), compare_frames);
                        piece->frame = (uint32_t)(found - unique);
                        GROW(plan->uses, plan->n_uses, plan->room_uses);
                        plan->uses[plan->n_uses++] =
                                (struct lazy_use){ .frame = piece->frame, .task = (uint32_t)i, .piece = (uint32_t)j };
                }
        if (plan->n_uses > 0)
                qsort(plan->uses, plan->n_uses, sizeof(*plan->uses), compare_uses);
        for (size_t i = 0; i < plan->n_uses; i++) {
                struct lazy_frame *frame = &unique[plan->uses[i].frame];

                if (frame->n_uses++ == 0)
                        frame->first_use = i;
        }
        free(all);
        plan->frames = unique;
        plan->n_frames = n_unique;
}

int lazy_plan_make(struct image *image, struct lazy_plan **ret, struct st_error **err) {
        _cleanup_(lazy_plan_freep) struct lazy_plan *plan = NEW(struct lazy_plan);
        uint64_t pid;

        if (!image->native)
                return st_error_set(err, EOPNOTSUPP, "%s is not a native image", image_path(image));
        plan->native = image->native;
        for (size_t i = 0; i < image_file_count(image); i++)
                /* The kernel refuses userfaultfd(2) to who has its capabilities in a user namespace only. */
                if (criu_images_id(image_file_name(image, i), "userns", &pid))
                        return st_error_set(err, EOPNOTSUPP, "it has a user namespace");
        for (size_t i = 0; i < image_file_count(image); i++) {
                const char *name = image_file_name(image, i);
                int r = 0;

                if (criu_images_id(name, "pagemap", &pid))
                        r = pid <= INT32_MAX ? read_task(plan, image, name, (int32_t)pid, err)
                                             : st_error_set(err, EBADMSG, "%s: no process has this number", name);
                if (r < 0)
                        return r;
        }
        number_frames(plan);
        *ret = TAKE_PTR(plan);
        return 0;
}

int lazy_plan_apply(const struct lazy_plan *plan, struct image *image, struct st_error **err) {
        for (size_t i = 0; i < plan->n_rests; i++) {
                const struct lazy_rest *rest = &plan->rests[i];
                const struct native_file *file = native_find(image->native, rest->name);
                void *pagemap = xmalloc(rest->pagemap_size);
                int r;

                memcpy(pagemap, rest->pagemap, rest->pagemap_size);
                r = image_override(image, rest->pagemap_name, pagemap, rest->pagemap_size, err);
                if (r >= 0 && file && file->kind == NATIVE_PAGES)
                        r = image_select_pages(image, rest->name, rest->ranges, rest->n, err);
                if (r < 0)
                        return r;
        }
        return 0;
}
