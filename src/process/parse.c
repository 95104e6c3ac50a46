/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/parse.h"

/* NGROUPS_MAX of the kernel, setgroups(2). */
#define GROUPS_LIMIT 65536

char *parse_word(char **text) {
        char *word = *text + strspn(*text, " \t");

        if (!*word) {
                *text = word;
                return NULL;
        }
        char *end = word + strcspn(word, " \t");
        *text = *end ? end + 1 : end;
        *end = 0;
        return word;
}

char *parse_line(char **text) {
        char *line = *text;

        if (!*line)
                return NULL;
        char *end = strchrnul(line, '\n');
        *text = *end ? end + 1 : end;
        *end = 0;
        return line;
}

static bool is_octal(char c) {
        return c >= '0' && c <= '7';
}

/* Undoes the kernel's escapes of blank, tab, newline and backslash (\040 …) in place. */
static void unescape(char *s) {
        char *out = s;

        for (const char *in = s; *in; out++) {
                if (in[0] == '\\' && is_octal(in[1]) && is_octal(in[2]) && is_octal(in[3])) {
                        *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
                        in += 4;
                } else
                        *out = *in++;
        }
        *out = 0;
}

bool parse_mount(char *line, struct parse_mount *ret) {
        char **const head[] = { &ret->id, &ret->parent, &ret->device, &ret->root, &ret->point, &ret->options };
        char **const escaped[] = { &ret->root, &ret->point, &ret->options, &ret->type, &ret->source };
        const char *word;

        for (size_t i = 0; i < ELEMENTSOF(head); i++)
                if (!(*head[i] = parse_word(&line)))
                        return false;
        while ((word = parse_word(&line)) && !streq(word, "-")) /* optional fields */
                ;
        ret->type = parse_word(&line);
        if (!ret->type)
                return false;
        /* An empty source leaves two blanks behind the type. */
        ret->source = *line == ' ' ? NULL : parse_word(&line);
        ret->super_options = parse_word(&line);
        if (!ret->source)
                ret->source = line + strlen(line);
        if (!ret->super_options)
                ret->super_options = line + strlen(line);
        for (size_t i = 0; i < ELEMENTSOF(escaped); i++)
                unescape(*escaped[i]);
        return true;
}

int parse_number(const char *word, int base, uint64_t max, uint64_t *ret) {
        char *end;

        if (!word || !isxdigit((unsigned char)*word))
                return -EBADMSG;
        errno = 0;
        unsigned long long value = strtoull(word, &end, base);
        if (errno != 0 || *end || value > max)
                return -EBADMSG;
        *ret = value;
        return 0;
}

/* Copies a sanitised text into a buffer, cut between two characters. */
static void copy_sanitised(char *buffer, size_t size, const char *s, size_t length) {
        _cleanup_free_ char *clean = text_sanitise(s, length);
        size_t n = strlen(clean);

        if (n >= size) {
                n = size - 1;
                while (n > 0 && ((unsigned char)clean[n] & 0xc0) == 0x80)
                        n--;
        }
        memcpy(buffer, clean, n);
        buffer[n] = 0;
}

static int64_t signed_field(char *const *fields, size_t i) {
        return strtoll(fields[i], NULL, 10);
}

