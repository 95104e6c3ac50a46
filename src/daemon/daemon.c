/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/leftovers.h"
#include "daemon/monitor.h"
#include "daemon/service.h"
#include "daemon/service_calls.h"
#include "daemon/supervisors.h"
#include "daemon/workers.h"
#include "engine/settings.h"
#include "rpc/address.h"
#include "rpc/server.h"

/* Operations that run when the daemon is to stop are cancelled and roll back within this time. */
#define DRAIN_MS 10000

struct daemon {
        sd_event *loop;
        struct rpc_server *server;
        struct service service;
        struct monitor *monitor;
        char *address;       /* of the UNIX socket */
        struct rpc_tls *tls; /* NULL: no TCP */
        int lock_fd;
        bool listening; /* the socket at the address is ours, to remove too */
        bool stopping;
};

static void on_drained(void *userdata) {
        struct daemon *daemon = userdata;
        (void)sd_event_exit(daemon->loop, 0);
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        struct daemon *daemon = userdata;
        _cleanup_error_ struct st_error *error = NULL;

        (void)source;
        if (daemon->stopping)
                return sd_event_exit(daemon->loop, 0);
        daemon->stopping = true;
        st_log_info("stopping on SIG%s, %zu operations running", sigabbrev_np((int)info->ssi_signo),
                    workers_count(daemon->service.workers));
        (void)sd_notify(false, "STOPPING=1");
        workers_cancel_all(daemon->service.workers);
        if (rpc_server_drain(daemon->server, DRAIN_MS, on_drained, daemon, &error) < 0)
                return sd_event_exit(daemon->loop, 0);
        return 0;
}

static int on_child(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        struct daemon *daemon = userdata;
        int status;
        pid_t pid;

        (void)source;
        (void)info;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                /* A child of a CRIU that was killed may ask to be traced, by whoever is its parent now: that is us. */
                if (WIFSTOPPED(status))
                        (void)kill(pid, SIGKILL);
                else {
                        workers_child_ended(daemon->service.workers, pid, status);
                        jobs_child_ended(daemon->service.jobs, pid, status);
                }
        }
        return 0;
}

static int watch_signals(struct daemon *daemon, struct st_error **err) {
        sigset_t set;
        int r;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGCHLD);
        sigprocmask(SIG_BLOCK, &set, NULL);
        (void)signal(SIGPIPE, SIG_IGN);

        r = sd_event_add_signal(daemon->loop, NULL, SIGTERM, on_stop, daemon);
        if (r >= 0)
                r = sd_event_add_signal(daemon->loop, NULL, SIGINT, on_stop, daemon);
        if (r >= 0)
                r = sd_event_add_signal(daemon->loop, NULL, SIGCHLD, on_child, daemon);
        return r < 0 ? st_error_errno(err, r, "cannot watch signals") : 0;
}

/** One daemon for each address: the lock tells, whatever a crash left of the socket. */
static int lock_address(struct daemon *daemon, struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(daemon->address);
        _cleanup_free_ char *lock = xasprintf("%s.lock", daemon->address);
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = io_make_directories(directory, 0755);
        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", directory);
        fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s", lock);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                st_error_set(err, EADDRINUSE, "another daemon serves %s", daemon->address);
                st_error_hint(err, "see 'stasis daemon status'; stop it with 'stasis daemon stop'");
                return -EADDRINUSE;
        }
        daemon->lock_fd = TAKE_FD(fd);
        return 0;
}

/** @return the listening descriptor */
static int listen_at(struct daemon *daemon, struct st_error **err) {
        _cleanup_close_ int fd = -EBADF;
        int r = io_listen_unix(daemon->address, 0600, 128);
        if (r < 0)
                return st_error_errno(err, r, "cannot listen at %s", daemon->address);
        fd = r;
        daemon->listening = true;
        /* In this order: nobody else can open it before it is the group's. */
        if (daemon->service.rules.has_group &&
            (lchown(daemon->address, 0, daemon->service.rules.group) < 0 || chmod(daemon->address, 0660) < 0))
                return st_error_errno(err, errno, "cannot give %s to group %u (Socket.Group)", daemon->address,
                                      daemon->service.rules.group);
        return TAKE_FD(fd);
}

static int listen_tcp(struct daemon *daemon, const struct rpc_address *address, struct st_error **err) {
        int fds[RPC_ADDRESS_FDS], n = rpc_address_listen(address, fds, err), r = n;

        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *where = rpc_address_of_socket(fds[i]);

                if (r < 0)
                        close(fds[i]);
                else
                        r = rpc_server_listen_tls(daemon->server, fds[i], daemon->tls, access_identify,
                                                  &daemon->service.rules, err);
                if (r >= 0)
                        st_log_info("serves %s by TLS", where);
        }
        return r < 0 ? r : 0;
}

