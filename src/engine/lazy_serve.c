/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis serve-pages`: lazy_process.h says what it is. */

#include <poll.h>
#include <pthread.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"
#include "engine/lazy_guard.h"
#include "engine/lazy_message.h"
#include "engine/lazy_process.h"
#include "engine/lazy_record.h"
#include "image/formats.h"
#include "lazy/server.h"

#define STEP_MS 100
/* Processes of a failed restore end within this time. */
#define GONE_MS 30000
/* What a restore that is told of a failure does by itself takes less. */
#define LET_GO_MS 10000
/* So many guards may be killed while they end what runs. */
#define KILL_ATTEMPTS 10
/* Who holds the descriptors is woken up and closes them. */
#define HOLDER_MS 1000

struct serve_pages {
        char *const *words;
        struct image *image;
        struct lazy_plan *plan;
        struct lazy *lazy;
        struct lazy_record record;
        bool connected, running;      /* with the restore; what it restored was said to be all right */
        bool broken, failed;          /* the restore has failed; we have */
        uint64_t began_ms, failed_ms; /* the latter: or since when it is broken */
        char *root;                   /* text of LAZY_LET_GO; NULL until then */
        struct st_error *error;

        pthread_mutex_t lock; /* of the guard */
        int guard_fd;
        pid_t guard;
};

/* On a thread of the server: the guard has it before the process can run. */
static void offer(int uffd, void *userdata) {
        struct serve_pages *serve = userdata;

        pthread_mutex_lock(&serve->lock);
        if (serve->guard_fd >= 0)
                (void)lazy_message_send(serve->guard_fd, LAZY_DESCRIPTOR, NULL, uffd);
        (void)lazy_message_send(LAZY_HOLDER_FD, LAZY_DESCRIPTOR, NULL, uffd);
        pthread_mutex_unlock(&serve->lock);
}

static int start_guard(struct serve_pages *serve, struct st_error **err) {
        const struct lazy_guard_options options = {
                .image = serve->words[LAZY_ARG_IMAGE],
                .job = serve->words[LAZY_ARG_JOB],
                .supervisor = serve->words[LAZY_ARG_SUPERVISOR],
                .start = serve->words[LAZY_ARG_START],
                .record = serve->record.path,
        };
        int fd = -EBADF;
        pid_t pid = lazy_guard_start(&options, &fd, err);

        if (pid < 0)
                return pid;
        pthread_mutex_lock(&serve->lock);
        if (serve->guard_fd >= 0)
                close(serve->guard_fd);
        serve->guard_fd = fd;
        serve->guard = pid;
        pthread_mutex_unlock(&serve->lock);
        return 0;
}

static void tell_guard(struct serve_pages *serve, char kind, const char *text) {
        pthread_mutex_lock(&serve->lock);
        (void)lazy_message_send(serve->guard_fd, kind, text, -EBADF);
        pthread_mutex_unlock(&serve->lock);
}

/** Somebody has killed the guard: another one takes its place. */
static void renew_guard(struct serve_pages *serve) {
        struct st_error *error = NULL;

        if (serve->guard > 0)
                (void)waitpid(serve->guard, NULL, 0);
        if (start_guard(serve, &error) < 0) {
                st_log_warning("%s", st_error_message(error));
                st_error_free(error);
                (void)poll(NULL, 0, STEP_MS);
                return;
        }
        if (serve->lazy)
                lazy_each_descriptor(serve->lazy);
        if (serve->running)
                tell_guard(serve, LAZY_RUNNING_NOW, NULL);
        if (serve->root)
                tell_guard(serve, LAZY_ROOT, serve->root);
}

/** Also to who becomes a guard when all others are killed. */
static void tell_all(struct serve_pages *serve, char kind, const char *text) {
        tell_guard(serve, kind, text);
        (void)lazy_message_send(LAZY_HOLDER_FD, kind, text, -EBADF);
}

/** What a guard has to know. */
static int tell_holder(const struct serve_pages *serve, struct st_error **err) {
        char *const *words = serve->words;
        _cleanup_free_ char *text = xasprintf("%s\n%s\n%s\n%s\n%s", words[LAZY_ARG_SUPERVISOR], words[LAZY_ARG_START],
                                              words[LAZY_ARG_JOB], serve->record.path, words[LAZY_ARG_IMAGE]);
        int r;

        (void)io_set_nonblocking(LAZY_HOLDER_FD, true);
        r = lazy_message_send(LAZY_HOLDER_FD, LAZY_WORDS, text, LAZY_LOG_FD);
        return r < 0 ? st_error_errno(err, r, "the restore is gone") : 0;
}

/** All is in: who holds the descriptors closes them. The record is still ours, which tells that nothing is wrong. */
static void leave_holder(void) {
        int left = 0;

        (void)shutdown(LAZY_HOLDER_FD, SHUT_RDWR);
        for (int ms = 0; ms < HOLDER_MS && ioctl(LAZY_HOLDER_FD, SIOCOUTQ, &left) == 0 && left > 0; ms++)
                (void)poll(NULL, 0, 1);
}

static void end_guard(struct serve_pages *serve) {
        if (serve->guard <= 0)
                return;
        tell_guard(serve, LAZY_DONE_ALL, NULL);
        (void)spawn_wait(serve->guard, NULL);
        serve->guard = 0;
}

static void on_let_go(struct serve_pages *serve, const char *text) {
        char *end;
        long pid = strtol(text, &end, 10);

        free(serve->root);
        serve->root = xstrdup(text);
        if (pid > 1)
                lazy_record_add(&serve->record, (pid_t)pid);
        tell_all(serve, LAZY_ROOT, serve->root);
}

/** A message of the restore, or its end. */
static void on_control(struct serve_pages *serve) {
        char text[LAZY_TEXT_MAX];
        int kind = lazy_message_receive(LAZY_CONTROL_FD, text, NULL);

        if (kind == LAZY_ASK && !serve->failed) {
                serve->running = true;
                lazy_set_mapped(serve->lazy);
                tell_all(serve, LAZY_RUNNING_NOW, NULL);
                (void)lazy_message_send(LAZY_CONTROL_FD, LAZY_HEALTHY, NULL, -EBADF);
        } else if (kind == LAZY_LET_GO)
                on_let_go(serve, text);
        else if (kind <= 0)
                serve->connected = false;
}

/** What went wrong here is told to the restore, and when it runs already, it is ended. */
static void on_failure(struct serve_pages *serve) {
        if (!serve->failed) {
                serve->failed = true;
                serve->failed_ms = clock_ms();
                (void)lazy_failure(serve->lazy, &serve->error);
                (void)lazy_message_send(LAZY_CONTROL_FD, LAZY_FAILURE, st_error_message(serve->error), -EBADF);
        }
}

/** @return true: it is over, one way or another */
static bool step(struct serve_pages *serve) {
        bool over = false;
        enum lazy_state state = lazy_poll(serve->lazy, &over);
        uint64_t total, done = lazy_pages(serve->lazy, &total);

        lazy_record_progress(&serve->record, done < total ? done : total, total);
        switch (state) {
        case LAZY_COMPLETE:
                return over && (serve->root || !serve->connected);
        case LAZY_BROKEN:
                if (!serve->broken)
                        serve->failed_ms = clock_ms();
                serve->broken = true;
                /* CRIU is ending, and knows why: were we gone first, that would be taken for the reason. */
                return !serve->connected || clock_ms() - serve->failed_ms > LET_GO_MS;
        case LAZY_FAILED:
                on_failure(serve);
                /* Not before it is known what runs; the restore may end it by itself. */
                return !serve->running || serve->root || clock_ms() - serve->failed_ms > LET_GO_MS ||
                       lazy_all_gone(serve->lazy);
        default:
                /* The restore has given up, or died, before anything was to run. */
                if (!serve->connected && !serve->running) {
                        serve->broken = true;
                        return true;
                }
                return serve->running && !serve->connected && lazy_all_gone(serve->lazy);
        }
}

static void loop(struct serve_pages *serve) {
        while (!step(serve)) {
                struct pollfd fds[] = {
                        { .fd = serve->connected ? LAZY_CONTROL_FD : -1, .events = POLLIN },
                        { .fd = lazy_fd(serve->lazy), .events = POLLIN },
                        { .fd = serve->guard_fd, .events = POLLIN },
                };

                if (poll(fds, ELEMENTSOF(fds), STEP_MS) <= 0)
                        continue;
                if (fds[0].revents)
                        on_control(serve);
                if (fds[2].revents)
                        renew_guard(serve);
        }
}

/** Undoes it all in the order in which nothing reads zeros. */
static void finish(struct serve_pages *serve) {
        uint64_t pages = serve->plan->pages;

        /* When nothing was let go and nothing is left, the restore has ended it, and says why. */
        for (int i = 0; serve->failed && serve->running && (serve->root || !lazy_all_gone(serve->lazy)); i++) {
                tell_guard(serve, LAZY_KILL, st_error_message(serve->error));
                int status = spawn_wait(serve->guard, NULL);
                serve->guard = 0;
                if (status == 0 || i == KILL_ATTEMPTS)
                        break;
                renew_guard(serve); /* it was killed itself */
        }
        /* A restore that failed has let go of nothing that could run on; of one that was killed CRIU ends the tasks. */
        for (int ms = 0; serve->broken && serve->running && ms < GONE_MS && !lazy_all_gone(serve->lazy); ms += STEP_MS)
                (void)poll(NULL, 0, STEP_MS);
        (void)lazy_finish(TAKE_PTR(serve->lazy), NULL);
        end_guard(serve);
        leave_holder();
        if (!serve->failed && !serve->broken)
                st_log_info("all %.1f MiB of the memory of %s%s were in after %llu ms",
                            (double)pages * LAZY_PAGE / (1 << 20), isempty(serve->words[LAZY_ARG_JOB]) ? "" : "job ",
                            isempty(serve->words[LAZY_ARG_JOB]) ? serve->words[LAZY_ARG_IMAGE]
                                                                : serve->words[LAZY_ARG_JOB],
                            (unsigned long long)(clock_ms() - serve->began_ms));
}

static bool is_same_image(const struct serve_pages *serve) {
        const uint8_t *id = serve->image->native->sources[0].header.id;
        char text[2 * NATIVE_ID + 1] = "";

        for (size_t i = 0; i < NATIVE_ID; i++)
                (void)snprintf(text + 2 * i, 3, "%02x", id[i]);
        return streq(text, serve->words[LAZY_ARG_EXTRA]);
}

static int prepare(struct serve_pages *serve, struct st_error **err) {
        const char *path = serve->words[LAZY_ARG_IMAGE];
        int r = image_open(path, &serve->image, err);

        if (r < 0)
                return r;
        if (!serve->image->native || !is_same_image(serve))
                return st_error_set(err, ESTALE, "%s was replaced meanwhile", path);
        r = lazy_plan_make(serve->image, &serve->plan, err);
        if (r >= 0)
                r = lazy_record_new(path, &serve->record, err);
        if (r >= 0)
                r = tell_holder(serve, err);
        if (r >= 0)
                r = start_guard(serve, err);
        if (r < 0)
                return r;

        const struct lazy_options options = {
                .plan = serve->plan,
                .listener = LAZY_LISTENER_FD,
                .on_descriptor = offer,
                .userdata = serve,
        };
        serve->began_ms = clock_ms();
        return lazy_start(&options, &serve->lazy, err);
}

static int serve_pages(char *const *words) {
        struct serve_pages serve = {
                .words = words, .record = LAZY_RECORD_NULL, .guard_fd = -EBADF, .connected = true
        };
        int r;

        pthread_mutex_init(&serve.lock, NULL);
        r = prepare(&serve, &serve.error);
        if (r >= 0) {
                (void)lazy_message_send(LAZY_CONTROL_FD, LAZY_READY, serve.record.path, -EBADF);
                loop(&serve);
                finish(&serve);
        } else {
                (void)lazy_message_send(LAZY_CONTROL_FD, LAZY_FAILURE, st_error_message(serve.error), -EBADF);
                end_guard(&serve);
        }
        lazy_record_clear(&serve.record, true);
        lazy_plan_free(serve.plan);
        image_free(serve.image);
        st_error_free(serve.error);
        free(serve.root);
        if (serve.guard_fd >= 0)
                close(serve.guard_fd);
        return r < 0 || serve.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/** Becomes nobody's child: this process ends, another one goes on. */
static int detach(char *const *words) {
        char *argv[LAZY_ARGS + 1];
        const struct spawn_fd fds[] = { { .fd = LAZY_CONTROL_FD, .number = LAZY_CONTROL_FD },
                                        { .fd = LAZY_LOG_FD, .number = LAZY_LOG_FD },
                                        { .fd = LAZY_LISTENER_FD, .number = LAZY_LISTENER_FD },
                                        { .fd = LAZY_HOLDER_FD, .number = LAZY_HOLDER_FD },
                                        { .fd = STDERR_FILENO, .number = STDERR_FILENO } };
        struct st_error *error = NULL;

        for (size_t i = 0; i <= LAZY_ARGS; i++)
                argv[i] = words[i];
        argv[1] = (char *)LAZY_SERVE_DETACHED;

        if (spawn_self(argv, fds, ELEMENTSOF(fds), &error) >= 0)
                return EXIT_SUCCESS;
        st_log_error("%s", st_error_message(error));
        st_error_free(error);
        return EXIT_FAILURE;
}

int lazy_serve_main(int argc, char **argv) {
        if (argc != LAZY_ARGS) {
                st_log_error("'stasis %s' is started by a restore, not by hand", LAZY_SERVE);
                return EXIT_FAILURE;
        }
        if (streq(argv[1], LAZY_SERVE))
                return detach(argv);
        for (int number = LAZY_CONTROL_FD; number <= LAZY_HOLDER_FD; number++)
                (void)io_set_cloexec(number, true);
        lazy_process_prepare();
        return serve_pages(argv);
}
