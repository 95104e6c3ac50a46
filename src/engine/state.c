/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/state.h"

#include <jansson.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "base/version.h"
#include "process/host.h"
#include "process/namespaces.h"
#include "process/parse.h"
#include "process/threads.h"

#define STATE_VERSION 1

/* CRIU's own limit on processes is the kernel's; a state with more tasks than PIDs is not one of ours. */
#define TASKS_MAX 4194304
#define PIPES_MAX 1048576

/* Each takes a descriptor of the restore's. */
#define TERMINALS_MAX 64
#define HEX_DIGITS "0123456789abcdef"
#define HEX_MAX 16

static int add_thread(const struct thread *thread, void *userdata) {
        json_array_append_new(userdata, json_integer(thread->tid));
        return 0;
}

/** The threads of a process but its first one. */
static json_t *threads_to_json(const struct process_task *task) {
        _cleanup_close_ int proc_fd = task->threads > 1 ? proc_open(task->pid) : -EBADF;
        json_t *threads = json_array(), *item;
        size_t i;

        if (proc_fd >= 0)
                (void)threads_each(proc_fd, add_thread, threads);
        json_array_foreach(threads, i, item) if (json_integer_value(item) == task->pid) {
                json_array_remove(threads, i);
                break;
        }
        return threads;
}

static json_t *tasks_to_json(const struct process_analysis *analysis) {
        json_t *tasks = json_array();

        for (size_t i = 0; i < analysis->n_tasks; i++) {
                const struct process_task *task = &analysis->tasks[i];
                json_array_append_new(tasks, json_pack("{s:i,s:i,s:i,s:I,s:o}", "pid", task->pid, "pgid", task->pgid,
                                                       "sid", task->sid, "start", (json_int_t)task->start_time,
                                                       "threads", threads_to_json(task)));
        }
        return tasks;
}

static json_t *ptys_to_json(const struct process_analysis *analysis) {
        json_t *list = json_array();

        for (size_t i = 0; i < analysis->n_ptys; i++)
                json_array_append_new(list, json_integer((json_int_t)analysis->ptys[i]));
        return list;
}

static json_t *pipes_to_json(const struct process_fds *pipes) {
        json_t *list = json_array();

        for (size_t i = 0; i < pipes->n; i++) {
                const struct process_fd *pipe = &pipes->items[i];
                json_array_append_new(list, json_pack("{s:i,s:i,s:I,s:b}", "pid", pipe->pid, "fd", pipe->fd, "inode",
                                                      (json_int_t)pipe->inode, "writable", pipe->writable));
        }
        return list;
}

static json_t *stopped_to_json(const struct process_analysis *analysis) {
        json_t *list = json_array();

        for (size_t i = 0; i < analysis->n_tasks; i++)
                if (analysis->tasks[i].stopped_by_us > 0)
                        json_array_append_new(list, json_integer(analysis->tasks[i].stopped_by_us));
        return list;
}

/**
 * The options that a restore must repeat, whoever asked for them: those that say what the image holds. Nothing else is
 * taken from a checkpoint either, which may come from anywhere.
 */
static void keep_options(Criu__CriuOpts *to, const Criu__CriuOpts *from) {
#define KEEP(field)                                  \
        do {                                         \
                to->has_##field = from->has_##field; \
                to->field = from->field;             \
        } while (0)
        KEEP(shell_job);
        KEEP(ext_unix_sk);
        KEEP(tcp_established);
        KEEP(tcp_close);
        KEEP(file_locks);
        KEEP(link_remap);
        KEEP(ext_masters);
        KEEP(ext_sharing);
        KEEP(manage_cgroups_mode);
        KEEP(network_lock);
#undef KEEP
}

static json_t *criu_to_json(const Criu__CriuOpts *dumped) {
        Criu__CriuOpts kept = CRIU__CRIU_OPTS__INIT;

        keep_options(&kept, dumped);
        return message_to_json(&kept.base);
}

static int criu_from_json(json_t *object, struct saved_state *saved, struct st_error **err) {
        _cleanup_(message_freep) Criu__CriuOpts *read = message_new(&criu__criu_opts__descriptor);
        int r = message_from_json(&read->base, object, err);

        if (r < 0)
                return r;
        saved->criu = message_new(&criu__criu_opts__descriptor);
        keep_options(saved->criu, read);
        return 0;
}

static json_t *texts_to_json(const struct strv *texts) {
        json_t *list = json_array();

        for (size_t i = 0; i < texts->n; i++)
                json_array_append_new(list, json_string(texts->items[i]));
        return list;
}

