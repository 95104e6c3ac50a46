/* SPDX-License-Identifier: Apache-2.0 */
#include "lazy/tasks.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"

static void add(struct lazy_task *task, uint64_t from, uint64_t to, uint64_t shift) {
        struct lazy_range *last = task->n > 0 ? &task->ranges[task->n - 1] : NULL;

        if (from >= to)
                return;
        if (last && last->to == from && last->shift == shift) {
                last->to = to;
                return;
        }
        GROW(task->ranges, task->n, task->room);
        task->ranges[task->n++] = (struct lazy_range){ .from = from, .to = to, .shift = shift };
}

static struct lazy_task *make(const struct lazy_plan *plan, ssize_t number, int uffd) {
        struct lazy_task *task = NEW(struct lazy_task);
        pthread_rwlockattr_t attributes;

        task->uffd = uffd;
        task->number = number;
        task->done = xcalloc(plan->n_frames / 8 + 1, 1);
        (void)pthread_rwlockattr_init(&attributes);
        (void)pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
        (void)pthread_rwlock_init(&task->lock, &attributes);
        (void)pthread_rwlockattr_destroy(&attributes);
        return task;
}

struct lazy_task *lazy_task_new(const struct lazy_plan *plan, ssize_t number, int uffd) {
        struct lazy_task *task = make(plan, number, uffd);
        const struct lazy_plan_task *planned = number >= 0 ? &plan->tasks[number] : NULL;

        for (size_t i = 0; planned && i < planned->n; i++)
                add(task, planned->pieces[i].at, planned->pieces[i].at + planned->pieces[i].count * LAZY_PAGE, 0);
        return task;
}

struct lazy_task *lazy_task_clone(const struct lazy_plan *plan, const struct lazy_task *parent, int uffd) {
        struct lazy_task *task = make(plan, parent->number, uffd);

        for (size_t i = 0; i < parent->n; i++)
                add(task, parent->ranges[i].from, parent->ranges[i].to, parent->ranges[i].shift);
        for (size_t i = 0; i < plan->n_frames / 8 + 1; i++)
                atomic_store(&task->done[i], atomic_load(&parent->done[i]));
        task->moved = parent->moved;
        return task;
}

struct lazy_task *lazy_task_free(struct lazy_task *task) {
        if (!task)
                return NULL;
        if (task->uffd >= 0)
                close(task->uffd);
        (void)pthread_rwlock_destroy(&task->lock);
        free(task->ranges);
        free(task->done);
        free(task);
        return NULL;
}

/* Takes start to end, as addresses are now, out of its ranges, or moves it by `by`. */
static void change(struct lazy_task *task, uint64_t start, uint64_t end, bool moves, uint64_t by) {
        struct lazy_range *old = task->ranges;
        size_t n = task->n;

        task->ranges = NULL;
        task->n = task->room = 0;
        for (size_t i = 0; i < n; i++) {
                const struct lazy_range range = old[i];
                uint64_t from = range.from + range.shift, to = range.to + range.shift;

                if (to <= start || from >= end) {
                        add(task, range.from, range.to, range.shift);
                        continue;
                }
                uint64_t begin = from > start ? from : start, stop = to < end ? to : end;

                add(task, range.from, begin - range.shift, range.shift);
                if (moves)
                        add(task, begin - range.shift, stop - range.shift, range.shift + by);
                add(task, stop - range.shift, range.to, range.shift);
        }
        free(old);
}

void lazy_task_cut(struct lazy_task *task, uint64_t start, uint64_t end) {
        change(task, start, end, false, 0);
}

void lazy_task_move(struct lazy_task *task, uint64_t start, uint64_t end, uint64_t to) {
        lazy_task_cut(task, to, to + (end - start));
        change(task, start, end, true, to - start);
        task->moved = true;
}

/* The first range that ends behind an address of the dump. */
static size_t find(const struct lazy_task *task, uint64_t from) {
        size_t low = 0, high = task->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (task->ranges[middle].to <= from)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

bool lazy_task_locate(const struct lazy_task *task, uint64_t *from, uint64_t to, uint64_t *ret_now,
                      uint64_t *ret_size) {
        size_t i = find(task, *from);

        if (i == task->n || task->ranges[i].from >= to)
                return false;
        const struct lazy_range *range = &task->ranges[i];

        if (*from < range->from)
                *from = range->from;
        *ret_now = *from + range->shift;
        *ret_size = (to < range->to ? to : range->to) - *from;
        return true;
}

bool lazy_task_origin(const struct lazy_task *task, uint64_t now, uint64_t *ret) {
        size_t i = task->moved ? 0 : find(task, now);

        for (; i < task->n; i++) {
                const struct lazy_range *range = &task->ranges[i];

                if (now - range->shift >= range->from && now - range->shift < range->to) {
                        *ret = now - range->shift;
                        return true;
                }
                if (!task->moved)
                        return false;
        }
        return false;
}
