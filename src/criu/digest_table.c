/* SPDX-License-Identifier: Apache-2.0 */
/* The messages are those of CRIU 4.1 to 4.2.1. */
#include <errno.h>

#include "base/cleanup.h"
#include "criu/digest.h"

#define HINT_SHELL_JOB "add --shell-job, or start it as a job (stasis run)"
#define HINT_OURS "the reason is in stasis itself: cancelled, a full disk, a damaged checkpoint"
#define HINT_IMAGE "run 'stasis checkpoint verify' on it"
#define HINT_NETWORK_LOCK \
        "install iptables, or use --criu-opts '{\"network_lock\": \"NFTABLES\"}' (SKIP: without any lock)"

/* Rows that say nothing in plainer words than CRIU's. */
#define HARMLESS(text) \
        { .pattern = (text), .rank = DIGEST_HARMLESS }
#define TAIL(text) \
        { .pattern = (text), .rank = DIGEST_TAIL }
#define FOLLOWS(text) \
        { .pattern = (text), .rank = DIGEST_CONSEQUENCE }

static const struct digest_row rows[] = {
        /* Harmless: a root without CAP_SYS_RESOURCE, a kernel without what is only asked for */
        HARMLESS("Can't setup RLIMIT_*Operation not permitted"),
        HARMLESS("prlimit*Operation not permitted"),
        HARMLESS("This is not fatal"),

        /* Only that it failed */
        TAIL("Dumping FAILED"),
        TAIL("Restoring FAILED"),
        TAIL("failed with -1"),
        TAIL("script failed with"),
        TAIL("Unable to detach from *"),
        TAIL("exited, status=*"),
        TAIL("Message reply from daemon is trimmed"),
        TAIL("Can't retrieve FDs from socket"),
        TAIL("Couldn't open image dir"),
        TAIL("One of more action scripts failed"),
        TAIL("Killing processes because of failure on restore"),

        /* What follows from something else */
        FOLLOWS("Unable to open fd=* id=*"),
        FOLLOWS("Can't open vma"),
        FOLLOWS("Can't open cwd"),
        FOLLOWS("Can't open core data for *"),
        FOLLOWS("Can't dump page with parasite"),
        { "* killed by signal *: *", DIGEST_CONSEQUENCE, .number = ECANCELED,
          .cause = "the process $1 was killed by signal $2 ($3) while it was restored",
          .hint = "is there enough memory? The kernel's log names what it killed for want of it" },
        { "*execvp(\"*\", ...) failed: No such file or directory", DIGEST_CONSEQUENCE, .number = ENOPKG,
          .cause = "CRIU needs the program $2, which is not installed" },

        /* The network lock */
        { "Iptables configuration failed", DIGEST_CAUSE, .number = ENOPKG,
          .cause = "CRIU could not lock the network: iptables is missing or does not work", .hint = HINT_NETWORK_LOCK },
        { "Locking network failed: iptables-restore", DIGEST_CAUSE, .number = ENOPKG,
          .cause = "CRIU could not lock the network: iptables-restore is missing or does not work",
          .hint = HINT_NETWORK_LOCK },
        { "Locking * failed using nftables", DIGEST_CAUSE, .number = ENOPKG,
          .cause = "CRIU could not lock the network: nftables does not work",
          .hint = "load the kernel's module nf_tables, or use --criu-opts '{\"network_lock\": \"IPTABLES\"}'" },
        { "CRIU was built without libnftables support", DIGEST_CAUSE, .number = ENOPKG,
          .hint = "use --criu-opts '{\"network_lock\": \"IPTABLES\"}', or rebuild CRIU with libnftables" },
        { "Failed to lock TCP connection", DIGEST_CONSEQUENCE, .cause = "CRIU could not lock a TCP connection" },

        /* Sockets */
        { "Connected TCP socket, consider", DIGEST_CAUSE, .number = EOPNOTSUPP, .cause = "a TCP connection is in use",
          .hint = "add --tcp-established to keep it, or --criu-opts '{\"tcp_close\": true}' to drop it" },
        { "Connected TCP socket in image", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the checkpoint holds an open TCP connection",
          .hint = "add --tcp-established to keep it, or --tcp-close to drop it" },
        { "Need to set the --tcp-close options", DIGEST_CAUSE, .number = EINVAL,
          .cause = "the checkpoint was made with its TCP connections dropped", .hint = "add --tcp-close" },
        { "In-flight connection", DIGEST_CAUSE, .number = EBUSY, .cause = "a TCP connection waits to be accepted",
          .hint = "try again, or add --skip-in-flight to drop it" },
        { "multipathtcp", DIGEST_CAUSE, .number = EOPNOTSUPP, .cause = "a multipath TCP socket is open",
          .hint = "a Go program uses none with GODEBUG=multipathtcp=0" },
        { "Can't bind inet socket*Address already in use", DIGEST_CAUSE, .number = EADDRINUSE,
          .cause = "the address of a socket of the checkpoint is in use by another process",
          .hint = "'ss -ltnup' shows who listens where; end it, or restore in another network namespace" },
        { "Can't bind inet socket*: Cannot assign requested address", DIGEST_CAUSE, .number = EADDRNOTAVAIL,
          .cause = "this machine lacks the IP address of a socket of the checkpoint",
          .hint = "add the address to an interface, or add --tcp-close" },
        { "Can't bind inet socket*: *", DIGEST_CAUSE, .cause = "a network socket cannot be bound again: $2" },
        { "unix: Can't bind id * addr *: Address already in use", DIGEST_CAUSE, .number = EADDRINUSE,
          .cause = "the name of a UNIX socket of the checkpoint is in use by another process",
          .hint = "'ss -lxp' shows by which" },
        { "External socket is used", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "a UNIX socket is connected to a process outside the tree",
          .hint = "checkpoint both together, or add --external 'unix[INODE]' or --criu-opts "
                  "'{\"ext_unix_sk\": true}'" },
        { "External socket found in image", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the checkpoint holds a UNIX socket that was connected to a process outside the tree",
          .hint = "add --criu-opts '{\"ext_unix_sk\": true}'" },
        { "Can't dump name-less external socket", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "a nameless UNIX socket (a socketpair) is connected to a process outside the tree",
          .hint = "checkpoint both together" },
        { "Unix socket * with unreachable peer *", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the UNIX socket $1 is connected to one that cannot be reached ($2)",
          .hint = "checkpoint both together, or add --external 'unix[INODE]'" },
        { "Unknown socket collected (family *)", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "a socket of address family $1 is open, which CRIU cannot checkpoint",
          .hint = "AF_VSOCK is 40, AF_ALG 38; close it before the dump" },
        { "Unsupported proto * for socket *", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "a socket of protocol $1 is open, which CRIU cannot checkpoint" },

        /* Descriptors */
        { "send_fds failed (-22)", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "a descriptor of io_uring is open, which the kernel does not let CRIU have",
          .hint = "turn io_uring off in the program (UV_USE_IO_URING=0 for Node.js)" },
        { "Can't dump file * of that type [*] (*)", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the descriptor $1 ($3) is of a kind that CRIU cannot checkpoint",
          .hint = "close it before the dump; a device can be named by --external 'dev[MAJOR/MINOR]:NAME'" },
        { "Can't dump ghost file * of * size", DIGEST_CAUSE, .number = EFBIG,
          .cause = "the file $1 is deleted but open, and too large to be kept in the checkpoint ($2 bytes)",
          .hint = "raise the limit: --criu-opts '{\"ghost_limit\": $2}'" },
        { "Can't create link remap for *. Use", DIGEST_CAUSE, .number = EBUSY,
          .cause = "the open file $1 was removed but has other names", .hint = "add --link-remap" },
        { "Some file locks are hold by dumping tasks", DIGEST_CAUSE, .number = EBUSY, .cause = "file locks are held",
          .hint = "add --file-locks" },
        { "Can't lookup mount=* for fd=* path=*", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the descriptor $2 ($3) is on a mount that its process does not see",
          .hint = "a program started by nsenter --net keeps the mounts; close the descriptor or pass --external "
                  "'file[MNT_ID:INODE]'" },
        { "File * has bad size * (expect *)", DIGEST_CAUSE, .number = ESTALE,
          .cause = "the file /$1 has changed since the checkpoint: its size is $2, it was $3",
          .hint = "put the file back as it was; an output that grows must be opened for appending" },
        { "File * has bad mode * (expect *)", DIGEST_CAUSE, .number = ESTALE,
          .cause = "the mode of the file /$1 has changed since the checkpoint: it is $2, it was $3",
          .hint = "chmod it back, or add --criu-opts '{\"skip_file_rwx_check\": true}'" },
        { "File * has bad build-ID", DIGEST_CAUSE, .number = ESTALE,
          .cause = "the program or library /$1 is another one than at the checkpoint",
          .hint = "restore with the same version of it" },
        { "Can't open file * on restore: *", DIGEST_CAUSE, .number = ENOENT,
          .cause = "the file /$1 of the checkpoint cannot be opened: $2", .hint = "put it back before the restore" },
        { "has uprobes vma", DIGEST_CAUSE, .number = EOPNOTSUPP, .cause = "a uprobe is set in the process",
          .hint = "remove the probe (perf, bpftrace) first" },

        /* Terminals and sessions */
        { "not a session leader", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the process belongs to a session of somebody else (a shell)", .hint = HINT_SHELL_JOB },
        { "A session leader of * is outside", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the session leader of process $1 is outside the tree", .hint = HINT_SHELL_JOB },
        { "Found dangling tty", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the process uses a terminal of somebody else", .hint = HINT_SHELL_JOB },
        { "Found slave peer index * without correspond master", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the process uses a terminal (pts/$1) whose other end is outside the tree", .hint = HINT_SHELL_JOB },
        { "Don't have tty to inherit session from", DIGEST_CAUSE, .number = ENOTTY,
          .cause = "the checkpoint needs a terminal, and there is none",
          .hint = "restore it from a terminal with --attach" },
        { "ctty inheritance detected", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the controlling terminal belongs to a process outside the tree", .hint = HINT_SHELL_JOB },
        { "Requested sid * doesn't match inherited *", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the session $1 of the checkpoint cannot be made again", .hint = "add --shell-job" },
        { "Can't find a session leader for *", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the leader of session $1 is not in the checkpoint", .hint = "add --shell-job" },
        { "intersects with", DIGEST_CAUSE, .number = EEXIST,
          .cause = "a process, group or session number of the checkpoint is the one of the restoring session",
          .hint = "restore it from another session" },

        /* Processes */
        { "Can't fork for *: File exists", DIGEST_CAUSE, .number = EEXIST, .cause = "the PID $1 is already taken",
          .hint = "'ps -p $1' shows by which process; a zombie goes when its parent waits for it" },
        { "Can't fork for *: *", DIGEST_CAUSE, .cause = "the process $1 cannot be created: $2",
          .hint = "is a limit of processes reached (ulimit -u, pids.max, kernel.pid_max)?" },
        { "Unable to interrupt task: * (No such process)", DIGEST_CONSEQUENCE, DIGEST_WARNING, .number = ESRCH,
          .cause = "the process $1 does not exist any more" },
        { "Unable to interrupt task: * (Operation not permitted)", DIGEST_CONSEQUENCE, DIGEST_WARNING, .number = EPERM,
          .cause = "the process $1 cannot be traced: it is a zombie or a kernel thread, a debugger traces it already, "
                   "or CAP_SYS_PTRACE is missing",
          .hint = "see State and TracerPid in /proc/$1/status" },
        { "is already being traced", DIGEST_CAUSE, .number = EBUSY, .cause = "a debugger traces the process already" },
        { "The criu itself is within dumped tree", DIGEST_CAUSE, .number = EINVAL,
          .cause = "stasis itself belongs to the process tree",
          .hint = "start the daemon from another process, or name the PID of the program itself" },
        { "Unseizable non-zombie * found, state *,", DIGEST_CAUSE, .number = EBUSY,
          .cause = "the process $1 does not stop (state $2)",
          .hint = "state D: it waits for a disk, or its cgroup is frozen; unfreeze it or add --criu-opts "
                  "'{\"freeze_cgroup\": \"/sys/fs/cgroup/…\"}'" },
        { "Timeout reached. Try to interrupt", DIGEST_CONSEQUENCE, .number = ETIMEDOUT,
          .cause = "the processes could not be stopped in time",
          .hint = "raise the limit: --criu-opts '{\"timeout\": 60}' (seconds)" },
        { "Unable to freeze cgroup *(", DIGEST_CAUSE, .number = ETIMEDOUT, .cause = "the cgroup $1could not be frozen",
          .hint = "a process in it does not stop; try again" },
        { "Neither a cgroupv1 (freezer.state) or cgroupv2", DIGEST_CAUSE, .number = ENOENT,
          .cause = "freeze_cgroup names no cgroup that can be frozen",
          .hint = "it is the path of a directory below /sys/fs/cgroup" },
        { "zombie * (comm *) found while seizing", DIGEST_CAUSE, .number = ESRCH,
          .cause = "the process $1 ($2) has ended: it is a zombie" },
        { "Zombies with threads are not supported", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the main thread of a process has ended while others run, which CRIU cannot checkpoint" },
        { "Individually stopped threads not supported", DIGEST_CAUSE, .number = EBUSY,
          .cause = "some threads of a process are stopped, others not", .hint = "try again" },
        { "Can't dump nested * namespace for *", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the process $2 or its children live in a $1 namespace of their own, which CRIU cannot checkpoint" },
        { "running in 32-bit mode", DIGEST_CAUSE, .number = EOPNOTSUPP },

        /* Mounts */
        { "doesn't have a proper root mount", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .hint = "add --external 'mnt[MOUNTPOINT]:NAME', at the restore --external 'mnt[NAME]:DIRECTORY'" },
        { "unreachable sharing", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .hint = "add --external 'mnt[MOUNTPOINT]:NAME' or --criu-opts '{\"ext_masters\": true}'" },
        { "is a fuse mount but not external", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .hint = "add --external 'mnt[MOUNTPOINT]:NAME'" },
        { "The --root option is required to restore", DIGEST_CAUSE, .number = EINVAL,
          .cause = "the checkpoint has mounts of its own and needs a root directory",
          .hint = "restore it by its container engine, or use --criu-opts '{\"root\": \"/DIRECTORY\"}'" },
        { "No mapping for *:* mountpoint", DIGEST_CAUSE, .number = EINVAL,
          .cause = "the external mount $2 of the checkpoint is not given",
          .hint = "add --external 'mnt[NAME]:DIRECTORY'" },

        /* Images and their stream */
        { "Can't write * bytes: Broken pipe", DIGEST_CAUSE, .number = EPIPE,
          .cause = "the stream of images was closed before its end", .hint = HINT_OURS },
        { "Unable to connect to image streamer socket*: *", DIGEST_CAUSE, .number = ECONNREFUSED,
          .cause = "CRIU could not connect to the image stream: $2" },
        { "Failed to communicate with the image streamer", DIGEST_CAUSE, .number = EPIPE,
          .cause = "the stream of images was closed before its end", .hint = HINT_OURS },
        { "Unexpected EOF on socket:[", DIGEST_CAUSE, .number = EPIPE,
          .cause = "the stream of images was closed before its end", .hint = HINT_OURS },
        { "Read * bytes while * expected from pipe:[", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "an image of the checkpoint is cut off", .hint = HINT_IMAGE },
        { "Read * bytes while * expected from *:", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "the image $3 of the checkpoint is cut off", .hint = HINT_IMAGE },
        { "Unexpected EOF on *", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "an image of the checkpoint is missing or cut off: $1", .hint = HINT_IMAGE },
        { "Reached EOF unexpectedly while reading page", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "the memory pages of the checkpoint are cut off", .hint = HINT_IMAGE },
        { "Can't read mapping page", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "the memory pages of the checkpoint cannot be read", .hint = HINT_IMAGE },
        { "Can't read async pr bytes", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "the memory pages of the checkpoint cannot be read", .hint = HINT_IMAGE },
        { "agic doesn't match for *", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "the image $1 of the checkpoint is damaged", .hint = HINT_IMAGE },
        { "Failed unpacking object * from *", DIGEST_CAUSE, .number = EBADMSG,
          .cause = "the image $2 of the checkpoint is damaged", .hint = HINT_IMAGE },
        { "Not supported images version *", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the checkpoint was made by a newer CRIU (images of version $1)", .hint = "install a newer CRIU" },
        { "Too old image, no longer supported", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "the checkpoint was made by a CRIU that is too old" },
        { "connect to lazy-pages.socket failed: *", DIGEST_CAUSE, .number = ECONNREFUSED,
          .cause = "CRIU could not connect to the server of memory pages: $1" },
        { "No space left on device", DIGEST_CAUSE, .number = ENOSPC, .hint = "free some space" },

        /* The action script, which is stasis-hook */
        { "Script * exited with *", DIGEST_CAUSE, .number = ECANCELED,
          .cause = "the hook $1 said no: the checkpoint was not committed, or its memory could not be restored",
          .hint = "the reason is in stasis itself" },

        /* The machine */
        { "CPU instruction capabilities do not match", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "this machine's processor lacks instructions that the checkpoint's had",
          .hint = "restore it on a similar processor, or, if the program can do without them, use --criu-opts "
                  "'{\"cpu_cap\": 0}'" },
        { "CPU capabilities do not match", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "this machine's processor differs from the checkpoint's",
          .hint = "restore it on the same kind of processor, or use --criu-opts '{\"cpu_cap\": 0}'" },
        { "xsave*size mismatch", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "this machine's processor has other vector registers than the checkpoint's",
          .hint = "restore it on the same kind of processor" },
        { "* LSM specified but * not supported by kernel", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "a profile of $1 is asked for, which this kernel does not have",
          .hint = "leave lsm_profile out of --criu-opts" },
        { "Can't find rt vDSO", DIGEST_CAUSE, .number = EOPNOTSUPP, .cause = "this kernel gives programs no vDSO",
          .hint = "boot it without vdso=0" },
        { "Tracking memory is not available", DIGEST_CAUSE, .number = EOPNOTSUPP,
          .cause = "this kernel does not track dirty memory", .hint = "leave track_mem out of --criu-opts" },
        { "Could not initialize kernel features detection", DIGEST_CONSEQUENCE, .number = ENOSYS,
          .cause = "CRIU does not work on this kernel", .hint = "run 'criu check'; a newer CRIU may be needed" },
        { "UFFD is not supported", DIGEST_CAUSE, .number = ENOSYS,
          .cause = "this kernel has no userfaultfd, or does not allow it", .hint = "restore without --lazy" },
        { "Function not implemented", DIGEST_CAUSE, .number = ENOSYS,
          .hint = "the kernel is too old, or was built without it" },
        { "Operation not permitted", DIGEST_CAUSE, .number = EPERM,
          .hint = "does the daemon run as root, with all capabilities?" },
        { "Permission denied", DIGEST_CAUSE, .number = EACCES },
        { "No such process", DIGEST_CAUSE, .number = ESRCH },
        { "Cannot allocate memory", DIGEST_CAUSE, .number = ENOMEM },

        /* Printed before there is a log */
        { "CRIU needs to have the CAP_SYS_ADMIN", DIGEST_CAUSE, DIGEST_PLAIN, .number = EPERM,
          .cause = "CRIU needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE", .hint = "run it as root" },
        { "unrecognized option '*'", DIGEST_CAUSE, DIGEST_PLAIN, .number = EINVAL,
          .cause = "this CRIU does not know the option $1", .hint = "install a newer CRIU" },
};

const struct digest_row *digest_rows(size_t *ret_n) {
        *ret_n = ELEMENTSOF(rows);
        return rows;
}
