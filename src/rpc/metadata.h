/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A list of gRPC metadata: names in lower case, values as bytes. Those of names in "-bin" are base64 on the wire. */

#include <stddef.h>
#include <stdint.h>

struct rpc_metadata_item {
        char *name;
        uint8_t *value; /* a NUL follows */
        size_t size;
};

/** Zero-initialise; free with rpc_metadata_clear(). */
struct rpc_metadata {
        struct rpc_metadata_item *items;
        size_t n, room;
        size_t bytes; /* names and values as they are on the wire, with 32 bytes for each item (RFC 9113, 6.5.2) */
        size_t limit; /* of bytes; 0: RPC_METADATA_LIMIT */
};

/** The most of it that is taken by default. */
#define RPC_METADATA_LIMIT ((size_t)16 << 10)

/**
 * Appends a copy.
 *
 * @return 0; -E2BIG beyond the limit; -EINVAL for a name or value that may not be sent
 */
int rpc_metadata_add(struct rpc_metadata *metadata, const char *name, const void *value, size_t size);

/** As rpc_metadata_add(), for a value as it came from the wire: base64 is decoded for "-bin". */
int rpc_metadata_add_wire(struct rpc_metadata *metadata, const char *name, size_t name_size, const void *value,
                          size_t size);

/** @return the first item of that name, NULL: none */
const struct rpc_metadata_item *rpc_metadata_get(const struct rpc_metadata *metadata, const char *name);

/** @return the value as it goes on the wire; malloc'ed, NUL-terminated */
char *rpc_metadata_wire_value(const struct rpc_metadata_item *item);

void rpc_metadata_clear(struct rpc_metadata *metadata);
