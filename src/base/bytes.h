/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Numbers in the bytes of files, whatever their alignment and the machine's order. */

#include <stdint.h>

/** Four bytes, the lowest first. */
static inline uint32_t bytes_le32(const uint8_t *p) {
        return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
