/* SPDX-License-Identifier: Apache-2.0 */

/* Are the addresses, ports and names free that a tree's sockets need? Asked of the kernel: by binding to them. */

#include <arpa/inet.h>
#include <dirent.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/preflight_restore.h"
#include "process/files.h"
#include "process/parse.h"
#include "process/sockdiag.h"

union address {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
};

/** Has the tree a network of its own, which CRIU makes anew? Then nobody else's sockets are there. */
static bool has_own_network(const struct preflight *preflight) {
        const CriuImage__Inventory *inventory = inspect_images_one(preflight->images, "inventory", 0);
        uint64_t id = inventory && inventory->root_ids ? inventory->root_ids->net_ns_id : 0;

        return inspect_images_find(preflight->images, "netns", id) != NULL;
}

/* ---- who has a socket */

struct owner {
        uint64_t inode;
        bool found;
};

static int compare_inode(const struct file *file, void *userdata) {
        struct owner *owner = userdata;

        if (file->kind != FILE_SOCKET || file->inode != owner->inode)
                return 0;
        owner->found = true;
        return -ECANCELED; /* enough */
}

/** "process 42 (nginx, since 3 min)", malloc'ed: who has a socket open. Looks at every process there is. */
static char *describe_owner(uint64_t inode) {
        _cleanup_closedir_ DIR *dir = opendir("/proc");
        struct owner owner = { .inode = inode };
        const struct dirent *entry;

        while (inode != 0 && dir && (entry = readdir(dir))) {
                _cleanup_close_ int proc_fd = -EBADF;
                pid_t pid;

                if (text_to_pid(entry->d_name, &pid) < 0 || (proc_fd = proc_open(pid)) < 0)
                        continue;
                (void)files_each(proc_fd, FILES_KINDS, compare_inode, &owner);
                if (owner.found)
                        return proc_describe_pid(pid) ?: xasprintf("process %d", pid);
        }
        return xstrdup("another process");
}

/* ---- TCP and UDP */

static socklen_t fill_address(const CriuImage__InetSk *socket, bool local, union address *ret) {
        const uint32_t *words = local ? socket->src_addr : socket->dst_addr;
        size_t n = local ? socket->n_src_addr : socket->n_dst_addr;
        uint16_t port = htons((uint16_t)(local ? socket->src_port : socket->dst_port));

        *ret = (union address){ 0 };
        if (socket->family == AF_INET && n >= 1) {
                ret->v4.sin_family = AF_INET;
                ret->v4.sin_port = port;
                memcpy(&ret->v4.sin_addr, words, 4);
                return sizeof(ret->v4);
        }
        if (socket->family == AF_INET6 && n >= 4) {
                ret->v6.sin6_family = AF_INET6;
                ret->v6.sin6_port = port;
                memcpy(&ret->v6.sin6_addr, words, 16);
                if (IN6_IS_ADDR_LINKLOCAL(&ret->v6.sin6_addr) && !isempty(socket->ifname))
                        ret->v6.sin6_scope_id = if_nametoindex(socket->ifname);
                return sizeof(ret->v6);
        }
        return 0;
}

static char *address_text(const CriuImage__InetSk *socket, bool local) {
        char text[INET6_ADDRSTRLEN] = "?";
        union address address;

        if (fill_address(socket, local, &address) == 0)
                return xstrdup("?");
        if (socket->family == AF_INET)
                (void)inet_ntop(AF_INET, &address.v4.sin_addr, text, sizeof(text));
        else
                (void)inet_ntop(AF_INET6, &address.v6.sin6_addr, text, sizeof(text));
        return xasprintf(socket->family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
                         local ? socket->src_port : socket->dst_port);
}

static bool is_connected(const CriuImage__InetSk *socket) {
        return socket->type == SOCK_STREAM && socket->dst_port != 0 && socket->state != TCP_LISTEN &&
               socket->state != TCP_CLOSE;
}

/** What is looked for among the sockets of this machine. */
struct search {
        const CriuImage__InetSk *socket;
        uint64_t inode; /* of the one that is in the way; 0: none */
};

