/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Parsers of the texts of /proc/PID, separate from reading them: tests and the fuzzer give them texts of their own. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "process/proc.h"

/** Of proc_stat.flags: a thread of the kernel's own (PF_KTHREAD of include/linux/sched.h). */
#define PROC_KERNEL_THREAD UINT64_C(0x00200000)

/** What /proc/PID/status says beyond stat, proc(5). */
struct proc_status {
        pid_t tgid;    /* differs from the PID: a thread */
        pid_t tracer;  /* 0: nobody */
        uid_t uids[4]; /* real, effective, saved, of the file system */
        gid_t gids[4];
        gid_t *groups; /* malloc'ed */
        size_t n_groups;
        uint64_t memory;    /* bytes, resident and swapped */
        uint64_t anonymous; /* of these, the task's own */
        uint64_t shared;    /* of these, in shared memory */
        uint64_t huge;      /* bytes in pages of hugetlbfs: of `memory` and `anonymous`, too */
};

/** Parses /proc/PID/stat. The command may hold anything, also ")" and newlines. @return 0 or -EBADMSG */
int proc_parse_stat(const char *text, struct proc_stat *ret);

/** Parses /proc/PID/status; free with proc_status_clear(), also after a failure. @return 0 or -EBADMSG */
int proc_parse_status(const char *text, struct proc_status *ret);

/**
 * Both, of an open /proc/PID: such a descriptor stays with its process, whoever gets the number later.
 *
 * @return 0; -ESRCH; another -errno
 */
int proc_read_stat_at(int proc_fd, struct proc_stat *ret);
int proc_read_status_at(int proc_fd, struct proc_status *ret);

void proc_status_clear(struct proc_status *status);
#define _cleanup_status_ __attribute__((cleanup(proc_status_clear)))

/** Opens /proc/PID. @return a descriptor, -ESRCH or another -errno */
int proc_open(pid_t pid);

/** Has the process ended, so that nothing but its exit code is left? */
bool proc_stat_is_dead(const struct proc_stat *stat);

/** As proc_read_file(), of an open /proc/PID. */
int proc_read_file_at(int proc_fd, const char *file, char **ret, size_t *ret_size);

/** As proc_read_value(), of an open /proc/PID. */
char *proc_read_value_at(int proc_fd, const char *file, const char *key);

/** As proc_command_line(), of an open /proc/PID; NULL when the process is gone. */
char *proc_command_line_at(int proc_fd);

/** The next word of a line of fields separated by blanks, NULL at its end; *text moves on. Writes NULs. */
char *parse_word(char **text);

/** The next line, without its newline; NULL at the end of the text; *text moves on. Writes NULs. */
char *parse_line(char **text);

/** A line of /proc/PID/mountinfo, proc_pid_mountinfo(5), cut into its fields; the kernel's escapes are undone. */
struct parse_mount {
        char *id, *parent, *device; /* "36", "35", "98:0" */
        char *root, *point, *options;
        char *type, *source, *super_options; /* the last two may be "" */
};

/** @param line must live as long as the fields. Writes into it. @return false: it is no such line */
bool parse_mount(char *line, struct parse_mount *ret);

/** A non-negative number in the given base that is the whole word. @return 0 or -EBADMSG */
int parse_number(const char *word, int base, uint64_t max, uint64_t *ret);
