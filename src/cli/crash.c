/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/crash.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "plugin/registry.h"

#ifdef __SANITIZE_ADDRESS__ /* which reports more than we could */

void crash_handler_install(void) {
}

#else

/* MINSIGSTKSZ is not a constant with recent C libraries. */
#define STACK_SIZE 65536

static char stack[STACK_SIZE];

/** Async-signal-safe. */
static void put(const char *text) {
        (void)!write(STDERR_FILENO, text, strlen(text));
}

static void on_crash(int number) {
        char where[256];

        registry_crash_message(where, sizeof(where));
        put("stasis: error: killed by SIG");
        put(sigabbrev_np(number) ?: "?");
        if (where[0]) {
                put(" in ");
                put(where);
        }
        put(" (hint: the target goes on living; use the daemon, or update or remove the plugin)\n");
        /* SA_RESETHAND: now it ends us as it would have. */
        (void)raise(number);
}

void crash_handler_install(void) {
        static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
        const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
        struct sigaction action = { .sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER };

        (void)sigaltstack(&alternate, NULL);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void)sigaction(signals[i], &action, NULL);
}

#endif
