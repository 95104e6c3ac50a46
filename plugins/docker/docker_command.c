/* SPDX-License-Identifier: Apache-2.0 */
#include "docker_command.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "docker_query.h"
#include "engine.h"

#define HOST_OPTION                                                                                         \
        {                                                                                                   \
                .flag = "host", .type = ST_OPTION_STRING, .value_name = "URL",                              \
                .help = "the engine, unix:///PATH or tcp://HOST:PORT; DOCKER_HOST, or " ENGINE_DEFAULT_HOST \
                        " when not given"                                                                   \
        }

static int no_memory(struct st_error **err) {
        return st_error_set(err, ENOMEM, "no memory for the request");
}

/* Sets a text of a request; NULL and "" leave it unset. */
static int set(char **field, const char *text, struct st_error **err) {
        if (!text || !*text)
                return 0;
        free(*field);
        *field = strdup(text);
        return *field ? 0 : no_memory(err);
}

/* The engine is named as the user's shell has it, not the daemon's. */
static int set_engine(char **host, char **cert_path, const struct st_arguments *arguments, struct st_error **err) {
        const char *named = st_arguments_string(arguments, "host"), *verify = getenv("DOCKER_TLS_VERIFY");
        int r = set(host, named && *named ? named : getenv("DOCKER_HOST"), err);

        if (r >= 0 && verify && *verify)
                r = set(cert_path, getenv("DOCKER_CERT_PATH"), err);
        return r;
}

static int make_details(Daemon__Details **details, Plugins__Docker__Docker **ret, struct st_error **err) {
        if (!*details) {
                *details = malloc(sizeof(**details));
                if (!*details)
                        return no_memory(err);
                daemon__details__init(*details);
        }
        if (!(*details)->docker) {
                (*details)->docker = malloc(sizeof(*(*details)->docker));
                if (!(*details)->docker)
                        return no_memory(err);
                plugins__docker__docker__init((*details)->docker);
        }
        *ret = (*details)->docker;
        return 0;
}

/* ID and engine, of all commands about one container. */
static int fill_container(const struct st_arguments *arguments, Daemon__Details **details, bool needed,
                          struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        Plugins__Docker__Docker *docker = NULL;
        int r;

        if (needed && !words[0])
                return st_error_set(err, EINVAL, "the ID or name of a container is missing");
        if (words[0] && words[1])
                return st_error_set(err, EINVAL, "one container at a time: %s is one too many", words[1]);
        r = words[0] ? engine_check_reference("container", words[0], err) : 0;
        if (r >= 0)
                r = make_details(details, &docker, err);
        if (r >= 0)
                r = set(&docker->id, words[0], err);
        if (r >= 0)
                r = set_engine(&docker->host, &docker->certpath, arguments, err);
        return r;
}

static int fill_freeze(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        return fill_container(arguments, &req->details, true, err);
}

static int fill_dump(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        int r = fill_container(arguments, &req->details, true, err);

        if (r >= 0 && st_arguments_bool(arguments, "fast"))
                req->details->docker->has_fast = req->details->docker->fast = 1;
        return r;
}

static int fill_restore(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        const char *name = st_arguments_string(arguments, "name");
        int r = fill_container(arguments, &req->details, false, err);

        if (r >= 0 && name && *name)
                r = engine_check_reference("container", name, err);
        if (r >= 0 && name && *name && req->details->docker->id)
                return st_error_set(err, EINVAL,
                                    "--name makes a new container, %s is one that exists: name one of them",
                                    req->details->docker->id);
        if (r >= 0 && st_arguments_bool(arguments, "fast"))
                req->details->docker->has_fast = req->details->docker->fast = 1;
        return r < 0 ? r : set(&req->details->docker->name, name, err);
}

/* The texts of a LIST option, or words. */
static int set_list(size_t *n, char ***field, const char *const *texts, struct st_error **err) {
        size_t count = 0;

        while (texts[count])
                count++;
        if (count == 0)
                return 0;
        *field = calloc(count, sizeof(**field));
        for (size_t i = 0; *field && i < count; i++) {
                int r = (((*field)[i] = strdup(texts[i]))) ? 0 : no_memory(err);
                if (r < 0)
                        return r;
                *n = i + 1;
        }
        return *field ? 0 : no_memory(err);
}

/* The container is called as the job is; where nobody has named either, both get a name. */
static int choose_name(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        const char *name = st_arguments_string(arguments, "name");
        char made[32];
        uint32_t number;
        int r = 0;

        if ((!name || !*name) && (!req->jid || !*req->jid)) {
                if (getrandom(&number, sizeof(number), 0) != sizeof(number))
                        return st_error_errno(err, errno, "cannot make up a name");
                snprintf(made, sizeof(made), "docker-%08x", number);
                r = set(&req->jid, made, err);
        }
        if (!name || !*name)
                name = req->jid;
        if (r >= 0)
                r = engine_check_reference("container", name, err);
        return r < 0 ? r : set(&req->details->docker->id, name, err);
}