static int load_tls(struct daemon *daemon, const struct st_arguments *config, struct st_error **err) {
        const struct rpc_tls_files files = {
                .cert = st_arguments_string(config, "TLS.Cert"),
                .key = st_arguments_string(config, "TLS.Key"),
                .ca = st_arguments_string(config, "TLS.CA"),
        };

        return settings_is_tcp(config) ? rpc_tls_new(&files, true, &daemon->tls, err) : 0;
}

/** With Protocol tcp: local tools have the UNIX socket besides. */
static int serve_tcp(struct daemon *daemon, const struct st_arguments *config, struct st_error **err) {
        struct rpc_address address = { 0 };
        int r;

        if (!daemon->tls)
                return 0;
        r = rpc_address_parse(st_arguments_string(config, "Address"), &address, err);
        if (r >= 0)
                r = listen_tcp(daemon, &address, err);
        rpc_address_clear(&address);
        return r;
}

/**
 * Each job takes a few descriptors of ours. What is started must not get the larger limit: programs that close all
 * descriptors up to it would take long.
 */
static void raise_limit(struct daemon *daemon) {
        struct rlimit limit, raised;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        raised = (struct rlimit){ .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };
        if (setrlimit(RLIMIT_NOFILE, &raised) >= 0)
                workers_set_limit_nofile(daemon->service.workers, &limit);
}

/** What workers were writing when they were killed. Those of an earlier daemon that still run hold locks. */
static void clean_checkpoints(const struct st_arguments *config) {
        const char *configured = st_arguments_string(config, "Checkpoint.Dir");
        _cleanup_free_ char *directory =
                isempty(configured) || strstr(configured, "://") ? NULL : path_absolute(configured);

        if (directory)
                leftovers_clean(directory, geteuid());
}

static int prepare_jobs(struct daemon *daemon, const struct st_arguments *config, struct st_error **err) {
        int r;

        raise_limit(daemon);
        workers_clean_stale(daemon->service.workers);
        r = jobs_new(daemon->loop, config, daemon->service.workers, daemon->service.supervisors, &daemon->service.jobs,
                     err);
        if (r >= 0)
                clean_checkpoints(config);
        if (r >= 0)
                r = policies_new(daemon->loop, daemon->service.jobs, &daemon->service.policies, err);
        return r < 0 ? r : monitor_new(&daemon->service, &daemon->monitor, err);
}

static int prepare(struct daemon *daemon, const struct st_arguments *config, struct st_error **err) {
        int r;

        r = sd_event_new(&daemon->loop);
        if (r < 0)
                return st_error_errno(err, r, "cannot make an event loop");
        daemon->service.loop = daemon->loop;
        r = watch_signals(daemon, err);
        if (r >= 0)
                r = access_rules_load(config, &daemon->service.rules, err);
        if (r >= 0)
                r = load_tls(daemon, config, err);
        if (r >= 0)
                r = workers_new(daemon->loop, config, &daemon->service.workers, err);
        if (r >= 0)
                r = lock_address(daemon, err);
        if (r >= 0)
                r = supervisors_new(daemon->loop, &daemon->service.supervisors, err);
        if (r >= 0)
                r = prepare_jobs(daemon, config, err);
        if (r >= 0)
                r = rpc_server_new(daemon->loop, NULL, &daemon->server, err);
        if (r >= 0)
                r = service_register(&daemon->service, daemon->server, err);
        if (r >= 0)
                r = listen_at(daemon, err);
        if (r >= 0)
                r = rpc_server_listen(daemon->server, r, err);
        if (r >= 0)
                r = serve_tcp(daemon, config, err);
        return r;
}

static void daemon_clear(struct daemon *daemon) {
        daemon->server = rpc_server_free(daemon->server);
        rpc_tls_free(daemon->tls);
        monitor_free(daemon->monitor);
        policies_free(daemon->service.policies);
        jobs_free(daemon->service.jobs);
        workers_free(daemon->service.workers);
        service_calls_clear(&daemon->service);
        supervisors_free(daemon->service.supervisors);
        if (daemon->listening)
                (void)unlink(daemon->address);
        /* The lock file stays: another daemon may just have opened it. */
        if (daemon->lock_fd >= 0)
                close(daemon->lock_fd);
        sd_event_unref(daemon->loop);
        free(daemon->address);
}

int daemon_run(const struct st_arguments *config, struct st_error **err) {
        struct daemon daemon = {
                .lock_fd = -EBADF,
                .address = path_absolute(settings_socket_path(config)),
                .service = { .config = config, .started = (uint64_t)time(NULL) },
        };
        int r;

        umask(0077);
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        r = prepare(&daemon, config, err);
        if (r >= 0) {
                st_log_info("stasis " STASIS_VERSION " serves %s", daemon.address);
                (void)sd_notify(false, "READY=1");
                r = sd_event_loop(daemon.loop);
                if (r < 0)
                        st_error_errno(err, r, "the event loop failed");
                else
                        st_log_info("stopped");
        }
        daemon_clear(&daemon);
        return r < 0 ? r : 0;
}
