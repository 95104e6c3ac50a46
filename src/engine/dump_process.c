/* SPDX-License-Identifier: Apache-2.0 */

/* Adapters of the dump that look at the target: which process it is, and what its analysis means for CRIU's options. */

#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/chain.h"
#include "engine/dump_context.h"
#include "engine/job_cgroup.h"
#include "engine/operation.h"
#include "engine/state.h"
#include "process/locks.h"
#include "process/namespaces.h"
#include "process/proc.h"

int dump_find_pid(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const Daemon__Process *process = dump->req->details ? dump->req->details->process : NULL;

        if (!process && dump->req->details && !isempty(dump->req->details->jid))
                return st_error_set(err, EOPNOTSUPP, "only the daemon knows the job %s: name its process",
                                    dump->req->details->jid);
        if (!process || !process->has_pid || process->pid == 0 || process->pid > INT32_MAX)
                return st_error_set(err, EINVAL, "the request names no process: Details.Process.PID is missing");
        dump->pid = (pid_t)process->pid;
        if (dump->pid == 1)
                return st_error_set(
                        err, EINVAL,
                        "process 1 is the machine's init: it holds everything together and cannot be dumped");
        return st_dump_proceed(next, dump, err);
}

/** Processes that no tool can dump, each with its reason, before anything is touched. */
static int check_target(const struct process_analysis *analysis, pid_t pid, pid_t client, struct st_error **err) {
        const struct process_task *root = &analysis->tasks[0];

        if (analysis->kernel_thread)
                return st_error_set(err, EINVAL, "process %d (%s) is a kernel thread: it has no memory of its own", pid,
                                    root->command);
        if (root->state == 'Z' || root->state == 'X')
                return st_error_set(
                        err, ESRCH,
                        "process %d (%s) has ended already: it is a zombie, its parent %d has not reaped it yet", pid,
                        root->command, root->ppid);
        for (size_t i = 0; i < analysis->n_tasks; i++) {
                const struct process_task *task = &analysis->tasks[i];

                if (task->pid == getpid() || task->pid == client)
                        return st_error_set(err, EINVAL, "process %d is stasis itself, or an ancestor of it", pid);
                if (task->tracer) {
                        st_error_set(err, EBUSY, "process %d (%s) is traced by process %d", task->pid, task->command,
                                     task->tracer);
                        st_error_hint(err, "end the debugger or strace first: a process has one tracer at most");
                        return -EBUSY;
                }
        }
        return 0;
}

int dump_analyse(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        int r;

        if (dump->pid <= 0)
                return st_error_set(err, EINVAL, "the adapters of type %s found no process", dump->req->type);
        r = process_analyse(dump->pid, &context->analysis, err);
        if (r >= 0)
                r = check_target(context->analysis, dump->pid, operation_client(dump->operation), err);
        if (r >= 0)
                r = st_dump_proceed(next, dump, err);
        /* A type with a handler says itself what could not be dumped: its users know no PID. */
        if (r < 0 && !chain_has_feature(ST_FEATURE_dump_handler, dump->req->type))
                return st_error_wrap(err, "cannot dump process %d", dump->pid);
        return r;
}

/** Switches a boolean option on when the analysis asks for it, unless the caller set it or forced it off. */
static void detected(struct st_dump *dump, bool found, const char *option, protobuf_c_boolean *has,
                     protobuf_c_boolean *value) {
        if (!found || (*has && *value) || dump_forced_off(dump, option))
                return;
        *has = *value = 1;
}

int dump_fill_state(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        Daemon__ProcessState *state = NULL;
        int r;

        r = process_state_read(dump->pid, PROCESS_INSPECT | PROCESS_TREE | PROCESS_HOST, &state, err);
        if (r < 0)
                return r;
        message_freep(&dump->resp->state);
        dump->resp->state = dump->state = state;
        return st_dump_proceed(next, dump, err);
}

