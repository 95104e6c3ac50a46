/* SPDX-License-Identifier: Apache-2.0 */

/* Operations by the daemon. */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/operation.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "engine/settings.h"
#include "rpc/client.h"

#define CONNECT_TIMEOUT_MS 5000
#define RETRY_MS 100
/* A shell waits for candidates while somebody types. */
#define QUICK_MS 200
/* A cancelled dump gives its target back in far less than a second; a full disk or a slow one takes longer. */
#define LINGER_MS 30000

int operation_interrupted(const char *outcome, struct st_error **err) {
        if (err)
                *err = st_error_free(*err);
        return st_error_set(err, ECANCELED, "cancelled: %s", outcome);
}

/* How the daemon is reached. Zero-initialise; free with endpoint_clear(). */
struct endpoint {
        const char *address;
        struct rpc_tls *tls; /* NULL: a UNIX socket */
};

static void endpoint_clear(struct endpoint *endpoint) {
        endpoint->tls = rpc_tls_free(endpoint->tls);
}

static int endpoint_of(const struct cli *cli, struct endpoint *ret, struct st_error **err) {
        const struct rpc_tls_files files = {
                .cert = st_arguments_string(cli->arguments, "TLS.Cert"),
                .key = st_arguments_string(cli->arguments, "TLS.Key"),
                .ca = st_arguments_string(cli->arguments, "TLS.CA"),
        };

        if (settings_prefers_socket(cli->arguments)) {
                ret->address = settings_socket_path(cli->arguments);
                return 0;
        }
        ret->address = st_arguments_string(cli->arguments, "Address");
        return rpc_tls_new(&files, false, &ret->tls, err);
}

static int connect_within(const struct endpoint *endpoint, int timeout_ms, int cancel_fd, struct rpc_client **ret,
                          struct st_error **err) {
        if (endpoint->tls)
                return rpc_client_connect_tls(endpoint->address, endpoint->tls, timeout_ms, cancel_fd, ret, err);
        return rpc_client_connect(endpoint->address, timeout_ms, ret, err);
}

static int connect_once(const struct endpoint *endpoint, int cancel_fd, struct rpc_client **ret,
                        struct st_error **err) {
        return connect_within(endpoint, CONNECT_TIMEOUT_MS, cancel_fd, ret, err);
}

/* From here on signals are watched: they cancel the call, or the wait for the daemon. */
static int connect_daemon(const struct cli *cli, struct endpoint *endpoint, struct rpc_client **ret,
                          struct st_error **err) {
        bool wait = st_arguments_bool(cli->arguments, "Client.WaitForReady");
        int r = interrupt_watch(err);

        if (r >= 0)
                r = endpoint_of(cli, endpoint, err);
        if (r < 0)
                return r;
        for (;;) {
                _cleanup_error_ struct st_error *error = NULL;
                struct pollfd interrupted = { .fd = interrupt_fd(), .events = POLLIN };

                r = connect_once(endpoint, interrupt_fd(), ret, &error);
                if (r >= 0)
                        return r;
                if (r == -ECANCELED)
                        return operation_interrupted("the daemon did not answer", err);
                if (!wait || (r != -ECONNREFUSED && r != -ETIMEDOUT))
                        return st_error_move(err, TAKE_PTR(error));
                if (poll(&interrupted, 1, RETRY_MS) > 0)
                        return operation_interrupted("the daemon did not answer", err);
        }
}

/* A cancelled call: did the daemon undo everything, or do we only hope so? */
static int cancelled(const char *outcome, bool settled, struct st_error **err) {
        if (settled)
                return operation_interrupted(outcome, err);
        return operation_interrupted("but the daemon has not confirmed it yet, see 'stasis daemon status'", err);
}

int daemon_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *response, void *ret, struct st_error **err) {
        _cleanup_(rpc_client_freep) struct rpc_client *client = NULL;
        _cleanup_(endpoint_clear) struct endpoint endpoint = { 0 };
        bool settled = false;
        int r;

        r = connect_daemon(cli, &endpoint, &client, err);
        if (r < 0)
                return r;

        struct rpc_options options = {
                .cancel_fd = interrupt_fd(),
                .linger_ms = LINGER_MS,
                .settled = &settled,
        };
        r = rpc_client_call(client, method, request, response, &options, ret, err);
        if (r == -ECANCELED && interrupt_count() > 0)
                return cancelled("nothing was changed", settled, err);
        return r;
}

int daemon_call_quickly(struct cli *cli, const char *method, const ProtobufCMessage *request,
                        const ProtobufCMessageDescriptor *response, void *ret, struct st_error **err) {
        _cleanup_(rpc_client_freep) struct rpc_client *client = NULL;
        _cleanup_(endpoint_clear) struct endpoint endpoint = { 0 };
        const struct rpc_options options = { .timeout_ms = QUICK_MS };
        int r;

        r = endpoint_of(cli, &endpoint, err);
        if (r >= 0)
                r = connect_within(&endpoint, QUICK_MS, -1, &client, err);
        return r < 0 ? r : rpc_client_call(client, method, request, response, &options, ret, err);
}

struct daemon_link {
        struct endpoint endpoint;
        struct rpc_client *client;
};

