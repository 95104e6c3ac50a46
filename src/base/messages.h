/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* protobuf-c messages by reflection: to and from JSON, packing, copies. */

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include <stasis/error.h>

/** A message as JSON, field names as in the .proto; unset fields are left out, bytes become base64. New reference. */
json_t *message_to_json(const ProtobufCMessage *message);

/**
 * The text of the same JSON, as json_dumps() writes it with JSON_INDENT(2), several times as fast.
 *
 * @param depth how deep in other JSON it stands: by so many steps all lines but the first are indented
 * @return malloc'ed
 */
char *message_to_json_text(const ProtobufCMessage *message, unsigned depth);

/**
 * Fills a message from a JSON object: names as in the .proto, enums by name (any case) or number, integers also as
 * text, bytes as base64. Fields that the object does not name stay; null unsets one; a list replaces all elements; an
 * object is merged into the message that is there. Strings and submessages are malloc'ed, as
 * protobuf_c_message_unpack() makes them. After a failure the message is still valid, and filled in part.
 *
 * @return 0, or -EINVAL with err naming the field: "unknown field ghost_limt", "Criu.tcp_close: expected true or false"
 */
int message_from_json(ProtobufCMessage *message, json_t *object, struct st_error **err);

/** An initialised, empty message of a type on the heap; free with protobuf_c_message_free_unpacked(m, NULL). */
void *message_new(const ProtobufCMessageDescriptor *descriptor);

/** @return malloc'ed packed bytes (never NULL) */
uint8_t *message_pack(const ProtobufCMessage *message, size_t *ret_size);

/** A deep copy on the heap. */
void *message_copy(const ProtobufCMessage *message);

/** Adds a malloc'ed string or message to a repeated field: message_append(&resp->n_paths, &resp->paths, s). */
#define message_append(n, array, element)                                   \
        do {                                                                \
                *(array) = xrealloc(*(array), *(n) + 1, sizeof(**(array))); \
                (*(array))[(*(n))++] = (element);                           \
        } while (0)

/** Replaces a string field of a message by a copy; NULL unsets it. The field's default must be none or "". */
void message_set_string(char **field, const char *value);

/** Frees a heap message when the variable leaves its scope: _cleanup_(message_freep) Daemon__DumpReq *req = NULL; */
void message_freep(void *message);
