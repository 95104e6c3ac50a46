/* SPDX-License-Identifier: Apache-2.0 */
#include "image/page_table.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/** So many that threads seldom meet. */
#define SHARDS 64
#define SHARD_FIRST 256
#define DIGEST 16

/*
 * A slot is 0 when nothing is there, or (from the lowest bit) page 9, frame 24, source 11, tag 19, used 1. The tag is a
 * part of the digest: nearly always it saves a look at the digest itself, which is elsewhere in memory.
 */
#define FRAME_AT 9
#define SOURCE_AT 33
#define TAG_AT 44
#define TAG_BITS 19
#define USED (UINT64_C(1) << 63)

struct shard {
        pthread_mutex_t lock;
        uint64_t *slots;
        size_t n, room; /* a power of two */
};

/** The digests of another image. */
struct source {
        uint8_t *digests;
        uint32_t *first; /* for each frame the number of its first page */
};

/** Digests of the image that is written, one block for each frame: found without a lock, so they are never moved. */
#define BLOCKS_AT_ONCE 4096
struct blocks {
        uint8_t *of[BLOCKS_AT_ONCE];
};

struct page_table {
        struct shard shards[SHARDS];
        struct source *sources;
        uint16_t n_sources, room_sources;
        pthread_mutex_t lock; /* of the next */
        _Atomic(struct blocks *) blocks[NATIVE_FRAMES_MAX / BLOCKS_AT_ONCE];
};

struct page_table *page_table_new(void) {
        struct page_table *table = NEW(struct page_table);
        pthread_mutex_init(&table->lock, NULL);
        for (size_t i = 0; i < SHARDS; i++)
                pthread_mutex_init(&table->shards[i].lock, NULL);
        return table;
}

struct page_table *page_table_free(struct page_table *table) {
        if (!table)
                return NULL;
        for (size_t i = 0; i < SHARDS; i++) {
                pthread_mutex_destroy(&table->shards[i].lock);
                free(table->shards[i].slots);
        }
        for (size_t i = 0; i < NATIVE_FRAMES_MAX / BLOCKS_AT_ONCE; i++) {
                struct blocks *blocks = table->blocks[i];
                for (size_t k = 0; blocks && k < BLOCKS_AT_ONCE; k++)
                        free(blocks->of[k]);
                free(blocks);
        }
        for (size_t i = 0; i < table->n_sources; i++) {
                free(table->sources[i].digests);
                free(table->sources[i].first);
        }
        free(table->sources);
        pthread_mutex_destroy(&table->lock);
        free(table);
        return NULL;
}

static uint64_t make_slot(struct page_place place, uint64_t tag) {
        return USED | tag << TAG_AT | (uint64_t)place.source << SOURCE_AT | (uint64_t)place.frame << FRAME_AT |
               place.page;
}

static struct page_place place_of(uint64_t slot) {
        return (struct page_place){
                .frame = (uint32_t)(slot >> FRAME_AT) & (NATIVE_FRAMES_MAX - 1),
                .page = (uint16_t)(slot & ((1u << FRAME_AT) - 1)),
                .source = (uint16_t)(slot >> SOURCE_AT & ((1u << (TAG_AT - SOURCE_AT)) - 1)),
        };
}

static uint8_t *digest_at(const struct page_table *table, struct page_place place) {
        if (place.source == 0)
                return table->blocks[place.frame / BLOCKS_AT_ONCE]->of[place.frame % BLOCKS_AT_ONCE] +
                       (size_t)place.page * DIGEST;
        const struct source *source = &table->sources[place.source - 1];
        return source->digests + ((size_t)source->first[place.frame] + place.page) * DIGEST;
}

/* Different bits of the digest choose the shard, the slot, the tag. */
static uint64_t tag_of(struct hash digest) {
        return digest.high >> 32 & ((1u << TAG_BITS) - 1);
}

static struct shard *shard_of(struct page_table *table, struct hash digest) {
        return &table->shards[digest.high % SHARDS];
}

