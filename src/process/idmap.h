/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A hash table from a non-zero number (an inode, a PID) to an index: trees and tables of ten thousands stay linear. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Zero-initialise; free with idmap_clear(). */
struct idmap {
        struct idmap_slot {
                uint64_t key; /* 0: empty */
                size_t value;
        } * slots;
        size_t n, room; /* room is 0 or a power of two */
};

/** @return the place of the key's value, valid until the next idmap_put(); NULL when it is not in the map */
size_t *idmap_get(const struct idmap *map, uint64_t key);

/** Sets the value of a key. @return true when the key is new */
bool idmap_put(struct idmap *map, uint64_t key, size_t value);

void idmap_clear(struct idmap *map);
#define _cleanup_idmap_ __attribute__((cleanup(idmap_clear)))
