/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which CRIU this machine has, and running it. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/spawn.h"
#include "base/text.h"
#include "criu/options.h"
#include <stasis/error.h>

/** The oldest CRIU with --stream by the command line and what else is used; 40100 is 4.1. */
#define CRIU_VERSION_MINIMUM 40100

struct criu_binary {
        char *path;    /* absolute */
        char *version; /* "4.2.1" */
        int number;    /* 40201 */
        bool working;  /* `criu check` passes on this kernel */
        bool nftables; /* it can lock connections by nftables, in one go; by iptables it runs a program for each */
        char *problem; /* why not, NULL when working */
};

/**
 * Finds CRIU and what it can do: the first one that is new enough. When it works, the answer is cached in the run
 * directory until the binary or the boot changes: a hit costs a stat and a small read.
 *
 * Errors: -ENOPKG with a hint when there is none ("CRIU is missing"), it cannot be run, or it is too old ("criu 3.17.1
 * in /usr/sbin/criu is too old: 4.1 is needed").
 *
 * @param configured CRIU.BinaryPath; NULL or "": found in PATH, then /usr/local/sbin, /usr/sbin
 */
int criu_find(const char *configured, struct criu_binary **ret, struct st_error **err);

/** "4.2.1" → 40201; what follows the numbers ("-rc1") does not count. @return 0 when it is none */
int criu_version_number(const char *text);

struct criu_binary *criu_binary_free(struct criu_binary *binary);
static inline void criu_binary_freep(struct criu_binary **binary) {
        *binary = criu_binary_free(*binary);
}

/** A dump whose memory is copied by stasis: what CRIU gets for that. image/grab.h */
struct criu_grab {
        int socket;         /* where CRIU finds its page server */
        const char *parent; /* directory of what it takes for the parent checkpoint, absolute */
        const char *kdat;   /* path of its cache of what the kernel can */
};

/** One run of CRIU, streaming its images (docs/architecture.md, "Capture"). */
struct criu_run {
        const struct criu_binary *binary;
        enum criu_operation operation;
        const Criu__CriuOpts *options;
        const char *work_dir;         /* images directory, work directory, log and statistics: all here */
        const char *images_dir;       /* where the images are, or are made by a dump that grabs; NULL: streamed */
        const struct criu_grab *grab; /* dump; NULL: all is streamed */
        pid_t pid;                    /* of the dump's target */
        bool leave_running;           /* dump */
        bool leave_stopped;           /* both */
        const char *action_script;    /* NULL: none */
        bool lazy_pages;              /* restore: memory comes from whoever listens at lazy-pages.socket in work_dir */
        const char *pid_file;         /* restore: where CRIU writes the root's PID; NULL: none */
        const struct spawn_fd *fds;   /* restore: descriptors to hand over; their --inherit-fd keys are in `options` */
        size_t n_fds;
        char *const *environment; /* NULL: ours */
        char *const *cgroups;     /* directories of cgroups to run in, NULL-terminated; NULL: ours */
        bool in_session;          /* stay in our session (a shell job's restore); else CRIU gets its own */
        int lock_fd;              /* -EBADF or a descriptor CRIU inherits, so that its lock lives as long as CRIU */
};

/**
 * Starts `criu dump|restore --stream …` with --no-default-config. stdout and stderr of CRIU go to its log.
 *
 * @return the PID, ret_pidfd its pidfd
 */
pid_t criu_start(const struct criu_run *run, int *ret_pidfd, struct st_error **err);

/** The log of a run: work_dir/dump.log or restore.log; malloc'ed. */
char *criu_log_path(const char *work_dir, enum criu_operation operation);

/** Times and sizes of a run, from stats-dump or stats-restore; microseconds. */
struct criu_statistics {
        uint64_t freezing_us, frozen_us, memory_dump_us, memory_write_us; /* dump */
        uint64_t pages_scanned, pages_written;
        uint64_t forking_us, restore_us; /* restore */
        uint64_t pages_restored;
};

/** @return 0, -ENOENT without statistics, -EBADMSG */
int criu_statistics_read(const char *work_dir, enum criu_operation operation, struct criu_statistics *ret);

/**
 * What a log of CRIU says of the failure: its root cause, not its last words ("Dumping FAILED") and not harmless errors
 * (setting RLIMIT_NOFILE without CAP_SYS_RESOURCE). With a hint where one is known.
 *
 * @param log text of the log, NUL-terminated
 * @param ret_cause, ret_hint malloc'ed; NULL when there is none
 */
void criu_digest(const char *log, char **ret_cause, char **ret_hint);

/**
 * Turns a failed run into an error with hint: "CRIU could not dump process tree: <root cause> (log: PATH)". The log is
 * moved to the log directory (path_log_dir()) as `name`.log (`name`-2.log when that is taken); of a huge one only the
 * beginning and the end is kept. An error that *err already holds (our side of a broken stream) is the root cause: it
 * keeps its number, and the log is only named.
 *
 * @param status wait status of CRIU
 * @param number errno of the error, 0: chosen by the cause (EIO when unknown)
 * @param keep how many logs of failed runs the log directory may hold; older ones are removed, 0: none is kept
 */
int criu_fail(const char *work_dir, enum criu_operation operation, int status, const char *name, int number,
              size_t keep, struct st_error **err);
