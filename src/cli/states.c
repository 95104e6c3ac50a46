/* SPDX-License-Identifier: Apache-2.0 */

/* States of processes as tables. */

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/table.h"
#include "cli/query.h"

/* @return "root", or the number of a user that has no name here; malloc'ed */
static char *user_of(const Daemon__ProcessState *state) {
        const struct passwd *user;

        if (state->n_uids == 0)
                return NULL;
        user = getpwuid((uid_t)state->uids[0]);
        return user ? xstrdup(user->pw_name) : xasprintf("%u", state->uids[0]);
}

static void add_state(struct table *table, size_t parent, const Daemon__ProcessState *state) {
        _cleanup_free_ char *pid = xasprintf("%u", state->pid), *sid = xasprintf("%u", state->sid);
        _cleanup_free_ char *user = user_of(state);
        size_t row = table_add_below(
                table, parent,
                (const char *const[]){ pid, sid, user, state->status, state->workingdir, state->cmdline });

        for (size_t i = 0; i < state->n_children; i++)
                add_state(table, row, state->children[i]);
}

static int print_files(const Daemon__ProcessState *state, struct st_error **err) {
        static const char *const titles[] = { "FD", "MODE", "INODE", "TERMINAL", "FILE", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);

        for (size_t i = 0; i < state->n_openfiles; i++) {
                const Daemon__File *file = state->openfiles[i];
                _cleanup_free_ char *fd = xasprintf("%" PRIu64, file->fd), *inode = xasprintf("%" PRIu64, file->inode);

                table_add(table,
                          (const char *const[]){ fd, file->mode, inode, file->istty ? "yes" : NULL, file->path });
        }
        return table_print(table, false, err);
}

static const char *family_name(uint32_t family) {
        switch (family) {
        case AF_UNIX:
                return "unix";
        case AF_INET:
                return "inet";
        case AF_INET6:
                return "inet6";
        case AF_NETLINK:
                return "netlink";
        case AF_PACKET:
                return "packet";
        default:
                return NULL;
        }
}

static const char *socket_type_name(uint32_t type) {
        switch (type) {
        case SOCK_STREAM:
                return "stream";
        case SOCK_DGRAM:
                return "dgram";
        case SOCK_SEQPACKET:
                return "seqpacket";
        case SOCK_RAW:
                return "raw";
        default:
                return NULL;
        }
}

/* A number stands for what has no name here; malloc'ed. */
static char *name_or_number(const char *name, uint32_t number) {
        return name ? xstrdup(name) : xasprintf("%u", number);
}

static char *address_text(const Daemon__Addr *address) {
        if (!address || !address->ip)
                return NULL;
        if (!address->has_port || address->port == 0)
                return xstrdup(address->ip);
        return xasprintf(strchr(address->ip, ':') ? "[%s]:%u" : "%s:%u", address->ip, address->port);
}

static int print_connections(const Daemon__ProcessState *state, struct st_error **err) {
        static const char *const titles[] = { "FD", "FAMILY", "TYPE", "LOCAL", "REMOTE", "STATUS", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);

        for (size_t i = 0; i < state->n_openconnections; i++) {
                const Daemon__Connection *connection = state->openconnections[i];
                _cleanup_free_ char *fd = xasprintf("%u", connection->fd);
                _cleanup_free_ char *family = name_or_number(family_name(connection->family), connection->family);
                _cleanup_free_ char *type = name_or_number(socket_type_name(connection->type), connection->type);
                _cleanup_free_ char *local = address_text(connection->laddr);
                _cleanup_free_ char *remote = address_text(connection->raddr);

                table_add(table, (const char *const[]){ fd, family, type, local, remote, connection->status });
        }
        return table_print(table, false, err);
}

static int print_mounts(const Daemon__ProcessState *state, struct st_error **err) {
        static const char *const titles[] = { "ID", "TYPE", "SOURCE", "TARGET", "OPTIONS", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);

        for (size_t i = 0; i < state->n_mounts; i++) {
                const Daemon__Mount *mount = state->mounts[i];
                _cleanup_free_ char *id = xasprintf("%" PRIu64, mount->id);

                table_add(table,
                          (const char *const[]){ id, mount->fstype, mount->source, mount->mountpoint, mount->options });
        }
        return table_print(table, false, err);
}

/* What a process has, below what its table says. */
static int print_details(const Daemon__ProcessState *state, struct st_error **err) {
        static int (*const print[])(const Daemon__ProcessState *, struct st_error **) = {
                print_files,
                print_connections,
                print_mounts,
        };
        static const char *const titles[] = { "open files", "connections", "mounts" };
        const size_t n[] = { state->n_openfiles, state->n_openconnections, state->n_mounts };
        int r;

        for (size_t i = 0; i < ELEMENTSOF(print); i++) {
                if (n[i] == 0)
                        continue;
                printf("\nProcess %u: %s\n", state->pid, titles[i]);
                r = print[i](state, err);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < state->n_children; i++) {
                r = print_details(state->children[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int query_print_states(Daemon__ProcessState *const *states, size_t n, bool inspect, struct st_error **err) {
        static const char *const titles[] = { "PID", "SESSION", "USER", "STATUS", "DIRECTORY", "COMMAND", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);
        int r;

        for (size_t i = 0; i < n; i++)
                add_state(table, SIZE_MAX, states[i]);
        r = table_print(table, false, err);
        for (size_t i = 0; inspect && r >= 0 && i < n; i++)
                r = print_details(states[i], err);
        return r;
}
