/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/caller.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"

#define GROUP_BUFFER_MAX ((size_t)1 << 20)

/* By name, or by number for a group that has none. */
static int find_group(const char *name, gid_t *ret, struct st_error **err) {
        struct group entry, *found = NULL;
        uint64_t number;

        for (size_t size = 4096; size <= GROUP_BUFFER_MAX; size *= 2) {
                _cleanup_free_ char *buffer = xmalloc(size);
                int r = getgrnam_r(name, &entry, buffer, size, &found);

                if (r == ERANGE)
                        continue;
                if (found) {
                        *ret = found->gr_gid;
                        return 0;
                }
                break;
        }
        if (text_to_uint(name, UINT32_MAX - 1, &number) >= 0) {
                *ret = (gid_t)number;
                return 0;
        }
        st_error_set(err, EINVAL, "Socket.Group: there is no group %s", name);
        st_error_hint(err, "make it with 'groupadd --system %s', or unset Socket.Group", name);
        return -EINVAL;
}

int access_rules_load(const struct st_arguments *config, struct access_rules *ret, struct st_error **err) {
        const char *group = st_arguments_string(config, "Socket.Group");

        *ret = (struct access_rules){ .root_names = st_arguments_list(config, "TLS.Root") };
        if (isempty(group))
                return 0;
        ret->has_group = true;
        return find_group(group, &ret->group, err);
}

void access_identify(struct rpc_peer *peer, void *userdata) {
        const struct access_rules *rules = userdata;

        for (size_t i = 0; peer->name && rules->root_names && rules->root_names[i]; i++)
                if (streq(rules->root_names[i], peer->name))
                        peer->uid = peer->gid = 0;
}

static bool is_member(const struct rpc_peer *peer, gid_t group) {
        for (size_t i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == group)
                        return true;
        return peer->gid == group;
}

bool caller_is_root(const struct access_rules *rules, const struct rpc_peer *peer) {
        if (peer->uid == 0)
                return true;
        return !peer->address && rules->has_group && is_member(peer, rules->group);
}

int caller_require_root(const struct access_rules *rules, const struct rpc_peer *peer, struct st_error **err) {
        if (caller_is_root(rules, peer))
                return 0;
        if (!peer->address) {
                st_error_set(err, EPERM, "user %u may not do this: only root may%s", peer->uid,
                             rules->has_group ? ", and the members of the daemon's Socket.Group" : "");
                st_error_hint(err, "use sudo");
        } else if (peer->name) {
                st_error_set(err, EPERM,
                             "the client %s (CN of its certificate) at %s may not do this: only root may, and TLS.Root "
                             "of the daemon does not list it",
                             peer->name, peer->address);
                st_error_hint(err, "add \"%s\" to TLS.Root there", peer->name);
        } else
                st_error_set(err, EPERM,
                             "the client at %s may not do this: only root may, and its certificate does not have "
                             "one common name (CN) that TLS.Root could list",
                             peer->address);
        return -EPERM;
}

/* What the process calls itself: told in the log, and no proof of anything. */
static char *command_of(pid_t pid) {
        _cleanup_free_ char *path = xasprintf("/proc/%d/comm", (int)pid), *text = NULL;
        size_t n;

        if (io_read_file(AT_FDCWD, path, 256, &text, &n) < 0)
                return xstrdup("?");
        return text_sanitise(text, strcspn(text, "\n"));
}

char *caller_describe(const struct rpc_peer *peer) {
        if (peer->address) {
                _cleanup_free_ char *name = peer->name ? text_sanitise(peer->name, strlen(peer->name)) : NULL;

                return name ? xasprintf("CN %s at %s", name, peer->address)
                            : xasprintf("a client without a CN at %s", peer->address);
        }
        if (peer->pid <= 0)
                return xasprintf("user %u, group %u", peer->uid, peer->gid);

        _cleanup_free_ char *command = command_of(peer->pid);
        return xasprintf("user %u, group %u, process %d (%s)", peer->uid, peer->gid, (int)peer->pid, command);
}

static bool has_group(const struct identity *identity, gid_t group) {
        for (size_t i = 0; i < identity->n_groups; i++)
                if (identity->groups[i] == group)
                        return true;
        return false;
}

/* One more would be a right, and one less may be one too: files can be closed to a group. */
static int check_groups(const struct rpc_peer *peer, const struct identity *identity, struct st_error **err) {
        for (size_t i = 0; i < identity->n_groups; i++)
                if (!is_member(peer, identity->groups[i]))
                        return st_error_set(err, EPERM, "Groups: user %u is not in group %u, and only root may choose",
                                            peer->uid, identity->groups[i]);
        for (size_t i = 0; identity->n_groups > 0 && i < peer->n_groups; i++)
                if (peer->groups[i] != peer->gid && !has_group(identity, peer->groups[i]))
                        return st_error_set(err, EPERM,
                                            "Groups: user %u is in group %u, too, and only root may leave it out",
                                            peer->uid, peer->groups[i]);
        return 0;
}

static int check_environment(const struct identity *identity, struct st_error **err) {
        for (size_t i = 0; i < identity->n_env; i++) {
                const char *equals = strchr(identity->env[i], '=');

                if (!equals || equals == identity->env[i])
                        return st_error_set(err, EINVAL, "Env: '%s' is not NAME=VALUE", identity->env[i]);
        }
        return 0;
}

int caller_check_identity(const struct access_rules *rules, const struct rpc_peer *peer,
                          const struct identity *identity, struct st_error **err) {
        int r = 0;

        if (!caller_is_root(rules, peer)) {
                if (identity->has_uid && identity->uid != peer->uid)
                        return st_error_set(err, EPERM, "UID: the caller is user %u, and only root may ask for user %u",
                                            peer->uid, identity->uid);
                if (identity->has_gid && identity->gid != peer->gid)
                        return st_error_set(err, EPERM,
                                            "GID: the caller is of group %u, and only root may ask for group %u",
                                            peer->gid, identity->gid);
                r = check_groups(peer, identity, err);
        }
        return r < 0 ? r : check_environment(identity, err);
}
