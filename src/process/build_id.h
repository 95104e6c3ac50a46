/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The build ID of programs and libraries: what tells two builds of equal size apart. elf(5), NT_GNU_BUILD_ID. */

#include <stddef.h>
#include <stdint.h>

#define BUILD_ID_MAX 64

/**
 * Reads the build ID of an ELF file of this machine's byte order, 32 or 64 bit. The file may be anything: what is read
 * is bounded.
 *
 * @return its length; 0: it has none, or is no such file; -errno
 */
int build_id_read(int fd, uint8_t id[BUILD_ID_MAX]);
