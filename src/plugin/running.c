/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdatomic.h>

#include "plugin/registry.h"

/* Of each thread: a crash is delivered to the thread that caused it, and threads of ours are no plugin's fault. */
static _Thread_local struct {
        const char *volatile plugin;
        const char *volatile adapter;
} running;

/* A signal between the two writes must not see the adapter of one plugin with the name of another one. */
void registry_set_running(const char *plugin, const char *adapter) {
        running.adapter = NULL;
        atomic_signal_fence(memory_order_seq_cst);
        running.plugin = plugin;
        atomic_signal_fence(memory_order_seq_cst);
        running.adapter = adapter;
}

void registry_running(const char **ret_plugin, const char **ret_adapter) {
        *ret_plugin = running.plugin;
        *ret_adapter = running.adapter;
}

static size_t append(char *buffer, size_t at, size_t n, const char *text) {
        while (*text && at + 1 < n)
                buffer[at++] = *text++;
        return at;
}

void registry_crash_message(char *buffer, size_t n) {
        const char *plugin = running.plugin, *adapter = running.adapter;
        size_t at = 0;

        if (plugin) {
                at = append(buffer, at, n, "plugin ");
                at = append(buffer, at, n, plugin);
        }
        if (adapter) {
                at = append(buffer, at, n, plugin ? ", adapter " : "adapter ");
                at = append(buffer, at, n, adapter);
        }
        buffer[at] = 0;
}
