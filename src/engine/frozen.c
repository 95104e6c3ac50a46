/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/frozen.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json_path.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "process/proc.h"

#define RECORD_VERSION 1

/* A record has less than 64 bytes for each of at most 65,536 tasks. */
#define RECORD_LIMIT ((size_t)8 << 20)
#define TASKS_LIMIT 65536

static char *directory(void) {
        return path_join(path_run_dir(), "frozen");
}

static char *record_path(const struct frozen *frozen) {
        return xasprintf("%s/frozen/%d-%llu.json", path_run_dir(), frozen->pid, (unsigned long long)frozen->start_time);
}

struct frozen *frozen_free(struct frozen *frozen) {
        if (!frozen)
                return NULL;
        free(frozen->cgroup);
        stopped_clear(&frozen->tasks);
        free(frozen);
        return NULL;
}

void frozen_list_clear(struct frozen_list *list) {
        for (size_t i = 0; i < list->n; i++)
                frozen_free(list->items[i]);
        free(list->items);
        *list = (struct frozen_list){ 0 };
}

char *frozen_to_json(const struct frozen *frozen) {
        json_t *tasks = json_array();

        for (size_t i = 0; i < frozen->tasks.n; i++) {
                const struct stopped_task *task = &frozen->tasks.tasks[i];
                json_array_append_new(tasks, json_pack("{s:i,s:I,s:b}", "pid", task->pid, "start",
                                                       (json_int_t)task->start_time, "ours", task->ours));
        }

        json_t *root = json_pack("{s:i,s:s,s:i,s:I,s:I,s:i,s:I,s:b,s:o}", "version", RECORD_VERSION, "boot",
                                 proc_boot_id(), "pid", frozen->pid, "start", (json_int_t)frozen->start_time, "uid",
                                 (json_int_t)frozen->uid, "client", frozen->client, "time", (json_int_t)frozen->time,
                                 "complete", frozen->complete, "tasks", tasks);
        if (frozen->cgroup) {
                json_path_put(root, "cgroup", frozen->cgroup);
                json_object_set_new(root, "freezer", json_integer(frozen->version));
        }
        char *text = json_dumps(root, JSON_COMPACT);
        json_decref(root);
        return text;
}

static int tasks_from_json(json_t *list, struct frozen *frozen, struct st_error **err) {
        size_t i;
        json_t *item;

        if (!json_is_array(list) || json_array_size(list) > TASKS_LIMIT)
                return st_error_set(err, EBADMSG, "it has no list of tasks");
        json_array_foreach(list, i, item) {
                json_error_t why;
                json_int_t start;
                int pid, ours;

                if (json_unpack_ex(item, &why, 0, "{s:i,s:I,s:b}", "pid", &pid, "start", &start, "ours", &ours) < 0)
                        return st_error_set(err, EBADMSG, "a task is not readable: %s", why.text);
                if (pid <= 1)
                        return st_error_set(err, EBADMSG, "a task has the PID %d", pid);
                stopped_add(&frozen->tasks, pid, (uint64_t)start, ours);
        }
        return 0;
}

static int parse(json_t *root, struct frozen *frozen, struct st_error **err) {
        const char *boot;
        int version, complete, freezer = 0, r;
        json_int_t start, uid, when;
        json_error_t why;
        json_t *tasks;

        if (json_unpack_ex(root, &why, 0, "{s:i,s:s,s:i,s:I,s:I,s:i,s:I,s:b,s:o,s?i}", "version", &version, "boot",
                           &boot, "pid", &frozen->pid, "start", &start, "uid", &uid, "client", &frozen->client, "time",
                           &when, "complete", &complete, "tasks", &tasks, "freezer", &freezer) < 0)
                return st_error_set(err, EBADMSG, "%s", why.text);
        if (version > RECORD_VERSION)
                return st_error_set(err, EOPNOTSUPP, "it was written by a newer stasis (version %d)", version);
        if (!streq(boot, proc_boot_id()))
                return st_error_set(err, ESTALE, "it is of an earlier boot");
        if (frozen->pid <= 1)
                return st_error_set(err, EBADMSG, "its PID is %d", frozen->pid);
        r = json_path_get(root, "cgroup", &frozen->cgroup);
        if (r == -EBADMSG || (r >= 0 && (frozen->cgroup[0] != '/' || (freezer != FREEZER_V1 && freezer != FREEZER_V2))))
                return st_error_set(err, EBADMSG, "its cgroup is not one");
        frozen->start_time = (uint64_t)start;
        frozen->uid = (uid_t)uid;
        frozen->time = when;
        frozen->complete = complete;
        frozen->version = (enum freezer_version)freezer;
        return tasks_from_json(tasks, frozen, err);
}

