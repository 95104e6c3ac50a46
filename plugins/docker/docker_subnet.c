/* SPDX-License-Identifier: Apache-2.0 */
#include "docker_subnet.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool docker_subnet_contains(const char *subnet, const char *address) {
        unsigned char net[sizeof(struct in6_addr)], host[sizeof(struct in6_addr)];
        char prefix[INET6_ADDRSTRLEN];
        const char *slash = strchr(subnet, '/');
        int family = strchr(address, ':') ? AF_INET6 : AF_INET;
        unsigned bits;
        int end = 0;

        if (!slash || (size_t)(slash - subnet) >= sizeof(prefix) || slash[1] < '0' || slash[1] > '9' ||
            sscanf(slash + 1, "%3u%n", &bits, &end) != 1 || slash[1 + end] || bits > (family == AF_INET ? 32u : 128u))
                return false;
        memcpy(prefix, subnet, (size_t)(slash - subnet));
        prefix[slash - subnet] = 0;
        if (inet_pton(family, prefix, net) != 1 || inet_pton(family, address, host) != 1)
                return false;
        if (memcmp(net, host, bits / 8) != 0)
                return false;
        return bits % 8 == 0 || (net[bits / 8] ^ host[bits / 8]) >> (8 - bits % 8) == 0;
}
