/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <criu/criu.pb-c.h>
#include <daemon/daemon.pb-c.h>
#include <plugins/runc/runc.pb-c.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"

static json_t *parse(const char *text) {
        json_error_t error;
        json_t *json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

        if (!json)
                fail_msg("%s: %s", text, error.text);
        return json;
}

static int fill(void *message, const char *text, struct st_error **err) {
        json_t *json = parse(text);
        int r = message_from_json(message, json, err);

        json_decref(json);
        return r;
}

/* Its text is the tree's. */
static void assert_text(const ProtobufCMessage *message) {
        json_t *json = message_to_json(message), *array = json_pack("[[O]]", json);
        _cleanup_free_ char *text = message_to_json_text(message, 0), *expected = json_dumps(json, JSON_INDENT(2));
        _cleanup_free_ char *deep = message_to_json_text(message, 2), *whole = json_dumps(array, JSON_INDENT(2));
        _cleanup_free_ char *wrapped = xasprintf("[\n  [\n    %s\n  ]\n]", deep);

        json_decref(array);
        json_decref(json);
        assert_string_equal(text, expected);
        assert_string_equal(wrapped, whole);
}

static void assert_json(const void *message, const char *expected) {
        json_t *json = message_to_json(message);
        _cleanup_free_ char *text = json_dumps(json, JSON_COMPACT);

        json_decref(json);
        assert_string_equal(text, expected);
        assert_text(message);
}

/* Through JSON and back, and through the wire format and back: the same. */
static void assert_round_trips(const ProtobufCMessage *message) {
        _cleanup_(message_freep) ProtobufCMessage *again = message_new(message->descriptor);
        _cleanup_(message_freep) ProtobufCMessage *copy = message_copy(message);
        json_t *json = message_to_json(message), *json_copy = message_to_json(copy);

        assert_text(message);
        assert_int_equal(message_from_json(again, json, NULL), 0);
        json_t *json_again = message_to_json(again);
        assert_true(json_equal(json, json_again));
        assert_true(json_equal(json, json_copy));
        json_decref(json);
        json_decref(json_copy);
        json_decref(json_again);
}

static void what_is_unset_is_left_out(void **state) {
        (void)state;
        _cleanup_(message_freep) Criu__CriuOpts *opts = message_new(&criu__criu_opts__descriptor);

        assert_json(opts, "{}"); /* defaults such as images_dir_fd = -1 too */
        assert_int_equal(opts->images_dir_fd, -1);
        opts->has_tcp_established = true;
        assert_json(opts, "{\"tcp_established\":false}");
}

static void all_sorts_of_fields(void **state) {
        (void)state;
        static const char text[] =
                "{\"Details\":{\"Process\":{\"Path\":\"/bin/sh\",\"Args\":[\"-c\",\"exit 3\"]}},\"Dir\":\"/x\","
                "\"Streams\":-4,\"Criu\":{\"log_level\":4,\"tcp_close\":true,\"ghost_limit\":4294967295,"
                "\"external\":[\"a\",\"\"],\"manage_cgroups_mode\":\"IGNORE\"},\"Action\":\"FREEZE_ONLY\"}";
        _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(fill(req, text, &err), 0);
        assert_string_equal(req->details->process->args[1], "exit 3");
        assert_int_equal(req->streams, -4);
        assert_true(req->has_streams && req->criu->has_ghost_limit && req->criu->has_manage_cgroups_mode);
        assert_int_equal(req->criu->ghost_limit, UINT32_MAX);
        assert_int_equal(req->criu->n_external, 2);
        assert_int_equal(req->action, DAEMON__DUMP_ACTION__FREEZE_ONLY);
        assert_round_trips(&req->base);
}

