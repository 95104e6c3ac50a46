/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The compiled messages against tests/unit/api_numbers.txt, the published numbers: no row may be missing, and nothing
 * may be there that has no row, but for numbers from 1000 up, which are the project's own.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>

#include <daemon/daemon.pb-c.h>
#include <plugins/kata/kata.pb-c.h>
#include <plugins/slurm/slurm.pb-c.h>
#include <stasis/v1/stasis.pb-c.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#define OWN_NUMBERS 1000

/* What no field of another message and no method leads to. */
static const ProtobufCMessageDescriptor *const alone[] = {
        &daemon__checkpoint__descriptor,
        &plugins__runc__rwfile__descriptor,
};

static const ProtobufCEnumDescriptor *const enums[] = {
        &daemon__dump_action__descriptor,
        &daemon__run_action__descriptor,
};

static const char *type_name(const ProtobufCFieldDescriptor *field) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_INT32:
                return "int32";
        case PROTOBUF_C_TYPE_INT64:
                return "int64";
        case PROTOBUF_C_TYPE_UINT32:
                return "uint32";
        case PROTOBUF_C_TYPE_UINT64:
                return "uint64";
        case PROTOBUF_C_TYPE_BOOL:
                return "bool";
        case PROTOBUF_C_TYPE_STRING:
                return "string";
        case PROTOBUF_C_TYPE_BYTES:
                return "bytes";
        case PROTOBUF_C_TYPE_ENUM:
                return ((const ProtobufCEnumDescriptor *)field->descriptor)->name;
        case PROTOBUF_C_TYPE_MESSAGE:
                return ((const ProtobufCMessageDescriptor *)field->descriptor)->name;
        default:
                return "?";
        }
}

/* A map is compiled to a repeated message of key and value, whose name is the field's and "Entry". */
static bool is_map(const ProtobufCFieldDescriptor *field) {
        return field->label == PROTOBUF_C_LABEL_REPEATED && field->type == PROTOBUF_C_TYPE_MESSAGE &&
               text_ends_with(type_name(field), "Entry");
}

/* protobuf-c keeps no names of oneofs: they are "oneof" here, and compared so. */
static void add_field(struct strv *rows, const char *message, const ProtobufCFieldDescriptor *field) {
        const ProtobufCMessageDescriptor *entry = field->descriptor;

        if (is_map(field))
                strv_addf(rows, "%s %u %s map<%s,%s> map", message, field->id, field->name, type_name(entry->fields),
                          type_name(entry->fields + 1));
        else
                strv_addf(rows, "%s %u %s %s %s", message, field->id, field->name, type_name(field),
                          field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF  ? "oneof"
                          : field->label == PROTOBUF_C_LABEL_REPEATED ? "repeated"
                          : field->label == PROTOBUF_C_LABEL_OPTIONAL ? "optional"
                                                                      : "required");
}

/* The message and all that its fields lead to; criu's own are not ours to fix. */
static void add_message(struct strv *rows, struct strv *seen, const ProtobufCMessageDescriptor *message) {
        if (strv_has(seen, message->name) || text_after(message->name, "criu."))
                return;
        strv_add(seen, message->name);
        if (message->n_fields == 0)
                strv_addf(rows, "%s empty", message->name);
        for (unsigned i = 0; i < message->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = message->fields + i;

                if (field->id >= OWN_NUMBERS)
                        continue;
                add_field(rows, message->name, field);
                if (field->type == PROTOBUF_C_TYPE_MESSAGE && !is_map(field))
                        add_message(rows, seen, field->descriptor);
        }
}

/* Streams are not in protobuf-c's descriptors: test_streams looks at them. */
static void compiled_rows(struct strv *rows) {
        const ProtobufCServiceDescriptor *service = &daemon__daemon__descriptor;
        struct strv seen = {};

        for (unsigned i = 0; i < service->n_methods; i++) {
                const ProtobufCMethodDescriptor *method = service->methods + i;

                strv_addf(rows, "%s method %s %s %s", service->name, method->name, method->input->name,
                          method->output->name);
                add_message(rows, &seen, method->input);
                add_message(rows, &seen, method->output);
        }
        for (size_t i = 0; i < ELEMENTSOF(alone); i++)
                add_message(rows, &seen, alone[i]);
        for (size_t i = 0; i < ELEMENTSOF(enums); i++)
                for (unsigned j = 0; j < enums[i]->n_values; j++)
                        strv_addf(rows, "%s %d %s enum", enums[i]->name, enums[i]->values[j].value,
                                  enums[i]->values[j].name);
        strv_clear(&seen);
}

static char *read_file(const char *variable, const char *path, size_t *ret_size) {
        _cleanup_free_ char *full = path_join(getenv(variable) ? getenv(variable) : ".", path);
        char *text = NULL;

        if (io_read_file(AT_FDCWD, full, 1 << 20, &text, ret_size) < 0)
                fail_msg("cannot read %s", full);
        return text;
}

