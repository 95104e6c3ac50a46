/* SPDX-License-Identifier: Apache-2.0 */

/* What belongs to processes and threads themselves, and between them: keep.h says how it is used. */

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>

#include "keep.h"

/* Set by the C library, and shown by the kernel only. */
#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

static volatile sig_atomic_t caught[65];
static volatile int queued[8];
static volatile bool on_stack;
static char stack[65536];

static void on_signal(int number, siginfo_t *info, void *context) {
        (void)context;
        if (number == SIGRTMIN + 1 && caught[number] < 8)
                queued[caught[number]] = info->si_value.sival_int;
        caught[number]++;
        char here;
        on_stack = &here >= stack && &here < stack + sizeof(stack);
}

static void catch (int number, int flags) {
        struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags };

        sigaddset(&action.sa_mask, SIGUSR2);
        MUST(sigaction(number, &action, NULL));
}

static void keep_signals(void) {
        stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
        struct sigaction got;
        sigset_t blocked, now;

        MUST(sigaltstack(&alternate, NULL));
        catch (SIGUSR1, SA_RESTART | SA_ONSTACK);
        catch (SIGRTMIN + 1, 0);
        (void)signal(SIGHUP, SIG_IGN);
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigaddset(&blocked, SIGRTMIN + 1);
        MUST(sigprocmask(SIG_BLOCK, &blocked, NULL));
        MUST(raise(SIGUSR1));       /* pending for the thread, … */
        for (int i = 0; i < 5; i++) /* … and for the process, in a queue */
                MUST(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i }));
        meanwhile();
        CHECK(caught[SIGUSR1] == 0 && caught[SIGRTMIN + 1] == 0);
        MUST(sigprocmask(SIG_BLOCK, NULL, &now));
        CHECK(sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2));
        MUST(sigaction(SIGUSR1, NULL, &got));
        CHECK(got.sa_sigaction == on_signal && (got.sa_flags & ~SA_RESTORER) == (SA_SIGINFO | SA_RESTART | SA_ONSTACK));
        CHECK(sigismember(&got.sa_mask, SIGUSR2));
        MUST(sigaction(SIGHUP, NULL, &got));
        CHECK(got.sa_handler == SIG_IGN);
        sigdelset(&blocked, SIGUSR1);
        MUST(sigprocmask(SIG_UNBLOCK, &blocked, NULL));
        CHECK(caught[SIGRTMIN + 1] == 5);
        for (int i = 0; i < 5; i++)
                CHECK(queued[i] == 100 + i);
        sigaddset(&blocked, SIGUSR1);
        MUST(sigprocmask(SIG_UNBLOCK, &blocked, NULL));
        CHECK(caught[SIGUSR1] == 1 && on_stack);
}

static void keep_timers(void) {
        struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 },
                        none = { .sigev_notify = SIGEV_NONE };
        struct itimerspec fast = { { 0, 20000000 }, { 0, 20000000 } }, hour = { { 60, 0 }, { 3600, 0 } }, got;
        struct itimerval real = { { 0, 30000 }, { 0, 30000 } }, virtual = { { 0, 0 }, { 1000, 0 } }, left;
        timer_t ticking, waiting;

        catch (SIGUSR2, SA_RESTART);
        catch (SIGALRM, SA_RESTART);
        MUST(timer_create(CLOCK_MONOTONIC, &event, &ticking));
        MUST(timer_create(CLOCK_REALTIME, &none, &waiting));
        MUST(timer_settime(ticking, 0, &fast, NULL));
        MUST(timer_settime(waiting, 0, &hour, NULL));
        MUST(setitimer(ITIMER_REAL, &real, NULL));
        MUST(setitimer(ITIMER_VIRTUAL, &virtual, NULL));
        meanwhile();
        int before = caught[SIGUSR2], alarms = caught[SIGALRM];
        for (int i = 0; i < 500 && (caught[SIGUSR2] < before + 2 || caught[SIGALRM] < alarms + 2); i++)
                pause_ms(10);
        CHECK(caught[SIGUSR2] >= before + 2 && caught[SIGALRM] >= alarms + 2);
        MUST(timer_gettime(waiting, &got));
        CHECK(got.it_interval.tv_sec == 60 && got.it_value.tv_sec > 3000 && got.it_value.tv_sec < 3600);
        MUST(getitimer(ITIMER_VIRTUAL, &left));
        CHECK(left.it_value.tv_sec > 900 && left.it_interval.tv_sec == 0);
}

