/* SPDX-License-Identifier: Apache-2.0 */

/*
 * churn SEED MIB PROCESSES THREADS DIR: a tree of processes that do not stop to map, write, move, protect, throw away
 * and unmap memory, to fork, exec and end, and that know what each page must hold. When there is a symbolic link
 * DIR/ask to a word, all look at all of their memory, and DIR/answer gets "WORD right …" or "WORD wrong …"; they go on
 * when it is gone, or another one. What is wrong is in DIR/said, a line each, as soon as somebody finds it.
 */

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "churn.h"

#define THREADS_MAX 8
#define NEW_PAGES 160
#define STACK_DEPTH 24

/* What all processes share. */
struct book {
        atomic_uint alive, asked, n_right, bad;
        atomic_ulong pages;
};

/* The first one is the process's own thread. */
struct worker {
        pthread_t thread;
        pthread_mutex_t lock; /* of its areas; who forks has all of them */
        struct area areas[AREAS];
        bool there;
        atomic_bool ends;
};

static struct worker workers[THREADS_MAX];
static size_t max_pages;
static unsigned max_processes, n_threads, n_children;
static struct book *book;
static const char *directory;
static bool is_root = true;

static const char *path(const char *name) {
        static char buffers[2][512];
        static unsigned turn;
        char *buffer = buffers[turn++ % 2];

        (void)snprintf(buffer, sizeof(buffers[0]), "%s/%s", directory, name);
        return buffer;
}

static void on_signal(int number, siginfo_t *info, void *context) {
        char line[128];

        (void)context;
        (void)snprintf(line, sizeof(line), "BAD process %d: signal %d at %p\n", (int)getpid(), number, info->si_addr);
        say(line);
        _exit(3);
}

static size_t pages_of(const struct worker *worker) {
        size_t n = 0;

        for (size_t i = 0; i < AREAS; i++)
                n += worker->areas[i].at ? worker->areas[i].n : 0;
        return n;
}

static void check_all(struct worker *worker) {
        for (size_t i = 0; i < AREAS; i++)
                if (worker->areas[i].at)
                        check_area(&worker->areas[i]);
}

/* Changes an area, makes one, or drops one. */
static void step(struct worker *worker) {
        struct area *area = &worker->areas[draw(AREAS)];
        bool is_first = worker == &workers[0];

        for (unsigned i = 0; i < 4 && !area->at; i++)
                area = &worker->areas[draw(AREAS)];
        if (!area->at) {
                enum kind kind = (enum kind)draw(KINDS);

                if ((kind != HEAP || is_first) && pages_of(worker) < max_pages)
                        new_area(area, kind, 1 + draw(NEW_PAGES));
        } else if (draw(40) == 0)
                drop_area(area);
        else
                change(area);
}

/* Deeper and deeper, what is on the stack must stay, too. */
static void __attribute__((noinline)) descend(struct worker *worker, unsigned depth) {
        uint64_t page[WORDS];
        uint64_t value = new_value(page);

        fill(page, value);
        if (depth > 0)
                descend(worker, depth - 1);
        else
                step(worker);
        if (!is_filled(page, value)) {
                atomic_fetch_add(&book->bad, 1);
                say("BAD stack\n");
        }
}

static void rest(void) {
        if (draw(4) == 0)
                usleep((useconds_t)draw(400));
        else
                sched_yield();
}

static void *work(void *userdata) {
        struct worker *worker = userdata;

        state = mix((uintptr_t)worker + (uint64_t)getpid()) | 1;
        while (!atomic_load(&worker->ends)) {
                pthread_mutex_lock(&worker->lock);
                if (draw(16) == 0)
                        descend(worker, (unsigned)draw(STACK_DEPTH));
                else
                        step(worker);
                pthread_mutex_unlock(&worker->lock);
                rest();
        }
        return NULL;
}

