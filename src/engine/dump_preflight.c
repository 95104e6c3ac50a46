/* SPDX-License-Identifier: Apache-2.0 */

/* What CRIU cannot dump, found out before anything is frozen. */

#include "base/cleanup.h"
#include "engine/preflight_dump.h"

static const dump_check checks[] = {
        preflight_io_uring, preflight_threads,     preflight_namespaces,
        preflight_sockets,  preflight_descriptors, preflight_mappings,
};

int dump_preflight(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        __attribute__((cleanup(dump_problems_clear))) struct dump_problems problems = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                int r = st_operation_check_cancelled(dump->operation, err);

                if (r < 0)
                        return r;
                checks[i](dump, &problems);
        }
        if (problems.texts.n > 0)
                return dump_problems_error(&problems, err);
        return st_dump_proceed(next, dump, err);
}