static void compare_socket(const struct socket_facts *facts, void *userdata) {
        struct search *search = userdata;
        const CriuImage__InetSk *socket = search->socket;
        size_t size = socket->family == AF_INET ? 4 : 16;

        if (facts->local_port != socket->src_port)
                return;
        if (!is_connected(socket)) {
                if (facts->state == TCP_LISTEN || facts->type == SOCK_DGRAM || search->inode == 0)
                        search->inode = facts->inode;
        } else if (facts->remote_port == socket->dst_port && memcmp(facts->local, socket->src_addr, size) == 0 &&
                   memcmp(facts->remote, socket->dst_addr, size) == 0)
                search->inode = facts->inode;
}

/** The socket of this machine with that local port, or of that connection. */
static uint64_t find_socket(const CriuImage__InetSk *socket) {
        static const enum socket_kind kinds[] = { SOCKET_TCP4, SOCKET_TCP6, SOCKET_UDP4, SOCKET_UDP6 };
        struct search search = { .socket = socket };
        bool stream = socket->type == SOCK_STREAM;

        for (size_t i = stream ? 0 : 2, end = i + 2; i < end; i++) {
                bool same_family = (kinds[i] == SOCKET_TCP4 || kinds[i] == SOCKET_UDP4) == (socket->family == AF_INET);

                /* Both families share the ports; a connection is of one. */
                if (same_family || !is_connected(socket))
                        (void)netproc_read(getpid(), kinds[i], compare_socket, &search);
        }
        return search.inode;
}

/** Tries to bind as CRIU will. @return 0 or -errno */
static int try_bind(const CriuImage__InetSk *saved, bool any_port) {
        _cleanup_close_ int fd = socket((int)saved->family, (int)saved->type | SOCK_CLOEXEC, (int)saved->proto);
        const int on = 1, v6only = saved->has_v6only && saved->v6only;
        union address address;
        socklen_t length = fill_address(saved, true, &address);

        if (fd < 0 || length == 0)
                return 0; /* the kernel lacks the protocol: told by nobody else, but not about addresses */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (saved->opts && saved->opts->has_so_reuseport && saved->opts->so_reuseport)
                (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        if (saved->family == AF_INET6)
                (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
        if (any_port) /* at the same place in both */
                address.v4.sin_port = 0;
        return bind(fd, &address.any, length) < 0 ? -errno : 0;
}

static void report_taken(struct preflight *preflight, const CriuImage__InetSk *socket, const char *text) {
        _cleanup_free_ char *owner = describe_owner(find_socket(socket));

        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EADDRINUSE, text,
                       "stop that process, or restore in a network namespace of its own", "the %s port is in use by %s",
                       socket->type == SOCK_STREAM ? "TCP" : "UDP", owner);
}

static void check_inet(struct preflight *preflight, const CriuImage__InetSk *socket) {
        const Criu__CriuOpts *criu = preflight->restore->criu;
        _cleanup_free_ char *local = address_text(socket, true);
        bool connected = is_connected(socket);

        if (socket->src_port == 0 || (socket->type != SOCK_STREAM && socket->type != SOCK_DGRAM) ||
            (connected && criu->has_tcp_close && criu->tcp_close))
                return;
        /* A connection is bound by force: only its address must be there, and no other with the same ends. */
        int r = try_bind(socket, connected);
        if (r == -EADDRINUSE)
                report_taken(preflight, socket, local);
        else if (r == -EADDRNOTAVAIL)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EADDRNOTAVAIL, local,
                               connected ? "add the address to an interface, or restore with --tcp-close"
                                         : "add the address to an interface",
                               "this machine does not have the address");
        else if (connected && find_socket(socket) != 0) {
                _cleanup_free_ char *owner = describe_owner(find_socket(socket)), *remote = address_text(socket, false);

                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EADDRINUSE, local,
                               "end it, or restore with --tcp-close", "the connection to %s is in use by %s", remote,
                               owner);
        }
}

