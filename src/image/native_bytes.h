/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The little-endian integers of native images, at any address. */

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void native_put16(uint8_t *at, uint16_t value) {
        value = htole16(value);
        memcpy(at, &value, sizeof(value));
}

static inline void native_put32(uint8_t *at, uint32_t value) {
        value = htole32(value);
        memcpy(at, &value, sizeof(value));
}

static inline void native_put64(uint8_t *at, uint64_t value) {
        value = htole64(value);
        memcpy(at, &value, sizeof(value));
}

static inline uint16_t native_get16(const uint8_t *at) {
        uint16_t value;
        memcpy(&value, at, sizeof(value));
        return le16toh(value);
}

static inline uint32_t native_get32(const uint8_t *at) {
        uint32_t value;
        memcpy(&value, at, sizeof(value));
        return le32toh(value);
}

static inline uint64_t native_get64(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, sizeof(value));
        return le64toh(value);
}
