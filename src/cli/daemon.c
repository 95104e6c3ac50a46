/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis daemon start`, `stop` and `status`. */

#include "daemon/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>

#include <daemon/misc.pb-c.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/table.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "engine/settings.h"
#include "rpc/client.h"

#define STOP_TIMEOUT_MS 10000

static int run_start(struct cli *cli, struct st_error **err) {
        enum st_log_level level = ST_LOG_INFO;

        cli_begin_work(cli);
        (void)logger_level_from_text(st_arguments_string(cli->arguments, "LogLevel"), &level);
        logger_set_level(level);
        logger_set_target(cli->json ? LOGGER_JSON : logger_default_target(), NULL, NULL);
        return daemon_run(cli->arguments, err);
}

static int not_running(const char *address, int number, struct st_error **err) {
        if (number == -ECONNREFUSED || number == -ENOENT)
                return st_error_set(err, ECONNREFUSED, "no daemon is running at %s", address);
        return st_error_errno(err, number, "cannot connect to the daemon at %s", address);
}

/* The process that listens at an address, as the kernel says. @return a pidfd or -errno with err */
static int find_daemon(const char *address, pid_t *ret_pid, struct st_error **err) {
        _cleanup_close_ int fd = io_connect_unix(address);
        struct ucred peer;
        socklen_t size = sizeof(peer);
        int pidfd;

        if (fd < 0)
                return not_running(address, fd, err);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return st_error_errno(err, errno, "cannot ask who listens at %s", address);
        if (peer.pid <= 0)
                return st_error_set(err, ESRCH, "the daemon at %s runs in another PID namespace", address);
        pidfd = pidfd_open(peer.pid, 0);
        if (pidfd < 0)
                return st_error_errno(err, errno, "cannot find process %d, which listens at %s", (int)peer.pid,
                                      address);
        *ret_pid = peer.pid;
        return pidfd;
}

static int wait_for_end(int pidfd, pid_t pid, struct st_error **err) {
        struct pollfd ended = { .fd = pidfd, .events = POLLIN };
        int r;

        do
                r = poll(&ended, 1, STOP_TIMEOUT_MS);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return st_error_errno(err, errno, "cannot wait for the daemon");
        if (r == 0) {
                st_error_set(err, ETIMEDOUT, "the daemon (process %d) has not ended within %d s", (int)pid,
                             STOP_TIMEOUT_MS / 1000);
                st_error_hint(err, "it may still be finishing operations: see 'stasis daemon status'");
                return -ETIMEDOUT;
        }
        return 0;
}

static const struct st_option stop_options[] = {
        { .flag = "checkpoint",
          .type = ST_OPTION_STRING,
          .value_name = "TIME",
          .bare = "0",
          .help = "before, save and end the jobs that have a policy (--every, --restart), which go on at the next "
                  "start of the daemon; those that cannot be saved within TIME (90s, 5m) run on" },
        ST_OPTION_END,
};

/* The daemon ends itself after its answer. */
static int save_jobs(struct cli *cli, Stasis__V1__StopResp **ret, struct st_error **err) {
        const char *within = st_arguments_string(cli->arguments, "checkpoint");
        Stasis__V1__StopReq req = STASIS__V1__STOP_REQ__INIT;
        _cleanup_(daemon_link_freep) struct daemon_link *link = NULL;
        const struct rpc_options options = { .cancel_fd = interrupt_fd() };
        int r;

        req.has_checkpoint = req.has_within = req.checkpoint = 1;
        if (text_to_duration(within, &req.within) < 0) {
                st_error_set(err, EINVAL, "--checkpoint: '%s' is not a time", within);
                st_error_hint(err, "write it as --checkpoint=90s, --checkpoint=5m");
                return -EINVAL;
        }
        r = daemon_link_open(cli, &link, err);
        if (r >= 0)
                r = rpc_client_call(daemon_link_client(link), "/stasis.v1.Stasis/Stop", &req.base,
                                    &stasis__v1__stop_resp__descriptor, &options, ret, err);
        if (r == -ECANCELED && interrupt_count() > 0) {
                if (err)
                        *err = st_error_free(*err);
                return operation_interrupted("but the daemon goes on saving its jobs, and stops then", err);
        }
        return r;
}

static void print_stopped(const struct cli *cli, pid_t pid, const Stasis__V1__StopResp *saved) {
        if (cli->json) {
                json_t *object = json_pack("{s:i}", "stopped", (int)pid), *messages = saved ? json_array() : NULL;

                for (size_t i = 0; saved && i < saved->n_messages; i++)
                        json_array_append_new(messages, json_string(saved->messages[i]));
                if (messages)
                        json_object_set_new(object, "messages", messages);
                output_json(object);
                return;
        }
        for (size_t i = 0; saved && i < saved->n_messages; i++) {
                _cleanup_free_ char *line = text_sanitise(saved->messages[i], strlen(saved->messages[i]));

                puts(line);
        }
        printf("stopped daemon %d\n", (int)pid);
}

static int run_stop(struct cli *cli, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__StopResp *saved = NULL;
        const char *address = settings_socket_path(cli->arguments);
        bool save = st_arguments_given(cli->arguments, "checkpoint");
        pid_t pid = 0;
        int r;

        cli_begin_work(cli);
        if (!settings_prefers_socket(cli->arguments)) {
                st_error_set(err, EOPNOTSUPP, "a daemon is stopped on its own machine, by its UNIX socket");
                st_error_hint(err, "run 'stasis daemon stop --protocol unix' there");
                return -EOPNOTSUPP;
        }
        _cleanup_close_ int pidfd = find_daemon(address, &pid, err);
        if (pidfd < 0)
                return pidfd;
        r = save ? save_jobs(cli, &saved, err) : 0;
        if (r < 0)
                return r;
        if (!save && pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
                return st_error_errno(err, errno, "cannot stop the daemon (process %d)", (int)pid);
        r = wait_for_end(pidfd, pid, err);
        if (r < 0)
                return r;
        print_stopped(cli, pid, saved);
        return EXIT_OK;
}

/* "2026-01-31 12:00:00"; malloc'ed */
static char *time_text(uint64_t seconds) {
        char text[sizeof("2026-01-31 12:00:00") + 8];
        time_t when = (time_t)seconds;
        struct tm tm;

        if (!localtime_r(&when, &tm) || strftime(text, sizeof(text), "%F %T", &tm) == 0)
                return xasprintf("%" PRIu64, seconds);
        return xstrdup(text);
}

static int print_operations(const char *title, Stasis__V1__Operation *const *operations, size_t n,
                            struct st_error **err) {
        static const char *const titles[] = { "KIND", "TARGET", "PID", "STARTED", "UID", "ID", NULL };
        _cleanup_(table_freep) struct table *table = NULL;

        if (n == 0)
                return 0;
        printf("\n%s\n", title);
        table = table_new(titles);
        for (size_t i = 0; i < n; i++) {
                bool queued = operations[i]->queued;
                _cleanup_free_ char *pid = queued ? xstrdup("queued") : xasprintf("%u", operations[i]->pid),
                                    *uid = xasprintf("%u", operations[i]->uid);
                _cleanup_free_ char *started = time_text(operations[i]->started);

                table_add(table, (const char *const[]){ operations[i]->kind, operations[i]->target, pid, started, uid,
                                                        operations[i]->id });
        }
        return table_print(table, false, err);
}

static int print_status(const Stasis__V1__StatusResp *status, struct st_error **err) {
        _cleanup_free_ char *started = time_text(status->started), *memory = text_from_size(status->memory);
        _cleanup_free_ char *version = text_sanitise(status->version ?: "?", strlen(status->version ?: "?"));
        _cleanup_free_ char *address = text_sanitise(status->address ?: "?", strlen(status->address ?: "?"));
        int r;

        printf("daemon %s is running at %s: process %u, since %s, %s of memory\n", version, address, status->pid,
               started, memory);
        r = print_operations("Operations", status->operations, status->n_operations, err);
        if (r < 0)
                return r;
        return print_operations("Restored processes", status->supervisors, status->n_supervisors, err);
}

static int run_status(struct cli *cli, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__StatusResp *status = NULL;
        Daemon__Empty empty = DAEMON__EMPTY__INIT;
        int r;

        cli_begin_work(cli);
        r = daemon_call(cli, "/stasis.v1.Stasis/Status", &empty.base, &stasis__v1__status_resp__descriptor, &status,
                        err);
        if (r == -ECONNREFUSED) {
                if (err)
                        *err = st_error_free(*err);
                r = not_running(st_arguments_string(cli->arguments, "Address"), r, err);
                st_error_hint(err, "start it with 'stasis daemon start'");
        }
        if (r < 0)
                return r;
        if (cli->json) {
                output_json(message_to_json(&status->base));
                return EXIT_OK;
        }
        return print_status(status, err);
}

const struct command command_daemon = {
        .path = "daemon",
        .summary = "Starts, stops and shows the daemon",
        .examples = "daemon status",
};

const struct command command_daemon_start = {
        .path = "daemon start",
        .summary = "Runs the daemon in the foreground, until SIGTERM or SIGINT",
        .examples = "daemon start --address /run/stasis.sock\ndaemon start --json 2>/var/log/stasis/daemon.json",
        .options = (const struct st_option *const[]){ settings_daemon, NULL },
        .config = true,
        .run = run_start,
};

const struct command command_daemon_stop = {
        .path = "daemon stop",
        .summary = "Stops the daemon and waits for its end; jobs and restored processes run on",
        .examples = "daemon stop\ndaemon stop --checkpoint=90s",
        .options = (const struct st_option *const[]){ stop_options, NULL },
        .config = true,
        .run = run_stop,
};

const struct command command_daemon_status = {
        .path = "daemon status",
        .summary = "Shows the daemon and what it does",
        .examples = "daemon status --json",
        .config = true,
        .run = run_status,
};
