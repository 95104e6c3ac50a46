/* SPDX-License-Identifier: Apache-2.0 */
#include "db/job_state.h"

#include <stddef.h>

#include "base/cleanup.h"

#define TO(state) (1u << STASIS__V1__JOB_STATE__##state)

static const struct {
        const char *name;
        bool alive;
        unsigned next; /* bits: 1 << state */
} states[] = {
        /* Its supervisor may tell of its end before its worker tells of its beginning. */
        [STASIS__V1__JOB_STATE__STARTING] = { "starting", true, TO(RUNNING) | TO(EXITED) | TO(LOST) },
        [STASIS__V1__JOB_STATE__RUNNING] = { "running", true, TO(CHECKPOINTED) | TO(EXITED) | TO(LOST) },
        [STASIS__V1__JOB_STATE__CHECKPOINTED] = { "checkpointed", false, TO(RESTORING) },
        /* A restore that failed leads back to where it began. */
        [STASIS__V1__JOB_STATE__RESTORING] = { "restoring", true,
                                               TO(RUNNING) | TO(CHECKPOINTED) | TO(EXITED) | TO(LOST) },
        /* The end of a process may be seen before the dump that ended it is known to have succeeded. */
        [STASIS__V1__JOB_STATE__EXITED] = { "exited", false, TO(RESTORING) | TO(CHECKPOINTED) },
        /* What was given up may turn up: a record that a worker wrote late. */
        [STASIS__V1__JOB_STATE__LOST] = { "lost", false, TO(RESTORING) | TO(CHECKPOINTED) | TO(RUNNING) | TO(EXITED) },
};

static bool is_state(Stasis__V1__JobState state) {
        return (size_t)state < ELEMENTSOF(states);
}

bool job_state_may_become(Stasis__V1__JobState from, Stasis__V1__JobState to) {
        return is_state(from) && is_state(to) && (states[from].next & 1u << to);
}

bool job_state_is_alive(Stasis__V1__JobState state) {
        return is_state(state) && states[state].alive;
}

const char *job_state_name(Stasis__V1__JobState state) {
        return is_state(state) ? states[state].name : "unknown";
}