static void start_thread(struct worker *worker) {
        atomic_store(&worker->ends, false);
        if (pthread_create(&worker->thread, NULL, work, worker) != 0)
                die("pthread_create");
        worker->there = true;
}

/* Ends one, or starts one that takes over its areas. */
static void change_threads(void) {
        struct worker *worker;

        if (n_threads < 2)
                return;
        worker = &workers[1 + draw(n_threads - 1)];
        if (!worker->there) {
                start_thread(worker);
                return;
        }
        atomic_store(&worker->ends, true);
        (void)pthread_join(worker->thread, NULL);
        worker->there = false;
}

static void lock_all(bool lock) {
        for (unsigned i = 1; i < n_threads; i++)
                (void)(lock ? pthread_mutex_lock : pthread_mutex_unlock)(&workers[i].lock);
}

/* Only who forks is left of the threads; each area is as it was but those that say something else. */
static void become_child(void) {
        is_root = false;
        n_children = 0;
        state = mix(state + (uint64_t)getpid()) | 1;
        for (unsigned i = 0; i < n_threads; i++) {
                pthread_mutex_init(&workers[i].lock, NULL);
                workers[i].there = false;
                for (size_t j = 0; j < AREAS; j++) {
                        struct area *area = &workers[i].areas[j];

                        if (area->at && area->kind == WIPED)
                                set_values(area, 0, area->n, ZEROS);
                        if (area->at && area->kind == NOT_FOR_CHILDREN)
                                *area = (struct area){ 0 };
                }
        }
}

static _Noreturn void run(uint64_t steps);

static void make_child(void) {
        uint64_t steps = draw(3) == 0 ? 3000 + draw(20000) : draw(200);
        pid_t pid;

        if (atomic_fetch_add(&book->alive, 1) >= max_processes) {
                atomic_fetch_sub(&book->alive, 1);
                return;
        }
        lock_all(true);
        pid = fork();
        if (pid == 0) {
                become_child();
                run(steps);
        }
        lock_all(false);
        if (pid < 0)
                die("fork");
        n_children++;
}

static void exec_child(void) {
        pid_t pid = vfork();

        if (pid == 0) {
                execl("/bin/true", "true", (char *)NULL);
                _exit(127);
        }
        if (pid > 0)
                n_children++;
}

/** @param all waits until none is left */
static void reap(bool all) {
        int status;

        while (n_children > 0 && waitpid(-1, &status, all ? 0 : WNOHANG) > 0) {
                n_children--;
                if (status != 0) {
                        char line[64];

                        (void)snprintf(line, sizeof(line), "BAD a child ended with status %#x\n", (unsigned)status);
                        say(line);
                        atomic_fetch_add(&book->bad, 1);
                }
        }
}

/* Only the process's own thread asks for this; all is as it was when it returns. */
static void check_process(void) {
        lock_all(true);
        for (unsigned i = 0; i < n_threads; i++) {
                check_all(&workers[i]);
                atomic_fetch_add(&book->pages, pages_of(&workers[i]));
        }
        lock_all(false);
}

static void be_asked(void) {
        unsigned asked = atomic_load(&book->asked);

        check_process();
        atomic_fetch_add(&book->n_right, 1);
        while (atomic_load(&book->asked) == asked)
                usleep(1000);
}

/* The word; empty: nobody asks. No file is opened for it: one that is gone could not be restored. */
static void read_question(char word[static 32]) {
        ssize_t n = readlink(path("ask"), word, 31);

        word[n > 0 ? n : 0] = '\0';
}

