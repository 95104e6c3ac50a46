/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that is shared, System V IPC, UNIX sockets: keep.h says how it is used. */

#include <sched.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "keep.h"

struct message {
        long type;
        char text[16];
};

/** In an IPC namespace of its own: CRIU keeps these objects with the namespace. */
static void keep_sysv(void) {
        struct message message = { .type = 7, .text = "first" }, got;
        struct sembuf up = { .sem_num = 1, .sem_op = 5 };

        MUST(unshare(CLONE_NEWIPC));
        int shm = MUST(shmget(0x1234, 8192, IPC_CREAT | 0640)), sem = MUST(semget(0x1235, 3, IPC_CREAT | 0600)),
            msg = MUST(msgget(0x1236, IPC_CREAT | 0600));
        char *memory = shmat(shm, NULL, 0);
        CHECK(memory != (void *)-1);
        memory[5000] = 's';
        MUST(semop(sem, &up, 1));
        MUST(msgsnd(msg, &message, sizeof(message.text), 0));
        message = (struct message){ .type = 8, .text = "second" };
        MUST(msgsnd(msg, &message, sizeof(message.text), 0));
        meanwhile();
        CHECK(memory[5000] == 's' && shmget(0x1234, 0, 0) == shm && semget(0x1235, 0, 0) == sem);
        CHECK(semctl(sem, 1, GETVAL) == 5 && semctl(sem, 0, GETVAL) == 0);
        CHECK(msgrcv(msg, &got, sizeof(got.text), 8, IPC_NOWAIT) > 0 && strcmp(got.text, "second") == 0);
        CHECK(msgrcv(msg, &got, sizeof(got.text), 0, IPC_NOWAIT) > 0 && strcmp(got.text, "first") == 0);
}

/** Memory of parent and child: anonymous, of shm_open(), of a file. */
static void keep_shared(void) {
        char name[64];

        (void)snprintf(name, sizeof(name), "/stasis-keep-%d", (int)getpid());
        int shm = MUST(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600)),
            file = MUST(open(place("file"), O_RDWR | O_CREAT, 0600));
        CHECK(ftruncate(shm, 4096) == 0 && ftruncate(file, 4096) == 0);
        volatile char *anonymous = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
                      *posix = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shm, 0),
                      *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
                      *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
        anonymous[4096] = 'a';
        posix[1] = 'p';
        mapped[1] = 'f';
        private[2] = 'c';
        pid_t child = MUST(fork());
        if (child == 0) {
                wait_for_file(place("go"));
                anonymous[4097] = posix[2] = mapped[3] = 'k';
                _exit(anonymous[4096] == 'a' && posix[1] == 'p' && mapped[1] == 'f' && private[2] == 'c' ? 7 : 1);
        }
        meanwhile();
        reap(child, 7);
        MUST(shm_unlink(name));
        CHECK(anonymous[4097] == 'k' && posix[2] == 'k' && mapped[3] == 'k');
        CHECK(private[2] == 'c' && private[1] == 'f');
        MUST(lseek(file, 1, SEEK_SET));
        expect(file, "f");
}

static void check_pair(int type) {
        struct stat before[2], after[2];
        int ends[2];

        CHECK(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends) == 0);
        CHECK(fstat(ends[0], &before[0]) == 0 && fstat(ends[1], &before[1]) == 0);
        int size = 40000, got_type;
        socklen_t length = sizeof(int);
        CHECK(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
        CHECK(getsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, &length) == 0);
        CHECK(send(ends[0], "one", 3, 0) == 3 && send(ends[0], "two", 3, 0) == 3 && send(ends[1], "back", 4, 0) == 4);
        meanwhile();
        char buffer[16] = "";
        ssize_t n = recv(ends[1], buffer, sizeof(buffer), 0);
        if (type == SOCK_STREAM)
                CHECK(n == 6 && memcmp(buffer, "onetwo", 6) == 0);
        else
                CHECK(n == 3 && memcmp(buffer, "one", 3) == 0 && recv(ends[1], buffer, sizeof(buffer), 0) == 3);
        CHECK(recv(ends[0], buffer, sizeof(buffer), 0) == 4 && memcmp(buffer, "back", 4) == 0);
        CHECK(recv(ends[0], buffer, sizeof(buffer), 0) < 0 && errno == EAGAIN);
        CHECK(send(ends[1], "again", 5, 0) == 5 && recv(ends[0], buffer, sizeof(buffer), 0) == 5);
        CHECK(getsockopt(ends[0], SOL_SOCKET, SO_TYPE, &got_type, &length) == 0 && got_type == type);
        int now;
        CHECK(getsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &now, &length) == 0 && now == size);
        CHECK(fstat(ends[0], &after[0]) == 0 && S_ISSOCK(after[0].st_mode));
}

