/* SPDX-License-Identifier: Apache-2.0 */
#include "process/remote_call.h"

#include <elf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "process/proc.h"

/** Who is not in an uninterruptible sleep, nor frozen, stops within microseconds. */
#define STOP_MS 200
#define STEP_MS 1
#define SPINS 200

#define VDSO_MAX ((size_t)16 << 10)

/* linux/ptrace.h, which collides with sys/ptrace.h. */
#define OPTION_SUSPEND_SECCOMP (1 << 21)
#define GET_RSEQ 0x420f

/** struct ptrace_rseq_configuration */
struct rseq_configuration {
        uint64_t at;
        uint32_t size, signature, flags, pad;
};

/** struct rseq_cs of linux/rseq.h */
struct rseq_section {
        uint32_t version, flags;
        uint64_t start, length, abort;
};

static int read_memory(pid_t pid, uint64_t at, void *to, size_t size) {
        struct iovec local = { to, size }, remote = { (void *)(uintptr_t)at, size };
        ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

        return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EFAULT;
}

/** Waits for the next stop. @return its wait status; -ESRCH: the process is gone; -EBUSY: there was none in time */
static int wait_stop(pid_t pid, uint64_t limit_ms) {
        uint64_t begin = clock_ms();

        for (unsigned i = 0;; i++) {
                int status;
                pid_t r = waitpid(pid, &status, __WALL | WNOHANG);

                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r == pid)
                        return WIFSTOPPED(status) ? status : -ESRCH;
                if (clock_ms() - begin > limit_ms)
                        return -EBUSY;
                if (i > SPINS)
                        (void)poll(NULL, 0, STEP_MS);
        }
}

/** Waits until it stands because of PTRACE_INTERRUPT. Signals are delivered. @return 0 or -errno */
static int wait_interrupted(pid_t pid) {
        for (;;) {
                int status = wait_stop(pid, STOP_MS);

                if (status < 0)
                        return status;
                if (status >> 8 == (SIGTRAP | PTRACE_EVENT_STOP << 8))
                        return 0;
                if (status >> 16 == PTRACE_EVENT_STOP) /* of a process that SIGSTOP has stopped: it must stay so */
                        return -EBUSY;
                if (ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)WSTOPSIG(status)) < 0)
                        return -errno;
        }
}

#if defined(__x86_64__)

#define USER_CODE_64 0x33 /* cs of a program of 64 bits: arch/x86/include/asm/segment.h */

static int find_instruction(pid_t pid, uint64_t *ret) {
        static const uint8_t syscall_instruction[] = { 0x0f, 0x05 };
        _cleanup_free_ char *auxv = NULL;
        uint8_t code[VDSO_MAX];
        uint64_t vdso = 0;
        size_t size, n = 0;

        if (proc_read_file(pid, "auxv", &auxv, &size) < 0)
                return -ESRCH;
        for (const Elf64_auxv_t *at = (const Elf64_auxv_t *)auxv; (size_t)((const char *)(at + 1) - auxv) <= size; at++)
                if (at->a_type == AT_SYSINFO_EHDR)
                        vdso = at->a_un.a_val;
        while (vdso != 0 && n < VDSO_MAX && read_memory(pid, vdso + n, code + n, 4096) == 0)
                n += 4096;
        const uint8_t *found = memmem(code, n, syscall_instruction, sizeof(syscall_instruction));
        if (!found)
                return -EOPNOTSUPP;
        *ret = vdso + (uint64_t)(found - code);
        return 0;
}

/**
 * Is it where it must not be led away from? The kernel would take a restartable sequence for left, and not restart it
 * (kernel/rseq.c).
 */
static bool is_in_sequence(pid_t pid, uint64_t instruction) {
        struct rseq_configuration configuration;
        struct rseq_section section;
        uint64_t at;

        if (ptrace((enum __ptrace_request)GET_RSEQ, pid, (void *)sizeof(configuration), &configuration) <= 0 ||
            configuration.at == 0)
                return false;
        if (read_memory(pid, configuration.at + 8, &at, sizeof(at)) < 0 || at == 0)
                return false;
        return read_memory(pid, at, &section, sizeof(section)) < 0 || instruction - section.start < section.length;
}