char *state_to_json(const struct st_dump *dump, const struct process_analysis *analysis, const struct strv *terminals,
                    const char *criu_version) {
        _cleanup_free_ char *cpu_flags = host_cpu_flags();
        json_t *root = json_pack("{s:i,s:s,s:s,s:I,s:s,s:o,s:o,s:o,s:o,s:o}", "version", STATE_VERSION, "stasis",
                                 STASIS_VERSION, "type", dump->req->type, "time", (json_int_t)time(NULL), "boot",
                                 proc_boot_id(), "criu", criu_to_json(dump->criu), "state",
                                 message_to_json(&dump->state->base), "tasks", tasks_to_json(analysis), "ptys",
                                 ptys_to_json(analysis), "pipes", pipes_to_json(&analysis->external_pipes));
        if (criu_version)
                json_object_set_new(root, "criu_version", json_string(criu_version));
        if (cpu_flags)
                json_object_set_new(root, "cpu_flags", json_string(cpu_flags));
        if (namespaces_differ(dump->pid, "pid"))
                json_object_set_new(root, "pid_namespace", json_true());
        if (analysis->own_mounts)
                json_object_set_new(root, "own_mounts", json_true());
        if (analysis->huge_pages)
                json_object_set_new(root, "huge_pages", json_true());
        json_object_set_new(root, "stopped_by_us", stopped_to_json(analysis));
        json_object_set_new(root, "terminals", texts_to_json(terminals));
        char *text = json_dumps(root, JSON_COMPACT);

        json_decref(root);
        return text;
}

/** Absent in older checkpoints. */
static int threads_from_json(json_t *list, struct saved_task *task, struct st_error **err) {
        size_t n = json_array_size(list), i;
        json_t *item;

        if (n > TASKS_MAX)
                return st_error_set(err, EBADMSG, "a task has %zu threads", n);
        task->threads = xcalloc(n + 1, sizeof(*task->threads));
        json_array_foreach(list, i, item) task->threads[i] = (pid_t)json_integer_value(item);
        task->n_threads = n;
        return 0;
}

