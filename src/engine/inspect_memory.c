/* SPDX-License-Identifier: Apache-2.0 */

/* The memory of a checkpoint: the areas of each task, and how many of their pages are where. */

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/inspect_parts.h"

/** The kernel's name of a shared mapping without a file, as CRIU finds it. */
#define SHARED_NAME "/dev/zero"

/** Pages of a pagemap file; the shared ones are left alone. */
static int count_pages(const struct criu_image_list *list, struct inspect_pages *pages, struct st_error **err) {
        for (size_t i = 0; list && i < list->n; i++) {
                if (list->items[i]->descriptor != &criu_image__pagemap__descriptor)
                        continue;
                const CriuImage__Pagemap *entry = (const CriuImage__Pagemap *)list->items[i];
                uint64_t n = criu_pagemap_pages(entry);
                uint32_t flags = criu_pagemap_flags(entry);
                uint64_t *to = flags & CRIU_PAGEMAP_PRESENT  ? &pages->present
                               : flags & CRIU_PAGEMAP_PARENT ? &pages->parent
                                                             : &pages->zero;
                bool overflow = __builtin_add_overflow(*to, n, to);
                if (flags & CRIU_PAGEMAP_PRESENT && flags & CRIU_PAGEMAP_LAZY)
                        pages->lazy += n;
                if (overflow || *to > UINT64_MAX / CRIU_PAGE_SIZE)
                        return st_error_set(err, EBADMSG,
                                            "a pagemap is damaged: it counts more pages than there can be");
        }
        return 0;
}

/** The segment that an area is of: which pagemap-shmem file has its pages. */
static uint64_t segment_of(const struct inspection *inspection, const CriuImage__Vma *vma) {
        const CriuImage__File *file =
                vma->status & CRIU_VMA_MEMFD ? inspect_images_file(inspection->images, (uint32_t)vma->shmid) : NULL;
        const CriuImage__MemfdInode *inode =
                file && file->memfd ? inspect_memfd(inspection, file->memfd->inode_id) : NULL;
        return inode ? inode->shmid : vma->shmid;
}

static bool is_of_file(const CriuImage__Vma *vma) {
        return vma->status & (CRIU_VMA_FILE_PRIVATE | CRIU_VMA_FILE_SHARED);
}

static bool is_segment(const CriuImage__Vma *vma) {
        return vma->status & (CRIU_VMA_ANON_SHARED | CRIU_VMA_SYSVIPC | CRIU_VMA_MEMFD);
}

static char *describe_file(const struct inspection *inspection, const CriuImage__Vma *vma) {
        const CriuImage__File *file = inspect_images_file(inspection->images, (uint32_t)vma->shmid);
        if (file && file->reg)
                return xstrdup(file->reg->name);
        const CriuImage__MemfdInode *inode =
                file && file->memfd ? inspect_memfd(inspection, file->memfd->inode_id) : NULL;
        if (!inode)
                return xstrdup(vma->status & CRIU_VMA_MEMFD ? "[memfd]" : "[file]");
        return streq(inode->name, SHARED_NAME) ? xstrdup("[shared]") : xasprintf("memfd:%s", inode->name);
}

/** What an area is; NULL: private memory without a name. */
static char *describe(const struct inspection *inspection, const CriuImage__Mm *mm, const CriuImage__Vma *vma) {
        static const struct {
                uint32_t status;
                const char *name;
        } names[] = {
                { CRIU_VMA_HEAP, "[heap]" },          { CRIU_VMA_VDSO, "[vdso]" },       { CRIU_VMA_VVAR, "[vvar]" },
                { CRIU_VMA_VSYSCALL, "[vsyscall]" },  { CRIU_VMA_AIORING, "[aio]" },     { CRIU_VMA_GUARD, "[guard]" },
                { CRIU_VMA_SHSTK, "[shadow stack]" }, { CRIU_VMA_UPROBES, "[uprobes]" }, { CRIU_VMA_SYSVIPC, "[shm]" },
                { CRIU_VMA_SOCKET, "[socket]" },
        };
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (vma->status & names[i].status)
                        return xstrdup(names[i].name);
        if (is_of_file(vma) || (vma->status & CRIU_VMA_MEMFD))
                return describe_file(inspection, vma);
        if (vma->status & CRIU_VMA_ANON_SHARED)
                return xstrdup("[shared]");
        /* CRIU marks no stack as one. */
        return mm->mm_start_stack >= vma->start && mm->mm_start_stack < vma->end ? xstrdup("[stack]") : NULL;
}

