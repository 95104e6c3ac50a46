/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/grpc.h"

/* @return how many bytes the UTF-8 character at p has (RFC 3629, 4), 0 when it is none */
static size_t utf8_character(const uint8_t *p, size_t n) {
        uint8_t low = 0x80, high = 0xbf; /* of the second byte */
        size_t size;

        if (p[0] < 0x80)
                return 1;
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 0;
        size = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        if (n < size)
                return 0;
        if (p[0] == 0xe0)
                low = 0xa0; /* overlong */
        else if (p[0] == 0xed)
                high = 0x9f; /* surrogates */
        else if (p[0] == 0xf0)
                low = 0x90; /* overlong */
        else if (p[0] == 0xf4)
                high = 0x8f; /* beyond U+10FFFF */
        if (p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < size; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        return size;
}

static void sanitise_string(uint8_t *p, size_t n) {
        while (n > 0) {
                size_t size = utf8_character(p, n);

                if (size == 0) {
                        *p = '?';
                        size = 1;
                }
                p += size;
                n -= size;
        }
}

/* @return how many bytes the varint has, 0 when it does not end */
static size_t varint(const uint8_t *p, size_t n, uint64_t *ret) {
        uint64_t value = 0;

        for (size_t i = 0; i < n && i < 10; i++) {
                value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
                if (!(p[i] & 0x80)) {
                        *ret = value;
                        return i + 1;
                }
        }
        return 0;
}

/* @return the bytes of a field's value without its length, SIZE_MAX when it does not fit; *ret_skip: of the length */
static size_t value_size(unsigned wire_type, const uint8_t *p, size_t n, size_t *ret_skip) {
        uint64_t value = 0;
        size_t size;

        *ret_skip = 0;
        switch (wire_type) {
        case PROTOBUF_C_WIRE_TYPE_VARINT:
                size = varint(p, n, &value);
                return size > 0 ? size : SIZE_MAX;
        case PROTOBUF_C_WIRE_TYPE_64BIT:
                return n >= 8 ? 8 : SIZE_MAX;
        case PROTOBUF_C_WIRE_TYPE_32BIT:
                return n >= 4 ? 4 : SIZE_MAX;
        case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
                *ret_skip = varint(p, n, &value);
                return *ret_skip > 0 && value <= n - *ret_skip ? (size_t)value : SIZE_MAX;
        default:
                return SIZE_MAX;
        }
}

/*
 * On the packed bytes and not on the message: a replacement of the same length changes no length around it, and the
 * caller's message, whose strings may be constants, stays as it is. Recurses as deep as packing did.
 */
void grpc_sanitise(const ProtobufCMessageDescriptor *descriptor, uint8_t *data, size_t n) {
        while (n > 0) {
                const ProtobufCFieldDescriptor *field;
                uint64_t tag = 0;
                size_t skip, size, tag_size = varint(data, n, &tag);

                if (tag_size == 0)
                        return;
                data += tag_size;
                n -= tag_size;
                size = value_size(tag & 7, data, n, &skip);
                if (size == SIZE_MAX)
                        return;
                data += skip;
                n -= skip;
                field = tag >> 3 <= UINT32_MAX
                                ? protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3))
                                : NULL;
                if (field && (tag & 7) == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
                        if (field->type == PROTOBUF_C_TYPE_STRING)
                                sanitise_string(data, size);
                        else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
                                grpc_sanitise(field->descriptor, data, size);
                }
                data += size;
                n -= size;
        }
}
