/* SPDX-License-Identifier: Apache-2.0 */
#include "image/grab.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "image/grab_private.h"
#include "image/threads.h"

/* The protocol, page-xfer.c of CRIU: numbers as they lie in memory. */
struct request {
        uint32_t command; /* and in the upper half the flags of ADD_F */
        uint64_t pages;
        uint64_t at;
        uint64_t of; /* kind in the low byte, number above it */
};

enum { OPEN2 = 4, ADD_F = 6, CLOSE = 0x1023, FORCE_CLOSE = 0x1024 };
enum { OF_PROCESS = 1, OF_SHARED = 2 };

#define INPUT_SIZE ((size_t)256 << 10)
/** Each range is a message of its own; CRIU is not to wait for us. */
#define SOCKET_BUFFER (8 << 20)
/** Content that must wait until what lies before it is copied. Of processes little is sent at all. */
#define DATA_MAX ((uint64_t)128 << 20)
#define PAGES_MAX ((uint64_t)1 << 40)
#define RANGES_MAX ((size_t)32 << 20)
#define PROGRESS_STEP ((uint64_t)16 << 20)

void grab_tell(struct grab *grab) {
        grab->told = grab->store->total;
        if (grab->options.progress)
                grab->options.progress(grab->told, grab->options.userdata);
}

static int gone(const struct grab *grab, struct st_error **err) {
        if (atomic_load(&grab->aborted))
                return st_error_set(err, ECANCELED, "the capture was stopped");
        return grab->n_files == 0 ? st_error_set(err, ENOTCONN, "CRIU ended before it sent anything")
                                  : st_error_set(err, EPIPE, "CRIU ended before it had sent everything");
}

static int receive(struct grab *grab, void *to, size_t size, struct st_error **err) {
        for (;;) {
                ssize_t n = recv(grab->socket, to, size, 0);
                if (n > 0)
                        return (int)n;
                if (n < 0 && errno == EINTR)
                        continue;
                if (n == 0 || errno == ECONNRESET || errno == EPIPE)
                        return gone(grab, err);
                return st_error_errno(err, errno, "cannot receive from CRIU");
        }
}

static int take(struct grab *grab, void *to, size_t size, struct st_error **err) {
        uint8_t *at = to;
        while (size > 0) {
                size_t have = grab->input_have - grab->input_at;
                int n;
                if (have == 0 && size >= INPUT_SIZE) {
                        n = receive(grab, at, size, err);
                        if (n < 0)
                                return n;
                } else if (have == 0) {
                        n = receive(grab, grab->input, INPUT_SIZE, err);
                        if (n < 0)
                                return n;
                        grab->input_at = 0;
                        grab->input_have = (size_t)n;
                        continue;
                } else {
                        n = (int)(have < size ? have : size);
                        memcpy(at, grab->input + grab->input_at, (size_t)n);
                        grab->input_at += (size_t)n;
                }
                at += n;
                size -= (size_t)n;
        }
        return 0;
}

static int answer(struct grab *grab, const void *data, size_t size, struct st_error **err) {
        if (send(grab->socket, data, size, MSG_NOSIGNAL) == (ssize_t)size)
                return 0;
        return errno == EPIPE || errno == ECONNRESET ? gone(grab, err)
                                                     : st_error_errno(err, errno, "cannot answer CRIU");
}

static int unexpected(struct st_error **err) {
        return st_error_set(err, EPROTO, "CRIU sends pages in a way that is not known");
}

static int open_file(struct grab *grab, const struct request *request, struct st_error **err) {
        unsigned kind = request->of & 0xff;
        if (kind != OF_PROCESS && kind != OF_SHARED)
                return unexpected(err);
        unsigned id = (unsigned)grab->n_files + 1;
        _cleanup_free_ char *name = xasprintf("pages-%u.img", id);
        struct store_file *pages = store_add(grab->store, name, err);
        if (!pages)
                return -EPROTO;
        struct grab_file *file = NEW(struct grab_file);
        *file = (struct grab_file){
                .number = request->of >> 8,
                .shared = kind == OF_SHARED,
                .pages = pages,
                .pages_id = id,
        };
        GROW(grab->files, grab->n_files, grab->room_files);
        grab->files[grab->n_files++] = file;

        const uint8_t has_parent = !file->shared;
        int r = answer(grab, &has_parent, sizeof(has_parent), err);
        if (r >= 0 && !file->shared && grab->options.base)
                grab_look_early(grab, file);
        return r;
}

