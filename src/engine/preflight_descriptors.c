/* SPDX-License-Identifier: Apache-2.0 */

/* Descriptors that CRIU cannot dump. */

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "engine/preflight_dump.h"
#include "process/idmap.h"
#include "process/namespaces.h"
#include "process/parse.h"

void preflight_io_uring(struct st_dump *dump, struct dump_problems *problems) {
        const struct process_fds *urings = &dump_context(dump)->analysis->io_urings;

        if (urings->n > 0)
                dump_problem(problems, EOPNOTSUPP,
                             "turn io_uring off in the program's settings, "
                             "or by sysctl kernel.io_uring_disabled=2 before it starts",
                             "process %d uses io_uring (descriptor %d), which CRIU cannot dump", urings->items[0].pid,
                             urings->items[0].fd);
}

/* What the checks of one process's files need. */
struct files_check {
        struct st_dump *dump;
        struct dump_problems *problems;
        struct idmap mounts; /* ids of all mounts that the tree sees */
        bool own_network;    /* the tree is in the network namespace that we are in */
        bool autofs;         /* there is one among the mounts: its pipes are an exception */
        bool plugins;        /* CRIU has plugins, which may know devices */
        struct strv strays;  /* files of mounts that the tree does not see, of the process that is looked at */
};

/* include/uapi/linux/{major,miscdevice}.h of the kernel */
#define MEMORY_MAJOR 1
#define VT_MAJOR 4
#define VT_LAST_MINOR 63
#define MISC_MAJOR 10
#define TUN_MINOR 200
#define AUTOFS_MINOR 235

static void report_file(struct files_check *check, const Daemon__ProcessState *state, const Daemon__File *file,
                        const char *what, const char *hint) {
        dump_problem(check->problems, EOPNOTSUPP, hint,
                     "process %u has %s open (descriptor %" PRIu64 "%s%s), which "
                     "CRIU cannot dump",
                     state->pid, what, file->fd, what == file->path ? "" : ", ", what == file->path ? "" : file->path);
}

/** A number in a line "Key:\tvalue" of a descriptor's fdinfo, proc_pid_fdinfo(5). @return 0 or -ENOENT */
static int read_info(const Daemon__ProcessState *state, const Daemon__File *file, const char *key, int base,
                     int64_t *ret) {
        _cleanup_free_ char *path = xasprintf("fdinfo/%" PRIu64, file->fd);
        _cleanup_free_ char *value = proc_read_value((pid_t)state->pid, path, key);

        if (!value)
                return -ENOENT;
        *ret = strtoll(value, NULL, base);
        return 0;
}

static bool is_in_tree(const struct process_analysis *analysis, int64_t pid) {
        for (size_t i = 0; i < analysis->n_tasks; i++)
                if (analysis->tasks[i].pid == pid)
                        return true;
        return false;
}

static void check_pidfd(struct files_check *check, const Daemon__ProcessState *state, const Daemon__File *file) {
        int64_t pid, flags;

        if (read_info(state, file, "flags", 8, &flags) == 0 && (flags & O_EXCL)) /* PIDFD_THREAD is O_EXCL */
                report_file(check, state, file, "a pidfd of a thread", NULL);
        else if (read_info(state, file, "Pid", 10, &pid) == 0 && pid != -1 &&
                 !is_in_tree(dump_context(check->dump)->analysis, pid))
                report_file(check, state, file, "a pidfd of a process outside its tree",
                            "dump the tree that holds both processes");
}

static void check_anonymous(struct files_check *check, const Daemon__ProcessState *state, const Daemon__File *file,
                            const char *kind) {
        /* bpf-map: only some builds of CRIU know it. io_uring has its own check. */
        static const char *const fine[] = { "[eventfd]", "[eventpoll]", "inotify",   "[fanotify]", "[signalfd]",
                                            "[timerfd]", "bpf-map",     "[bpf-map]", "[io_uring]", "[eventfd-file]" };

        if (streq(kind, "[pidfd]")) {
                check_pidfd(check, state, file);
                return;
        }
        for (size_t i = 0; i < ELEMENTSOF(fine); i++)
                if (streq(kind, fine[i]))
                        return;
        report_file(check, state, file, file->path, NULL);
}

