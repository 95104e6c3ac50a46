/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/memory_budget.h"

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"

/* When /proc cannot tell: enough for a small process, harmless for any machine. */
#define BUDGET_FALLBACK (256ull << 20)

uint64_t memory_budget(const struct st_arguments *config) {
        _cleanup_free_ char *text = NULL;
        const char *at;
        int64_t limit = st_arguments_int(config, "Checkpoint.StreamMemoryLimit");

        if (limit > 0)
                return (uint64_t)limit;
        if (io_read_file(AT_FDCWD, "/proc/meminfo", 64 * 1024, &text, NULL) < 0)
                return BUDGET_FALLBACK;
        at = strstr(text, "MemAvailable:");
        if (!at)
                return BUDGET_FALLBACK;
        return strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024 / 2;
}
