/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <daemon/daemon.pb-c.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "rpc/buffer.h"
#include "rpc/grpc.h"
#include "rpc/metadata.h"
#include "rpc/status.h"

static void test_codes(void **state) {
        (void)state;
        assert_int_equal(rpc_code_from_errno(0), RPC_OK);
        assert_int_equal(rpc_code_from_errno(-ENOENT), RPC_NOT_FOUND);
        assert_int_equal(rpc_code_from_errno(ESRCH), RPC_NOT_FOUND);
        assert_int_equal(rpc_code_from_errno(-EINVAL), RPC_INVALID_ARGUMENT);
        assert_int_equal(rpc_code_from_errno(-EACCES), RPC_PERMISSION_DENIED);
        assert_int_equal(rpc_code_from_errno(-EDQUOT), RPC_RESOURCE_EXHAUSTED);
        assert_int_equal(rpc_code_from_errno(-EBADMSG), RPC_FAILED_PRECONDITION);
        assert_int_equal(rpc_code_from_errno(-ENOPKG), RPC_FAILED_PRECONDITION);
        assert_int_equal(rpc_code_from_errno(-EIO), RPC_INTERNAL);
        assert_int_equal(rpc_code_from_errno(-12345), RPC_INTERNAL);
        for (int code = RPC_OK; code <= RPC_UNAUTHENTICATED; code++) {
                enum rpc_code back = rpc_code_from_errno(-rpc_code_to_errno(code));

                /* Codes that only other servers send have no errno of their own. */
                if (code != RPC_UNKNOWN && code != RPC_ABORTED && code != RPC_OUT_OF_RANGE && code != RPC_DATA_LOSS &&
                    code != RPC_UNAUTHENTICATED)
                        assert_int_equal(back, code);
                assert_string_not_equal(rpc_code_name(code), "?");
                assert_true(code == RPC_OK || rpc_code_to_errno(code) > 0);
        }
        assert_int_equal(rpc_code_to_errno(17), EIO);
        assert_int_equal(rpc_code_to_errno(-1), EIO);
        assert_string_equal(rpc_code_name(17), "?");
        assert_string_equal(rpc_code_name(RPC_NOT_FOUND), "NOT_FOUND");
}

static void test_buffer(void **state) {
        struct rpc_buffer buffer = {};
        unsigned long written = 0, read = 0;

        (void)state;
        for (unsigned turn = 0; turn < 2000; turn++) {
                size_t n = turn * 7 % 613 + 1, take;
                uint8_t *to = rpc_buffer_extend(&buffer, n);

                assert_non_null(to);
                for (size_t i = 0; i < n; i++)
                        to[i] = (uint8_t)(written++ * 31);
                take = turn % 100 == 99 ? rpc_buffer_size(&buffer) : turn * 5 % 401;
                if (take > rpc_buffer_size(&buffer))
                        take = rpc_buffer_size(&buffer);
                for (size_t i = 0; i < take; i++)
                        assert_int_equal(rpc_buffer_bytes(&buffer)[i], (uint8_t)(read++ * 31));
                rpc_buffer_consume(&buffer, take);
        }
        assert_null(rpc_buffer_extend(&buffer, SIZE_MAX));
        assert_null(rpc_buffer_extend(&buffer, ((size_t)1 << 33) + 1));
        rpc_buffer_clear(&buffer);
        assert_int_equal(rpc_buffer_size(&buffer), 0);
}

static void timeout_is(const char *text, uint64_t usec) {
        uint64_t value = 0;

        assert_int_equal(grpc_timeout_parse(text, strlen(text), &value), 0);
        assert_true(value == usec);
}

static void test_timeout_parse(void **state) {
        static const char *const bad[] = { "",    "S",   "1",   "10",  "123456789S", "1s",
                                           "1H1", " 1S", "-1S", "+1S", "1.5S",       "0x1S" };
        uint64_t value;

        (void)state;
        timeout_is("1H", 3600000000);
        timeout_is("2M", 120000000);
        timeout_is("3S", 3000000);
        timeout_is("4m", 4000);
        timeout_is("5u", 5);
        timeout_is("1n", 1);
        timeout_is("1001n", 2);
        timeout_is("0S", 0);
        timeout_is("99999999H", 359999996400000000);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(grpc_timeout_parse(bad[i], strlen(bad[i]), &value), -EINVAL);
}