/** A node of a device. @param character not a block device */
static void check_device(struct files_check *check, const Daemon__ProcessState *state, const Daemon__File *file,
                         bool character) {
        unsigned major_number = major(file->rdev), minor_number = minor(file->rdev);

        if (file->istty) {
                /* Of the major number of virtual terminals CRIU knows only these. */
                if (major_number == VT_MAJOR && (minor_number == 0 || minor_number > VT_LAST_MINOR))
                        report_file(check, state, file, "a device", NULL);
                return;
        }
        if (!character) {
                if (!check->plugins)
                        report_file(check, state, file, "a block device", NULL);
                return;
        }
        if (major_number == MEMORY_MAJOR || (major_number == MISC_MAJOR && minor_number == AUTOFS_MINOR))
                return;
        if (major_number == MISC_MAJOR && minor_number == TUN_MINOR) {
                if (check->own_network)
                        report_file(check, state, file, "a TUN device of the host's network",
                                    "run it in a network namespace of its own");
                return;
        }
        if (!check->plugins)
                report_file(check, state, file, "a device", NULL);
}

/** Did the user declare the file external, file[MOUNT:INODE]? */
static bool is_external(const struct st_dump *dump, const Daemon__File *file) {
        _cleanup_free_ char *key = xasprintf("file[%" PRIx64 ":%" PRIx64 "]", file->mountid, file->inode);

        for (size_t i = 0; i < dump->criu->n_external; i++)
                if (text_after(dump->criu->external[i], key))
                        return true;
        return false;
}

static void check_path(struct files_check *check, const Daemon__ProcessState *state, const Daemon__File *file) {
        if (text_after(file->path, "/memfd:") || file->istty || is_external(check->dump, file))
                return;
        if (streq(file->path, "/secretmem (deleted)"))
                report_file(check, state, file, "secret memory", "turn off memfd_secret in the program's settings");
        else if (check->mounts.n > 0 && file->mountid && !idmap_get(&check->mounts, file->mountid))
                strv_addf(&check->strays, "%" PRIu64 " %s", file->fd, file->path);
}

