/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis guard-pages`: holds duplicates of the userfaultfds of what runs while its memory is still coming. When the
 * process that serves it dies, who waits for a page goes on waiting, and is ended: nobody ever reads zeros instead.
 */

#include "engine/lazy_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "base/text.h"
#include "engine/lazy_message.h"
#include "engine/lazy_process.h"
#include "lazy/uffd.h"
#include "process/proc.h"
#include "process/tree.h"

#define KILL_PAUSE_MS 20
/* A restore whose server has died ends what it has restored itself, and CRIU better than we. */
#define RESTORE_GRACE_MS 5000

struct guard {
        char *const *words;
        int *fds;
        size_t n, room;
        bool running;           /* they are to run, or do */
        pid_t root, supervisor; /* 0: not known */
        uint64_t root_start, supervisor_start;
};

pid_t lazy_guard_start(const struct lazy_guard_options *options, int *ret_socket, struct st_error **err) {
        char *const argv[] = { (char *)"stasis",
                               (char *)LAZY_GUARD,
                               (char *)options->image,
                               (char *)options->job,
                               (char *)options->supervisor,
                               (char *)options->start,
                               (char *)options->record,
                               NULL };
        int pair[2], r = lazy_message_pair(pair);
        pid_t pid;

        if (r < 0)
                return st_error_errno(err, r, "cannot make a socket");

        const struct spawn_fd fds[] = { { .fd = pair[1], .number = LAZY_CONTROL_FD },
                                        { .fd = LAZY_LOG_FD, .number = LAZY_LOG_FD },
                                        { .fd = STDERR_FILENO, .number = STDERR_FILENO } };
        pid = spawn_self(argv, fds, ELEMENTSOF(fds), err);
        close(pair[1]);
        if (pid < 0) {
                close(pair[0]);
                return pid;
        }
        *ret_socket = pair[0];
        return pid;
}

/* Is some of its memory watched for missing pages? "um" among its VmFlags (proc(5)). */
static bool is_watched(pid_t pid) {
        _cleanup_free_ char *text = NULL;

        return proc_read_file(pid, "smaps", &text, NULL) >= 0 && strstr(text, " um");
}

/** Ends a tree; below a supervisor, which has other children, too, only those whose memory is watched. */
static void kill_tree(pid_t root, bool supervisor) {
        _cleanup_tree_ struct tree tree = { 0 };

        if (tree_read(root, true, &tree, NULL) < 0)
                return;
        for (size_t i = supervisor ? 1 : 0; i < tree.n; i++)
                if (tree.tasks[i].pid != getpid() && tree.tasks[i].pid > 1 &&
                    (!supervisor || is_watched(tree.tasks[i].pid)))
                        (void)kill(tree.tasks[i].pid, SIGKILL);
}

/* Drops the descriptors of processes that have ended. */
static void drop_gone(struct guard *guard) {
        for (size_t i = 0; i < guard->n;)
                if (uffd_is_gone(guard->fds[i])) {
                        close(guard->fds[i]);
                        guard->fds[i] = guard->fds[--guard->n];
                } else
                        i++;
}

/* A child that is forked while its parent is killed waits in fork(2) until its event is read. */
static void adopt_children(struct guard *guard) {
        for (size_t i = 0; i < guard->n; i++) {
                struct uffd_event event;

                while (uffd_read(guard->fds[i], &event) > 0)
                        if (event.kind == UFFD_FORK) {
                                GROW(guard->fds, guard->n, guard->room);
                                guard->fds[guard->n++] = event.child;
                        }
        }
}

/** Ends all of it, and returns when nothing of it is left. */
static void kill_all(struct guard *guard) {
        while (guard->n > 0) {
                if (guard->root > 0 && proc_is_alive(guard->root, guard->root_start))
                        kill_tree(guard->root, false);
                /* Its supervisor adopts what is left of a tree. */
                if (guard->supervisor > 0 && proc_is_alive(guard->supervisor, guard->supervisor_start))
                        kill_tree(guard->supervisor, true);
                adopt_children(guard);
                drop_gone(guard);
                if (guard->n > 0)
                        (void)poll(NULL, 0, KILL_PAUSE_MS);
        }
}

/** Why it ended, where its user looks: in the log of the job and in ours. */
static void report(const struct guard *guard, const char *why) {
        const char *job = guard->words[LAZY_ARG_JOB];
        _cleanup_free_ char *what = !isempty(job)     ? xasprintf("job %s", job)
                                    : guard->root > 0 ? xasprintf("process %d", (int)guard->root)
                                                      : xstrdup("what was restored"),
                            *line = xasprintf("stasis: %s was killed while its memory was still coming from %s: %s\n",
                                              what, guard->words[LAZY_ARG_IMAGE], why);

        (void)io_write_full(LAZY_LOG_FD, line, strlen(line));
        line[strcspn(line, "\n")] = '\0';
        st_log_error("%s", line + strlen("stasis: "));
}

static void end_all(struct guard *guard, const char *why) {
        /* First, so that it stands there when somebody sees that it has ended. */
        report(guard, why);
        kill_all(guard);
        (void)unlink(guard->words[LAZY_ARG_EXTRA]);
}

/**
 * The server is dead. Whoever gets the lock of its record is the one to end what runs; should that one be killed, the
 * next one gets it. @param ret_lock to be closed when it is done @return false: it is done
 */
static bool take_lead(const struct guard *guard, int *ret_lock) {
        const char *record = guard->words[LAZY_ARG_EXTRA];
        int r;

        *ret_lock = open(record, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (*ret_lock < 0)
                return errno != ENOENT;
        do
                r = flock(*ret_lock, LOCK_EX);
        while (r < 0 && errno == EINTR);
        return access(record, F_OK) == 0;
}

static int server_died(struct guard *guard) {
        _cleanup_close_ int lock = -EBADF;

        if (!guard->running) {
                (void)unlink(guard->words[LAZY_ARG_EXTRA]);
                return EXIT_SUCCESS;
        }
        if (!take_lead(guard, &lock))
                return EXIT_SUCCESS;
        /* Not told yet who runs: the restore, if it lives, is just ending it. */
        for (int ms = 0; !guard->root && guard->n > 0 && ms < RESTORE_GRACE_MS; ms += KILL_PAUSE_MS) {
                adopt_children(guard);
                drop_gone(guard);
                (void)poll(NULL, 0, KILL_PAUSE_MS);
        }
        end_all(guard, "the process that reads it was killed");
        return EXIT_FAILURE;
}

static void take_root(struct guard *guard, char *text) {
        char *blank = strchr(text, ' ');
        pid_t pid;

        if (!blank)
                return;
        *blank = '\0';
        if (text_to_pid(text, &pid) >= 0 && text_to_uint(blank + 1, UINT64_MAX, &guard->root_start) >= 0)
                guard->root = pid;
}

static int guard_loop(struct guard *guard) {
        char text[LAZY_TEXT_MAX];

        for (;;) {
                int fd = -EBADF, kind = lazy_message_receive(LAZY_CONTROL_FD, text, &fd);

                switch (kind) {
                case LAZY_DESCRIPTOR:
                        if (fd < 0)
                                break;
                        drop_gone(guard);
                        GROW(guard->fds, guard->n, guard->room);
                        guard->fds[guard->n++] = fd;
                        break;
                case LAZY_RUNNING_NOW:
                        guard->running = true;
                        break;
                case LAZY_ROOT:
                        take_root(guard, text);
                        break;
                case LAZY_KILL:
                        end_all(guard, text);
                        return EXIT_SUCCESS;
                case LAZY_DONE_ALL:
                        return EXIT_SUCCESS;
                default:
                        return server_died(guard);
                }
        }
}

void lazy_process_prepare(void) {
        struct rlimit limit;

        /* It must outlive what ends its parent. */
        for (int number = 1; number < NSIG; number++)
                if (number != SIGCHLD && number != SIGSEGV && number != SIGBUS && number != SIGABRT)
                        (void)signal(number, SIG_IGN);
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/** One that is started when all others were killed reads what it has to know (supervisor/memory.h). */
static bool read_words(char *text, char *words[LAZY_ARGS]) {
        static const int order[] = { LAZY_ARG_SUPERVISOR, LAZY_ARG_START, LAZY_ARG_JOB, LAZY_ARG_EXTRA };
        int log = -EBADF;

        if (lazy_message_receive(LAZY_CONTROL_FD, text, &log) != LAZY_WORDS)
                return false;
        if (log >= 0 && log != LAZY_LOG_FD) {
                (void)dup3(log, LAZY_LOG_FD, O_CLOEXEC);
                close(log);
        }
        for (size_t i = 0; i < ELEMENTSOF(order); i++) {
                char *end = strchr(text, '\n');
                if (!end)
                        return false;
                *end = '\0';
                words[order[i]] = text;
                text = end + 1;
        }
        words[LAZY_ARG_IMAGE] = text;
        return true;
}

int lazy_guard_main(int argc, char **argv) {
        char text[LAZY_TEXT_MAX], *words[LAZY_ARGS];
        struct guard guard = { .words = argc == LAZY_ARGS ? argv : words };

        if ((argc != LAZY_ARGS && (argc != LAZY_ARG_IMAGE || !read_words(text, words))) ||
            text_to_pid(guard.words[LAZY_ARG_SUPERVISOR], &guard.supervisor) < 0 ||
            text_to_uint(guard.words[LAZY_ARG_START], UINT64_MAX, &guard.supervisor_start) < 0) {
                st_log_error("'stasis %s' is started by a restore, not by hand", LAZY_GUARD);
                return EXIT_FAILURE;
        }
        lazy_process_prepare();
        int code = guard_loop(&guard);

        for (size_t i = 0; i < guard.n; i++)
                close(guard.fds[i]);
        free(guard.fds);
        return code;
}
