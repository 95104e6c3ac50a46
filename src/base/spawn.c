/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"

/*
 * The child is made by clone(CLONE_VM | CLONE_VFORK): it borrows the parent's memory on a stack of its own, and the
 * calling thread sleeps until it has exec'ed. So a worker that maps GiBs starts a child as fast as a small program
 * (measured with 2 GiB of 4 KiB pages in use: 1 ms, 60 ms by fork(), which copies the page tables), and an error is
 * simply written where the parent reads it. The price: until the exec the child may only make system calls, must not
 * touch anything of the parent's but its plan, and no signal handler may run in it.
 */

#define CHILD_STACK_SIZE (64 * 1024)
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define OUTPUT_LIMIT (1024 * 1024)

enum step { STEP_SETUP, STEP_DIRECTORY, STEP_DESCRIPTORS, STEP_EXEC };

/* What the child does, all prepared: it cannot allocate. */
struct plan {
        const struct spawn *spawn;
        const char *program;
        char *const *environment;
        struct spawn_fd *fds; /* sorted by number, complete with /dev/null */
        int *moved;           /* where each source waits, above all numbers */
        size_t n_fds;
        pid_t parent;
        enum step step;
        int error; /* an errno, written by the child */
};

/* The code of the child: sanitisers would take its stack and its system calls for the parent's. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

/*
 * In the child: descriptors. A source may have the number that another one is to get, so all sources are first copied
 * out of the way, then to their numbers; everything else is closed.
 */
IN_CHILD static int child_arrange_fds(struct plan *plan) {
        size_t n = plan->n_fds;
        int above = n > 0 && plan->fds[n - 1].number >= STDERR_FILENO ? plan->fds[n - 1].number + 1 : 3;

        for (size_t i = 0; i < n; i++) {
                plan->moved[i] = fcntl(plan->fds[i].fd, F_DUPFD_CLOEXEC, above);
                if (plan->moved[i] < 0)
                        return -1;
        }
        for (size_t i = 0; i < n; i++)
                if (syscall(SYS_dup3, plan->moved[i], plan->fds[i].number, 0) < 0)
                        return -1;

        unsigned from = plan->spawn->inherit_stdio ? 3 : 0;
        for (size_t i = 0; i < n; i++) {
                unsigned number = (unsigned)plan->fds[i].number;

                if (number > from && close_range(from, number - 1, 0) < 0)
                        return -1;
                if (number >= from)
                        from = number + 1;
        }
        return close_range(from, UINT32_MAX, 0);
}

/*
 * In the child: default dispositions, but for what it is to ignore. They are its own: clone copied the kernel's table,
 * but a sanitiser's record of it is the parent's too, so its sigaction() is passed by.
 *
 * In a session of its own: what the parent's group was sent before is not meant for it. To ignore a signal drops one
 * that waits (POSIX, sigaction()).
 */
IN_CHILD static void child_reset_signals(bool ignore_interrupts, bool drop_pending) {
        for (int number = 1; number < _NSIG; number++) {
                struct {
                        void (*handler)(int);
                        unsigned long rest[8]; /* flags, restorer and mask, in the kernel's own layout: all 0 */
                } action = { .handler = SIG_IGN };
                bool interrupt = number == SIGINT || number == SIGQUIT || number == SIGTSTP || number == SIGHUP;

                /* Fails for SIGKILL and SIGSTOP, which need nothing. */
                if (drop_pending)
                        (void)syscall(SYS_rt_sigaction, number, &action, NULL, (size_t)(_NSIG - 1) / 8);
                if (!ignore_interrupts || !interrupt)
                        action.handler = SIG_DFL;
                (void)syscall(SYS_rt_sigaction, number, &action, NULL, (size_t)(_NSIG - 1) / 8);
        }
}