static void test_timeout_format(void **state) {
        static const uint64_t values[] = { 0,           1,           99999999,      100000000, 100000001,
                                           99999999000, 99999999001, 7200000000000, UINT64_MAX };
        char text[GRPC_TIMEOUT_SIZE];

        (void)state;
        grpc_timeout_format(1500000, text);
        assert_string_equal(text, "1500000u");
        grpc_timeout_format(100000001, text);
        assert_string_equal(text, "100001m");
        grpc_timeout_format(UINT64_MAX, text);
        assert_string_equal(text, "99999999H");
        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                uint64_t back;

                grpc_timeout_format(values[i], text);
                assert_int_equal(grpc_timeout_parse(text, strlen(text), &back), 0);
                if (values[i] < UINT64_MAX) {
                        assert_true(back >= values[i]);
                        assert_true(back - values[i] <= values[i] / 1000);
                }
        }
}

static void test_content_type(void **state) {
        (void)state;
        assert_true(grpc_is_content_type("application/grpc", 16));
        assert_true(grpc_is_content_type("application/grpc+proto", 22));
        assert_true(grpc_is_content_type("application/grpc; charset=x", 27));
        assert_true(grpc_is_content_type("Application/GRPC", 16));
        assert_false(grpc_is_content_type("application/grpc-web", 20));
        assert_false(grpc_is_content_type("application/grp", 15));
        assert_false(grpc_is_content_type("text/plain", 10));
        assert_false(grpc_is_content_type("", 0));
}

static void percent_round(const char *text, const char *encoded) {
        _cleanup_free_ char *there = grpc_percent_encode(text);
        _cleanup_free_ char *back = grpc_percent_decode(there, strlen(there));

        assert_string_equal(there, encoded);
        assert_string_equal(back, text);
}

static void test_percent(void **state) {
        _cleanup_free_ char *lenient = grpc_percent_decode("100% a%2 %zz %41%0a%00 %e", 25);

        (void)state;
        percent_round("", "");
        percent_round("plain text, with ~ and spaces", "plain text, with ~ and spaces");
        percent_round("50%\nsaved", "50%25%0Asaved");
        percent_round("größer \x7f", "gr%C3%B6%C3%9Fer %7F");
        assert_string_equal(lenient, "100% a%2 %zz A\n%00 %e");
}

static void test_percent_cut(void **state) {
        char *text = malloc(20001);

        (void)state;
        for (size_t lead = 0; lead < 8; lead++) {
                _cleanup_free_ char *encoded = NULL, *decoded = NULL;
                size_t n;

                memset(text, 'a', lead);
                for (size_t i = lead; i + 2 <= 20000; i += 2)
                        memcpy(text + i, "ö", 2);
                text[lead + (20000 - lead) / 2 * 2] = '\0';
                encoded = grpc_percent_encode(text);
                n = strlen(encoded);
                assert_in_range(n, GRPC_MESSAGE_LIMIT - 12, GRPC_MESSAGE_LIMIT + 3);
                assert_string_equal(encoded + n - 3, "...");
                decoded = grpc_percent_decode(encoded, n);
                n = strlen(decoded);
                assert_int_equal((n - 3 - lead) % 2, 0); /* cut between two characters */
                assert_memory_equal(decoded, text, n - 3);
        }
        free(text);
}

/* Feeds bytes in pieces. @return the first result that is not 0, 0 when all are taken */
static int feed(struct grpc_decoder *decoder, const void *data, size_t n, size_t piece, char **ret_text) {
        const uint8_t *p = data;
        int r = 0;

        while (n > 0 && r == 0) {
                size_t left = piece < n ? piece : n, given = left;

                r = grpc_decoder_next(decoder, &p, &left, NULL);
                n -= given - left;
        }
        if (r == 1 && ret_text)
                *ret_text =
                        xstrndup((const char *)rpc_buffer_bytes(&decoder->message), rpc_buffer_size(&decoder->message));
        return r;
}

static void test_decoder(void **state) {
        (void)state;
        for (size_t piece = 1; piece < 12; piece++) {
                struct grpc_decoder decoder = { .limit = 100 };
                _cleanup_free_ char *text = NULL;

                assert_int_equal(feed(&decoder, "\0\0\0\0\5hello", 10, piece, &text), 1);
                assert_string_equal(text, "hello");
                grpc_decoder_reset(&decoder);
                assert_true(grpc_decoder_idle(&decoder));
                assert_int_equal(feed(&decoder, "\0\0\0\0\0", 5, piece, NULL), 1);
                grpc_decoder_reset(&decoder);
                assert_int_equal(feed(&decoder, "\0\0\0\0\5hell", 9, piece, NULL), 0);
                assert_false(grpc_decoder_idle(&decoder));
                grpc_decoder_clear(&decoder);
        }
}

