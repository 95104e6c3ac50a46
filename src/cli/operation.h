/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the command line gets an operation done: by the daemon, or with --no-server in this process. Either way the
 * same request and answer, the same progress, cancelling and profile.
 */

#include <stdbool.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>
#include <stasis/v1/stasis.pb-c.h>

struct cli;
struct rpc_client;

/**
 * Asks the daemon: one request, one answer.
 *
 * @param ret the answer, of the given type; the caller's
 */
int daemon_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *response, void *ret, struct st_error **err);

/**
 * As daemon_call(), for candidates of the completion: gives up soon, and does not wait for a daemon that is not there.
 */
int daemon_call_quickly(struct cli *cli, const char *method, const ProtobufCMessage *request,
                        const ProtobufCMessageDescriptor *response, void *ret, struct st_error **err);

/** A connection to the daemon, for a call that the others here do not fit. */
struct daemon_link;
int daemon_link_open(struct cli *cli, struct daemon_link **ret, struct st_error **err);
struct rpc_client *daemon_link_client(struct daemon_link *link);
struct daemon_link *daemon_link_free(struct daemon_link *link);
static inline void daemon_link_freep(struct daemon_link **link) {
        *link = daemon_link_free(*link);
}

/** Is the daemon on this machine, so that its files are ours? Else the error says what cannot be done: `what`. */
int daemon_is_here(const struct cli *cli, const char *what, struct st_error **err);

/**
 * Lets the daemon do an operation of stasis.v1.Stasis, and shows its progress.
 *
 * @param outcome what is told of a cancellation: "process 42 goes on running"
 * @param ret the last event, which holds the answer; the caller's
 */
int daemon_operate(struct cli *cli, const char *method, const ProtobufCMessage *request, const char *outcome,
                   Stasis__V1__Event **ret, struct st_error **err);

/** What local_operate() does. */
struct local_work {
        /** Called with plugins loaded. */
        int (*run)(struct st_operation *operation, void *userdata, struct st_error **err);
        void *userdata;
        const char *outcome; /* as of daemon_operate() */
        bool needs_root;
};

/** Does an operation in this process. */
int local_operate(struct cli *cli, const struct local_work *work, struct st_error **err);

/** Replaces the error of an operation that the user interrupted by what came of it. @return -ECANCELED */
int operation_interrupted(const char *outcome, struct st_error **err);
