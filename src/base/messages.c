/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/messages_private.h"
#include "base/text.h"

/* One value of any type, as a message or a repeated field's array stores it. */
union value {
        int32_t i32;
        uint32_t u32;
        int64_t i64;
        uint64_t u64;
        float f;
        double d;
        protobuf_c_boolean boolean;
        char *string;
        ProtobufCBinaryData bytes;
        ProtobufCMessage *message;
};

size_t message_value_size(ProtobufCType type) {
        switch (type) {
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return sizeof(uint64_t);
        case PROTOBUF_C_TYPE_FLOAT:
                return sizeof(float);
        case PROTOBUF_C_TYPE_DOUBLE:
                return sizeof(double);
        case PROTOBUF_C_TYPE_BOOL:
                return sizeof(protobuf_c_boolean);
        case PROTOBUF_C_TYPE_STRING:
                return sizeof(char *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(ProtobufCMessage *);
        default: /* 32-bit numbers and enums */
                return sizeof(uint32_t);
        }
}

/* A copy, because a message aligns a field for its own type only. The value's memory stays the message's. */
static union value load_value(const ProtobufCFieldDescriptor *field, const void *at) {
        union value value = { 0 };

        memcpy(&value, at, message_value_size(field->type));
        return value;
}

static bool is_oneof(const ProtobufCFieldDescriptor *field) {
        return field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

/* Only these have a has_ flag; a text or message that is not set is NULL (or the default). */
static bool has_flag(const ProtobufCFieldDescriptor *field) {
        return field->label == PROTOBUF_C_LABEL_OPTIONAL && !is_oneof(field) && field->type != PROTOBUF_C_TYPE_STRING &&
               field->type != PROTOBUF_C_TYPE_MESSAGE;
}

/* A field of proto3 without presence: zero and empty are the same as unset. */
static bool is_zero(const ProtobufCFieldDescriptor *field, const union value *value) {
        static const union value zero;

        if (field->type == PROTOBUF_C_TYPE_STRING)
                return isempty(value->string);
        if (field->type == PROTOBUF_C_TYPE_BYTES)
                return value->bytes.len == 0;
        return memcmp(value, &zero, message_value_size(field->type)) == 0;
}

bool message_field_is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return *MEMBER(const size_t, message, field->quantifier_offset) > 0;
        if (is_oneof(field) && *MEMBER(const uint32_t, message, field->quantifier_offset) != field->id)
                return false;
        if (has_flag(field))
                return *MEMBER(const protobuf_c_boolean, message, field->quantifier_offset);

        union value value = load_value(field, MEMBER(const char, message, field->offset));
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !value.message)
                return false;
        if (field->type == PROTOBUF_C_TYPE_STRING && field->label == PROTOBUF_C_LABEL_OPTIONAL)
                return value.string && (is_oneof(field) || value.string != field->default_value);
        return field->label == PROTOBUF_C_LABEL_REQUIRED || is_oneof(field) || !is_zero(field, &value);
}

/* Frees what a value owns, as protobuf_c_message_free_unpacked() does: never what belongs to the default. */
static void value_free(const ProtobufCFieldDescriptor *field, const void *at) {
        const ProtobufCBinaryData *bytes = field->default_value;
        union value value = load_value(field, at);

        if (field->type == PROTOBUF_C_TYPE_STRING && value.string != field->default_value)
                free(value.string);
        else if (field->type == PROTOBUF_C_TYPE_BYTES && (!bytes || value.bytes.data != bytes->data))
                free(value.bytes.data);
        else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
                protobuf_c_message_free_unpacked(value.message, NULL);
}

/* Makes a field what it is in a new message. */
static void field_clear(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
        size_t size = message_value_size(field->type);
        char *at = MEMBER(char, message, field->offset);

        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
                size_t *n = MEMBER(size_t, message, field->quantifier_offset);
                char **array = MEMBER(char *, message, field->offset);

                for (size_t i = 0; i < *n; i++)
                        value_free(field, *array + i * size);
                free(*array);
                *array = NULL;
                *n = 0;
                return;
        }
        if (is_oneof(field)) {
                uint32_t *chosen = MEMBER(uint32_t, message, field->quantifier_offset);

                if (*chosen != field->id)
                        return;
                value_free(field, at);
                *chosen = 0;
                memset(at, 0, size);
                return;
        }
        value_free(field, at);
        if (has_flag(field))
                *MEMBER(protobuf_c_boolean, message, field->quantifier_offset) = false;
        memset(at, 0, size);
        if (field->type == PROTOBUF_C_TYPE_STRING)
                *MEMBER(const char *, message, field->offset) = field->default_value;
        else if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->default_value)
                memcpy(at, field->default_value, size);
}

