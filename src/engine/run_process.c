/* SPDX-License-Identifier: Apache-2.0 */

/* The built-in type of run: a process, started by stasis-launch as what its caller is, not as what we are. */

#include <errno.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/operation.h"
#include "engine/run_context.h"
#include "process/namespaces.h"
#include "supervisor/launch.h"

/* Of a job whose caller sends no environment. */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** Does the caller live in other namespaces than we? Then its job is to live there, too. */
static bool is_elsewhere(pid_t client) {
        static const char *const names[] = { "mnt", "net", "ipc", "uts", "pid", "cgroup" };

        for (size_t i = 0; client > 0 && i < ELEMENTSOF(names); i++)
                if (namespaces_differ(client, names[i]))
                        return true;
        return false;
}

static bool is_program(const char *path) {
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

static const char *search_path(const Daemon__RunReq *req) {
        for (size_t i = 0; i < req->n_env; i++) {
                const char *path = text_after(req->env[i], "PATH=");

                if (!isempty(path))
                        return path;
        }
        return DEFAULT_PATH;
}

/** @return where the command is, malloc'ed; NULL: nowhere. Relative parts of PATH are passed over. */
static char *find_program(const Daemon__RunReq *req, const char *name, const char *root) {
        _cleanup_strv_ struct strv directories = { 0 };

        strv_split(&directories, search_path(req), ':');
        for (size_t i = 0; i < directories.n; i++) {
                _cleanup_free_ char *path = path_join(directories.items[i], name);
                _cleanup_free_ char *seen = xasprintf("%s%s", root, path);

                if (directories.items[i][0] == '/' && is_program(seen))
                        return TAKE_PTR(path);
        }
        return NULL;
}

/** What can be seen of a wrong command before anything is made for it. The launcher sees the rest, as its user. */
static int check_program(const Daemon__Process *process, const char *root, struct st_error **err) {
        _cleanup_free_ char *path = process->path[0] == '/'
                                            ? xasprintf("%s%s", root, process->path)
                                            : xasprintf("%s%s/%s", root, process->workingdir ?: "", process->path);
        struct stat st;

        if (stat(path, &st) < 0) {
                int number = errno;

                if (number != ENOENT && number != ENOTDIR)
                        return 0;
                return st_error_set(err, number, "cannot run %s: there is no such file", process->path);
        }
        if (S_ISDIR(st.st_mode))
                return st_error_set(err, EISDIR, "cannot run %s: it is a directory", process->path);
        if (S_ISREG(st.st_mode) && !(st.st_mode & 0111)) {
                st_error_set(err, EACCES, "cannot run %s: it is not executable", process->path);
                st_error_hint(err, "make it so with 'chmod +x', or name its interpreter");
                return -EACCES;
        }
        return 0;
}

int run_validate_process(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        pid_t client = operation_client(run->operation);
        _cleanup_free_ char *root = is_elsewhere(client) ? xasprintf("/proc/%d/root", (int)client) : xstrdup("");
        Daemon__Process *process = run->req->details->process;
        int r;

        if (!process || isempty(process->path))
                return st_error_set(err, EINVAL, "the request names no command: Details.Process.Path is missing");
        if (isempty(process->workingdir)) {
                _cleanup_free_ char *directory =
                        st_operation_no_server(run->operation) ? path_absolute(".") : xstrdup("/");
                message_set_string(&process->workingdir, directory);
        }
        if (process->workingdir[0] != '/')
                return st_error_set(err, EINVAL, "Details.Process.WorkingDir: %s is not an absolute path",
                                    process->workingdir);
        if (!strchr(process->path, '/')) {
                char *found = find_program(run->req, process->path, root);

                if (!found) {
                        st_error_set(err, ENOENT, "cannot run %s: there is no such command in PATH", process->path);
                        st_error_hint(err, "name its path, as ./%s", process->path);
                        return -ENOENT;
                }
                free(process->path);
                process->path = found;
        }
        r = check_program(process, root, err);
        return r < 0 ? r : st_run_proceed(next, run, err);
}

/** The limits of PID 1 are those of the machine; the daemon's own are nobody else's. */
static size_t limits_of_init(struct launch_limit *ret) {
        size_t n = 0;

        for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
                struct rlimit limit;

                if (prlimit(1, (__rlimit_resource_t)resource, NULL, &limit) == 0)
                        ret[n++] = (struct launch_limit){ resource, limit.rlim_cur, limit.rlim_max };
        }
        return n;
}