/* The first process: has all others look, and tells. What comes after a dump may be a restore, and another question. */
static void ask(void) {
        char word[32], now[32], line[128];
        int fd;

        read_question(word);
        if (!word[0])
                return;
        atomic_store(&book->n_right, 0);
        atomic_store(&book->pages, 0);
        atomic_fetch_add(&book->asked, 1);
        check_process();
        while (atomic_load(&book->n_right) + 1 < atomic_load(&book->alive)) {
                reap(false);
                usleep(1000);
        }
        (void)snprintf(line, sizeof(line), "%s %s processes %u pages %lu\n", word,
                       atomic_load(&book->bad) ? "wrong" : "right", atomic_load(&book->alive),
                       atomic_load(&book->pages));
        fd = open(path("answer.new"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, line, strlen(line)) < 0 || close(fd) < 0 ||
            rename(path("answer.new"), path("answer")) < 0)
                die("cannot answer");
        do {
                usleep(1000);
                read_question(now);
        } while (strcmp(word, now) == 0);
        atomic_fetch_add(&book->asked, 1);
}

static void step_of_process(void) {
        switch (draw(64)) {
        case 0:
                make_child();
                break;
        case 1:
                exec_child();
                break;
        case 2:
        case 3:
                reap(false);
                break;
        case 4:
                if (draw(8) == 0)
                        change_threads();
                break;
        case 5:
        case 6:
                descend(&workers[0], (unsigned)draw(STACK_DEPTH));
                break;
        default:
                step(&workers[0]);
        }
}

static _Noreturn void run(uint64_t steps) {
        for (; steps > 0 && atomic_load(&book->bad) < 20; steps--) {
                if (is_root)
                        ask();
                else if (!is_root && atomic_load(&book->asked) % 2)
                        be_asked();
                step_of_process();
                rest();
        }
        while (is_root) /* too much is wrong */
                pause();
        for (unsigned i = 1; i < n_threads; i++)
                if (workers[i].there) {
                        atomic_store(&workers[i].ends, true);
                        (void)pthread_join(workers[i].thread, NULL);
                }
        check_process();
        while (n_children > 0) { /* they may be asked meanwhile, and with them this one */
                if (atomic_load(&book->asked) % 2)
                        be_asked();
                reap(false);
                usleep(1000);
        }
        atomic_fetch_sub(&book->alive, 1);
        _exit(0);
}

static void make_file(size_t pages) {
        static uint64_t page[WORDS];

        file = open(path("file"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0)
                die("open");
        for (size_t i = 0; i < pages; i++) {
                fill(page, i + 2);
                if (write(file, page, PAGE) != (ssize_t)PAGE)
                        die("write");
        }
        file_pages = pages;
}

static void make_all(size_t pages) {
        for (unsigned i = 0; i < n_threads; i++)
                pthread_mutex_init(&workers[i].lock, NULL);
        for (unsigned i = 0; pages_of(&workers[0]) < pages && i < AREAS * 3 / 4; i++) {
                enum kind kind = i < KINDS ? (enum kind)i : (enum kind)draw(KINDS);

                new_area(&workers[0].areas[i], kind, 1 + draw(pages / 12 + 1));
        }
        for (unsigned i = 1; i < n_threads; i++)
                start_thread(&workers[i]);
}

int main(int argc, char **argv) {
        struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
        size_t pages;

        if (argc != 6)
                return 2;
        state = mix(strtoull(argv[1], NULL, 10)) | 1;
        pages = strtoull(argv[2], NULL, 10) * 256;
        max_processes = (unsigned)strtoul(argv[3], NULL, 10);
        n_threads = (unsigned)strtoul(argv[4], NULL, 10);
        directory = argv[5];
        said = strdup(path("said"));
        if (n_threads < 1 || n_threads > THREADS_MAX || !said)
                return 2;
        (void)sigaction(SIGSEGV, &action, NULL);
        (void)sigaction(SIGBUS, &action, NULL);
        book = map(1, MAP_SHARED | MAP_ANONYMOUS);
        bad = &book->bad;
        atomic_store(&book->alive, 1);
        max_pages = pages + 2 * NEW_PAGES;
        make_file(64);
        make_all(pages);
        while (max_processes > 1 && n_children == 0)
                make_child();
        say("ready\n");
        run(UINT64_MAX);
}
