/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A plugin with handlers in the place of CRIU, as one for an engine of containers has them: `dump box PID`,
 * `restore box`, `freeze`, `unfreeze`, `query box`. Its "engine" is criu itself, and what it freezes is the process
 * group of the target, by SIGSTOP. --box-fault makes it misbehave, or wait, at a given place.
 *
 * PID and fault travel in the process's details, the fault as its first argument.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/checkpoint.h>
#include <stasis/child.h>
#include <stasis/plugin.h>

#define CRIU_TIMEOUT_MS 60000

/* ---- the command line ---- */

static int no_memory(struct st_error **err) {
        return st_error_set(err, ENOMEM, "no memory for the request");
}

/* The process's details of a request, made when there are none, with the fault; NULL: no memory. */
static Daemon__Process *fill_process(const struct st_arguments *arguments, Daemon__Details *details) {
        const char *fault = st_arguments_string(arguments, "box-fault");
        Daemon__Process *process = calloc(1, sizeof(*process));

        if (!process)
                return NULL;
        daemon__process__init(process);
        details->process = process;
        if (fault) {
                process->args = calloc(1, sizeof(char *));
                if (!process->args || !(process->args[0] = strdup(fault)))
                        return NULL;
                process->n_args = 1;
        }
        return process;
}

static int fill_dump(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        Daemon__Process *process;
        unsigned long pid;
        char *end;

        if (!words[0] || words[1])
                return st_error_set(err, EINVAL, "one PID must be named");
        errno = 0;
        pid = strtoul(words[0], &end, 10);
        if (errno || *end || pid < 2 || pid > INT_MAX)
                return st_error_set(err, EINVAL, "\"%s\" is not a PID", words[0]);
        process = fill_process(arguments, req->details);
        if (!process)
                return no_memory(err);
        process->has_pid = 1;
        process->pid = (uint32_t)pid;
        return 0;
}

static int fill_restore(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        return fill_process(arguments, req->details) ? 0 : no_memory(err);
}

static int fill_query(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err) {
        (void)arguments;
        (void)req;
        (void)err;
        return 0;
}

/* ---- what all operations share ---- */

static bool has_fault(const Daemon__Details *details, const char *fault) {
        const Daemon__Process *process = details ? details->process : NULL;

        return process && process->n_args > 0 && strcmp(process->args[0], fault) == 0;
}

static pid_t target_of(const Daemon__Details *details) {
        return details && details->process ? (pid_t)details->process->pid : 0;
}

static int make_path(char path[PATH_MAX], const char *directory, const char *name, struct st_error **err) {
        int n = snprintf(path, PATH_MAX, "%s/%s", directory, name);

        return n < 0 || n >= PATH_MAX ? st_error_set(err, ENAMETOOLONG, "%s/%s is too long", directory, name) : 0;
}

/* A file in a directory with so many bytes that do not compress. */
static int put_file(const char *directory, const char *name, size_t size, struct st_error **err) {
        char path[PATH_MAX], buffer[65536];
        int fd, r = make_path(path, directory, name, err);
        uint64_t state = 88172645463325252u;
        struct stat st;

        if (r < 0)
                return r;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        for (size_t done = 0; done < size && r >= 0;) {
                size_t n = size - done < sizeof(buffer) ? size - done : sizeof(buffer);

                for (size_t i = 0; i < sizeof(buffer); i++) {
                        state = state * 6364136223846793005u + 1442695040888963407u;
                        buffer[i] = (char)(state >> 56);
                }
                ssize_t written = write(fd, buffer, n);
                if (written < 0)
                        r = st_error_errno(err, errno, "cannot write %s", path);
                else
                        done += (size_t)written;
        }
        if (r >= 0 && fstat(fd, &st) == 0)
                st_log_info("box: %s is inode %llu", name, (unsigned long long)st.st_ino);
        close(fd);
        return r;
}

/* Volatile twice: the compiler may neither know where it points nor leave out what is done there. */
__attribute__((no_sanitize("undefined"))) static void crash(void) {
        volatile int *volatile nowhere = NULL;

#ifdef __SANITIZE_ADDRESS__
        (void)signal(SIGSEGV, SIG_DFL); /* it is meant: no report */
#endif
        *nowhere = 1;
}

/* Deaf to everything. */
__attribute__((noreturn)) static void hang(void) {
        st_log_info("box: hangs");
        for (;;)
                (void)poll(NULL, 0, 1000);
}