int frozen_from_json(const char *text, struct frozen **ret, struct st_error **err) {
        _cleanup_(frozen_freep) struct frozen *frozen = NEW(struct frozen);
        json_error_t why;
        json_t *root = json_loads(text, 0, &why);
        int r;

        if (!root)
                return st_error_set(err, EBADMSG, "the record is not readable: %s", why.text);
        r = parse(root, frozen, err);
        json_decref(root);
        if (r < 0)
                return st_error_wrap(err, "the record is not readable");
        *ret = TAKE_PTR(frozen);
        return 0;
}

bool frozen_is_alive(const struct frozen *frozen) {
        for (size_t i = 0; i < frozen->tasks.n; i++)
                if (proc_is_alive(frozen->tasks.tasks[i].pid, frozen->tasks.tasks[i].start_time))
                        return true;
        return false;
}

bool frozen_holds(const struct frozen *frozen) {
        if (frozen->cgroup)
                return freezer_is_frozen(frozen->version, frozen->cgroup) > 0;
        for (size_t i = 0; i < frozen->tasks.n; i++) {
                const struct stopped_task *task = &frozen->tasks.tasks[i];
                if (proc_is_alive(task->pid, task->start_time) && !stopper_stands(task->pid, task->start_time))
                        return false;
        }
        return true;
}

int frozen_undo(const struct frozen *frozen, struct st_error **err) {
        int r;

        if (!frozen->cgroup) {
                (void)stopper_continue(&frozen->tasks);
                return 0;
        }
        r = freezer_set(frozen->version, frozen->cgroup, false);
        return r < 0 && r != -ENOENT ? st_error_errno(err, r, "cannot thaw the cgroup %s", frozen->cgroup) : 0;
}

int frozen_save(const struct frozen *frozen, struct st_error **err) {
        _cleanup_free_ char *dir = directory(), *path = record_path(frozen), *text = frozen_to_json(frozen);
        int r = io_make_directories(dir, 0700);

        if (r >= 0)
                r = io_replace_file(path, text, strlen(text), 0600, false);
        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

void frozen_remove(const struct frozen *frozen) {
        _cleanup_free_ char *path = record_path(frozen);

        (void)unlink(path);
}

/** Takes one record into the list; one of nobody is removed. */
static void load_one(const char *dir, const char *name, struct frozen_list *list) {
        _cleanup_free_ char *path = path_join(dir, name), *text = NULL;
        _cleanup_(frozen_freep) struct frozen *frozen = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        int r = io_read_file(AT_FDCWD, path, RECORD_LIMIT, &text, NULL);

        if (r == -ENOENT)
                return;
        if (r >= 0)
                r = frozen_from_json(text, &frozen, &error);
        if (r == -ESTALE || (r >= 0 && !frozen_is_alive(frozen))) {
                (void)unlink(path);
                return;
        }
        if (r < 0) {
                st_log_warning("%s: %s", path, error ? st_error_message(error) : strerror(-r));
                return;
        }
        GROW(list->items, list->n, list->room);
        list->items[list->n++] = TAKE_PTR(frozen);
}

void frozen_load(struct frozen_list *ret) {
        _cleanup_free_ char *path = directory();
        _cleanup_closedir_ DIR *dir = opendir(path);
        const struct dirent *entry;

        *ret = (struct frozen_list){ 0 };
        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.' && text_ends_with(entry->d_name, ".json"))
                        load_one(path, entry->d_name, ret);
}

const struct frozen *frozen_find(const struct frozen_list *list, pid_t pid) {
        const struct frozen *found = NULL;

        for (size_t i = 0; i < list->n; i++) {
                const struct frozen *frozen = list->items[i];

                if (frozen->pid != pid)
                        continue;
                if (proc_is_alive(pid, frozen->start_time))
                        return frozen;
                found = frozen;
        }
        return found;
}

const struct frozen *frozen_find_member(const struct frozen_list *list, pid_t pid, uint64_t start_time) {
        for (size_t i = 0; i < list->n; i++)
                if (list->items[i]->complete && stopped_find(&list->items[i]->tasks, pid, start_time))
                        return list->items[i];
        return NULL;
}
