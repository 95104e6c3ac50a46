/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Serves the metrics by HTTP, `GET /metrics`, at a UNIX socket or an address of this machine itself. On the loop's
 * thread, by libmicrohttpd, which is loaded only for this: linked in, its TLS library would slow every command down.
 */

#include <systemd/sd-event.h>

#include <stasis/error.h>

struct metrics_server;

/** Makes the page: called for each request, from the loop. @return malloc'ed, or NULL: it cannot be made */
typedef char *(*metrics_page_fn)(size_t *ret_size, void *userdata);

/**
 * @param address path of a socket (mode 0600, made anew, removed at the end) or HOST:PORT; a host that is not this
 *                machine's loopback is refused, for there is no authentication: -EPERM
 * @return 0; -ENOPKG without the library; -EINVAL, -EADDRINUSE, … with err
 */
int metrics_server_new(sd_event *loop, const char *address, metrics_page_fn page, void *userdata,
                       struct metrics_server **ret, struct st_error **err);

struct metrics_server *metrics_server_free(struct metrics_server *server);
