/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "criu/criu.h"
#include "criu/environment.h"
#include "supervisor/grab_protocol.h"

#define LOG_LEVEL 4

/* The number of CRIU's descriptor of its page server. */
#define PAGE_SERVER_FD 9

static const char *log_name(enum criu_operation operation) {
        return operation == CRIU_DUMP ? "dump.log" : "restore.log";
}

char *criu_log_path(const char *work_dir, enum criu_operation operation) {
        return path_join(work_dir, log_name(operation));
}

static int build_argv(const struct criu_run *run, struct strv *argv, struct st_error **err) {
        const Criu__CriuOpts *options = run->options;
        int level = options->has_log_level && options->log_level > 0 ? options->log_level : LOG_LEVEL;

        strv_add(argv, run->binary->path);
        strv_add(argv, run->operation == CRIU_DUMP ? "dump" : "restore");
        strv_add(argv, "--no-default-config");
        if (!run->images_dir)
                strv_add(argv, "--stream");
        strv_addf(argv, "--images-dir=%s", run->images_dir ?: run->work_dir);
        strv_addf(argv, "--work-dir=%s", run->work_dir);
        strv_addf(argv, "--log-file=%s", log_name(run->operation));
        strv_addf(argv, "-v%d", level);
        if (run->operation == CRIU_DUMP) {
                strv_addf(argv, "--tree=%d", (int)run->pid);
                /* Of the two the last one wins: a stopped process is not a running one. */
                if (run->leave_running && !run->leave_stopped)
                        strv_add(argv, "--leave-running");
                if (run->grab) {
                        strv_add(argv, "--page-server");
                        strv_addf(argv, "--ps-socket=%d", PAGE_SERVER_FD);
                        strv_add(argv, "--track-mem");
                        strv_addf(argv, "--prev-images-dir=%s", run->grab->parent);
                }
        } else {
                strv_add(argv, "--restore-detached");
                strv_add(argv, "--restore-sibling");
                if (run->lazy_pages)
                        strv_add(argv, "--lazy-pages");
                if (run->pid_file)
                        strv_addf(argv, "--pidfile=%s", run->pid_file);
        }
        if (run->leave_stopped)
                strv_add(argv, "--leave-stopped");
        if (run->action_script)
                strv_addf(argv, "--action-script=%s", run->action_script);
        return criu_options_to_argv(options, run->operation, argv, err);
}

void criu_environment(char *const *given, struct strv *ret) {
        if (!ret->items) {
                ret->room = 8;
                ret->items = xcalloc(ret->room, sizeof(*ret->items));
        }
        for (char *const *e = given ? given : environ; *e; e++)
                if (!text_after(*e, "CRIU_CONFIG_FILE="))
                        strv_add(ret, *e);
}

static bool can_read_limits(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

        return syscall(SYS_capget, &header, data) < 0 ||
               (data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE));
}

/* Has a library of ours loaded before what others have asked for. */
static void add_library(struct strv *environment, const char *library) {
        for (size_t i = 0; i < environment->n; i++) {
                const char *others = text_after(environment->items[i], "LD_PRELOAD=");

                if (others && *others) {
                        char *both = xasprintf("LD_PRELOAD=%s:%s", library, others);
                        free(environment->items[i]);
                        environment->items[i] = both;
                        return;
                }
        }
        strv_addf(environment, "LD_PRELOAD=%s", library);
}

void criu_environment_limits(struct strv *environment, bool through) {
        _cleanup_free_ char *library = path_libexec("stasis-limits.so");

        if (can_read_limits() || access(library, R_OK) < 0)
                return;
        if (through)
                strv_add(environment, "STASIS_LIMITS_THROUGH=1");
        add_library(environment, library);
}

static void add_grab(struct strv *environment, const struct criu_grab *grab) {
        _cleanup_free_ char *library = path_libexec("stasis-grab.so");

        strv_addf(environment, GRAB_KDAT_VARIABLE "=%s", grab->kdat);
        add_library(environment, library);
}

static bool number_taken(const struct criu_run *run, int number) {
        for (size_t i = 0; i < run->n_fds; i++)
                if (run->fds[i].number == number)
                        return true;
        return false;
}

/* What CRIU gets: its descriptors to inherit, the log as stdout and stderr, the lock. @return malloc'ed */
static struct spawn_fd *build_fds(const struct criu_run *run, int log_fd, size_t *ret_n) {
        struct spawn_fd *fds = xcalloc(run->n_fds + 4, sizeof(*fds));
        size_t n = 0;

        for (size_t i = 0; i < run->n_fds; i++)
                fds[n++] = run->fds[i];
        if (run->grab)
                fds[n++] = (struct spawn_fd){ .fd = run->grab->socket, .number = PAGE_SERVER_FD };
        for (int number = STDOUT_FILENO; number <= STDERR_FILENO; number++)
                if (!number_taken(run, number))
                        fds[n++] = (struct spawn_fd){ .fd = log_fd, .number = number };
        if (run->lock_fd >= 0) {
                int number = run->lock_fd >= 10 ? run->lock_fd : 10;

                while (number_taken(run, number))
                        number++;
                fds[n++] = (struct spawn_fd){ .fd = run->lock_fd, .number = number };
        }
        *ret_n = n;
        return fds;
}

#define CGROUPS_MAX 4

struct joined {
        int fds[CGROUPS_MAX];
        size_t n;
};

static void joined_close(struct joined *joined) {
        for (size_t i = 0; i < joined->n; i++)
                close(joined->fds[i]);
}

static int open_cgroups(char *const *directories, struct joined *ret, struct st_error **err) {
        for (char *const *d = directories; d && *d && ret->n < CGROUPS_MAX; d++) {
                _cleanup_free_ char *path = path_join(*d, "cgroup.procs");
                int fd = open(path, O_WRONLY | O_CLOEXEC);

                if (fd < 0)
                        return st_error_errno(err, errno, "cannot open %s", path);
                ret->fds[ret->n++] = fd;
        }
        return 0;
}

pid_t criu_start(const struct criu_run *run, int *ret_pidfd, struct st_error **err) {
        _cleanup_strv_ struct strv argv = { 0 }, environment = { 0 };
        _cleanup_free_ char *log = criu_log_path(run->work_dir, run->operation);
        _cleanup_free_ struct spawn_fd *fds = NULL;
        _cleanup_close_ int log_fd = -EBADF;
        _cleanup_(joined_close) struct joined joined = { 0 };
        size_t n_fds;

        int r = build_argv(run, &argv, err);
        if (r >= 0)
                r = open_cgroups(run->cgroups, &joined, err);
        if (r < 0)
                return r;
        criu_environment(run->environment, &environment);
        if (run->operation == CRIU_DUMP)
                criu_environment_limits(&environment, false);
        if (run->grab)
                add_grab(&environment, run->grab);

        /* CRIU truncates it when it opens its log: until then its complaints go here, and stay when it never does. */
        log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (log_fd < 0)
                return st_error_errno(err, errno, "cannot create %s", log);
        fds = build_fds(run, log_fd, &n_fds);

        const struct spawn spawn = {
                .path = run->binary->path,
                .argv = argv.items,
                .environment = environment.items,
                .fds = fds,
                .n_fds = n_fds,
                .cgroups = joined.fds,
                .n_cgroups = joined.n,
                /* A Ctrl-C that ends CRIU while its target is frozen would end the target with it. */
                .new_session = !run->in_session,
                .ignore_interrupts = run->in_session,
        };
        pid_t pid = spawn_start(&spawn, ret_pidfd, err);

        if (pid < 0)
                st_error_wrap(err, "cannot start CRIU");
        return pid;
}
