/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is in a checkpoint, from CRIU's images and what stasis keeps beside them: tasks, open files, sockets, memory.
 * Needs nothing but the right to read the files: no daemon, no root, no work directory. Also for a directory that plain
 * CRIU made; there, what only stasis keeps (host, command lines, options) is not known.
 *
 * Any thread, each with an inspection of its own. Texts are as the images have them: sanitise before showing them.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <criu/criu.pb-c.h>
#include <daemon/process.pb-c.h>
#include <stasis/error.h>

#include "criu/images.h"
#include "image/image.h"

/** What is read besides the tasks. */
enum inspect_part {
        INSPECT_FILES = 1 << 0,  /* descriptors and sockets */
        INSPECT_MEMORY = 1 << 1, /* areas and pages */
};

/** More rows, or more bytes of text in them, are refused: a damaged image could make them of very little. */
#define INSPECT_ROWS_MAX ((size_t)4 << 20)
#define INSPECT_TEXT_MAX ((size_t)512 << 20)

/** Pages of CRIU_PAGE_SIZE bytes. */
struct inspect_pages {
        uint64_t present; /* in this checkpoint */
        uint64_t zero;    /* listed, without content */
        uint64_t parent;  /* in its parent */
        uint64_t lazy;    /* of `present`: may come after the process runs */
        uint64_t shared;  /* of segments that it shares: in this checkpoint, not in `present` */
};

struct inspect_task {
        pid_t pid, ppid, pgid, sid; /* ppid 0: the root */
        uint32_t state;             /* enum criu_task_state */
        int status;                 /* of a dead one: its wait status */
        size_t n_threads;
        char *command; /* command line, when stasis made the checkpoint; else the kernel's name of the task */
        bool has_creds;
        uint32_t uid, gid;
        uint32_t files_id; /* which fdinfo image is its; 0: none */
        struct inspect_pages pages;
        uint64_t mapped; /* bytes of its areas */
};

/** One descriptor of one task. */
struct inspect_fd {
        pid_t pid;
        uint32_t fd;
        const char *type;  /* "file", "pipe", "socket", … */
        char *details;     /* NULL: nothing to say */
        char *mode;        /* "rw,append,cloexec" */
        bool regular;      /* position is set */
        uint64_t position; /* bytes */
        bool has_size;     /* CRIU keeps none of what is only appended to */
        uint64_t size;     /* bytes */
};

struct inspect_socket {
        pid_t pid;
        uint32_t fd;
        unsigned family, type; /* AF_, SOCK_ */
        const char *state;     /* "LISTEN", … */
        bool established;      /* TCP with a peer */
        char *local, *remote;  /* NULL: none */
};

/** One area of the memory of one task. */
struct inspect_area {
        pid_t pid;
        uint64_t start, end;
        char permissions[5]; /* "rw-p" */
        char *what;          /* path, "[heap]", …; NULL: anonymous memory */
};

/** A line that the plugin of the checkpoint's type wants to be told: ST_SUMMARY_FILE. */
struct inspect_remark {
        char *label, *text;
};

struct inspect_images;

struct inspection {
        char *path; /* absolute or as it was given */
        enum image_format format;
        bool verified;    /* it has a manifest */
        uint64_t size;    /* bytes of its files */
        uint64_t stored;  /* bytes of the file; of a directory as `size` */
        char **ancestors; /* paths of the other images that hold pages of a native one, the parent first */
        size_t n_ancestors;

        /* From what stasis keeps; all unset when plain CRIU made it. */
        bool of_stasis;
        int64_t time;                /* seconds since 1970 */
        char *version;               /* of stasis */
        char *criu_version;          /* that dumped it; NULL: not known */
        char *type;                  /* "process" */
        Criu__CriuOpts *options;     /* that the restore repeats */
        Daemon__ProcessState *state; /* of the root, before the dump */
        struct inspect_remark *remarks;
        size_t n_remarks, remarks_room;
        size_t n_recorded, n_saved; /* files that can be rolled back; those whose content is kept */

        const CriuImage__Inventory *inventory;
        struct inspect_task *tasks; /* the root first, parents before their children */
        size_t n_tasks;
        struct inspect_task **by_pid; /* the same, sorted: inspection_find() */
        size_t n_threads;             /* of all tasks */

        struct inspect_fd *fds; /* by task, then number */
        size_t n_fds, fds_room;
        struct inspect_socket *sockets;
        size_t n_sockets, sockets_room;
        struct inspect_area *areas;
        size_t n_areas, areas_room;
        uint64_t shared_pages; /* of all segments; each counts once */

        struct inspect_images *images; /* private */
        size_t n_rows, text;           /* private: what INSPECT_ROWS_MAX and INSPECT_TEXT_MAX bound */
};

/**
 * Reads a checkpoint.
 *
 * @param parts enum inspect_part, or'ed
 * @return 0; -ENOENT, -EINVAL (no checkpoint), -EBADMSG (damaged, naming the file), -EOPNOTSUPP (images of a CRIU that
 *         is too old), -EFBIG (more than fits), -EACCES
 */
int inspect(const char *path, unsigned parts, struct inspection **ret, struct st_error **err);

struct inspection *inspection_free(struct inspection *inspection);
static inline void inspection_freep(struct inspection **inspection) {
        *inspection = inspection_free(*inspection);
}

/** @return the task, NULL: there is none */
const struct inspect_task *inspection_find(const struct inspection *inspection, pid_t pid);

/** "running", "stopped", "dead". */
const char *inspect_state_name(uint32_t state);