static void keep_attributes(void) {
        struct rlimit files = { 200, 300 }, core = { 0, RLIM_INFINITY }, got;
        struct sched_param batch = { 0 };
        char name[16] = "";
        cpu_set_t cpus;
        FILE *f;

        MUST(setrlimit(RLIMIT_NOFILE, &files));
        MUST(getrlimit(RLIMIT_CORE, &core));
        core.rlim_cur = 0;
        MUST(setrlimit(RLIMIT_CORE, &core));
        MUST(prctl(PR_SET_NAME, "kept name"));
        MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        MUST(prctl(PR_SET_DUMPABLE, 0));
        MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
        MUST(sched_setscheduler(0, SCHED_BATCH, &batch));
        MUST(setpriority(PRIO_PROCESS, 0, 7));
        CHECK((f = fopen("/proc/self/oom_score_adj", "w")) && fputs("345", f) > 0 && fclose(f) == 0);
        CPU_ZERO(&cpus);
        CPU_SET(0, &cpus);
        MUST(sched_setaffinity(0, sizeof(cpus), &cpus));
        (void)umask(027);
        meanwhile();
        CHECK(getrlimit(RLIMIT_NOFILE, &got) == 0 && got.rlim_cur == 200 && got.rlim_max == 300);
        CHECK(getrlimit(RLIMIT_CORE, &got) == 0 && got.rlim_cur == 0 && got.rlim_max == core.rlim_max);
        MUST(prctl(PR_GET_NAME, name));
        CHECK(strcmp(name, "kept name") == 0);
        CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_DUMPABLE) == 0);
        int subreaper = 0;
        CHECK(prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == 1);
        CHECK(sched_getscheduler(0) == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) == 7);
        int score = 0;
        CHECK((f = fopen("/proc/self/oom_score_adj", "r")) && fscanf(f, "%d", &score) == 1 && score == 345);
        CHECK(umask(0) == 027);
}

/** Another user's, with groups and without capabilities; its child is yet another's. */
static void keep_user(void) {
        const gid_t groups[] = { 27495, 48244 };
        gid_t got[8];
        uid_t real, effective, saved;

        MUST(chmod(directory, 0777));
        MUST(setgroups(2, groups));
        MUST(setresgid(58467, 58467, 58467));
        pid_t child = MUST(fork());
        if (child == 0) {
                MUST(setresuid(18944, 18944, 18944));
                wait_for_file(place("go"));
                _exit(getuid() == 18944 ? 7 : 1);
        }
        MUST(setresuid(18943, 18943, 18943));
        meanwhile();
        CHECK(getresuid(&real, &effective, &saved) == 0 && real == 18943 && effective == 18943 && saved == 18943);
        CHECK(getgid() == 58467 && getegid() == 58467 && getgroups(8, got) == 2);
        CHECK(got[0] == groups[0] && got[1] == groups[1]);
        CHECK(setuid(0) < 0 && errno == EPERM);
        reap(child, 7);
}

/** Of children: one that has ended, one that is stopped, one without parent, one in a group and session of its own. */
static void keep_children(void) {
        pid_t zombie = MUST(fork());
        if (zombie == 0)
                _exit(42);
        pid_t stopped = MUST(fork());
        if (stopped == 0) {
                raise(SIGSTOP);
                _exit(43);
        }
        MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
        pid_t leader = MUST(fork());
        if (leader == 0) {
                setsid();
                pid_t grandchild = fork();
                if (grandchild == 0) {
                        (void)setpgid(0, 0);
                        wait_for_file(place("go"));
                        _exit(getsid(0) == getppid() && getpgid(0) == getpid() ? 7 : 1);
                }
                int status;
                _exit(waitpid(grandchild, &status, 0) == grandchild && status == 7 << 8 && getsid(0) == getpid() ? 7
                                                                                                                 : 1);
        }
        pid_t middle = MUST(fork());
        if (middle == 0) {
                if (fork() == 0) {
                        wait_for_file(place("go"));
                        _exit(44);
                }
                _exit(0);
        }
        reap(middle, 0); /* its child is ours now */
        siginfo_t info;
        MUST(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT));
        MUST(waitid(P_PID, (id_t)stopped, &info, WSTOPPED | WNOWAIT));
        meanwhile();
        reap(zombie, 42);
        reap(leader, 7);
        MUST(kill(stopped, SIGCONT));
        reap(stopped, 43);
        int status;
        CHECK(wait(&status) > 0 && status == 44 << 8);
}

static pthread_mutex_t mutex, shared = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile int told, woken, thread_id;