/* Stores a value, which the message then owns, in a field that is not repeated. */
static void field_set(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const union value *value) {
        if (is_oneof(field)) {
                uint32_t *chosen = MEMBER(uint32_t, message, field->quantifier_offset);
                const ProtobufCFieldDescriptor *other =
                        protobuf_c_message_descriptor_get_field(message->descriptor, *chosen);

                if (other)
                        field_clear(message, other);
                *chosen = field->id;
        } else {
                field_clear(message, field);
                if (has_flag(field))
                        *MEMBER(protobuf_c_boolean, message, field->quantifier_offset) = true;
        }
        memcpy(MEMBER(char, message, field->offset), value, message_value_size(field->type));
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *bytes_to_json(const ProtobufCBinaryData *bytes) {
        _cleanup_free_ char *text = xmalloc((bytes->len + 2) / 3 * 4 + 1);
        char *out = text;

        for (size_t i = 0; i < bytes->len; i += 3) {
                size_t n = bytes->len - i;
                uint32_t group = (uint32_t)bytes->data[i] << 16 | (n > 1 ? (uint32_t)bytes->data[i + 1] << 8 : 0) |
                                 (n > 2 ? bytes->data[i + 2] : 0);

                *out++ = base64_digits[group >> 18];
                *out++ = base64_digits[group >> 12 & 63];
                *out++ = n > 1 ? base64_digits[group >> 6 & 63] : '=';
                *out++ = n > 2 ? base64_digits[group & 63] : '=';
        }
        *out = 0;
        return json_string(text);
}

/* Strict base64 (RFC 4648, 4), padded. @return false when it is none */
static bool bytes_from_text(const char *text, size_t length, ProtobufCBinaryData *ret) {
        size_t padding = 0;

        if (length % 4 != 0)
                return false;
        while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
                padding++;

        _cleanup_free_ uint8_t *data = xmalloc(length / 4 * 3);
        size_t n = 0;
        for (size_t i = 0; i < length; i += 4) {
                uint32_t group = 0;

                for (size_t j = i; j < i + 4; j++) {
                        const char *digit = j >= length - padding ? base64_digits : strchr(base64_digits, text[j]);
                        if (!digit || !*digit)
                                return false;
                        group = group << 6 | (uint32_t)(digit - base64_digits);
                }
                data[n++] = (uint8_t)(group >> 16);
                data[n++] = (uint8_t)(group >> 8);
                data[n++] = (uint8_t)group;
        }
        *ret = (ProtobufCBinaryData){ .len = n - padding, .data = TAKE_PTR(data) };
        return true;
}

static json_t *real_to_json(double value) {
        if (isfinite(value))
                return json_real(value);
        /* JSON has no such numbers; protobuf's JSON mapping has these texts. */
        return json_string(isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

static json_t *string_to_json(const char *s) {
        size_t n = s ? strlen(s) : 0;
        json_t *text = json_stringn(s ? s : "", n);

        if (!text) { /* not UTF-8 */
                _cleanup_free_ char *safe = text_sanitise(s, n);
                text = json_string(safe);
        }
        return text;
}

json_t *message_value_to_json(const ProtobufCFieldDescriptor *field, const void *at) {
        union value value = load_value(field, at);

        switch (field->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                return json_integer(value.i32);
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                return json_integer(value.u32);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                return json_integer(value.i64);
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                /* Beyond what a jansson integer holds, as text, which message_from_json() takes too. */
                return value.u64 <= INT64_MAX ? json_integer((json_int_t)value.u64)
                                              : json_sprintf("%" PRIu64, value.u64);
        case PROTOBUF_C_TYPE_FLOAT:
                return real_to_json(value.f);
        case PROTOBUF_C_TYPE_DOUBLE:
                return real_to_json(value.d);
        case PROTOBUF_C_TYPE_BOOL:
                return json_boolean(value.boolean);
        case PROTOBUF_C_TYPE_ENUM: {
                const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(field->descriptor, value.i32);
                return known ? json_string(known->name) : json_integer(value.i32);
        }
        case PROTOBUF_C_TYPE_STRING:
                return string_to_json(value.string);
        case PROTOBUF_C_TYPE_BYTES:
                return bytes_to_json(&value.bytes);
        case PROTOBUF_C_TYPE_MESSAGE:
                return message_to_json(value.message);
        }
        return json_null();
}

json_t *message_to_json(const ProtobufCMessage *message) {
        json_t *object = json_object();

        for (unsigned f = 0; f < message->descriptor->n_fields; f++) {
                const ProtobufCFieldDescriptor *field = &message->descriptor->fields[f];

                if (!message_field_is_set(message, field))
                        continue;
                if (field->label != PROTOBUF_C_LABEL_REPEATED) {
                        json_object_set_new(object, field->name,
                                            message_value_to_json(field, MEMBER(const char, message, field->offset)));
                        continue;
                }

                size_t n = *MEMBER(const size_t, message, field->quantifier_offset);
                const char *array = *MEMBER(const char *const, message, field->offset);
                json_t *elements = json_array();
                for (size_t i = 0; i < n; i++)
                        json_array_append_new(
                                elements, message_value_to_json(field, array + i * message_value_size(field->type)));
                json_object_set_new(object, field->name, elements);
        }
        return object;
}

/* An integer, also one in a text, which is how 64-bit numbers often come. @return false: it is none in [min, max] */
static bool integer_from_json(const json_t *json, int64_t min, int64_t max, int64_t *ret) {
        if (json_is_integer(json)) {
                *ret = json_integer_value(json);
                return *ret >= min && *ret <= max;
        }
        return json_is_string(json) && text_to_int(json_string_value(json), min, max, ret) == 0;
}

static bool unsigned_from_json(const json_t *json, uint64_t *ret) {
        int64_t value;

        if (json_is_string(json))
                return text_to_uint(json_string_value(json), UINT64_MAX, ret) == 0;
        if (!integer_from_json(json, 0, INT64_MAX, &value))
                return false;
        *ret = (uint64_t)value;
        return true;
}

static bool real_from_json(const json_t *json, double *ret) {
        const char *text = json_string_value(json);

        if (json_is_number(json))
                *ret = json_number_value(json);
        else if (text && streq(text, "NaN"))
                *ret = NAN;
        else if (text && (streq(text, "Infinity") || streq(text, "-Infinity")))
                *ret = text[0] == '-' ? -INFINITY : INFINITY;
        else
                return false;
        return true;
}

static int enum_from_json(const ProtobufCEnumDescriptor *descriptor, const json_t *json, int32_t *ret,
                          const char *where, struct st_error **err) {
        _cleanup_strv_ struct strv names = { 0 };
        int64_t number = 0;
        bool numeric = integer_from_json(json, INT32_MIN, INT32_MAX, &number);

        for (unsigned i = 0; i < descriptor->n_values; i++) {
                const ProtobufCEnumValue *value = &descriptor->values[i];

                if (numeric ? value->value == number
                            : json_is_string(json) && strcasecmp(value->name, json_string_value(json)) == 0) {
                        *ret = value->value;
                        return 0;
                }
                strv_add(&names, value->name);
        }
        _cleanup_free_ char *list = strv_join(&names, ", ");
        return st_error_set(err, EINVAL, "%s: expected one of %s", where, list);
}

static int fill_message(ProtobufCMessage *message, json_t *object, const char *where, struct st_error **err);

/* Makes a value of JSON. Nothing to free after a failure. */
static int value_from_json(const ProtobufCFieldDescriptor *field, json_t *json, union value *value, const char *where,
                           struct st_error **err) {
        int64_t number = 0;

        switch (field->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                if (!integer_from_json(json, INT32_MIN, INT32_MAX, &number))
                        return st_error_set(err, EINVAL, "%s: expected a 32-bit integer", where);
                value->i32 = (int32_t)number;
                return 0;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                if (!integer_from_json(json, 0, UINT32_MAX, &number))
                        return st_error_set(err, EINVAL, "%s: expected a number from 0 to %" PRIu32, where, UINT32_MAX);
                value->u32 = (uint32_t)number;
                return 0;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                if (!integer_from_json(json, INT64_MIN, INT64_MAX, &value->i64))
                        return st_error_set(err, EINVAL, "%s: expected an integer", where);
                return 0;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                if (!unsigned_from_json(json, &value->u64))
                        return st_error_set(err, EINVAL, "%s: expected an integer that is not negative", where);
                return 0;
        case PROTOBUF_C_TYPE_FLOAT:
        case PROTOBUF_C_TYPE_DOUBLE: {
                double real;
                if (!real_from_json(json, &real))
                        return st_error_set(err, EINVAL, "%s: expected a number", where);
                if (field->type == PROTOBUF_C_TYPE_FLOAT)
                        value->f = (float)real;
                else
                        value->d = real;
                return 0;
        }
        case PROTOBUF_C_TYPE_BOOL:
                if (!json_is_boolean(json))
                        return st_error_set(err, EINVAL, "%s: expected true or false", where);
                value->boolean = json_is_true(json);
                return 0;
        case PROTOBUF_C_TYPE_ENUM:
                return enum_from_json(field->descriptor, json, &value->i32, where, err);
        case PROTOBUF_C_TYPE_STRING:
                if (!json_is_string(json) || strlen(json_string_value(json)) != json_string_length(json))
                        return st_error_set(err, EINVAL, "%s: expected a text", where);
                value->string = xstrdup(json_string_value(json));
                return 0;
        case PROTOBUF_C_TYPE_BYTES:
                if (!json_is_string(json) ||
                    !bytes_from_text(json_string_value(json), json_string_length(json), &value->bytes))
                        return st_error_set(err, EINVAL, "%s: expected bytes in base64", where);
                return 0;
        case PROTOBUF_C_TYPE_MESSAGE: {
                _cleanup_(message_freep) ProtobufCMessage *message = message_new(field->descriptor);
                int r = fill_message(message, json, where, err);
                if (r == 0)
                        value->message = TAKE_PTR(message);
                return r;
        }
        }
        return st_error_set(err, EINVAL, "%s: unknown type", where);
}

/* Replaces a repeated field by the elements of a JSON array. */
static int fill_repeated(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, json_t *json,
                         const char *where, struct st_error **err) {
        size_t *n = MEMBER(size_t, message, field->quantifier_offset), size = message_value_size(field->type);
        char **array = MEMBER(char *, message, field->offset);

        if (!json_is_array(json))
                return st_error_set(err, EINVAL, "%s: expected a list", where);
        field_clear(message, field);
        if (json_array_size(json) > 0)
                *array = xcalloc(json_array_size(json), size);
        while (*n < json_array_size(json)) {
                _cleanup_free_ char *element = xasprintf("%s[%zu]", where, *n);
                union value value = { 0 };

                int r = value_from_json(field, json_array_get(json, *n), &value, element, err);
                if (r < 0)
                        return r;
                memcpy(*array + *n * size, &value, size);
                (*n)++;
        }
        return 0;
}

static int fill_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, json_t *json, const char *where,
                      struct st_error **err) {
        union value value = { 0 };

        if (json_is_null(json)) {
                field_clear(message, field);
                return 0;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return fill_repeated(message, field, json, where, err);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && message_field_is_set(message, field))
                return fill_message(*MEMBER(ProtobufCMessage *, message, field->offset), json, where, err);

        int r = value_from_json(field, json, &value, where, err);
        if (r == 0)
                field_set(message, field, &value);
        return r;
}

/* @param where the path of the message from the outermost one, "" for that itself */
static int fill_message(ProtobufCMessage *message, json_t *object, const char *where, struct st_error **err) {
        const ProtobufCMessageDescriptor *descriptor = message->descriptor;
        const char *dot = *where ? "." : "", *name;
        json_t *json;

        if (!json_is_object(object))
                return st_error_set(err, EINVAL, "%s%sexpected an object", where, *where ? ": " : "");
        json_object_foreach(object, name, json) {
                const ProtobufCFieldDescriptor *field =
                        protobuf_c_message_descriptor_get_field_by_name(descriptor, name);
                if (!field) {
                        struct nearest nearest = { .wanted = name };

                        int r = st_error_set(err, EINVAL, "unknown field %s%s%s", where, dot, name);
                        for (unsigned f = 0; f < descriptor->n_fields; f++)
                                nearest_offer(&nearest, descriptor->fields[f].name);
                        if (nearest.best)
                                st_error_hint(err, "did you mean %s?", nearest.best);
                        return r;
                }

                _cleanup_free_ char *path = xasprintf("%s%s%s", where, dot, name);
                int r = fill_field(message, field, json, path, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int message_from_json(ProtobufCMessage *message, json_t *object, struct st_error **err) {
        return fill_message(message, object, "", err);
}

void *message_new(const ProtobufCMessageDescriptor *descriptor) {
        void *message = xcalloc(1, descriptor->sizeof_message);

        protobuf_c_message_init(descriptor, message);
        return message;
}

uint8_t *message_pack(const ProtobufCMessage *message, size_t *ret_size) {
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = xmalloc(size);

        *ret_size = protobuf_c_message_pack(message, packed);
        return packed;
}

void *message_copy(const ProtobufCMessage *message) {
        size_t size;
        _cleanup_free_ uint8_t *packed = message_pack(message, &size);
        ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, NULL, size, packed);

        assert(copy); /* what was packed can be unpacked */
        return copy;
}

void message_set_string(char **field, const char *value) {
        char *copy = xstrdup(value);

        if (*field != protobuf_c_empty_string)
                free(*field);
        *field = copy;
}

void message_freep(void *message) {
        protobuf_c_message_free_unpacked(*(ProtobufCMessage **)message, NULL);
}
