/* SPDX-License-Identifier: Apache-2.0 */

/* From flags to requests: what is sent, and what is left to the daemon. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/options.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/dump.h"
#include "cli/line.h"
#include "cli/manage.h"
#include "cli/query.h"
#include "cli/request.h"
#include "cli/restore.h"
#include "cli/run.h"
#include "engine/settings.h"

#define ARGV(...) ((char *const *)(const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

/* Flags over defaults and environment, as the command line has them; no file is read. */
static struct st_arguments *parse(char *const *argv, struct line *line) {
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };
        struct st_arguments *arguments = NULL;
        struct st_error *err = NULL;

        assert_int_equal(line_parse(argv, line, NULL), 0);
        assert_non_null(line->type);
        line_tables(line, &tables);
        assert_int_equal(settings_load(&tables, "/nonexistent", &arguments, NULL), 0);
        if (arguments_parse(arguments, line_arguments(line), SIZE_MAX, &err) < 0)
                fail_msg("%s", st_error_message(err));
        return arguments;
}

static void expect_refusal(int r, struct st_error *err, const char *refusal) {
        assert_int_equal(r, refusal ? -EINVAL : 0);
        if (refusal)
                assert_non_null(strstr(st_error_message(err), refusal));
}

/* @return the request, or NULL when it is refused with a message that has `refusal` in it */
static Daemon__DumpReq *dump(char *const *argv, const char *refusal) {
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *arguments = parse(argv, &line);
        _cleanup_error_ struct st_error *err = NULL;
        Daemon__DumpReq *req = NULL;
        int r = dump_request((const struct st_dump_command *)line.type, arguments, &req, &err);

        expect_refusal(r, err, refusal);
        return req;
}

static Daemon__RestoreReq *restore(char *const *argv, const char *refusal) {
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *arguments = parse(argv, &line);
        _cleanup_error_ struct st_error *err = NULL;
        Daemon__RestoreReq *req = NULL;
        int r = restore_request((const struct st_restore_command *)line.type, arguments, &req, &err);

        expect_refusal(r, err, refusal);
        return req;
}

static Daemon__RunReq *run_of(char *const *argv, const char *refusal) {
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *arguments = parse(argv, &line);
        const struct st_run_command *type = (const struct st_run_command *)line.type;
        _cleanup_error_ struct st_error *err = NULL;
        Daemon__RunReq *req = NULL;
        int r = line.command == &command_run ? run_request(type, arguments, &req, &err)
                                             : manage_request(type, arguments, &req, &err);

        if (!refusal && r < 0)
                fail_msg("%s", st_error_message(err));
        if (refusal) {
                assert_true(r < 0);
                if (!strstr(st_error_message(err), refusal))
                        fail_msg("'%s' does not say '%s'", st_error_message(err), refusal);
        }
        return req;
}

static void a_run_has_what_the_caller_has(void **state) {
        _cleanup_(message_freep) Daemon__RunReq *req =
                run_of(ARGV("run", "process", "--jid", "a", "sh", "-c", "exit 3"), NULL);
        _cleanup_free_ char *here = path_absolute(".");
        mode_t mask = umask(0);

        (void)state;
        (void)umask(mask);
        assert_string_equal(req->type, "process");
        assert_string_equal(req->jid, "a");
        assert_true(text_ends_with(req->details->process->path, "/sh") && req->details->process->path[0] == '/');
        assert_int_equal(req->details->process->n_args, 2);
        assert_string_equal(req->details->process->args[1], "exit 3");
        assert_string_equal(req->details->process->workingdir, here);
        assert_int_equal(req->umask, mask);
        assert_true(req->has_uid && req->uid == geteuid() && req->has_gid && req->gid == getegid());
        assert_true(req->n_env > 0 && req->n_limits >= 16);
        assert_int_equal(req->limits[7]->resource, RLIMIT_NOFILE);
        assert_false(req->attachable || req->waitfirstmaster || req->init || req->policy);
        assert_true(isempty(req->log) && isempty(req->pidfile));
}