static void fields_that_are_not_named_stay(void **state) {
        (void)state;
        _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);

        message_set_string(&req->dir, "/old");
        message_set_string(&req->name, "name");
        assert_int_equal(fill(req, "{\"Criu\":{\"log_level\":1,\"external\":[\"a\",\"b\"]}}", NULL), 0);
        assert_int_equal(fill(req, "{\"Dir\":\"/new\",\"Criu\":{\"tcp_close\":true,\"external\":[\"c\"]}}", NULL), 0);
        assert_json(req, "{\"Dir\":\"/new\",\"Name\":\"name\",\"Criu\":{\"log_level\":1,\"external\":[\"c\"],"
                         "\"tcp_close\":true}}");
        assert_int_equal(fill(req, "{\"Dir\":null,\"Criu\":{\"log_level\":null,\"external\":null}}", NULL), 0);
        assert_json(req, "{\"Name\":\"name\",\"Criu\":{\"tcp_close\":true}}");
        assert_int_equal(req->criu->log_level, 2); /* its default again */
        assert_int_equal(fill(req, "{\"Criu\":null}", NULL), 0);
        assert_json(req, "{\"Name\":\"name\"}");
}

static void oneofs(void **state) {
        (void)state;
        _cleanup_(message_freep) Daemon__AttachReq *req = message_new(&daemon__attach_req__descriptor);

        assert_int_equal(fill(req, "{\"Stdin\":\"AAEC/w==\"}", NULL), 0);
        assert_int_equal(req->input_case, DAEMON__ATTACH_REQ__INPUT_STDIN);
        assert_json(req, "{\"Stdin\":\"AAEC/w==\"}");
        assert_round_trips(&req->base);
        assert_int_equal(fill(req, "{\"Signal\":0}", NULL), 0); /* frees the bytes */
        assert_int_equal(req->input_case, DAEMON__ATTACH_REQ__INPUT_SIGNAL);
        assert_json(req, "{\"Signal\":0}");
        assert_round_trips(&req->base);
        assert_int_equal(fill(req, "{\"Stdin\":null}", NULL), 0); /* not the one that is set */
        assert_json(req, "{\"Signal\":0}");
        assert_int_equal(fill(req, "{\"Stdin\":\"\"}", NULL), 0);
        assert_json(req, "{\"Stdin\":\"\"}");
        assert_int_equal(fill(req, "{\"Stdin\":\"YQ==\"}", NULL), 0);
        assert_int_equal(fill(req, "{\"Stdin\":null}", NULL), 0);
        assert_json(req, "{}");
}

static void base64(void **state) {
        (void)state;
        static const char *const good[][2] = {
                /* RFC 4648, 10 */
                { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
        };
        static const char *const bad[] = { "Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9-", "Zm 9" };

        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(message_freep) Daemon__AttachResp *resp = message_new(&daemon__attach_resp__descriptor);
                _cleanup_free_ char *text = xasprintf("{\"Stdout\":\"%s\"}", good[i][1]);

                assert_int_equal(fill(resp, text, NULL), 0);
                assert_int_equal(resp->stdout.len, strlen(good[i][0]));
                assert_memory_equal(resp->stdout.data, good[i][0], resp->stdout.len);
                assert_json(resp, text);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_(message_freep) Daemon__AttachResp *resp = message_new(&daemon__attach_resp__descriptor);
                _cleanup_free_ char *text = xasprintf("{\"Stdout\":\"%s\"}", bad[i]);

                assert_int_equal(fill(resp, text, NULL), -EINVAL);
        }
}

static void mistakes_are_named(void **state) {
        (void)state;
        static const struct {
                const char *json, *message;
        } cases[] = {
                { "{\"Criu\":{\"ghost_limt\":1}}", "unknown field Criu.ghost_limt (hint: did you mean ghost_limit?)" },
                { "{\"Criu\":{\"tcp_established\":1}}", "Criu.tcp_established: expected true or false" },
                { "{\"Criu\":{\"external\":\"a\"}}", "Criu.external: expected a list" },
                { "{\"Criu\":{\"external\":[\"a\",2]}}", "Criu.external[1]: expected a text" },
                { "{\"Criu\":3}", "Criu: expected an object" },
                { "{\"Streams\":2147483648}", "Streams: expected a 32-bit integer" },
                { "{\"Streams\":1.5}", "Streams: expected a 32-bit integer" },
                { "{\"Criu\":{\"ghost_limit\":-1}}", "Criu.ghost_limit: expected a number from 0 to 4294967295" },
                { "{\"Action\":\"DUMPP\"}", "Action: expected one of DUMP, FREEZE_ONLY, UNFREEZE_ONLY" },
                { "{\"Action\":77}", "Action: expected one of DUMP, FREEZE_ONLY, UNFREEZE_ONLY" },
                { "[]", "expected an object" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);
                _cleanup_error_ struct st_error *err = NULL;

                assert_int_equal(fill(req, cases[i].json, &err), -EINVAL);
                assert_string_equal(st_error_message(err), cases[i].message);
        }
}

