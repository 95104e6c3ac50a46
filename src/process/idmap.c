/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "base/memory.h"
#include "process/idmap.h"

#define FIRST_ROOM 64

/* Fibonacci hashing: inodes and PIDs are mostly consecutive, and so spread evenly. Linear probing from there. */
static struct idmap_slot *find(const struct idmap *map, uint64_t key) {
        size_t mask = map->room - 1;
        size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & mask;

        while (map->slots[i].key != 0 && map->slots[i].key != key)
                i = (i + 1) & mask;
        return &map->slots[i];
}

size_t *idmap_get(const struct idmap *map, uint64_t key) {
        if (map->room == 0 || key == 0)
                return NULL;

        struct idmap_slot *slot = find(map, key);
        return slot->key == key ? &slot->value : NULL;
}

static void grow(struct idmap *map) {
        struct idmap old = *map;

        map->room = old.room ? old.room * 2 : FIRST_ROOM;
        map->slots = xcalloc(map->room, sizeof(*map->slots));
        for (size_t i = 0; i < old.room; i++)
                if (old.slots[i].key != 0)
                        *find(map, old.slots[i].key) = old.slots[i];
        free(old.slots);
}

bool idmap_put(struct idmap *map, uint64_t key, size_t value) {
        assert(key != 0);
        if (map->n * 2 >= map->room)
                grow(map);

        struct idmap_slot *slot = find(map, key);
        bool added = slot->key == 0;
        *slot = (struct idmap_slot){ .key = key, .value = value };
        map->n += added;
        return added;
}

void idmap_clear(struct idmap *map) {
        free(map->slots);
        *map = (struct idmap){ 0 };
}
