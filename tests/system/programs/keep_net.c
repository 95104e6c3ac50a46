/* SPDX-License-Identifier: Apache-2.0 */

/* Sockets of the network, on the loopback interface: keep.h says how it is used. */

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "keep.h"

union address {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
};

static socklen_t loopback(int family, union address *address) {
        *address = (union address){ .any.sa_family = (sa_family_t)family };
        if (family == AF_INET) {
                address->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                return sizeof(address->v4);
        }
        address->v6.sin6_addr = in6addr_loopback;
        return sizeof(address->v6);
}

/** A socket that is bound to a free port of the loopback address, which is put into address. */
static int bound(int family, int type, union address *address, socklen_t *length) {
        int fd = MUST(socket(family, type, 0));

        *length = loopback(family, address);
        CHECK(bind(fd, &address->any, *length) == 0 && getsockname(fd, &address->any, length) == 0);
        return fd;
}

static void connection(int family, int *listener, int *client, int *server) {
        union address address;
        socklen_t length;

        *listener = bound(family, SOCK_STREAM, &address, &length);
        CHECK(listen(*listener, 8) == 0);
        *client = MUST(socket(family, SOCK_STREAM, 0));
        CHECK(connect(*client, &address.any, length) == 0);
        *server = MUST(accept(*listener, NULL, NULL));
}

static int option(int fd, int level, int name) {
        int value = 0;
        socklen_t length = sizeof(value);

        CHECK(getsockopt(fd, level, name, &value, &length) == 0);
        return value;
}

static void set_option(int fd, int level, int name, int value) {
        CHECK(setsockopt(fd, level, name, &value, sizeof(value)) == 0);
}

