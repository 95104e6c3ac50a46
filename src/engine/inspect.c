/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/inspect.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/file_record.h"
#include "engine/inspect_parts.h"
#include "engine/state.h"

/** Version 1.1 of the images, as CRIU counts them (criu/include/magic.h). */
#define IMAGES_VERSION 2

int inspect_count_row(struct inspection *inspection, const char *text, struct st_error **err) {
        inspection->n_rows++;
        inspection->text += text ? strlen(text) : 0;
        if (inspection->n_rows > INSPECT_ROWS_MAX || inspection->text > INSPECT_TEXT_MAX)
                return st_error_set(err, EFBIG, "it has more to show than fits into the memory");
        return 0;
}

const char *inspect_state_name(uint32_t state) {
        switch (state) {
        case CRIU_TASK_ALIVE:
                return "running";
        case CRIU_TASK_STOPPED:
                return "stopped";
        case CRIU_TASK_DEAD:
        case CRIU_TASK_ZOMBIE:
                return "dead";
        default:
                return "unknown";
        }
}

static int read_images(struct inspection *inspection, struct image *image, unsigned parts, struct st_error **err) {
        static const char *const of_tasks[] = { "inventory", "pstree", "core", "ids" };
        static const char *const of_files[] = { "fdinfo", "remap-fpath", "pipes-data", "fifo-data", "tty-info" };
        static const char *const of_memory[] = { "mm", "pagemap", "pagemap-shmem" };
        static const char *const of_both[] = { "files", "memfd" };
        const char
                *kinds[ELEMENTSOF(of_tasks) + ELEMENTSOF(of_files) + ELEMENTSOF(of_memory) + ELEMENTSOF(of_both) + 1];
        size_t n = 0;
#define ADD(list, condition)                                         \
        for (size_t i = 0; (condition) && i < ELEMENTSOF(list); i++) \
                kinds[n++] = (list)[i];
        ADD(of_tasks, true)
        ADD(of_files, parts & INSPECT_FILES)
        ADD(of_memory, parts & INSPECT_MEMORY)
        ADD(of_both, parts != 0)
#undef ADD
        kinds[n] = NULL;
        return inspect_images_load(image, kinds, &inspection->images, err);
}

static int check_inventory(struct inspection *inspection, struct st_error **err) {
        const CriuImage__Inventory *inventory = inspect_images_one(inspection->images, "inventory", 0);
        if (!inventory)
                return st_error_set(err, EBADMSG, "inventory.img is missing or damaged");
        if (inventory->img_version != IMAGES_VERSION)
                return st_error_set(err, EOPNOTSUPP, "its images are of version %u, which cannot be read",
                                    inventory->img_version);
        inspection->inventory = inventory;
        return 0;
}

static bool is_pid(uint32_t number) {
        return number > 0 && number <= 4194304; /* PID_MAX_LIMIT of the kernel */
}

static int read_task(const struct inspection *inspection, const CriuImage__Pstree *node, struct inspect_task *task,
                     struct st_error **err) {
        if (!is_pid(node->pid) || node->ppid > INT32_MAX || node->pgid > INT32_MAX || node->sid > INT32_MAX)
                return st_error_set(err, EBADMSG, "pstree.img is damaged: it names the process %u", node->pid);
        const CriuImage__Core *core = inspect_images_one(inspection->images, "core", node->pid);
        if (!core || !core->tc)
                return st_error_set(err, EBADMSG, "core-%u.img is missing or damaged", node->pid);
        const CriuImage__Ids *ids = inspect_images_one(inspection->images, "ids", node->pid);
        ids = ids ?: core->ids;
        *task = (struct inspect_task){
                .pid = (pid_t)node->pid,
                .ppid = (pid_t)node->ppid,
                .pgid = (pid_t)node->pgid,
                .sid = (pid_t)node->sid,
                .state = core->tc->task_state,
                .status = (int)core->tc->exit_code,
                .command = xstrdup(core->tc->comm),
                .files_id = ids ? ids->files_id : 0,
        };
        bool dead = task->state == CRIU_TASK_DEAD || task->state == CRIU_TASK_ZOMBIE;
        task->n_threads = dead ? 0 : node->n_threads;
        if (core->thread_core && core->thread_core->creds) {
                task->has_creds = true;
                task->uid = core->thread_core->creds->uid;
                task->gid = core->thread_core->creds->gid;
        }
        return 0;
}

