/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_criu_conf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "../common/cleanup.h"
#include "docker_root.h"

#define DIRECTORY "/etc/criu"
#define FILE_NAME "runc.conf"
#define FILE_PATH DIRECTORY "/" FILE_NAME
#define WANTED_PREFIX ".stasis-wanted-" /* what one operation wants; locked by it */
#define ORIGINAL ".stasis-original"     /* the file as it was; absent: there was none */
#define MADE ".stasis-made"             /* the directory is ours, too */
#define NEW ".stasis-new"
#define BLOCK_BEGIN "# stasis: what checkpoints and restores under way need, taken back when they end\n"
#define BLOCK_END "# stasis: end\n"
#define SIZE_MAX_READ (1024 * 1024)
#define WAIT_MS 2000
#define WAIT_STEP_MS 10

struct docker_criu_conf {
        int root_fd;
        int wanted_fd;
        char wanted[64]; /* name of the file of wanted_fd */
};

/* What one look at the directory found; strings are freed by clear(). */
struct conf {
        int directory; /* locked */
        char *rest;    /* of the file, without our block; NULL: there is no file */
        bool has_block;
        mode_t mode;
        uid_t uid;
        gid_t gid;
        char *lines; /* what is wanted, each line with its newline */
        size_t n_wanted;
};

static void clear(struct conf *conf) {
        free(conf->rest);
        free(conf->lines);
        if (conf->directory >= 0)
                close(conf->directory); /* and unlock */
}

static int no_memory(struct st_error **err) {
        return st_error_errno(err, ENOMEM, "cannot change " FILE_PATH);
}

static int read_all(int fd, char **ret, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0, room = 0;

        for (;;) {
                if (n + 1 >= room) {
                        room = room ? room * 2 : 4096;
                        char *more = room <= 2 * SIZE_MAX_READ ? realloc(text, room) : NULL;
                        if (!more)
                                return st_error_errno(err, EFBIG, "cannot read " FILE_PATH);
                        text = more;
                }
                ssize_t got = read(fd, text + n, room - n - 1);
                if (got < 0)
                        return st_error_errno(err, errno, "cannot read " FILE_PATH);
                if (got == 0)
                        break;
                n += (size_t)got;
        }
        if (memchr(text, 0, n))
                return st_error_set(err, EINVAL, FILE_PATH " is not a text");
        text[n] = 0;
        *ret = TAKE_PTR(text);
        return 0;
}

/* The content of a file in the directory: *ret stays NULL without one. */
static int read_file(int directory, const char *name, char **ret, struct stat *ret_stat, struct st_error **err) {
        _cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0 && errno == ENOENT)
                return 0;
        if (fd < 0 || fstat(fd, ret_stat) < 0)
                return st_error_errno(err, errno, "cannot read " DIRECTORY "/%s", name);
        if (!S_ISREG(ret_stat->st_mode))
                return st_error_set(err, EINVAL, DIRECTORY "/%s is not a regular file", name);
        return read_all(fd, ret, err);
}

static bool has_line(const char *text, const char *line, size_t length) {
        while (text && *text) {
                size_t n = strcspn(text, "\n"), skip = strspn(text, " \t");
                size_t end = n;
                while (end > skip && strchr(" \t\r", text[end - 1]))
                        end--;
                if (end >= skip && end - skip == length && memcmp(text + skip, line, length) == 0)
                        return true;
                text += n + (text[n] == '\n');
        }
        return false;
}

/* Adds to the lines those that the file does not have anyway. */
static int add_lines(struct conf *conf, const char *lines, struct st_error **err) {
        for (size_t n; *lines; lines += n + (lines[n] == '\n')) {
                n = strcspn(lines, "\n");
                if (n == 0 || has_line(conf->rest, lines, n) || has_line(conf->lines, lines, n))
                        continue;
                char *more = NULL;
                if (asprintf(&more, "%s%.*s\n", conf->lines ? conf->lines : "", (int)n, lines) < 0)
                        return no_memory(err);
                free(conf->lines);
                conf->lines = more;
        }
        return 0;
}

/* Reads what one operation wants; what nobody holds the lock of was left by one that is gone. */
static int read_wanted(struct conf *conf, const char *name, struct st_error **err) {
        _cleanup_close_ int fd = openat(conf->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        _cleanup_free_ char *lines = NULL;

        if (fd < 0)
                return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot read " DIRECTORY "/%s", name);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
                if (unlinkat(conf->directory, name, 0) < 0)
                        return st_error_errno(err, errno, "cannot remove " DIRECTORY "/%s", name);
                return 0;
        }
        int r = read_all(fd, &lines, err);
        if (r < 0)
                return r;
        conf->n_wanted++;
        return add_lines(conf, lines, err);
}

