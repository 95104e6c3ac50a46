/* SPDX-License-Identifier: Apache-2.0 */
#include "base/socket_name.h"

#include <stddef.h>
#include <sys/socket.h>

#include "base/cleanup.h"

const char *socket_family_name(unsigned family) {
        static const char *const names[] = { [AF_UNIX] = "unix",
                                             [AF_INET] = "inet",
                                             [AF_INET6] = "inet6",
                                             [AF_NETLINK] = "netlink",
                                             [AF_PACKET] = "packet" };
        return family < ELEMENTSOF(names) ? names[family] : NULL;
}

const char *socket_type_name(unsigned type) {
        static const char *const names[] = { [SOCK_STREAM] = "stream",
                                             [SOCK_DGRAM] = "dgram",
                                             [SOCK_RAW] = "raw",
                                             [SOCK_SEQPACKET] = "seqpacket",
                                             [SOCK_PACKET] = "packet" };
        return type < ELEMENTSOF(names) ? names[type] : NULL;
}
