/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copying the memory of frozen processes into a store: room for all of it is taken first, in the order of the files,
 * then threads fill it. When the store's budget is spent, what has room is filled, handed to the encoders, and so on.
 */

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/grab_base.h"
#include "image/grab_private.h"
#include "image/threads.h"
#include "process/proc.h"
#include "process/tree.h"

#define THREADS_MAX 16
/** Of one call: as many as the kernel takes at once (UIO_MAXIOV), and so much that threads end together. */
#define BATCH_PIECES ((size_t)512)
#define BATCH_BYTES ((size_t)4 << 20)
#define BOUNCE ((size_t)256 << 10)

/** Memory that is to be copied to a place in the store. */
struct piece {
        pid_t pid;
        uint64_t from;
        uint8_t *to;
        size_t size;
};

struct copier {
        struct grab *grab;
        struct piece *pieces;
        size_t n, room;
        size_t threads;
        pthread_mutex_t lock;
        size_t next; /* piece that no thread has taken yet; under the lock */
        uint8_t *bounce;
};

static int copy_failed(pid_t pid, uint64_t at, int number, struct st_error **err) {
        return st_error_errno(err, number, "cannot copy the memory of process %d at %#llx", (int)pid,
                              (unsigned long long)at);
}

/** Reads all of a batch: consecutive pieces of one process, at least one. */
static int copy_batch(const struct piece *pieces, size_t n, struct st_error **err) {
        struct iovec local[BATCH_PIECES], remote[BATCH_PIECES];
        size_t size = 0, i = 0;
        do {
                local[i] = (struct iovec){ pieces[i].to, pieces[i].size };
                remote[i] = (struct iovec){ (void *)(uintptr_t)pieces[i].from, pieces[i].size };
                size += pieces[i].size;
        } while (++i < n);
        ssize_t got = process_vm_readv(pieces[0].pid, local, n, remote, n, 0);
        if (got == (ssize_t)size)
                return 0;
        uint64_t left = got > 0 ? (uint64_t)got : 0;
        i = 0;
        while (i + 1 < n && left >= pieces[i].size)
                left -= pieces[i++].size;
        return copy_failed(pieces[i].pid, pieces[i].from + left, got < 0 ? errno : EFAULT, err);
}

/** @return how many pieces, 0: there are none any more; *ret the first */
static size_t next_batch(struct copier *copier, const struct piece **ret) {
        pthread_mutex_lock(&copier->lock);
        const struct piece *first = &copier->pieces[copier->next];
        size_t n = 0, left = copier->n - copier->next, size = 0;
        while (n < left && n < BATCH_PIECES && size < BATCH_BYTES && first[n].pid == first->pid)
                size += first[n++].size;
        copier->next += n;
        pthread_mutex_unlock(&copier->lock);
        *ret = first;
        return n;
}

