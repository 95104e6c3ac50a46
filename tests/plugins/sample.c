/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A plugin that does a little of everything that has an effect: `dump sample PID`, `restore sample`,
 * `query sample PID…` and a health check. CRIU dumps and restores; the adapters log that they ran, in which order, and
 * the --sample-note.
 *
 * It has no details message of its own: PID and note travel in the process's details, the note as its first argument.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stasis/plugin.h>

static int parse_pid(const char *text, uint32_t *ret, struct st_error **err) {
        char *end;

        errno = 0;
        unsigned long pid = strtoul(text, &end, 10);
        if (errno || *end || end == text || *text == '-' || pid == 0 || pid > INT_MAX)
                return st_error_set(err, EINVAL, "\"%s\" is not a PID", text);
        *ret = (uint32_t)pid;
        return 0;
}

/* The process's details of a request, made when there are none; NULL: no memory. */
static Daemon__Process *process_of(Daemon__Details **details) {
        if (!*details) {
                *details = malloc(sizeof(**details));
                if (!*details)
                        return NULL;
                daemon__details__init(*details);
        }
        if (!(*details)->process) {
                Daemon__Process *process = malloc(sizeof(*process));
                if (!process)
                        return NULL;
                daemon__process__init(process);
                (*details)->process = process;
        }
        return (*details)->process;
}

static int add_note(Daemon__Process *process, const char *note) {
        if (!note)
                return 0;

        char *copy = strdup(note);
        char **args = copy ? realloc(process->args, (process->n_args + 1) * sizeof(*args)) : NULL;
        if (!args) {
                free(copy);
                return -ENOMEM;
        }
        args[process->n_args++] = copy;
        process->args = args;
        return 0;
}

static const char *note_of(const Daemon__Details *details) {
        return details && details->process && details->process->n_args > 0 ? details->process->args[0] : NULL;
}

static int fill_dump(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        uint32_t pid;

        if (!words[0] || words[1])
                return st_error_set(err, EINVAL, "dump sample takes one PID");
        int r = parse_pid(words[0], &pid, err);
        if (r < 0)
                return r;

        Daemon__Process *process = process_of(&req->details);
        if (!process || add_note(process, st_arguments_string(arguments, "sample-note")) < 0)
                return st_error_set(err, ENOMEM, "no memory for the request");
        process->has_pid = 1;
        process->pid = pid;
        return 0;
}

static int fill_restore(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        if (st_arguments_words(arguments)[0])
                return st_error_set(err, EINVAL, "restore sample takes no arguments");

        Daemon__Process *process = process_of(&req->details);
        if (!process || add_note(process, st_arguments_string(arguments, "sample-note")) < 0)
                return st_error_set(err, ENOMEM, "no memory for the request");
        return 0;
}

static int fill_query(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);

        for (; *words; words++) {
                uint32_t *pids = realloc(req->pids, (req->n_pids + 1) * sizeof(*pids));
                if (!pids)
                        return st_error_set(err, ENOMEM, "no memory for the request");
                req->pids = pids;
                int r = parse_pid(*words, &req->pids[req->n_pids], err);
                if (r < 0)
                        return r;
                req->n_pids++;
        }
        return 0;
}

/* CRIU is the handler, so the tree's root must be known by then. */
static int find_target(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const Daemon__Details *details = dump->req->details;

        if (!details || !details->process || !details->process->has_pid)
                return st_error_set(err, EINVAL, "the request names no PID");
        dump->pid = (pid_t)details->process->pid;
        st_log_info("sample: before CRIU");
        int r = st_dump_proceed(next, dump, err);
        st_log_info("sample: after CRIU: %s", r < 0 ? "failed" : "done");
        return r;
}

/* Keeps the note in a file beside the operation's own, as a plugin that has something to hand to a program would. */
static int keep_note(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const char *note = note_of(dump->req->details);
        char path[PATH_MAX];

        if (!note)
                return st_dump_proceed(next, dump, err);
        int n = snprintf(path, sizeof(path), "%s/note.txt", st_operation_work_dir(dump->operation));
        if (n < 0 || (size_t)n >= sizeof(path))
                return st_error_set(err, ENAMETOOLONG, "the work directory's path is too long");
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        ssize_t written = write(fd, note, strlen(note));
        close(fd);
        st_log_info("sample: note: %s", note);

        int r = written == (ssize_t)strlen(note) ? st_dump_proceed(next, dump, err)
                                                 : st_error_set(err, EIO, "cannot write %s", path);
        unlink(path);
        return r;
}

