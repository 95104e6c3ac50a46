/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands in the way of a dump or a restore: `obstacles KIND [ARGUMENT]` sets it up, prints "ready" and waits. When
 * this machine does not have it, the exit code is 77.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static void ready(void) {
        printf("ready %d\n", (int)getpid());
        fflush(stdout);
}

static void need(int result) {
        if (result < 0)
                exit(77);
}

static void *wait_for_ever(void *unused) {
        for (;;)
                pause();
        return unused;
}

static void vsock(const char *argument) {
        (void)argument;
        need(socket(AF_VSOCK, SOCK_STREAM, 0));
}

static void mptcp(const char *argument) {
        (void)argument;
        need(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));
}

static void pidfd(const char *argument) {
        (void)argument;
        need((int)syscall(SYS_pidfd_open, getppid(), 0));
}

static void userfault(const char *argument) {
        (void)argument;
        need((int)syscall(SYS_userfaultfd, 0));
}

static void device(const char *argument) {
        need(open(argument, O_RDONLY));
}

static void packets(const char *argument) {
        int fds[2];

        (void)argument;
        need(pipe2(fds, O_DIRECT));
}

static void sysv(const char *argument) {
        int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);

        (void)argument;
        need(id);
        if (shmat(id, NULL, 0) == (void *)-1)
                exit(77);
        shmctl(id, IPC_RMID, NULL);
}

/* The first thread ends, another goes on. */
static void headless(const char *argument) {
        pthread_t thread;

        (void)argument;
        need(-pthread_create(&thread, NULL, wait_for_ever, NULL));
        ready();
        pthread_exit(NULL);
}

/* The parent hangs in the kernel until its child is done. */
static void vforked(const char *argument) {
        (void)argument;
        ready();
        if (syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) == 0)
                wait_for_ever(NULL);
}

static void traced(const char *argument) {
        pid_t child = fork();

        (void)argument;
        if (child == 0)
                wait_for_ever(NULL);
        need(child);
        need((int)ptrace(PTRACE_SEIZE, child, 0, 0));
}

static void nested(const char *argument) {
        pid_t child = fork();

        (void)argument;
        if (child == 0) {
                need(unshare(CLONE_NEWUTS));
                ready();
                wait_for_ever(NULL);
        }
        need(child);
        wait_for_ever(NULL);
}

/* A deleted file of so many bytes, written to. */
static void ghost(const char *argument) {
        size_t size = strtoul(argument, NULL, 10);
        int fd = open("ghost", O_RDWR | O_CREAT | O_TRUNC, 0600);

        need(fd);
        need(posix_fallocate(fd, 0, (off_t)size) == 0 ? 0 : -1);
        need(unlink("ghost"));
}

/* A deleted file that has another name. */
static void linked(const char *argument) {
        (void)argument;
        need(open("one", O_RDWR | O_CREAT, 0600));
        need(link("one", "two"));
        need(unlink("one"));
}

/* Takes a PID as the process group of somebody else only. */
static void group(const char *argument) {
        pid_t wanted = (pid_t)strtol(argument, NULL, 10);
        struct clone_args args = {
                .exit_signal = SIGCHLD,
                .set_tid = (uint64_t)(uintptr_t)&wanted,
                .set_tid_size = 1,
        };
        pid_t own = getpid(), leader;

        need(prctl(PR_SET_CHILD_SUBREAPER, 1)); /* so the one that is left comes to us, and ends with us */
        need(leader = (pid_t)syscall(SYS_clone3, &args, sizeof(args)));
        if (leader == 0) {
                setpgid(0, 0);
                if (fork() == 0) {
                        while (getppid() != own)
                                usleep(1000);
                        need(prctl(PR_SET_PDEATHSIG, SIGKILL));
                        ready();
                        wait_for_ever(NULL);
                }
                _exit(0);
        }
        (void)waitpid(leader, NULL, 0);
        wait_for_ever(NULL);
}

static void listener(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        unlink(path);
        if (address.sun_path[0] == '@')
                address.sun_path[0] = '\0';
        need(bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))));
        need(listen(fd, 1));
}

static const struct {
        const char *name;
        void (*make)(const char *argument);
} kinds[] = {
        { "vsock", vsock },     { "mptcp", mptcp },     { "pidfd", pidfd },       { "userfault", userfault },
        { "device", device },   { "packets", packets }, { "sysv", sysv },         { "headless", headless },
        { "vforked", vforked }, { "traced", traced },   { "nested", nested },     { "ghost", ghost },
        { "linked", linked },   { "group", group },     { "listener", listener },
};

int main(int argc, char **argv) {
        for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (strcmp(kinds[i].name, argv[1]) == 0) {
                        kinds[i].make(argc > 2 ? argv[2] : "");
                        ready();
                        wait_for_ever(NULL);
                }
        return 2;
}
