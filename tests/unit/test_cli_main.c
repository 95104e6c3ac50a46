/* SPDX-License-Identifier: Apache-2.0 */

/* Whole invocations, each in a child: exit codes, and what goes to stdout and to stderr. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli.h"

static char directory[] = "/tmp/test-cli-main-XXXXXX";

struct result {
        int code;
        char *out, *err;
};

static void result_clear(struct result *result) {
        free(result->out);
        free(result->err);
}

static char *take_file(FILE *f) {
        char *text = xcalloc(1, 64 * 1024);

        rewind(f);
        (void)!fread(text, 1, 64 * 1024 - 1, f);
        return text;
}

static struct result run(const char *line) {
        _cleanup_strv_ struct strv argv = { 0 };
        _cleanup_fclose_ FILE *out = tmpfile(), *err = tmpfile();
        int status;

        assert_true(out && err);
        strv_add(&argv, "stasis");
        strv_split(&argv, line, ' ');

        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(fileno(out), STDOUT_FILENO);
                dup2(fileno(err), STDERR_FILENO);
                int code = cli_main((int)argv.n, argv.items);
                fflush(NULL);
                _exit(code);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return (struct result){ WEXITSTATUS(status), take_file(out), take_file(err) };
}

static void assert_run(const char *line, int code, const char *out, const char *err) {
        _cleanup_(result_clear) struct result result = run(line);

        if (result.code != code || !strstr(result.out, out) || !strstr(result.err, err))
                fail_msg("stasis %s: exit code %d, stdout '%s', stderr '%s'", line, result.code, result.out,
                         result.err);
        if (!*out)
                assert_string_equal(result.out, "");
        if (!*err)
                assert_string_equal(result.err, "");
}

static void success_is_zero(void **state) {
        (void)state;
        assert_run("--help", EXIT_OK, "Usage: stasis", "");
        assert_run("version", EXIT_OK, "stasis ", "");
        assert_run("-v", EXIT_OK, "stasis ", "");
        assert_run("dump -v", EXIT_OK, "stasis ", "");
        assert_run("dump process --help", EXIT_OK, "Usage: stasis dump process PID", "");
        assert_run("help dump process", EXIT_OK, "Usage: stasis dump process PID", "");
        assert_run("help", EXIT_OK, "Commands:", "");
        assert_run("config show", EXIT_OK, "Checkpoint.Dir", "");
        assert_run("config show --origin --dir=/x", EXIT_USAGE, "", "unknown flag --dir");
}

static void usage_is_two(void **state) {
        (void)state;
        assert_run("", EXIT_USAGE, "", "stasis: error: no command");
        assert_run("nonsense", EXIT_USAGE, "", "stasis: error: unknown command 'nonsense'");
        assert_run("dump", EXIT_USAGE, "", "the type is missing");
        assert_run("daemon", EXIT_USAGE, "", "the command is missing");
        assert_run("help nonsense", EXIT_USAGE, "", "unknown command");
        assert_run("dump process", EXIT_USAGE, "", "PID is missing");
        assert_run("dump process abc", EXIT_USAGE, "", "not a PID: abc");
        assert_run("dump process 42 --gpu-enabled", EXIT_USAGE, "", "unknown flag --gpu-enabled");
        assert_run("dump process 42 --compression rar", EXIT_USAGE, "", "--compression");
        assert_run("restore process", EXIT_USAGE, "", "--path");
        assert_run("version 1", EXIT_USAGE, "", "unexpected argument '1'");
        assert_run("config show --config {\"Nonsense\":1}", EXIT_USAGE, "", "unknown key Nonsense");
        assert_run("query process 1 --protocol=udp", EXIT_USAGE, "", "--protocol");
}

static void failure_is_one(void **state) {
        (void)state;
        assert_run("daemon status", EXIT_FAILED, "", "no daemon is running");
        assert_run("daemon stop", EXIT_FAILED, "", "no daemon is running");
        assert_run("dump process 42", EXIT_FAILED, "", "stasis: error: ");
        assert_run("dump process 42 --result-file /nonexistent/x", EXIT_FAILED, "", "/nonexistent/x");
        assert_run("restore process -p /nonexistent", EXIT_FAILED, "", "stasis: error: ");
}

static void a_broken_configuration_does_not_hide_the_help(void **state) {
        _cleanup_free_ char *path = xasprintf("%s/config.json", directory);

        (void)state;
        assert_int_equal(io_replace_file(path, "{", 1, 0600, false), 0);
        assert_run("config show", EXIT_USAGE, "", "config.json:1");
        assert_run("version", EXIT_OK, "stasis ", "");
        assert_run("dump --help", EXIT_OK, "process PID", "");
        assert_int_equal(unlink(path), 0);
}

static void json_is_one_object(void **state) {
        static const char *const lines[] = {
                "version --json",  "config show --json",   "config show --origin --json",
                "nonsense --json", "daemon status --json", "--json dump process abc",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_(result_clear) struct result result = run(lines[i]);
                json_t *json = json_loads(result.out, 0, NULL);

                assert_true(json_is_object(json));
                assert_int_equal(json_object_get(json, "error") != NULL, result.code != EXIT_OK);
                assert_int_equal(json_object_get(json, "code") != NULL, result.code != EXIT_OK);
                assert_int_equal(*result.err != 0, result.code != EXIT_OK);
                json_decref(json);
        }
}

static void output_that_is_lost_is_a_failure(void **state) {
        int status;

        (void)state;
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (!freopen("/dev/full", "w", stdout) || !freopen("/dev/null", "w", stderr))
                        _exit(99);
                _exit(cli_main(2, (char **)(const char *[]){ "stasis", "version", NULL }));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), EXIT_FAILED);
}

static int set_up(void **state) {
        (void)state;
        if (!mkdtemp(directory))
                return -1;
        _cleanup_free_ char *address = xasprintf("%s/absent.sock", directory);
        setenv("STASIS_ADDRESS", address, 1);
        setenv("STASIS_CONFIG_DIR", directory, 1);
        setenv("STASIS_PLUGINS_LIB_DIR", directory, 1);
        setenv("STASIS_RUN_DIR", directory, 1);
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        return io_remove_tree(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(success_is_zero),    cmocka_unit_test(usage_is_two),
                cmocka_unit_test(failure_is_one),     cmocka_unit_test(a_broken_configuration_does_not_hide_the_help),
                cmocka_unit_test(json_is_one_object), cmocka_unit_test(output_that_is_lost_is_a_failure),
        };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
