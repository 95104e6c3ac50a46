/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What gRPC puts on top of HTTP/2 (grpc/grpc, doc/PROTOCOL-HTTP2.md): the framing of messages, and the forms of its
 * headers. Nothing here knows of connections.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include <stasis/error.h>
#include "rpc/buffer.h"

/** The Length-Prefixed-Message: a byte of flags, and the length in network order. */
#define GRPC_PREFIX_SIZE ((size_t)5)

/** The most of a grpc-message that is sent: C-core's clients refuse more than 8 KiB of metadata in all. */
#define GRPC_MESSAGE_LIMIT ((size_t)4 << 10)

/** Puts messages together from the bytes of a stream. Zero-initialise and set limit; free with grpc_decoder_clear(). */
struct grpc_decoder {
        size_t limit; /* bytes of a message */
        uint8_t prefix[GRPC_PREFIX_SIZE];
        size_t n_prefix; /* bytes of the prefix that are there */
        size_t size;     /* of the message, once the prefix is there */
        struct rpc_buffer message;
};

/**
 * Takes bytes from *data until a message is complete or there are no more.
 *
 * @return 1: decoder->message holds a message; call grpc_decoder_reset() and again. 0: all bytes are taken.
 *         -EMSGSIZE: longer than the limit (seen in the prefix, before anything is allocated); -EOPNOTSUPP: compressed;
 *         -EPROTO: not a prefix; -ENOMEM. The text in err is for the other end.
 */
int grpc_decoder_next(struct grpc_decoder *decoder, const uint8_t **data, size_t *n, struct st_error **err);

/** Is the decoder between two messages? */
static inline bool grpc_decoder_idle(const struct grpc_decoder *decoder) {
        return decoder->n_prefix == 0;
}

void grpc_decoder_reset(struct grpc_decoder *decoder);
void grpc_decoder_clear(struct grpc_decoder *decoder);

/**
 * Appends a message with its prefix.
 *
 * @param utf8 replace bytes of strings that are not UTF-8 by '?'
 * @return 0, -EMSGSIZE (4 GiB or more) or -ENOMEM
 */
int grpc_append_message(struct rpc_buffer *buffer, const ProtobufCMessage *message, bool utf8);

/** Replaces what is not UTF-8 in the strings of a packed message of that type by '?', in place. */
void grpc_sanitise(const ProtobufCMessageDescriptor *descriptor, uint8_t *data, size_t n);

/** grpc-timeout: 1 to 8 digits and one of H M S m u n. @return 0 or -EINVAL */
int grpc_timeout_parse(const char *text, size_t n, uint64_t *ret_usec);

/** The room that a grpc-timeout needs. */
#define GRPC_TIMEOUT_SIZE 16

/** Writes a grpc-timeout, rounded up to what 8 digits can say. */
void grpc_timeout_format(uint64_t usec, char ret[GRPC_TIMEOUT_SIZE]);

/** application/grpc, alone or followed by '+' or ';'. */
bool grpc_is_content_type(const char *text, size_t n);

/** A text as a grpc-message: cut at GRPC_MESSAGE_LIMIT, percent-encoded. malloc'ed */
char *grpc_percent_encode(const char *text);

/** The text of a grpc-message. What is not a correct escape stays as it is. malloc'ed */
char *grpc_percent_decode(const char *text, size_t n);
