/* SPDX-License-Identifier: Apache-2.0 */
#include "process/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "process/access.h"
#include "process/analysis.h"
#include "process/files.h"
#include "process/host.h"
#include "process/mounts.h"
#include "process/parse.h"
#include "process/sockets.h"
#include "process/tree.h"

/* Clients refuse messages nested deeper than 100 (protobuf's C++ and Python by default); a state is part of others. */
#define DEPTH_LIMIT 64

struct node {
        Daemon__ProcessState *state; /* NULL: the process is gone */
        size_t depth;
        size_t place; /* the node below which its children are put: itself, or an ancestor of it */
        uint64_t mount_namespace;
};

struct reader {
        unsigned detail;
        struct node *nodes; /* one for each task of the tree */
        struct sockets sockets;
        struct pending { /* connections to fill in when the sockets are known */
                Daemon__Connection *connection;
                size_t index;
        } * pending;
        size_t n_pending, room_pending;

        Daemon__ProcessState *state; /* the one whose descriptors are being read */
        pid_t pid;
        int proc_fd;
        size_t room_files, room_connections;
};

static void reader_clear(struct reader *reader) {
        free(reader->nodes);
        free(reader->pending);
        sockets_clear(&reader->sockets);
}

/* Milliseconds since 1970. The time of the boot is in whole seconds, as the kernel's btime: it does not waver. */
static uint64_t milliseconds_of(uint64_t ticks) {
        struct timespec now, up;

        clock_gettime(CLOCK_REALTIME, &now);
        clock_gettime(CLOCK_BOOTTIME, &up);
        int64_t boot = now.tv_sec - up.tv_sec - (now.tv_nsec < up.tv_nsec);
        return (uint64_t)boot * 1000 + ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

const char *process_state_word(char state) {
        switch (state) {
        case 'R':
                return "running";
        case 'S':
                return "sleep";
        case 'D':
                return "disk-sleep";
        case 'T':
        case 't':
                return "stop";
        case 'Z':
                return "zombie";
        case 'I':
                return "idle";
        case 'W':
                return "wait";
        case 'X':
        case 'x':
                return "dead";
        default:
                return "unknown";
        }
}

static uint32_t *copy_ids(const uint32_t *ids, size_t n) {
        uint32_t *copy = n > 0 ? xcalloc(n, sizeof(*copy)) : NULL;

        if (n > 0)
                memcpy(copy, ids, n * sizeof(*copy));
        return copy;
}

static void fill_credentials(Daemon__ProcessState *state, const struct proc_status *status) {
        state->uids = copy_ids(status->uids, state->n_uids = ELEMENTSOF(status->uids));
        state->gids = copy_ids(status->gids, state->n_gids = ELEMENTSOF(status->gids));
        state->groups = copy_ids(status->groups, state->n_groups = status->n_groups);
}

static char *read_link(int proc_fd, const char *name) {
        char path[PATH_MAX];
        ssize_t n = readlinkat(proc_fd, name, path, sizeof(path));

        return n < 0 ? NULL : text_sanitise(path, (size_t)n);
}

static Daemon__ProcessState *read_identity(int proc_fd, const struct process_task *task) {
        _cleanup_status_ struct proc_status status = { 0 };
        struct proc_stat stat;

        if (proc_read_stat_at(proc_fd, &stat) < 0 || stat.start_time != task->start_time ||
            proc_read_status_at(proc_fd, &status) < 0)
                return NULL;

        Daemon__ProcessState *state = NEW(Daemon__ProcessState);
        daemon__process_state__init(state);
        state->has_pid = state->has_starttime = state->has_isrunning = state->has_sid = 1;
        state->pid = (uint32_t)stat.pid;
        state->starttime = milliseconds_of(stat.start_time);
        state->isrunning = !proc_stat_is_dead(&stat);
        state->sid = (uint32_t)stat.sid;
        state->status = xstrdup(process_state_word(stat.state));
        state->cmdline = proc_command_line_at(proc_fd);
        state->workingdir = read_link(proc_fd, "cwd");
        fill_credentials(state, &status);
        return state;
}

static void add_connection(struct reader *reader, const struct file *file) {
        Daemon__ProcessState *state = reader->state;
        Daemon__Connection *connection = NEW(Daemon__Connection);

        daemon__connection__init(connection);
        connection->has_fd = connection->has_pid = 1;
        connection->fd = (uint32_t)file->fd;
        connection->pid = (uint32_t)reader->pid;
        connection->uids = copy_ids(state->uids, connection->n_uids = state->n_uids);
        GROW(state->openconnections, state->n_openconnections, reader->room_connections);
        state->openconnections[state->n_openconnections++] = connection;

        GROW(reader->pending, reader->n_pending, reader->room_pending);
        reader->pending[reader->n_pending++] = (struct pending){
                .connection = connection,
                .index = sockets_add(&reader->sockets, reader->proc_fd, reader->pid, file->fd, file->inode),
        };
}

static int add_file(const struct file *file, void *userdata) {
        struct reader *reader = userdata;
        Daemon__ProcessState *state = reader->state;

        if (file->kind == FILE_SOCKET) {
                add_connection(reader, file);
                return 0;
        }

        Daemon__File *message = NEW(Daemon__File);
        daemon__file__init(message);
        message->path = text_sanitise(file->link, strlen(file->link));
        message->mode = xstrdup(files_mode_text(file));
        message->has_fd = message->has_mountid = message->has_inode = message->has_istty = 1;
        message->has_dev = message->has_rdev = 1;
        message->fd = (uint64_t)file->fd;
        message->mountid = file->mount_id;
        message->inode = file->inode;
        message->istty = file->kind == FILE_TERMINAL;
        message->dev = file->dev;
        message->rdev = file->rdev;
        GROW(state->openfiles, state->n_openfiles, reader->room_files);
        state->openfiles[state->n_openfiles++] = message;
        return 0;
}

static uint64_t mount_namespace(int proc_fd) {
        struct stat st;

        return fstatat(proc_fd, "ns/mnt", &st, 0) < 0 ? 0 : st.st_ino;
}

/* Most children see the mounts of their parents: only who has others lists them. */
static int inspect(struct reader *reader, int proc_fd, struct node *node, const struct node *parent,
                   struct st_error **err) {
        int r;

        reader->proc_fd = proc_fd;
        reader->pid = (pid_t)node->state->pid;
        reader->state = node->state;
        reader->room_files = reader->room_connections = 0;
        r = files_each(proc_fd, FILES_ALL, add_file, reader);
        if (r == -EACCES || r == -EPERM)
                return access_denied(reader->pid, err);
        if (r < 0 && r != -ESRCH)
                return st_error_errno(err, r, "cannot read the descriptors of process %d", (int)reader->pid);

        node->mount_namespace = mount_namespace(proc_fd);
        if (!parent || parent->mount_namespace != node->mount_namespace)
                (void)mounts_read(proc_fd, &node->state->n_mounts, &node->state->mounts);
        return 0;
}

static Daemon__Addr *address_new(char *ip, uint16_t port) {
        Daemon__Addr *address = NEW(Daemon__Addr);

        daemon__addr__init(address);
        address->ip = ip;
        address->has_port = 1;
        address->port = port;
        return address;
}

static Daemon__Addr *address_of(unsigned family, const uint8_t *bytes, uint16_t port) {
        char text[INET6_ADDRSTRLEN] = "";

        (void)inet_ntop((int)family, bytes, text, sizeof(text));
        return address_new(xstrdup(text), port);
}

static void fill_connection(const struct sockets *sockets, const struct pending *pending) {
        const struct socket *socket = &sockets->items[pending->index];
        const struct socket_facts *facts = &socket->facts;
        Daemon__Connection *connection = pending->connection;

        connection->has_family = connection->has_type = 1;
        connection->family = facts->family;
        connection->type = facts->type;
        connection->status = xstrdup(socket_state_text(socket));
        if (!socket->found)
                return;
        if (facts->family == AF_UNIX) {
                const char *peer = sockets_peer_name(sockets, socket);
                if (socket->name)
                        connection->laddr = address_new(xstrdup(socket->name), 0);
                if (peer)
                        connection->raddr = address_new(xstrdup(peer), 0);
                return;
        }
        connection->laddr = address_of(facts->family, facts->local, facts->local_port);
        connection->raddr = address_of(facts->family, facts->remote, facts->remote_port);
}

/* @return -ESRCH when the process is gone; other errors with err */
static int read_node(struct reader *reader, const struct process_task *task, struct node *node,
                     const struct node *parent, struct st_error **err) {
        _cleanup_close_ int proc_fd = proc_open(task->pid);

        if (proc_fd >= 0)
                node->state = read_identity(proc_fd, task);
        if (!node->state)
                return -ESRCH;
        if (parent)
                message_append(&parent->state->n_children, &parent->state->children, node->state);
        if (!(reader->detail & PROCESS_INSPECT) || tree_task_is_dead(task))
                return 0;
        return inspect(reader, proc_fd, node, parent, err);
}

/* Children of what is gone, or too deep, are put below the nearest ancestor that can have them. */
static int read_nodes(struct reader *reader, const struct tree *tree, struct st_error **err) {
        _cleanup_idmap_ struct idmap index = { 0 };

        for (size_t i = 0; i < tree->n; i++) {
                const struct process_task *task = &tree->tasks[i];
                const size_t *known = i > 0 ? idmap_get(&index, (uint64_t)task->ppid) : NULL;
                size_t place = known ? reader->nodes[*known].place : 0;
                struct node *node = &reader->nodes[i];

                node->depth = i > 0 ? reader->nodes[place].depth + 1 : 0;
                int r = read_node(reader, task, node, i > 0 ? &reader->nodes[place] : NULL, err);
                if (r == -ESRCH && i == 0)
                        return st_error_set(err, ESRCH, "no process %d", (int)task->pid);
                if (r < 0 && r != -ESRCH)
                        return r;
                node->place = node->state && node->depth + 1 < DEPTH_LIMIT ? i : place;
                idmap_put(&index, (uint64_t)task->pid, i);
        }
        return 0;
}

int process_state_read(pid_t pid, unsigned detail, Daemon__ProcessState **ret, struct st_error **err) {
        _cleanup_(reader_clear) struct reader reader = { .detail = detail, .sockets.want_names = true };
        _cleanup_(message_freep) Daemon__ProcessState *root = NULL;
        _cleanup_tree_ struct tree tree = { 0 };

        int r = tree_read(pid, detail & PROCESS_TREE, &tree, err);
        if (r < 0)
                return r;
        reader.nodes = xcalloc(tree.n, sizeof(*reader.nodes));
        r = read_nodes(&reader, &tree, err);
        root = reader.nodes[0].state; /* the others hang below it */
        if (r < 0)
                return r;

        if (reader.sockets.n > 0)
                sockets_resolve(&reader.sockets);
        for (size_t i = 0; i < reader.n_pending; i++)
                fill_connection(&reader.sockets, &reader.pending[i]);
        if (detail & PROCESS_HOST)
                root->host = host_read();
        *ret = TAKE_PTR(root);
        return 0;
}
