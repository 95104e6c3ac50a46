/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the programs keep_*.c have in common. `keep_X NAME DIR` makes the kernel object NAME, creates DIR/NAME.ready,
 * waits for DIR/NAME.go (dumped and restored meanwhile, it knows nothing of that), looks whether the object is as it
 * was, and writes "ok", or what is wrong, to DIR/NAME.result. `keep_X --list` prints the names.
 *
 * Each program defines `objects`, ended by a row of NULLs. main() is here.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct object {
        const char *name;
        void (*keep)(void);
};

extern const struct object objects[];

static const char *directory, *object_name;

/** DIR/NAME.SUFFIX, in one of a few buffers that take turns. */
static inline const char *place(const char *suffix) {
        static char buffers[8][PATH_MAX];
        static unsigned turn;
        char *buffer = buffers[turn++ % 8];

        (void)snprintf(buffer, PATH_MAX, "%s/%s.%s", directory, object_name, suffix);
        return buffer;
}

/** Tells the result, whole, if nobody has told one: the first is the cause. Of the process group nobody is left. */
static inline void tell(const char *text) {
        char suffix[32];

        (void)snprintf(suffix, sizeof(suffix), "telling-%d", (int)getpid());
        FILE *f = fopen(place(suffix), "w");
        if (f) {
                (void)fputs(text, f);
                (void)fclose(f);
                if (link(place(suffix), place("result")) < 0)
                        perror("link");
        }
        (void)kill(0, SIGKILL);
        exit(1);
}

__attribute__((format(printf, 1, 2))) static inline void wrong(const char *format, ...) {
        char text[512];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        tell(text);
}

static inline int must(long r, int line, const char *what) {
        if (r < 0)
                wrong("line %d: %s: %s", line, what, strerror(errno));
        return (int)r;
}

/** A system call that has to succeed. */
#define MUST(call) must((long)(call), __LINE__, #call)

/** What has to be true, before and after. */
#define CHECK(condition)                                                                  \
        do {                                                                              \
                if (!(condition))                                                         \
                        wrong("line %d: not %s (errno %d)", __LINE__, #condition, errno); \
        } while (0)

static inline void write_all(int fd, const void *data, size_t size) {
        CHECK(write(fd, data, size) == (ssize_t)size);
}

/** Reads exactly this text. */
static inline void expect(int fd, const char *text) {
        char got[256] = "";
        size_t size = strlen(text), n = 0;

        while (n < size) {
                ssize_t r = read(fd, got + n, size - n);
                if (r <= 0)
                        wrong("'%s' was to be read: %s after %zu bytes", text, r == 0 ? "the end" : strerror(errno), n);
                n += (size_t)r;
        }
        if (memcmp(got, text, size) != 0)
                wrong("read '%s' and not '%s'", got, text);
}

static inline void pause_ms(int ms) {
        (void)poll(NULL, 0, ms);
}

static inline void wait_for_file(const char *path) {
        while (access(path, F_OK) < 0)
                pause_ms(10);
}

/** Here the process is dumped and restored. */
static inline void meanwhile(void) {
        close(MUST(open(place("ready"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
        wait_for_file(place("go"));
}

/** Waits for a child that has to end with this code. */
static inline void reap(pid_t pid, int code) {
        int status = 0;

        CHECK(waitpid(pid, &status, 0) == pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
                wrong("child %d ended with status %#x", (int)pid, status);
}

int main(int argc, char **argv) {
        if (argc == 2 && strcmp(argv[1], "--list") == 0) {
                for (const struct object *o = objects; o->name; o++)
                        puts(o->name);
                return 0;
        }
        if (argc != 3)
                return 2;
        object_name = argv[1];
        directory = argv[2];
        for (const struct object *o = objects; o->name; o++)
                if (strcmp(o->name, object_name) == 0) {
                        o->keep();
                        tell("ok");
                }
        return 2;
}