/** A listener and a connection with data on the way in both directions, and options. */
static void check_tcp(int family) {
        int listener, client, server;

        connection(family, &listener, &client, &server);
        set_option(client, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(client, IPPROTO_TCP, TCP_KEEPIDLE, 77);
        set_option(client, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(server, SOL_SOCKET, SO_RCVBUF, 50000);
        set_option(listener, SOL_SOCKET, SO_REUSEADDR, 1);
        MUST(fcntl(client, F_SETFL, O_NONBLOCK));
        int size = option(server, SOL_SOCKET, SO_RCVBUF);
        write_all(client, "question", 8);
        write_all(server, "answer", 6);
        meanwhile();
        expect(server, "question");
        expect(client, "answer");
        CHECK(option(client, SOL_SOCKET, SO_KEEPALIVE) == 1 && option(client, IPPROTO_TCP, TCP_KEEPIDLE) == 77);
        CHECK(option(client, IPPROTO_TCP, TCP_NODELAY) == 1 && option(server, SOL_SOCKET, SO_RCVBUF) == size);
        CHECK(option(listener, SOL_SOCKET, SO_REUSEADDR) == 1 && (fcntl(client, F_GETFL) & O_NONBLOCK));
        union address address;
        socklen_t length = sizeof(address);
        CHECK(getsockname(listener, &address.any, &length) == 0);
        int late = MUST(socket(family, SOCK_STREAM, 0));
        CHECK(connect(late, &address.any, length) == 0);
        int accepted = MUST(accept(listener, NULL, NULL));
        write_all(late, "late", 4);
        expect(accepted, "late");
        write_all(server, "more", 4);
        MUST(fcntl(client, F_SETFL, 0));
        expect(client, "more");
}

static void keep_tcp4(void) {
        check_tcp(AF_INET);
}
static void keep_tcp6(void) {
        check_tcp(AF_INET6);
}

/** Closed in one direction: by one side, data still unread; by the other; both sides wait for each other. */
static void check_half_closed(int family) {
        int listener[2], client[2], server[2];
        char byte;

        for (int i = 0; i < 2; i++)
                connection(family, &listener[i], &client[i], &server[i]);
        write_all(client[0], "last words", 10);
        MUST(shutdown(client[0], SHUT_WR));
        MUST(shutdown(server[1], SHUT_WR));
        close(listener[1]);
        meanwhile();
        expect(server[0], "last words");
        CHECK(read(server[0], &byte, 1) == 0);
        write_all(server[0], "goodbye", 7);
        expect(client[0], "goodbye");
        CHECK(send(client[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
        CHECK(read(client[1], &byte, 1) == 0);
        write_all(client[1], "one way", 7);
        expect(server[1], "one way");
}

static void keep_half_closed4(void) {
        check_half_closed(AF_INET);
}
static void keep_half_closed6(void) {
        check_half_closed(AF_INET6);
}

static void check_udp(int family) {
        union address address, from;
        socklen_t length, from_length = sizeof(from);
        int server = bound(family, SOCK_DGRAM, &address, &length), client = MUST(socket(family, SOCK_DGRAM, 0)),
            loose = MUST(socket(family, SOCK_DGRAM, 0));
        char buffer[16];

        CHECK(connect(client, &address.any, length) == 0);
        set_option(loose, SOL_SOCKET, SO_BROADCAST, 1);
        meanwhile();
        CHECK(send(client, "datagram", 8, 0) == 8);
        CHECK(recvfrom(server, buffer, sizeof(buffer), 0, &from.any, &from_length) == 8);
        CHECK(sendto(server, "reply", 5, 0, &from.any, from_length) == 5 && recv(client, buffer, 16, 0) == 5);
        CHECK(sendto(loose, "loose", 5, 0, &address.any, length) == 5 && recv(server, buffer, 16, 0) == 5);
        CHECK(option(loose, SOL_SOCKET, SO_BROADCAST) == 1);
}

static void keep_udp4(void) {
        check_udp(AF_INET);
}
static void keep_udp6(void) {
        check_udp(AF_INET6);
}

static void keep_raw(void) {
        struct icmphdr ping = { .type = ICMP_ECHO, .un.echo = { .id = (uint16_t)getpid(), .sequence = 1 } };
        union address address;
        socklen_t length = loopback(AF_INET, &address);
        int fd = MUST(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
        struct timeval patience = { .tv_sec = 5 };
        char buffer[256];

        CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
        meanwhile();
        patience.tv_sec = 0;
        socklen_t size = sizeof(patience);
        CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, &size) == 0 && patience.tv_sec == 5);
        ping.checksum = (uint16_t) ~(htons(ICMP_ECHO << 8) + ping.un.echo.id + ping.un.echo.sequence);
        CHECK(sendto(fd, &ping, sizeof(ping), 0, &address.any, length) == sizeof(ping));
        CHECK(recv(fd, buffer, sizeof(buffer), 0) >= (ssize_t)sizeof(ping));
}

static void keep_packet(void) {
        int fd = MUST(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
        struct sockaddr_ll address = { .sll_family = AF_PACKET,
                                       .sll_protocol = htons(ETH_P_ALL),
                                       .sll_ifindex = (int)if_nametoindex("lo") },
                           got;
        socklen_t length = sizeof(got);

        CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
        meanwhile();
        CHECK(getsockname(fd, (struct sockaddr *)&got, &length) == 0);
        CHECK(got.sll_ifindex == address.sll_ifindex && got.sll_protocol == address.sll_protocol);
}

static void keep_netlink(void) {
        int fd = MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
        struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK }, before, after;
        struct {
                struct nlmsghdr header;
                struct rtgenmsg general;
        } request = {
                { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
                { .rtgen_family = AF_UNSPEC }
        };
        socklen_t length = sizeof(before);
        char buffer[65536] __attribute__((aligned(8)));

        CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
        CHECK(getsockname(fd, (struct sockaddr *)&before, &length) == 0);
        meanwhile();
        CHECK(getsockname(fd, (struct sockaddr *)&after, &length) == 0);
        CHECK(after.nl_pid == before.nl_pid && after.nl_groups == before.nl_groups);
        CHECK(send(fd, &request, sizeof(request), 0) == sizeof(request));
        CHECK(recv(fd, buffer, sizeof(buffer), 0) > (ssize_t)sizeof(struct nlmsghdr));
        CHECK(((const struct nlmsghdr *)buffer)->nlmsg_type == RTM_NEWLINK);
}

/** A network namespace of its own, with its loopback interface up and a connection on it. */
static void keep_namespace(void) {
        struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
        int fd, listener, client, server;

        MUST(unshare(CLONE_NEWNET));
        fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
        MUST(ioctl(fd, SIOCSIFFLAGS, &request));
        connection(AF_INET, &listener, &client, &server);
        write_all(client, "inside", 6);
        meanwhile();
        expect(server, "inside");
        MUST(ioctl(fd, SIOCGIFFLAGS, &request));
        CHECK(request.ifr_flags & IFF_UP);
        CHECK(if_nametoindex("lo") == 1 && if_nametoindex("eth0") == 0);
}

const struct object objects[] = {
        { "tcp4", keep_tcp4 },
        { "tcp6", keep_tcp6 },
        { "half-closed4", keep_half_closed4 },
        { "half-closed6", keep_half_closed6 },
        { "udp4", keep_udp4 },
        { "udp6", keep_udp6 },
        { "raw", keep_raw },
        { "packet", keep_packet },
        { "netlink", keep_netlink },
        { "namespace", keep_namespace },
        { NULL, NULL },
};
