/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A job under a real stasis-supervisor, and clients of it. As in life the supervisor is what the starter of the job
 * becomes by exec. Each rig has a directory of its own, removed by rig_end().
 */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "supervisor/frames.h"
#include "supervisor/status.h"

/** Longer than anything here takes, also on a busy machine under a sanitiser. */
#define RIG_TIMEOUT 30000

enum rig_stdio { RIG_NONE, RIG_PIPES, RIG_TERMINAL };

struct rig {
        char *dir;
        pid_t supervisor;
};

struct rig_options {
        enum rig_stdio stdio;
        const char *script; /* of sh */
        const char *log;    /* NULL: none */
        const char *linger; /* NULL: none */
        const char *below;  /* a directory below the rig's own for the record; NULL: the rig's own */
};

/* In the child: the job, its stdin, stdout and stderr those of `fds`, on a terminal with it as its own. */
static inline void rig_job(const struct rig_options *options, const int fds[3], int go) {
        char byte;

        if (setsid() < 0 || (options->stdio == RIG_TERMINAL && ioctl(fds[0], TIOCSCTTY, 0) < 0))
                _exit(99);
        for (int i = 0; i < 3; i++)
                if (dup2(fds[i], i) < 0)
                        _exit(99);
        /* The supervisor is there first, so no test depends on who is faster. */
        (void)!read(go, &byte, 1);
        closefrom(3);
        execl("/bin/sh", "sh", "-c", options->script, NULL);
        _exit(99);
}

static inline void rig_become_supervisor(const struct rig *rig, const struct rig_options *options) {
        _cleanup_strv_ struct strv argv = { 0 };
        _cleanup_free_ char *program = path_join(getenv("STASIS_BUILD"), "stasis-supervisor");
        int ours[3] = { -1, -1, -1 }, theirs[3], master = -1, slave = -1;
        sigset_t set;

        for (int i = 0; i < 3; i++) {
                int ends[2];

                if (options->stdio != RIG_PIPES) {
                        theirs[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
                        continue;
                }
                if (pipe2(ends, O_CLOEXEC) < 0)
                        _exit(99);
                ours[i] = ends[i == 0];
                theirs[i] = ends[i != 0];
        }
        if (options->stdio == RIG_TERMINAL) {
                if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
                        _exit(99);
                for (int i = 0; i < 3; i++)
                        theirs[i] = slave;
        }
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigprocmask(SIG_BLOCK, &set, NULL);

        /* The answer goes to the job, which begins when the supervisor is ready. */
        int answer = io_memfd("answer", "!", 1), fifo[2];
        if (answer < 0 || pipe2(fifo, O_CLOEXEC) < 0)
                _exit(99);
        pid_t job = fork();
        if (job == 0) {
                close(fifo[1]);
                rig_job(options, theirs, fifo[0]);
        }
        strv_add(&argv, "stasis-supervisor");
        strv_addf(&argv, "--dir=%s", rig->dir);
        strv_addf(&argv, "--pid=%d", job);
        strv_addf(&argv, "--answer=%d", answer);
        strv_addf(&argv, "--socket=%d", fifo[1]);
        (void)io_set_cloexec(answer, false);
        (void)io_set_cloexec(fifo[1], false);
        if (options->stdio == RIG_TERMINAL) {
                strv_addf(&argv, "--terminal=%d", master);
                close(slave);
        } else if (options->stdio == RIG_PIPES) {
                strv_addf(&argv, "--stdin=%d", ours[0]);
                strv_addf(&argv, "--stdout=%d", ours[1]);
                strv_addf(&argv, "--stderr=%d", ours[2]);
                for (int i = 0; i < 3; i++)
                        (void)io_set_cloexec(ours[i], false);
        }
        if (options->log)
                strv_addf(&argv, "--log=%s", options->log);
        if (options->linger)
                strv_addf(&argv, "--linger=%s", options->linger);
        execv(program, argv.items);
        _exit(99);
}

static inline void rig_start(struct rig *rig, const struct rig_options *options) {
        _cleanup_free_ char *top = xasprintf("%s/supervisor-XXXXXX", path_temporary_dir());
        int fd;

        assert_non_null(getenv("STASIS_BUILD"));
        assert_non_null(mkdtemp(top));
        rig->dir = options->below ? path_join(top, options->below) : xstrdup(top);
        assert_int_equal(io_make_directories(rig->dir, 0700), 0);
        rig->supervisor = fork();
        assert_true(rig->supervisor >= 0);
        if (rig->supervisor == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)signal(SIGSEGV, SIG_DFL); /* cmocka's handler goes on with the next test */
                rig_become_supervisor(rig, options);
        }
        /* An ended one counts, too. */
        uint64_t until = clock_ms() + RIG_TIMEOUT;
        while ((fd = supervisor_connect(rig->dir)) < 0 && waitpid(rig->supervisor, NULL, WNOHANG) == 0 &&
               clock_ms() < until)
                (void)poll(NULL, 0, 2);
        if (fd >= 0)
                close(fd);
}

