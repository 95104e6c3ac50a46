/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "engine/engine.h"

bool engine_started_has_stdio(const struct engine_started *started) {
        const struct st_stdio *stdio = &started->stdio;

        return stdio->terminal >= 0 || stdio->in >= 0 || stdio->out >= 0 || stdio->err >= 0;
}

void engine_started_clear(struct engine_started *started) {
        cleanup_closep(&started->stdio.terminal);
        cleanup_closep(&started->stdio.in);
        cleanup_closep(&started->stdio.out);
        cleanup_closep(&started->stdio.err);
        free(started->log);
        cleanup_closep(&started->memory_fd);
        free(started->memory_record);
        *started = ENGINE_STARTED_NULL;
}