static void grow(const struct page_table *table, struct shard *shard) {
        size_t room = shard->room > 0 ? 2 * shard->room : SHARD_FIRST;
        uint64_t *slots = xcalloc(room, sizeof(*slots));
        for (size_t i = 0; i < shard->room; i++) {
                if (shard->slots[i] == 0)
                        continue;
                size_t at = native_get_digest(digest_at(table, place_of(shard->slots[i]))).low & (room - 1);
                while (slots[at] != 0)
                        at = (at + 1) & (room - 1);
                slots[at] = shard->slots[i];
        }
        free(shard->slots);
        shard->slots = slots;
        shard->room = room;
}

/** The slot of a page, or the free one where it would be. */
static uint64_t *find(const struct page_table *table, struct shard *shard, struct hash digest) {
        const uint64_t tag = tag_of(digest);
        for (size_t at = digest.low & (shard->room - 1);; at = (at + 1) & (shard->room - 1)) {
                uint64_t slot = shard->slots[at];
                if (slot == 0)
                        return &shard->slots[at];
                if ((slot >> TAG_AT & ((1u << TAG_BITS) - 1)) == tag &&
                    hash_equal(native_get_digest(digest_at(table, place_of(slot))), digest))
                        return &shard->slots[at];
        }
}

/** The free slot of a page that is nowhere yet, or the one it has. */
static uint64_t *find_with_room(const struct page_table *table, struct shard *shard, struct hash digest) {
        if (4 * (shard->n + 1) > 3 * shard->room)
                grow(table, shard);
        return find(table, shard, digest);
}

uint16_t page_table_add_source(struct page_table *table, const struct native_frame *frames, uint32_t n_frames,
                               uint8_t *digests) {
        struct source source = { .digests = digests, .first = xcalloc(n_frames, sizeof(*source.first)) };
        GROW(table->sources, table->n_sources, table->room_sources);
        const uint16_t number = ++table->n_sources;
        assert(number <= NATIVE_ANCESTORS_MAX);
        table->sources[number - 1] = source;
        uint32_t page = 0;
        for (uint32_t i = 0; i < n_frames; i++) {
                source.first[i] = page;
                if (frames[i].kind != NATIVE_PAGES)
                        continue;
                for (uint32_t k = 0; k < frames[i].decoded / NATIVE_PAGE; k++, page++) {
                        struct hash digest = native_get_digest(digests + (size_t)page * DIGEST);
                        struct shard *shard = shard_of(table, digest);
                        uint64_t *slot = find_with_room(table, shard, digest);
                        if (*slot == 0) {
                                *slot = make_slot((struct page_place){ i, (uint16_t)k, number }, tag_of(digest));
                                shard->n++;
                        }
                }
        }
        return number;
}

void page_table_open_frame(struct page_table *table, uint32_t frame) {
        assert(frame < NATIVE_FRAMES_MAX);
        _Atomic(struct blocks *) *at = &table->blocks[frame / BLOCKS_AT_ONCE];
        pthread_mutex_lock(&table->lock);
        if (!*at)
                *at = NEW(struct blocks);
        struct blocks *blocks = *at;
        pthread_mutex_unlock(&table->lock);
        blocks->of[frame % BLOCKS_AT_ONCE] = xmalloc(PAGE_TABLE_FRAME * DIGEST);
}

bool page_table_add(struct page_table *table, struct hash digest, struct page_place place, struct page_place *ret) {
        struct shard *shard = shard_of(table, digest);
        pthread_mutex_lock(&shard->lock);
        uint64_t *slot = find_with_room(table, shard, digest);
        bool known = *slot != 0;
        if (known)
                *ret = place_of(*slot);
        else {
                native_put_digest(digest_at(table, place), digest);
                *slot = make_slot(place, tag_of(digest));
                shard->n++;
        }
        pthread_mutex_unlock(&shard->lock);
        return known;
}

const uint8_t *page_table_digests(const struct page_table *table, uint32_t frame) {
        return table->blocks[frame / BLOCKS_AT_ONCE]->of[frame % BLOCKS_AT_ONCE];
}
