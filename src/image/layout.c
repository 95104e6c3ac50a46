/* SPDX-License-Identifier: Apache-2.0 */
#include "image/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/memory.h"
#include "image/streamer.h"

#define MIB ((uint64_t)1 << 20)
/** Pieces of each archive that a large file should have, to be balanced. */
#define PIECES_WANTED 16
#define PIECE_MAX (64 * MIB)

uint64_t layout_piece_size(uint64_t total, unsigned streams) {
        uint64_t size = total / streams / PIECES_WANTED;
        size = (size + MIB - 1) / MIB * MIB;
        return size < MIB ? MIB : size < PIECE_MAX ? size : PIECE_MAX;
}

static uint64_t count_pieces(const struct manifest *manifest, const struct manifest_entry *entry) {
        if (manifest->streams == 0 || !streamer_is_pages(entry->name) || entry->size <= manifest->piece)
                return 1;
        return (entry->size + manifest->piece - 1) / manifest->piece;
}

static int allocate(const struct manifest *manifest, struct layout *layout, struct st_error **err) {
        for (size_t i = 0; i < manifest->n; i++) {
                uint64_t n = count_pieces(manifest, &manifest->entries[i]);
                if (n > LAYOUT_PIECES_MAX || layout->n + n > LAYOUT_PIECES_MAX)
                        return st_error_set(err, E2BIG, "its files are in more than %zu pieces", LAYOUT_PIECES_MAX);
                layout->n += (size_t)n;
        }
        layout->pieces = xcalloc(layout->n > 0 ? layout->n : 1, sizeof(*layout->pieces));
        layout->first = xcalloc(manifest->n + 1, sizeof(*layout->first));
        return 0;
}

int layout_make(const struct manifest *manifest, struct layout *ret, struct st_error **err) {
        struct layout layout = { .parts = manifest->streams > 0 ? manifest->streams : 1 };
        int r = allocate(manifest, &layout, err);
        if (r < 0)
                return r;
        size_t at = 0;
        unsigned part = 0; /* of the last piece of pages */
        for (size_t i = 0; i < manifest->n; i++) {
                const struct manifest_entry *entry = &manifest->entries[i];
                uint64_t n = count_pieces(manifest, entry), offset = 0;
                layout.first[i] = at;
                for (uint64_t k = 0; k < n; k++) {
                        bool pages = streamer_is_pages(entry->name);
                        uint64_t size = n > 1 && entry->size - offset > manifest->piece ? manifest->piece
                                                                                        : entry->size - offset;
                        part = pages ? (part + 1) % layout.parts : part;
                        layout.pieces[at++] = (struct piece){ i, offset, size, pages ? part : 0 };
                        offset += size;
                }
        }
        layout.first[manifest->n] = at;
        *ret = layout;
        return 0;
}

void layout_clear(struct layout *layout) {
        free(layout->pieces);
        free(layout->first);
        *layout = (struct layout){ 0 };
}

char *layout_piece_name(const struct manifest *manifest, const struct piece *piece) {
        const struct manifest_entry *entry = &manifest->entries[piece->entry];
        return piece->size == entry->size ? xstrdup(entry->name)
                                          : xasprintf("%s.%016" PRIu64, entry->name, piece->offset);
}

char *layout_part_name(unsigned part, const char *suffix) {
        return xasprintf("img-%u%s", part, suffix);
}