static void enums_and_integers_as_texts(void **state) {
        (void)state;
        _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);
        _cleanup_(message_freep) Daemon__Checkpoint *checkpoint = message_new(&daemon__checkpoint__descriptor);

        assert_int_equal(fill(req, "{\"Action\":\"unfreeze_only\",\"Streams\":\"7\"}", NULL), 0);
        assert_json(req, "{\"Streams\":7,\"Action\":\"UNFREEZE_ONLY\"}");
        assert_int_equal(fill(req, "{\"Action\":1}", NULL), 0);
        assert_int_equal(req->action, DAEMON__DUMP_ACTION__FREEZE_ONLY);
        req->action = 55; /* of a newer client */
        assert_json(req, "{\"Streams\":7,\"Action\":55}");

        assert_int_equal(fill(checkpoint, "{\"Size\":\"9223372036854775807\"}", NULL), 0);
        assert_json(checkpoint, "{\"Size\":9223372036854775807}");
        assert_int_equal(fill(checkpoint, "{\"Size\":\"9223372036854775808\"}", NULL), -EINVAL);
}

static void repeated_messages_and_maps(void **state) {
        (void)state;
        _cleanup_(message_freep) Daemon__ListCheckpointsResp *resp =
                message_new(&daemon__list_checkpoints_resp__descriptor);

        for (int i = 0; i < 3; i++) {
                Daemon__Checkpoint *checkpoint = message_new(&daemon__checkpoint__descriptor);

                checkpoint->id = xasprintf("c%d", i);
                message_append(&resp->n_checkpoints, &resp->checkpoints, checkpoint);
        }
        assert_json(resp, "{\"Checkpoints\":[{\"ID\":\"c0\"},{\"ID\":\"c1\"},{\"ID\":\"c2\"}]}");
        assert_round_trips(&resp->base);
        /* A failure half-way leaves a valid message. */
        assert_int_equal(fill(resp, "{\"Checkpoints\":[{\"ID\":\"x\"},{\"ID\":1}]}", NULL), -EINVAL);
        assert_json(resp, "{\"Checkpoints\":[{\"ID\":\"x\"}]}");
}

static void foreign_bytes_in_strings(void **state) {
        (void)state;
        _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);

        message_set_string(&req->dir, "a\xff");
        assert_json(req, "{\"Dir\":\"a\xef\xbf\xbd\"}");
}

/* What protoc-c generates for fields that the API has not: a text with a default, required, proto3, 64 bits, reals. */
struct sample {
        ProtobufCMessage base;
        char *text;     /* 1, optional, default "fallback" */
        char *plain;    /* 2, proto3 */
        uint64_t large; /* 3, required */
        double real;    /* 4, proto3 */
        protobuf_c_boolean has_data;
        ProtobufCBinaryData data; /* 5, optional, default "abc" */
        size_t n_floats;
        float *floats; /* 6, repeated */
};

