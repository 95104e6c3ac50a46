/* SPDX-License-Identifier: Apache-2.0 */

/* One call in the server: from the request's bytes to its handler, and from the handler's messages to its status. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/server_private.h"

struct rpc_call *call_new(struct session *session, int32_t stream_id) {
        struct rpc_call *call = NEW(struct rpc_call);

        *call = (struct rpc_call){
                .refs = 1,
                .server = session->server,
                .session = session,
                .peer = rpc_peer_ref(session->peer),
                .stream_id = stream_id,
                .open = true,
                .deadline = UINT64_MAX,
                .decoder.limit = session->server->options.message_limit,
                .trailers.limit = CALL_TRAILER_LIMIT,
        };
        LIST_INSERT_HEAD(&session->calls, call, link);
        session->server->n_calls++;
        return call;
}

struct rpc_call *rpc_call_ref(struct rpc_call *call) {
        call->refs++;
        return call;
}

/* Keeps server->receiving in step with what the decoder holds. */
static void count_received(struct rpc_call *call) {
        size_t n = rpc_buffer_size(&call->decoder.message);

        if (call->server)
                call->server->receiving += n - call->counted;
        call->counted = n;
}

static void drop_request(struct rpc_call *call) {
        grpc_decoder_clear(&call->decoder);
        count_received(call);
}

struct rpc_call *rpc_call_unref(struct rpc_call *call) {
        if (!call || --call->refs > 0)
                return NULL;
        assert(call->state == CALL_FINISHED);
        head_clear(&call->head);
        if (call->request)
                protobuf_c_message_free_unpacked(call->request, NULL);
        rpc_buffer_clear(&call->out);
        rpc_metadata_clear(&call->trailers);
        rpc_peer_unref(call->peer);
        free(call->text);
        free(call);
        return NULL;
}

/* The reference that stands for "not finished or still on the wire" ends when both have. */
static void release_when_over(struct rpc_call *call) {
        if (call->state != CALL_FINISHED || call->open)
                return;
        if (call->server)
                LIST_REMOVE(call, link);
        if (call->session)
                session_flush(call->session); /* it may have waited for this call to be closed */
        call->session = NULL;
        call->server = NULL;
        rpc_call_unref(call);
}

/* Status and custom metadata, behind `n` headers that are there. @return how many there are; values in *ret_texts */
static size_t status_headers(struct rpc_call *call, nghttp2_nv *headers, size_t n, struct strv *ret_texts) {
        strv_addf(ret_texts, "%d", (int)call->code);
        headers[n++] = rpc_connection_header("grpc-status", ret_texts->items[0]);
        if (call->text)
                headers[n++] = rpc_connection_header("grpc-message", call->text);
        for (size_t i = 0; i < call->trailers.n; i++) {
                strv_take(ret_texts, rpc_metadata_wire_value(call->trailers.items + i));
                headers[n++] = rpc_connection_header(call->trailers.items[i].name, ret_texts->items[ret_texts->n - 1]);
        }
        return n;
}

#define STATUS_HEADERS 5 /* :status, content-type, grpc-accept-encoding, grpc-status, grpc-message */

static int submit_trailers(struct rpc_call *call) {
        _cleanup_strv_ struct strv texts = {};
        _cleanup_free_ nghttp2_nv *headers = xcalloc(call->trailers.n + STATUS_HEADERS, sizeof(*headers));
        size_t n = status_headers(call, headers, 0, &texts);

        return nghttp2_submit_trailer(call->session->http.session, call->stream_id, headers, n);
}

