/* SPDX-License-Identifier: Apache-2.0 */

/* Descriptors of all kinds but sockets: keep.h says how it is used. */

#include <linux/aio_abi.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "keep.h"

static int new_file(const char *suffix, const char *content) {
        int fd = MUST(open(place(suffix), O_RDWR | O_CREAT | O_TRUNC, 0640));

        write_all(fd, content, strlen(content));
        return fd;
}

static void keep_pipe(void) {
        int ends[2], other[2];
        char byte;

        CHECK(pipe2(ends, O_NONBLOCK) == 0 && pipe(other) == 0);
        int size = MUST(fcntl(ends[1], F_SETPIPE_SZ, 8192));
        write_all(ends[1], "in flight", 9);
        close(other[1]); /* nobody writes there any more */
        pid_t child = MUST(fork());
        if (child == 0) {
                close(ends[0]);
                wait_for_file(place("go"));
                write_all(ends[1], ", more", 6);
                _exit(7);
        }
        meanwhile();
        CHECK(fcntl(ends[1], F_GETPIPE_SZ) == size);
        CHECK(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
        reap(child, 7);
        expect(ends[0], "in flight, more");
        CHECK(read(ends[0], &byte, 1) < 0 && errno == EAGAIN);
        CHECK(read(other[0], &byte, 1) == 0);
}

static void keep_fifo(void) {
        const char *path = place("fifo");

        CHECK(mkfifo(path, 0600) == 0);
        int in = MUST(open(path, O_RDONLY | O_NONBLOCK)), out = MUST(open(path, O_WRONLY));
        CHECK(mkfifo(place("lonely"), 0600) == 0);
        int lonely = MUST(open(place("lonely"), O_RDONLY | O_NONBLOCK)); /* nobody has the other end */
        write_all(out, "in flight", 9);
        meanwhile();
        expect(in, "in flight");
        write_all(out, "after", 5);
        expect(in, "after");
        int writer = MUST(open(place("lonely"), O_WRONLY | O_NONBLOCK));
        write_all(writer, "late", 4);
        expect(lonely, "late");
}

static void keep_offset(void) {
        int fd = new_file("text", "0123456789"), copy = MUST(dup(fd)), own = MUST(open(place("text"), O_RDONLY));
        int appending = MUST(open(place("text"), O_WRONLY | O_APPEND | O_NONBLOCK | O_SYNC));

        MUST(lseek(fd, 3, SEEK_SET));
        MUST(lseek(own, 8, SEEK_SET));
        MUST(fcntl(copy, F_SETFD, FD_CLOEXEC));
        pid_t child = MUST(fork());
        if (child == 0) {
                wait_for_file(place("go"));
                expect(copy, "34");
                _exit(7);
        }
        meanwhile();
        reap(child, 7);
        CHECK(lseek(fd, 0, SEEK_CUR) == 5 && lseek(copy, 0, SEEK_CUR) == 5 && lseek(own, 0, SEEK_CUR) == 8);
        CHECK(fcntl(copy, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFD) == 0);
        CHECK((fcntl(appending, F_GETFL) & (O_APPEND | O_NONBLOCK | O_SYNC | O_ACCMODE)) ==
              (O_APPEND | O_NONBLOCK | O_SYNC | O_WRONLY));
        write_all(appending, "end", 3);
        MUST(lseek(fd, 10, SEEK_SET));
        expect(fd, "end");
}

/** Files without a name: removed, removed with another name left, never had one; and a removed one that is mapped. */
static void keep_deleted(void) {
        int ghost = new_file("ghost", "ghost"), linked = new_file("linked", "linked"), mapped = new_file("mapped", "m");
        int nameless = MUST(open(directory, O_TMPFILE | O_RDWR, 0600));
        char *memory = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);

        CHECK(memory != MAP_FAILED);
        CHECK(link(place("linked"), place("linked-too")) == 0);
        CHECK(unlink(place("ghost")) == 0 && unlink(place("linked")) == 0 && unlink(place("mapped")) == 0);
        write_all(nameless, "nameless", 8);
        close(mapped);
        meanwhile();
        MUST(lseek(ghost, 0, SEEK_SET));
        expect(ghost, "ghost");
        MUST(lseek(linked, 0, SEEK_SET));
        expect(linked, "linked");
        MUST(lseek(nameless, 0, SEEK_SET));
        expect(nameless, "nameless");
        CHECK(*memory == 'm');
        struct stat a, b;
        CHECK(fstat(ghost, &a) == 0 && a.st_nlink == 0 && (a.st_mode & 0777) == 0640);
        CHECK(fstat(linked, &a) == 0 && stat(place("linked-too"), &b) == 0 && a.st_ino == b.st_ino);
}