static int fill_run(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        Plugins__Docker__Docker *docker = NULL;
        int r;

        if (!words[0])
                return st_error_set(err, EINVAL, "the IMAGE is missing");
        r = make_details(&req->details, &docker, err);
        if (r >= 0)
                r = choose_name(arguments, req, err);
        if (r >= 0)
                r = set(&docker->image, words[0], err);
        if (r >= 0)
                r = set_list(&docker->n_args, &docker->args, words + 1, err);
        if (r >= 0)
                r = set_list(&docker->n_env, &docker->env, st_arguments_list(arguments, "env"), err);
        if (r >= 0)
                r = set_list(&docker->n_volumes, &docker->volumes, st_arguments_list(arguments, "volume"), err);
        if (r >= 0)
                r = set(&docker->network, st_arguments_string(arguments, "network"), err);
        if (r >= 0)
                r = set(&docker->workingdir, st_arguments_string(arguments, "workdir"), err);
        return r < 0 ? r : set_engine(&docker->host, &docker->certpath, arguments, err);
}

static int fill_manage(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        return fill_container(arguments, &req->details, true, err);
}

static int fill_query(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        Plugins__Docker__QueryReq *docker = malloc(sizeof(*docker));
        size_t n = 0;

        if (!docker)
                return no_memory(err);
        plugins__docker__query_req__init(docker);
        req->docker = docker;
        while (words[n])
                n++;
        docker->ids = calloc(n + 1, sizeof(*docker->ids));
        if (!docker->ids)
                return no_memory(err);
        for (; *words; words++) {
                int r = engine_check_reference("container", *words, err);
                if (r >= 0)
                        r = set(&docker->ids[docker->n_ids], *words, err);
                if (r < 0)
                        return r;
                docker->n_ids++;
        }
        return set_engine(&docker->host, &docker->certpath, arguments, err);
}

static const struct st_option engine_options[] = { HOST_OPTION, ST_OPTION_END };

static const struct st_option dump_options[] = {
        HOST_OPTION,
        { .flag = "fast",
          .type = ST_OPTION_BOOL,
          .help = "call the engine's runc directly where that is possible: much faster, and else no different" },
        ST_OPTION_END,
};

static const struct st_option restore_options[] = {
        HOST_OPTION,
        { .flag = "name",
          .type = ST_OPTION_STRING,
          .value_name = "NAME",
          .help = "make a new container of that name from the saved configuration" },
        { .flag = "fast",
          .type = ST_OPTION_BOOL,
          .help = "let CRIU read the memory where it is instead of sending it through the engine: much faster" },
        ST_OPTION_END,
};

const struct st_dump_command docker_dump_command = {
        .command = { "docker", "ID|NAME", "Saves a Docker container: memory, changed files, configuration",
                     "dump docker web --dir /var/backups", dump_options },
        .fill = fill_dump,
};

const struct st_dump_command docker_freeze_command = {
        .command = { "docker", "ID|NAME", "Pauses a Docker container", "freeze docker web", engine_options },
        .fill = fill_freeze,
};

const struct st_dump_command docker_unfreeze_command = {
        .command = { "docker", "ID|NAME", "Lets a paused Docker container run again", "unfreeze docker web",
                     engine_options },
        .fill = fill_freeze,
};

const struct st_restore_command docker_restore_command = {
        .command = { "docker", "[ID|NAME]", "Restores a Docker container, where it was or as a new one",
                     "restore docker --name web2 --path /var/backups/web.stasis", restore_options },
        .fill = fill_restore,
};

static const struct st_option run_options[] = {
        HOST_OPTION,
        { .flag = "name",
          .type = ST_OPTION_STRING,
          .value_name = "NAME",
          .help = "name of the container; that of the job when not given" },
        { .flag = "env",
          .letter = 'e',
          .type = ST_OPTION_LIST,
          .value_name = "NAME=VALUE",
          .help = "a variable of its environment; may be repeated" },
        { .flag = "volume",
          .type = ST_OPTION_LIST,
          .value_name = "SOURCE:TARGET",
          .help = "a volume, or a directory of this machine, that it sees at TARGET; may be repeated" },
        { .flag = "network",
          .type = ST_OPTION_STRING,
          .value_name = "NETWORK",
          .help = "its network: bridge, host, none, container:NAME, or one of the engine's" },
        { .flag = "workdir",
          .letter = 'w',
          .type = ST_OPTION_STRING,
          .value_name = "DIR",
          .help = "its working directory; that of the image when not given" },
        ST_OPTION_END,
};

const struct st_option docker_follow_options[] = {
        HOST_OPTION,
        { .flag = "input", .type = ST_OPTION_BOOL, .help = "its standard input, too" },
        { .flag = "terminal", .type = ST_OPTION_BOOL, .help = "it has a terminal, and so have we" },
        { .flag = "sync",
          .type = ST_OPTION_INT,
          .value_name = "FD",
          .help = "a socket to whoever is about to start the container" },
        ST_OPTION_END,
};

const struct st_run_command docker_run_command = {
        .command = { "docker", "IMAGE [ARG…]", "Makes and starts a Docker container as a job",
                     "run docker --jid web --network host nginx:1.27", run_options },
        .fill = fill_run,
};

const struct st_run_command docker_manage_command = {
        .command = { "docker", "ID|NAME",
                     "Takes a Docker container over as a job: its end is noticed, but not its exit code",
                     "manage docker web", engine_options },
        .fill = fill_manage,
};

const struct st_query_command docker_query_command = {
        .command = { "docker", "[ID|NAME…]", "Shows Docker containers, and what would make a dump of them fail",
                     "query docker web", engine_options },
        .fill = fill_query,
        .print = docker_query_print,
};
