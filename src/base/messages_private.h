/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of messages.h share: the reflection of protobuf-c. */

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/* How a field lies in its message: see ProtobufCFieldDescriptor in protobuf-c.h, and what protoc-c generates. */
#define MEMBER(type, message, offset) ((type *)(void *)((char *)(message) + (offset)))

/** Bytes of one value, as a message or the array of a repeated field holds it. */
size_t message_value_size(ProtobufCType type);

/** Does the field show in the packed message? Repeated: has it elements? */
bool message_field_is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);

/** The value at `at`, one element of a repeated field. New reference. */
json_t *message_value_to_json(const ProtobufCFieldDescriptor *field, const void *at);
