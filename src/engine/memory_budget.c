/* SPDX-License-Identifier: Apache-2.0 */

/* Limits of cgroups: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. */

#include "engine/memory_budget.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/host.h"
#include "process/parse.h"
#include "process/proc.h"

/* When /proc cannot tell: enough for a small process, harmless for any machine. */
#define BUDGET_FALLBACK (256ull << 20)

#define STAT_MAX 65536

/** How the two versions name it. */
static const struct files {
        const char *mount, *limit, *usage, *cache;
} versions[] = {
        { "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file" },
        { "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file" },
};

static int read_number(const char *mount, const char *group, const char *name, uint64_t *ret) {
        _cleanup_free_ char *path = xasprintf("%s%s/%s", mount, group, name), *text = NULL;
        int r = io_read_file(AT_FDCWD, path, 64, &text, NULL);

        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        return text_to_uint(text, UINT64_MAX, ret);
}

/** Of the usage, what the kernel takes back before it refuses anything: cached files. */
static uint64_t read_cache(const struct files *files, const char *group) {
        _cleanup_free_ char *path = xasprintf("%s%s/memory.stat", files->mount, group), *text = NULL;
        char *cursor, *line;
        uint64_t n;

        if (io_read_file(AT_FDCWD, path, STAT_MAX, &text, NULL) < 0)
                return 0;
        cursor = text;
        while ((line = parse_line(&cursor))) {
                const char *value = text_after(line, files->cache);

                if (value && value[0] == ' ' && text_to_uint(value + 1, UINT64_MAX, &n) >= 0)
                        return n;
        }
        return 0;
}

static uint64_t room_of(const struct files *files, const char *group) {
        uint64_t most, used, cache;

        if (read_number(files->mount, group, files->limit, &most) < 0 ||
            read_number(files->mount, group, files->usage, &used) < 0)
                return UINT64_MAX; /* no limit, or not seen from here */
        cache = read_cache(files, group);
        used -= cache < used ? cache : used;
        return used < most ? most - used : 0;
}

uint64_t memory_cgroup_room(void) {
        _cleanup_free_ char *text = NULL;
        uint64_t room = UINT64_MAX;
        char *cursor, *line;

        if (proc_read_file(getpid(), "cgroup", &text, NULL) < 0)
                return room;
        cursor = text;
        while ((line = parse_line(&cursor))) {
                const char *v2 = text_after(line, "0::"), *v1 = strstr(line, ":memory:");
                _cleanup_free_ char *group = v2 || v1 ? xstrdup(v2 ?: v1 + strlen(":memory:")) : NULL;

                while (group && group[0] == '/') {
                        uint64_t here = room_of(v2 ? &versions[0] : &versions[1], group);

                        room = here < room ? here : room;
                        *strrchr(group, '/') = '\0';
                }
        }
        return room;
}

uint64_t memory_budget(const struct st_arguments *config) {
        int64_t limit = st_arguments_int(config, "Checkpoint.StreamMemoryLimit");
        uint64_t available = host_memory("MemAvailable"), room = memory_cgroup_room() / 2, budget;

        budget = limit > 0 ? (uint64_t)limit : available > 0 ? available / 2 : BUDGET_FALLBACK;
        return budget < room ? budget : room;
}
