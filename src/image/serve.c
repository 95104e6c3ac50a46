/* SPDX-License-Identifier: Apache-2.0 */
#include "image/serve.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/serving.h"
#include "image/threads.h"

#define PROGRESS_STEP ((uint64_t)16 << 20)
#define PIECE ((size_t)256 << 10)

/** Sets a flag for all threads, those too that wait for something else. */
static void tell(struct serve *serve, atomic_bool *flag, int fd) {
        atomic_store(flag, true);
        eventfd_write(fd, 1);
        pthread_mutex_lock(&serve->lock);
        pthread_cond_broadcast(&serve->changed);
        pthread_mutex_unlock(&serve->lock);
}

void serve_fail(struct serve *serve, struct st_error *error) {
        pthread_mutex_lock(&serve->lock);
        if (!serve->error)
                serve->error = TAKE_PTR(error);
        pthread_mutex_unlock(&serve->lock);
        st_error_free(error);
        tell(serve, &serve->stopped, serve->stop_fd);
}

void serve_count(struct serve *serve, uint64_t bytes) {
        pthread_mutex_lock(&serve->lock);
        serve->done += bytes;
        if (serve->progress && serve->done - serve->told >= PROGRESS_STEP) {
                serve->told = serve->done;
                serve->progress(serve->done, serve->image->manifest.total, serve->userdata);
        }
        pthread_mutex_unlock(&serve->lock);
}

void serve_starve(struct serve *serve) {
        serve->starving++;
        pthread_cond_broadcast(&serve->changed);
        pthread_cond_wait(&serve->changed, &serve->lock);
        serve->starving--;
}

/** Waits until a descriptor is readable. @return 1; 0: it is all over, stopped or finishing */
static int wait_readable(struct serve *serve, int fd) {
        struct pollfd fds[] = {
                { .fd = fd, .events = POLLIN },
                { .fd = serve->stop_fd, .events = POLLIN },
                { .fd = serve->finish_fd, .events = POLLIN },
        };
        while (poll(fds, ELEMENTSOF(fds), -1) < 0)
                if (errno != EINTR)
                        return 0;
        return fds[1].revents ? 0 : fds[0].revents ? 1 : 0;
}