static void keep_directory(void) {
        CHECK(mkdir(place("dir"), 0700) == 0 && mkdir(place("gone"), 0700) == 0);
        int dir = MUST(open(place("dir"), O_RDONLY | O_DIRECTORY));

        CHECK(mkdirat(dir, "sub", 0700) == 0);
        int path = MUST(open(place("dir"), O_PATH));
        CHECK(chdir(place("gone")) == 0 && rmdir(place("gone")) == 0);
        meanwhile();
        char cwd[PATH_MAX];
        CHECK(!getcwd(cwd, sizeof(cwd)) && errno == ENOENT); /* removed it was, removed it is */
        CHECK(faccessat(dir, "sub", F_OK, 0) == 0 && faccessat(path, "sub", F_OK, 0) == 0);
        CHECK(fcntl(path, F_GETFL) & O_PATH);
}

static void keep_devices(void) {
        int null = MUST(open("/dev/null", O_RDWR)), zero = MUST(open("/dev/zero", O_RDONLY)),
            random = MUST(open("/dev/urandom", O_RDONLY)), full = MUST(open("/dev/full", O_RDWR)),
            proc = MUST(open("/proc/self/status", O_RDONLY)), version = MUST(open("/proc/version", O_RDONLY));
        char byte = 1;

        meanwhile();
        CHECK(read(null, &byte, 1) == 0 && write(null, &byte, 1) == 1);
        CHECK(read(zero, &byte, 1) == 1 && byte == 0);
        CHECK(read(random, &byte, 1) == 1);
        CHECK(write(full, &byte, 1) < 0 && errno == ENOSPC);
        expect(proc, "Name:\tkeep_files");
        expect(version, "Linux");
}

static void keep_memfd(void) {
        const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        int sealed = MUST(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC)),
            mapped = MUST(memfd_create("map", 0));
        char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);

        write_all(sealed, "sealed", 6);
        MUST(fcntl(sealed, F_ADD_SEALS, seals));
        CHECK(memory != MAP_FAILED && ftruncate(mapped, 4096) == 0);
        *memory = 'm';
        meanwhile();
        CHECK(fcntl(sealed, F_GET_SEALS) == seals && fcntl(sealed, F_GETFD) == FD_CLOEXEC);
        CHECK(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM && lseek(sealed, 0, SEEK_CUR) == 6);
        MUST(lseek(sealed, 0, SEEK_SET));
        expect(sealed, "sealed");
        CHECK(*memory == 'm');
        memory[1] = 'n';
        expect(mapped, "mn");
}

static void keep_eventfd(void) {
        int fd = MUST(eventfd(41, EFD_NONBLOCK));
        uint64_t value = 1;

        write_all(fd, &value, sizeof(value));
        meanwhile();
        CHECK(read(fd, &value, sizeof(value)) == sizeof(value) && value == 42);
        CHECK(read(fd, &value, sizeof(value)) < 0 && errno == EAGAIN);
}

static void keep_epoll(void) {
        int epoll = MUST(epoll_create1(EPOLL_CLOEXEC)), event = MUST(eventfd(0, 0)), inner = MUST(epoll_create1(0)),
            ends[2];
        struct epoll_event wanted = { .events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788 }, got;

        CHECK(pipe(ends) == 0);
        MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted));
        wanted = (struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 2 };
        MUST(epoll_ctl(inner, EPOLL_CTL_ADD, ends[0], &wanted));
        wanted = (struct epoll_event){ .events = EPOLLIN, .data.u64 = 3 };
        MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, inner, &wanted));
        meanwhile();
        CHECK(epoll_wait(epoll, &got, 1, 0) == 0);
        uint64_t one = 1;
        write_all(event, &one, sizeof(one));
        CHECK(epoll_wait(epoll, &got, 1, 1000) == 1 && got.data.u64 == 0x1122334455667788);
        CHECK(epoll_wait(epoll, &got, 1, 0) == 0); /* edge-triggered, as before */
        write_all(ends[1], "x", 1);
        CHECK(epoll_wait(epoll, &got, 1, 1000) == 1 && got.data.u64 == 3);
        CHECK(epoll_wait(inner, &got, 1, 0) == 1 && got.data.u64 == 2 && epoll_wait(inner, &got, 1, 0) == 0);
}

