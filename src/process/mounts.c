/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/mounts.h"
#include "process/parse.h"

static bool is_octal(char c) {
        return c >= '0' && c <= '7';
}

/* Undoes the kernel's escapes of blank, tab, newline and backslash (\040 …) in place, then makes it fit to show. */
static char *unescape(char *s) {
        char *out = s;

        for (const char *in = s; *in; out++) {
                if (in[0] == '\\' && is_octal(in[1]) && is_octal(in[2]) && is_octal(in[3])) {
                        *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
                        in += 4;
                } else
                        *out = *in++;
        }
        return text_sanitise(s, (size_t)(out - s));
}

/* proc_pid_mountinfo(5): ID parent major:minor root mount-point options [optional …] - type source super-options */
static Daemon__Mount *parse_mount(char *line) {
        enum { ID, PARENT, DEVICE, ROOT, MOUNT_POINT, OPTIONS, HEAD };
        char *head[HEAD], *word, *device;
        uint64_t id, parent, major, minor;

        for (size_t i = 0; i < HEAD; i++)
                if (!(head[i] = parse_word(&line)))
                        return NULL;
        device = head[DEVICE];
        const char *major_text = strsep(&device, ":");
        if (parse_number(head[ID], 10, INT32_MAX, &id) < 0 || parse_number(head[PARENT], 10, INT32_MAX, &parent) < 0 ||
            parse_number(major_text, 10, INT32_MAX, &major) < 0 || parse_number(device, 10, INT32_MAX, &minor) < 0)
                return NULL;
        while ((word = parse_word(&line)) && !streq(word, "-"))
                ;
        char *type = parse_word(&line);
        if (!type)
                return NULL;
        /* An empty source leaves two blanks behind the type. */
        char *source = *line == ' ' ? NULL : parse_word(&line);

        Daemon__Mount *mount = NEW(Daemon__Mount);
        daemon__mount__init(mount);
        mount->has_id = mount->has_parent = mount->has_major = mount->has_minor = 1;
        mount->id = id;
        mount->parent = (int32_t)parent;
        mount->major = (int32_t)major;
        mount->minor = (int32_t)minor;
        mount->root = unescape(head[ROOT]);
        mount->mountpoint = unescape(head[MOUNT_POINT]);
        mount->options = unescape(head[OPTIONS]);
        mount->fstype = unescape(type);
        mount->source = source ? unescape(source) : xstrdup("");
        return mount;
}

void mounts_parse(const char *text, size_t *n, Daemon__Mount ***mounts) {
        _cleanup_free_ char *copy = xstrdup(text);
        char *cursor = copy, *line;
        size_t room = *n;

        while ((line = parse_line(&cursor))) {
                Daemon__Mount *mount = parse_mount(line);

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