static int compare_tasks(const void *a, const void *b) {
        const struct inspect_task *x = *(struct inspect_task *const *)a, *y = *(struct inspect_task *const *)b;
        return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct inspect_task *find_task(const struct inspection *inspection, pid_t pid) {
        struct inspect_task wanted = { .pid = pid }, *key = &wanted;
        struct inspect_task **found =
                bsearch(&key, inspection->by_pid, inspection->n_tasks, sizeof(key), compare_tasks);
        return found ? *found : NULL;
}

const struct inspect_task *inspection_find(const struct inspection *inspection, pid_t pid) {
        return find_task(inspection, pid);
}

static int index_tasks(struct inspection *inspection, struct st_error **err) {
        inspection->by_pid = xcalloc(inspection->n_tasks, sizeof(*inspection->by_pid));
        for (size_t i = 0; i < inspection->n_tasks; i++)
                inspection->by_pid[i] = &inspection->tasks[i];
        qsort(inspection->by_pid, inspection->n_tasks, sizeof(*inspection->by_pid), compare_tasks);
        for (size_t i = 1; i < inspection->n_tasks; i++)
                if (inspection->by_pid[i]->pid == inspection->by_pid[i - 1]->pid)
                        return st_error_set(err, EBADMSG, "pstree.img is damaged: it names the process %d twice",
                                            (int)inspection->by_pid[i]->pid);
        return 0;
}

static int read_tasks(struct inspection *inspection, struct st_error **err) {
        const struct criu_image_list *tree = inspect_images_find(inspection->images, "pstree", 0);
        if (!tree || tree->n == 0)
                return st_error_set(err, EBADMSG, "pstree.img is missing or empty");
        inspection->tasks = xcalloc(tree->n, sizeof(*inspection->tasks));
        for (size_t i = 0; i < tree->n; i++) {
                struct inspect_task *task = &inspection->tasks[i];
                int r = read_task(inspection, (const CriuImage__Pstree *)tree->items[i], task, err);
                if (r < 0)
                        return r;
                inspection->n_tasks++;
                inspection->n_threads += task->n_threads;
        }
        return index_tasks(inspection, err);
}

/** The command lines that stasis saw before the dump, by PID. */
static void take_commands(struct inspection *inspection, const Daemon__ProcessState *state) {
        struct inspect_task *task = state->pid <= INT32_MAX ? find_task(inspection, (pid_t)state->pid) : NULL;
        if (task && !isempty(state->cmdline)) {
                free(task->command);
                task->command = xstrdup(state->cmdline);
        }
        for (size_t i = 0; i < state->n_children; i++)
                take_commands(inspection, state->children[i]);
}

/** What state.c keeps for the restore, and when and by whom it was written. */
static int read_state(struct inspection *inspection, struct image *image, struct st_error **err) {
        _cleanup_(saved_state_freep) struct saved_state *saved = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_free_ char *text = NULL;
        int r = image_read(image, IMAGE_STATE, &text, NULL, &error);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return st_error_move(err, TAKE_PTR(error));
        r = state_from_json(text, &saved, err);
        if (r < 0)
                return r;
        inspection->of_stasis = true;
        inspection->type = TAKE_PTR(saved->type);
        inspection->options = TAKE_PTR(saved->criu);
        inspection->criu_version = TAKE_PTR(saved->criu_version);
        inspection->state = TAKE_PTR(saved->state);

        json_t *root = json_loads(text, 0, NULL);
        inspection->time = json_integer_value(json_object_get(root, "time"));
        inspection->version = xstrdup(json_string_value(json_object_get(root, "stasis")));
        json_decref(root);
        take_commands(inspection, inspection->state);
        return 0;
}

/** How many files can be rolled back. */
static int read_records(struct inspection *inspection, struct image *image, struct st_error **err) {
        _cleanup_file_records_ struct file_records records = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = image_read(image, FILE_RECORD, &text, &size, &error);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return st_error_move(err, TAKE_PTR(error));
        r = file_records_from_json(text, size, &records, err);
        for (size_t i = 0; r >= 0 && i < records.n; i++)
                inspection->n_saved += file_record_has_content(&records.items[i]);
        inspection->n_recorded = records.n;
        return r;
}

/** What the plugin of its type says of it. */
static int read_summary(struct inspection *inspection, struct image *image, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = image_read(image, ST_SUMMARY_FILE, &text, &size, &error);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return st_error_move(err, TAKE_PTR(error));
        return inspect_summary_parse(inspection, text, size, err);
}

static int read_all(struct inspection *inspection, struct image *image, unsigned parts, struct st_error **err) {
        int r = read_images(inspection, image, parts, err);
        if (r >= 0)
                r = check_inventory(inspection, err);
        if (r >= 0)
                r = read_tasks(inspection, err);
        if (r >= 0)
                r = read_state(inspection, image, err);
        if (r >= 0)
                r = read_records(inspection, image, err);
        if (r >= 0)
                r = read_summary(inspection, image, err);
        if (r >= 0 && (parts & INSPECT_FILES))
                r = inspect_files(inspection, err);
        if (r >= 0 && (parts & INSPECT_MEMORY))
                r = inspect_memory(inspection, err);
        return r;
}

int inspect(const char *path, unsigned parts, struct inspection **ret, struct st_error **err) {
        _cleanup_(inspection_freep) struct inspection *inspection = NEW(struct inspection);
        _cleanup_(image_freep) struct image *image = NULL;
        struct stat st;
        int r = image_open(path, &image, err);
        if (r < 0)
                return r;
        inspection->path = xstrdup(path);
        inspection->format = image_get_format(image);
        inspection->verified = image_verified(image);
        inspection->size = inspection->stored = image_size(image);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
                inspection->stored = (uint64_t)st.st_size;
        inspection->n_ancestors = image_ancestor_count(image);
        inspection->ancestors = xcalloc(inspection->n_ancestors + 1, sizeof(char *));
        for (size_t i = 0; i < inspection->n_ancestors; i++)
                inspection->ancestors[i] = xstrdup(image_ancestor_path(image, i));
        r = read_all(inspection, image, parts, err);
        if (r < 0)
                return st_error_wrap(err, "cannot inspect %s", path);
        *ret = TAKE_PTR(inspection);
        return 0;
}

struct inspection *inspection_free(struct inspection *inspection) {
        if (!inspection)
                return NULL;
        for (size_t i = 0; i < inspection->n_tasks; i++)
                free(inspection->tasks[i].command);
        for (size_t i = 0; i < inspection->n_fds; i++) {
                free(inspection->fds[i].details);
                free(inspection->fds[i].mode);
        }
        for (size_t i = 0; i < inspection->n_sockets; i++) {
                free(inspection->sockets[i].local);
                free(inspection->sockets[i].remote);
        }
        for (size_t i = 0; i < inspection->n_areas; i++)
                free(inspection->areas[i].what);
        for (size_t i = 0; i < inspection->n_remarks; i++) {
                free(inspection->remarks[i].label);
                free(inspection->remarks[i].text);
        }
        for (size_t i = 0; i < inspection->n_ancestors; i++)
                free(inspection->ancestors[i]);
        free(inspection->ancestors);
        free(inspection->remarks);
        free(inspection->tasks);
        free(inspection->by_pid);
        free(inspection->fds);
        free(inspection->sockets);
        free(inspection->areas);
        free(inspection->path);
        free(inspection->version);
        free(inspection->criu_version);
        free(inspection->type);
        message_freep(&inspection->options);
        message_freep(&inspection->state);
        inspect_images_free(inspection->images);
        free(inspection);
        return NULL;
}
