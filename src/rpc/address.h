/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* TCP addresses, "HOST:PORT": listening, connecting, and the text of a socket's own. */

#include <stdint.h>

#include <stasis/error.h>

/** Zero-initialise; free with rpc_address_clear(). */
struct rpc_address {
        char *host; /* a name or an address, without brackets; empty: all of this machine's */
        char *port; /* a number, 0 (any that is free) to 65535 */
};

/** The most addresses that one name listens on. */
#define RPC_ADDRESS_FDS 8

/** "HOST:PORT", "[IPV6]:PORT", ":PORT". @return 0 or -EINVAL with err */
int rpc_address_parse(const char *text, struct rpc_address *ret, struct st_error **err);

void rpc_address_clear(struct rpc_address *address);

/**
 * Listens on all addresses of the host. May wait for the name service.
 *
 * @param ret_fds sockets, close-on-exec, the caller's
 * @return how many, at least 1; -errno with err
 */
int rpc_address_listen(const struct rpc_address *address, int ret_fds[RPC_ADDRESS_FDS], struct st_error **err);

/**
 * Connects to the first address of the host that answers.
 *
 * @param end CLOCK_MONOTONIC in milliseconds; UINT64_MAX: none
 * @param cancel_fd gives up when it polls readable; negative: none
 * @return a non-blocking socket, close-on-exec; -ETIMEDOUT, -ECANCELED, -ECONNREFUSED, … with err
 */
int rpc_address_connect(const struct rpc_address *address, uint64_t end, int cancel_fd, struct st_error **err);

/**
 * Waits for a socket.
 *
 * @param events POLLIN or POLLOUT
 * @return 0: it is ready; -ETIMEDOUT, -ECANCELED or another -errno
 */
int rpc_address_wait(int fd, int events, uint64_t end, int cancel_fd);

/** Makes a connection that carries messages both ways notice it when the other machine is gone, within two minutes. */
void rpc_address_keep_alive(int fd);

/** @return "192.0.2.1:443", "[2001:db8::1]:443" of the socket's own end, malloc'ed; "?" when it has none */
char *rpc_address_of_socket(int fd);

/** As rpc_address_of_socket(), of its other end. */
char *rpc_address_of_peer(int fd);