static void a_run_says_what_was_given(void **state) {
        _cleanup_(message_freep) Daemon__RunReq *attach = run_of(
                ARGV("run", "process", "-a", "--as-root", "--init", "-o", "/o", "--pid-file", "/p", "/bin/sh"), NULL);
        _cleanup_(message_freep) Daemon__RunReq *attachable =
                run_of(ARGV("run", "process", "--attachable", "/bin/sh"), NULL);
        _cleanup_(message_freep) Daemon__RunReq *local =
                run_of(ARGV("run", "process", "--attach", "--no-server", "/bin/sh"), NULL);

        (void)state;
        assert_true(attach->attachable && attach->waitfirstmaster && attach->init);
        assert_true(attach->uid == 0 && attach->gid == 0 && attach->n_groups == 1 && attach->groups[0] == 0);
        assert_string_equal(attach->log, "/o");
        assert_string_equal(attach->pidfile, "/p");
        assert_true(attachable->attachable && !attachable->waitfirstmaster);
        assert_false(local->attachable || local->waitfirstmaster);

        assert_null(run_of(ARGV("run", "process"), "PATH is missing"));
        assert_null(run_of(ARGV("run", "process", "no-such-command-at-all"), "there is no such command"));
        assert_null(run_of(ARGV("run", "process", "/etc"), "it is a directory"));
        assert_null(run_of(ARGV("run", "process", "/etc/passwd"), "it is not executable"));
        assert_null(run_of(ARGV("run", "process", "--attach", "--json", "ls"), "contradict"));
        assert_null(run_of(ARGV("run", "process", "--detach-keys", "ctrl-", "ls"), "--detach-keys"));
}

static void a_process_is_managed_by_its_pid(void **state) {
        _cleanup_(message_freep) Daemon__RunReq *req = run_of(ARGV("manage", "process", "42", "-j", "db"), NULL);

        (void)state;
        assert_int_equal(req->action, DAEMON__RUN_ACTION__MANAGE_EXISTING);
        assert_int_equal(req->details->process->pid, 42);
        assert_string_equal(req->jid, "db");
        assert_null(run_of(ARGV("manage", "process", "42", "--upcoming"), "no PID to wait for"));
        assert_null(run_of(ARGV("manage", "process"), "PID is missing"));
}

static void jobs_are_named_by_their_jid(void **state) {
        _cleanup_(message_freep) Daemon__DumpReq *dumped =
                dump(ARGV("dump", "job", "calm-otter", "--allow-orphans"), NULL);
        _cleanup_(message_freep) Daemon__RestoreReq *restored = restore(ARGV("restore", "job", "calm-otter"), NULL);
        _cleanup_(message_freep) Daemon__RestoreReq *attached =
                restore(ARGV("restore", "job", "calm-otter", "-a", "-p", "/x"), NULL);
        _cleanup_(message_freep) Daemon__RestoreReq *logged =
                restore(ARGV("restore", "job", "calm-otter", "--attachable=false", "--out", "/o"), NULL);

        (void)state;
        assert_string_equal(dumped->type, "job");
        assert_string_equal(dumped->details->jid, "calm-otter");
        assert_true(dumped->alloworphans);
        assert_string_equal(restored->details->jid, "calm-otter");
        assert_true(isempty(restored->path));
        assert_false(restored->has_attachable || restored->waitfirstmaster); /* as it was */
        assert_true(attached->attachable && attached->waitfirstmaster);
        assert_string_equal(attached->path, "/x");
        assert_true(logged->has_attachable && !logged->attachable);
        assert_string_equal(logged->log, "/o");

        assert_null(dump(ARGV("dump", "job"), "JID is missing"));
        assert_null(dump(ARGV("dump", "job", "a", "b"), "unexpected argument 'b'"));
        assert_null(dump(ARGV("dump", "job", "a", "--no-server"), "only the daemon knows jobs"));
        assert_null(restore(ARGV("restore", "job", "a", "--no-server"), "only the daemon knows jobs"));
        assert_null(restore(ARGV("restore", "job", "a", "--attach", "--check"), "contradict"));
}

static void a_plain_dump_decides_nothing(void **state) {
        _cleanup_(message_freep) Daemon__DumpReq *req = dump(ARGV("dump", "process", "42"), NULL);

        (void)state;
        assert_string_equal(req->type, "process");
        assert_int_equal(req->details->process->pid, 42);
        assert_true(isempty(req->dir) && isempty(req->name) && isempty(req->compression));
        assert_null(req->criu);
        assert_int_equal(req->n_off, 0);
}

