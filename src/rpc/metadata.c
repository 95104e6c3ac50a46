/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/metadata.h"

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Without padding, as gRPC recommends for what it sends (PROTOCOL-HTTP2.md, Binary-Header). */
static char *base64_encode(const uint8_t *data, size_t n) {
        char *ret = xmalloc(n / 3 * 4 + 5), *to = ret;

        for (size_t i = 0; i < n; i += 3) {
                size_t left = n - i;
                uint32_t bits = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                                (left > 2 ? data[i + 2] : 0);

                *to++ = base64_digits[bits >> 18];
                *to++ = base64_digits[bits >> 12 & 63];
                if (left > 1)
                        *to++ = base64_digits[bits >> 6 & 63];
                if (left > 2)
                        *to++ = base64_digits[bits & 63];
        }
        *to = '\0';
        return ret;
}

/* With or without padding. @return malloc'ed bytes with a NUL behind them, NULL: no base64 */
static uint8_t *base64_decode(const char *text, size_t n, size_t *ret_size) {
        _cleanup_free_ uint8_t *ret = xmalloc(n / 4 * 3 + 4);
        uint32_t bits = 0;
        size_t size = 0, digits;

        while (n > 0 && text[n - 1] == '=')
                n--;
        for (digits = 0; digits < n; digits++) {
                const char *p = text[digits] ? strchr(base64_digits, text[digits]) : NULL;

                if (!p)
                        return NULL;
                bits = bits << 6 | (uint32_t)(p - base64_digits);
                if (digits % 4 > 0)
                        ret[size++] = (uint8_t)(bits >> (6 - 2 * (digits % 4)));
        }
        if (digits % 4 == 1)
                return NULL;
        ret[size] = '\0';
        *ret_size = size;
        return TAKE_PTR(ret);
}

static bool is_binary(const char *name) {
        return text_ends_with(name, "-bin");
}

static bool name_is_valid(const char *name) {
        return *name && name[strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz-_.")] == '\0' &&
               !text_after(name, "grpc-");
}

static bool value_is_valid(const uint8_t *value, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (value[i] < 0x20 || value[i] > 0x7e)
                        return false;
        return size == 0 || (value[0] != ' ' && value[size - 1] != ' ');
}

/* Takes name and value. */
static int append(struct rpc_metadata *metadata, char *name, uint8_t *value, size_t size) {
        size_t limit = metadata->limit ? metadata->limit : RPC_METADATA_LIMIT;
        size_t wire = (is_binary(name) ? (size * 4 + 2) / 3 : size) + strlen(name) + 32;

        if (wire > limit - metadata->bytes) {
                free(name);
                free(value);
                return -E2BIG;
        }
        GROW(metadata->items, metadata->n, metadata->room);
        metadata->items[metadata->n++] = (struct rpc_metadata_item){ .name = name, .value = value, .size = size };
        metadata->bytes += wire;
        return 0;
}

int rpc_metadata_add(struct rpc_metadata *metadata, const char *name, const void *value, size_t size) {
        uint8_t *copy;

        if (size > RPC_METADATA_LIMIT)
                return -E2BIG;
        if (!name_is_valid(name) || (!is_binary(name) && !value_is_valid(value, size)))
                return -EINVAL;
        copy = xmalloc(size + 1);
        if (size > 0)
                memcpy(copy, value, size);
        copy[size] = '\0';
        return append(metadata, xstrdup(name), copy, size);
}

int rpc_metadata_add_wire(struct rpc_metadata *metadata, const char *name, size_t name_size, const void *value,
                          size_t size) {
        _cleanup_free_ char *copy = NULL;
        _cleanup_free_ uint8_t *decoded = NULL;
        size_t decoded_size;

        if (name_size > RPC_METADATA_LIMIT || size > RPC_METADATA_LIMIT)
                return -E2BIG;
        copy = xstrndup(name, name_size);
        if (!is_binary(copy))
                return rpc_metadata_add(metadata, copy, value, size);
        decoded = base64_decode(value, size, &decoded_size);
        if (!decoded || !name_is_valid(copy))
                return -EINVAL;
        return append(metadata, TAKE_PTR(copy), TAKE_PTR(decoded), decoded_size);
}

const struct rpc_metadata_item *rpc_metadata_get(const struct rpc_metadata *metadata, const char *name) {
        for (size_t i = 0; i < metadata->n; i++)
                if (streq(metadata->items[i].name, name))
                        return metadata->items + i;
        return NULL;
}

char *rpc_metadata_wire_value(const struct rpc_metadata_item *item) {
        return is_binary(item->name) ? base64_encode(item->value, item->size)
                                     : xstrndup((const char *)item->value, item->size);
}

void rpc_metadata_clear(struct rpc_metadata *metadata) {
        for (size_t i = 0; i < metadata->n; i++) {
                free(metadata->items[i].name);
                free(metadata->items[i].value);
        }
        free(metadata->items);
        *metadata = (struct rpc_metadata){};
}