/* Until it is cancelled, as a handler that waits for its engine should. */
static int wait_for_cancel(struct st_operation *operation, struct st_error **err) {
        struct pollfd p = { .fd = st_operation_cancel_fd(operation), .events = POLLIN };

        st_log_info("box: waits");
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
                continue;
        return st_operation_check_cancelled(operation, err);
}

static char process_state(pid_t pid) {
        char path[64], state = 0;
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        file = fopen(path, "re");
        if (!file)
                return 0;
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
                state = 0;
        (void)fclose(file);
        return state;
}

static int freeze_group(pid_t pid, struct st_error **err) {
        if (kill(-pid, SIGSTOP) < 0)
                return st_error_errno(err, errno, "cannot stop the group %d", (int)pid);
        for (int i = 0; i < 500 && process_state(pid) != 'T'; i++)
                (void)poll(NULL, 0, 2);
        st_log_info("box: frozen");
        return 0;
}

static int thaw_group(pid_t pid, struct st_error **err) {
        if (kill(-pid, SIGCONT) < 0)
                return st_error_errno(err, errno, "cannot continue the group %d", (int)pid);
        st_log_info("box: thawed");
        return 0;
}

static int freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err) {
        (void)operation;
        (void)resp;
        return freeze_group(target_of(req->details), err);
}

static int unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err) {
        (void)operation;
        (void)resp;
        return thaw_group(target_of(req->details), err);
}

/* ---- dump ---- */

static int find_target(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        int r;

        dump->pid = target_of(dump->req->details);
        r = st_dump_proceed(next, dump, err);
        if (has_fault(dump->req->details, "adapter-proceeds-twice"))
                r = st_dump_proceed(next, dump, err);
        return r;
}

static int run_criu_dump(struct st_dump *dump, const char *directory, struct st_error **err) {
        const char *work_dir = st_operation_work_dir(dump->operation);
        char pid[16];
        char *argv[] = { (char *)"criu",
                         (char *)"dump",
                         (char *)"--no-default-config",
                         (char *)"--leave-running",
                         (char *)"-v4",
                         (char *)"--manage-cgroups=ignore",
                         (char *)"-o",
                         (char *)"dump.log",
                         (char *)"-D",
                         (char *)directory,
                         (char *)"-W",
                         (char *)work_dir,
                         (char *)"-t",
                         pid,
                         NULL };
        const struct st_child child = { .size = sizeof(child), .path = "criu", .argv = argv };
        int r;

        /* Of no process: beyond what the kernel gives (PID_MAX_LIMIT). */
        (void)snprintf(pid, sizeof(pid), "%d", has_fault(dump->req->details, "criu-fails") ? 1 << 23 : (int)dump->pid);
        r = st_child_run(&child, CRIU_TIMEOUT_MS, st_operation_cancel_fd(dump->operation), NULL, err);
        return r > 0 ? st_dump_criu_failed(dump, work_dir, r << 8, err) : r;
}