/* proc_pid_stat(5): fields are counted from 1; the command is the second, what follows it begins with the third. */
int proc_parse_stat(const char *text, struct proc_stat *ret) {
        enum { STATE = 3, PPID, PGID, SID, TTY, FLAGS = 9, THREADS = 20, START_TIME = 22 };
        const char *open = strchr(text, '('), *close = strrchr(text, ')');
        uint64_t pid, threads, flags, start_time;
        char *fields[START_TIME + 1];

        if (!open || !close || close < open || open == text || open[-1] != ' ')
                return -EBADMSG;
        _cleanup_free_ char *number = xstrndup(text, (size_t)(open - text) - 1);
        if (parse_number(number, 10, INT32_MAX, &pid) < 0)
                return -EBADMSG;

        _cleanup_free_ char *rest = xstrdup(close + 1);
        char *cursor = rest;
        for (size_t i = STATE; i < ELEMENTSOF(fields); i++)
                if (!(fields[i] = parse_word(&cursor)))
                        return -EBADMSG;
        if (strlen(fields[STATE]) != 1 || !isalpha((unsigned char)*fields[STATE]) ||
            parse_number(fields[THREADS], 10, INT32_MAX, &threads) < 0 ||
            parse_number(fields[FLAGS], 10, UINT64_MAX, &flags) < 0 ||
            parse_number(fields[START_TIME], 10, UINT64_MAX, &start_time) < 0)
                return -EBADMSG;

        *ret = (struct proc_stat){
                .pid = (pid_t)pid,
                .ppid = (pid_t)signed_field(fields, PPID),
                .pgid = (pid_t)signed_field(fields, PGID),
                .sid = (pid_t)signed_field(fields, SID),
                .tty_nr = (int)signed_field(fields, TTY),
                .state = *fields[STATE],
                .threads = (unsigned)threads,
                .flags = flags,
                .start_time = start_time,
        };
        copy_sanitised(ret->command, sizeof(ret->command), open + 1, (size_t)(close - open) - 1);
        return 0;
}

static void parse_ids(char *value, uint32_t ids[4]) {
        uint64_t id;

        for (size_t i = 0; i < 4; i++)
                if (parse_number(parse_word(&value), 10, UINT32_MAX, &id) == 0)
                        ids[i] = (uint32_t)id;
}

static void parse_groups(char *value, struct proc_status *status) {
        size_t room = status->n_groups;
        const char *word;
        uint64_t id;

        while ((word = parse_word(&value)) && status->n_groups < GROUPS_LIMIT)
                if (parse_number(word, 10, UINT32_MAX, &id) == 0) {
                        GROW(status->groups, status->n_groups, room);
                        status->groups[status->n_groups++] = (gid_t)id;
                }
}

static uint64_t parse_kilobytes(char *value) {
        uint64_t n;

        return parse_number(parse_word(&value), 10, UINT64_MAX / 4096, &n) == 0 ? n * 1024 : 0;
}

static pid_t parse_pid(char *value) {
        uint64_t pid;

        return parse_number(parse_word(&value), 10, INT32_MAX, &pid) == 0 ? (pid_t)pid : 0;
}

/* "Key:\tvalue" lines; a zombie has no Vm lines. The kernel escapes newlines in the name. */
static void add_kilobytes(uint64_t *sum, char *value) {
        (void)__builtin_add_overflow(*sum, parse_kilobytes(value), sum);
}

int proc_parse_status(const char *text, struct proc_status *ret) {
        _cleanup_free_ char *copy = xstrdup(text);
        char *cursor = copy, *line;

        *ret = (struct proc_status){ 0 };
        while ((line = parse_line(&cursor))) {
                char *value = strchr(line, ':');

                if (!value)
                        continue;
                *value++ = 0;
                if (streq(line, "Tgid"))
                        ret->tgid = parse_pid(value);
                else if (streq(line, "TracerPid"))
                        ret->tracer = parse_pid(value);
                else if (streq(line, "Uid"))
                        parse_ids(value, ret->uids);
                else if (streq(line, "Gid"))
                        parse_ids(value, ret->gids);
                else if (streq(line, "Groups"))
                        parse_groups(value, ret);
                else if (streq(line, "VmRSS"))
                        add_kilobytes(&ret->memory, value);
                else if (streq(line, "RssAnon"))
                        add_kilobytes(&ret->anonymous, value);
                else if (streq(line, "RssShmem"))
                        add_kilobytes(&ret->shared, value);
                else if (streq(line, "HugetlbPages")) {
                        add_kilobytes(&ret->memory, value);
                        add_kilobytes(&ret->anonymous, value);
                        add_kilobytes(&ret->huge, value);
                } else if (streq(line, "VmSwap")) {
                        add_kilobytes(&ret->memory, value);
                        add_kilobytes(&ret->anonymous, value);
                }
        }
        return ret->tgid > 0 ? 0 : -EBADMSG;
}

void proc_status_clear(struct proc_status *status) {
        free(status->groups);
        *status = (struct proc_status){ 0 };
}