/** Content that comes now and belongs at the end of its file: of shared memory. */
static int store_data(struct grab *grab, struct store_file *pages, uint64_t size, struct st_error **err) {
        const struct store_relief *relief = &grab->store->relief;
        _cleanup_free_ uint8_t *bounce = NULL;
        while (size > 0) {
                size_t room;
                uint8_t *to = store_reserve(grab->store, pages, (size_t)size, &room);
                int r = to || !relief->relieve || bounce ? 0 : relief->relieve(relief->userdata, err);
                if (r < 0)
                        return r;
                if (!to && r > 0)
                        continue;
                if (!to && !bounce)
                        bounce = xmalloc(INPUT_SIZE);
                room = to ? room : INPUT_SIZE;
                size_t n = room < size ? room : (size_t)size;
                r = take(grab, to ?: bounce, n, err);
                if (r < 0)
                        return r;
                if (to)
                        store_commit(grab->store, pages, n);
                else if ((r = store_spill(grab->store, pages, bounce, n, err)) < 0)
                        return r;
                size -= n;
                if (grab->store->total - grab->told >= PROGRESS_STEP)
                        grab_tell(grab);
        }
        return 0;
}

/** Content of a process: it must wait for its place. */
static int keep_data(struct grab *grab, struct grab_range *range, struct st_error **err) {
        uint64_t size = range->pages * GRAB_PAGE;
        if (size > DATA_MAX - grab->data)
                return st_error_set(err, EFBIG, "the process has too much memory that only CRIU can read");
        range->data = malloc((size_t)size);
        if (!range->data)
                return st_error_errno(err, ENOMEM, "cannot keep pages of the process");
        grab->data += size;
        return take(grab, range->data, (size_t)size, err);
}

static int add_range(struct grab *grab, const struct request *request, struct st_error **err) {
        struct grab_file *file = grab->n_files > 0 ? grab->files[grab->n_files - 1] : NULL;
        uint32_t flags = request->command >> 16;
        if (!file || request->of >> 8 != file->number ||
            (request->of & 0xff) != (file->shared ? OF_SHARED : OF_PROCESS))
                return unexpected(err);
        const struct grab_range *last = file->n > 0 ? &file->ranges[file->n - 1] : NULL;
        bool copied = flags & CRIU_PAGEMAP_PARENT, sent = flags & CRIU_PAGEMAP_PRESENT;
        if (request->pages == 0 || request->pages > PAGES_MAX || request->at % GRAB_PAGE != 0 ||
            request->at > UINT64_MAX - request->pages * GRAB_PAGE ||
            (last && request->at < last->at + last->pages * GRAB_PAGE) || copied == sent || (copied && file->shared) ||
            file->n >= RANGES_MAX)
                return unexpected(err);
        struct grab_range range = { .at = request->at, .pages = request->pages, .flags = flags };
        int r = 0;
        if (sent && file->shared)
                r = store_data(grab, file->pages, range.pages * GRAB_PAGE, err);
        else if (sent)
                r = keep_data(grab, &range, err);
        GROW(file->ranges, file->n, file->room);
        assert(file->ranges);
        file->ranges[file->n++] = range;
        return r;
}

/** The whole conversation. CRIU gets its last answer only when everything has been copied. */
static int run(struct grab *grab, struct st_error **err) {
        for (;;) {
                struct request request;
                int32_t status = 0;
                uint64_t begin;
                int r = take(grab, &request, sizeof(request), err);
                if (r < 0)
                        return r;
                switch (request.command & 0xffff) {
                case OPEN2:
                        r = open_file(grab, &request, err);
                        break;
                case ADD_F:
                        r = add_range(grab, &request, err);
                        break;
                case CLOSE:
                case FORCE_CLOSE:
                        begin = clock_ns();
                        r = grab_copy(grab, err);
                        grab->copy_ns = clock_ns() - begin;
                        return r < 0 ? r : answer(grab, &status, sizeof(status), err);
                default:
                        return unexpected(err);
                }
                if (r < 0)
                        return r;
        }
}