static int read_directory(struct conf *conf, struct st_error **err) {
        int fd = openat(conf->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;

        if (!stream) {
                r = st_error_errno(err, errno, "cannot read " DIRECTORY);
                if (fd >= 0)
                        close(fd);
                return r;
        }
        for (struct dirent *entry; r == 0 && (entry = readdir(stream));)
                if (strncmp(entry->d_name, WANTED_PREFIX, strlen(WANTED_PREFIX)) == 0)
                        r = read_wanted(conf, entry->d_name, err);
        closedir(stream);
        return r;
}

static int read_conf(struct conf *conf, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        struct stat st;

        int r = read_file(conf->directory, FILE_NAME, &text, &st, err);
        if (r < 0)
                return r;
        conf->mode = 0644;
        if (!text)
                return 0;
        conf->mode = st.st_mode & 07777;
        conf->uid = st.st_uid;
        conf->gid = st.st_gid;
        const char *rest = text,
                   *end = strncmp(text, BLOCK_BEGIN, strlen(BLOCK_BEGIN)) == 0 ? strstr(text, BLOCK_END) : NULL;
        if (end) {
                conf->has_block = true;
                rest = end + strlen(BLOCK_END);
        }
        conf->rest = strdup(rest);
        return conf->rest ? 0 : no_memory(err);
}

static int write_text(int fd, const char *text, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, text, size);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        text += n;
                        size -= (size_t)n;
                }
        }
        return 0;
}

