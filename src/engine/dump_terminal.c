/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The adapter of the dump for terminals whose master is outside the tree. Two kinds: the tree has its own session, as a
 * job has on the terminal that its supervisor holds; then CRIU notes the terminal as external, the restore puts a
 * fresh one in its place, and it is the controlling one again. Or the session is somebody else's, a shell's; then it
 * is a shell job, and its restore a worker that leads a session in the shell's place.
 */

#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/dump_context.h"

/* Documentation/admin-guide/devices.txt: /dev/tty */
#define TTY_DEVICE makedev(5, 0)

static const struct process_fd *find_terminal(const struct process_analysis *analysis, bool controlling) {
        for (size_t i = 0; i < analysis->terminals.n; i++) {
                const struct process_fd *terminal = &analysis->terminals.items[i];

                if (controlling ? terminal->rdev == TTY_DEVICE : terminal->outside)
                        return terminal;
        }
        return NULL;
}

static bool has_key(char *const *keys, size_t n, const char *key) {
        for (size_t i = 0; i < n; i++)
                if (streq(keys[i], key))
                        return true;
        return false;
}

/** criu(8), --external: numbers in hexadecimal digits. */
static void add_terminals(struct dump_context *context) {
        const struct process_fds *terminals = &context->analysis->terminals;
        Criu__CriuOpts *criu = context->dump.criu;

        for (size_t i = 0; i < terminals->n; i++) {
                _cleanup_free_ char *key = xasprintf("tty[%llx:%llx]", (unsigned long long)terminals->items[i].rdev,
                                                     (unsigned long long)terminals->items[i].dev);

                if (!terminals->items[i].outside || has_key(context->terminals.items, context->terminals.n, key))
                        continue;
                strv_add(&context->terminals, key);
                if (!has_key(criu->external, criu->n_external, key))
                        message_append(&criu->n_external, &criu->external, TAKE_PTR(key));
        }
}

static int check_controlling(const struct process_analysis *analysis, struct st_error **err) {
        const struct process_fd *opened = find_terminal(analysis, true);

        if (!opened)
                return 0;
        st_error_set(err, EOPNOTSUPP,
                     "process %d has /dev/tty open (descriptor %d), which CRIU cannot dump while its terminal is of a "
                     "process outside",
                     opened->pid, opened->fd);
        st_error_hint(err, "dump it together with what holds the terminal, or when it has closed /dev/tty");
        return -EOPNOTSUPP;
}

int dump_terminal(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        const struct process_analysis *analysis = context->analysis;
        bool shell_job = dump->criu->has_shell_job && dump->criu->shell_job;

        if (!shell_job && analysis->tasks[0].sid == analysis->tasks[0].pid && find_terminal(analysis, false)) {
                int r = check_controlling(analysis, err);

                if (r < 0)
                        return r;
                add_terminals(context);
        } else if (!shell_job && analysis->shell_job && !dump_forced_off(dump, "shell_job"))
                dump->criu->has_shell_job = dump->criu->shell_job = 1;
        return st_dump_proceed(next, dump, err);
}
