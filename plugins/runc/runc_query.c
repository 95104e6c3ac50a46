/* SPDX-License-Identifier: Apache-2.0 */

/* Which containers there are; and removing one, when its job is deleted. */

#include <dirent.h>
#include <stdio.h>

#include "runc.h"

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/** The names of all containers in a root; none when there is no such directory. */
static int list_ids(const char *root, struct util_list *ids, struct st_error **err) {
        DIR *directory = opendir(root);
        struct dirent *entry;

        if (!directory)
                return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot read %s", root);
        while ((entry = readdir(directory)))
                if (runc_check_id(entry->d_name, NULL) >= 0)
                        util_list_add(ids, entry->d_name);
        closedir(directory);
        if (ids->n > 0)
                qsort(ids->items, ids->n, sizeof(*ids->items), compare);
        return 0;
}

static int add_container(Plugins__Runc__QueryResp *answer, const struct runc_container *container) {
        Plugins__Runc__Runc *item = malloc(sizeof(*item)), **items;

        items = realloc(answer->containers, (answer->n_containers + 1) * sizeof(Plugins__Runc__Runc *));
        if (items)
                answer->containers = items;
        if (!item || !items) {
                free(item);
                return -ENOMEM;
        }
        plugins__runc__runc__init(item);
        item->id = util_strdup(container->id);
        item->bundle = util_strdup(container->bundle);
        item->root = util_strdup(container->root);
        item->has_pid = 1;
        item->pid = (uint32_t)container->pid;
        item->status = util_strdup(runc_status_name(container->status));
        answer->containers[answer->n_containers++] = item;
        return 0;
}

static int add_message(Daemon__QueryResp *resp, const char *text) {
        char **messages = realloc(resp->messages, (resp->n_messages + 1) * sizeof(*messages));

        if (!messages)
                return -ENOMEM;
        resp->messages = messages;
        messages[resp->n_messages++] = util_strdup(text);
        return 0;
}

int runc_query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
               struct st_error **err) {
        const Plugins__Runc__QueryReq *query = req->runc;
        _cleanup_free_ char *root = runc_root(query ? query->root : NULL, NULL);
        _cleanup_list_ struct util_list ids = { 0 };
        Plugins__Runc__QueryResp *answer = malloc(sizeof(*answer));
        bool named = query && query->n_ids > 0;
        int r = 0;

        if (!answer)
                return st_error_set(err, ENOMEM, "no memory for the answer");
        plugins__runc__query_resp__init(answer);
        resp->runc = answer;
        for (size_t i = 0; named && i < query->n_ids; i++)
                util_list_add(&ids, query->ids[i]);
        if (!named)
                r = list_ids(root, &ids, err);
        for (size_t i = 0; i < ids.n && r >= 0; i++) {
                _cleanup_container_ struct runc_container container = { 0 };
                _cleanup_error_ struct st_error *error = NULL;

                r = st_operation_check_cancelled(operation, err);
                if (r < 0)
                        break;
                r = runc_container_load(root, ids.items[i], &container, &error);
                if (r >= 0)
                        r = add_container(answer, &container);
                else if (!named || ids.n > 1) /* of several, those that there are */
                        r = r == -ENOENT && !named ? 0 : add_message(resp, st_error_message(error));
                else
                        return st_error_move(err, TAKE_PTR(error));
                if (r < 0)
                        return st_error_set(err, ENOMEM, "no memory for the answer");
        }
        if (r >= 0 && named && answer->n_containers == 0)
                return st_error_set(err, ENOENT, "%s", resp->n_messages ? resp->messages[0] : "there is none of them");
        return r;
}

int runc_print_query(const struct st_arguments *arguments, const Daemon__QueryResp *resp, struct st_error **err) {
        static const char *const titles[] = { "ID", "PID", "STATUS" };
        size_t n = resp->runc ? resp->runc->n_containers : 0;
        int widths[] = { (int)strlen(titles[0]), (int)strlen(titles[1]), (int)strlen(titles[2]) };

        (void)arguments;
        for (size_t i = 0; i < n; i++) {
                const Plugins__Runc__Runc *item = resp->runc->containers[i];
                const int needed[] = { (int)strlen(item->id ?: ""), snprintf(NULL, 0, "%u", item->pid),
                                       (int)strlen(item->status ?: "") };

                for (size_t k = 0; k < ELEMENTSOF(widths); k++)
                        widths[k] = needed[k] > widths[k] ? needed[k] : widths[k];
        }
        printf("%-*s  %*s  %-*s  BUNDLE\n", widths[0], titles[0], widths[1], titles[1], widths[2], titles[2]);
        for (size_t i = 0; i < n; i++) {
                const Plugins__Runc__Runc *item = resp->runc->containers[i];

                printf("%-*s  %*u  %-*s  %s\n", widths[0], item->id ?: "", widths[1], item->pid, widths[2],
                       item->status ?: "", item->bundle ?: "");
        }
        return ferror(stdout) ? st_error_set(err, EIO, "cannot write to the standard output") : 0;
}

int runc_cleanup(const Daemon__Details *details, struct st_error **err) {
        const Plugins__Runc__Runc *runc = details ? details->runc : NULL;
        _cleanup_container_ struct runc_container container = { 0 };
        _cleanup_free_ char *root = NULL;
        int r;

        /* One without a bundle was only taken over: whoever started it removes it. */
        if (!runc || isempty(runc->id) || isempty(runc->bundle))
                return 0;
        r = runc_check_id(runc->id, err);
        if (r < 0)
                return r;
        root = runc_root(runc->root, runc->workingdir);
        if (!runc_exists(root, runc->id))
                return 0;
        r = runc_container_load(root, runc->id, &container, err);
        if (r >= 0 && container.status != RUNC_STOPPED) {
                st_log_info("container %s is %s: it is left alone", runc->id, runc_status_name(container.status));
                return 0;
        }
        if (r >= 0)
                r = runc_remove(root, runc->id, false, err);
        return r < 0 ? st_error_wrap(err, "cannot remove container %s", runc->id) : 0;
}