static void test_decoder_refuses(void **state) {
        static const struct {
                const char *prefix;
                int result;
        } rows[] = { { "\1\0\0\0\1", -EOPNOTSUPP },
                     { "\2\0\0\0\1", -EPROTO },
                     { "\0\0\0\0\x65", -EMSGSIZE },
                     { "\0\xff\xff\xff\xff", -EMSGSIZE },
                     { "\0\0\0\0\x64", 0 } };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct grpc_decoder decoder = { .limit = 100 };

                assert_int_equal(feed(&decoder, rows[i].prefix, 5, 5, NULL), rows[i].result);
                assert_int_equal(decoder.message.room, 0); /* nothing is allocated by a length alone */
                grpc_decoder_clear(&decoder);
        }
}

static void test_append(void **state) {
        Daemon__DumpReq req = DAEMON__DUMP_REQ__INIT;
        struct rpc_buffer buffer = {};
        struct grpc_decoder decoder = { .limit = 1000 };
        const uint8_t *p;
        size_t n;

        (void)state;
        req.name = (char *)"x";
        assert_int_equal(grpc_append_message(&buffer, &req.base, false), 0);
        assert_int_equal(grpc_append_message(&buffer, &req.base, false), 0);
        p = rpc_buffer_bytes(&buffer);
        n = rpc_buffer_size(&buffer);
        assert_int_equal(n, 2 * (GRPC_PREFIX_SIZE + 3));
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(grpc_decoder_next(&decoder, &p, &n, NULL), 1);
                assert_memory_equal(rpc_buffer_bytes(&decoder.message), "\x1a\1x", 3);
                grpc_decoder_reset(&decoder);
        }
        assert_int_equal(n, 0);
        grpc_decoder_clear(&decoder);
        rpc_buffer_clear(&buffer);
}

/* Sends the text as a string three levels deep and gives back what arrives. */
static char *sanitised(const char *text) {
        Daemon__ListResp resp = DAEMON__LIST_RESP__INIT;
        Daemon__Job job = DAEMON__JOB__INIT, *jobs[] = { &job };
        Daemon__ProcessState process = DAEMON__PROCESS_STATE__INIT;
        struct rpc_buffer buffer = {};
        Daemon__ListResp *back;
        char *ret;

        process.cmdline = (char *)text;
        process.has_pid = 1;
        process.pid = 0xffffffff;
        process.status = (char *)"sleeping";
        job.state = &process;
        resp.n_jobs = 1;
        resp.jobs = jobs;
        assert_int_equal(grpc_append_message(&buffer, &resp.base, true), 0);
        back = daemon__list_resp__unpack(NULL, rpc_buffer_size(&buffer) - GRPC_PREFIX_SIZE,
                                         rpc_buffer_bytes(&buffer) + GRPC_PREFIX_SIZE);
        assert_non_null(back);
        assert_true(back->jobs[0]->state->pid == 0xffffffff);
        assert_string_equal(back->jobs[0]->state->status, "sleeping");
        ret = strdup(back->jobs[0]->state->cmdline);
        daemon__list_resp__free_unpacked(back, NULL);
        rpc_buffer_clear(&buffer);
        return ret;
}

