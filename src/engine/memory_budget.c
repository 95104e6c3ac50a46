/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/memory_budget.h"

#include "process/host.h"

/* When /proc cannot tell: enough for a small process, harmless for any machine. */
#define BUDGET_FALLBACK (256ull << 20)

uint64_t memory_budget(const struct st_arguments *config) {
        int64_t limit = st_arguments_int(config, "Checkpoint.StreamMemoryLimit");
        uint64_t available;

        if (limit > 0)
                return (uint64_t)limit;
        available = host_memory("MemAvailable");
        return available > 0 ? available / 2 : BUDGET_FALLBACK;
}
