/* SPDX-License-Identifier: Apache-2.0 */

/* CRIU's image files. Of an input, the first line is the file's name, the rest its bytes. */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "criu/images.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Touches all of a message, and of the data behind it. */
static int look(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        uint64_t *sum = userdata;
        (void)err;
        for (size_t i = 0; i < entry->size; i++)
                *sum += entry->data[i];
        json_decref(message_to_json(entry->message));
        if (entry->message->descriptor == &criu_image__pagemap__descriptor)
                *sum += criu_pagemap_pages((CriuImage__Pagemap *)entry->message) +
                        criu_pagemap_flags((CriuImage__Pagemap *)entry->message);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
        if (!end)
                return 0;
        _cleanup_free_ char *name = xstrndup((const char *)data, (size_t)(end - data));
        size_t length = size - (size_t)(end + 1 - data);
        /* Exactly as large as the file, so that a read beyond its end is seen. */
        _cleanup_free_ uint8_t *file = xmalloc(length + 1);
        file = xrealloc(file, length ? length : 1, 1);
        memcpy(file, end + 1, length);

        _cleanup_criu_image_list_ struct criu_image_list list = { 0 };
        uint64_t sum = 0, id;
        ProtobufCMessage *one = NULL;
        (void)criu_images_each(name, file, length, NULL, look, &sum, NULL);
        (void)criu_images_load(name, file, length, NULL, &list, NULL);
        if (criu_images_load_one(name, file, length, NULL, &one, NULL) == 0)
                protobuf_c_message_free_unpacked(one, NULL);
        (void)criu_images_id(name, "core", &id);
        return 0;
}