static int tasks_from_json(json_t *list, struct saved_state *saved, struct st_error **err) {
        size_t n = json_array_size(list), i;
        json_t *item;

        if (n == 0 || n > TASKS_MAX)
                return st_error_set(err, EBADMSG, "it names %zu tasks", n);
        saved->tasks = xcalloc(n, sizeof(*saved->tasks));
        json_array_foreach(list, i, item) {
                struct saved_task *task = &saved->tasks[i];
                json_int_t start = 0;
                json_t *threads = NULL;
                json_error_t why;

                saved->n_tasks = i + 1;
                if (json_unpack_ex(item, &why, 0, "{s:i,s:i,s:i,s?I,s?o}", "pid", &task->pid, "pgid", &task->pgid,
                                   "sid", &task->sid, "start", &start, "threads", &threads) < 0)
                        return st_error_set(err, EBADMSG, "a task is not readable: %s", why.text);
                if (task->pid <= 0 || task->pgid < 0 || task->sid < 0)
                        return st_error_set(err, EBADMSG, "a task has the PID %d", task->pid);
                task->start = start > 0 ? (uint64_t)start : 0;
                int r = threads_from_json(threads, task, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int pipes_from_json(json_t *list, struct saved_state *saved, struct st_error **err) {
        size_t n = json_array_size(list), i;
        json_t *item;

        if (n > PIPES_MAX)
                return st_error_set(err, EBADMSG, "it names %zu pipes", n);
        saved->pipes = xcalloc(n + 1, sizeof(*saved->pipes));
        json_array_foreach(list, i, item) {
                struct process_fd *pipe = &saved->pipes[i];
                json_error_t why;
                json_int_t inode;
                int writable;

                if (json_unpack_ex(item, &why, 0, "{s:i,s:i,s:I,s:b}", "pid", &pipe->pid, "fd", &pipe->fd, "inode",
                                   &inode, "writable", &writable) < 0)
                        return st_error_set(err, EBADMSG, "a pipe is not readable: %s", why.text);
                pipe->inode = (uint64_t)inode;
                pipe->writable = writable;
        }
        saved->n_pipes = n;
        return 0;
}

static int ptys_from_json(json_t *list, struct saved_state *saved, struct st_error **err) {
        size_t n = json_array_size(list), i;
        json_t *item;

        if (n > PIPES_MAX)
                return st_error_set(err, EBADMSG, "it names %zu terminals", n);
        saved->ptys = xcalloc(n + 1, sizeof(*saved->ptys));
        json_array_foreach(list, i, item) saved->ptys[i] = (unsigned)json_integer_value(item);
        saved->n_ptys = n;
        return 0;
}

/** "tty[8803:17]", and nothing else: it becomes an option of CRIU's. */
static bool is_terminal_key(const char *key) {
        const char *rest = key ? text_after(key, "tty[") : NULL;
        size_t digits = rest ? strspn(rest, HEX_DIGITS) : 0;

        if (digits == 0 || digits > HEX_MAX || rest[digits] != ':')
                return false;
        rest += digits + 1;
        digits = strspn(rest, HEX_DIGITS);
        return digits > 0 && digits <= HEX_MAX && streq(rest + digits, "]");
}

/** Absent in older checkpoints. */
static int terminals_from_json(json_t *list, struct saved_state *saved, struct st_error **err) {
        size_t i;
        json_t *item;

        if (json_array_size(list) > TERMINALS_MAX)
                return st_error_set(err, EBADMSG, "it names %zu terminals", json_array_size(list));
        json_array_foreach(list, i, item) {
                if (!is_terminal_key(json_string_value(item)))
                        return st_error_set(err, EBADMSG, "a terminal is not readable");
                strv_add(&saved->terminals, json_string_value(item));
        }
        return 0;
}

/** What older checkpoints do not have. */
static void parse_optional(json_t *root, struct saved_state *saved) {
        const char *boot = NULL, *criu_version = NULL, *cpu_flags = NULL;
        int pid_namespace = false, huge_pages = false, own_mounts = false;

        (void)json_unpack(root, "{s?s,s?s,s?s,s?b,s?b,s?b}", "boot", &boot, "criu_version", &criu_version, "cpu_flags",
                          &cpu_flags, "pid_namespace", &pid_namespace, "huge_pages", &huge_pages, "own_mounts",
                          &own_mounts);
        saved->boot = xstrdup(boot);
        saved->criu_version = xstrdup(criu_version);
        saved->cpu_flags = xstrdup(cpu_flags);
        saved->pid_namespace = pid_namespace;
        saved->huge_pages = huge_pages;
        saved->own_mounts = own_mounts;
}

/** Absent in older checkpoints: then nobody was stopped by us. */
static int stopped_from_json(json_t *list, struct saved_state *saved, struct st_error **err) {
        size_t n = json_array_size(list), i;
        json_t *item;

        if (n > TASKS_MAX)
                return st_error_set(err, EBADMSG, "it names %zu stopped tasks", n);
        saved->stopped_by_us = xcalloc(n + 1, sizeof(*saved->stopped_by_us));
        json_array_foreach(list, i, item) {
                json_int_t pid = json_integer_value(item);

                if (pid <= 0 || pid > INT32_MAX)
                        return st_error_set(err, EBADMSG, "a stopped task has no PID");
                saved->stopped_by_us[i] = (pid_t)pid;
        }
        saved->n_stopped_by_us = n;
        return 0;
}

static int parse(json_t *root, struct saved_state *saved, struct st_error **err) {
        json_t *criu, *state, *tasks, *ptys, *pipes;
        const char *type;
        json_error_t why;
        int version, r;

        if (json_unpack_ex(root, &why, 0, "{s:i,s:s,s:o,s:o,s:o,s:o,s:o}", "version", &version, "type", &type, "criu",
                           &criu, "state", &state, "tasks", &tasks, "ptys", &ptys, "pipes", &pipes) < 0)
                return st_error_set(err, EBADMSG, "%s", why.text);
        if (version > STATE_VERSION)
                return st_error_set(err, EOPNOTSUPP, "it was written by a newer stasis (version %d, this one knows %d)",
                                    version, STATE_VERSION);
        saved->type = xstrdup(type);
        parse_optional(root, saved);
        saved->state = message_new(&daemon__process_state__descriptor);
        r = criu_from_json(criu, saved, err);
        if (r >= 0)
                r = message_from_json(&saved->state->base, state, err);
        if (r >= 0)
                r = tasks_from_json(tasks, saved, err);
        if (r >= 0)
                r = ptys_from_json(ptys, saved, err);
        if (r >= 0)
                r = pipes_from_json(pipes, saved, err);
        if (r >= 0)
                r = stopped_from_json(json_object_get(root, "stopped_by_us"), saved, err);
        if (r >= 0)
                r = terminals_from_json(json_object_get(root, "terminals"), saved, err);
        return r;
}

int state_from_json(const char *text, struct saved_state **ret, struct st_error **err) {
        _cleanup_(saved_state_freep) struct saved_state *saved = NEW(struct saved_state);
        json_error_t why;
        json_t *root = json_loads(text, 0, &why);
        int r;

        if (!root)
                return st_error_set(err, EBADMSG, "the saved state is not readable: %s", why.text);
        r = parse(root, saved, err);
        json_decref(root);
        if (r < 0)
                return st_error_wrap(err, "the saved state is not readable");
        *ret = TAKE_PTR(saved);
        return 0;
}

struct saved_state *saved_state_free(struct saved_state *saved) {
        if (!saved)
                return NULL;
        free(saved->type);
        message_freep(&saved->criu);
        message_freep(&saved->state);
        for (size_t i = 0; i < saved->n_tasks; i++)
                free(saved->tasks[i].threads);
        free(saved->tasks);
        free(saved->boot);
        free(saved->criu_version);
        free(saved->cpu_flags);
        free(saved->ptys);
        free(saved->pipes);
        free(saved->stopped_by_us);
        strv_clear(&saved->terminals);
        free(saved);
        return NULL;
}