static void *grab_thread(void *userdata) {
        struct grab *grab = userdata;
        struct st_error *error = NULL;
        int r = run(grab, &error);
        if (r < 0)
                (void)shutdown(grab->socket, SHUT_RDWR); /* CRIU fails, and resumes the target */

        pthread_mutex_lock(&grab->lock);
        grab->error = error;
        grab->ended = true;
        pthread_cond_broadcast(&grab->changed);
        pthread_mutex_unlock(&grab->lock);
        return NULL;
}

static struct grab *grab_free(struct grab *grab) {
        for (size_t i = 0; i < grab->n_files; i++) {
                struct grab_file *file = grab->files[i];
                for (size_t j = 0; j < file->n; j++)
                        free(file->ranges[j].data);
                free(file->ranges);
                free(file->unwritten.pieces);
                free(file);
        }
        free(grab->files);
        free(grab->numbers);
        free(grab->input);
        if (grab->socket >= 0)
                close(grab->socket);
        st_error_free(grab->error);
        pthread_cond_destroy(&grab->changed);
        pthread_mutex_destroy(&grab->lock);
        free(grab);
        return NULL;
}

int grab_start(const struct grab_options *options, struct store *store, struct grab **ret, int *ret_socket,
               struct st_error **err) {
        int sockets[2], size = SOCKET_BUFFER;
        int r = io_socketpair(sockets);
        if (r < 0)
                return st_error_errno(err, r, "cannot make a socket for CRIU");
        /* As much as is permitted. */
        if (setsockopt(sockets[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
                (void)setsockopt(sockets[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

        struct grab *grab = NEW(struct grab);
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&grab->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        pthread_mutex_init(&grab->lock, NULL);
        grab->store = store;
        grab->options = *options;
        grab->socket = sockets[0];
        grab->input = xmalloc(INPUT_SIZE);
        if (options->base)
                grab_number_watches(grab);
        else
                grab_watch_begin(grab);
        r = threads_start(&grab->thread, grab_thread, grab);
        if (r < 0) {
                close(sockets[1]);
                grab_free(grab);
                return st_error_errno(err, r, "cannot start the capture");
        }
        *ret = grab;
        *ret_socket = sockets[1];
        return 0;
}

int grab_wait(struct grab *grab, int timeout_ms, struct st_error **err) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ms / 1000;
        int r = 0;
        pthread_mutex_lock(&grab->lock);
        while (!grab->ended && r == 0)
                r = pthread_cond_timedwait(&grab->changed, &grab->lock, &until);
        if (!grab->ended)
                r = st_error_set(err, ETIMEDOUT, "the memory was not copied within %d ms", timeout_ms);
        else if (grab->error)
                r = st_error_set(err, st_error_number(grab->error), "%s", st_error_message(grab->error));
        else
                r = 0;
        pthread_mutex_unlock(&grab->lock);
        return r;
}

void grab_abort(struct grab *grab) {
        atomic_store(&grab->aborted, true);
        (void)shutdown(grab->socket, SHUT_RDWR);
}

struct grab_statistics grab_statistics(const struct grab *grab) {
        struct grab_statistics statistics = { .copy_ns = grab->copy_ns, .unwatched = grab->unwatched };
        for (size_t i = 0; i < grab->n_files; i++)
                statistics.kept += store_referred(grab->files[i]->pages) / GRAB_PAGE;
        for (size_t i = 0; i < grab->n_files; i++)
                for (size_t j = 0; j < grab->files[i]->n; j++)
                        if (grab->files[i]->ranges[j].flags & CRIU_PAGEMAP_PARENT)
                                statistics.pages += grab->files[i]->ranges[j].pages;
        statistics.pages -= statistics.kept;
        return statistics;
}

int grab_finish(struct grab *grab, struct st_error **err) {
        pthread_join(grab->thread, NULL);
        int r = grab->error ? st_error_move(err, TAKE_PTR(grab->error)) : 0;
        grab_free(grab);
        return r;
}
