/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis check` and `stasis daemon check`: is what a dump needs there? */

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/messages.h"
#include "base/table.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "engine/engine.h"

static const struct st_option check_options[] = {
        { .flag = "full", .type = ST_OPTION_BOOL, .help = "also the checks that take longer" },
        ST_OPTION_END,
};

static void add_component(struct table *table, const char *check, const Daemon__HealthCheckComponent *component) {
        _cleanup_strv_ struct strv problems = { 0 };

        for (size_t i = 0; i < component->n_errors; i++)
                strv_addf(&problems, "error: %s", component->errors[i]);
        for (size_t i = 0; i < component->n_warnings; i++)
                strv_addf(&problems, "warning: %s", component->warnings[i]);
        _cleanup_free_ char *problem = strv_join(&problems, "; ");
        table_add(table, (const char *const[]){ check, component->name, component->data, problem });
}

/* @return the exit code, or -errno with err */
static int print_results(const Daemon__HealthCheckResp *resp, bool json, struct st_error **err) {
        static const char *const titles[] = { "CHECK", "NAME", "DATA", "PROBLEM", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);
        size_t errors = 0;
        int r = 0;

        for (size_t i = 0; i < resp->n_results; i++)
                for (size_t j = 0; j < resp->results[i]->n_components; j++) {
                        add_component(table, resp->results[i]->name, resp->results[i]->components[j]);
                        errors += resp->results[i]->components[j]->n_errors;
                }
        if (json) {
                json_t *array = json_array();

                for (size_t i = 0; i < resp->n_results; i++)
                        json_array_append_new(array, message_to_json(&resp->results[i]->base));
                output_json(array);
        } else {
                r = table_print(table, false, err);
        }
        if (r < 0)
                return r;
        return errors > 0 ? EXIT_FAILED : EXIT_OK;
}

static Daemon__HealthCheckReq request_of(const struct cli *cli) {
        Daemon__HealthCheckReq req = DAEMON__HEALTH_CHECK_REQ__INIT;

        req.has_full = 1;
        req.full = st_arguments_bool(cli->arguments, "full");
        return req;
}

static int run_daemon_check(struct cli *cli, struct st_error **err) {
        _cleanup_(message_freep) Daemon__HealthCheckResp *resp = NULL;
        Daemon__HealthCheckReq req = request_of(cli);
        int r;

        cli_begin_work(cli);
        r = daemon_call(cli, "/daemon.Daemon/HealthCheck", &req.base, &daemon__health_check_resp__descriptor, &resp,
                        err);
        return r < 0 ? r : print_results(resp, cli->json, err);
}

struct local_check {
        const Daemon__HealthCheckReq *req;
        Daemon__HealthCheckResp *resp;
};

static int check_here(struct st_operation *operation, void *userdata, struct st_error **err) {
        struct local_check *check = userdata;

        return engine_health(operation, check->req, check->resp, err);
}

static int run_check(struct cli *cli, struct st_error **err) {
        _cleanup_(message_freep) Daemon__HealthCheckResp *resp = message_new(&daemon__health_check_resp__descriptor);
        Daemon__HealthCheckReq req = request_of(cli);
        struct local_check check = { &req, resp };
        struct local_work work = { check_here, &check, "nothing was changed", false };
        int r;

        cli_begin_work(cli);
        r = local_operate(cli, &work, err);
        return r < 0 ? r : print_results(resp, cli->json, err);
}

const struct command command_check = {
        .path = "check",
        .summary = "Checks this machine, without the daemon",
        .examples = "check --full",
        .options = (const struct st_option *const[]){ check_options, NULL },
        .config = true,
        .run = run_check,
};

const struct command command_daemon_check = {
        .path = "daemon check",
        .summary = "Lets the daemon check itself and this machine",
        .examples = "daemon check --full",
        .options = (const struct st_option *const[]){ check_options, NULL },
        .config = true,
        .run = run_daemon_check,
};