static void a_dump_says_what_was_given(void **state) {
        _cleanup_(message_freep) Daemon__DumpReq *req =
                dump(ARGV("dump", "--dir", "some/dir/../where", "process", "42", "--name=n", "--compression", "none",
                          "--external", "mnt[/x]:x", "--external", "file[1:2]", "--skip-in-flight", "--link-remap"),
                     NULL);
        _cleanup_free_ char *dir = path_absolute("some/dir/../where");

        (void)state;
        assert_string_equal(req->dir, dir);
        assert_string_equal(req->name, "n");
        assert_string_equal(req->compression, "none");
        assert_int_equal(req->criu->n_external, 2);
        assert_string_equal(req->criu->external[1], "file[1:2]");
        assert_true(req->criu->has_tcp_skip_in_flight && req->criu->tcp_skip_in_flight);
        assert_true(req->criu->has_link_remap && req->criu->link_remap);
        assert_false(req->criu->has_leave_running || req->criu->has_shell_job || req->criu->has_file_locks);
}

static void a_url_stays_as_it_is(void **state) {
        _cleanup_(message_freep) Daemon__DumpReq *req =
                dump(ARGV("dump", "process", "42", "-d", "s3://bucket/key"), NULL);

        (void)state;
        assert_string_equal(req->dir, "s3://bucket/key");
}

static void the_environment_counts_as_said(void **state) {
        (void)state;
        setenv("STASIS_CHECKPOINT_DIR", "/from/environment", 1);
        setenv("STASIS_CRIU_LEAVE_RUNNING", "false", 1);
        _cleanup_(message_freep) Daemon__DumpReq *req = dump(ARGV("dump", "process", "42"), NULL);
        unsetenv("STASIS_CHECKPOINT_DIR");
        unsetenv("STASIS_CRIU_LEAVE_RUNNING");

        assert_string_equal(req->dir, "/from/environment");
        assert_null(req->criu); /* leave_running is sent only for a flag */
}

static void leave_running_is_sent_for_flags(void **state) {
        static const struct {
                const char *flag;
                bool leave;
        } cases[] = {
                { "--stop", false },
                { "--stop=false", true },
                { "--leave-running", true },
                { "--leave-running=true", true },
                { "--leave-running=false", false },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(message_freep) Daemon__DumpReq *req =
                        dump(ARGV("dump", "process", "42", cases[i].flag), NULL);

                assert_true(req->criu->has_leave_running);
                assert_int_equal(req->criu->leave_running, cases[i].leave);
                assert_int_equal(req->n_off, 0);
        }
        assert_null(dump(ARGV("dump", "process", "42", "--stop", "--leave-running"), "contradict"));
        assert_null(dump(ARGV("dump", "process", "42", "--stop=no", "--leave-running=no"), "contradict"));
        _cleanup_(message_freep) Daemon__DumpReq *both =
                dump(ARGV("dump", "process", "42", "--stop", "--leave-running=false"), NULL);
        assert_false(both->criu->leave_running);
}

static bool is_off(const Daemon__DumpReq *req, const char *field) {
        for (size_t i = 0; i < req->n_off; i++)
                if (streq(req->off[i], field))
                        return true;
        return false;
}

static void false_goes_into_the_off_list(void **state) {
        _cleanup_(message_freep) Daemon__DumpReq *req =
                dump(ARGV("dump", "process", "42", "--tcp-established=false", "--shell-job=no", "--file-locks"), NULL);
        _cleanup_(message_freep) Daemon__RestoreReq *restored =
                restore(ARGV("restore", "process", "-p", "/x", "--shell-job=false", "--leave-stopped"), NULL);

        (void)state;
        assert_int_equal(req->n_off, 2);
        assert_true(is_off(req, "tcp_established") && is_off(req, "shell_job"));
        assert_true(req->criu->file_locks);
        assert_false(req->criu->tcp_established || req->criu->shell_job);

        assert_int_equal(restored->n_off, 1);
        assert_string_equal(restored->off[0], "shell_job");
        assert_true(restored->criu->has_leave_stopped && restored->criu->leave_stopped);
}