/** Hashes a file of a directory before CRIU gets any of it. */
static int check_before(struct serve *serve, const struct feed_source *source, struct st_error **err) {
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        _cleanup_free_ uint8_t *buffer = malloc(PIECE);
        if (!buffer)
                return st_error_errno(err, ENOMEM, "cannot serve %s", source->entry->name);
        for (uint64_t at = 0;;) {
                ssize_t n = pread(source->fd, buffer, PIECE, (off_t)at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return st_error_errno(err, errno, "cannot read %s of %s", source->entry->name,
                                              serve->image->path);
                if (n == 0)
                        break;
                hasher_update(hasher, buffer, (size_t)n);
                at += (uint64_t)n;
                if (serve_stopped(serve))
                        return -ECANCELED;
        }
        return hash_equal(hasher_finish(hasher), source->entry->hash)
                       ? 0
                       : image_damaged(serve->image, source->entry->name, "has a wrong checksum", err);
}

int serve_wait_sealed(struct serve *serve) {
        pthread_mutex_lock(&serve->lock);
        while (serve->n_unsealed > 0 && !serve_stopped(serve) && !atomic_load(&serve->finishing))
                serve_starve(serve);
        bool sealed = serve->n_unsealed == 0;
        pthread_mutex_unlock(&serve->lock);
        return sealed ? 0 : -ECANCELED;
}

void serve_seal(struct serve *serve) {
        pthread_mutex_lock(&serve->lock);
        serve->n_unsealed--;
        pthread_cond_broadcast(&serve->changed);
        pthread_mutex_unlock(&serve->lock);
}

/** Looks at all files of a directory but pages, which CRIU always asks for; others it may not. */
static void *sealer_thread(void *userdata) {
        struct serve *serve = userdata;
        const struct manifest *manifest = &serve->image->manifest;
        struct st_error *error = NULL;
        int r = 0;

        for (size_t i = 0; i < manifest->n && r >= 0; i++)
                if (!streamer_is_pages(manifest->entries[i].name))
                        r = none_verify_file(serve->image, &manifest->entries[i], serve->stop_fd, &error);
        if (r == -ECANCELED)
                st_error_free(error);
        else if (r < 0)
                serve_fail(serve, error);
        if (r < 0)
                return NULL;
        serve_seal(serve);
        return NULL;
}

/** Makes a file of a directory ready: a small one is read, others but pages are checked as a whole. */
static int prepare_from_directory(struct serve *serve, struct feed_source *source, struct st_error **err) {
        struct image *image = serve->image;
        const struct manifest_entry *entry = source->entry;
        if (entry->size <= SERVE_SMALL) {
                source->data = xmalloc((size_t)entry->size);
                int r = none_read(image, entry, (char *)source->data, err);
                if (r < 0)
                        return r;
                if (image->verified && !hash_equal(hash_of(source->data, (size_t)entry->size), entry->hash))
                        return image_damaged(image, entry->name, "has a wrong checksum", err);
                return serve_is_last(serve, entry) ? serve_wait_sealed(serve) : 0;
        }
        source->fd = none_open_file(image, entry, err);
        if (source->fd < 0)
                return source->fd;
        source->verify = image->verified;
        return image->verified && !streamer_is_pages(entry->name) ? check_before(serve, source, err) : 0;
}

/** Copies a small file that has come wholly out of the store. */
static int copy_small(struct serve *serve, struct feed_source *source, const struct arrival *arrival,
                      struct st_error **err) {
        _cleanup_(store_reader_clear) struct store_reader reader = { .store = serve->store, .file = arrival->file };
        source->data = xmalloc((size_t)source->entry->size);
        size_t have = 0;
        const uint8_t *piece;
        ssize_t n;
        while ((n = store_read(&reader, &piece)) > 0) {
                memcpy(source->data + have, piece, (size_t)n);
                have += (size_t)n;
        }
        return n < 0 ? st_error_errno(err, (int)n, "cannot read back %s", source->entry->name) : 0;
}

/** Waits until a file of an archive is there and checked. Pages are not waited for: whoever feeds them checks them. */
static int prepare_from_archive(struct serve *serve, struct feed_source *source, struct st_error **err) {
        struct arrival *arrival = serve_arrival(serve, source->entry);
        bool last = serve_is_last(serve, source->entry);
        bool large_pages = streamer_is_pages(source->entry->name) && source->entry->size > SERVE_SMALL;
        if (large_pages && arrival->taken)
                return st_error_set(err, EALREADY, "CRIU asks for %s a second time", source->entry->name);
        if (large_pages) {
                arrival->taken = true;
                source->verify = serve->image->verified;
                return 0;
        }
        pthread_mutex_lock(&serve->lock);
        while ((!arrival->complete || (last && serve->n_unsealed > 0)) && !serve_stopped(serve) &&
               !atomic_load(&serve->finishing))
                serve_starve(serve);
        bool complete = arrival->complete && !(last && serve->n_unsealed > 0);
        pthread_mutex_unlock(&serve->lock);
        if (!complete)
                return -ECANCELED;
        if (source->entry->size > SERVE_SMALL)
                return 0;
        int r = copy_small(serve, source, arrival, err);
        if (r == 0 && serve->image->verified &&
            !hash_equal(hash_of(source->data, (size_t)source->entry->size), source->entry->hash))
                r = image_damaged(serve->image, source->entry->name, "has a wrong checksum", err);
        return r;
}

/** Frees what threads that have ended left, so that a tree of many tasks does not pile them up. */
static void join_ended(struct serve *serve) {
        for (size_t i = 0; i < serve->n_feeders;) {
                if (!feed_ended(serve->feeders[i])) {
                        i++;
                        continue;
                }
                feed_join(serve->feeders[i]);
                serve->feeders[i] = serve->feeders[--serve->n_feeders];
        }
}

static void source_clear(struct feed_source *source) {
        if (source->fd >= 0)
                close(source->fd);
        free(source->data);
}

static uint8_t *copy_override(const struct image_override *override) {
        uint8_t *data = xmalloc(override->entry.size > 0 ? (size_t) override->entry.size : 1);
        if (override->entry.size > 0)
                memcpy(data, override->data, (size_t) override->entry.size);
        return data;
}

/** Answers one request. @return 0; -ECANCELED: it is over; other negative errno with err */
static int answer(struct serve *serve, const char *name, struct st_error **err) {
        const struct image_override *override = image_find_override(serve->image, name);
        _cleanup_(source_clear) struct feed_source source = {
                .entry = override ? &override->entry : manifest_find(&serve->image->manifest, name),
                .fd = -EBADF,
        };
        int r = 0;
        if (override)
                source.data = copy_override(override);
        else if (source.entry)
                r = serve->reader  ? serve_prepare_native(serve, &source, err)
                    : serve->store ? prepare_from_archive(serve, &source, err)
                                   : prepare_from_directory(serve, &source, err);
        if (r < 0)
                return r;
        r = streamer_reply(&serve->streamer, source.entry != NULL);
        if (r < 0)
                return r == -EPIPE || r == -ECONNRESET ? -ECANCELED : st_error_errno(err, r, "cannot answer CRIU");
        if (!source.entry)
                return 0;
        int pipe_fd;
        do {
                if (!wait_readable(serve, serve->streamer.socket))
                        return -ECANCELED;
                pipe_fd = streamer_receive_pipe(&serve->streamer, err);
        } while (pipe_fd == -EAGAIN);
        if (pipe_fd < 0)
                return pipe_fd;
        join_ended(serve);
        feed_start(serve, pipe_fd, &source);
        return 0;
}

static int accept_criu(struct serve *serve, struct st_error **err) {
        while (wait_readable(serve, serve->listen_fd)) {
                serve->streamer.socket = accept4(serve->listen_fd, NULL, NULL, SOCK_CLOEXEC);
                if (serve->streamer.socket >= 0)
                        return 0;
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        return st_error_errno(err, errno, "cannot accept CRIU's connection");
        }
        return -ECANCELED;
}

/** Answers until CRIU closes the connection. */
static int run(struct serve *serve, struct st_error **err) {
        int r = accept_criu(serve, err);
        while (r == 0 && wait_readable(serve, serve->streamer.socket)) {
                _cleanup_free_ char *name = NULL;
                r = streamer_receive_name(&serve->streamer, &name, err);
                if (r == 0)
                        return 0;
                if (r > 0)
                        r = answer(serve, name, err);
                else if (r == -EAGAIN)
                        r = 0;
        }
        return r;
}

static void *serve_thread(void *userdata) {
        struct serve *serve = userdata;
        struct st_error *error = NULL;
        int r = run(serve, &error);
        if (error && r != -EPIPE)
                serve_fail(serve, error);
        else
                st_error_free(error); /* CRIU died in the middle of a request: that is not the checkpoint's fault */
        if (serve->streamer.socket >= 0)
                close(serve->streamer.socket);
        serve->streamer.socket = -EBADF;
        close(serve->listen_fd);
        serve->listen_fd = -EBADF;

        pthread_mutex_lock(&serve->lock);
        serve->gone = true;
        pthread_cond_broadcast(&serve->changed);
        pthread_mutex_unlock(&serve->lock);
        return NULL;
}

static struct serve *serve_free(struct serve *serve) {
        if (!serve)
                return NULL;
        if (serve->listen_fd >= 0)
                close(serve->listen_fd);
        if (serve->socket_path)
                unlink(serve->socket_path);
        if (serve->stop_fd >= 0)
                close(serve->stop_fd);
        if (serve->finish_fd >= 0)
                close(serve->finish_fd);
        free(serve->socket_path);
        free(serve->feeders);
        free(serve->arrivals);
        free(serve->unpackers);
        store_free(serve->store);
        native_reader_free(serve->reader);
        st_error_free(serve->error);
        pthread_cond_destroy(&serve->changed);
        pthread_mutex_destroy(&serve->lock);
        free(serve);
        return NULL;
}
DEFINE_CLEANUP(struct serve, serve_free)

/** Those that read the checkpoint by themselves. */
static void join_readers(struct serve *serve) {
        if (serve->sealing)
                pthread_join(serve->sealer, NULL);
        for (unsigned i = 0; i < serve->n_unpackers; i++)
                pthread_join(serve->unpackers[i].thread, NULL);
}

static int start_threads(struct serve *serve) {
        int r = threads_start(&serve->thread, serve_thread, serve);
        if (r < 0)
                return r;
        if (serve->n_unsealed > 0 && !serve->store) {
                r = threads_start(&serve->sealer, serve->reader ? serve_native_sealer : sealer_thread, serve);
                serve->sealing = r == 0;
        }
        for (unsigned i = 0; serve->store && i < serve->image->layout.parts && r == 0; i++) {
                serve->unpackers[i] = (struct unpacker){ .serve = serve, .part = i };
                r = threads_start(&serve->unpackers[i].thread, unpack_thread, &serve->unpackers[i]);
                serve->n_unpackers += r == 0;
        }
        if (r < 0) {
                tell(serve, &serve->stopped, serve->stop_fd);
                pthread_join(serve->thread, NULL);
                join_readers(serve);
        }
        return r;
}

int serve_start(struct image *image, const char *work_dir, uint64_t budget, const char *spill_dir,
                void (*progress)(uint64_t done, uint64_t total, void *userdata), void *userdata, struct serve **ret,
                struct st_error **err) {
        _cleanup_(serve_freep) struct serve *serve = NEW(struct serve);
        pthread_mutex_init(&serve->lock, NULL);
        pthread_cond_init(&serve->changed, NULL);
        serve->image = image;
        serve->progress = progress;
        serve->userdata = userdata;
        serve->listen_fd = -EBADF;
        serve->streamer.socket = -EBADF;
        serve->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        serve->finish_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (serve->stop_fd < 0 || serve->finish_fd < 0)
                return st_error_errno(err, errno, "cannot serve the checkpoint");
        int r = image_check(image, err);
        if (r < 0)
                return r;
        if (image->native) {
                serve->reader = native_reader_new(image->native);
                serve->n_unsealed = 1;
        } else if (image->codec) {
                serve->store = store_new(budget, spill_dir);
                serve->arrivals = xcalloc(image->layout.n, sizeof(*serve->arrivals));
                serve->unpackers = xcalloc(image->layout.parts, sizeof(*serve->unpackers));
                serve->n_unsealed = image->layout.parts;
        } else
                serve->n_unsealed = image->verified ? 1 : 0;
        serve->listen_fd = streamer_listen(work_dir, STREAMER_SERVE_SOCKET, &serve->socket_path, err);
        if (serve->listen_fd < 0)
                return serve->listen_fd;
        r = start_threads(serve);
        if (r < 0)
                return st_error_errno(err, r, "cannot serve the checkpoint");
        *ret = TAKE_PTR(serve);
        return 0;
}

void serve_abort(struct serve *serve) {
        tell(serve, &serve->stopped, serve->stop_fd);
}

int serve_finish(struct serve *serve, struct st_error **err) {
        tell(serve, &serve->finishing, serve->finish_fd);
        pthread_join(serve->thread, NULL);
        for (size_t i = 0; i < serve->n_feeders; i++)
                feed_join(serve->feeders[i]);
        join_readers(serve);
        int r = 0;
        if (serve->error)
                r = st_error_move(err, TAKE_PTR(serve->error));
        else if (serve_stopped(serve))
                r = st_error_set(err, ECANCELED, "serving the checkpoint was stopped");
        serve_free(serve);
        return r;
}