static int restore_early(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const char *note = note_of(restore->req->details);

        if (note)
                st_log_info("sample: note: %s", note);
        st_log_info("sample: early, %s", restore->state ? "the state is loaded" : "no state yet");
        int r = st_restore_proceed(next, restore, err);
        st_log_info("sample: early: after: %s", r < 0 ? "failed" : "done");
        return r;
}

static int restore_late(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        st_log_info("sample: late, %s", restore->state ? "the state is loaded" : "no state");
        int r = st_restore_proceed(next, restore, err);
        st_log_info("sample: late: after: PID %d", (int)restore->pid);
        return r;
}

/* Answers with what was asked for, and a command line that shows who answered. */
static int query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                 struct st_error **err) {
        (void)operation;
        for (size_t i = 0; i < req->n_pids; i++) {
                Daemon__ProcessState **states = realloc(resp->states, (resp->n_states + 1) * sizeof(*states));
                if (!states)
                        return st_error_set(err, ENOMEM, "no memory for the answer");
                resp->states = states;
                Daemon__ProcessState *state = malloc(sizeof(*state));
                if (!state)
                        return st_error_set(err, ENOMEM, "no memory for the answer");
                daemon__process_state__init(state);
                resp->states[resp->n_states++] = state;
                state->has_pid = 1;
                state->pid = req->pids[i];
                state->cmdline = strdup("sample");
        }
        return 0;
}

static int check_health(struct st_operation *operation, bool full, Daemon__HealthCheckResult *result,
                        struct st_error **err) {
        (void)operation;
        (void)err;
        while (getenv("SAMPLE_HEALTH_HANGS"))
                sleep(1);
        st_health_add(result, "sample", full ? "all of it" : "fine", NULL, NULL);
        return 0;
}

static const struct st_option options[] = {
        { .flag = "sample-note",
          .type = ST_OPTION_STRING,
          .value_name = "TEXT",
          .help = "a text that the sample plugin logs" },
        ST_OPTION_END,
};

static const struct st_dump_command dump_command = {
        .command = { "sample", "PID", "Dump a process by way of the sample plugin",
                     "dump sample 42 --sample-note hello", options },
        .fill = fill_dump,
};

static const struct st_restore_command restore_command = {
        .command = { "sample", NULL, "Restore a process by way of the sample plugin",
                     "restore sample --path /tmp/checkpoint", options },
        .fill = fill_restore,
};

static const struct st_query_command query_command = {
        .command = { "sample", "PID…", "Ask the sample plugin about processes", "query sample 42", NULL },
        .fill = fill_query,
};

static const struct st_dump_adapter dump_list[] = {
        { "sample target", find_target },
        { "sample note", keep_note },
};

static const struct st_restore_adapter early_list[] = { { "sample early", restore_early } };
static const struct st_restore_adapter late_list[] = { { "sample late", restore_late } };
static const struct st_health_check check_list[] = { { "sample", check_health } };

static const struct st_dump_adapters dump_middleware = { 2, dump_list };
static const struct st_restore_adapters early = { 1, early_list };
static const struct st_restore_adapters late = { 1, late_list };
static const struct st_query_handler query_handler = { query };
static const struct st_health_checks health_checks = { 1, check_list };

static const struct st_features features = {
        .size = sizeof(struct st_features),
        ST_FEATURE(dump_command, dump_command),
        ST_FEATURE(restore_command, restore_command),
        ST_FEATURE(query_command, query_command),
        ST_FEATURE(dump_middleware, dump_middleware),
        ST_FEATURE(restore_middleware_early, early),
        ST_FEATURE(restore_middleware_late, late),
        ST_FEATURE(query_handler, query_handler),
        ST_FEATURE(health_checks, health_checks),
};

ST_PLUGIN("sample", "1.0", features, NULL, NULL);
