/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the command line prints: data on stdout, talk on stderr. */

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include <stasis/error.h>

/** Prints a JSON value on stdout, and takes the reference. */
void output_json(json_t *value);

/** A long array that is printed element by element, as output_json() would print all of it, without holding it. */
struct output_list {
        char *text; /* of the element */
        size_t room;
        bool any;
};

/** Takes the reference. */
void output_list_add(struct output_list *list, json_t *value);
/** The end of the array; also prints an empty one. Gives back the memory. */
void output_list_end(struct output_list *list);

/** Prints a message as JSON on stdout. */
void output_message_json(const ProtobufCMessage *message);

/** Prints a line of talk on stderr, "stasis: …", whatever the log level is. Control characters are replaced. */
void output_talk(const char *format, ...) ST_PRINTF(1, 2);

/** Prints the messages of an answer as talk. */
void output_messages(char *const *messages, size_t n);

/** A text from outside as JSON, which must be UTF-8. New reference. */
json_t *output_text_json(const char *text);

/** As JSON: an array of texts. New reference. */
json_t *output_messages_json(char *const *messages, size_t n);

/** Prints an error on stderr; with json also as an object on stdout. What the user interrupted is no "error". */
void output_error(struct st_error *error, bool interrupted, bool json);

/** Writes out what stdout still holds. @return 0 or -errno: the data did not get to where it should */
int output_flush(void);
