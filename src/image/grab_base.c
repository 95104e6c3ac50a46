/* SPDX-License-Identifier: Apache-2.0 */
#include "image/grab_base.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "criu/images.h"
#include "image/native_reader.h"
#include "image/native_weave.h"

#define PAGE ((uint64_t)4096)
/** More pages than a process can have. */
#define PAGES_MAX ((uint64_t)1 << 40)
#define PAGEMAP_MAX ((uint64_t)1 << 30)

/** Pages one behind the other in memory, and in the file. */
struct entry {
        uint64_t at, pages;
        uint64_t first; /* in the file */
};

struct grab_base_process {
        uint64_t number;
        const struct native_file *file; /* its pages */
        struct entry *entries;          /* ascending */
        size_t n, room;
};

struct grab_base {
        struct grab_base_process *processes;
        size_t n, room;
};

static int read_file(const struct native *native, const struct native_file *file, char **ret, struct st_error **err) {
        _cleanup_(native_reader_freep) struct native_reader *reader = native_reader_new(native);
        _cleanup_free_ char *data = file->size <= PAGEMAP_MAX ? malloc((size_t)file->size + 1) : NULL;
        if (!data)
                return st_error_errno(err, ENOMEM, "cannot read %s of the parent", file->name);
        native_reader_begin(reader, file);
        for (uint64_t at = 0; at < file->size;) {
                ssize_t n = native_reader_read(reader, data + at, (size_t)(file->size - at), err);
                if (n <= 0)
                        return n < 0 ? (int)n : st_error_set(err, EBADMSG, "%s of the parent is damaged", file->name);
                at += (uint64_t)n;
        }
        *ret = TAKE_PTR(data);
        return 0;
}

static int add_entries(struct grab_base_process *process, const struct criu_image_list *list, struct st_error **err) {
        uint64_t first = 0, next = 0, total = process->file->size / PAGE;
        for (size_t i = 1; i < list->n; i++) {
                const CriuImage__Pagemap *message = (const CriuImage__Pagemap *)list->items[i];
                struct entry entry = { message->vaddr, criu_pagemap_pages(message), first };
                if (entry.pages > PAGES_MAX || entry.at < next || entry.at % PAGE != 0 ||
                    entry.at > UINT64_MAX - entry.pages * PAGE)
                        return st_error_set(err, EBADMSG, "the pagemap of process %llu in the parent is damaged",
                                            (unsigned long long)process->number);
                next = entry.at + entry.pages * PAGE;
                if (!(criu_pagemap_flags(message) & CRIU_PAGEMAP_PRESENT))
                        continue;
                if (entry.pages > total - first)
                        return st_error_set(err, EBADMSG, "%s of the parent is too short", process->file->name);
                GROW(process->entries, process->n, process->room);
                process->entries[process->n++] = entry;
                first += entry.pages;
        }
        return 0;
}

static int add_process(struct grab_base *base, const struct native *parent, const struct native_file *pagemap,
                       uint64_t number, struct st_error **err) {
        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        _cleanup_free_ char *data = NULL;
        int r = read_file(parent, pagemap, &data, err);
        if (r == 0)
                r = criu_images_load(pagemap->name, data, (size_t)pagemap->size, &criu_image__pagemap__descriptor,
                                     &list, err);
        if (r < 0)
                return r;
        if (list.n == 0 || list.items[0]->descriptor != &criu_image__pagemap_head__descriptor)
                return st_error_set(err, EBADMSG, "%s of the parent does not name its pages", pagemap->name);
        _cleanup_free_ char *name = xasprintf("pages-%u.img", ((CriuImage__PagemapHead *)list.items[0])->pages_id);
        const struct native_file *file = native_find(parent, name);
        if (!file || file->kind != NATIVE_PAGES)
                return 0; /* a process without pages */
        GROW(base->processes, base->n, base->room);
        struct grab_base_process *process = &base->processes[base->n++];
        *process = (struct grab_base_process){ .number = number, .file = file };
        return add_entries(process, &list, err);
}

int grab_base_new(const struct native *parent, struct grab_base **ret, struct st_error **err) {
        struct grab_base *base = NEW(struct grab_base);
        int r = 0;
        for (uint32_t i = 0; i < parent->index.n_files && r == 0; i++) {
                const struct native_file *file = &parent->index.files[i];
                uint64_t number;
                if (file->kind == NATIVE_DATA && criu_images_id(file->name, "pagemap", &number))
                        r = add_process(base, parent, file, number, err);
        }
        if (r < 0)
                grab_base_free(base);
        else
                *ret = base;
        return r;
}

struct grab_base *grab_base_free(struct grab_base *base) {
        if (!base)
                return NULL;
        for (size_t i = 0; i < base->n; i++)
                free(base->processes[i].entries);
        free(base->processes);
        free(base);
        return NULL;
}

struct grab_base_cursor grab_base_find(const struct grab_base *base, uint64_t number) {
        for (size_t i = 0; i < base->n; i++)
                if (base->processes[i].number == number)
                        return (struct grab_base_cursor){ .process = &base->processes[i] };
        return (struct grab_base_cursor){ 0 };
}

struct grab_base_pages grab_base_next(struct grab_base_cursor *cursor, uint64_t at, uint64_t pages) {
        const struct grab_base_process *process = cursor->process;
        struct grab_base_pages result = { .pages = pages };
        while (process && cursor->entry < process->n &&
               at - process->entries[cursor->entry].at >= process->entries[cursor->entry].pages * PAGE &&
               at >= process->entries[cursor->entry].at)
                cursor->entry++;
        if (!process || cursor->entry == process->n)
                return result;
        const struct entry *entry = &process->entries[cursor->entry];
        if (at < entry->at) {
                uint64_t gap = (entry->at - at) / PAGE;
                result.pages = gap < pages ? gap : pages;
                return result;
        }
        uint64_t skip = (at - entry->at) / PAGE;
        result.first = entry->first + skip;
        result.pages = entry->pages - skip < pages ? entry->pages - skip : pages;
        while (cursor->run < process->file->n &&
               result.first - cursor->run_page >= process->file->runs[cursor->run].count)
                cursor->run_page += process->file->runs[cursor->run++].count;
        if (cursor->run == process->file->n)
                return result;
        const struct native_run *run = &process->file->runs[cursor->run];
        uint64_t left = run->count - (result.first - cursor->run_page);
        if (left < result.pages)
                result.pages = left;
        if (native_can_refer(run))
                result.file = process->file;
        return result;
}
