/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/inspect_images.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"

/** One file. */
struct loaded {
        const char *kind; /* one of those asked for */
        uint64_t id;
        struct criu_image_list list;
};

struct inspect_images {
        struct loaded *items; /* sorted */
        size_t n, room;
        const CriuImage__File **files; /* sorted by ID */
        size_t n_files;
};

static int compare_loaded(const void *a, const void *b) {
        const struct loaded *x = a, *y = b;
        int r = strcmp(x->kind, y->kind);
        return r ? r : (x->id > y->id) - (x->id < y->id);
}

static int compare_files(const void *a, const void *b) {
        const CriuImage__File *x = *(const CriuImage__File *const *)a, *y = *(const CriuImage__File *const *)b;
        return (x->id > y->id) - (x->id < y->id);
}

/** Which of the kinds a file is of; NULL: none. */
static const char *kind_of(const char *name, const char *const *kinds, uint64_t *ret_id) {
        for (; *kinds; kinds++) {
                const char *rest = text_after(name, *kinds);
                *ret_id = 0;
                if (rest && (streq(rest, ".img") || criu_images_id(name, *kinds, ret_id)))
                        return *kinds;
        }
        return NULL;
}

static int load_one(struct image *image, const char *name, struct loaded *to, struct st_error **err) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = image_read(image, name, &data, &size, err);
        return r < 0 ? r : criu_images_load(name, data, size, NULL, &to->list, err);
}

static void index_files(struct inspect_images *images) {
        const struct criu_image_list *list = inspect_images_find(images, "files", 0);
        if (!list)
                return;
        images->files = xcalloc(list->n + 1, sizeof(*images->files));
        for (size_t i = 0; i < list->n; i++)
                images->files[images->n_files++] = (const CriuImage__File *)list->items[i];
        qsort(images->files, images->n_files, sizeof(*images->files), compare_files);
}

int inspect_images_load(struct image *image, const char *const *kinds, struct inspect_images **ret,
                        struct st_error **err) {
        struct inspect_images *images = NEW(struct inspect_images);
        size_t n = image_file_count(image);
        uint64_t total = 0, id;
        int r = 0;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const char *name = image_file_name(image, i), *kind = kind_of(name, kinds, &id);
                if (!kind)
                        continue;
                uint64_t size = image_file_size(image, i);
                if (size > INSPECT_BYTES_MAX || (total += size) > INSPECT_BYTES_MAX) {
                        r = st_error_set(err, EFBIG, "its images are too large to be read");
                        break;
                }
                GROW(images->items, images->n, images->room);
                struct loaded *loaded = &images->items[images->n++];
                *loaded = (struct loaded){ .kind = kind, .id = id };
                r = load_one(image, name, loaded, err);
        }
        if (r < 0) {
                inspect_images_free(images);
                return r;
        }
        if (images->n > 0)
                qsort(images->items, images->n, sizeof(*images->items), compare_loaded);
        index_files(images);
        *ret = images;
        return 0;
}

struct inspect_images *inspect_images_free(struct inspect_images *images) {
        if (!images)
                return NULL;
        for (size_t i = 0; i < images->n; i++)
                criu_image_list_clear(&images->items[i].list);
        free(images->items);
        free(images->files);
        free(images);
        return NULL;
}

const struct criu_image_list *inspect_images_find(const struct inspect_images *images, const char *kind, uint64_t id) {
        struct loaded key = { .kind = kind, .id = id };
        if (images->n == 0)
                return NULL;
        const struct loaded *found = bsearch(&key, images->items, images->n, sizeof(key), compare_loaded);
        return found ? &found->list : NULL;
}

const void *inspect_images_one(const struct inspect_images *images, const char *kind, uint64_t id) {
        const struct criu_image_list *list = inspect_images_find(images, kind, id);
        return list && list->n == 1 ? list->items[0] : NULL;
}

const CriuImage__File *inspect_images_file(const struct inspect_images *images, uint32_t id) {
        CriuImage__File wanted = CRIU_IMAGE__FILE__INIT;
        const CriuImage__File *key = &wanted;
        wanted.id = id;
        if (images->n_files == 0)
                return NULL;
        const CriuImage__File **found = bsearch(&key, images->files, images->n_files, sizeof(key), compare_files);
        return found ? *found : NULL;
}