static void keep_timerfd(void) {
        int ticking = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)),
            unset = MUST(timerfd_create(CLOCK_REALTIME, 0)), later = MUST(timerfd_create(CLOCK_BOOTTIME, 0));
        struct itimerspec set = { { 0, 20000000 }, { 0, 20000000 } }, hour = { { 0, 0 }, { 3600, 0 } }, got;
        uint64_t ticks;

        MUST(timerfd_settime(ticking, 0, &set, NULL));
        MUST(timerfd_settime(later, 0, &hour, NULL));
        meanwhile();
        MUST(timerfd_gettime(ticking, &got));
        CHECK(got.it_interval.tv_nsec == 20000000);
        pause_ms(50);
        CHECK(read(ticking, &ticks, sizeof(ticks)) == sizeof(ticks) && ticks >= 1);
        MUST(timerfd_gettime(unset, &got));
        CHECK(got.it_value.tv_sec == 0 && got.it_value.tv_nsec == 0);
        MUST(timerfd_gettime(later, &got));
        CHECK(got.it_value.tv_sec > 3000 && got.it_value.tv_sec <= 3600);
}

static void keep_signalfd(void) {
        struct signalfd_siginfo info;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigaddset(&set, SIGRTMIN + 3);
        MUST(sigprocmask(SIG_BLOCK, &set, NULL));
        int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK));
        MUST(kill(getpid(), SIGUSR1));
        for (int i = 0; i < 3; i++)
                MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 10 + i }));
        meanwhile();
        CHECK(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1);
        for (int i = 0; i < 3; i++)
                CHECK(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == (uint32_t)SIGRTMIN + 3 &&
                      info.ssi_int == 10 + i);
        CHECK(read(fd, &info, sizeof(info)) < 0 && errno == EAGAIN);
}

static void keep_pidfd(void) {
        pid_t child = MUST(fork());

        if (child == 0)
                for (;;)
                        pause();
        int fd = MUST(syscall(SYS_pidfd_open, child, 0));
        struct pollfd polled = { .fd = fd, .events = POLLIN };
        meanwhile();
        CHECK(poll(&polled, 1, 0) == 0);
        MUST(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
        CHECK(poll(&polled, 1, 5000) == 1);
        CHECK(waitpid(child, NULL, 0) == child);
}

static void keep_inotify(void) {
        int fd = MUST(inotify_init1(IN_NONBLOCK));
        char buffer[4096] __attribute__((aligned(8)));

        CHECK(mkdir(place("dir"), 0700) == 0);
        close(new_file("file", "x"));
        int dir = MUST(inotify_add_watch(fd, place("dir"), IN_CREATE | IN_DELETE)),
            file = MUST(inotify_add_watch(fd, place("file"), IN_MODIFY));
        meanwhile();
        CHECK(read(fd, buffer, sizeof(buffer)) < 0 && errno == EAGAIN); /* nothing of the restore itself */
        int sub = MUST(open(place("dir/new"), O_WRONLY | O_CREAT, 0600));
        ssize_t n = read(fd, buffer, sizeof(buffer));
        const struct inotify_event *event = (const struct inotify_event *)buffer;
        CHECK(n > 0 && event->wd == dir && (event->mask & IN_CREATE) && strcmp(event->name, "new") == 0);
        close(sub);
        close(new_file("file", "changed"));
        n = read(fd, buffer, sizeof(buffer));
        CHECK(n > 0 && event->wd == file && (event->mask & IN_MODIFY));
}

static void keep_fanotify(void) {
        int fd = MUST(fanotify_init(FAN_NONBLOCK | FAN_CLASS_NOTIF, O_RDONLY));
        char buffer[4096] __attribute__((aligned(8)));

        close(new_file("file", "x"));
        MUST(fanotify_mark(fd, FAN_MARK_ADD, FAN_MODIFY, AT_FDCWD, place("file")));
        meanwhile();
        CHECK(read(fd, buffer, sizeof(buffer)) < 0 && errno == EAGAIN);
        close(new_file("file", "changed"));
        ssize_t n = read(fd, buffer, sizeof(buffer));
        const struct fanotify_event_metadata *event = (const struct fanotify_event_metadata *)buffer;
        CHECK(n >= (ssize_t)sizeof(*event) && (event->mask & FAN_MODIFY));
}

static bool locks_conflict(const char *path, int command) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10 };
        int fd = MUST(open(path, O_RDWR));

        MUST(fcntl(fd, command, &lock));
        close(fd);
        return lock.l_type != F_UNLCK;
}

