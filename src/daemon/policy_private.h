/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the files policy*.c. */

#include "base/text.h"
#include "daemon/policy.h"

enum policy_task { POLICY_NOTHING, POLICY_CHECKPOINT, POLICY_RESTORE };

struct policy {
        struct policies *owner;
        struct policy *next;
        char *jid;
        enum policy_task task; /* next */
        int64_t due;           /* ms since 1970 */
        sd_event_source *timer;
        bool busy; /* an operation of ours on the job is queued or runs */

        sd_event_source *cleaner; /* removes old checkpoints, when its dump is out of the way */

        unsigned failures; /* of its checkpoints, one after the other */
        int64_t failed;    /* when the last one did */

        /* Of its restores. */
        int64_t restored;       /* when it began to run again; 0: it did not by us, or that is dealt with */
        unsigned short_lives;   /* deaths soon after it, one after the other */
        struct strv candidates; /* checkpoints that are still to be tried, newest first */
        size_t candidate;
        unsigned retries; /* of a restore that something passing stood in the way of */
        int64_t retry;    /* when to try again; 0: there is nothing to wait for */
        bool given_up;    /* none of them works: only a human can help */
};

struct policy_stop;

struct policies {
        sd_event *loop;
        struct jobs *jobs;
        struct policy *list;
        struct policy_stop *stop;
};

/** What waits longer each time: twice as long, `most` times. */
static inline int64_t policy_doubled(int64_t unit, unsigned times, unsigned most) {
        return unit << (times < most ? times : most);
}

/** Does it ask for anything? */
bool policy_is_wanted(const Daemon__JobPolicy *policy);

struct policy *policy_find(const struct policies *policies, const char *jid);

/** Decides anew what is to be done for a job. */
void policy_update(struct policies *policies, const char *jid);

/** policy_actions.c */
void policy_begin_checkpoint(struct policy *policy);
void policy_begin_restore(struct policy *policy);

/** policy_actions.c: the request of a dump by policy; a heap message. @param end the job is not to run on */
Daemon__DumpReq *policy_dump_request(const char *jid, bool end);

/** policy_actions.c: who asks. */
struct job_caller policy_caller(void);

void policy_stop_clear(struct policies *policies);
