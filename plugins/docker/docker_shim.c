/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "../common/cleanup.h"
#include "docker_root.h"
#include "docker_saved.h"
#include "engine.h"
#include "fdio.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define NAMESPACE "moby" /* containerd's, of all containers of Docker */
#define FILE_MAX ((size_t)256 * 1024)
#define CRIU_STEP_MS 20

/* The whole of a small file, a NUL behind it. */
static int read_small(int directory, const char *name, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *data = NULL;
        size_t size = 0, room = 0;
        ssize_t n;

        if (fd < 0)
                return -errno;
        do {
                if (size + 1 >= room) {
                        room = room ? 2 * room : 8192;
                        char *more = room <= FILE_MAX ? realloc(data, room) : NULL;
                        if (!more)
                                return -EFBIG;
                        data = more;
                }
                n = fdio_read(fd, data + size, room - size - 1, -1, name, NULL);
                if (n < 0)
                        return (int)n;
                size += (size_t)n;
        } while (n > 0);
        data[size] = 0;
        *ret = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

long docker_proc_number(pid_t pid, const char *field) {
        _cleanup_free_ char *text = NULL;
        char path[64];
        size_t length = strlen(field);

        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        if (read_small(AT_FDCWD, path, &text, NULL) < 0)
                return -1;
        for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
                if (strncmp(line, field, length) == 0 && line[length] == ':')
                        return strtol(line + length + 1, NULL, 10);
        return -1;
}

pid_t docker_shim_of(pid_t pid) {
        long parent = docker_proc_number(pid, "PPid");
        _cleanup_free_ char *command = NULL;
        char path[64];

        if (parent <= 1)
                return 0;
        snprintf(path, sizeof(path), "/proc/%ld/cmdline", parent);
        if (read_small(AT_FDCWD, path, &command, NULL) < 0 || !strstr(command, "containerd-shim"))
                return 0;
        return (pid_t)parent;
}

int docker_shim_open(pid_t shim) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/cwd", (int)shim);
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Is there an executable file? */
static bool is_program(int root_fd, const char *path) {
        _cleanup_close_ int fd = docker_root_openat(root_fd, path, O_PATH, 0);
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

/* @param name with its = */
static char *variable_of(const char *environment, size_t size, const char *name, const char *otherwise) {
        for (const char *p = environment; p < environment + size; p += strlen(p) + 1)
                if (strncmp(p, name, strlen(name)) == 0 && p[strlen(name)])
                        return strdup(p + strlen(name));
        return strdup(otherwise);
}

char *docker_shim_temporary(pid_t pid) {
        _cleanup_free_ char *environment = NULL;
        char proc[64];
        size_t size = 0;

        snprintf(proc, sizeof(proc), "/proc/%d/environ", (int)pid);
        if (read_small(AT_FDCWD, proc, &environment, &size) < 0)
                size = 0;
        return variable_of(environment, size, "TMPDIR=", "/tmp");
}

int docker_shim_look_up(pid_t pid, const char *program, char **ret, char **ret_path) {
        _cleanup_free_ char *environment = NULL, *path = NULL, *dirs = NULL;
        char *left, *dir;
        _cleanup_close_ int root = -EBADF;
        char proc[64];
        size_t size = 0;
        int r;

        snprintf(proc, sizeof(proc), "/proc/%d/environ", (int)pid);
        r = read_small(AT_FDCWD, proc, &environment, &size);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        snprintf(proc, sizeof(proc), "/proc/%d/root", (int)pid);
        root = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        path = variable_of(environment, size, "PATH=", DEFAULT_PATH);
        dirs = path ? strdup(path) : NULL;
        if (!dirs)
                return -ENOMEM;
        r = -ENOENT;
        for (left = dirs; r < 0 && (dir = strsep(&left, ":"));) {
                _cleanup_free_ char *full = NULL;

                if (asprintf(&full, "%s/%s", dir, program) < 0) {
                        full = NULL;
                        return -ENOMEM;
                }
                if (*dir == '/' && is_program(root, full)) {
                        *ret = TAKE_PTR(full);
                        r = 0;
                }
        }
        if (*program == '/' && is_program(root, program)) {
                *ret = strdup(program);
                r = *ret ? 0 : -ENOMEM;
        }
        if (ret_path)
                *ret_path = TAKE_PTR(path);
        return r;
}

int docker_shim_runc(int shim_fd, char **ret_binary, char **ret_root, struct st_error **err) {
        _cleanup_free_ char *text = NULL, *binary = NULL, *path = NULL;
        size_t size = 0;
        int r = read_small(shim_fd, "options.json", &text, &size);

        if (r < 0)
                return st_error_errno(err, r, "cannot read options.json of the container's shim");
        _cleanup_json_ json_t *options = json_loadb(text, size, 0, NULL);
        const char *root = docker_saved_text(options, "root", NULL),
                   *name = docker_saved_text(options, "binary_name", NULL);

        if (!root || *root != '/')
                return st_error_set(err, EPROTO,
                                    "options.json of the container's shim does not say where its runc keeps the "
                                    "state");
        binary = strdup(name && *name ? name : "runc");
        if (!binary || asprintf(&path, "%s/" NAMESPACE, root) < 0) {
                path = NULL;
                return st_error_errno(err, ENOMEM, "cannot keep the options of runc");
        }
        *ret_binary = TAKE_PTR(binary);
        *ret_root = TAKE_PTR(path);
        return 0;
}

bool docker_shim_shares_mounts(pid_t shim) {
        struct stat ours, theirs;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)shim);
        return stat("/proc/self/ns/mnt", &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino &&
               ours.st_dev == theirs.st_dev;
}

static bool is_traced_by_criu(pid_t pid) {
        long tracer = docker_proc_number(pid, "TracerPid");
        char path[64], name[32] = "";

        if (tracer <= 0)
                return false;
        snprintf(path, sizeof(path), "/proc/%ld/comm", tracer);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, name, sizeof(name) - 1) : -1;
        return n > 0 && strncmp(name, "criu", 4) == 0;
}

void docker_criu_wait(pid_t pid, int start_ms) {
        for (int idle = 0;; idle += CRIU_STEP_MS) {
                if (is_traced_by_criu(pid))
                        idle = start_ms = 0;
                else if (idle >= start_ms)
                        return;
                (void)poll(NULL, 0, CRIU_STEP_MS);
        }
}