IN_CHILD static int child_main(void *argument) {
        struct plan *plan = argument;
        const struct spawn *spawn = plan->spawn;
        sigset_t none;

        plan->step = STEP_SETUP;
        for (size_t i = 0; i < spawn->n_cgroups; i++)
                if (syscall(SYS_write, spawn->cgroups[i], "0", (size_t)1) < 0)
                        goto fail;
        if (spawn->new_session && setsid() < 0)
                goto fail;
        child_reset_signals(spawn->ignore_interrupts, spawn->new_session);
        if (spawn->parent_death_signal > 0) {
                if (prctl(PR_SET_PDEATHSIG, spawn->parent_death_signal) < 0)
                        goto fail;
                /* Did it die before the request was in place? 0: it lives outside our new PID namespace. */
                pid_t parent = (pid_t)syscall(SYS_getppid);
                if (parent != 0 && parent != plan->parent)
                        _exit(EXIT_FAILURE);
        }
        plan->step = STEP_DESCRIPTORS;
        if (child_arrange_fds(plan) < 0)
                goto fail;
        plan->step = STEP_DIRECTORY;
        if (spawn->directory && chdir(spawn->directory) < 0)
                goto fail;
        plan->step = STEP_SETUP; /* after the descriptors, which may be above it */
        if (spawn->limit_nofile && syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, spawn->limit_nofile, NULL) < 0)
                goto fail;

        plan->step = STEP_EXEC;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        execve(plan->program, spawn->argv, plan->environment);
fail:
        plan->error = errno;
        _exit(127);
}

static int compare_numbers(const void *a, const void *b) {
        const struct spawn_fd *x = a, *y = b;
        return (x->number > y->number) - (x->number < y->number);
}

/* Fills plan->fds: sorted, each number once, standard streams that nobody named from /dev/null. */
static int plan_fds(struct plan *plan, int *null_fd, struct st_error **err) {
        const struct spawn *spawn = plan->spawn;
        bool named[3] = { false };

        plan->fds = xcalloc(spawn->n_fds + 3, sizeof(*plan->fds));
        plan->moved = xcalloc(spawn->n_fds + 3, sizeof(*plan->moved));
        for (size_t i = 0; i < spawn->n_fds; i++) {
                const struct spawn_fd *fd = &spawn->fds[i];

                assert(fd->number >= 0);
                if (fd->number < 3)
                        named[fd->number] = true;
                plan->fds[plan->n_fds++] = *fd;
        }
        for (int number = 0; number < 3 && !spawn->inherit_stdio; number++)
                if (!named[number])
                        plan->fds[plan->n_fds++] = (struct spawn_fd){ .fd = -EBADF, .number = number };
        qsort(plan->fds, plan->n_fds, sizeof(*plan->fds), compare_numbers);

        for (size_t i = 0; i < plan->n_fds; i++) {
                assert(i == 0 || plan->fds[i].number != plan->fds[i - 1].number);
                if (plan->fds[i].fd >= 0)
                        continue;
                if (*null_fd < 0)
                        *null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
                if (*null_fd < 0)
                        return st_error_errno(err, errno, "cannot open /dev/null");
                plan->fds[i].fd = *null_fd;
        }
        return 0;
}

