/* SPDX-License-Identifier: Apache-2.0 */

/*
 * objects DIR: a process with one of nearly everything that CRIU keeps, a second thread, and three children: one that
 * sleeps, one that is stopped, one that is a zombie. When all is there it writes DIR/facts: lines of a name and a
 * number, of what a test cannot find out otherwise.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static FILE *facts;

static int must(int r, const char *what) {
        if (r < 0) {
                perror(what);
                exit(1);
        }
        return r;
}

static void fact(const char *name, long value) {
        fprintf(facts, "%s %ld\n", name, value);
}

static void *wait_forever(void *unused) {
        (void)unused;
        for (;;)
                pause();
        return NULL;
}

static uint16_t port_of(int fd) {
        struct sockaddr_in address = { 0 };
        socklen_t length = sizeof(address);
        must(getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
        return ntohs(address.sin_port);
}

static void internet(void) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
        int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        must(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
        must(listen(listener, 5), "listen");
        fact("listener", listener);
        fact("port", port_of(listener));

        int client = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        address.sin_port = htons(port_of(listener));
        must(connect(client, (struct sockaddr *)&address, sizeof(address)), "connect");
        int server = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
        must((int)write(client, "on its way", 10), "write");
        fact("client", client);
        fact("client_port", port_of(client));
        fact("server", server);

        int udp = must(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
        must(bind(udp, (struct sockaddr *)&any, sizeof(any)), "bind");
        fact("udp", udp);
}

static void local(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
        int pair[2], listener = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        must(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
        must(listen(listener, 5), "listen");
        fact("unix", listener);
        must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
        must((int)write(pair[0], "unread", 6), "write");
        fact("pair", pair[0]);
        fact("peer", pair[1]);
}

static void pipes(void) {
        int ends[2];
        must(pipe2(ends, O_CLOEXEC), "pipe");
        must((int)write(ends[1], "12345", 5), "write");
        fact("pipe_read", ends[0]);
        fact("pipe_write", ends[1]);
        must(mkfifo("fifo", 0600), "mkfifo");
        fact("fifo", must(open("fifo", O_RDWR | O_CLOEXEC), "fifo"));
}

static void anonymous(void) {
        struct epoll_event event = { .events = EPOLLIN };
        struct itimerspec timer = { .it_value.tv_sec = 100000 };
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        int counter = must(eventfd(7, EFD_CLOEXEC), "eventfd"), poll = must(epoll_create1(EPOLL_CLOEXEC), "epoll");
        must(epoll_ctl(poll, EPOLL_CTL_ADD, counter, &event), "epoll_ctl");
        fact("eventfd", counter);
        fact("epoll", poll);
        int alarm_fd = must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd");
        must(timerfd_settime(alarm_fd, 0, &timer, NULL), "timerfd_settime");
        fact("timerfd", alarm_fd);
        fact("signalfd", must(signalfd(-1, &set, SFD_CLOEXEC), "signalfd"));
        int watch = must(inotify_init1(IN_CLOEXEC), "inotify");
        must(inotify_add_watch(watch, "/", IN_CREATE), "inotify_add_watch");
        fact("inotify", watch);
        int memory = must(memfd_create("scratch", MFD_CLOEXEC), "memfd");
        must(ftruncate(memory, 8192), "ftruncate");
        fact("memfd", memory);
        int pty = must(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), "pty");
        fact("pty", pty);
}

static void files(void) {
        char text[100];
        memset(text, 'x', sizeof(text));
        int notes = must(open("notes", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644), "notes");
        must((int)write(notes, text, sizeof(text)), "write");
        fact("notes", notes);
        int gone = must(open("gone", O_RDWR | O_CREAT | O_CLOEXEC, 0600), "gone");
        must((int)write(gone, text, 42), "write");
        must(unlink("gone"), "unlink");
        fact("gone", gone);
}

static void *map(size_t size, int flags, int fd) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
        if (p == MAP_FAILED)
                must(-1, "mmap");
        return p;
}

static void memory(void) {
        memset(map(4 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1), 'm', 4 * MIB);
        memset(map(MIB, MAP_SHARED | MAP_ANONYMOUS, -1), 's', MIB);
        int fd = must(open("mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0644), "mapped");
        must(ftruncate(fd, 4096), "ftruncate");
        memset(map(4096, MAP_SHARED, fd), 'f', 4096);
        close(fd);
        memset(map(8192, MAP_PRIVATE | MAP_ANONYMOUS, -1), 0, 4096);
}

static pid_t child(int signal) {
        pid_t pid = must(fork(), "fork");
        if (pid == 0) {
                if (signal == SIGSTOP)
                        raise(SIGSTOP);
                if (signal == SIGKILL)
                        _exit(3);
                wait_forever(NULL);
        }
        return pid;
}

int main(int argc, char **argv) {
        pthread_t thread;

        if (argc != 2 || chdir(argv[1]) < 0)
                return 2;
        pid_t sleeper = child(0), stopped = child(SIGSTOP), zombie = child(SIGKILL);
        siginfo_t info;
        facts = fopen("facts.new", "we");
        if (!facts)
                return 1;
        fact("sleeper", sleeper);
        must(waitpid(stopped, NULL, WUNTRACED), "waitpid");
        must(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT), "waitid");
        fact("stopped", stopped);
        fact("zombie", zombie);

        internet();
        local();
        pipes();
        anonymous();
        files();
        memory();
        if (pthread_create(&thread, NULL, wait_forever, NULL) != 0)
                return 1;
        /* Nothing of its own may be open: a file that has another size afterwards is another matter. */
        fclose(facts);
        must(rename("facts.new", "facts"), "rename");
        wait_forever(NULL);
}