static void criu_opts_and_flags_go_together(void **state) {
        static const char opts[] = "{\"ghost_limit\": 7, \"tcp_established\": false, \"ext_unix_sk\": false,"
                                   " \"leave_running\": false}";
        _cleanup_(message_freep) Daemon__DumpReq *req =
                dump(ARGV("dump", "process", "42", "--criu-opts", opts, "--tcp-established"), NULL);

        (void)state;
        assert_int_equal(req->criu->ghost_limit, 7);
        assert_true(req->criu->tcp_established); /* the flag wins */
        assert_int_equal(req->n_off, 1);
        assert_string_equal(req->off[0], "ext_unix_sk");
        assert_true(req->criu->has_leave_running && !req->criu->leave_running);

        assert_null(dump(ARGV("dump", "process", "42", "--criu-opts", "{\"ghost_limt\": 7}"), "ghost_limt"));
        assert_null(dump(ARGV("dump", "process", "42", "--criu-opts", "no json"), "--criu-opts"));
}

static void a_dump_needs_one_pid(void **state) {
        (void)state;
        assert_null(dump(ARGV("dump", "process", "abc"), "not a PID: abc"));
        assert_null(dump(ARGV("dump", "process", "0"), "not a PID: 0"));
        assert_null(dump(ARGV("dump", "process", "99999999999"), "not a PID"));
        assert_null(dump(ARGV("dump", "process"), "missing"));
        assert_null(dump(ARGV("dump", "process", "1", "2"), "unexpected argument '2'"));
}

static void a_restore_says_what_was_given(void **state) {
        _cleanup_(message_freep) Daemon__RestoreReq *req = restore(
                ARGV("restore", "process", "--path", "a.tar.zst", "--pid-file=p", "-o", "/out", "--tcp-close"), NULL);
        _cleanup_free_ char *path = path_absolute("a.tar.zst"), *pid_file = path_absolute("p");

        (void)state;
        assert_string_equal(req->type, "process");
        assert_string_equal(req->path, path);
        assert_string_equal(req->pidfile, pid_file);
        assert_string_equal(req->log, "/out");
        assert_true(req->criu->tcp_close);
        assert_false(req->has_uid || req->has_gid); /* who asks is the kernel's to say */

        assert_null(restore(ARGV("restore", "process"), "--path"));
        assert_null(restore(ARGV("restore", "process", "/x", "-p", "/y"), "unexpected argument '/x'"));
        assert_null(restore(ARGV("restore", "process", "-p", "/y", "--tcp-close", "--tcp-established"), "contradict"));
}

static void a_query_has_many_pids(void **state) {
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *arguments =
                parse(ARGV("query", "process", "7", "-t", "8", "--json"), &line);
        _cleanup_(message_freep) Daemon__QueryReq *req = NULL;

        (void)state;
        assert_int_equal(query_request((const struct st_query_command *)line.type, arguments, &req, NULL), 0);
        assert_string_equal(req->type, "process");
        assert_true(req->tree);
        assert_int_equal(req->n_pids, 2);
        assert_int_equal(req->pids[0], 7);
        assert_int_equal(req->pids[1], 8);
}

static void targets_have_a_name(void **state) {
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *arguments = parse(ARGV("dump", "process", "42"), &line);
        _cleanup_free_ char *target = request_target("process", arguments);

        (void)state;
        assert_string_equal(target, "process 42");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_run_has_what_the_caller_has),
                cmocka_unit_test(a_run_says_what_was_given),
                cmocka_unit_test(a_process_is_managed_by_its_pid),
                cmocka_unit_test(jobs_are_named_by_their_jid),
                cmocka_unit_test(a_plain_dump_decides_nothing),
                cmocka_unit_test(a_dump_says_what_was_given),
                cmocka_unit_test(a_url_stays_as_it_is),
                cmocka_unit_test(the_environment_counts_as_said),
                cmocka_unit_test(leave_running_is_sent_for_flags),
                cmocka_unit_test(false_goes_into_the_off_list),
                cmocka_unit_test(criu_opts_and_flags_go_together),
                cmocka_unit_test(a_dump_needs_one_pid),
                cmocka_unit_test(a_restore_says_what_was_given),
                cmocka_unit_test(a_query_has_many_pids),
                cmocka_unit_test(targets_have_a_name),
        };

        unsetenv("STASIS_CHECKPOINT_DIR");
        unsetenv("STASIS_CRIU_LEAVE_RUNNING");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