int preflight_addresses(struct preflight *preflight, struct st_error **err) {
        const struct criu_image_list *list = inspect_images_find(preflight->images, "files", 0);

        (void)err;
        if (has_own_network(preflight)) {
                preflight_summary(preflight, "a network namespace of its own is made");
                return 0;
        }
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__InetSk *socket = ((const CriuImage__File *)list->items[i])->isk;

                if (socket)
                        check_inet(preflight, socket);
        }
        return 0;
}

/* ---- UNIX sockets */

struct name_search {
        const char *name;
        size_t length;
        uint64_t inode; /* of who is bound to it; 0: nobody */
};

/* The text of /proc shows abstract names with "@" for NUL. */
static void compare_name(const struct socket_facts *facts, void *userdata) {
        struct name_search *search = userdata;

        if (search->inode != 0 || !facts->name || facts->name_length != search->length)
                return;
        for (size_t i = 0; i < search->length; i++)
                if (facts->name[i] != (search->name[i] ? search->name[i] : '@'))
                        return;
        search->inode = facts->inode;
}

static uint64_t find_name(const char *name, size_t length) {
        struct name_search search = { .name = name, .length = length };

        (void)netproc_read(getpid(), SOCKET_UNIX, compare_name, &search);
        return search.inode;
}

static void check_abstract(struct preflight *preflight, const CriuImage__UnixSk *socket) {
        uint64_t inode = find_name((const char *)socket->name.data, socket->name.len);
        _cleanup_free_ char *name = NULL, *owner = NULL;

        if (inode == 0)
                return;
        name = text_sanitise((const char *)socket->name.data + 1, socket->name.len - 1);
        owner = describe_owner(inode);
        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EADDRINUSE, name, "stop that process",
                       "the abstract UNIX socket is in use by %s", owner);
}

static void check_path(struct preflight *preflight, const CriuImage__UnixSk *socket) {
        size_t length = strnlen((const char *)socket->name.data, socket->name.len);
        _cleanup_free_ char *name = xstrndup((const char *)socket->name.data, length), *path = NULL, *directory = NULL;
        uint64_t inode = find_name(name, length);
        bool external = socket->uflags & CRIU_UNIX_EXTERN;
        struct stat st;

        path = name[0] == '/' || isempty(socket->name_dir) ? xstrdup(name) : path_join(socket->name_dir, name);
        directory = path_directory(path);
        if (path[0] != '/' || (socket->has_deleted && socket->deleted))
                return;
        if (external) {
                if (inode == 0)
                        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ECONNREFUSED, path,
                                       "start the program that offers it",
                                       "nobody offers the UNIX socket, to which the process was connected");
        } else if (access(directory, F_OK) < 0)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ENOENT, path, "make it again",
                               "the directory of the UNIX socket is missing");
        else if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EADDRINUSE, path, "move it away",
                               "something else than a UNIX socket has its name");
        else if (inode != 0) {
                _cleanup_free_ char *owner = describe_owner(inode);

                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, path, "stop that process first",
                               "the UNIX socket is in use by %s: the restored process would take its place", owner);
        }
}

int preflight_unix(struct preflight *preflight, struct st_error **err) {
        const struct criu_image_list *list = inspect_images_find(preflight->images, "files", 0);
        const CriuImage__Inventory *inventory = inspect_images_one(preflight->images, "inventory", 0);
        uint64_t mounts = inventory && inventory->root_ids ? inventory->root_ids->mnt_ns_id : 0;
        bool own_mounts = inspect_images_find(preflight->images, "mountpoints", mounts) != NULL;

        (void)err;
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__UnixSk *socket = ((const CriuImage__File *)list->items[i])->usk;

                if (!socket || socket->name.len == 0)
                        continue;
                if (socket->name.data[0] != '\0') {
                        if (!own_mounts)
                                check_path(preflight, socket);
                } else if (!has_own_network(preflight) && !(socket->uflags & CRIU_UNIX_EXTERN))
                        check_abstract(preflight, socket);
        }
        return 0;
}
