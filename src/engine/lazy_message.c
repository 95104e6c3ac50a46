/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lazy_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Who does not take a message for so long is not at work. */
#define SEND_TIMEOUT_S 5

int lazy_message_pair(int fds[2]) {
        const struct timeval limit = { .tv_sec = SEND_TIMEOUT_S };

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        for (int i = 0; i < 2; i++)
                (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        return 0;
}

int lazy_message_send(int socket, char kind, const char *text, int fd) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = { 0 };
        size_t length = text ? strnlen(text, LAZY_TEXT_MAX - 1) : 0;
        struct iovec parts[] = { { &kind, 1 }, { (void *)text, length } };
        struct msghdr message = { .msg_iov = parts, .msg_iovlen = length > 0 ? 2 : 1 };
        ssize_t n;

        if (fd >= 0) {
                message.msg_control = &control;
                message.msg_controllen = sizeof(control);
                control.header = (struct cmsghdr){
                        .cmsg_level = SOL_SOCKET,
                        .cmsg_type = SCM_RIGHTS,
                        .cmsg_len = CMSG_LEN(sizeof(int)),
                };
                memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        }
        do
                n = sendmsg(socket, &message, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

int lazy_message_receive(int socket, char *text, int *ret_fd) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        char kind = 0;
        struct iovec parts[] = { { &kind, 1 }, { text, LAZY_TEXT_MAX - 1 } };
        struct msghdr message = {
                .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        int fd = -EBADF;
        ssize_t n;

        /* A reset (it ended with something of ours unread) is told once, and before what it said last. */
        do
                n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n <= 0)
                return n == 0 ? 0 : -errno;
        text[n - 1] = '\0';
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        if (ret_fd)
                *ret_fd = fd;
        else if (fd >= 0)
                close(fd);
        return kind;
}