static void check_file(struct files_check *check, const Daemon__ProcessState *state, const Daemon__File *file) {
        const char *path = file->path ?: "", *kind = text_after(path, "anon_inode:");
        struct stat st;
        int64_t flags;

        if (kind)
                check_anonymous(check, state, file, kind);
        else if (text_after(path, "pipe:[")) {
                /* Writers are asked, too: the two ends of a packet pipe are made together. */
                if (!check->autofs && streq(file->mode, "w") && read_info(state, file, "flags", 8, &flags) == 0 &&
                    (flags & O_DIRECT))
                        report_file(check, state, file, "a pipe of packets (O_DIRECT)", NULL);
        } else if (*path == '/') {
                _cleanup_free_ char *link = xasprintf("/proc/%u/fd/%" PRIu64, state->pid, file->fd);

                check_path(check, state, file);
                if (file->rdev != 0 && stat(link, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
                        check_device(check, state, file, S_ISCHR(st.st_mode));
        }
}

static void note_mounts(struct files_check *check, const Daemon__ProcessState *state) {
        for (size_t i = 0; i < state->n_mounts; i++) {
                idmap_put(&check->mounts, state->mounts[i]->id, 1);
                if (streq(state->mounts[i]->fstype, "autofs"))
                        check->autofs = true;
        }
        for (size_t i = 0; i < state->n_children; i++)
                note_mounts(check, state->children[i]);
}

/** Those that were opened before the process got a mount namespace, or whose mount was taken away lazily. */
static void report_strays(struct files_check *check, const Daemon__ProcessState *state) {
        _cleanup_free_ char *list = strv_join(&check->strays, ", ");

        if (check->strays.n > 0)
                dump_problem(check->problems, EOPNOTSUPP,
                             "let it open them itself, after it got its mounts: "
                             "'unshare --mount sh -c \"exec PROGRAM </dev/null >FILE\"'",
                             "process %u has files open of mounts that it does not see (descriptor %s), "
                             "which CRIU cannot dump",
                             state->pid, list);
        strv_clear(&check->strays);
}

static void check_files(struct files_check *check, const Daemon__ProcessState *state) {
        for (size_t i = 0; i < state->n_openfiles; i++)
                check_file(check, state, state->openfiles[i]);
        report_strays(check, state);
        for (size_t i = 0; i < state->n_children; i++)
                check_files(check, state->children[i]);
}

static bool directory_has_plugins(const char *path) {
        _cleanup_closedir_ DIR *dir = opendir(path);
        const struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (text_ends_with(entry->d_name, ".so"))
                        return true;
        return false;
}

bool preflight_criu_has_plugins(void) {
        static const char *const places[] = { "/usr/lib/criu", "/usr/lib64/criu", "/usr/local/lib/criu",
                                              "/usr/lib/x86_64-linux-gnu/criu", "/usr/lib/aarch64-linux-gnu/criu" };

        for (size_t i = 0; i < ELEMENTSOF(places); i++)
                if (directory_has_plugins(places[i]))
                        return true;
        return getenv("CRIU_LIBS_DIR") && directory_has_plugins(getenv("CRIU_LIBS_DIR"));
}

void preflight_descriptors(struct st_dump *dump, struct dump_problems *problems) {
        struct files_check check = {
                .dump = dump,
                .problems = problems,
                .own_network = !namespaces_differ(dump->pid, "net"),
                .plugins = preflight_criu_has_plugins(),
        };

        note_mounts(&check, dump->state);
        check_files(&check, dump->state);
        idmap_clear(&check.mounts);
}

/* Names of protocols (net/core/sock.c: struct proto) that CRIU dumps. */
static bool is_known_protocol(const char *name) {
        static const char *const known[] = {
                "TCP",    "TCPv6", "UDP",   "UDPv6", "UDP-Lite",    "UDPLITEv6", "PING",
                "PINGv6", "RAW",   "RAWv6", "UNIX",  "UNIX-STREAM", "NETLINK",   "PACKET"
        };

        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (streq(name, known[i]))
                        return true;
        return false;
}

/** Has a netlink socket unread messages? The columns of /proc/net/netlink: … Rmem is the fifth, Inode the last. */
static bool netlink_has_data(pid_t pid, uint64_t inode) {
        _cleanup_free_ char *text = NULL;
        char *cursor, *line;

        if (proc_read_file(pid, "net/netlink", &text, NULL) < 0)
                return false;
        cursor = text;
        while ((line = parse_line(&cursor))) {
                uint64_t memory, number;

                if (sscanf(line, "%*s %*s %*s %*s %" SCNu64 " %*s %*s %*s %*s %" SCNu64, &memory, &number) == 2 &&
                    number == inode)
                        return memory > 0;
        }
        return false;
}

/* A program that follows messages reads them at once; one that leaves them for so long will leave them longer. */
#define NETLINK_WAIT_MS 200
#define NETLINK_STEP_MS 20

static void check_netlink(struct dump_problems *problems, const Daemon__ProcessState *state, unsigned fd,
                          const char *link) {
        struct stat st;

        if (stat(link, &st) < 0)
                return;
        for (int waited = 0; netlink_has_data((pid_t)state->pid, st.st_ino); waited += NETLINK_STEP_MS) {
                if (waited >= NETLINK_WAIT_MS) {
                        dump_problem(problems, EBUSY, "try again when the program has read them",
                                     "process %u has a netlink socket with unread messages (descriptor %u), "
                                     "which CRIU cannot dump",
                                     state->pid, fd);
                        return;
                }
                (void)poll(NULL, 0, NETLINK_STEP_MS);
        }
}

static void check_socket(struct dump_problems *problems, const Daemon__ProcessState *state, unsigned fd) {
        _cleanup_free_ char *link = xasprintf("/proc/%u/fd/%u", state->pid, fd);
        char name[64];
        ssize_t n = getxattr(link, "system.sockprotoname", name, sizeof(name) - 1);

        if (n <= 0)
                return;
        name[n] = 0;
        if (streq(name, "NETLINK"))
                check_netlink(problems, state, fd, link);
        else if (!is_known_protocol(name))
                dump_problem(problems, EOPNOTSUPP,
                             text_after(name, "MPTCP") ? "for a program in Go set GODEBUG=multipathtcp=0; "
                                                         "for others see sysctl net.mptcp.enabled"
                                                       : NULL,
                             "process %u has a socket of protocol %s open (descriptor %u), which CRIU cannot dump",
                             state->pid, name, fd);
}

static void check_sockets(struct dump_problems *problems, const Daemon__ProcessState *state) {
        for (size_t i = 0; i < state->n_openconnections; i++) {
                const Daemon__Connection *connection = state->openconnections[i];

                /* What sock_diag(7) knows has addresses: these are TCP, UDP and UNIX. */
                if (!connection->laddr && connection->family != AF_UNIX)
                        check_socket(problems, state, connection->fd);
        }
        for (size_t i = 0; i < state->n_children; i++)
                check_sockets(problems, state->children[i]);
}

void preflight_sockets(struct st_dump *dump, struct dump_problems *problems) {
        check_sockets(problems, dump->state);
}