/* Replaces the file in one step: a CRIU that starts now sees the old or the new one. */
static int replace(const struct conf *conf, const char *block, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        int n = block ? asprintf(&text, BLOCK_BEGIN "%s" BLOCK_END "%s", block, conf->rest ? conf->rest : "")
                      : asprintf(&text, "%s", conf->rest ? conf->rest : "");
        if (n < 0) {
                text = NULL;
                return no_memory(err);
        }
        if (unlinkat(conf->directory, NEW, 0) < 0 && errno != ENOENT)
                return st_error_errno(err, errno, "cannot change " FILE_PATH);
        _cleanup_close_ int fd = openat(conf->directory, NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : write_text(fd, text, (size_t)n);
        if (r == 0 && (fchown(fd, conf->uid, conf->gid) < 0 || fchmod(fd, conf->mode) < 0 ||
                       renameat(conf->directory, NEW, conf->directory, FILE_NAME) < 0))
                r = -errno;
        if (r < 0) {
                (void)unlinkat(conf->directory, NEW, 0);
                r = st_error_errno(err, r, "cannot change " FILE_PATH " of the Docker engine");
                st_error_hint(err, "add the line tcp-established to it yourself");
        }
        return r;
}

static int forget_original(const struct conf *conf, struct st_error **err) {
        if (unlinkat(conf->directory, ORIGINAL, 0) < 0 && errno != ENOENT)
                return st_error_errno(err, errno, "cannot remove " DIRECTORY "/" ORIGINAL);
        return 0;
}

static int put_block(struct conf *conf, struct st_error **err) {
        if (!conf->has_block) {
                int r = forget_original(conf, err);
                if (r < 0)
                        return r;
                if (conf->rest && linkat(conf->directory, FILE_NAME, conf->directory, ORIGINAL, 0) < 0)
                        return st_error_errno(err, errno, "cannot keep " FILE_PATH " as it is, to put it back");
        }
        return replace(conf, conf->lines, err);
}

static int take_block(struct conf *conf, struct st_error **err) {
        _cleanup_free_ char *original = NULL;
        struct stat st;

        if (!conf->has_block)
                return forget_original(conf, err);
        int r = read_file(conf->directory, ORIGINAL, &original, &st, err);
        if (r < 0)
                return r;
        if (original && strcmp(original, conf->rest) == 0) {
                if (renameat(conf->directory, ORIGINAL, conf->directory, FILE_NAME) < 0)
                        return st_error_errno(err, errno, "cannot put " FILE_PATH " back");
                return 0;
        }
        if (!original && !*conf->rest) {
                if (unlinkat(conf->directory, FILE_NAME, 0) < 0)
                        return st_error_errno(err, errno, "cannot remove " FILE_PATH);
                return 0;
        }
        r = replace(conf, NULL, err);
        return r < 0 ? r : forget_original(conf, err);
}

/* Takes the lock: of the directory, which may have been removed by whoever had it before. */
static int lock_directory(int etc, int cancel_fd, int *ret, struct st_error **err) {
        for (int waited = 0;; waited += WAIT_STEP_MS) {
                _cleanup_close_ int fd = openat(etc, "criu", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                struct stat here, there;

                if (fd < 0)
                        return errno == ENOENT ? -ENOENT : st_error_errno(err, errno, "cannot open " DIRECTORY);
                if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
                        if (fstat(fd, &here) == 0 && fstatat(etc, "criu", &there, 0) == 0 &&
                            here.st_ino == there.st_ino && here.st_dev == there.st_dev) {
                                *ret = TAKE_FD(fd);
                                return 0;
                        }
                } else if (errno != EWOULDBLOCK)
                        return st_error_errno(err, errno, "cannot lock " DIRECTORY);
                if (waited >= WAIT_MS)
                        return st_error_set(err, EBUSY,
                                            "another operation has had " DIRECTORY " locked for two seconds");
                struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
                if (poll(&cancel, 1, WAIT_STEP_MS) > 0)
                        return st_error_set(err, ECANCELED, "cancelled");
        }
}

/* Opens and locks the directory. @return -ENOENT without err when there is none and none is to be made */
static int open_conf(int root_fd, bool make, int cancel_fd, struct conf *conf, int *ret_etc, struct st_error **err) {
        bool made = false;
        int etc = docker_root_openat(root_fd, "/etc", O_RDONLY | O_DIRECTORY, 0);

        if (etc < 0)
                return st_error_errno(err, etc, "cannot open the /etc of the Docker engine");
        *ret_etc = etc;
        for (int tries = 0;; tries++) {
                if (make && mkdirat(etc, "criu", 0755) == 0)
                        made = true;
                else if (make && errno != EEXIST) {
                        int r = st_error_errno(err, errno, "cannot make " DIRECTORY " of the Docker engine");
                        st_error_hint(err, "add the line tcp-established to " FILE_PATH " there");
                        return r;
                }
                int r = lock_directory(etc, cancel_fd, &conf->directory, err);
                if (r == -ENOENT && make && tries < 10)
                        continue;
                if (r < 0)
                        return r == -ENOENT && make ? st_error_errno(err, ENOENT, "cannot open " DIRECTORY) : r;
                break;
        }
        if (made) {
                _cleanup_close_ int mark = openat(conf->directory, MADE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                if (mark < 0)
                        return st_error_errno(err, errno, "cannot write to " DIRECTORY);
        }
        return 0;
}

/* Brings the file to what the operations that live want; the directory goes when it was made for them. */
static int update(struct conf *conf, int etc, struct st_error **err) {
        int r = read_conf(conf, err);
        if (r == 0)
                r = read_directory(conf, err);
        if (r == 0)
                r = conf->lines ? put_block(conf, err) : take_block(conf, err);
        if (r == 0 && conf->n_wanted == 0 && unlinkat(conf->directory, MADE, 0) == 0)
                (void)unlinkat(etc, "criu", AT_REMOVEDIR); /* not when somebody put something there */
        return r;
}

static int make_wanted(struct docker_criu_conf *wanted, int directory, const char *const options[],
                       struct st_error **err) {
        for (int i = 0; i < 1000 && wanted->wanted_fd < 0; i++) {
                snprintf(wanted->wanted, sizeof(wanted->wanted), WANTED_PREFIX "%d-%d", (int)getpid(), i);
                wanted->wanted_fd = openat(directory, wanted->wanted, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                if (wanted->wanted_fd < 0 && errno != EEXIST)
                        break;
        }
        if (wanted->wanted_fd < 0 || flock(wanted->wanted_fd, LOCK_EX | LOCK_NB) < 0)
                return st_error_errno(err, errno, "cannot make " DIRECTORY "/%s", wanted->wanted);
        for (; *options; options++) {
                int r = write_text(wanted->wanted_fd, *options, strlen(*options));
                if (r == 0)
                        r = write_text(wanted->wanted_fd, "\n", 1);
                if (r < 0)
                        return st_error_errno(err, r, "cannot write " DIRECTORY "/%s", wanted->wanted);
        }
        return 0;
}

/* Does the file say all of it, by itself? */
static bool said(const char *rest, const char *const options[]) {
        for (; *options; options++)
                if (!has_line(rest, *options, strlen(*options)))
                        return false;
        return true;
}

static int begin(struct docker_criu_conf *wanted, int cancel_fd, const char *const options[], bool *ret_needed,
                 struct st_error **err) {
        _cleanup_(clear) struct conf conf = { .directory = -EBADF }, now = { .directory = -EBADF };
        _cleanup_close_ int etc = -EBADF;

        int r = open_conf(wanted->root_fd, false, cancel_fd, &conf, &etc, err);
        if (r == 0)
                r = read_conf(&conf, err);
        if (r < 0 && r != -ENOENT)
                return r;
        *ret_needed = !said(conf.rest, options);
        if (!*ret_needed)
                return 0;
        if (conf.directory < 0) {
                close(TAKE_FD(etc));
                r = open_conf(wanted->root_fd, true, cancel_fd, &now, &etc, err);
                if (r < 0)
                        return r;
        } else
                now.directory = TAKE_FD(conf.directory);
        r = make_wanted(wanted, now.directory, options, err);
        if (r == 0)
                r = update(&now, etc, err);
        if (r < 0 && wanted->wanted_fd >= 0) {
                _cleanup_(clear) struct conf undo = { .directory = TAKE_FD(now.directory) };
                (void)unlinkat(undo.directory, wanted->wanted, 0);
                (void)update(&undo, etc, NULL);
        }
        return r;
}

static struct docker_criu_conf *conf_free(struct docker_criu_conf *conf) {
        if (conf) {
                if (conf->wanted_fd >= 0)
                        close(conf->wanted_fd);
                if (conf->root_fd >= 0)
                        close(conf->root_fd);
                free(conf);
        }
        return NULL;
}

int docker_criu_conf_begin_at(struct st_operation *operation, int root_fd, const char *const options[],
                              struct docker_criu_conf **ret, struct st_error **err) {
        bool needed = false;

        *ret = NULL;
        if (!options[0])
                return 0;
        for (size_t i = 0; options[i]; i++)
                if (!*options[i] || strpbrk(options[i], "\n#") || strlen(options[i]) > 4096)
                        return st_error_set(err, EINVAL, "\"%.100s\" is no line for CRIU's configuration", options[i]);
        struct docker_criu_conf *conf = calloc(1, sizeof(*conf));
        if (!conf)
                return no_memory(err);
        conf->wanted_fd = -EBADF;
        conf->root_fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
        int r = conf->root_fd < 0
                        ? st_error_errno(err, errno, "cannot change " FILE_PATH)
                        : begin(conf, operation ? st_operation_cancel_fd(operation) : -1, options, &needed, err);
        if (r < 0 || !needed)
                conf = conf_free(conf);
        *ret = conf;
        if (r < 0)
                (void)st_error_wrap(err, "cannot hand options to the CRIU of the Docker engine");
        return r;
}

int docker_criu_conf_begin(struct st_operation *operation, const char *address, const char *const options[],
                           struct docker_criu_conf **ret, struct st_error **err) {
        _cleanup_close_ int root = -EBADF;

        *ret = NULL;
        if (!options[0])
                return 0;
        int r = docker_root_open(address, &root, err);
        return r < 0 ? r : docker_criu_conf_begin_at(operation, root, options, ret, err);
}

static int mend(int root_fd, const char *wanted, struct st_error **err) {
        _cleanup_(clear) struct conf conf = { .directory = -EBADF };
        _cleanup_close_ int etc = -EBADF;

        int r = open_conf(root_fd, false, -1, &conf, &etc, err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (wanted)
                (void)unlinkat(conf.directory, wanted, 0);
        return update(&conf, etc, err);
}

int docker_criu_conf_mend_at(int root_fd, struct st_error **err) {
        return mend(root_fd, NULL, err);
}

int docker_criu_conf_mend(const char *address, struct st_error **err) {
        _cleanup_close_ int root = -EBADF;
        int r = docker_root_open(address, &root, err);
        return r < 0 ? r : docker_criu_conf_mend_at(root, err);
}

struct docker_criu_conf *docker_criu_conf_end(struct docker_criu_conf *conf) {
        _cleanup_error_ struct st_error *err = NULL;

        if (conf && mend(conf->root_fd, conf->wanted, &err) < 0)
                st_log_warning("%s", st_error_message(err));
        return conf_free(conf);
}
