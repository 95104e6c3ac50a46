/* SPDX-License-Identifier: Apache-2.0 */

/* Answers fit what existing clients receive, and say in their messages what they print. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <daemon/daemon.pb-c.h>
#include <daemon/query.pb-c.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "daemon/reply.h"

#define GO_LIMIT ((size_t)4 << 20)

static Daemon__ProcessState *state_with_files(size_t n) {
        Daemon__ProcessState *state = message_new(&daemon__process_state__descriptor);

        for (size_t i = 0; i < n; i++) {
                Daemon__File *file = message_new(&daemon__file__descriptor);
                file->path = xasprintf("/a/rather/long/path/of/a/file/number/%zu/%0100d", i, 0);
                message_append(&state->n_openfiles, &state->openfiles, file);
        }
        return state;
}

static void test_small(void **unused) {
        (void)unused;
        _cleanup_(message_freep) Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);

        resp->state = state_with_files(100);
        message_append(&resp->n_paths, &resp->paths, xstrdup("/x/y.tar.zst"));
        reply_trim(&resp->base);
        assert_int_equal(resp->state->n_openfiles, 100);
        assert_int_equal(resp->n_messages, 0);
        reply_summarise(&resp->base);
        assert_int_equal(resp->n_messages, 1);
        assert_string_equal(resp->messages[0], "dumped to /x/y.tar.zst");
}

static void test_files_are_left_out(void **unused) {
        (void)unused;
        _cleanup_(message_freep) Daemon__QueryResp *resp = message_new(&daemon__query_resp__descriptor);

        message_append(&resp->n_states, &resp->states, state_with_files(20000));
        message_append(&resp->n_states, &resp->states, state_with_files(20000));
        assert_true(protobuf_c_message_get_packed_size(&resp->base) > GO_LIMIT);
        reply_trim(&resp->base);
        assert_true(protobuf_c_message_get_packed_size(&resp->base) < GO_LIMIT);
        assert_int_equal(resp->n_states, 2);
        assert_int_equal(resp->states[0]->n_openfiles + resp->states[1]->n_openfiles, 0);
        assert_int_equal(resp->n_messages, 1);
        assert_non_null(strstr(resp->messages[0], "open files are left out"));
}

static void test_children_are_left_out(void **unused) {
        (void)unused;
        _cleanup_(message_freep) Daemon__RestoreResp *resp = message_new(&daemon__restore_resp__descriptor);

        resp->state = state_with_files(1);
        for (int i = 0; i < 20000; i++) {
                Daemon__ProcessState *child = message_new(&daemon__process_state__descriptor);
                child->cmdline = xasprintf("program %0300d", i);
                message_append(&resp->state->n_children, &resp->state->children, child);
        }
        reply_trim(&resp->base);
        assert_true(protobuf_c_message_get_packed_size(&resp->base) < GO_LIMIT);
        assert_int_equal(resp->state->n_children, 0);
        assert_int_equal(resp->n_messages, 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_small),
                cmocka_unit_test(test_files_are_left_out),
                cmocka_unit_test(test_children_are_left_out),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
