/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Loading certificates and keys into a context of OpenSSL, which is loaded already. */

#include "rpc/openssl.h"
#include "rpc/tls.h"

/** @return as rpc_tls_new() */
int tls_files_load(SSL_CTX *context, const struct rpc_tls_files *files, struct st_error **err);