static int prepare(struct remote_call *remote, struct st_error **err) {
        uint64_t all = UINT64_MAX;

        if (ptrace(PTRACE_GETREGS, remote->pid, NULL, &remote->registers) < 0)
                return st_error_errno(err, errno, "cannot read the registers of process %d", (int)remote->pid);
        if (remote->registers.cs != USER_CODE_64)
                return st_error_set(err, EOPNOTSUPP, "process %d is not one of 64 bits", (int)remote->pid);
        if (is_in_sequence(remote->pid, remote->registers.rip))
                return st_error_set(err, EBUSY, "process %d is in a restartable sequence", (int)remote->pid);
        int r = find_instruction(remote->pid, &remote->instruction);
        if (r < 0)
                return st_error_errno(err, r, "process %d has no vDSO that can be used", (int)remote->pid);
        if (ptrace(PTRACE_GETSIGMASK, remote->pid, (void *)sizeof(remote->mask), &remote->mask) < 0 ||
            ptrace(PTRACE_SETSIGMASK, remote->pid, (void *)sizeof(all), &all) < 0)
                return st_error_errno(err, errno, "cannot block the signals of process %d", (int)remote->pid);
        return 0;
}

/** Goes on to the next beginning or end of a system call. However long that takes: its registers are not its own. */
static int step(struct remote_call *remote) {
        if (ptrace(PTRACE_SYSCALL, remote->pid, NULL, NULL) < 0)
                return -errno;
        int status = wait_stop(remote->pid, UINT64_MAX);
        if (status < 0)
                return status;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80))
                return 0;
        if (status >> 16 == 0) /* SIGSTOP, which cannot be blocked */
                remote->stopped = true;
        return -EINTR;
}

int remote_call(struct remote_call *remote, long number, const uint64_t arguments[static 6], long *ret,
                struct st_error **err) {
        struct user_regs_struct registers = remote->registers;

        registers.rip = remote->instruction;
        registers.rax = (uint64_t)number;
        registers.orig_rax = UINT64_MAX; /* not in a system call: there is none to go on with */
        registers.rdi = arguments[0];
        registers.rsi = arguments[1];
        registers.rdx = arguments[2];
        registers.r10 = arguments[3];
        registers.r8 = arguments[4];
        registers.r9 = arguments[5];
        int r = ptrace(PTRACE_SETREGS, remote->pid, NULL, &registers) < 0 ? -errno : 0;
        for (int i = 0; i < 2 && r == 0; i++)
                r = step(remote);
        if (r == 0 && ptrace(PTRACE_GETREGS, remote->pid, NULL, &registers) < 0)
                r = -errno;
        if (r < 0)
                return st_error_errno(err, r, "process %d did not make a system call", (int)remote->pid);
        *ret = (long)registers.rax;
        return 0;
}

void remote_call_end(struct remote_call *remote) {
        /* Stopped where the kernel restarts system calls, or not at all if it is dead or was stopped meanwhile. */
        (void)ptrace(PTRACE_INTERRUPT, remote->pid, NULL, NULL);
        if (ptrace(PTRACE_CONT, remote->pid, NULL, NULL) == 0)
                (void)wait_stop(remote->pid, UINT64_MAX);
        (void)ptrace(PTRACE_SETREGS, remote->pid, NULL, &remote->registers);
        (void)ptrace(PTRACE_SETSIGMASK, remote->pid, (void *)sizeof(remote->mask), &remote->mask);
        (void)ptrace(PTRACE_DETACH, remote->pid, NULL, NULL);
        if (remote->stopped)
                (void)kill(remote->pid, SIGSTOP);
}

#else

static int prepare(struct remote_call *remote, struct st_error **err) {
        return st_error_set(err, EOPNOTSUPP, "process %d: not on this kind of machine", (int)remote->pid);
}

int remote_call(struct remote_call *remote, long number, const uint64_t arguments[static 6], long *ret,
                struct st_error **err) {
        (void)number;
        (void)arguments;
        (void)ret;
        return prepare(remote, err);
}

void remote_call_end(struct remote_call *remote) {
        (void)ptrace(PTRACE_DETACH, remote->pid, NULL, NULL);
}

#endif

int remote_call_begin(struct remote_call *ret, pid_t pid, struct st_error **err) {
        _cleanup_free_ char *seccomp = proc_read_value(pid, "status", "Seccomp");
        long options = PTRACE_O_TRACESYSGOOD | (seccomp && !streq(seccomp, "0") ? OPTION_SUSPEND_SECCOMP : 0);

        *ret = (struct remote_call){ .pid = pid };
        if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0)
                return st_error_errno(err, errno == EPERM ? EBUSY : errno, "process %d cannot be traced", (int)pid);
        int r = ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 ? -errno : wait_interrupted(pid);
        if (r < 0)
                st_error_errno(err, r, "process %d does not stop", (int)pid);
        else
                r = prepare(ret, err);
        if (r < 0)
                (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
        return r;
}
