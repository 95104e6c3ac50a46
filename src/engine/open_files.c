/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/text.h"
#include "criu/images.h"

/* Two magic numbers, criu/images.h. */
#define HEAD_SIZE 8

static int compare_numbers(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
        return x < y ? -1 : x > y;
}

static int visit_remap(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        const CriuImage__RemapFilePath *remap = (const CriuImage__RemapFilePath *)entry->message;
        struct open_files *files = userdata;

        (void)err;
        GROW(files->remapped, files->n_remapped, files->room_remapped);
        files->remapped[files->n_remapped++] = remap->orig_id;
        return 0;
}

int open_files_add_remaps(struct open_files *files, const void *data, size_t size, struct st_error **err) {
        int r = criu_images_each("remap-fpath.img", data, size, &criu_image__remap_file_path__descriptor, visit_remap,
                                 files, err);
        if (r >= 0 && files->n_remapped > 0)
                qsort(files->remapped, files->n_remapped, sizeof(uint32_t), compare_numbers);
        return r;
}

static bool is_remapped(const struct open_files *files, uint32_t id) {
        return files->n_remapped > 0 &&
               bsearch(&id, files->remapped, files->n_remapped, sizeof(uint32_t), compare_numbers);
}

/* What a path of /proc leads to may be known only when the processes are there. */
static bool is_usable(const CriuImage__RegFile *reg) {
        return reg->has_mode && S_ISREG(reg->mode) && !reg->ext && reg->name[0] == '/' &&
               !text_after(reg->name, "/proc/");
}

static int visit_file(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        const CriuImage__File *file = (const CriuImage__File *)entry->message;
        const CriuImage__RegFile *reg = file->reg;
        struct open_files *files = userdata;

        (void)err;
        files->has_fanotify |= file->type == CRIU_IMAGE__FD_TYPE__FD_FANOTIFY;
        if (file->type != CRIU_IMAGE__FD_TYPE__FD_REG || !reg || !is_usable(reg) || is_remapped(files, file->id))
                return 0;
        if (reg->has_mnt_id && reg->mnt_id >= 0) {
                files->elsewhere++;
                return 0;
        }

        bool writable = (reg->flags & O_ACCMODE) != O_RDONLY, append = (reg->flags & O_APPEND) != 0;
        GROW(files->ids, files->n_ids, files->room_ids);
        files->ids[files->n_ids++] = (struct open_file_id){ .id = file->id, .index = files->n };
        GROW(files->items, files->n, files->room);
        files->items[files->n++] = (struct open_file){
                .path = xstrdup(reg->name),
                .has_size = reg->has_size,
                .size = reg->size,
                .mode = reg->mode,
                .writable = writable,
                .append = !writable || append,
                /* Without a size (CRIU keeps none of those that only append) it stands at the end anyway. */
                .at_end = !writable || append || (reg->has_size && reg->pos == reg->size),
                .position = reg->pos,
        };
        return 0;
}

int open_files_add(struct open_files *files, const void *data, size_t size, struct st_error **err) {
        int r = criu_images_each("files.img", data, size, &criu_image__file__descriptor, visit_file, files, err);

        if (r >= 0 && files->n_ids > 0) /* the id is first in the element */
                qsort(files->ids, files->n_ids, sizeof(*files->ids), compare_numbers);
        return r;
}

static void add_map(struct open_files *files, const CriuImage__Vma *vma) {
        bool shared = vma->status & CRIU_VMA_FILE_SHARED;
        uint32_t id = (uint32_t)vma->shmid;
        const struct open_file_id *found;
        uint64_t end;

        if (!shared && !(vma->status & CRIU_VMA_FILE_PRIVATE))
                return;
        if (files->n_ids == 0 || vma->shmid > UINT32_MAX)
                return;
        found = bsearch(&id, files->ids, files->n_ids, sizeof(*files->ids), compare_numbers);
        if (!found)
                return;

        struct open_file *file = &files->items[found->index];
        file->executed |= (vma->prot & PROT_EXEC) != 0;
        if (vma->end > vma->start && !__builtin_add_overflow(vma->pgoff, vma->end - vma->start, &end) &&
            end > file->map_end)
                file->map_end = end;
        /* One that cannot write now may be made to (mprotect) when its descriptor could. */
        if (shared && ((vma->prot & PROT_WRITE) || (vma->has_fdflags && (vma->fdflags & O_ACCMODE) == O_RDWR)))
                file->writable = file->mapped = true;
}