/* The bytes of the next DATA frame. Behind the last one go the trailers, which end the stream. */
static ssize_t read_source(nghttp2_session *session, int32_t stream_id, uint8_t *buffer, size_t n, uint32_t *flags,
                           nghttp2_data_source *source, void *userdata) {
        struct rpc_call *call = source->ptr;
        size_t size = rpc_buffer_size(&call->out);

        (void)session;
        (void)stream_id;
        (void)userdata;
        if (size == 0 && call->state != CALL_FINISHED)
                return NGHTTP2_ERR_DEFERRED;
        if (n > size)
                n = size;
        if (n > 0) {
                memcpy(buffer, rpc_buffer_bytes(&call->out), n);
                rpc_buffer_consume(&call->out, n);
        }
        if (call->was_long && size - n <= CALL_QUEUE_LIMIT) {
                call->was_long = false;
                call->drained = call->session->drained = true;
        }
        if (n == size && call->state == CALL_FINISHED) {
                *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
                if (submit_trailers(call) != 0)
                        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        return (ssize_t)n;
}

/* The response's headers, followed by what read_source() gives. */
static void submit_response(struct rpc_call *call) {
        nghttp2_data_provider provider = { .source.ptr = call, .read_callback = read_source };
        nghttp2_nv headers[] = { rpc_connection_header(":status", "200"),
                                 rpc_connection_header("content-type", "application/grpc") };

        call->submitted = true;
        nghttp2_submit_response(call->session->http.session, call->stream_id, headers, ELEMENTSOF(headers), &provider);
}

/* An error before any message: headers that are trailers at once. */
static void submit_trailers_only(struct rpc_call *call, unsigned http_status) {
        _cleanup_strv_ struct strv texts = {};
        _cleanup_free_ nghttp2_nv *headers = xcalloc(call->trailers.n + STATUS_HEADERS, sizeof(*headers));
        char status[12];
        size_t n = 0;

        snprintf(status, sizeof(status), "%u", http_status);
        headers[n++] = rpc_connection_header(":status", status);
        headers[n++] = rpc_connection_header("content-type", "application/grpc");
        if (call->code == RPC_UNIMPLEMENTED)
                headers[n++] = rpc_connection_header("grpc-accept-encoding", "identity");
        n = status_headers(call, headers, n, &texts);
        call->submitted = true;
        nghttp2_submit_response(call->session->http.session, call->stream_id, headers, n, NULL);
}

/* The one end of every call. */
static void finish(struct rpc_call *call, enum rpc_code code, const char *text, unsigned http_status) {
        assert(call->state != CALL_FINISHED);
        call->state = CALL_FINISHED;
        call->code = code;
        call->text = code == RPC_OK ? NULL : grpc_percent_encode(text);
        call->timer = sd_event_source_disable_unref(call->timer);
        drop_request(call);
        if (call->server)
                call->server->n_calls--;
        if (call->open) {
                if (!call->submitted && code != RPC_OK)
                        submit_trailers_only(call, http_status);
                else if (!call->submitted)
                        submit_response(call);
                else
                        nghttp2_session_resume_data(call->session->http.session, call->stream_id);
                session_flush(call->session);
        }
        release_when_over(call);
}

static void fail(struct rpc_call *call, struct st_error *error, unsigned http_status) {
        finish(call, rpc_code_from_errno(st_error_number(error)), st_error_message(error), http_status);
}

void rpc_call_finish(struct rpc_call *call, struct st_error *error) {
        _cleanup_error_ struct st_error *late = NULL;

        if (call->cancelled == -ETIMEDOUT && st_error_number(error) != -ETIMEDOUT) {
                st_error_set(&late, ETIMEDOUT, "%s%s", error ? "deadline exceeded: " : "deadline exceeded",
                             st_error_message(error));
                error = late;
        }
        if (error)
                fail(call, error, 200);
        else
                finish(call, RPC_OK, NULL, 200);
}

/* Once; the handler finishes. Before it has the call, the call ends here. */
static void cancel(struct rpc_call *call, int reason) {
        rpc_cancel_fn callback = call->on_cancel;

        if (call->cancelled || call->state == CALL_FINISHED)
                return;
        call->cancelled = reason;
        call->timer = sd_event_source_disable_unref(call->timer);
        if (call->state != CALL_RUNNING) {
                rpc_call_finish(call, NULL);
                return;
        }
        if (reason != -ETIMEDOUT)
                rpc_buffer_clear(&call->out);
        call->on_cancel = NULL;
        if (callback)
                callback(call, reason, call->cancel_userdata);
}

static int deadline_passed(sd_event_source *source, uint64_t usec, void *userdata) {
        (void)source;
        (void)usec;
        cancel(userdata, -ETIMEDOUT);
        return 0;
}

static void closed(struct rpc_call *call, int reason) {
        rpc_call_ref(call);
        call->open = false;
        if (call->state == CALL_FINISHED)
                release_when_over(call);
        else
                cancel(call, reason);
        rpc_call_unref(call);
}

void call_stream_closed(struct rpc_call *call) {
        closed(call, -ECANCELED);
}

void call_detach(struct rpc_call *call) {
        LIST_REMOVE(call, link);
        LIST_INSERT_HEAD(&call->server->orphans, call, link);
        call->session = NULL;
        closed(call, -ECONNRESET);
}

static bool queue_is_long(const struct rpc_call *call) {
        return rpc_buffer_size(&call->out) > CALL_QUEUE_LIMIT;
}

/* Lets the client send as many bytes more as it has sent, unless there is a reason to wait. */
static void give_back(struct rpc_call *call) {
        bool wait = call->state == CALL_RUNNING && (call->paused || queue_is_long(call));

        if (!call->open || call->withheld == 0 || wait)
                return;
        nghttp2_session_consume_stream(call->session->http.session, call->stream_id, call->withheld);
        call->withheld = 0;
        session_flush(call->session);
}

void call_tell_drained(struct rpc_call *call) {
        call->drained = false;
        give_back(call);
        if (call->on_drained && call->state == CALL_RUNNING && !call->cancelled)
                call->on_drained(call, call->drained_userdata);
}

static void run(struct rpc_call *call) {
        call->state = CALL_RUNNING;
        rpc_call_ref(call);
        call->method->handle(call, call->userdata);
        rpc_call_unref(call);
}

/* A message is complete. @return 0, or an error that refuses the call */
static int take_message(struct rpc_call *call, struct st_error **err) {
        const struct rpc_buffer *bytes = &call->decoder.message;
        bool first = !call->request && call->state == CALL_BODY;
        ProtobufCMessage *message;

        if (call->state == CALL_BODY && !first)
                return st_error_set(err, EPROTO, "more than one request message");
        message = protobuf_c_message_unpack(call->descriptor->input, NULL, rpc_buffer_size(bytes),
                                            rpc_buffer_size(bytes) > 0 ? rpc_buffer_bytes(bytes) : NULL);
        if (!message)
                return st_error_set(err, EINVAL, "the request is not a valid %s", call->descriptor->input->name);
        if (first) {
                call->request = message;
                if (call->method->streaming)
                        run(call);
                return 0;
        }
        if (call->on_message && !call->cancelled)
                call->on_message(call, message, call->message_userdata);
        protobuf_c_message_free_unpacked(message, NULL);
        return 0;
}

/* What the client sends makes no sense. A handler that has the call already sees a cancellation. */
static void refuse(struct rpc_call *call, struct st_error *error) {
        if (call->state == CALL_RUNNING)
                nghttp2_submit_rst_stream(call->session->http.session, NGHTTP2_FLAG_NONE, call->stream_id,
                                          NGHTTP2_PROTOCOL_ERROR);
        else
                fail(call, error, 200);
}

static int decode(struct rpc_call *call, const uint8_t *data, size_t n, struct st_error **err) {
        int r;

        while ((r = grpc_decoder_next(&call->decoder, &data, &n, err)) > 0) {
                r = take_message(call, err);
                if (r < 0)
                        return r;
                grpc_decoder_reset(&call->decoder);
                if (call->state == CALL_FINISHED)
                        return 0;
        }
        if (r < 0)
                return r;
        count_received(call);
        if (call->server->receiving / SERVER_RECEIVING_LIMIT > call->server->options.message_limit)
                return st_error_set(err, ENOMEM, "too many large requests at once");
        return 0;
}

void call_data(struct rpc_call *call, const uint8_t *data, size_t n) {
        _cleanup_error_ struct st_error *error = NULL;

        call->withheld += n;
        if (call->state == CALL_BODY || (call->state == CALL_RUNNING && call->method->streaming))
                if (decode(call, data, n, &error) < 0)
                        refuse(call, error);
        give_back(call);
}

void call_input_end(struct rpc_call *call) {
        _cleanup_error_ struct st_error *error = NULL;

        call->input_ended = true;
        if (call->state != CALL_BODY && call->state != CALL_RUNNING)
                return;
        if (!grpc_decoder_idle(&call->decoder)) {
                st_error_set(&error, EPROTO, "the request ends in the middle of a message");
                refuse(call, error);
        } else if (call->state == CALL_RUNNING) {
                if (call->on_message && !call->cancelled)
                        call->on_message(call, NULL, call->message_userdata);
        } else if (call->request)
                run(call);
        else {
                st_error_set(&error, EPROTO, "the request has no message");
                refuse(call, error);
        }
}

static int set_deadline(struct rpc_call *call, struct st_error **err) {
        uint64_t now;
        int r;

        if (!call->head.timed)
                return 0;
        if (call->head.timeout == 0)
                return st_error_set(err, ETIMEDOUT, "deadline exceeded");
        r = sd_event_now(call->server->loop, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return st_error_errno(err, r, "cannot tell the time");
        call->deadline = now + call->head.timeout;
        r = sd_event_add_time(call->server->loop, &call->timer, CLOCK_MONOTONIC, call->deadline,
                              1000 /* accuracy; 0 would be 250 ms */, deadline_passed, call);
        return r < 0 ? st_error_errno(err, r, "cannot set the deadline") : 0;
}

/* @return 0, or an error of why the caller may not call this */
static int check_admission(const struct rpc_call *call, struct st_error **err) {
        const struct rpc_server *server = call->server;

        if (!server->admit || !call->method || server_is_health(call->method))
                return 0;
        return server->admit(call, server->admit_userdata, err);
}

void call_begin(struct rpc_call *call) {
        _cleanup_error_ struct st_error *error = NULL;
        unsigned http_status = head_check(&call->head, &error);

        if (http_status > 0) {
                fail(call, error, http_status);
                return;
        }
        call->method = server_find_method(call->server, call->head.path, &call->descriptor, &call->userdata, &error);
        if (call->server->n_calls > SERVER_CALLS_LIMIT)
                st_error_set(&error, ENOMEM, "too many calls at once");
        if (error || !call->method || check_admission(call, &error) < 0 || set_deadline(call, &error) < 0)
                fail(call, error, 200);
        else
                call->state = CALL_BODY;
}

const char *rpc_call_method(const struct rpc_call *call) {
        return call->head.path;
}

const struct rpc_peer *rpc_call_peer(const struct rpc_call *call) {
        return call->peer;
}

uint64_t rpc_call_deadline(const struct rpc_call *call) {
        return call->deadline;
}

const void *rpc_call_request(const struct rpc_call *call) {
        return call->request;
}

void *rpc_call_take_request(struct rpc_call *call) {
        return TAKE_PTR(call->request);
}

int rpc_call_cancelled(const struct rpc_call *call) {
        return call->cancelled;
}

void rpc_call_on_cancel(struct rpc_call *call, rpc_cancel_fn callback, void *userdata) {
        if (call->cancelled) {
                if (callback)
                        callback(call, call->cancelled, userdata);
                return;
        }
        call->on_cancel = callback;
        call->cancel_userdata = userdata;
}

void rpc_call_on_message(struct rpc_call *call, rpc_message_fn callback, void *userdata) {
        call->on_message = callback;
        call->message_userdata = userdata;
}

void rpc_call_on_drained(struct rpc_call *call, void (*callback)(struct rpc_call *call, void *userdata),
                         void *userdata) {
        call->on_drained = callback;
        call->drained_userdata = userdata;
}

void rpc_call_pause(struct rpc_call *call, bool pause) {
        call->paused = pause;
        give_back(call);
}

size_t rpc_call_queued(const struct rpc_call *call) {
        return rpc_buffer_size(&call->out);
}

int rpc_call_send(struct rpc_call *call, const ProtobufCMessage *message) {
        int r;

        assert(call->state == CALL_RUNNING);
        if (call->cancelled || !call->open)
                return -ECANCELED;
        r = grpc_append_message(&call->out, message, true);
        if (r < 0)
                return r;
        call->was_long = call->was_long || queue_is_long(call);
        if (!call->submitted)
                submit_response(call);
        else
                nghttp2_session_resume_data(call->session->http.session, call->stream_id);
        session_flush(call->session);
        return 0;
}

int rpc_call_trailer(struct rpc_call *call, const char *name, const void *value, size_t size) {
        return rpc_metadata_add(&call->trailers, name, value, size);
}
