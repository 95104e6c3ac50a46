/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/mounts.h"
#include "process/parse.h"

static char *sanitised(const char *s) {
        return text_sanitise(s, strlen(s));
}

static Daemon__Mount *make_mount(char *line) {
        struct parse_mount fields;
        uint64_t id, parent, major, minor;

        if (!parse_mount(line, &fields))
                return NULL;
        const char *major_text = strsep(&fields.device, ":");
        if (parse_number(fields.id, 10, INT32_MAX, &id) < 0 ||
            parse_number(fields.parent, 10, INT32_MAX, &parent) < 0 ||
            parse_number(major_text, 10, INT32_MAX, &major) < 0 ||
            parse_number(fields.device, 10, INT32_MAX, &minor) < 0)
                return NULL;

        Daemon__Mount *mount = NEW(Daemon__Mount);
        daemon__mount__init(mount);
        mount->has_id = mount->has_parent = mount->has_major = mount->has_minor = 1;
        mount->id = id;
        mount->parent = (int32_t)parent;
        mount->major = (int32_t)major;
        mount->minor = (int32_t)minor;
        mount->root = sanitised(fields.root);
        mount->mountpoint = sanitised(fields.point);
        mount->options = sanitised(fields.options);
        mount->fstype = sanitised(fields.type);
        mount->source = sanitised(fields.source);
        return mount;
}

void mounts_parse(const char *text, size_t *n, Daemon__Mount ***mounts) {
        _cleanup_free_ char *copy = xstrdup(text);
        char *cursor = copy, *line;
        size_t room = *n;

        while ((line = parse_line(&cursor))) {
                Daemon__Mount *mount = make_mount(line);

                if (!mount)
                        continue;
                GROW(*mounts, *n, room);
                (*mounts)[(*n)++] = mount;
        }
}

int mounts_read(int proc_fd, size_t *n, Daemon__Mount ***mounts) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        int r = proc_read_file_at(proc_fd, "mountinfo", &text, &size);
        if (r < 0)
                return r;
        mounts_parse(text, n, mounts);
        return 0;
}
