/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "rpc/grpc.h"

#define PREFIX_COMPRESSED 1

static int prefix_check(struct grpc_decoder *decoder, struct st_error **err) {
        const uint8_t *p = decoder->prefix;
        size_t size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];

        if (p[0] == PREFIX_COMPRESSED)
                return st_error_set(err, EOPNOTSUPP, "compressed messages are not supported: send identity");
        if (p[0] != 0)
                return st_error_set(err, EPROTO, "a message with the unknown flags 0x%02x", p[0]);
        if (size > decoder->limit)
                return st_error_set(err, EMSGSIZE, "a message of %zu bytes, of %zu that are allowed", size,
                                    decoder->limit);
        decoder->size = size;
        return 0;
}

int grpc_decoder_next(struct grpc_decoder *decoder, const uint8_t **data, size_t *n, struct st_error **err) {
        size_t take;
        uint8_t *to;
        int r;

        while (decoder->n_prefix < GRPC_PREFIX_SIZE) {
                if (*n == 0)
                        return 0;
                decoder->prefix[decoder->n_prefix++] = **data;
                (*data)++, (*n)--;
                if (decoder->n_prefix == GRPC_PREFIX_SIZE && (r = prefix_check(decoder, err)) < 0)
                        return r;
        }
        take = decoder->size - rpc_buffer_size(&decoder->message);
        if (take > *n)
                take = *n;
        if (take > 0) {
                to = rpc_buffer_extend(&decoder->message, take);
                if (!to)
                        return st_error_set(err, ENOMEM, "no memory for a message of %zu bytes", decoder->size);
                memcpy(to, *data, take);
                *data += take;
                *n -= take;
        }
        return rpc_buffer_size(&decoder->message) == decoder->size;
}

void grpc_decoder_reset(struct grpc_decoder *decoder) {
        decoder->n_prefix = 0;
        decoder->size = 0;
        rpc_buffer_consume(&decoder->message, rpc_buffer_size(&decoder->message));
}

void grpc_decoder_clear(struct grpc_decoder *decoder) {
        rpc_buffer_clear(&decoder->message);
        decoder->n_prefix = 0;
        decoder->size = 0;
}

int grpc_append_message(struct rpc_buffer *buffer, const ProtobufCMessage *message, bool utf8) {
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *p;

        if (size > UINT32_MAX)
                return -EMSGSIZE;
        p = rpc_buffer_extend(buffer, GRPC_PREFIX_SIZE + size);
        if (!p)
                return -ENOMEM;
        p[0] = 0;
        p[1] = (uint8_t)(size >> 24);
        p[2] = (uint8_t)(size >> 16);
        p[3] = (uint8_t)(size >> 8);
        p[4] = (uint8_t)size;
        p += GRPC_PREFIX_SIZE;
        protobuf_c_message_pack(message, p);
        if (utf8)
                grpc_sanitise(message->descriptor, p, size);
        return 0;
}

int grpc_timeout_parse(const char *text, size_t n, uint64_t *ret_usec) {
        static const struct {
                char unit;
                uint64_t usec;
        } units[] = { { 'H', 3600000000 }, { 'M', 60000000 }, { 'S', 1000000 }, { 'm', 1000 }, { 'u', 1 } };
        uint64_t value = 0;

        if (n < 2 || n > 9)
                return -EINVAL;
        for (size_t i = 0; i < n - 1; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return -EINVAL;
                value = value * 10 + (uint64_t)(text[i] - '0');
        }
        if (text[n - 1] == 'n') {
                *ret_usec = (value + 999) / 1000;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (units[i].unit == text[n - 1]) {
                        *ret_usec = value * units[i].usec; /* at most 3.6e17 */
                        return 0;
                }
        return -EINVAL;
}

void grpc_timeout_format(uint64_t usec, char ret[GRPC_TIMEOUT_SIZE]) {
        static const struct {
                char unit;
                uint64_t usec;
        } units[] = { { 'u', 1 }, { 'm', 1000 }, { 'S', 1000000 }, { 'M', 60000000 }, { 'H', 3600000000 } };
        uint64_t value = 99999999;
        size_t i;

        for (i = 0; i < ELEMENTSOF(units) - 1; i++)
                if (usec / units[i].usec < 99999999)
                        break;
        if (usec / units[i].usec < value)
                value = usec / units[i].usec + (usec % units[i].usec != 0);
        snprintf(ret, GRPC_TIMEOUT_SIZE, "%lu%c", (unsigned long)value, units[i].unit);
}

bool grpc_is_content_type(const char *text, size_t n) {
        static const char type[] = "application/grpc";
        size_t size = sizeof(type) - 1;

        return n >= size && strncasecmp(text, type, size) == 0 && (n == size || text[size] == '+' || text[size] == ';');
}

static bool needs_escape(unsigned char c) {
        return c < 0x20 || c > 0x7e || c == '%';
}

char *grpc_percent_encode(const char *text) {
        static const char digits[] = "0123456789ABCDEF";
        char *ret = xmalloc(GRPC_MESSAGE_LIMIT + 4), *to = ret;
        size_t cut = 0; /* where the last whole character ended */

        for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
                if ((*p & 0xc0) != 0x80)
                        cut = (size_t)(to - ret);
                if ((size_t)(to - ret) + (needs_escape(*p) ? 3 : 1) > GRPC_MESSAGE_LIMIT) {
                        memcpy(ret + cut, "...", 3);
                        to = ret + cut + 3;
                        break;
                }
                if (needs_escape(*p)) {
                        *to++ = '%';
                        *to++ = digits[*p >> 4];
                        *to++ = digits[*p & 15];
                } else
                        *to++ = (char)*p;
        }
        *to = '\0';
        return ret;
}

static int hex_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *grpc_percent_decode(const char *text, size_t n) {
        char *ret = xmalloc(n + 1), *to = ret;

        for (size_t i = 0; i < n; i++) {
                int high = text[i] == '%' && n - i > 2 ? hex_value(text[i + 1]) : -1;
                int low = high >= 0 ? hex_value(text[i + 2]) : -1;

                if (low >= 0 && (high > 0 || low > 0)) { /* a NUL would cut the text: its escape stays */
                        *to++ = (char)(high << 4 | low);
                        i += 2;
                } else
                        *to++ = text[i];
        }
        *to = '\0';
        return ret;
}