static const char sample_text[] = "fallback";
static uint8_t sample_bytes[] = { 'a', 'b', 'c' };
static const ProtobufCBinaryData sample_data = { .len = 3, .data = sample_bytes };
static const ProtobufCFieldDescriptor sample_fields[] = {
        { .name = "text",
          .id = 1,
          .label = PROTOBUF_C_LABEL_OPTIONAL,
          .type = PROTOBUF_C_TYPE_STRING,
          .offset = offsetof(struct sample, text),
          .default_value = sample_text },
        { .name = "plain",
          .id = 2,
          .label = PROTOBUF_C_LABEL_NONE,
          .type = PROTOBUF_C_TYPE_STRING,
          .offset = offsetof(struct sample, plain),
          .default_value = &protobuf_c_empty_string },
        { .name = "large",
          .id = 3,
          .label = PROTOBUF_C_LABEL_REQUIRED,
          .type = PROTOBUF_C_TYPE_UINT64,
          .offset = offsetof(struct sample, large) },
        { .name = "real",
          .id = 4,
          .label = PROTOBUF_C_LABEL_NONE,
          .type = PROTOBUF_C_TYPE_DOUBLE,
          .offset = offsetof(struct sample, real) },
        { .name = "data",
          .id = 5,
          .label = PROTOBUF_C_LABEL_OPTIONAL,
          .type = PROTOBUF_C_TYPE_BYTES,
          .quantifier_offset = offsetof(struct sample, has_data),
          .offset = offsetof(struct sample, data),
          .default_value = &sample_data },
        { .name = "floats",
          .id = 6,
          .label = PROTOBUF_C_LABEL_REPEATED,
          .type = PROTOBUF_C_TYPE_FLOAT,
          .quantifier_offset = offsetof(struct sample, n_floats),
          .offset = offsetof(struct sample, floats) },
};
static void sample_init(ProtobufCMessage *message);
static const unsigned sample_by_name[] = { 4, 5, 2, 1, 3, 0 };
static const ProtobufCIntRange sample_ranges[] = { { 1, 0 }, { 0, 6 } };
static const ProtobufCMessageDescriptor sample_descriptor = {
        .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
        .name = "sample",
        .short_name = "sample",
        .c_name = "sample",
        .package_name = "",
        .sizeof_message = sizeof(struct sample),
        .n_fields = ELEMENTSOF(sample_fields),
        .fields = sample_fields,
        .fields_sorted_by_name = sample_by_name,
        .n_field_ranges = 1,
        .field_ranges = sample_ranges,
        .message_init = sample_init,
};

static void sample_init(ProtobufCMessage *message) {
        *(struct sample *)message = (struct sample){
                .base = PROTOBUF_C_MESSAGE_INIT(&sample_descriptor),
                .text = (char *)sample_text,
                .plain = (char *)protobuf_c_empty_string,
                .data = sample_data,
        };
}

static void defaults_are_never_freed(void **state) {
        (void)state;
        _cleanup_(message_freep) struct sample *sample = message_new(&sample_descriptor);

        assert_ptr_equal(sample->text, sample_text);
        assert_json(sample, "{\"large\":0}");
        assert_int_equal(fill(sample, "{\"text\":\"own\",\"plain\":\"p\",\"data\":\"eA==\"}", NULL), 0);
        assert_json(sample, "{\"text\":\"own\",\"plain\":\"p\",\"large\":0,\"data\":\"eA==\"}");
        assert_int_equal(fill(sample, "{\"text\":null,\"plain\":null,\"data\":null}", NULL), 0);
        assert_ptr_equal(sample->text, sample_text);
        assert_ptr_equal(sample->data.data, sample_bytes);
        assert_json(sample, "{\"large\":0}");
        assert_int_equal(fill(sample, "{\"text\":\"fallback\"}", NULL), 0); /* equal, and yet set */
        assert_json(sample, "{\"text\":\"fallback\",\"large\":0}");
        message_set_string(&sample->plain, "x");
        message_set_string(&sample->plain, sample->plain);
        assert_string_equal(sample->plain, "x");
        assert_round_trips(&sample->base);
}

static void unusual_numbers(void **state) {
        (void)state;
        _cleanup_(message_freep) struct sample *sample = message_new(&sample_descriptor);

        assert_int_equal(fill(sample,
                              "{\"large\":\"18446744073709551615\",\"real\":\"-Infinity\",\"floats\":[0.5,3,\"NaN\"]}",
                              NULL),
                         0);
        assert_true(sample->large == UINT64_MAX);
        assert_json(sample, "{\"large\":\"18446744073709551615\",\"real\":\"-Infinity\",\"floats\":[0.5,3.0,\"NaN\"]}");
        assert_round_trips(&sample->base);
        assert_int_equal(fill(sample, "{\"large\":-1}", NULL), -EINVAL);
        assert_int_equal(fill(sample, "{\"real\":\"much\"}", NULL), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_unset_is_left_out),
                cmocka_unit_test(all_sorts_of_fields),
                cmocka_unit_test(fields_that_are_not_named_stay),
                cmocka_unit_test(oneofs),
                cmocka_unit_test(base64),
                cmocka_unit_test(mistakes_are_named),
                cmocka_unit_test(enums_and_integers_as_texts),
                cmocka_unit_test(repeated_messages_and_maps),
                cmocka_unit_test(foreign_bytes_in_strings),
                cmocka_unit_test(defaults_are_never_freed),
                cmocka_unit_test(unusual_numbers),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
