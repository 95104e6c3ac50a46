/* SPDX-License-Identifier: Apache-2.0 */

/* From the command line to the details of a request. */

#include <limits.h>
#include <sys/random.h>

#include "runc_run.h"

/** The directory that relative paths of the request mean. */
static char *here(void) {
        char path[PATH_MAX];

        return util_strdup(getcwd(path, sizeof(path)) ?: "/");
}

static void take_text(char **field, const struct st_arguments *arguments, const char *flag) {
        const char *text = st_arguments_string(arguments, flag);

        if (isempty(text))
                return;
        free(*field);
        *field = util_strdup(text);
}

static void take_bool(protobuf_c_boolean *has, protobuf_c_boolean *field, const struct st_arguments *arguments,
                      const char *flag) {
        if (st_arguments_bool(arguments, flag))
                *has = *field = 1;
}

static Plugins__Runc__Runc *details_of(Daemon__Details **details) {
        if (!*details) {
                *details = malloc(sizeof(**details));
                if (!*details)
                        return NULL;
                daemon__details__init(*details);
        }
        if (!(*details)->runc) {
                Plugins__Runc__Runc *runc = malloc(sizeof(*runc));
                if (!runc)
                        return NULL;
                plugins__runc__runc__init(runc);
                runc->workingdir = here();
                (*details)->runc = runc;
        }
        return (*details)->runc;
}

/** What the program itself is told. */
static void take_program(Plugins__Runc__Runc *runc, const struct st_arguments *arguments) {
        take_text(&runc->root, arguments, "root");
        take_text(&runc->rootless, arguments, "rootless");
        take_text(&runc->log, arguments, "log");
        take_text(&runc->logformat, arguments, "log-format");
        take_bool(&runc->has_nopivot, &runc->nopivot, arguments, "no-pivot");
        take_bool(&runc->has_nosubreaper, &runc->nosubreaper, arguments, "no-subreaper");
        take_bool(&runc->has_nonewkeyring, &runc->nonewkeyring, arguments, "no-new-keyring");
        take_bool(&runc->has_systemdcgroup, &runc->systemdcgroup, arguments, "systemd-cgroup");
}

/** The one container that is named. */
static int fill_container(const struct st_arguments *arguments, Daemon__Details **details, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        Plugins__Runc__Runc *runc;
        int r;

        if (!words[0] || words[1])
                return words[0] ? st_error_set(err, EINVAL, "unexpected argument '%s'", words[1])
                                : st_error_set(err, EINVAL, "the ID of a container is missing");
        r = runc_check_id(words[0], err);
        if (r < 0)
                return r;
        runc = details_of(details);
        if (!runc)
                return st_error_set(err, ENOMEM, "no memory for the request");
        runc->id = util_strdup(words[0]);
        take_text(&runc->root, arguments, "root");
        return 0;
}

int runc_fill_dump(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        return fill_container(arguments, &req->details, err);
}

int runc_fill_restore(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        const char *word = st_arguments_words(arguments)[0], *id = st_arguments_string(arguments, "id");
        Plugins__Runc__Runc *runc;
        int r;

        if (word) {
                st_error_set(err, EINVAL, "restore %s: unexpected argument '%s'", runc_engine.name, word);
                st_error_hint(err, "a checkpoint is named with --path, the container with --id");
                return -EINVAL;
        }
        if (isempty(req->path)) {
                st_error_set(err, EINVAL, "restore %s: no checkpoint is named", runc_engine.name);
                st_error_hint(err, "name one with --path");
                return -EINVAL;
        }
        r = id ? runc_check_id(id, err) : 0;
        if (r < 0)
                return r;
        runc = details_of(&req->details);
        if (!runc)
                return st_error_set(err, ENOMEM, "no memory for the request");
        take_text(&runc->id, arguments, "id");
        take_text(&runc->bundle, arguments, "bundle");
        take_text(&runc->consolesocket, arguments, "console-socket");
        take_bool(&runc->has_detach, &runc->detach, arguments, "detach");
        take_program(runc, arguments);
        return 0;
}

/** The container is called as the job is; where nobody has named either, both get a name. */
static char *choose_id(Daemon__RunReq *req) {
        uint32_t number;

        if (isempty(req->jid) && getrandom(&number, sizeof(number), 0) == sizeof(number)) {
                free(req->jid);
                req->jid = util_printf("%s-%08x", runc_engine.name, number);
        }
        return util_strdup(req->jid ?: "");
}

int runc_fill_run(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments), *bundle = st_arguments_string(arguments, "bundle");
        Plugins__Runc__Runc *runc;

        if (words[0] && words[1])
                return st_error_set(err, EINVAL, "unexpected argument '%s'", words[1]);
        if (st_arguments_bool(arguments, "detach"))
                return st_error_set(err, EINVAL,
                                    "--detach is not needed: a job is in the background unless --attach "
                                    "says otherwise");
        runc = details_of(&req->details);
        if (!runc)
                return st_error_set(err, ENOMEM, "no memory for the request");
        runc->id = words[0] ? util_strdup(words[0]) : choose_id(req);
        runc->bundle = util_absolute(isempty(bundle) ? "." : bundle, runc->workingdir);
        take_program(runc, arguments);
        return runc_check_id(runc->id, err);
}

int runc_fill_manage(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        return fill_container(arguments, &req->details, err);
}

int runc_fill_query(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments), *root = st_arguments_string(arguments, "root");
        Plugins__Runc__QueryReq *query = malloc(sizeof(*query));

        if (!query)
                return st_error_set(err, ENOMEM, "no memory for the request");
        plugins__runc__query_req__init(query);
        req->runc = query;
        if (!isempty(root)) { /* the query has no working directory of its own */
                _cleanup_free_ char *directory = here();
                query->root = util_absolute(root, directory);
        }
        for (; *words; words++) {
                int r = runc_check_id(*words, err);

                if (r < 0)
                        return r;
                char **ids = realloc(query->ids, (query->n_ids + 1) * sizeof(*ids));
                if (!ids)
                        return st_error_set(err, ENOMEM, "no memory for the request");
                query->ids = ids;
                ids[query->n_ids++] = util_strdup(*words);
        }
        return 0;
}