static void *wait_on_condition(void *argument) {
        (void)argument;
        (void)prctl(PR_SET_NAME, "waiter");
        thread_id = (int)syscall(SYS_gettid);
        pthread_mutex_lock(&shared);
        while (!told)
                pthread_cond_wait(&condition, &shared);
        char name[16] = "";
        (void)prctl(PR_GET_NAME, name);
        woken = strcmp(name, "waiter") == 0 && thread_id == (int)syscall(SYS_gettid) ? 1 : -1;
        pthread_mutex_unlock(&shared);
        return NULL;
}

static void *die_with_mutex(void *argument) {
        (void)argument;
        pthread_mutex_lock(&mutex);
        wait_for_file(place("go"));
        return NULL; /* held: whoever locks it next is told so */
}

static __thread int local = 1;

static void keep_threads(void) {
        pthread_mutexattr_t robust;
        pthread_t waiter, holder;

        pthread_mutexattr_init(&robust);
        pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&mutex, &robust);
        CHECK(pthread_create(&waiter, NULL, wait_on_condition, NULL) == 0);
        CHECK(pthread_create(&holder, NULL, die_with_mutex, NULL) == 0);
        while (!thread_id || pthread_mutex_trylock(&mutex) == 0) {
                pthread_mutex_unlock(&mutex);
                pause_ms(5);
        }
        local = 5;
        meanwhile();
        CHECK(local == 5);
        pthread_join(holder, NULL);
        CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD);
        pthread_mutex_lock(&shared);
        told = 1;
        pthread_cond_signal(&condition);
        pthread_mutex_unlock(&shared);
        pthread_join(waiter, NULL);
        CHECK(woken == 1);
}

static void keep_parent_death(void) {
        pid_t middle = MUST(fork());

        if (middle == 0) {
                pid_t child = fork();
                if (child == 0) {
                        (void)prctl(PR_SET_PDEATHSIG, SIGUSR1);
                        catch (SIGUSR1, 0);
                        wait_for_file(place("go"));
                        for (int i = 0; i < 500 && !caught[SIGUSR1]; i++)
                                pause_ms(10);
                        _exit(caught[SIGUSR1] ? 7 : 1);
                }
                wait_for_file(place("go"));
                pause_ms(50);
                _exit(0);
        }
        MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
        pause_ms(50);
        meanwhile();
        reap(middle, 0);
        int status;
        CHECK(wait(&status) > 0 && status == 7 << 8);
}

static void keep_seccomp(void) {
        struct sock_filter rules[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { .len = 4, .filter = rules };

        MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
        meanwhile();
        CHECK(syscall(SYS_getpriority, PRIO_PROCESS, 0) < 0 && errno == EXDEV);
        CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER);
}

/** A terminal emulator: the master here, a session with a background job on the slave. */
static void keep_terminal(void) {
        struct winsize size = { .ws_row = 33, .ws_col = 99 }, got_size;
        struct termios settings, got;
        int master;
        pid_t child = MUST(forkpty(&master, NULL, NULL, &size));

        if (child == 0) {
                pid_t job = MUST(fork());
                if (job == 0) {
                        MUST(setpgid(0, 0));
                        wait_for_file(place("go"));
                        _exit(getsid(0) == getppid() && getpgid(0) == getpid() ? 7 : 1);
                }
                expect(0, "hello\n");
                CHECK(tcgetpgrp(0) == getpid() && tcgetsid(0) == getpid());
                reap(job, 7);
                write_all(1, "good\n", 5);
                _exit(7);
        }
        MUST(tcgetattr(master, &settings));
        settings.c_lflag &= ~(tcflag_t)ECHO;
        settings.c_cc[VEOF] = 0x11;
        MUST(tcsetattr(master, TCSANOW, &settings));
        meanwhile();
        MUST(tcgetattr(master, &got));
        CHECK(!(got.c_lflag & ECHO) && got.c_cc[VEOF] == 0x11);
        CHECK(ioctl(master, TIOCGWINSZ, &got_size) == 0 && got_size.ws_row == 33 && got_size.ws_col == 99);
        write_all(master, "hello\n", 6);
        expect(master, "good\r\n");
        reap(child, 7);
}

/** A terminal whose master is closed: reads find its end. */
static void keep_hung_up(void) {
        int master, slave;

        CHECK(openpty(&master, &slave, NULL, NULL, NULL) == 0);
        close(master);
        meanwhile();
        char byte;
        CHECK(read(slave, &byte, 1) == 0 && isatty(slave) == 0);
}

const struct object objects[] = {
        { "signals", keep_signals },
        { "timers", keep_timers },
        { "attributes", keep_attributes },
        { "user", keep_user },
        { "children", keep_children },
        { "threads", keep_threads },
        { "parent-death", keep_parent_death },
        { "seccomp", keep_seccomp },
        { "terminal", keep_terminal },
        { "hung-up", keep_hung_up },
        { NULL, NULL },
};