static int copy_some(size_t index, void *userdata, struct st_error **err) {
        struct copier *copier = userdata;
        const struct piece *pieces;
        size_t n;
        (void)index;
        while ((n = next_batch(copier, &pieces)) > 0) {
                int r = atomic_load(&copier->grab->aborted) ? st_error_set(err, ECANCELED, "the capture was stopped")
                                                            : copy_batch(pieces, n, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/** Copies all that has room. */
static int copy_pieces(struct copier *copier, struct st_error **err) {
        int r = copier->n == 0 ? 0 : threads_run_all(copier->threads, copy_some, copier, err);
        copier->n = copier->next = 0;
        if (r == 0)
                grab_tell(copier->grab);
        return r;
}

/** Room is gone: what is there is copied and handed on. @return 1: there is room again; 0: no; -errno */
static int make_room(struct copier *copier, struct st_error **err) {
        const struct store_relief *relief = &copier->grab->store->relief;
        int r = copy_pieces(copier, err);
        return r < 0 || !relief->relieve ? r : relief->relieve(relief->userdata, err);
}

static int spill(struct copier *copier, struct store_file *pages, struct piece piece, struct st_error **err) {
        if (!copier->bounce)
                copier->bounce = xmalloc(BOUNCE);
        piece.to = copier->bounce;
        int r = copy_batch(&piece, 1, err);
        return r < 0 ? r : store_spill(copier->grab->store, pages, piece.to, piece.size, err);
}

/** Memory that is to be copied. */
static int place_memory(struct copier *copier, const struct grab_file *file, uint64_t at, uint64_t left,
                        struct st_error **err) {
        struct store *store = copier->grab->store;
        while (left > 0) {
                size_t room;
                uint8_t *to = store_reserve(store, file->pages, (size_t)left, &room);
                int r = to ? 1 : make_room(copier, err);
                if (r < 0)
                        return r;
                if (!to && r > 0)
                        continue;
                if (!to)
                        room = BOUNCE;
                struct piece piece = { file->pid, at, to, room < left ? room : (size_t)left };
                if (to) {
                        GROW(copier->pieces, copier->n, copier->room);
                        copier->pieces[copier->n++] = piece;
                        store_commit(store, file->pages, piece.size);
                } else if ((r = spill(copier, file->pages, piece, err)) < 0)
                        return r;
                at += piece.size;
                left -= piece.size;
        }
        return 0;
}

/** Where one is in a process's memory that was not written; addresses ascend. */
struct keeping {
        struct grab_unwritten unwritten;
        size_t piece;
        struct grab_base_cursor cursor;
};

/** What is to become of the pages at an address, up to `pages`: at least of one. */
static struct grab_base_pages keep(struct keeping *keeping, uint64_t at, uint64_t pages) {
        const struct grab_unwritten *unwritten = &keeping->unwritten;
        while (keeping->piece < unwritten->n && unwritten->pieces[keeping->piece].end <= at)
                keeping->piece++;
        if (keeping->piece == unwritten->n)
                return (struct grab_base_pages){ .pages = pages };
        const struct grab_piece *piece = &unwritten->pieces[keeping->piece];
        bool inside = piece->start <= at;
        uint64_t until = ((inside ? piece->end : piece->start) - at) / GRAB_PAGE;
        if (pages > until)
                pages = until;
        return inside ? grab_base_next(&keeping->cursor, at, pages) : (struct grab_base_pages){ .pages = pages };
}

static int place_range(struct copier *copier, const struct grab_file *file, const struct grab_range *range,
                       struct keeping *keeping, struct st_error **err) {
        int r = 0;
        for (uint64_t at = range->at, left = range->pages; left > 0 && r >= 0;) {
                struct grab_base_pages pages = keep(keeping, at, left);
                if (pages.file)
                        store_refer(file->pages, pages.file, pages.first, pages.pages);
                else
                        r = place_memory(copier, file, at, pages.pages * GRAB_PAGE, err);
                at += pages.pages * GRAB_PAGE;
                left -= pages.pages;
        }
        return r;
}

/** What CRIU has sent: little. The store may hand on its chunks for it, so what they are to hold comes first. */
static int place_data(struct copier *copier, const struct grab_file *file, struct grab_range *range,
                      struct st_error **err) {
        int r = copy_pieces(copier, err);
        if (r >= 0)
                r = store_append(copier->grab->store, file->pages, range->data, (size_t)(range->pages * GRAB_PAGE),
                                 err);
        free(TAKE_PTR(range->data));
        return r;
}

static int place_file(struct copier *copier, struct grab_file *file, struct st_error **err) {
        struct grab *grab = copier->grab;
        struct keeping keeping = { 0 };
        int r = 0;
        if (file->shared)
                return 0;
        if (grab->options.base) {
                if (file->looked_at == 0)
                        grab_watch_look(grab, file->pid, &file->unwritten);
                else if (file->looked_at != file->pid)
                        return st_error_set(err, EPROTO, "process %d is not the one that was looked at",
                                            (int)file->pid);
                keeping.unwritten = file->unwritten;
                keeping.cursor = grab_base_find(grab->options.base, file->number);
        }
        for (size_t i = 0; i < file->n && r >= 0; i++)
                r = file->ranges[i].data ? place_data(copier, file, &file->ranges[i], err)
                                         : place_range(copier, file, &file->ranges[i], &keeping, err);
        return r;
}

/** The PID that a process has itself. 0: unknown */
static uint64_t own_pid(pid_t pid) {
        _cleanup_free_ char *text = proc_read_value(pid, "status", "NSpid"); /* from ours to the innermost: proc(5) */
        uint64_t last = 0;
        for (char *at = text, *end; at; at = end) {
                uint64_t value = strtoull(at, &end, 10);
                if (end == at)
                        break;
                last = value;
        }
        return last;
}

void grab_number_watches(struct grab *grab) {
        grab->numbers = xcalloc(grab->options.n_watches + 1, sizeof(*grab->numbers));
        for (size_t i = 0; i < grab->options.n_watches; i++)
                grab->numbers[i] = own_pid(grab->options.watches[i].pid);
}

void grab_look_early(struct grab *grab, struct grab_file *file) {
        for (size_t i = 0; i < grab->options.n_watches; i++) {
                if (grab->numbers[i] != file->number)
                        continue;
                if (file->looked_at != 0) {
                        file->looked_at = 0; /* two of them in different PID namespaces */
                        return;
                }
                file->looked_at = grab->options.watches[i].pid;
        }
        if (file->looked_at != 0)
                grab_watch_look(grab, file->looked_at, &file->unwritten);
}

static int compare_numbers(const void *a, const void *b) {
        const struct grab_file *x = *(struct grab_file *const *)a, *y = *(struct grab_file *const *)b;

        return x->number < y->number ? -1 : x->number > y->number;
}

/** Those of processes, by number. @return malloc'ed */
static struct grab_file **sort_files(const struct grab *grab, size_t *ret_n) {
        struct grab_file **sorted = xcalloc(grab->n_files + 1, sizeof(struct grab_file *));
        size_t n = 0;
        for (size_t i = 0; i < grab->n_files; i++)
                if (!grab->files[i]->shared)
                        sorted[n++] = grab->files[i];
        qsort(sorted, n, sizeof(*sorted), compare_numbers);
        *ret_n = n;
        return sorted;
}

/** Whose memory it is, of which CRIU only tells the PID that the process has itself. The tree stands still. */
static int find_processes(struct grab *grab, struct st_error **err) {
        _cleanup_tree_ struct tree tree = { 0 };
        size_t n;
        _cleanup_free_ struct grab_file **sorted = sort_files(grab, &n);
        int r = tree_read(grab->options.root, true, &tree, err);
        for (size_t i = 0; i < tree.n && r >= 0; i++) {
                struct grab_file key = { .number = own_pid(tree.tasks[i].pid) }, *pointer = &key;
                struct grab_file **found = bsearch(&pointer, sorted, n, sizeof(*sorted), compare_numbers);
                if (!found)
                        continue;
                if ((*found)->pid != 0)
                        return st_error_set(err, ENOTUNIQ, "the processes %d and %d both have the PID %llu",
                                            (int)(*found)->pid, (int)tree.tasks[i].pid, (unsigned long long)key.number);
                (*found)->pid = tree.tasks[i].pid;
        }
        for (size_t i = 0; i < n && r >= 0; i++)
                if (sorted[i]->pid == 0)
                        r = st_error_set(err, ESRCH, "no process of the tree has the PID %llu",
                                         (unsigned long long)sorted[i]->number);
        return r;
}

static size_t count_threads(unsigned wanted) {
        cpu_set_t set;
        size_t n = wanted > 0 ? wanted : sched_getaffinity(0, sizeof(set), &set) == 0 ? (size_t)CPU_COUNT(&set) : 1;
        return n < THREADS_MAX ? n : THREADS_MAX;
}

static int copy_files(struct grab *grab, struct st_error **err) {
        struct copier copier = {
                .grab = grab,
                .threads = count_threads(grab->options.threads),
                .lock = PTHREAD_MUTEX_INITIALIZER,
        };
        int r = 0;
        for (size_t i = 0; i < grab->n_files && r >= 0; i++)
                r = place_file(&copier, grab->files[i], err);
        if (r >= 0)
                r = copy_pieces(&copier, err);
        pthread_mutex_destroy(&copier.lock);
        free(copier.pieces);
        free(copier.bounce);
        return r;
}

int grab_copy(struct grab *grab, struct st_error **err) {
        int r = find_processes(grab, err);
        return r < 0 ? r : copy_files(grab, err);
}