int dump_external_files(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const struct process_fds *pipes = &dump_context(dump)->analysis->external_pipes;
        bool job = operation_job(dump->operation); /* its restore knows what to put there */

        for (size_t i = 0; i < pipes->n && !job; i++)
                if (state_pipe_is_output(&pipes->items[i]))
                        st_dump_message(dump,
                                        "descriptor %d of process %d is a pipe to a process outside: "
                                        "its restore needs --out FILE or --attachable",
                                        pipes->items[i].fd, pipes->items[i].pid);
        return st_dump_proceed(next, dump, err);
}

int dump_file_locks(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        detected(dump, process_has_file_locks(dump->state), "file_locks", &dump->criu->has_file_locks,
                 &dump->criu->file_locks);
        return st_dump_proceed(next, dump, err);
}

/**
 * CRIU holds back the packets of dumped connections: by nftables where it can, for by iptables, its default, it runs a
 * program for each (frozen for 9 s instead of 0.1 s with 200 connections). Without connections not at all: it would
 * leave an empty table behind each --stop, until the restore.
 */
static void choose_network_lock(struct st_dump *dump, bool connections) {
        Criu__CriuOpts *criu = dump->criu;
        _cleanup_(criu_binary_freep) struct criu_binary *found = NULL;
        const struct criu_binary *binary = dump_context(dump)->criu;

        if (criu->has_network_lock)
                return;
        if (connections && !binary) { /* somebody else will run it */
                (void)criu_find(NULL, &found, NULL);
                binary = found;
        }
        if (connections && !(binary && binary->nftables))
                return;
        criu->has_network_lock = 1;
        criu->network_lock =
                connections ? CRIU__CRIU_NETWORK_LOCK_METHOD__NFTABLES : CRIU__CRIU_NETWORK_LOCK_METHOD__SKIP;
}

int dump_network(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const struct process_analysis *analysis = dump_context(dump)->analysis;
        Criu__CriuOpts *criu = dump->criu;

        /* tcp_close says what to do with connections, too: CRIU refuses both at once. */
        if (!(criu->has_tcp_close && criu->tcp_close))
                detected(dump, analysis->tcp_established, "tcp_established", &criu->has_tcp_established,
                         &criu->tcp_established);
        detected(dump, analysis->ext_unix, "ext_unix_sk", &criu->has_ext_unix_sk, &criu->ext_unix_sk);
        choose_network_lock(dump, analysis->tcp_established);
        return st_dump_proceed(next, dump, err);
}

/** The cgroup of a job, if it is the only one that differs, is the restore's: it puts the job into one again. */
static bool has_own_cgroups(const struct process_analysis *analysis) {
        bool own = false;

        if (!analysis->own_cgroups || namespaces_differ(analysis->tasks[0].pid, "cgroup"))
                return analysis->own_cgroups;
        for (size_t i = 0; i < analysis->n_tasks && !own; i++)
                own = !job_cgroup_is_all(analysis->tasks[i].pid);
        return own;
}

/**
 * Of CRIU.ManageCgroups "auto": a tree in cgroups of its own comes back to them (made again when they are gone), as
 * plain CRIU does it; otherwise CRIU is spared the look at them. A frozen target's cgroup is the freezer's affair: a
 * restore into it would stop halfway.
 */
int dump_cgroups(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        Criu__CriuOpts *criu = dump->criu;
        bool keep = has_own_cgroups(dump_context(dump)->analysis) && isempty(criu->freeze_cgroup);

        if (!criu->has_manage_cgroups_mode && !(criu->has_manage_cgroups && criu->manage_cgroups)) {
                criu->has_manage_cgroups_mode = 1;
                criu->manage_cgroups_mode = keep ? CRIU__CRIU_CG_MODE__SOFT : CRIU__CRIU_CG_MODE__IGNORE;
        }
        return st_dump_proceed(next, dump, err);
}

int dump_save_state(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);

        context->state = state_to_json(dump, context->analysis, &context->terminals,
                                       context->criu ? context->criu->version : NULL);
        return st_dump_proceed(next, dump, err);
}

int dump_check_criu(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        const char *configured = st_arguments_string(st_operation_config(dump->operation), "CRIU.BinaryPath");
        int r;

        r = criu_find(configured, &context->criu, err);
        if (r < 0)
                return r;
        return st_dump_proceed(next, dump, err);
}
