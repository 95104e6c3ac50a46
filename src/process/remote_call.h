/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * System calls made by another process because we want it to: ptrace(2). Nothing of it changes but what the calls do:
 * its registers and signal mask are put back, a system call that it was in is gone on with, and the instruction that is
 * used is one of its vDSO.
 *
 * The tracer is the calling thread; should that end, the kernel lets go of the process, wherever it is.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include <stasis/error.h>

struct remote_call {
        pid_t pid;
        uint64_t instruction; /* where a system call can be made */
        uint64_t mask;        /* of signals, as it was */
        struct user_regs_struct registers;
        bool stopped; /* by a SIGSTOP that came meanwhile, and is given to it at the end */
};

/**
 * Stops the process's first thread. Its others run on.
 *
 * @return 0; -EBUSY: somebody traces it, or it does not stop soon; -EOPNOTSUPP: it must not (a seccomp filter that
 * cannot be suspended), or it has no vDSO; other -errno with err. After a failure it runs as before.
 */
int remote_call_begin(struct remote_call *ret, pid_t pid, struct st_error **err);

/** Makes a call. @param ret what the kernel returned: negative errno values included */
int remote_call(struct remote_call *remote, long number, const uint64_t arguments[static 6], long *ret,
                struct st_error **err);

/** It goes on where it was. */
void remote_call_end(struct remote_call *remote);
