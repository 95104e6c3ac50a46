/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who calls, and what that one may do. The daemon does what root may do, so it does it for root only: for UID 0, for
 * the members of Socket.Group, and for clients by TLS whose certificate's CN is in TLS.Root. Everybody else may ask the
 * health service and nothing more. See docs/security.md.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>
#include <stasis/option.h>

#include "rpc/transport.h"

/** Who counts as root. Zero: UID 0 only. */
struct access_rules {
        bool has_group;
        gid_t group;                   /* of the UNIX socket */
        const char *const *root_names; /* CNs, NULL-terminated; NULL: none. Belongs to the configuration */
};

/** @return 0; -EINVAL with err when Socket.Group names no group */
int access_rules_load(const struct st_arguments *config, struct access_rules *ret, struct st_error **err);

/** An rpc_identify_fn: a peer whose CN is in the list becomes UID and GID 0. @param userdata the rules */
void access_identify(struct rpc_peer *peer, void *userdata);

/** May the peer do what root may? */
bool caller_is_root(const struct access_rules *rules, const struct rpc_peer *peer);

/** Refuses whoever is not root. @return 0; -EPERM with err, which says what would change that */
int caller_require_root(const struct access_rules *rules, const struct rpc_peer *peer, struct st_error **err);

/** "user 0, group 0, process 4242 (stasis)", "CN ops at 192.0.2.7:40000"; malloc'ed */
char *caller_describe(const struct rpc_peer *peer);

/** Whose process a request asks for: fields of a RestoreReq or RunReq. */
struct identity {
        bool has_uid, has_gid; /* what is not set means the caller's own */
        uid_t uid;
        gid_t gid;
        const uint32_t *groups; /* none: not set */
        size_t n_groups;
        char *const *env; /* NAME=VALUE */
        size_t n_env;
};

/**
 * May the caller have that? Root may have any; others only what the kernel says that they are: the same UID, GID and
 * set of groups. Environment variables are data for the process itself, which for them runs as they do: only their form
 * is checked.
 *
 * @return 0; -EPERM, or -EINVAL for a malformed variable, with err
 */
int caller_check_identity(const struct access_rules *rules, const struct rpc_peer *peer,
                          const struct identity *identity, struct st_error **err);
