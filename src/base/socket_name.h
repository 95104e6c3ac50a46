/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How kinds of sockets are called in what is shown. */

/** Of AF_INET: "inet". @return static; NULL: it has no name here */
const char *socket_family_name(unsigned family);

/** Of SOCK_STREAM: "stream". @return static; NULL: it has no name here */
const char *socket_type_name(unsigned type);