/* What does not belong into the directory. */
static int put_trouble(const Daemon__Details *details, const char *directory, struct st_error **err) {
        char path[PATH_MAX];
        int r = make_path(path, directory, "trouble", err);

        if (r < 0)
                return r;
        if (has_fault(details, "subdirectory") && mkdir(path, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        if (has_fault(details, "symlink") && symlink("/etc/passwd", path) < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        if (has_fault(details, "pipe") && mkfifo(path, 0600) < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        if (has_fault(details, "state"))
                return put_file(directory, "stasis.json", 2, err);
        if (has_fault(details, "manifest"))
                return put_file(directory, "stasis.manifest", 2, err);
        if (has_fault(details, "big"))
                return put_file(directory, "big", (size_t)6 << 20, err);
        if (has_fault(details, "huge"))
                return put_file(directory, "huge", (size_t)64 << 20, err);
        return 0;
}

/* With the target frozen. */
static int checkpoint(struct st_dump *dump, const char *directory, struct st_error **err) {
        const Daemon__Details *details = dump->req->details;
        int r;

        if (has_fault(details, "crash"))
                crash();
        if (has_fault(details, "hang"))
                hang();
        if (has_fault(details, "wait")) {
                r = wait_for_cancel(dump->operation, err);
                if (r < 0)
                        return r;
        }
        r = run_criu_dump(dump, directory, err);
        if (r >= 0)
                r = put_file(directory, "box.data", 3000000, err);
        if (r >= 0)
                r = put_trouble(details, directory, err);
        if (r >= 0 && dump->stop)
                r = st_dump_commit(dump, err);
        if (r >= 0 && has_fault(details, "hang-after-commit"))
                hang();
        if (r >= 0 && has_fault(details, "fail-after-commit"))
                return st_error_set(err, EIO, "the engine could not end it");
        if (r >= 0 && has_fault(details, "withdraw")) {
                st_dump_withdraw(dump);
                return st_error_set(err, EIO, "the engine could not end it");
        }
        return r;
}

static int handle_dump(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const Daemon__Details *details = dump->req->details;
        const char *directory = NULL;
        int r = 0;

        if (has_fault(details, "proceed")) {
                (void)st_dump_proceed(next, dump, NULL);
                return st_dump_proceed(next, dump, err);
        }
        if (has_fault(details, "no-directory"))
                return 0;
        r = st_dump_directory(dump, &directory, err);
        if (r >= 0)
                r = st_dump_guard(dump, err);
        if (r >= 0)
                r = freeze_group(dump->pid, err);
        if (r < 0)
                return r;
        r = checkpoint(dump, directory, err);
        if (r >= 0 && dump->stop)
                (void)kill(-dump->pid, SIGKILL);
        else
                (void)thaw_group(dump->pid, NULL);
        st_dump_unguard(dump);
        st_dump_thawed(dump);
        if (r >= 0)
                st_dump_message(dump, "the box was emptied");
        return r;
}

/* ---- restore ---- */

static int read_pid(const char *path, pid_t *ret) {
        FILE *file = fopen(path, "re");
        int pid = 0;
        bool read = file && fscanf(file, "%d", &pid) == 1 && pid > 0;

        if (file)
                (void)fclose(file);
        *ret = pid;
        return read ? 0 : -ENOENT;
}

static int run_criu_restore(struct st_restore *restore, const char *directory, const char *pid_file, const char *how,
                            struct st_error **err) {
        const char *work_dir = st_operation_work_dir(restore->operation);
        char *argv[] = { (char *)"criu",
                         (char *)"restore",
                         (char *)"--no-default-config",
                         (char *)"-v4",
                         (char *)"--manage-cgroups=ignore",
                         (char *)"-o",
                         (char *)"restore.log",
                         (char *)"-D",
                         (char *)directory,
                         (char *)"-W",
                         (char *)work_dir,
                         (char *)"--pidfile",
                         (char *)pid_file,
                         (char *)"-d",
                         (char *)how,
                         NULL };
        const struct st_child child = { .size = sizeof(child), .path = "criu", .argv = argv };
        int r = st_child_run(&child, CRIU_TIMEOUT_MS, st_operation_cancel_fd(restore->operation), NULL, err);

        return r > 0 ? st_restore_criu_failed(restore, work_dir, r << 8, err) : r;
}

/* A child of ours that stays in the foreground, and ends with a code of its own after what was restored has ended. */
static int start_waiter(struct st_restore *restore, const char *directory, const char *pid_file,
                        struct st_error **err) {
        char *argv[] = { (char *)"sh",
                         (char *)"-c",
                         (char *)"criu restore --no-default-config --manage-cgroups=ignore -o /dev/null -D \"$0\" "
                                 "-W \"$1\" --pidfile \"$2\"; exit 7",
                         (char *)directory,
                         (char *)st_operation_work_dir(restore->operation),
                         (char *)pid_file,
                         NULL };
        const struct st_child child = { .size = sizeof(child), .path = "sh", .argv = argv };
        pid_t pid = st_child_start(&child, NULL, err);

        if (pid < 0)
                return pid;
        for (int i = 0; i < 1000; i++) {
                (void)poll(NULL, 0, 10);
                if (read_pid(pid_file, &restore->pid) >= 0 && process_state(restore->pid) == 'T') {
                        restore->waiter = pid;
                        return 0;
                }
        }
        (void)kill(-pid, SIGKILL);
        (void)st_child_wait(pid, NULL);
        return st_error_set(err, ETIMEDOUT, "the waiter restored nothing");
}

static int check_restore(struct st_restore *restore) {
        char *data = NULL;
        size_t size = 0;

        st_restore_finding(restore, DAEMON__FINDING_LEVEL__OK, "box", NULL, "the box is there", NULL);
        if (has_fault(restore->req->details, "finding"))
                st_restore_finding(restore, DAEMON__FINDING_LEVEL__PROBLEM, "lid", "box.data", "the box is shut",
                                   "open it");
        if (st_restore_read(restore, "box.data", &data, &size, NULL) >= 0 && size == 3000000)
                st_restore_message(restore, "the box has %zu bytes, in %zu files", size, st_restore_count(restore));
        free(data);
        return 0;
}

static int handle_restore(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const Daemon__Details *details = restore->req->details;
        char pid_file[PATH_MAX];
        const char *directory;
        int r;

        if (restore->req->check)
                return check_restore(restore);
        if (has_fault(details, "no-pid"))
                return 0;
        if (has_fault(details, "crash"))
                crash();
        if (has_fault(details, "hang"))
                hang();
        if (has_fault(details, "proceed"))
                return st_restore_proceed(next, restore, err);
        r = make_path(pid_file, st_operation_work_dir(restore->operation), "pid", err);
        if (r >= 0)
                r = st_restore_directory(restore, &directory, err);
        if (r < 0)
                return r;
        st_log_info("box: restores from %s", directory);
        if (has_fault(details, "waiter"))
                r = start_waiter(restore, directory, pid_file, err);
        else {
                r = run_criu_restore(restore, directory, pid_file,
                                     has_fault(details, "nobody") ? NULL : "--restore-sibling", err);
                if (r >= 0 && read_pid(pid_file, &restore->pid) < 0)
                        r = st_error_set(err, EPROTO, "criu has written no PID");
        }
        if (has_fault(details, "nobody"))
                restore->waiter = ST_RESTORE_NOBODY;
        return r < 0 ? r : thaw_group(restore->pid, err);
}

static int query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                 struct st_error **err) {
        Daemon__ProcessState *state = calloc(1, sizeof(*state));

        (void)operation;
        (void)req;
        resp->states = calloc(1, sizeof(Daemon__ProcessState *));
        if (!state || !resp->states)
                return st_error_set(err, ENOMEM, "no memory for the answer");
        daemon__process_state__init(state);
        state->has_pid = 1;
        state->pid = 4711;
        state->cmdline = strdup("box");
        resp->states[resp->n_states++] = state;
        return 0;
}

/* ---- what it exports ---- */

static const struct st_option options[] = {
        { .flag = "box-fault", .type = ST_OPTION_STRING, .value_name = "WHAT", .help = "how the box misbehaves" },
        ST_OPTION_END,
};

#define DUMP_COMMAND(name)                                                                   \
        static const struct st_dump_command name##_command = {                               \
                .command = { "box", "PID", "A process in a box", #name " box 42", options }, \
                .fill = fill_dump,                                                           \
        }

DUMP_COMMAND(dump);
DUMP_COMMAND(freeze);
DUMP_COMMAND(unfreeze);

static const struct st_restore_command restore_command = {
        .command = { "box", NULL, "A process in a box", "restore box --path /tmp/checkpoint", options },
        .fill = fill_restore,
};

static const struct st_query_command query_command = {
        .command = { "box", NULL, "Ask the box", "query box", NULL },
        .fill = fill_query,
};

static const struct st_dump_adapter dump_list[] = { { "box target", find_target } };
static const struct st_dump_adapters dump_middleware = { 1, dump_list };
static const struct st_dump_adapter dump_handler = { "box", handle_dump };
static const struct st_restore_adapter restore_handler = { "box", handle_restore };
static const struct st_freezer freeze_handler = { freeze };
static const struct st_freezer unfreeze_handler = { unfreeze };
static const struct st_query_handler query_handler = { query };

static const struct st_features features = {
        .size = sizeof(struct st_features),
        ST_FEATURE(dump_command, dump_command),
        ST_FEATURE(restore_command, restore_command),
        ST_FEATURE(freeze_command, freeze_command),
        ST_FEATURE(unfreeze_command, unfreeze_command),
        ST_FEATURE(query_command, query_command),
        ST_FEATURE(dump_middleware, dump_middleware),
        ST_FEATURE(dump_handler, dump_handler),
        ST_FEATURE(restore_handler, restore_handler),
        ST_FEATURE(freeze_handler, freeze_handler),
        ST_FEATURE(unfreeze_handler, unfreeze_handler),
        ST_FEATURE(query_handler, query_handler),
};

ST_PLUGIN("box", "1.0", features, NULL, NULL);
