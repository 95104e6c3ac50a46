/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a process tree is made of, from /proc and sock_diag: everything that decides CRIU's options, looked at before
 * anything is frozen. The tree may change while it is read: what is gone is left out, and only the root must exist.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <daemon/process.pb-c.h>
#include <stasis/error.h>

/** A descriptor that matters: an end of a pipe, a terminal, a socket. */
struct process_fd {
        pid_t pid;
        int fd;
        uint64_t inode; /* of the pipe or socket; of the terminal's device node */
        uint64_t dev;   /* st_dev of the node */
        uint64_t rdev;  /* terminals: st_rdev */
        bool writable;
        bool outside; /* terminals: a slave whose master nobody in the tree holds */
        char *path;   /* as /proc/PID/fd shows it */
};

struct process_fds {
        struct process_fd *items;
        size_t n, room;
};

/** One process of the tree; the root is the first one. */
struct process_task {
        pid_t pid, ppid, pgid, sid;
        char state;          /* R, S, D, T, t, Z, … (proc(5)) */
        uint64_t start_time; /* clock ticks after boot: with the PID, the identity of a process */
        unsigned threads;
        int tty_nr;          /* controlling terminal, 0: none */
        pid_t tracer;        /* who ptraces it, 0: nobody */
        uint64_t rss;        /* bytes, swapped ones too; the sum over the tree is what a dump must at most copy */
        char *command;       /* the name (comm), sanitised */
        pid_t stopped_by_us; /* set by a dump: the PID it sees itself if a freeze of ours stopped it, else 0 */
};

struct process_analysis {
        struct process_task *tasks;
        size_t n_tasks, room_tasks;

        uint64_t
                memory; /* bytes that a dump must about copy: each task's own, and the largest share of shared memory */
        bool kernel_thread; /* the root has no memory of its own */

        bool shell_job;       /* the root's session leader is outside the tree, or a terminal is open or controlling */
        bool tcp_established; /* a TCP socket with a connection (any state but LISTEN) */
        bool ext_unix;        /* an AF_UNIX socket whose peer is outside the tree */
        bool huge_pages;  /* a process has pages of hugetlbfs; of these CRIU cannot read private ones from a stream */
        bool own_mounts;  /* the root has a mount namespace of its own, on the same root file system as the caller */
        bool own_cgroups; /* a process is in another cgroup, of whatever hierarchy, than the caller */

        struct process_fds terminals; /* each open terminal of the tree */
        unsigned *ptys;               /* indices (pts(4)) of terminals whose master the tree holds, or was closed */
        size_t n_ptys, room_ptys;
        struct process_fds external_pipes; /* pipe ends whose other end nobody in the tree holds */
        struct process_fds external_unix;  /* AF_UNIX sockets with a peer outside the tree */
        struct process_fds io_urings;      /* CRIU cannot dump these; io_uring_setup(2) */
};

/**
 * Looks at the tree of a process.
 *
 * Errors: -ESRCH "no process 42", also for the number of a thread; -EPERM when /proc/PID/fd of one of them cannot be
 * read; -E2BIG when there are more than 65,536. A zombie root or a kernel thread is no error here: the caller decides.
 *
 * @param ret freed by process_analysis_free()
 */
int process_analyse(pid_t root, struct process_analysis **ret, struct st_error **err);

struct process_analysis *process_analysis_free(struct process_analysis *analysis);
static inline void process_analysis_freep(struct process_analysis **analysis) {
        *analysis = process_analysis_free(*analysis);
}

/** What to read into a state beside identity, command line, directories and credentials. */
enum process_detail {
        PROCESS_BASIC = 0,
        PROCESS_INSPECT = 1 << 0, /* open files, connections, mounts */
        PROCESS_TREE = 1 << 1,    /* children too, recursively */
        PROCESS_HOST = 1 << 2,    /* the host, in the root's state */
};

/**
 * Reads the state of a process as the API shows it (daemon.ProcessState). All texts come out as valid UTF-8.
 *
 * StartTime is in milliseconds since 1970 (for identity use process_task.start_time, which no clock can change).
 * Children list their mounts only when they are in another mount namespace than their parent. Sockets are in
 * OpenConnections, everything else that is open in OpenFiles; AF_UNIX names are in the addresses' IP, abstract ones
 * as "@name". Trees deeper than 64 are cut there: the deeper ones become siblings, nobody is left out. Command lines
 * end after 64 KiB.
 *
 * Errors: as process_analyse(); without PROCESS_INSPECT every user may read every process.
 *
 * @param detail bits of enum process_detail
 * @param ret a heap message; free with protobuf_c_message_free_unpacked() (or message_freep)
 */
int process_state_read(pid_t pid, unsigned detail, Daemon__ProcessState **ret, struct st_error **err);
