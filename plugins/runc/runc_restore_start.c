/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs `runc restore`. In the foreground the program stays: it hands on the container's streams, ends with its exit
 * code and removes it then; so it is who is waited for. That it has restored the container shows in its PID file, which
 * it writes then. With --detach it ends at once; the container's process comes to us where we are a subreaper.
 *
 * Streams. In the foreground runc puts pipes of its own between itself and the container, so its own may be anything.
 * With --detach the container gets runc's very own in the place of its pipes: behind those must be a pipe again, or the
 * next dump meets a file that the container has not.
 */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <stasis/checkpoint.h>
#include <stasis/child.h>

#include "runc_restore.h"

#define STEP_MS 5
#define LOG_MAX ((size_t)1 << 20)
#define CONSOLE_MS 10000

/* What a program that is run gets and leaves. */
struct streams {
        int in, out;  /* -EBADF: /dev/null */
        int terminal; /* a master; -EBADF: none */
        int listener; /* our console socket; -EBADF: none */
        bool keep;    /* those of the caller */
};

static void streams_clear(struct streams *streams) {
        common_closep(&streams->in);
        common_closep(&streams->out);
        common_closep(&streams->terminal);
        common_closep(&streams->listener);
}

static void global_flags(const struct runc_plan *plan, struct util_list *argv) {
        const Plugins__Runc__Runc *runc = plan->details;

        runc_program(argv, plan->root);
        if (plan->log) {
                free(argv->items[1]);
                argv->items[1] = util_printf("--log-format=%s", isempty(runc->logformat) ? "text" : runc->logformat);
                util_list_addf(argv, "--log=%s", plan->log);
        } else
                util_list_addf(argv, "--log=%s/engine.log", plan->work);
        if (!isempty(runc->rootless) && runc_engine.has_state_file)
                util_list_addf(argv, "--rootless=%s", runc->rootless);
        if (runc->has_systemdcgroup && runc->systemdcgroup)
                util_list_add(argv, "--systemd-cgroup");
}

/** The command line of the restore; its PID file is in the work directory. */
static void make_argv(const struct runc_plan *plan, const Criu__CriuOpts *criu, struct util_list *argv) {
        const char *configured = st_arguments_string(st_operation_config(plan->operation), "CRIU.BinaryPath");
        const Plugins__Runc__Runc *runc = plan->details;

        global_flags(plan, argv);
        if (!isempty(configured) && runc_engine.has_state_file)
                util_list_addf(argv, "--criu=%s", configured);
        util_list_add(argv, "restore");
        util_list_addf(argv, "--image-path=%s", plan->images);
        util_list_addf(argv, "--work-path=%s", plan->work);
        util_list_addf(argv, "--bundle=%s", plan->bundle_used);
        util_list_addf(argv, "--pid-file=%s/pid", st_operation_work_dir(plan->operation));
        if (plan->detach)
                util_list_add(argv, "--detach");
        if (plan->console_socket)
                util_list_addf(argv, "--console-socket=%s", plan->console_socket);
        if (runc->has_nopivot && runc->nopivot)
                util_list_add(argv, "--no-pivot");
        if (runc->has_nosubreaper && runc->nosubreaper)
                util_list_add(argv, "--no-subreaper");
        runc_add_flags(argv, criu, plan->given);
        util_list_add(argv, plan->id);
}

/** --out, as restore_open_output() of the host opens it. */
static int open_out(const struct runc_plan *plan, struct st_error **err) {
        const Daemon__RestoreReq *req = plan->restore->req;
        uid_t uid = req->has_uid ? req->uid : st_operation_uid(plan->operation);
        gid_t gid = req->has_gid ? req->gid : st_operation_gid(plan->operation);
        const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_CREAT;
        int fd = open(req->log, flags | O_EXCL, 0600);

        if (fd >= 0 && fchown(fd, uid, gid) < 0)
                st_log_warning("cannot give %s to user %u", req->log, (unsigned)uid);
        if (fd < 0 && errno == EEXIST)
                fd = open(req->log, flags, 0600);
        return fd < 0 ? st_error_errno(err, errno, "cannot open %s", req->log) : fd;
}

/** A terminal of ours that the program in the foreground hands on. */
static int make_terminal(struct streams *streams, struct st_error **err) {
        _cleanup_close_ int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
                return st_error_errno(err, errno, "cannot make a terminal for the container");
        streams->in = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        streams->out = streams->in >= 0 ? fcntl(streams->in, F_DUPFD_CLOEXEC, 3) : -EBADF;
        if (streams->out < 0)
                return st_error_errno(err, errno, "cannot open the container's terminal");
        streams->terminal = TAKE_FD(master);
        return 0;
}

/** With --detach and no socket of the caller's, ours gets the terminal. */
static int make_console_socket(struct runc_plan *plan, struct streams *streams, struct st_error **err) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        plan->console_socket = util_printf("%s/console", st_operation_work_dir(plan->operation));
        if (strlen(plan->console_socket) >= sizeof(address.sun_path))
                return st_error_set(err, ENAMETOOLONG, "%s is too long for a socket", plan->console_socket);
        memcpy(address.sun_path, plan->console_socket, strlen(plan->console_socket) + 1);
        streams->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (streams->listener < 0 || bind(streams->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            listen(streams->listener, 1) < 0)
                return st_error_errno(err, errno, "cannot listen at %s", plan->console_socket);
        return 0;
}

