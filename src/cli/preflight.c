/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/preflight.h"

#include "base/cleanup.h"
#include "base/table.h"
#include "cli/exit.h"
#include "cli/output.h"

static const char *level_name(Daemon__FindingLevel level) {
        switch (level) {
        case DAEMON__FINDING_LEVEL__OK:
                return "ok";
        case DAEMON__FINDING_LEVEL__WARNING:
                return "warning";
        default: /* also of a newer daemon: what is not known may be grave */
                return "PROBLEM";
        }
}

int preflight_print(const Daemon__RestoreResp *resp, bool json, struct st_error **err) {
        static const char *const titles[] = { "CHECK", "LEVEL", "SUBJECT", "TEXT", "HINT", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);
        bool problem = false;
        int r;

        for (size_t i = 0; i < resp->n_findings; i++) {
                const Daemon__Finding *finding = resp->findings[i];

                table_add(table, (const char *const[]){ finding->check, level_name(finding->level), finding->subject,
                                                        finding->text, finding->hint });
                problem |=
                        finding->level != DAEMON__FINDING_LEVEL__OK && finding->level != DAEMON__FINDING_LEVEL__WARNING;
        }
        if (!json)
                output_messages(resp->messages, resp->n_messages);
        r = table_print(table, json, err);
        if (r < 0)
                return r;
        return problem ? EXIT_FAILED : EXIT_OK;
}