static int compare_numbers(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;
        return (*x > *y) - (*x < *y);
}

/** Distinct segments of a task. */
struct segments {
        uint64_t *ids;
        size_t n, room;
};

static void segments_clear(struct segments *segments) {
        free(segments->ids);
}

/** The pages of all segments, each counted once. */
static int count_segments(const struct inspection *inspection, struct segments *segments, uint64_t *ret,
                          struct st_error **err) {
        struct inspect_pages pages = { 0 };
        if (segments->n > 0)
                qsort(segments->ids, segments->n, sizeof(*segments->ids), compare_numbers);
        for (size_t i = 0; i < segments->n; i++) {
                if (i > 0 && segments->ids[i] == segments->ids[i - 1])
                        continue;
                int r = count_pages(inspect_images_find(inspection->images, "pagemap-shmem", segments->ids[i]), &pages,
                                    err);
                if (r < 0)
                        return r;
        }
        *ret = pages.present;
        return 0;
}

static int add_area(struct inspection *inspection, struct inspect_task *task, const CriuImage__Mm *mm,
                    const CriuImage__Vma *vma, struct st_error **err) {
        if (vma->end < vma->start)
                return st_error_set(err, EBADMSG, "mm-%d.img is damaged: an area ends before it begins",
                                    (int)task->pid);
        GROW(inspection->areas, inspection->n_areas, inspection->areas_room);
        struct inspect_area *area = &inspection->areas[inspection->n_areas++];
        *area = (struct inspect_area){
                .pid = task->pid,
                .start = vma->start,
                .end = vma->end,
                .permissions = { vma->prot & PROT_READ ? 'r' : '-', vma->prot & PROT_WRITE ? 'w' : '-',
                                 vma->prot & PROT_EXEC ? 'x' : '-', vma->flags & MAP_SHARED ? 's' : 'p' },
                .what = describe(inspection, mm, vma),
        };
        task->mapped += vma->end - vma->start;
        return inspect_count_row(inspection, area->what, err);
}

static int add_areas(struct inspection *inspection, struct inspect_task *task, const CriuImage__Mm *mm,
                     struct segments *all, struct st_error **err) {
        _cleanup_(segments_clear) struct segments segments = { 0 };
        for (size_t i = 0; i < mm->n_vmas; i++) {
                const CriuImage__Vma *vma = mm->vmas[i];
                int r = add_area(inspection, task, mm, vma, err);
                if (r < 0)
                        return r;
                if (!is_segment(vma))
                        continue;
                GROW(segments.ids, segments.n, segments.room);
                segments.ids[segments.n++] = segment_of(inspection, vma);
                GROW(all->ids, all->n, all->room);
                all->ids[all->n++] = segment_of(inspection, vma);
        }
        return count_segments(inspection, &segments, &task->pages.shared, err);
}

int inspect_memory(struct inspection *inspection, struct st_error **err) {
        _cleanup_(segments_clear) struct segments all = { 0 };
        for (size_t i = 0; i < inspection->n_tasks; i++) {
                struct inspect_task *task = &inspection->tasks[i];
                const CriuImage__Mm *mm = inspect_images_one(inspection->images, "mm", (uint64_t)task->pid);
                int r = mm ? add_areas(inspection, task, mm, &all, err) : 0;
                if (r >= 0)
                        r = count_pages(inspect_images_find(inspection->images, "pagemap", (uint64_t)task->pid),
                                        &task->pages, err);
                if (r < 0)
                        return r;
        }
        return count_segments(inspection, &all, &inspection->shared_pages, err);
}