static int visit_maps(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        const CriuImage__Mm *mm = (const CriuImage__Mm *)entry->message;

        (void)err;
        for (size_t i = 0; i < mm->n_vmas; i++)
                add_map(userdata, mm->vmas[i]);
        return 0;
}

int open_files_add_maps(struct open_files *files, const char *name, const void *data, size_t size,
                        struct st_error **err) {
        return criu_images_each(name, data, size, &criu_image__mm__descriptor, visit_maps, files, err);
}

static int compare_paths(const void *a, const void *b) {
        return strcmp(((const struct open_file *)a)->path, ((const struct open_file *)b)->path);
}

/** Two descriptions of one file. */
static void merge(struct open_file *to, struct open_file *from) {
        if (!to->has_size && from->has_size) {
                to->has_size = true;
                to->size = from->size;
        }
        to->writable |= from->writable;
        to->mapped |= from->mapped;
        to->append &= from->append;
        to->at_end &= from->at_end;
        to->executed |= from->executed;
        to->position = to->position > from->position ? to->position : from->position;
        to->map_end = to->map_end > from->map_end ? to->map_end : from->map_end;
        free(from->path);
}

void open_files_finish(struct open_files *files) {
        size_t kept = 0;

        /* The numbers of the files change. */
        files->n_ids = 0;
        if (files->n == 0)
                return;
        qsort(files->items, files->n, sizeof(*files->items), compare_paths);
        for (size_t i = 1; i < files->n; i++)
                if (streq(files->items[kept].path, files->items[i].path))
                        merge(&files->items[kept], &files->items[i]);
                else
                        files->items[++kept] = files->items[i];
        files->n = kept + 1;
        for (size_t i = 0; i < files->n; i++)
                if (files->items[i].mapped)
                        files->items[i].append = files->items[i].at_end = false;
}

const struct open_file *open_files_find(const struct open_files *files, const char *path) {
        struct open_file key = { .path = (char *)path };

        if (files->n == 0)
                return NULL;
        return bsearch(&key, files->items, files->n, sizeof(*files->items), compare_paths);
}

void open_files_clear(struct open_files *files) {
        for (size_t i = 0; i < files->n; i++)
                free(files->items[i].path);
        free(files->items);
        free(files->ids);
        free(files->remapped);
        *files = (struct open_files){ 0 };
}

struct relaxed {
        bool (*accept)(const char *path, void *userdata);
        void *userdata;
        uint8_t *data;
        size_t size;
};

static int append(struct relaxed *relaxed, const void *data, size_t size, struct st_error **err) {
        uint8_t *grown = realloc(relaxed->data, relaxed->size + size);

        if (!grown)
                return st_error_errno(err, ENOMEM, "cannot change files.img");
        memcpy(grown + relaxed->size, data, size);
        relaxed->data = grown;
        relaxed->size += size;
        return 0;
}

static int visit_relaxed(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        const CriuImage__File *file = (const CriuImage__File *)entry->message;
        struct relaxed *relaxed = userdata;

        if (file->reg && relaxed->accept(file->reg->name, relaxed->userdata))
                file->reg->has_size = file->reg->has_mode = 0;

        /* What the message holds beyond our schema stays in it: protobuf-c keeps unknown fields. */
        size_t n = protobuf_c_message_get_packed_size(entry->message);
        uint8_t *packed = malloc(4 + n);
        if (!packed)
                return st_error_errno(err, ENOMEM, "cannot change files.img");
        for (int i = 0; i < 4; i++)
                packed[i] = (uint8_t)(n >> (8 * i));
        protobuf_c_message_pack(entry->message, packed + 4);
        int r = append(relaxed, packed, 4 + n, err);
        free(packed);
        return r;
}

int open_files_relax(const void *data, size_t size, bool (*accept)(const char *path, void *userdata), void *userdata,
                     void **ret, size_t *ret_size, struct st_error **err) {
        struct relaxed relaxed = { .accept = accept, .userdata = userdata };
        int r;

        if (size < HEAD_SIZE)
                return st_error_set(err, EBADMSG, "files.img is damaged: it is too short");
        r = append(&relaxed, data, HEAD_SIZE, err);
        if (r >= 0)
                r = criu_images_each("files.img", data, size, &criu_image__file__descriptor, visit_relaxed, &relaxed,
                                     err);
        if (r < 0) {
                free(relaxed.data);
                return r;
        }
        *ret = relaxed.data;
        *ret_size = relaxed.size;
        return 0;
}
