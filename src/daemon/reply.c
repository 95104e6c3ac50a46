/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/reply.h"

#include <daemon/daemon.pb-c.h>
#include <daemon/query.pb-c.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"

/* Room for the frame, and for the message that says what was left out. */
#define REPLY_MAX ((size_t)3500 << 10)

/** Drops a repeated field of messages: DROP(state, openfiles). */
#define DROP(message, field)                                      \
        do {                                                      \
                for (size_t i = 0; i < (message)->n_##field; i++) \
                        message_freep(&(message)->field[i]);      \
                free((message)->field);                           \
                (message)->field = NULL;                          \
                (message)->n_##field = 0;                         \
        } while (0)

enum cut { CUT_FILES, CUT_CONNECTIONS, CUT_CHILDREN, CUT_COUNT };

static const char *const cut_names[] = { "open files", "connections and mounts", "children" };

static void cut(Daemon__ProcessState *state, enum cut what) {
        if (!state)
                return;
        for (size_t i = 0; i < state->n_children; i++)
                cut(state->children[i], what);
        switch (what) {
        case CUT_FILES:
                DROP(state, openfiles);
                break;
        case CUT_CONNECTIONS:
                DROP(state, openconnections);
                DROP(state, mounts);
                break;
        default:
                DROP(state, children);
                break;
        }
}

void reply_trim(ProtobufCMessage *response) {
        Daemon__ProcessState **states;
        size_t n_states, *n_messages;
        char ***messages;

        if (response->descriptor == &daemon__dump_resp__descriptor) {
                Daemon__DumpResp *dump = (Daemon__DumpResp *)response;
                states = &dump->state, n_states = 1, n_messages = &dump->n_messages, messages = &dump->messages;
        } else if (response->descriptor == &daemon__restore_resp__descriptor) {
                Daemon__RestoreResp *restore = (Daemon__RestoreResp *)response;
                states = &restore->state, n_states = 1, n_messages = &restore->n_messages,
                messages = &restore->messages;
        } else if (response->descriptor == &daemon__query_resp__descriptor) {
                Daemon__QueryResp *query = (Daemon__QueryResp *)response;
                states = query->states, n_states = query->n_states;
                n_messages = &query->n_messages, messages = &query->messages;
        } else
                return;

        for (int what = 0; what < CUT_COUNT && protobuf_c_message_get_packed_size(response) > REPLY_MAX; what++) {
                for (size_t i = 0; i < n_states; i++)
                        cut(states[i], (enum cut)what);
                message_append(n_messages, messages,
                               xasprintf("the %s are left out: the answer would be too long", cut_names[what]));
        }
}

void reply_summarise(ProtobufCMessage *response) {
        if (response->descriptor == &daemon__dump_resp__descriptor) {
                Daemon__DumpResp *dump = (Daemon__DumpResp *)response;
                for (size_t i = 0; i < dump->n_paths; i++)
                        message_append(&dump->n_messages, &dump->messages, xasprintf("dumped to %s", dump->paths[i]));
        } else if (response->descriptor == &daemon__restore_resp__descriptor) {
                Daemon__RestoreResp *restore = (Daemon__RestoreResp *)response;
                message_append(&restore->n_messages, &restore->messages, xasprintf("restored, PID %u", restore->pid));
        } else if (response->descriptor == &daemon__run_resp__descriptor) {
                Daemon__RunResp *run = (Daemon__RunResp *)response;
                message_append(&run->n_messages, &run->messages,
                               xasprintf("job %s runs, PID %u", run->jid ?: "?", run->pid));
        }
}
