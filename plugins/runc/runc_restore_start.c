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
        int in, out, err; /* -EBADF: /dev/null; err: as out */
        int terminal;     /* a master that we were sent; -EBADF: none */
        int listener;     /* our console socket; -EBADF: none */
        bool keep;        /* those of the caller */
        bool session;     /* they are a terminal, which is to be the program's own */
};

static void streams_clear(struct streams *streams) {
        common_closep(&streams->in);
        common_closep(&streams->out);
        common_closep(&streams->err);
        common_closep(&streams->terminal);
        common_closep(&streams->listener);
}

/** The command line of the restore; its PID file is in the work directory. */
static void make_argv(const struct runc_plan *plan, const Criu__CriuOpts *criu, struct util_list *argv) {
        const char *configured = st_arguments_string(st_operation_config(plan->operation), "CRIU.BinaryPath");
        _cleanup_free_ char *log = plan->log ? util_strdup(plan->log) : util_printf("%s/engine.log", plan->work);
        const Plugins__Runc__Runc *runc = plan->details;

        runc_global_flags(argv, plan->root, log, runc);
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

/** A pipe for the container's output, and a program that takes it to where it is to go: streams->out so far. */
static int make_relay(struct streams *streams, struct st_error **err) {
        static char *const argv[] = { (char *)"cat", NULL };
        _cleanup_close_ int out = TAKE_FD(streams->out), from = -EBADF;
        int ends[2];

        common_closep(&streams->err);
        streams->err = -EBADF;
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
        bool no_server = st_operation_no_server(plan->operation);
        const Daemon__RestoreReq *req = plan->restore->req;
        int fds[3], r;

        if (plan->terminal && plan->detach)
                return plan->console_socket ? 0 : make_console_socket(plan, streams, err);
        streams->keep = no_server && isempty(req->log) && (!plan->terminal || isatty(STDIN_FILENO));
        if (streams->keep)
                return 0;
        r = st_restore_streams(plan->restore, plan->terminal, fds, err);
        if (r < 0)
                return r;
        streams->in = fds[0];
        streams->out = fds[1];
        streams->err = fds[2];
        streams->session = plan->terminal;
        return plan->detach && !req->attachable ? make_relay(streams, err) : 0;
}

/**
 * CRIU refuses a file of another size than it had: "Error (criu/files-reg.c:N): File tmp/log has bad size 90 (expect
 * 42)". Where that is a file of the bundle, and what to do about it, only we know.
 */
static void tell_changed_file(const struct runc_plan *plan, const char *log, struct st_error **err) {
        static const char bad[] = " has bad size ", file[] = "): File ";
        const char *directory = util_json_text(plan->config, "root", "path", NULL), *at, *begin = NULL;
        _cleanup_free_ char *text = NULL, *root = NULL, *path = NULL;
        unsigned long long now, then;
        struct stat st;

        if (isempty(directory) || util_read_file(log, LOG_MAX, &text, NULL) < 0)
                return;
        at = strstr(text, bad);
        if (!at || sscanf(at + strlen(bad), "%llu (expect %llu)", &now, &then) != 2)
                return;
        for (const char *p = text; (p = strstr(p, file)) && p < at; p++)
                begin = p + strlen(file);
        if (!begin)
                return;
        root = util_absolute(directory, plan->bundle);
        path = util_printf("%s/%.*s", root, (int)(at - begin), begin);
        if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || (unsigned long long)st.st_size != now)
                return; /* one of a mount */
        st_error_set(err, EIO, "%s has %llu bytes, and had %llu at the checkpoint", path, now, then);
        if (now > then)
                st_error_hint(err,
                              "files of a bundle are not put back; when it only grew, 'truncate -s %llu %s' does it",
                              then, path);
        else
                st_error_hint(err, "files of a bundle are not put back: make it as it was at the dump");
}

/** Why the program failed: by CRIU's log, else by its own. */
static int explain(struct runc_plan *plan, int status, struct st_error **err) {
        _cleanup_free_ char *criu = util_printf("%s/restore.log", plan->work), *text = NULL, *said = NULL;
        _cleanup_free_ char *log = plan->log ? util_strdup(plan->log) : util_printf("%s/engine.log", plan->work);

        if (access(criu, F_OK) == 0) {
                tell_changed_file(plan, criu, err);
                return st_restore_criu_failed(plan->restore, plan->work, status, err);
        }
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

                plan->restore->pid = runc_read_pid(plan->operation);
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
        fds[2] = (struct st_child_fd){ streams->err >= 0 ? streams->err : streams->out, STDERR_FILENO };
        return (struct st_child){
                .size = sizeof(struct st_child),
                .path = argv->items[0],
                .argv = argv->items,
                .fds = streams->keep ? NULL : fds,
                .n_fds = streams->keep ? 0 : 3,
                .keep_stdio = streams->keep,
                .keep_session = streams->keep || streams->session,
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
        plan->restore->pid = runc_read_pid(plan->operation);
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
        _cleanup_(streams_clear) struct streams streams = { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, false, false };
        _cleanup_list_ struct util_list argv = { 0 };
        int r = make_streams(plan, &streams, err);

        if (r < 0)
                return r;
        if (streams.session)
                runc_on_terminal(&argv);
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
        _cleanup_(streams_clear) struct streams streams = { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, false, false };
        _cleanup_free_ char *output = NULL, *said = NULL;
        _cleanup_list_ struct util_list argv = { 0 };
        int r = make_relay(&streams, err);

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