int daemon_link_open(struct cli *cli, struct daemon_link **ret, struct st_error **err) {
        _cleanup_(daemon_link_freep) struct daemon_link *link = NEW(struct daemon_link);
        int r = connect_daemon(cli, &link->endpoint, &link->client, err);

        if (r < 0)
                return r;
        *ret = TAKE_PTR(link);
        return 0;
}

struct rpc_client *daemon_link_client(struct daemon_link *link) {
        return link->client;
}

struct daemon_link *daemon_link_free(struct daemon_link *link) {
        if (!link)
                return NULL;
        rpc_client_free(link->client);
        endpoint_clear(&link->endpoint);
        free(link);
        return NULL;
}

int daemon_is_here(const struct cli *cli, const char *what, struct st_error **err) {
        if (settings_prefers_socket(cli->arguments))
                return 0;
        st_error_set(err, EOPNOTSUPP, "the daemon is on another machine: %s", what);
        st_error_hint(err, "run the command there");
        return -EOPNOTSUPP;
}

/* An operation on its way: what take_event() learns of it. */
struct operating {
        const struct endpoint *endpoint;
        char *id;                /* NULL until the daemon has told it */
        Stasis__V1__Event *last; /* the answer */
};

static int take_event(struct rpc_client *client, const void *message, void *userdata) {
        const Stasis__V1__Event *event = message;
        struct operating *operating = userdata;

        (void)client;
        switch (event->kind_case) {
        case STASIS__V1__EVENT__KIND_STARTED:
                message_set_string(&operating->id, event->started);
                break;
        case STASIS__V1__EVENT__KIND_PROGRESS:
                progress_update(event->progress->phase ?: "", event->progress->done, event->progress->total);
                break;
        case STASIS__V1__EVENT__KIND_LOG:
                st_log((enum st_log_level)event->log->level, "%s", event->log->text ?: "");
                break;
        case STASIS__V1__EVENT__KIND_DUMP:
        case STASIS__V1__EVENT__KIND_RESTORE:
        case STASIS__V1__EVENT__KIND_RUN:
                if (!operating->last)
                        operating->last = message_copy(&event->base);
                break;
        default: /* of a newer daemon */
                break;
        }
        return 0;
}

/*
 * Ctrl-C: asks the daemon to cancel, and goes on waiting. It may be too late for that, and only the operation's own end
 * tells what became of it.
 */
static int ask_to_cancel(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        const struct operating *operating = watch->userdata;
        _cleanup_(rpc_client_freep) struct rpc_client *other = NULL;
        const struct rpc_options options = { .timeout_ms = CONNECT_TIMEOUT_MS };
        Stasis__V1__CancelReq req = STASIS__V1__CANCEL_REQ__INIT;
        int r;

        (void)client;
        watch->fd = -1;
        if (!operating->id) /* nothing has begun: ending the call is enough */
                return st_error_set(err, ECANCELED, "cancelled");
        req.id = operating->id;
        r = connect_once(operating->endpoint, -1, &other, err);
        if (r >= 0)
                r = rpc_client_call(other, "/stasis.v1.Stasis/Cancel", &req.base, &daemon__empty__descriptor, &options,
                                    NULL, err);
        if (r == -ENOENT) { /* it has ended meanwhile: the answer is on its way */
                if (err)
                        *err = st_error_free(*err);
                return 0;
        }
        return r;
}

static void show_profile(const struct cli *cli, const struct rpc_metadata *trailers) {
        const struct rpc_metadata_item *item = rpc_metadata_get(trailers, "stasis-profile-bin");
        _cleanup_(message_freep) Stasis__V1__Profile *profile = NULL;

        if (!item || !profile_wanted(cli->arguments))
                return;
        profile = stasis__v1__profile__unpack(NULL, item->size, item->value);
        if (profile)
                profile_show(profile, cli->arguments);
}

int daemon_operate(struct cli *cli, const char *method, const ProtobufCMessage *request, const char *outcome,
                   Stasis__V1__Event **ret, struct st_error **err) {
        _cleanup_(rpc_metadata_clear) struct rpc_metadata trailers = { 0 };
        _cleanup_(rpc_client_freep) struct rpc_client *client = NULL;
        _cleanup_(endpoint_clear) struct endpoint endpoint = { 0 };
        struct operating operating = { .endpoint = &endpoint };
        int r;

        r = connect_daemon(cli, &endpoint, &client, err);
        if (r < 0)
                return r;

        struct rpc_watch interrupted = { .fd = interrupt_fd(), .ready = ask_to_cancel, .userdata = &operating };
        struct rpc_options options = {
                .on_message = take_event,
                .userdata = &operating,
                .watches = &interrupted,
                .n_watches = 1,
                .trailers = &trailers,
        };
        progress_begin();
        r = rpc_client_call(client, method, request, &stasis__v1__event__descriptor, &options, NULL, err);
        progress_end();
        free(operating.id);
        _cleanup_(message_freep) Stasis__V1__Event *last = operating.last;
        if (r == -ECANCELED && interrupt_count() > 0)
                return operation_interrupted(outcome, err);

        show_profile(cli, &trailers); /* where the time of a failure went matters too */
        if (r < 0)
                return r;
        if (!last)
                return st_error_set(err, EPROTO, "the daemon ended the operation without an answer");
        *ret = TAKE_PTR(last);
        return 0;
}