static void keep_stream_pair(void) {
        check_pair(SOCK_STREAM);
}
static void keep_datagram_pair(void) {
        check_pair(SOCK_DGRAM);
}
static void keep_packet_pair(void) {
        check_pair(SOCK_SEQPACKET);
}

static socklen_t make_address(struct sockaddr_un *address, bool abstract) {
        *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (!abstract) {
                (void)snprintf(address->sun_path, sizeof(address->sun_path), "%s", place("sock"));
                return sizeof(*address);
        }
        int n = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "%s", place("abstract"));
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/** A server with a client, data on the way in both directions; a new client comes after it. */
static void check_server(int type, bool abstract) {
        struct sockaddr_un address;
        socklen_t length = make_address(&address, abstract);
        int listener = MUST(socket(AF_UNIX, type, 0)), client = MUST(socket(AF_UNIX, type, 0));

        CHECK(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 5) == 0);
        CHECK(connect(client, (struct sockaddr *)&address, length) == 0);
        int server = MUST(accept(listener, NULL, NULL)), half[2];
        CHECK(socketpair(AF_UNIX, type, 0, half) == 0 && send(half[0], "last", 4, 0) == 4);
        MUST(shutdown(half[0], SHUT_WR));
        CHECK(send(client, "question", 8, 0) == 8 && send(server, "answer", 6, 0) == 6);
        meanwhile();
        expect(server, "question");
        expect(client, "answer");
        char byte;
        expect(half[1], "last");
        CHECK(recv(half[1], &byte, 1, 0) == 0 && send(half[1], "x", 1, MSG_NOSIGNAL) == 1);
        expect(half[0], "x");
        int late = MUST(socket(AF_UNIX, type, 0));
        CHECK(connect(late, (struct sockaddr *)&address, length) == 0);
        int accepted = MUST(accept(listener, NULL, NULL));
        CHECK(send(late, "late", 4, 0) == 4);
        expect(accepted, "late");
}

static void keep_stream_server(void) {
        check_server(SOCK_STREAM, false);
}
static void keep_packet_server(void) {
        check_server(SOCK_SEQPACKET, false);
}
static void keep_abstract_server(void) {
        check_server(SOCK_STREAM, true);
}

static void keep_datagram_named(void) {
        struct sockaddr_un address, from;
        socklen_t length = make_address(&address, false), from_length = sizeof(from);
        int server = MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), client = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
        int on = 1;
        char buffer[16];

        CHECK(bind(server, (struct sockaddr *)&address, length) == 0);
        CHECK(setsockopt(client, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
        CHECK(connect(client, (struct sockaddr *)&address, length) == 0 && send(client, "datagram", 8, 0) == 8);
        meanwhile();
        CHECK(recv(server, buffer, sizeof(buffer), 0) == 8 && memcmp(buffer, "datagram", 8) == 0);
        CHECK(send(client, "next", 4, 0) == 4 &&
              recvfrom(server, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &from_length) == 4);
        on = 0;
        length = sizeof(on);
        CHECK(getsockopt(client, SOL_SOCKET, SO_PASSCRED, &on, &length) == 0 && on == 1);
}

/** A descriptor on its way through a socket. */
static void keep_passed(void) {
        char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 'x';
        struct iovec data = { &byte, 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int ends[2], pipes[2];

        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && pipe(pipes) == 0);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &pipes[0], sizeof(int));
        CHECK(sendmsg(ends[0], &message, 0) == 1);
        close(pipes[0]);
        write_all(pipes[1], "through", 7);
        meanwhile();
        memset(control, 0, sizeof(control));
        message.msg_controllen = sizeof(control);
        CHECK(recvmsg(ends[1], &message, 0) == 1 && byte == 'x' && (header = CMSG_FIRSTHDR(&message)));
        int fd;
        memcpy(&fd, CMSG_DATA(header), sizeof(int));
        expect(fd, "through");
}

const struct object objects[] = {
        { "sysv", keep_sysv },
        { "shared", keep_shared },
        { "stream-pair", keep_stream_pair },
        { "datagram-pair", keep_datagram_pair },
        { "packet-pair", keep_packet_pair },
        { "stream-server", keep_stream_server },
        { "packet-server", keep_packet_server },
        { "abstract-server", keep_abstract_server },
        { "datagram-named", keep_datagram_named },
        { "passed", keep_passed },
        { NULL, NULL },
};