/** Takes the master that the program has sent: one descriptor, with its name as the data. */
static int take_terminal(struct streams *streams, struct st_error **err) {
        struct pollfd ready = { .fd = streams->listener, .events = POLLIN };
        _cleanup_close_ int connection = -EBADF;
        char name[4096];
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec data = { .iov_base = name, .iov_len = sizeof(name) };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        const struct cmsghdr *header;

        if (streams->listener < 0)
                return 0;
        if (poll(&ready, 1, CONSOLE_MS) <= 0)
                return st_error_set(err, ETIMEDOUT, "%s did not send the container's terminal", runc_engine.name);
        connection = accept4(streams->listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0 || recvmsg(connection, &message, MSG_CMSG_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot receive the container's terminal");
        header = CMSG_FIRSTHDR(&message);
        if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
            header->cmsg_len != CMSG_LEN(sizeof(int)))
                return st_error_set(err, EPROTO, "%s sent no terminal", runc_engine.name);
        memcpy(&streams->terminal, CMSG_DATA(header), sizeof(int));
        return 0;
}

/** A pipe for the container's output, and a program that takes it to where it is to go. */
static int make_relay(const struct runc_plan *plan, struct streams *streams, struct st_error **err) {
        static char *const argv[] = { (char *)"cat", NULL };
        _cleanup_close_ int out = -EBADF, from = -EBADF;
        int ends[2];

        if (plan->restore && !isempty(plan->restore->req->log)) {
                out = open_out(plan, err);
                if (out < 0)
                        return out;
        }
        if (pipe2(ends, O_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot make a pipe");
        from = ends[0];
        streams->out = ends[1];
        const struct st_child_fd fds[] = { { from, STDIN_FILENO }, { out, STDOUT_FILENO } };
        const struct st_child relay = {
                .size = sizeof(relay),
                .path = "cat",
                .argv = argv,
                .directory = "/",
                .fds = fds,
                .n_fds = 2,
        };
        pid_t pid = st_child_start(&relay, NULL, err);
        return pid < 0 ? (int)pid : 0;
}

static int make_streams(struct runc_plan *plan, struct streams *streams, struct st_error **err) {
        bool no_server = st_operation_no_server(plan->operation), out = !isempty(plan->restore->req->log);

        if (plan->terminal && plan->detach)
                return plan->console_socket ? 0 : make_console_socket(plan, streams, err);
        streams->keep = no_server && !out && (!plan->terminal || isatty(STDIN_FILENO));
        if (streams->keep)
                return 0;
        if (plan->terminal)
                return make_terminal(streams, err);
        if (plan->detach)
                return make_relay(plan, streams, err);
        if (!out)
                return 0;
        streams->out = open_out(plan, err);
        return streams->out < 0 ? streams->out : 0;
}

/** The PID that the program has written. @return 0: none yet */
static pid_t read_pid(const struct runc_plan *plan) {
        _cleanup_free_ char *path = util_printf("%s/pid", st_operation_work_dir(plan->operation)), *text = NULL;

        if (util_read_file(path, 64, &text, NULL) < 0)
                return 0;
        long pid = strtol(text, NULL, 10);
        return pid > 0 && pid <= 0x7fffffff ? (pid_t)pid : 0;
}

/** Why the program failed: by CRIU's log, else by its own. */
static int explain(struct runc_plan *plan, int status, struct st_error **err) {
        _cleanup_free_ char *criu = util_printf("%s/restore.log", plan->work), *text = NULL, *said = NULL;
        _cleanup_free_ char *log = plan->log ? util_strdup(plan->log) : util_printf("%s/engine.log", plan->work);

        if (access(criu, F_OK) == 0)
                return st_restore_criu_failed(plan->restore, plan->work, status, err);
        if (util_read_file(log, LOG_MAX, &text, NULL) == 0)
                said = runc_last_error(text);
        /* Between our check and now somebody has taken the ID: "container with given ID already exists". */
        plan->others = said && strstr(said, "container") && strstr(said, " exists");
        return said ? st_error_set(err, EIO, "%s: %s", runc_engine.name, said)
                    : st_error_set(err, EIO, "%s restore failed and said nothing", runc_engine.name);
}

/** Waits until the container runs, or the program has ended without. It is not killed: CRIU would leave its mounts. */
static int wait_for_start(struct runc_plan *plan, pid_t program, int pidfd, struct st_error **err) {
        struct pollfd end = { .fd = pidfd, .events = POLLIN };
        int status, r;

        for (;;) {
                int ended = poll(&end, 1, STEP_MS);

                plan->restore->pid = read_pid(plan);
                if (plan->restore->pid > 0)
                        return 0;
                if (ended > 0)
                        break;
        }
        r = st_child_wait(program, &status);
        return r < 0 ? st_error_errno(err, r, "cannot wait for %s", runc_engine.name) : explain(plan, status, err);
}

/** @param fds room for three, as long as the child is used */
static struct st_child make_child(const struct util_list *argv, const struct streams *streams,
                                  struct st_child_fd fds[3]) {
        fds[0] = (struct st_child_fd){ streams->in, STDIN_FILENO };
        fds[1] = (struct st_child_fd){ streams->out, STDOUT_FILENO };
        fds[2] = (struct st_child_fd){ streams->out, STDERR_FILENO };
        return (struct st_child){
                .size = sizeof(struct st_child),
                .path = argv->items[0],
                .argv = argv->items,
                .fds = streams->keep ? NULL : fds,
                .n_fds = streams->keep ? 0 : 3,
                .keep_stdio = streams->keep,
                .keep_session = streams->keep,
        };
}

/** In the foreground: the program is a child of ours as long as the container runs. */
static int run_foreground(struct runc_plan *plan, const struct util_list *argv, const struct streams *streams,
                          struct st_error **err) {
        struct st_child_fd fds[3];
        const struct st_child child = make_child(argv, streams, fds);
        _cleanup_close_ int pidfd = -EBADF;
        pid_t program = st_child_start(&child, &pidfd, err);
        int r;

        if (program < 0)
                return program;
        r = wait_for_start(plan, program, pidfd, err);
        if (r < 0)
                return r;
        plan->restore->waiter = program;
        r = st_operation_check_cancelled(plan->operation, err);
        if (r < 0) {
                (void)kill(plan->restore->pid, SIGKILL);
                (void)st_child_wait(program, NULL);
                plan->restore->pid = plan->restore->waiter = 0;
        }
        return r;
}

static bool is_our_child(pid_t pid) {
        siginfo_t info = { 0 };

        return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/** With --detach: the program ends, and its child comes to whoever is the next subreaper. */
static int run_detached(struct runc_plan *plan, const struct util_list *argv, struct streams *streams,
                        struct st_error **err) {
        struct st_child_fd fds[3];
        const struct st_child child = make_child(argv, streams, fds);
        int code, r;

        if (!st_operation_no_server(plan->operation))
                (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        code = st_child_run(&child, -1, -EBADF, NULL, err);
        if (code < 0)
                return code;
        if (code > 0)
                return explain(plan, runc_wait_status(code), err);
        plan->restore->pid = read_pid(plan);
        if (plan->restore->pid <= 0)
                return st_error_set(err, EPROTO, "%s restored the container, but did not say its PID",
                                    runc_engine.name);
        r = take_terminal(streams, err);
        if (r >= 0)
                r = st_operation_check_cancelled(plan->operation, err);
        if (r < 0)
                return r;
        plan->restore->waiter = is_our_child(plan->restore->pid) ? 0 : ST_RESTORE_NOBODY;
        return 0;
}

int runc_restore_start(struct runc_plan *plan, struct st_error **err) {
        _cleanup_(streams_clear) struct streams streams = { -EBADF, -EBADF, -EBADF, -EBADF, false };
        _cleanup_list_ struct util_list argv = { 0 };
        int r = make_streams(plan, &streams, err);

        if (r < 0)
                return r;
        make_argv(plan, plan->restore->criu, &argv);
        st_operation_progress(plan->operation, "restoring", 0, 0);
        plan->started = true;
        r = plan->detach ? run_detached(plan, &argv, &streams, err) : run_foreground(plan, &argv, &streams, err);
        if (r < 0)
                return r;
        plan->restore->terminal = TAKE_FD(streams.terminal);
        if (!plan->detach && !plan->terminal && !streams.keep && streams.out < 0)
                st_restore_message(plan->restore, "its output goes nowhere: --out FILE keeps it");
        return 0;
}

int runc_restore_again(struct runc_plan *plan, const struct st_dump *dump, struct st_error **err) {
        _cleanup_(streams_clear) struct streams streams = { -EBADF, -EBADF, -EBADF, -EBADF, false };
        _cleanup_free_ char *output = NULL, *said = NULL;
        _cleanup_list_ struct util_list argv = { 0 };
        int r = make_relay(plan, &streams, err);

        if (r < 0)
                return r;
        make_argv(plan, dump->criu, &argv);
        const struct st_child_fd fds[] = { { streams.out, STDOUT_FILENO }, { streams.out, STDERR_FILENO } };
        const struct st_child child = {
                .size = sizeof(child), .path = argv.items[0], .argv = argv.items, .fds = fds, .n_fds = ELEMENTSOF(fds)
        };
        r = st_child_run(&child, -1, -EBADF, NULL, err);
        if (r > 0) {
                _cleanup_free_ char *log = util_printf("%s/engine.log", plan->work);

                if (util_read_file(log, LOG_MAX, &output, NULL) == 0)
                        said = runc_last_error(output);
                return st_error_set(err, EIO, "%s: %s", runc_engine.name, said ?: "restore failed");
        }
        return r;
}