static bool is_program(const char *path) {
        struct stat st;
        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Finds a program in PATH. Relative parts of PATH are passed over: a root daemon must not run what lies around. */
static char *find_in_path(const char *name) {
        const char *path = getenv("PATH");
        _cleanup_strv_ struct strv directories = { 0 };

        strv_split(&directories, isempty(path) ? DEFAULT_PATH : path, ':');
        for (size_t i = 0; i < directories.n; i++) {
                _cleanup_free_ char *candidate = path_join(directories.items[i], name);

                if (directories.items[i][0] == '/' && is_program(candidate))
                        return TAKE_PTR(candidate);
        }
        return NULL;
}

/* clone() by the other name that C libraries give it: ThreadSanitizer takes clone() for a fork, which this is not. */
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

/* Clones the child with all signals blocked, so that no handler of ours runs in memory that both use. */
static pid_t clone_child(struct plan *plan, int *pidfd) {
        int flags = CLONE_VM | CLONE_VFORK | SIGCHLD | (pidfd ? CLONE_PIDFD : 0);
        sigset_t all, before;

        char *stack =
                mmap(NULL, CHILD_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED)
                return -errno;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid_t pid = __clone(child_main, stack + CHILD_STACK_SIZE, flags, plan, pidfd);
        int failure = errno;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        munmap(stack, CHILD_STACK_SIZE);
        return pid < 0 ? -failure : pid;
}

static int describe_failure(const struct plan *plan, struct st_error **err) {
        const struct spawn *spawn = plan->spawn;
        int r;

        switch (plan->step) {
        case STEP_DIRECTORY:
                r = st_error_errno(err, plan->error, "cannot enter directory %s", spawn->directory);
                break;
        case STEP_DESCRIPTORS:
                r = st_error_errno(err, plan->error, "cannot pass its descriptors");
                break;
        case STEP_SETUP:
                r = st_error_errno(err, plan->error, "cannot set up the process");
                break;
        default:
                return st_error_errno(err, plan->error, "cannot start %s", plan->program);
        }
        st_error_wrap(err, "cannot start %s", plan->program);
        return r;
}

pid_t spawn_start(const struct spawn *spawn, int *ret_pidfd, struct st_error **err) {
        _cleanup_free_ char *found = NULL;
        _cleanup_close_ int null_fd = -EBADF, pidfd = -EBADF;
        struct plan plan = {
                .spawn = spawn,
                .program = spawn->path,
                .environment = spawn->environment ? spawn->environment : environ,
                .parent = getpid(),
        };

        if (!strchr(spawn->path, '/')) {
                found = find_in_path(spawn->path);
                if (!found)
                        return st_error_set(err, ENOENT, "cannot start %s: no such program in PATH", spawn->path);
                plan.program = found;
        }
        int r = plan_fds(&plan, &null_fd, err);
        pid_t pid = r < 0 ? r : clone_child(&plan, ret_pidfd ? &pidfd : NULL);
        free(plan.fds);
        free(plan.moved);
        if (r < 0)
                return r;
        if (pid < 0)
                return st_error_errno(err, pid, "cannot start %s", plan.program);
        if (plan.error != 0) {
                (void)spawn_wait(pid, NULL);
                return describe_failure(&plan, err);
        }
        if (ret_pidfd)
                *ret_pidfd = TAKE_FD(pidfd);
        return pid;
}

pid_t spawn_self(char *const *argv, const struct spawn_fd *fds, size_t n_fds, struct st_error **err) {
        const struct spawn spawn = {
                .path = "/proc/self/exe",
                .argv = argv,
                .directory = "/",
                .fds = fds,
                .n_fds = n_fds,
                .new_session = true,
        };
        return spawn_start(&spawn, NULL, err);
}

int spawn_wait(pid_t pid, int *ret_status) {
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        if (ret_status)
                *ret_status = status;
        return status;
}

struct output {
        char *text;
        size_t size, room;
};

/*
 * Takes what can be read at once, but not for ever from a program that prints faster than we read.
 *
 * @return 1 when there may be more later, 0 at the end, -errno
 */
static int take_output(int fd, struct output *output) {
        char buffer[16 * 1024];

        for (int rounds = 0; rounds < 64; rounds++) {
                ssize_t n = read(fd, buffer, sizeof(buffer));

                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 1 : -errno;
                if (n == 0)
                        return 0;

                size_t take = (size_t)n < OUTPUT_LIMIT - output->size ? (size_t)n : OUTPUT_LIMIT - output->size;
                while (output->size + take + 1 > output->room) {
                        output->room = output->room ? output->room * 2 : sizeof(buffer);
                        output->text = xrealloc(output->text, output->room, 1);
                }
                memcpy(output->text + output->size, buffer, take);
                output->size += take;
        }
        return 1;
}

/*
 * Collects output until the child has ended; what its own children print after that is nobody's. The pipe is
 * non-blocking on our side. @return 0, -ETIMEDOUT, -ECANCELED or -errno
 */
static int collect(int pipe_fd, int pidfd, int timeout_ms, int cancel_fd, struct output *output) {
        int64_t deadline = timeout_ms < 0 ? INT64_MAX : (int64_t)clock_ms() + timeout_ms;
        struct pollfd fds[] = {
                { .fd = pidfd, .events = POLLIN },
                { .fd = pipe_fd, .events = POLLIN },
                { .fd = cancel_fd, .events = POLLIN },
        };

        for (;;) {
                int64_t left = deadline == INT64_MAX ? -1 : deadline - (int64_t)clock_ms();
                int n = poll(fds, ELEMENTSOF(fds), left < -1 || (left < 0 && timeout_ms >= 0) ? 0 : (int)left);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return -ETIMEDOUT;
                if (n < 0)
                        continue;
                bool ended = fds[0].revents != 0;
                if (fds[1].fd >= 0) {
                        int r = take_output(fds[1].fd, output);
                        if (r < 0)
                                return r;
                        if (r == 0)
                                fds[1].fd = -1; /* poll passes it over */
                }
                if (ended)
                        return 0;
                if (fds[2].revents)
                        return -ECANCELED;
                if (timeout_ms >= 0 && (int64_t)clock_ms() >= deadline)
                        return -ETIMEDOUT;
        }
}

/* Starts the program with stdout and stderr on a pipe, unless the caller has named them. */
static pid_t start_with_pipe(const struct spawn *spawn, int pipe_fds[2], int *pidfd, struct st_error **err) {
        _cleanup_free_ struct spawn_fd *fds = xcalloc(spawn->n_fds + 2, sizeof(*fds));
        struct spawn piped = *spawn;
        bool named[3] = { false };

        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot make a pipe");
        piped.fds = fds;
        for (size_t i = 0; i < spawn->n_fds; i++) {
                fds[i] = spawn->fds[i];
                if (fds[i].number >= 0 && fds[i].number < 3)
                        named[fds[i].number] = true;
        }
        for (int number = STDOUT_FILENO; number <= STDERR_FILENO; number++)
                if (!named[number])
                        fds[piped.n_fds++] = (struct spawn_fd){ .fd = pipe_fds[1], .number = number };

        pid_t pid = spawn_start(&piped, pidfd, err);
        close(pipe_fds[1]);
        pipe_fds[1] = -EBADF;
        return pid;
}

int spawn_run(const struct spawn *spawn, int timeout_ms, char **ret_output, struct st_error **err) {
        return spawn_run_until(spawn, timeout_ms, -EBADF, ret_output, err);
}

int spawn_run_until(const struct spawn *spawn, int timeout_ms, int cancel_fd, char **ret_output,
                    struct st_error **err) {
        _cleanup_close_ int pidfd = -EBADF, read_fd = -EBADF;
        int pipe_fds[2] = { -EBADF, -EBADF }, status;
        struct output output = { 0 };

        pid_t pid = ret_output ? start_with_pipe(spawn, pipe_fds, &pidfd, err) : spawn_start(spawn, &pidfd, err);
        read_fd = pipe_fds[0];
        if (pid < 0)
                return pid;

        int r = read_fd >= 0 ? io_set_nonblocking(read_fd, true) : 0;
        if (r == 0)
                r = collect(read_fd, pidfd, timeout_ms, cancel_fd, &output);
        _cleanup_free_ char *text = output.text ? output.text : xstrdup("");
        text[output.size] = 0;
        if (r < 0)
                kill(spawn->new_session ? -pid : pid, SIGKILL);
        int waited = spawn_wait(pid, &status);
        if (r == -ETIMEDOUT)
                return st_error_set(err, ETIMEDOUT, "%s did not end within %d ms", spawn->path, timeout_ms);
        if (r == -ECANCELED)
                return st_error_set(err, ECANCELED, "cancelled while %s ran", spawn->path);
        if (r < 0 || waited < 0)
                return st_error_errno(err, r < 0 ? r : waited, "cannot wait for %s", spawn->path);
        if (ret_output)
                *ret_output = TAKE_PTR(text);
        return spawn_exit_code(status);
}

char *spawn_describe_status(int status) {
        if (WIFEXITED(status))
                return xasprintf("exited with code %d", WEXITSTATUS(status));

        int number = WIFSIGNALED(status) ? WTERMSIG(status) : WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
        if (number == 0)
                return xstrdup("continued");
        const char *abbreviation = sigabbrev_np(number);
        _cleanup_free_ char *name = abbreviation ? xasprintf("SIG%s", abbreviation) : xasprintf("signal %d", number);
        if (WIFSTOPPED(status))
                return xasprintf("stopped by %s", name);
        return xasprintf("killed by %s%s", name, WCOREDUMP(status) ? " (core dumped)" : "");
}

int spawn_exit_code(int status) {
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
