/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/job_stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"

void job_stdio_close_job(struct job_stdio *stdio) {
        for (int i = 0; i < 3; i++) {
                cleanup_closep(&stdio->job[i]);
                stdio->job[i] = -EBADF;
        }
}

void job_stdio_clear(struct job_stdio *stdio) {
        job_stdio_close_job(stdio);
        cleanup_closep(&stdio->ours.terminal);
        cleanup_closep(&stdio->ours.in);
        cleanup_closep(&stdio->ours.out);
        cleanup_closep(&stdio->ours.err);
        *stdio = JOB_STDIO_NULL;
}

static bool is_among(unsigned index, const unsigned *list, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (list[i] == index)
                        return true;
        return false;
}

/** The master of a new terminal. The kernel gives the lowest free index: those to be left free are passed over. */
static int open_master(const unsigned *avoid, size_t n_avoid) {
        int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        unsigned index;

        if (master < 0 || ioctl(master, TIOCGPTN, &index) < 0 || !is_among(index, avoid, n_avoid))
                return master;
        int next = open_master(avoid, n_avoid);
        close(master);
        return next;
}

/** Moves a descriptor above the standard ones: they may be closed in us, and then it would be taken for one. */
static int above_standard(int fd) {
        int moved;

        if (fd < 0 || fd > STDERR_FILENO)
                return fd;
        moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(fd);
        return moved;
}

void job_stdio_resize(int terminal, const Daemon__TerminalSize *size) {
        struct winsize window = { 0 };

        if (!size || !size->rows || !size->columns || size->rows > UINT16_MAX || size->columns > UINT16_MAX)
                return;
        window.ws_row = (unsigned short)size->rows;
        window.ws_col = (unsigned short)size->columns;
        (void)ioctl(terminal, TIOCSWINSZ, &window);
}

int job_stdio_make_terminal(const Daemon__TerminalSize *size, const unsigned *avoid, size_t n_avoid,
                            struct job_stdio *ret, struct st_error **err) {
        _cleanup_close_ int master = above_standard(open_master(avoid, n_avoid));
        _cleanup_close_ int slave = -EBADF;
        struct termios settings;

        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
                return st_error_errno(err, errno, "cannot make a terminal for the job");
        slave = above_standard(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
        if (slave < 0)
                return st_error_errno(err, errno, "cannot open the job's terminal");
        if (tcgetattr(slave, &settings) == 0) { /* as everybody's terminal does today: a backspace erases a character */
                settings.c_iflag |= IUTF8;
                (void)tcsetattr(slave, TCSANOW, &settings);
        }
        job_stdio_resize(slave, size);

        *ret = JOB_STDIO_NULL;
        ret->terminal = true;
        for (int i = 0; i < 3; i++) {
                ret->job[i] = fcntl(slave, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
                if (ret->job[i] < 0) {
                        int number = errno;

                        job_stdio_clear(ret);
                        return st_error_errno(err, number, "cannot open the job's terminal");
                }
        }
        ret->ours.terminal = TAKE_FD(master);
        return 0;
}

/** @param ret_read, ret_write each belongs to one side */
static int make_pipe(int *ret_read, int *ret_write) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *ret_read = above_standard(fds[0]);
        *ret_write = above_standard(fds[1]);
        return *ret_read < 0 || *ret_write < 0 ? -errno : 0;
}

int job_stdio_make_pipes(struct job_stdio *ret, struct st_error **err) {
        int r;

        *ret = JOB_STDIO_NULL;
        r = make_pipe(&ret->job[0], &ret->ours.in);
        if (r >= 0)
                r = make_pipe(&ret->ours.out, &ret->job[1]);
        if (r >= 0)
                r = make_pipe(&ret->ours.err, &ret->job[2]);
        if (r < 0) {
                job_stdio_clear(ret);
                return st_error_errno(err, r, "cannot make pipes for the job");
        }
        return 0;
}

int job_stdio_inherit(struct job_stdio *ret, struct st_error **err) {
        *ret = JOB_STDIO_NULL;
        for (int i = 0; i < 3; i++) {
                ret->job[i] = fcntl(i, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
                if (ret->job[i] >= 0)
                        continue;
                int number = errno;
                ret->job[i] = -EBADF;
                if (number == EBADF) /* closed in us */
                        continue;
                job_stdio_clear(ret);
                return st_error_errno(err, number, "cannot hand over descriptor %d", i);
        }
        return 0;
}

/** A link is followed when nobody else has made it: /dev/stdout is one. */
static bool is_trusted_link(const char *path, uid_t uid) {
        struct stat st;

        return lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && (st.st_uid == 0 || st.st_uid == uid);
}

int job_stdio_open_log(const char *path, uid_t uid, gid_t gid, struct st_error **err) {
        /* Not to wait for a reader of a FIFO; nor to write where somebody's link leads. */
        const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW;
        _cleanup_free_ char *absolute = path_absolute(path);
        _cleanup_close_ int fd = open(absolute, flags | O_CREAT | O_EXCL, 0600);
        bool made = fd >= 0;

        if (!made && errno == EEXIST)
                fd = open(absolute, flags);
        if (fd < 0 && errno == ELOOP && is_trusted_link(absolute, uid))
                fd = open(absolute, (flags & ~O_NOFOLLOW) | O_CREAT, 0600);
        else if (fd < 0 && errno == ELOOP)
                return st_error_set(err, ELOOP, "cannot write output to %s: it is somebody else's link", absolute);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s for output", absolute);
        if (made && fchown(fd, uid, gid) < 0)
                return st_error_errno(err, errno, "cannot give %s to user %u", absolute, uid);
        (void)io_set_nonblocking(fd, false);
        fd = above_standard(fd);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s for output", absolute);
        return TAKE_FD(fd);
}

int job_stdio_use_log(struct job_stdio *stdio, const char *path, uid_t uid, gid_t gid, struct st_error **err) {
        int fd = job_stdio_open_log(path, uid, gid, err);

        if (fd < 0)
                return fd;
        stdio->job[1] = fd;
        stdio->job[2] = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (stdio->job[2] >= 0)
                return 0;
        stdio->job[2] = -EBADF;
        return st_error_errno(err, errno, "cannot hand over %s", path);
}