/** @param ret RLIM_NLIMITS elements */
static int choose_limits(const struct st_run *run, struct launch_limit *ret, size_t *ret_n, struct st_error **err) {
        const Daemon__RunReq *req = run->req;

        *ret_n = 0;
        if (req->n_limits == 0) {
                if (!st_operation_no_server(run->operation))
                        *ret_n = limits_of_init(ret);
                return 0;
        }
        if (req->n_limits > RLIM_NLIMITS)
                return st_error_set(err, EINVAL, "Limits: there are %zu, and the kernel has %d", req->n_limits,
                                    RLIM_NLIMITS);
        for (size_t i = 0; i < req->n_limits; i++) {
                const Daemon__ResourceLimit *limit = req->limits[i];

                if (limit->resource >= RLIM_NLIMITS || limit->soft > limit->hard)
                        return st_error_set(err, EINVAL, "Limits: resource %u from %llu to %llu is none",
                                            limit->resource, (unsigned long long)limit->soft,
                                            (unsigned long long)limit->hard);
                ret[(*ret_n)++] = (struct launch_limit){ (int)limit->resource, limit->soft, limit->hard };
        }
        return 0;
}

/** Of the command line's own terminal it is to be a foreground program like any other: Ctrl-C, reading from it. */
static bool is_on_terminal(const int stdio[static 3]) {
        for (int i = 0; i < 3; i++)
                if (stdio[i] >= 0 && isatty(stdio[i]))
                        return true;
        return false;
}

static void set_identity(const struct st_run *run, struct launch_settings *settings) {
        const Daemon__RunReq *req = run->req;

        static_assert(sizeof(*req->groups) == sizeof(gid_t), "a list of groups can be passed on as it is");
        settings->set_identity = !st_operation_no_server(run->operation) || req->has_uid || req->has_gid;
        settings->uid = run_uid(run);
        settings->gid = run_gid(run);
        settings->groups = (const gid_t *)req->groups;
        settings->n_groups = req->n_groups;
}

static char **make_argv(const Daemon__Process *process) {
        char **argv = xcalloc(process->n_args + 2, sizeof(*argv));

        argv[0] = process->path;
        for (size_t i = 0; i < process->n_args; i++)
                argv[i + 1] = process->args[i];
        return argv;
}

/** With a NULL at the end, which the request's list has not. */
static char **make_environment(const struct st_run *run) {
        static char path[] = "PATH=" DEFAULT_PATH;
        const Daemon__RunReq *req = run->req;
        bool inherit = req->n_env == 0 && st_operation_no_server(run->operation);
        size_t n = req->n_env;
        char **from = req->env, **environment;

        if (inherit)
                for (from = environ, n = 0; from[n];)
                        n++;
        environment = xcalloc(n + 2, sizeof(*environment));
        for (size_t i = 0; i < n; i++)
                environment[i] = from[i];
        if (n == 0 && !inherit)
                environment[0] = path;
        return environment;
}

/** Better than others only for who may ask for that. */
static int run_nice(const struct st_run *run) {
        int nice = run->req->has_nice ? run->req->nice : 0;

        if (nice < 0 && !operation_privileged(run->operation))
                nice = 0;
        return nice < -20 ? -20 : nice > 19 ? 19 : nice;
}

int run_process(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        pid_t client = operation_client(run->operation);
        const Daemon__Process *process = run->req->details->process;
        bool no_server = st_operation_no_server(run->operation);
        _cleanup_free_ char **argv = make_argv(process), **environment = make_environment(run);
        _cleanup_close_ int namespaces = is_elsewhere(client) ? pidfd_open(client, 0) : -EBADF;
        struct launch_limit limits[RLIM_NLIMITS];
        struct launch_settings settings = {
                .path = process->path,
                .argv = argv,
                .environment = environment,
                .directory = process->workingdir,
                .init = run->req->init,
                .cgroups = run->cgroups,
                .namespaces = namespaces >= 0 ? namespaces : -EBADF,
                .session = !no_server || run->terminal || !is_on_terminal(run->stdio),
                .terminal = run->terminal,
                .limits = limits,
                .set_oom = !no_server,
                .set_nice = !no_server,
                .nice = run_nice(run),
                .cpus = no_server || isempty(run->req->cpus) ? NULL : run->req->cpus,
                .set_umask = true,
                .umask = run->req->umask,
        };
        pid_t pid;
        int r;

        (void)next;
        set_identity(run, &settings);
        r = choose_limits(run, limits, &settings.n_limits, err);
        if (r < 0)
                return r;
        pid = launch_start(&settings, run->stdio, NULL, err);
        if (pid < 0)
                return (int)pid;
        run->pid = pid;
        return 0;
}
