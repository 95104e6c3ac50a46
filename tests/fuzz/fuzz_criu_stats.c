/* SPDX-License-Identifier: Apache-2.0 */

/* CRIU's statistics, which an imported checkpoint brings along. */

#include "criu/statistics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct criu_statistics statistics;

        (void)criu_statistics_parse(data, size, CRIU_DUMP, &statistics);
        (void)criu_statistics_parse(data, size, CRIU_RESTORE, &statistics);
        return 0;
}
