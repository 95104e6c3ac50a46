/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis checkpoint inspect PATH|ID`: what is in a checkpoint. For a path it needs no daemon, and no more rights than
 * to read it.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/socket_name.h"
#include "base/table.h"
#include "base/text.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/output.h"
#include "engine/inspect.h"

static const struct st_option inspect_options[] = {
        { .flag = "type",
          .letter = 't',
          .type = ST_OPTION_STRING,
          .value_name = "WHAT",
          .choices = "ps|fd|mem|rss|sk",
          .help = "show its processes, open files, memory areas, pages of memory or sockets instead of a summary" },
        { .flag = "pid",
          .type = ST_OPTION_INT,
          .value_name = "PID",
          .help = "show only what this process has; with --type" },
        ST_OPTION_END,
};

/** What is shown of which process; 0: of all. */
struct view {
        const struct inspection *inspection;
        pid_t only;
};

static bool wanted(const struct view *view, pid_t pid) {
        return view->only == 0 || view->only == pid;
}

static char *number(uint64_t value) {
        return xasprintf("%" PRIu64, value);
}

static char *state_text(const struct inspect_task *task) {
        if (task->state != CRIU_TASK_DEAD && task->state != CRIU_TASK_ZOMBIE)
                return xstrdup(inspect_state_name(task->state));
        if (WIFSIGNALED(task->status))
                return xasprintf("killed by %d", WTERMSIG(task->status));
        return xasprintf("exited %d", WEXITSTATUS(task->status));
}

static struct table *table_of_tasks(const struct view *view) {
        static const char *const titles[] = { "PID", "PPID", "PGID", "SID", "STATE", "THREADS", "COMMAND", NULL };
        const struct inspection *inspection = view->inspection;
        struct table *table = table_new(titles);
        /* The row of each task; a parent that comes later, in damaged images, has none yet. */
        _cleanup_free_ size_t *rows = xcalloc(inspection->n_tasks, sizeof(*rows));
        for (size_t i = 0; i < inspection->n_tasks; i++) {
                const struct inspect_task *task = &inspection->tasks[i];
                const struct inspect_task *parent = inspection_find(inspection, task->ppid);
                if (!wanted(view, task->pid))
                        continue;
                _cleanup_free_ char *pid = number((uint64_t)task->pid), *ppid = number((uint64_t)task->ppid),
                                    *pgid = number((uint64_t)task->pgid), *sid = number((uint64_t)task->sid),
                                    *threads = number(task->n_threads), *state = state_text(task);
                bool below = view->only == 0 && parent && parent < task;
                rows[i] = table_add_below(table, below ? rows[parent - inspection->tasks] : SIZE_MAX,
                                          (const char *const[]){ pid, ppid, pgid, sid, state, threads, task->command });
        }
        return table;
}

static struct table *table_of_files(const struct view *view) {
        static const char *const titles[] = { "PID", "FD", "TYPE", "MODE", "POSITION", "SIZE", "DETAILS", NULL };
        struct table *table = table_new(titles);
        for (size_t i = 0; i < view->inspection->n_fds; i++) {
                const struct inspect_fd *fd = &view->inspection->fds[i];
                if (!wanted(view, fd->pid))
                        continue;
                _cleanup_free_ char *pid = number((uint64_t)fd->pid), *n = number(fd->fd);
                _cleanup_free_ char *position = fd->regular ? number(fd->position) : NULL;
                _cleanup_free_ char *size = fd->has_size ? number(fd->size) : NULL;
                table_add(table, (const char *const[]){ pid, n, fd->type, fd->mode, position, size, fd->details });
        }
        return table;
}

static struct table *table_of_areas(const struct view *view) {
        static const char *const titles[] = { "PID", "START", "END", "PERM", "SIZE", "WHAT", NULL };
        struct table *table = table_new(titles);
        for (size_t i = 0; i < view->inspection->n_areas; i++) {
                const struct inspect_area *area = &view->inspection->areas[i];
                if (!wanted(view, area->pid))
                        continue;
                _cleanup_free_ char *pid = number((uint64_t)area->pid), *size = number(area->end - area->start);
                _cleanup_free_ char *start = xasprintf("0x%" PRIx64, area->start);
                _cleanup_free_ char *end = xasprintf("0x%" PRIx64, area->end);
                table_add(table, (const char *const[]){ pid, start, end, area->permissions, size, area->what });
        }
        return table;
}

static void add_pages(struct table *table, const char *pid, const struct inspect_pages *pages, uint64_t bytes,
                      const char *command) {
        _cleanup_free_ char *present = number(pages->present), *zero = number(pages->zero);
        _cleanup_free_ char *parent = number(pages->parent), *lazy = number(pages->lazy);
        _cleanup_free_ char *shared = number(pages->shared), *size = number(bytes);
        table_add(table, (const char *const[]){ pid, present, zero, parent, lazy, shared, size, command });
}

/** The pages of all tasks; those of a shared segment once. */
static struct inspect_pages sum_pages(const struct inspection *inspection) {
        struct inspect_pages sum = { .shared = inspection->shared_pages };
        for (size_t i = 0; i < inspection->n_tasks; i++) {
                const struct inspect_pages *pages = &inspection->tasks[i].pages;
                sum.present += pages->present;
                sum.zero += pages->zero;
                sum.parent += pages->parent;
                sum.lazy += pages->lazy;
        }
        return sum;
}

static uint64_t bytes_of(const struct inspect_pages *pages) {
        return (pages->present + pages->shared) * CRIU_PAGE_SIZE;
}

static struct table *table_of_pages(const struct view *view) {
        static const char *const titles[] = { "PID",    "PRESENT", "ZERO",    "PARENT", "LAZY",
                                              "SHARED", "SIZE",    "COMMAND", NULL };
        const struct inspection *inspection = view->inspection;
        struct table *table = table_new(titles);
        for (size_t i = 0; i < inspection->n_tasks; i++) {
                const struct inspect_task *task = &inspection->tasks[i];
                if (!wanted(view, task->pid))
                        continue;
                _cleanup_free_ char *pid = number((uint64_t)task->pid);
                add_pages(table, pid, &task->pages, bytes_of(&task->pages), task->command);
        }
        struct inspect_pages sum = sum_pages(inspection);
        if (view->only == 0)
                add_pages(table, NULL, &sum, bytes_of(&sum), "total");
        return table;
}

static struct table *table_of_sockets(const struct view *view) {
        static const char *const titles[] = { "PID", "FD", "FAMILY", "TYPE", "STATE", "LOCAL", "REMOTE", NULL };
        struct table *table = table_new(titles);
        for (size_t i = 0; i < view->inspection->n_sockets; i++) {
                const struct inspect_socket *socket = &view->inspection->sockets[i];
                if (!wanted(view, socket->pid))
                        continue;
                _cleanup_free_ char *pid = number((uint64_t)socket->pid), *fd = number(socket->fd);
                const char *family = socket_family_name(socket->family), *type = socket_type_name(socket->type);
                table_add(table, (const char *const[]){ pid, fd, family ?: "unknown", type ?: "unknown", socket->state,
                                                        socket->local, socket->remote });
        }
        return table;
}

/* What -t can be. */
static const struct {
        const char *name;
        unsigned parts;
        struct table *(*make)(const struct view *view);
} views[] = {
        { "ps", 0, table_of_tasks },
        { "fd", INSPECT_FILES, table_of_files },
        { "mem", INSPECT_MEMORY, table_of_areas },
        { "rss", INSPECT_MEMORY, table_of_pages },
        { "sk", INSPECT_FILES, table_of_sockets },
};

/** The flags that a restore by CRIU itself needs: as stasis chose them, or what the sockets need. */
static json_t *flags_needed(const struct inspection *inspection) {
        json_t *list = json_array();
        const Criu__CriuOpts *o = inspection->options;
        bool established = false;
        for (size_t i = 0; i < inspection->n_sockets; i++)
                established = established || inspection->sockets[i].established;
        const struct {
                bool needed;
                const char *flag;
        } flags[] = {
                { o ? o->tcp_established : established && !inspection->inventory->tcp_close, "--tcp-established" },
                { o ? o->tcp_close : inspection->inventory->tcp_close, "--tcp-close" },
                { o && o->ext_unix_sk, "--ext-unix-sk" },
                { o && o->shell_job, "--shell-job" },
                { o && o->file_locks, "--file-locks" },
                { o && o->link_remap, "--link-remap" },
        };
        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                if (flags[i].needed)
                        json_array_append_new(list, json_string(flags[i].flag));
        return list;
}

/** Of several in a row, the latest is not the only one that may be missing: NULL gives null. */
static json_t *text_or_null(const char *text) {
        return isempty(text) ? json_null() : output_text_json(text);
}

static json_t *time_text(int64_t seconds) {
        char text[32];
        time_t t = (time_t)seconds;
        struct tm tm;
        if (seconds <= 0 || !gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
                return json_null();
        return json_string(text);
}

static uint64_t count_connections(const struct inspection *inspection) {
        uint64_t n = 0;
        for (size_t i = 0; i < inspection->n_sockets; i++)
                n += inspection->sockets[i].established;
        return n;
}

/** What the plugin of its type says. */
static json_t *remarks(const struct inspection *inspection) {
        json_t *list = json_array();
        for (size_t i = 0; i < inspection->n_remarks; i++) {
                json_t *remark = json_object();
                json_object_set_new(remark, "label", output_text_json(inspection->remarks[i].label));
                json_object_set_new(remark, "text", output_text_json(inspection->remarks[i].text));
                json_array_append_new(list, remark);
        }
        return list;
}

/** Everything of the summary, in order; sizes are bytes and their names end in "size" or are "memory". */
static json_t *make_summary(const struct inspection *inspection) {
        const struct inspect_task *root = &inspection->tasks[0];
        const Daemon__Host *host = inspection->state ? inspection->state->host : NULL;
        struct inspect_pages pages = sum_pages(inspection);
        json_t *summary = json_object();
#define PUT(name, value) json_object_set_new(summary, name, value)
        PUT("path", output_text_json(inspection->path));
        PUT("format", json_string(image_format_name(inspection->format)));
        PUT("made_by", json_string(inspection->of_stasis ? "stasis" : "CRIU"));
        PUT("version", text_or_null(inspection->version));
        PUT("criu_version", text_or_null(inspection->criu_version));
        PUT("time", time_text(inspection->time));
        PUT("manifest", json_boolean(inspection->verified));
        PUT("size", json_integer((json_int_t)inspection->size));
        PUT("stored_size", json_integer((json_int_t)inspection->stored));
        if (inspection->n_ancestors > 0) {
                PUT("parent", output_text_json(inspection->ancestors[0]));
                PUT("chain", output_messages_json(inspection->ancestors, inspection->n_ancestors));
        }
        PUT("type", text_or_null(inspection->type));
        PUT("host", text_or_null(host ? host->hostname : NULL));
        PUT("kernel", text_or_null(host ? host->kernelversion : NULL));
        PUT("pid", json_integer(root->pid));
        PUT("command", output_text_json(root->command));
        PUT("uid", root->has_creds ? json_integer(root->uid) : json_null());
        if (inspection->n_remarks > 0)
                PUT("summary", remarks(inspection));
        PUT("processes", json_integer((json_int_t)inspection->n_tasks));
        PUT("threads", json_integer((json_int_t)inspection->n_threads));
        PUT("memory", json_integer((json_int_t)bytes_of(&pages)));
        PUT("descriptors", json_integer((json_int_t)inspection->n_fds));
        PUT("sockets", json_integer((json_int_t)inspection->n_sockets));
        PUT("connections", json_integer((json_int_t)count_connections(inspection)));
        PUT("flags", flags_needed(inspection));
        PUT("recorded_files", json_integer((json_int_t)inspection->n_recorded));
        PUT("saved_files", json_integer((json_int_t)inspection->n_saved));
#undef PUT
        return summary;
}

static char *join_texts(const json_t *array) {
        _cleanup_strv_ struct strv list = { 0 };
        for (size_t i = 0; i < json_array_size(array); i++)
                strv_add(&list, json_string_value(json_array_get(array, i)));
        return strv_join(&list, " ");
}

/** A value of the summary as text; NULL: unknown, the line is left out. */
static char *value_text(const char *name, const json_t *value) {
        if (json_is_boolean(value))
                return xstrdup(json_is_true(value) ? "yes" : "no");
        if (json_is_integer(value) && (text_ends_with(name, "size") || streq(name, "memory")))
                return text_from_size((uint64_t)json_integer_value(value));
        if (json_is_integer(value))
                return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        if (json_is_array(value))
                return json_array_size(value) > 0 ? join_texts(value) : NULL;
        const char *text = json_string_value(value);
        return text ? text_sanitise(text, strlen(text)) : NULL;
}

static void print_line(const char *name, const json_t *value) {
        _cleanup_free_ char *text = value_text(name, value), *label = xasprintf("%s:", name);
        for (char *c = label; *c; c++)
                if (*c == '_')
                        *c = ' ';
        if (text)
                printf("%-16s %s\n", label, text);
}

static void print_summary(json_t *summary) {
        const char *name;
        json_t *value, *remark;
        size_t i;
        json_object_foreach(summary, name, value) {
                if (!streq(name, "summary"))
                        print_line(name, value);
                else
                        json_array_foreach(value, i, remark) print_line(
                                json_string_value(json_object_get(remark, "label")), json_object_get(remark, "text"));
        }
}

static int show_summary(struct cli *cli, const char *path, struct st_error **err) {
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        int r = inspect(path, INSPECT_FILES | INSPECT_MEMORY, &inspection, err);
        if (r < 0)
                return r;
        json_t *summary = make_summary(inspection);
        if (cli->json) {
                output_json(summary);
        } else {
                print_summary(summary);
                json_decref(summary);
        }
        return EXIT_OK;
}

static int show_view(struct cli *cli, const char *path, const char *name, pid_t only, struct st_error **err) {
        _cleanup_(inspection_freep) struct inspection *inspection = NULL;
        _cleanup_(table_freep) struct table *table = NULL;
        size_t i = 0;
        while (!streq(views[i].name, name)) /* one of the choices */
                i++;
        int r = inspect(path, views[i].parts, &inspection, err);
        if (r < 0)
                return r;
        if (only != 0 && !inspection_find(inspection, only))
                return st_error_set(err, ESRCH, "%s has no process %d", path, (int)only);
        struct view view = { inspection, only };
        table = views[i].make(&view);
        r = table_print(table, cli->json, err);
        return r < 0 ? r : EXIT_OK;
}

static int run_inspect(struct cli *cli, struct st_error **err) {
        _cleanup_free_ char *path = NULL;
        const char *name = st_arguments_string(cli->arguments, "type");
        int64_t only = st_arguments_int(cli->arguments, "pid");
        if (st_arguments_given(cli->arguments, "pid")) {
                if (only < 1 || only > 4194304)
                        return st_error_set(err, EINVAL, "not a PID: %" PRId64, only);
                if (!name)
                        return st_error_set(err, EINVAL, "--pid goes with --type");
        }
        cli_begin_work(cli);
        int r = checkpoint_resolve(cli, st_arguments_words(cli->arguments)[0], &path, err);
        if (r < 0)
                return r;
        return name ? show_view(cli, path, name, (pid_t)only, err) : show_summary(cli, path, err);
}

const struct command command_checkpoint_inspect = {
        .path = "checkpoint inspect",
        .words = "PATH|ID",
        .min_words = 1,
        .max_words = 1,
        .summary = "Shows what is in a checkpoint: processes, files, memory, sockets",
        .examples = "checkpoint inspect /backup/redis.stasis\n"
                    "checkpoint inspect /backup/redis.stasis -t fd --pid 42\n"
                    "checkpoint inspect /backup/redis -t sk --json",
        .options = (const struct st_option *const[]){ inspect_options, NULL },
        .config = true,
        .run = run_inspect,
};
