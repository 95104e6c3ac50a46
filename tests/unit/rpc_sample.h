/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A server for tests, in a thread of its own. What a call does is said by its request: the Type of a Query, the Name
 * of a Dump.
 */

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/v1/stasis.pb-c.h>

#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/server.h"

#define SAMPLE_FLOOD 4000 /* messages of 4 KiB that "flood" sends */

struct sample {
        char directory[32], path[48];
        pthread_t thread;
        int wake; /* an eventfd: 1 ends the loop, 2 drains */
        sd_event *loop;
        struct rpc_server *server;
        bool stop;
        atomic_int started, cancelled, finished, drained, reason;
        atomic_size_t most_queued;
};

/* A Dump that takes its time. */
struct slow {
        struct sample *sample;
        struct rpc_call *call;
        sd_event_source *timer;
};

static inline void sample_sleep(unsigned ms) {
        nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

/* Waits at most 5 s. */
static inline bool sample_reaches(atomic_int *counter, int value) {
        for (unsigned i = 0; i < 5000 && *counter < value; i++)
                sample_sleep(1);
        return *counter >= value;
}

static void sample_reply(struct rpc_call *call, const char *text) {
        Daemon__DumpResp resp = DAEMON__DUMP_RESP__INIT;
        char *messages[] = { (char *)text };

        resp.n_messages = 1;
        resp.messages = messages;
        (void)rpc_call_send(call, &resp.base);
        rpc_call_finish(call, NULL);
}

static int slow_end(sd_event_source *source, uint64_t usec, void *userdata) {
        struct slow *slow = userdata;
        struct rpc_call *call = slow->call;

        (void)source;
        (void)usec;
        if (rpc_call_cancelled(call)) {
                struct st_error *error = NULL;

                slow->sample->finished++;
                st_error_set(&error, ECANCELED, "rolled back");
                rpc_call_finish(call, error);
                st_error_free(error);
        } else {
                slow->sample->finished++;
                sample_reply(call, "took its time");
        }
        sd_event_source_disable_unref(slow->timer);
        free(slow);
        return 0;
}

static void slow_cancelled(struct rpc_call *call, int reason, void *userdata) {
        struct slow *slow = userdata;

        assert(rpc_call_cancelled(call) == reason);
        slow->sample->reason = reason;
        slow->sample->cancelled++;
        sd_event_source_set_time_relative(slow->timer, 20000);
}

static void slow_start(struct sample *sample, struct rpc_call *call, uint64_t usec) {
        struct slow *slow = NEW(struct slow);

        *slow = (struct slow){ .sample = sample, .call = call };
        sd_event_add_time_relative(sample->loop, &slow->timer, CLOCK_MONOTONIC, usec, 1000, slow_end, slow);
        rpc_call_on_cancel(call, slow_cancelled, slow);
        sample->started++;
}

static void sample_error(struct rpc_call *call) {
        struct st_error *error = NULL;

        st_error_set(&error, ESRCH, "no process 42:\nnämlich 100%% keiner");
        rpc_call_finish(call, error);
        st_error_free(error);
}

static void sample_dump(struct rpc_call *call, void *userdata) {
        const Daemon__DumpReq *req = rpc_call_request(call);
        const struct rpc_peer *peer = rpc_call_peer(call);
        char text[200];

        if (streq(req->name, "error"))
                sample_error(call);
        else if (streq(req->name, "slow"))
                slow_start(userdata, call, 60000000);
        else if (streq(req->name, "late"))
                slow_start(userdata, call, 50000);
        else if (streq(req->name, "bytes"))
                sample_reply(call, "caf\xe9 \xff");
        else if (streq(req->name, "nothing"))
                rpc_call_finish(call, NULL);
        else if (streq(req->name, "peer")) {
                snprintf(text, sizeof(text), "%d %d %d %zu %s%s%s", (int)peer->uid, (int)peer->gid, (int)peer->pid,
                         peer->n_groups, rpc_call_method(call), peer->name ? " " : "", peer->name ?: "");
                sample_reply(call, text);
        } else {
                assert(rpc_call_trailer(call, "stasis-profile-bin", "\0\1\377", 3) == 0);
                assert(rpc_call_trailer(call, "stasis-note", "plain", 5) == 0);
                sample_reply(call, req->name);
        }
}

/* As many messages of 1 KiB as there are PIDs. */
static void sample_query(struct rpc_call *call, void *userdata) {
        Daemon__QueryReq *req = rpc_call_take_request(call);
        Daemon__QueryResp resp = DAEMON__QUERY_RESP__INIT;
        char text[1025];

        (void)userdata;
        memset(text, 'x', 1024);
        text[1024] = '\0';
        resp.n_messages = req->n_pids;
        resp.messages = xcalloc(req->n_pids, sizeof(char *));
        for (size_t i = 0; i < req->n_pids; i++)
                resp.messages[i] = text;
        (void)rpc_call_send(call, &resp.base);
        rpc_call_finish(call, NULL);
        free(resp.messages);
        daemon__query_req__free_unpacked(req, NULL);
}

static void attach_send(struct rpc_call *call, const void *data, size_t n, int exit_code) {
        Daemon__AttachResp resp = DAEMON__ATTACH_RESP__INIT;

        if (data) {
                resp.output_case = DAEMON__ATTACH_RESP__OUTPUT_STDOUT;
                resp.stdout = (ProtobufCBinaryData){ .len = n, .data = (uint8_t *)data };
        } else {
                resp.output_case = DAEMON__ATTACH_RESP__OUTPUT_EXIT_CODE;
                resp.exitcode = exit_code;
        }
        (void)rpc_call_send(call, &resp.base);
}

struct attachment {
        struct sample *sample;
        unsigned flooded;
};

static void attach_end(struct rpc_call *call, struct attachment *attachment, int exit_code) {
        attach_send(call, NULL, 0, exit_code);
        attachment->sample->finished++;
        free(attachment);
        rpc_call_finish(call, NULL);
}

static void attach_flood(struct rpc_call *call, void *userdata) {
        static const char piece[4096];
        struct attachment *attachment = userdata;

        while (attachment->flooded < SAMPLE_FLOOD && rpc_call_queued(call) < 100000) {
                attachment->flooded++;
                attach_send(call, piece, sizeof(piece), 0);
                if (rpc_call_queued(call) > attachment->sample->most_queued)
                        attachment->sample->most_queued = rpc_call_queued(call);
        }
        if (attachment->flooded == SAMPLE_FLOOD)
                attach_end(call, attachment, 9);
}

static void attach_message(struct rpc_call *call, const void *message, void *userdata) {
        const Daemon__AttachReq *req = message;
        struct attachment *attachment = userdata;

        if (attachment->flooded > 0)
                return;
        if (!req)
                attach_end(call, attachment, 8);
        else if (req->stdin.len == 4 && memcmp(req->stdin.data, "quit", 4) == 0)
                attach_end(call, attachment, 7);
        else if (req->stdin.len == 5 && memcmp(req->stdin.data, "flood", 5) == 0) {
                rpc_call_on_drained(call, attach_flood, attachment);
                attach_flood(call, attachment);
        } else
                attach_send(call, req->stdin.data, req->stdin.len, 0);
}

static void attach_cancelled(struct rpc_call *call, int reason, void *userdata) {
        struct attachment *attachment = userdata;

        attachment->sample->reason = reason;
        attachment->sample->cancelled++;
        attach_end(call, attachment, -1);
}

static void sample_attach(struct rpc_call *call, void *userdata) {
        const Daemon__AttachReq *req = rpc_call_request(call);
        struct attachment *attachment = NEW(struct attachment);
        char text[32];

        attachment->sample = userdata;
        attachment->sample->started++;
        rpc_call_on_cancel(call, attach_cancelled, attachment);
        rpc_call_on_message(call, attach_message, attachment);
        snprintf(text, sizeof(text), "attached to %u\n", req->pid);
        attach_send(call, text, strlen(text), 0);
}

static void sample_events(struct rpc_call *call, void *userdata) {
        Daemon__DumpResp resp = DAEMON__DUMP_RESP__INIT;
        const Daemon__DumpReq *req = rpc_call_request(call);
        char *paths[] = { (char *)"/x.tar" };

        for (uint64_t i = 1; i <= 3; i++) {
                Stasis__V1__Progress progress = STASIS__V1__PROGRESS__INIT;
                Stasis__V1__Event event = STASIS__V1__EVENT__INIT;

                progress.has_done = 1;
                progress.done = i;
                event.kind_case = STASIS__V1__EVENT__KIND_PROGRESS;
                event.progress = &progress;
                (void)rpc_call_send(call, &event.base);
        }
        if (req->name && streq(req->name, "error"))
                sample_error(call);
        else if (req->name && streq(req->name, "slow"))
                slow_start(userdata, call, 60000000);
        else {
                Stasis__V1__Event event = STASIS__V1__EVENT__INIT;

                resp.n_paths = 1;
                resp.paths = paths;
                event.kind_case = STASIS__V1__EVENT__KIND_DUMP;
                event.dump = &resp;
                (void)rpc_call_send(call, &event.base);
                rpc_call_finish(call, NULL);
        }
}

static void sample_drained(void *userdata) {
        ((struct sample *)userdata)->drained++;
}

static int sample_woken(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct sample *sample = userdata;
        uint64_t value;

        (void)source;
        (void)events;
        if (io_read_full(fd, &value, sizeof(value)) < 0)
                abort();
        if (value == 1) {
                sample->stop = true;
                return 0;
        }
        return rpc_server_drain(sample->server, 150, sample_drained, sample, NULL);
}

static void sample_wake(struct sample *sample, uint64_t what) {
        if (io_write_full(sample->wake, &what, sizeof(what)) < 0)
                abort();
}

static const struct rpc_method sample_daemon[] = {
        { .name = "Dump", .handle = sample_dump },
        { .name = "Query", .handle = sample_query },
        { .name = "Attach", .handle = sample_attach, .streaming = true },
        {},
};

static const struct rpc_method sample_stasis[] = { { .name = "Dump", .handle = sample_events }, {} };

static void *sample_run(void *userdata) {
        struct sample *sample = userdata;

        while (!sample->stop)
                sd_event_run(sample->loop, UINT64_MAX);
        sample->server = rpc_server_free(sample->server);
        /* Handlers finish what the server has cancelled. */
        for (unsigned i = 0; i < 100 && sample->started > sample->finished; i++)
                sd_event_run(sample->loop, 10000);
        return NULL;
}

/* A further listener; called before the server's thread runs. @return 0 or -errno */
static int (*sample_listen)(struct sample *sample) __attribute__((unused));

static struct sample *sample_start(const struct rpc_server_options *options) {
        struct sample *sample = NEW(struct sample);
        int fd;

        snprintf(sample->directory, sizeof(sample->directory), "/tmp/test_rpc.XXXXXX");
        if (!mkdtemp(sample->directory))
                abort();
        snprintf(sample->path, sizeof(sample->path), "%s/s", sample->directory);
        sample->wake = eventfd(0, EFD_CLOEXEC);
        fd = io_listen_unix(sample->path, 0600, 64);
        if (fd < 0 || sd_event_new(&sample->loop) < 0 ||
            rpc_server_new(sample->loop, options, &sample->server, NULL) < 0 ||
            rpc_server_listen(sample->server, fd, NULL) < 0 ||
            sd_event_add_io(sample->loop, NULL, sample->wake, EPOLLIN, sample_woken, sample) < 0 ||
            rpc_server_add_service(sample->server, &daemon__daemon__descriptor, sample_daemon, sample, NULL) < 0 ||
            rpc_server_add_service(sample->server, &stasis__v1__stasis__descriptor, sample_stasis, sample, NULL) < 0 ||
            (sample_listen && sample_listen(sample) < 0) ||
            pthread_create(&sample->thread, NULL, sample_run, sample) != 0)
                abort();
        return sample;
}

static void sample_stop(struct sample *sample) {
        sample_wake(sample, 1);
        pthread_join(sample->thread, NULL);
        sd_event_unref(sample->loop);
        close(sample->wake);
        unlink(sample->path);
        rmdir(sample->directory);
        free(sample);
}
