/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include "base/cleanup.h"
#include "process/sockdiag.h"

/* The kernel fills messages of up to 32 KiB when the reader's buffer allows (netlink_dump() in af_netlink.c). */
#define BUFFER_SIZE ((size_t)64 << 10)

struct opener {
        int namespace_fd;
        int result;
};

static int open_here(void) {
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

        return fd < 0 ? -errno : fd;
}

static void *open_in_namespace(void *userdata) {
        struct opener *opener = userdata;

        opener->result = setns(opener->namespace_fd, CLONE_NEWNET) < 0 ? -errno : open_here();
        return NULL;
}

/* A socket stays in the namespace it was made in: a thread goes there, makes it, and ends. */
int sockdiag_open(int namespace_fd) {
        struct opener opener = { .namespace_fd = namespace_fd, .result = -EBADF };
        sigset_t all, saved;
        pthread_t thread;

        if (namespace_fd < 0)
                return open_here();
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        int r = -pthread_create(&thread, NULL, open_in_namespace, &opener);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (r < 0)
                return r;
        pthread_join(thread, NULL);
        return opener.result;
}

static int send_all(int fd, const void *request, size_t size) {
        struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
        ssize_t n;

        do
                n = sendto(fd, request, size, 0, (struct sockaddr *)&kernel, sizeof(kernel));
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

static struct nlmsghdr dump_header(size_t size, uint32_t number) {
        return (struct nlmsghdr){
                .nlmsg_len = (uint32_t)size,
                .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                .nlmsg_seq = number,
        };
}

static int send_inet_request(int fd, uint32_t number, enum socket_kind kind) {
        struct {
                struct nlmsghdr header;
                struct inet_diag_req_v2 inet;
        } request = {
                .header = dump_header(sizeof(request), number),
                .inet = {
                        .sdiag_family = kind & (SOCKET_TCP4 | SOCKET_UDP4) ? AF_INET : AF_INET6,
                        .sdiag_protocol = kind & (SOCKET_TCP4 | SOCKET_TCP6) ? IPPROTO_TCP : IPPROTO_UDP,
                        /* Those in TIME_WAIT are most of a busy host's, and belong to nobody. */
                        .idiag_states = ~(UINT32_C(1) << TCP_TIME_WAIT),
                },
        };

        return send_all(fd, &request, sizeof(request));
}

static int send_unix_request(int fd, uint32_t number) {
        struct {
                struct nlmsghdr header;
                struct unix_diag_req local;
        } request = {
                .header = dump_header(sizeof(request), number),
                .local = {
                        .sdiag_family = AF_UNIX,
                        .udiag_states = UINT32_MAX,
                        .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS,
                },
        };

        return send_all(fd, &request, sizeof(request));
}

static void report_inet(const struct nlmsghdr *header, enum socket_kind kind, socket_fn report, void *userdata) {
        const struct inet_diag_msg *m = NLMSG_DATA(header);

        /* Without an inode: a connection that is not accepted yet, or that its owner has closed. */
        if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) || m->idiag_inode == 0)
                return;
        struct socket_facts facts = {
                .inode = m->idiag_inode,
                .family = m->idiag_family,
                .type = kind & (SOCKET_TCP4 | SOCKET_TCP6) ? SOCK_STREAM : SOCK_DGRAM,
                .state = m->idiag_state,
                .local_port = ntohs(m->id.idiag_sport),
                .remote_port = ntohs(m->id.idiag_dport),
        };
        memcpy(facts.local, m->id.idiag_src, sizeof(facts.local));
        memcpy(facts.remote, m->id.idiag_dst, sizeof(facts.remote));
        report(&facts, userdata);
}

static void read_unix_attribute(const struct nlattr *attribute, struct socket_facts *facts) {
        const void *data = (const char *)attribute + NLA_HDRLEN;
        size_t size = attribute->nla_len - (size_t)NLA_HDRLEN;
        uint32_t number;

        switch (attribute->nla_type & NLA_TYPE_MASK) {
        case UNIX_DIAG_NAME:
                facts->name = data;
                facts->name_length = size;
                break;
        case UNIX_DIAG_PEER:
                if (size < sizeof(number))
                        break;
                memcpy(&number, data, sizeof(number));
                facts->peer = number;
                facts->connected = true;
                break;
        case UNIX_DIAG_ICONS:
                facts->pending = data; /* attributes are aligned to 4 bytes */
                facts->n_pending = size / sizeof(number);
                break;
        case UNIX_DIAG_SHUTDOWN:
                facts->shut_down = size > 0 && (*(const uint8_t *)data & 3) == 3; /* RCV_SHUTDOWN | SEND_SHUTDOWN */
                break;
        }
}

static void report_unix(const struct nlmsghdr *header, socket_fn report, void *userdata) {
        const struct unix_diag_msg *m = NLMSG_DATA(header);

        if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) || m->udiag_ino == 0)
                return;
        struct socket_facts facts = {
                .inode = m->udiag_ino,
                .family = AF_UNIX,
                .type = m->udiag_type,
                .state = m->udiag_state,
        };
        const char *p = (const char *)m + NLMSG_ALIGN(sizeof(*m));
        size_t left = header->nlmsg_len - NLMSG_LENGTH(NLMSG_ALIGN(sizeof(*m)));
        while (left >= NLA_HDRLEN) {
                const struct nlattr *attribute = (const struct nlattr *)(const void *)p;
                size_t step = NLA_ALIGN(attribute->nla_len);

                if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > left)
                        break;
                read_unix_attribute(attribute, &facts);
                if (step >= left)
                        break;
                p += step;
                left -= step;
        }
        report(&facts, userdata);
}

/* @return 1 at the end of the dump, 0 when more follows, -errno */
static int read_messages(const void *buffer, size_t size, uint32_t number, enum socket_kind kind, socket_fn report,
                         void *userdata) {
        const struct nlmsghdr *header = buffer;
        uint32_t left = (uint32_t)size;

        for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
                if (header->nlmsg_seq != number)
                        continue; /* the rest of a dump before this one, that failed */
                if (header->nlmsg_type == NLMSG_DONE)
                        return 1;
                if (header->nlmsg_type == NLMSG_ERROR) {
                        const struct nlmsgerr *e = NLMSG_DATA(header);
                        bool whole = header->nlmsg_len >= NLMSG_LENGTH(sizeof(*e));
                        return whole && e->error < 0 ? e->error : -EBADMSG;
                }
                if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY)
                        continue;
                if (kind == SOCKET_UNIX)
                        report_unix(header, report, userdata);
                else
                        report_inet(header, kind, report, userdata);
        }
        return 0;
}

int sockdiag_dump(int fd, uint32_t number, enum socket_kind kind, socket_fn report, void *userdata) {
        _cleanup_free_ void *buffer = malloc(BUFFER_SIZE);
        int r;

        if (!buffer)
                return -ENOMEM;
        r = kind == SOCKET_UNIX ? send_unix_request(fd, number) : send_inet_request(fd, number, kind);
        while (r == 0) {
                ssize_t n = recv(fd, buffer, BUFFER_SIZE, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EBADMSG;
                r = read_messages(buffer, (size_t)n, number, kind, report, userdata);
        }
        return r < 0 ? r : 0;
}
