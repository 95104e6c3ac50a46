/* SPDX-License-Identifier: Apache-2.0 */

/* Messages as the text of their JSON, without a tree of it between: a message may hold ten thousand others. */

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/messages_private.h"

#define INDENT 2

struct writer {
        char *text;
        size_t n, room;
};

/* @return where `size` more bytes go */
static char *reserve(struct writer *writer, size_t size) {
        if (writer->room - writer->n < size) {
                writer->room = (writer->room + size) * 2;
                writer->text = xrealloc(writer->text, writer->room, 1);
        }
        return writer->text + writer->n;
}

static void put(struct writer *writer, const char *text, size_t size) {
        memcpy(reserve(writer, size), text, size);
        writer->n += size;
}

static void put_line(struct writer *writer, unsigned depth) {
        size_t size = (size_t)depth * INDENT + 1;
        char *to = reserve(writer, size);

        to[0] = '\n';
        memset(to + 1, ' ', size - 1);
        writer->n += size;
}

static void put_number(struct writer *writer, uint64_t value, bool negative) {
        char digits[24], *p = digits + sizeof(digits);

        do
                *--p = (char)('0' + value % 10);
        while (value /= 10);
        if (negative)
                *--p = '-';
        put(writer, p, (size_t)(digits + sizeof(digits) - p));
}

static void put_integer(struct writer *writer, int64_t value) {
        put_number(writer, value < 0 ? -(uint64_t)value : (uint64_t)value, value < 0);
}

/* Whatever is rare, or has rules of its own: as the tree would have it. */
static void put_other(struct writer *writer, const ProtobufCFieldDescriptor *field, const void *at) {
        json_t *json = message_value_to_json(field, at);
        _cleanup_free_ char *text = json_dumps(json, JSON_ENCODE_ANY);

        put(writer, text ? text : "null", text ? strlen(text) : strlen("null"));
        json_decref(json);
}

/* @return the length of a text that needs no escapes, SIZE_MAX of another */
static size_t plain_length(const char *text) {
        size_t n = 0;

        for (; text[n]; n++)
                if ((unsigned char)text[n] < ' ' || (unsigned char)text[n] > '~' || text[n] == '"' || text[n] == '\\')
                        return SIZE_MAX;
        return n;
}

static void put_message(struct writer *writer, const ProtobufCMessage *message, unsigned depth);

static void put_value(struct writer *writer, const ProtobufCFieldDescriptor *field, const void *at, unsigned depth) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                put_integer(writer, *(const int32_t *)at);
                return;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                put_number(writer, *(const uint32_t *)at, false);
                return;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                put_integer(writer, *(const int64_t *)at);
                return;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                if (*(const uint64_t *)at > INT64_MAX)
                        break;
                put_number(writer, *(const uint64_t *)at, false);
                return;
        case PROTOBUF_C_TYPE_BOOL:
                if (*(const protobuf_c_boolean *)at)
                        put(writer, "true", 4);
                else
                        put(writer, "false", 5);
                return;
        case PROTOBUF_C_TYPE_STRING: {
                const char *text = *(const char *const *)at;
                size_t n = text ? plain_length(text) : SIZE_MAX;

                if (n == SIZE_MAX)
                        break;
                put(writer, "\"", 1);
                put(writer, text, n);
                put(writer, "\"", 1);
                return;
        }
        case PROTOBUF_C_TYPE_MESSAGE: {
                const ProtobufCMessage *message;

                memcpy(&message, at, sizeof(message)); /* its own type is another */
                put_message(writer, message, depth);
                return;
        }
        default:
                break;
        }
        put_other(writer, field, at);
}

static void put_elements(struct writer *writer, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         unsigned depth) {
        size_t n = *MEMBER(const size_t, message, field->quantifier_offset), size = message_value_size(field->type);
        const char *array = *MEMBER(const char *const, message, field->offset);

        put(writer, "[", 1);
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        put(writer, ",", 1);
                put_line(writer, depth + 1);
                put_value(writer, field, array + i * size, depth + 1);
        }
        put_line(writer, depth);
        put(writer, "]", 1);
}

static void put_message(struct writer *writer, const ProtobufCMessage *message, unsigned depth) {
        bool first = true;

        put(writer, "{", 1);
        for (unsigned f = 0; f < message->descriptor->n_fields; f++) {
                const ProtobufCFieldDescriptor *field = &message->descriptor->fields[f];

                if (!message_field_is_set(message, field))
                        continue;
                if (!first)
                        put(writer, ",", 1);
                first = false;
                put_line(writer, depth + 1);
                put(writer, "\"", 1);
                put(writer, field->name, strlen(field->name));
                put(writer, "\": ", 3);
                if (field->label == PROTOBUF_C_LABEL_REPEATED)
                        put_elements(writer, message, field, depth + 1);
                else
                        put_value(writer, field, MEMBER(const char, message, field->offset), depth + 1);
        }
        if (!first)
                put_line(writer, depth);
        put(writer, "}", 1);
}

char *message_to_json_text(const ProtobufCMessage *message, unsigned depth) {
        struct writer writer = { 0 };

        put_message(&writer, message, depth);
        put(&writer, "", 1);
        return writer.text;
}