static void keep_locks(void) {
        int whole = new_file("flock", ""), posix = new_file("posix", ""), ofd = new_file("ofd", "");
        struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10 };

        CHECK(flock(whole, LOCK_EX) == 0);
        MUST(fcntl(posix, F_SETLK, &range));
        MUST(fcntl(ofd, F_OFD_SETLK, &range));
        meanwhile();
        pid_t child = MUST(fork());
        if (child == 0) {
                int other = MUST(open(place("flock"), O_RDWR));
                bool held = flock(other, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
                _exit(held && locks_conflict(place("posix"), F_GETLK) && locks_conflict(place("ofd"), F_OFD_GETLK) ? 7
                                                                                                                   : 1);
        }
        reap(child, 7);
}

static void keep_lease(void) {
        int writing = new_file("written", "x"), reading;

        close(new_file("read", "x"));
        reading = MUST(open(place("read"), O_RDONLY));
        MUST(fcntl(reading, F_SETLEASE, F_RDLCK));
        MUST(fcntl(writing, F_SETLEASE, F_WRLCK));
        meanwhile();
        CHECK(fcntl(reading, F_GETLEASE) == F_RDLCK && fcntl(writing, F_GETLEASE) == F_WRLCK);
        MUST(fcntl(reading, F_SETLEASE, F_UNLCK));
        MUST(fcntl(writing, F_SETLEASE, F_UNLCK));
}

static void keep_owner(void) {
        int ends[2];
        struct f_owner_ex owner = { .type = F_OWNER_PID, .pid = getpid() }, got;

        CHECK(pipe(ends) == 0);
        MUST(fcntl(ends[0], F_SETOWN_EX, &owner));
        MUST(fcntl(ends[0], F_SETSIG, SIGUSR2));
        MUST(fcntl(ends[0], F_SETFL, O_ASYNC));
        meanwhile();
        MUST(fcntl(ends[0], F_GETOWN_EX, &got));
        CHECK(got.type == owner.type && got.pid == owner.pid && fcntl(ends[0], F_GETSIG) == SIGUSR2);
        CHECK(fcntl(ends[0], F_GETFL) & O_ASYNC);
}

static void keep_aio(void) {
        aio_context_t context = 0;
        int fd = new_file("file", "0123456789");
        char buffer[10];
        struct iocb block = { .aio_fildes = (uint32_t)fd,
                              .aio_lio_opcode = IOCB_CMD_PREAD,
                              .aio_buf = (uint64_t)buffer,
                              .aio_nbytes = 10 },
                    *blocks[] = { &block };
        struct io_event event;

        MUST(syscall(SYS_io_setup, 16, &context));
        meanwhile();
        CHECK(syscall(SYS_io_submit, context, 1, blocks) == 1);
        CHECK(syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1 && event.res == 10);
        CHECK(memcmp(buffer, "0123456789", 10) == 0);
}

const struct object objects[] = {
        { "pipe", keep_pipe },
        { "fifo", keep_fifo },
        { "offset", keep_offset },
        { "deleted", keep_deleted },
        { "directory", keep_directory },
        { "devices", keep_devices },
        { "memfd", keep_memfd },
        { "eventfd", keep_eventfd },
        { "epoll", keep_epoll },
        { "timerfd", keep_timerfd },
        { "signalfd", keep_signalfd },
        { "pidfd", keep_pidfd },
        { "inotify", keep_inotify },
        { "fanotify", keep_fanotify },
        { "locks", keep_locks },
        { "lease", keep_lease },
        { "owner", keep_owner },
        { "aio", keep_aio },
        { NULL, NULL },
};