/** Waits for the end of the supervisor. */
static inline void rig_wait(struct rig *rig) {
        int status;
        uint64_t until = clock_ms() + RIG_TIMEOUT;

        while (rig->supervisor > 0 && clock_ms() < until) {
                pid_t pid = waitpid(rig->supervisor, &status, WNOHANG);
                if (pid == rig->supervisor || pid < 0) /* or reaped before */
                        rig->supervisor = 0;
                else
                        (void)poll(NULL, 0, 2);
        }
        assert_int_equal(rig->supervisor, 0);
}

static inline void rig_end(struct rig *rig) {
        struct supervisor_status status;

        if (supervisor_status_read(rig->dir, &status) == 0 && !status.exited)
                (void)kill(status.pid, SIGKILL);
        if (rig->supervisor > 0) {
                (void)kill(rig->supervisor, SIGKILL);
                (void)waitpid(rig->supervisor, NULL, 0);
        }
        char *end = strstr(rig->dir, "/supervisor-");
        end = end ? strchr(end + 1, '/') : NULL;
        if (end)
                *end = '\0';
        (void)io_remove_tree(rig->dir);
        free(rig->dir);
}

/** One connection, and what came over it. */
struct rig_client {
        char *text[2]; /* stdout, stderr; NUL-terminated */
        size_t size[2];
        struct supervisor_reader reader;
        int fd, status;
        int error; /* the last one; 0: none */
        struct supervisor_hello hello;
        bool exited;
        bool gone; /* the connection has ended */
};

static inline void rig_send(struct rig_client *client, enum supervisor_frame kind, const void *data, size_t size) {
        struct supervisor_frame_head head = supervisor_head(kind, size);

        assert_int_equal(io_write_full(client->fd, &head, sizeof(head)), 0);
        if (size > 0)
                assert_int_equal(io_write_full(client->fd, data, size), 0);
}

static inline void rig_send_text(struct rig_client *client, const char *text) {
        rig_send(client, SUPERVISOR_STDIN, text, strlen(text));
}

static inline void rig_send_number(struct rig_client *client, enum supervisor_frame kind, int32_t number) {
        rig_send(client, kind, &number, sizeof(number));
}

static inline void rig_keep(struct rig_client *client, int which, const void *data, size_t size) {
        client->text[which] = xrealloc(client->text[which], client->size[which] + size + 1, 1);
        memcpy(client->text[which] + client->size[which], data, size);
        client->size[which] += size;
        client->text[which][client->size[which]] = '\0';
}

static inline void rig_take(struct rig_client *client, const struct supervisor_message *message) {
        int32_t number = 0;

        switch (message->kind) {
        case SUPERVISOR_HELLO:
                assert_true(supervisor_message_get(message, &client->hello, sizeof(client->hello)));
                break;
        case SUPERVISOR_STDOUT:
        case SUPERVISOR_STDERR:
                rig_keep(client, message->kind == SUPERVISOR_STDERR, message->data, message->size);
                break;
        case SUPERVISOR_EXIT:
                assert_false(client->exited);
                client->exited = true;
                assert_true(supervisor_message_get(message, &client->status, sizeof(client->status)));
                break;
        case SUPERVISOR_ERROR:
                assert_true(supervisor_message_get(message, &number, sizeof(number)));
                client->error = number;
                break;
        default:
                fail_msg("frame of kind %u", message->kind);
        }
}

/** Receives once what is there within the time. @return false: nothing came, or the end */
static inline bool rig_receive(struct rig_client *client, int timeout_ms) {
        struct pollfd polled = { .fd = client->fd, .events = POLLIN };
        struct supervisor_message message;
        int r;

        if (client->gone || poll(&polled, 1, timeout_ms) <= 0)
                return false;
        ssize_t n = supervisor_reader_fill(&client->reader, client->fd);
        if (n == 0 || n == -ECONNRESET) {
                client->gone = true;
                return false;
        }
        assert_true(n > 0);
        while ((r = supervisor_reader_next(&client->reader, &message)) > 0) {
                assert_false(client->exited); /* it is the last frame */
                rig_take(client, &message);
        }
        assert_int_equal(r, 0);
        return true;
}

/** Receives until that has been printed. */
static inline void rig_expect(struct rig_client *client, int which, const char *text) {
        while (!client->text[which] || !strstr(client->text[which], text))
                if (!rig_receive(client, RIG_TIMEOUT))
                        fail_msg("\"%s\" never came, but: %s", text, client->text[which]);
}

/** Receives to the end of the connection. */
static inline void rig_drain(struct rig_client *client) {
        while (rig_receive(client, RIG_TIMEOUT))
                continue;
        assert_true(client->gone);
}

static inline void rig_connect(const struct rig *rig, struct rig_client *ret) {
        *ret = (struct rig_client){ .fd = supervisor_connect(rig->dir) };
        if (ret->fd < 0)
                fail_msg("cannot connect: %s", strerror(-ret->fd));
        while (ret->hello.protocol == 0)
                assert_true(rig_receive(ret, RIG_TIMEOUT));
        assert_int_equal(ret->hello.protocol, SUPERVISOR_PROTOCOL);
}

static inline void rig_attach(const struct rig *rig, struct rig_client *ret) {
        rig_connect(rig, ret);
        rig_send(ret, SUPERVISOR_ATTACH, NULL, 0);
}

static inline void rig_leave(struct rig_client *client) {
        close(client->fd);
        supervisor_reader_clear(&client->reader);
        free(client->text[0]);
        free(client->text[1]);
}
