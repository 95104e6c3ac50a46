/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of serving share: serve.c (the connection), feed.c (the pipes), unpack.c (the archive). */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "image/formats.h"
#include "image/native_reader.h"
#include "image/serve.h"
#include "image/streamer.h"

/** Files up to this size fit into a pipe as it is: they are checked and written at once, without a thread. */
#define SERVE_SMALL ((uint64_t)64 << 10)

/** A piece of a file of an archive (layout.h) on its way through the store; but for pages that is a whole file. */
struct arrival {
        struct store_file *file; /* NULL: not begun */
        bool complete;           /* wholly there; and checked, but for pages: who feeds them checks them */
        bool taken;              /* being fed with its memory given back: not twice */
};

struct feeder;

/** The thread that unpacks one archive into the store. */
struct unpacker {
        struct serve *serve;
        unsigned part;
        pthread_t thread;
};

struct serve {
        struct image *image;
        void (*progress)(uint64_t done, uint64_t total, void *userdata);
        void *userdata;

        char *socket_path;
        int listen_fd;
        struct streamer streamer; /* of the connection's thread */
        pthread_t thread;
        int stop_fd;   /* readable: everything ends at once */
        int finish_fd; /* readable: CRIU has ended */
        atomic_bool stopped, finishing;

        pthread_mutex_t lock; /* of all below */
        pthread_cond_t changed;
        struct st_error *error; /* the first */
        uint64_t done, told;
        struct feeder **feeders;
        size_t n_feeders, room_feeders; /* the array's, touched by the connection's thread and serve_finish() only */
        size_t n_feeding;               /* that have not ended */
        bool gone;                      /* the connection has ended: no file will be asked for any more */
        unsigned n_unsealed;            /* archives, or a directory's thread, that have not found all to be right yet */

        pthread_t sealer; /* verifies what CRIU may not ask for; of directories and native images */
        bool sealing;     /* it was started */

        struct native_reader *reader; /* a native image's; of the connection's thread */

        /* An archive's. */
        struct store *store; /* NULL: served from a directory */
        struct arrival *arrivals;
        size_t starving; /* how many wait for bytes that have not come */
        struct unpacker *unpackers;
        unsigned n_unpackers; /* that were started */
};

/** Ends everything because of an error, which it takes; the first one is kept. */
void serve_fail(struct serve *serve, struct st_error *error);

/** Counts bytes that were handed to CRIU. */
void serve_count(struct serve *serve, uint64_t bytes);

/** Waits for news of the archive, with the lock held; the thread that unpacks knows that somebody waits. */
void serve_starve(struct serve *serve);

/**
 * Waits until all is known to be right: archives in all their bytes, of a directory also the files that CRIU does not
 * ask for. @return 0, -ECANCELED
 */
int serve_wait_sealed(struct serve *serve);

/** Is it the last file? Then its end is kept back until all is known to be right, see serve_wait_sealed(). */
static inline bool serve_is_last(const struct serve *serve, const struct manifest_entry *entry) {
        const struct manifest *manifest = &serve->image->manifest;
        return entry == image_served_entry(serve->image, &manifest->entries[manifest->n - 1]);
}

/** The first piece of a file on its way; the others follow it. */
static inline struct arrival *serve_arrival(const struct serve *serve, const struct manifest_entry *entry) {
        return &serve->arrivals[serve->image->layout.first[entry - serve->image->manifest.entries]];
}

/** Is it over? With or without the lock. */
static inline bool serve_stopped(const struct serve *serve) {
        return atomic_load(&serve->stopped);
}

/** The thread that unpacks an archive into the store; userdata is a struct unpacker. */
void *unpack_thread(void *userdata);

/** All is known to be right but for what is still to be fed: the last file may be fed to its end. */
void serve_seal(struct serve *serve);

/** The sealer of a native image: looks at all data frames, and at the digests of pages. */
void *serve_native_sealer(void *userdata);

struct feed_source;

/** Makes a file of a native image ready: what is not pages is checked as a whole. @return 0; -ECANCELED; -errno */
int serve_prepare_native(struct serve *serve, struct feed_source *source, struct st_error **err);

/** Where the bytes of a file come from. */
struct feed_source {
        const struct manifest_entry *entry;
        const struct native_file *file; /* of a native image, fed frame by frame; NULL: none */
        int fd;                         /* of a directory's file, taken; -EBADF: none */
        uint8_t *data;                  /* all of a small file, taken; NULL: none */
        bool verify;                    /* hash on the way, hold back the last block */
};

/** Writes a file into CRIU's pipe: at once when it is small, else by a thread. Takes pipe and source. */
void feed_start(struct serve *serve, int pipe_fd, struct feed_source *source);

/** Waits for the thread of a feeder and frees it. */
void feed_join(struct feeder *feeder);

/** Has its thread ended? */
bool feed_ended(const struct feeder *feeder);
