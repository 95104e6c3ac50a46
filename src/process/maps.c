/* SPDX-License-Identifier: Apache-2.0 */
#include "process/maps.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "process/parse.h"

/* "7f00-7f10": two numbers with something between; the first ends at it. */
static int parse_pair(char *word, char separator, uint64_t *first, uint64_t *second) {
        char *at = word ? strchr(word, separator) : NULL;

        if (!at)
                return -EBADMSG;
        *at = 0;
        if (parse_number(word, 16, UINT64_MAX, first) < 0 || parse_number(at + 1, 16, UINT64_MAX, second) < 0)
                return -EBADMSG;
        return 0;
}

/* "start-end perms offset major:minor inode path" */
static int parse_map(char *line, struct map *ret) {
        const char *permissions;
        uint64_t major, minor;

        if (parse_pair(parse_word(&line), '-', &ret->start, &ret->end) < 0)
                return -EBADMSG;
        permissions = parse_word(&line);
        if (!permissions || strlen(permissions) != 4 || !parse_word(&line))
                return -EBADMSG;
        if (parse_pair(parse_word(&line), ':', &major, &minor) < 0 ||
            parse_number(parse_word(&line), 10, UINT64_MAX, &ret->inode) < 0)
                return -EBADMSG;
        ret->shared = permissions[3] == 's';
        ret->dev = makedev((unsigned)major, (unsigned)minor);
        ret->path = line + strspn(line, " ");
        return 0;
}

int maps_parse(char *text, map_fn call, void *userdata) {
        char *line;
        int r = 0;

        while (r >= 0 && (line = parse_line(&text))) {
                struct map map;

                if (parse_map(line, &map) == 0)
                        r = call(&map, userdata);
        }
        return r < 0 ? r : 0;
}

int maps_each(int proc_fd, map_fn call, void *userdata) {
        _cleanup_free_ char *text = NULL;
        int r = proc_read_file_at(proc_fd, "maps", &text, NULL);

        return r < 0 ? r : maps_parse(text, call, userdata);
}