/* A row of the file without what the compiled descriptors do not know. */
static void published_row(struct strv *rows, const char *line) {
        const char *oneof = strstr(line, " oneof:");
        _cleanup_free_ char *row = xstrdup(line);
        char *stream;

        if (oneof)
                row[oneof - line + strlen(" oneof")] = '\0';
        while ((stream = strstr(row, " stream:")))
                memmove(stream + 1, stream + strlen(" stream:"), strlen(stream + strlen(" stream:")) + 1);
        strv_add(rows, row);
}

static void published_rows(struct strv *rows) {
        size_t size;
        _cleanup_free_ char *text = read_file("STASIS_SOURCE", "tests/unit/api_numbers.txt", &size);
        char *rest = text;

        for (char *line; (line = strsep(&rest, "\n"));)
                if (*line && *line != '#')
                        published_row(rows, line);
}

static void test_numbers(void **state) {
        _cleanup_strv_ struct strv compiled = {}, published = {};
        unsigned wrong = 0;

        (void)state;
        compiled_rows(&compiled);
        published_rows(&published);
        for (size_t i = 0; i < published.n; i++)
                if (!strv_has(&compiled, published.items[i])) {
                        print_error("missing: %s\n", published.items[i]);
                        wrong++;
                }
        for (size_t i = 0; i < compiled.n; i++)
                if (!strv_has(&published, compiled.items[i])) {
                        print_error("not published: %s\n", compiled.items[i]);
                        wrong++;
                }
        assert_int_equal(wrong, 0);
        assert_int_equal(compiled.n, published.n);
        assert_in_range(published.n, 250, 400); /* the file is not empty or cut */
}

static void own_field(const ProtobufCMessageDescriptor *message, unsigned number, const char *name) {
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(message, number);

        assert_non_null(field);
        assert_string_equal(field->name, name);
}

static void test_own_numbers(void **state) {
        (void)state;
        own_field(&daemon__dump_req__descriptor, 1000, "Off");
        own_field(&daemon__dump_req__descriptor, 1001, "Files");
        own_field(&daemon__dump_req__descriptor, 1002, "Hooks");
        own_field(&daemon__dump_req__descriptor, 1004, "Force");
        own_field(&daemon__restore_req__descriptor, 1000, "Off");
        own_field(&daemon__restore_req__descriptor, 1001, "Files");
        own_field(&daemon__restore_req__descriptor, 1003, "Check");
        own_field(&daemon__restore_req__descriptor, 1002, "Hooks");
        own_field(&daemon__restore_resp__descriptor, 1000, "Findings");
}

/* CRIU's message: what the engine's table relies on, and the field that was made optional. */
static void test_criu(void **state) {
        const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field_by_name(&criu__criu_opts__descriptor, "images_dir_fd");
        Criu__CriuOpts opts = CRIU__CRIU_OPTS__INIT;

        (void)state;
        assert_non_null(field);
        assert_int_equal(field->id, 1);
        assert_int_equal(field->label, PROTOBUF_C_LABEL_OPTIONAL);
        own_field(&criu__criu_opts__descriptor, 3, "leave_running");
        own_field(&criu__criu_opts__descriptor, 5, "tcp_established");
        own_field(&criu__criu_opts__descriptor, 35, "ghost_limit");
        assert_int_equal(criu__criu_opts__get_packed_size(&opts), 0);
}

/*
 * The field of a MethodDescriptorProto that says that a side streams (google/protobuf/descriptor.proto: 5 client, 6
 * server), as it is in the FileDescriptorSet that was built from the same files. A method without them ends at its
 * output.
 */
static bool streams(const char *set, size_t size, const char *method, const char *input, const char *output,
                    unsigned field) {
        char pattern[200];
        int n = snprintf(pattern, sizeof(pattern), "\x0a%c%s\x12%c%s\x1a%c%s", (int)strlen(method), method,
                         (int)strlen(input), input, (int)strlen(output), output);
        const char *at = memmem(set, size, pattern, (size_t)n), *p;

        assert_non_null(at);
        p = at + n;
        return (p[0] == 0x28 && field == 5) || (p[0] == 0x30 && field == 6) || (p[0] == 0x28 && p[2] == 0x30);
}

static void test_streams(void **state) {
        size_t size = 0;
        _cleanup_free_ char *set = NULL;

        (void)state;
        if (!getenv("STASIS_BUILD"))
                skip();
        set = read_file("STASIS_BUILD", "api/stasis.fds", &size);
        assert_true(streams(set, size, "Attach", ".daemon.AttachReq", ".daemon.AttachResp", 5));
        assert_true(streams(set, size, "Attach", ".daemon.AttachReq", ".daemon.AttachResp", 6));
        assert_false(streams(set, size, "Dump", ".daemon.DumpReq", ".daemon.DumpResp", 5));
        assert_false(streams(set, size, "Dump", ".daemon.DumpReq", ".daemon.DumpResp", 6));
        assert_false(streams(set, size, "Dump", ".daemon.DumpReq", ".stasis.v1.Event", 5));
        assert_true(streams(set, size, "Dump", ".daemon.DumpReq", ".stasis.v1.Event", 6));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_own_numbers),
                cmocka_unit_test(test_criu),
                cmocka_unit_test(test_streams),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
