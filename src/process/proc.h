/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Single facts from /proc. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

/** Fields of /proc/PID/stat, proc(5). */
struct proc_stat {
        pid_t pid, ppid, pgid, sid;
        int tty_nr;
        char state;
        unsigned threads;
        uint64_t flags;      /* PF_* of the kernel; 0x00200000 is PF_KTHREAD */
        uint64_t start_time; /* clock ticks after boot */
        char command[64];    /* sanitised */
};

/** @return 0 or -ESRCH */
int proc_read_stat(pid_t pid, struct proc_stat *ret);

/** Is this still the process with that start time, and not a zombie? */
bool proc_is_alive(pid_t pid, uint64_t start_time);

/** Is a SIGKILL on its way to the process? It may look alive for a while after that. */
bool proc_is_being_killed(pid_t pid);

/**
 * Who holds a PID number, also as a process group, a session or a thread, for a message:
 * "process 42 (redis-server, since 3 min)", "a zombie 42 (sh), whose parent 7 (bash) has not reaped it",
 * "thread 42 of process 40 (java)", "a process group 42 that process 45 (cat) is in".
 *
 * @return malloc'ed text, NULL when the number is free
 */
char *proc_describe_pid(pid_t pid);

/**
 * Is a PID number held only by zombies and by those who are being killed: as their own number, their process group or
 * session? Then it becomes free as soon as they are reaped.
 */
bool proc_pid_is_of_dying(pid_t pid);

/** Reads a /proc/PID/FILE wholly; malloc'ed, NUL behind it. @return 0 or -errno */
int proc_read_file(pid_t pid, const char *file, char **ret, size_t *ret_size);

/**
 * What follows "KEY:" in a /proc/PID/FILE of such lines, without the blanks before it: "0000000000000000" of "ShdPnd"
 * in "status"; malloc'ed. NULL: there is no such process, file or key.
 */
char *proc_read_value(pid_t pid, const char *file, const char *key);

/** Our own effective capabilities, a bit each: capabilities(7). 0 when the kernel does not say. */
uint64_t proc_capabilities(void);

/** /proc/PID/cmdline with spaces for NULs, sanitised; the command in brackets when it is empty; malloc'ed. */
char *proc_command_line(pid_t pid);

/** The boot's id (/proc/sys/kernel/random/boot_id), static text. */
const char *proc_boot_id(void);