static void test_sanitise(void **state) {
        static const struct {
                const char *from, *to;
        } rows[] = {
                { "plain\n\ttext", "plain\n\ttext" },
                { "größer € 😀", "größer € 😀" },
                { "\xff", "?" },
                { "a\x80z", "a?z" },
                { "\xc3", "?" },
                { "\xc3\x28", "?(" },
                { "\xc0\xaf", "??" },      /* overlong */
                { "\xe0\x80\xaf", "???" }, /* overlong */
                { "\xed\xa0\x80", "???" }, /* a surrogate */
                { "\xed\x9f\xbf", "\xed\x9f\xbf" },
                { "\xf4\x90\x80\x80", "????" }, /* beyond U+10FFFF */
                { "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
                { "\xf0\x8f\xbf\xbf", "????" }, /* overlong */
                { "\xe2\x82", "??" },
                { "\xe2\x82\xac", "€" },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *to = sanitised(rows[i].from);
                assert_string_equal(to, rows[i].to);
        }
}

static void test_sanitise_leaves_bytes(void **state) {
        Daemon__AttachResp resp = DAEMON__ATTACH_RESP__INIT;
        struct rpc_buffer buffer = {};

        (void)state;
        resp.output_case = DAEMON__ATTACH_RESP__OUTPUT_STDOUT;
        resp.stdout = (ProtobufCBinaryData){ .len = 3, .data = (uint8_t *)"\xff\x80\xc3" };
        assert_int_equal(grpc_append_message(&buffer, &resp.base, true), 0);
        assert_memory_equal(rpc_buffer_bytes(&buffer), "\0\0\0\0\5\x0a\3\xff\x80\xc3", 10);
        rpc_buffer_clear(&buffer);
}

static void test_metadata(void **state) {
        struct rpc_metadata metadata = {};

        (void)state;
        for (size_t n = 0; n < 70; n++) {
                struct rpc_metadata back = {};
                const struct rpc_metadata_item *item;
                _cleanup_free_ char *wire = NULL;
                uint8_t bytes[70];

                for (size_t i = 0; i < n; i++)
                        bytes[i] = (uint8_t)(i * 37 + n * 11);
                assert_int_equal(rpc_metadata_add(&metadata, "a-bin", bytes, n), 0);
                item = metadata.items + metadata.n - 1;
                wire = rpc_metadata_wire_value(item);
                assert_int_equal(strlen(wire), (n * 4 + 2) / 3);
                assert_int_equal(rpc_metadata_add_wire(&back, "a-bin", 5, wire, strlen(wire)), 0);
                item = rpc_metadata_get(&back, "a-bin");
                assert_non_null(item);
                assert_int_equal(item->size, n);
                assert_memory_equal(item->value, bytes, n);
                rpc_metadata_clear(&back);
        }
        assert_int_equal(rpc_metadata_add(&metadata, "plain", "text", 4), 0);
        assert_string_equal((const char *)rpc_metadata_get(&metadata, "plain")->value, "text");
        assert_null(rpc_metadata_get(&metadata, "absent"));
        rpc_metadata_clear(&metadata);
}

static void test_metadata_refuses(void **state) {
        static const char *const names[] = { "", "Upper", "a b", "grpc-status", ":path", "a\n" };
        struct rpc_metadata metadata = {};
        char *large = calloc(1, 20000);

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                assert_int_equal(rpc_metadata_add(&metadata, names[i], "v", 1), -EINVAL);
        assert_int_equal(rpc_metadata_add(&metadata, "plain", "a\nb", 3), -EINVAL);
        assert_int_equal(rpc_metadata_add(&metadata, "plain", "\xc3\xb6", 2), -EINVAL);
        assert_int_equal(rpc_metadata_add(&metadata, "plain", " a", 2), -EINVAL);
        assert_int_equal(rpc_metadata_add(&metadata, "large-bin", large, 20000), -E2BIG);
        assert_int_equal(rpc_metadata_add(&metadata, "large-bin", large, 13000), -E2BIG);
        assert_int_equal(metadata.n, 0);
        metadata.limit = 100;
        assert_int_equal(rpc_metadata_add(&metadata, "a-bin", large, 40), 0); /* 54 + 5 + 32 */
        assert_int_equal(rpc_metadata_add(&metadata, "b-bin", large, 1), -E2BIG);
        assert_int_equal(rpc_metadata_add_wire(&metadata, "c-bin", 5, "A", 1), -EINVAL);
        assert_int_equal(rpc_metadata_add_wire(&metadata, "c-bin", 5, "A*==", 4), -EINVAL);
        rpc_metadata_clear(&metadata);
        assert_int_equal(rpc_metadata_add_wire(&metadata, "c-bin", 5, "/w==", 4), 0);
        assert_int_equal(metadata.items[0].value[0], 0xff);
        assert_int_equal(metadata.items[0].size, 1);
        rpc_metadata_clear(&metadata);
        free(large);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_codes),           cmocka_unit_test(test_buffer),
                cmocka_unit_test(test_timeout_parse),   cmocka_unit_test(test_timeout_format),
                cmocka_unit_test(test_content_type),    cmocka_unit_test(test_percent),
                cmocka_unit_test(test_percent_cut),     cmocka_unit_test(test_decoder),
                cmocka_unit_test(test_decoder_refuses), cmocka_unit_test(test_append),
                cmocka_unit_test(test_sanitise),        cmocka_unit_test(test_sanitise_leaves_bytes),
                cmocka_unit_test(test_metadata),        cmocka_unit_test(test_metadata_refuses),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
