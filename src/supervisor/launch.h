/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Starting the process of a job by stasis-launch: a small program that becomes what the settings say (cgroup,
 * namespaces, limits, session, user, directory) and then executes the command, so that nothing of the worker or the
 * daemon is left in it. It reads its settings from a memory file at descriptor 3 and reports what fails at 4.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

/* More than this, arguments and environment included, is refused: the kernel takes no more either. */
#define LAUNCH_SIZE_MAX (8 * 1024 * 1024)

struct launch_limit {
        int resource;        /* RLIMIT_… of the kernel */
        uint64_t soft, hard; /* RLIM_INFINITY: unlimited */
};

/** All pointers are the caller's. Lists of texts end with NULL; a NULL list is empty. */
struct launch_settings {
        const char *path;         /* with a slash; a relative one begins at `directory` */
        char *const *argv;        /* with argv[0]; not empty */
        char *const *environment; /* all of it */
        const char *directory;    /* entered as the job's user; NULL: / */
        bool init;                /* stasis-init stays as the root, the command is its child */

        char *const *cgroups;   /* directories; one that cannot be joined is a warning */
        int namespaces;         /* pidfd of a process whose namespaces to join, all but the user one; -EBADF: none */
        bool session, terminal; /* lead a session; descriptor 0 becomes its controlling terminal */

        const struct launch_limit *limits; /* the others stay; one above what we may have is cut, with a warning */
        size_t n_limits;
        const char *cpus; /* that it may run on: "0-3,8"; NULL: as ours. Refused: a warning */
        bool set_nice;
        int nice;                              /* refused: a warning */
        bool set_oom, set_umask, set_identity; /* is what follows to be set? */
        int oom_score_adj;                     /* one that is refused is a warning */
        mode_t umask;
        uid_t uid;
        gid_t gid;
        const gid_t *groups; /* supplementary ones */
        size_t n_groups;
};

/**
 * Starts the process and waits until the command has been executed, so a command that cannot be run is an error here.
 *
 * @param stdio what becomes its descriptors 0, 1 and 2; -EBADF: /dev/null. Stay the caller's. Pipes and terminals among
 *              them are given to the job's user, so that it can open /dev/stdout
 * @param ret_pidfd may be NULL; close-on-exec, the caller's
 * @return the PID, a child of ours, or a negative errno with err: -ENOENT, -EACCES, -EISDIR, -ENOEXEC, … of the command
 */
pid_t launch_start(const struct launch_settings *settings, const int stdio[static 3], int *ret_pidfd,
                   struct st_error **err);

/* --- Between launch_start() and stasis-launch; for them and their tests --- */

/** As launch_start(), with programs from elsewhere. init: NULL without settings->init. */
pid_t launch_start_by(const char *launcher, const char *init, const struct launch_settings *settings,
                      const int stdio[static 3], int *ret_pidfd, struct st_error **err);

#define LAUNCH_SETTINGS_FD 3
#define LAUNCH_REPORT_FD 4
#define LAUNCH_NAMESPACES_FD 5

/** As launch_settings, read back. Free with launch_parsed_clear(). */
struct launch_parsed {
        struct launch_settings settings; /* points into the rest; `namespaces` is LAUNCH_NAMESPACES_FD or -EBADF */
        const char *init_path;           /* NULL: no init */
        char **texts[3];                 /* argv, environment, cgroups */
        struct launch_limit *limits;
        gid_t *groups;
};

/**
 * The settings as bytes. `namespaces` says only whether there is one.
 *
 * @param init_path of stasis-init; NULL when settings->init is not set
 * @return 0, -E2BIG, -EINVAL: no path or no argv
 */
int launch_pack(const struct launch_settings *settings, const char *init_path, char **ret, size_t *ret_size);

/** Reads what launch_pack() wrote; strict. The result points into data. @return 0, -EBADMSG */
int launch_parse(const char *data, size_t size, struct launch_parsed *ret);

void launch_parsed_clear(struct launch_parsed *parsed);

enum launch_step {
        LAUNCH_WARNING_CGROUP = 1, /* it went on */
        LAUNCH_WARNING_LIMIT,
        LAUNCH_WARNING_OOM,
        LAUNCH_WARNING_NICE,
        LAUNCH_WARNING_CPUS,
        LAUNCH_FORKED, /* `number` is the PID of the process that goes on: a PID namespace was entered */
        LAUNCH_SETTINGS,
        LAUNCH_NAMESPACES,
        LAUNCH_LIMIT,
        LAUNCH_SESSION,
        LAUNCH_TERMINAL,
        LAUNCH_IDENTITY,
        LAUNCH_DIRECTORY,
        LAUNCH_INIT, /* stasis-init cannot be run */
        LAUNCH_EXEC,
};

/* Why a command cannot be executed, where the errno alone does not tell. */
enum launch_why {
        LAUNCH_WHY_ERRNO,
        LAUNCH_WHY_DIRECTORY,   /* it is one */
        LAUNCH_WHY_NOT_REGULAR, /* a device, a socket … */
        LAUNCH_WHY_NO_X,        /* nobody may execute it */
        LAUNCH_WHY_INTERPRETER, /* that of its #! (`detail`) is not there */
        LAUNCH_WHY_LOADER,      /* the same of its ELF header */
        LAUNCH_WHY_NO_PROGRAM,  /* neither #! nor a format of the kernel */
        LAUNCH_WHY_MOUNT,       /* on a file system without exec */
};

/** One message at LAUNCH_REPORT_FD, written at once: less than PIPE_BUF. The end without one of a failure: executed. */
struct launch_report {
        int32_t number; /* errno, positive */
        uint8_t step;   /* enum launch_step */
        uint8_t why;    /* enum launch_why */
        uint8_t zero[2];
        char detail[248]; /* NUL-terminated */
};
