/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The files of one CRIU image on their way: in memory, in chunks that were made warm before anything was frozen, and,
 * beyond the memory budget, in an unnamed temporary file beside the destination. Capture fills a store, the writers
 * of the formats read it; a restore from an archive fills one too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

struct native_file;

/** A piece of a file: in memory (data) or in the spill file (at offset). */
struct store_extent {
        uint8_t *data; /* NULL: spilled */
        off_t offset;  /* in the spill file, or in the file's own */
        size_t length;
        size_t room; /* of the chunk */
        bool given;  /* its bytes are not here any more: native_give(), store_discard() */
};

/** Pages that are not in the store: those of a file of the native image that will be the parent. */
struct store_reference {
        const struct native_file *file; /* whoever fills the store sees that it outlives it */
        uint64_t first, pages;          /* of that file */
        uint64_t before;                /* the store's bytes that come before them */
};

struct store_file {
        char *name;
        char *path;    /* a file on disk that holds its bytes, all in one extent; NULL: they are in the store */
        uint64_t size; /* of what is in the store */
        struct store_extent *extents;
        size_t n_extents, room_extents;
        size_t looked;                      /* extents that native_give() has looked at */
        uint64_t looked_position;           /* where the next begins in the file */
        struct store_reference *references; /* only native_write() knows these */
        size_t n_references, room_references;
};

/** Who is asked for memory when the budget is spent, before anything is spilled. */
struct store_relief {
        /**
         * On the thread that fills the store; waits for chunks that are on their way when nothing can be spilled.
         *
         * @return 1: chunks came back; 0: none did, or will; -errno with err
         */
        int (*relieve)(void *userdata, struct st_error **err);
        void (*abandon)(void *userdata); /* the store is freed */
        void *userdata;
};

struct store {
        struct store_file **files; /* in the order of their names' arrival */
        size_t n_files, room_files;
        int spill_fd;     /* -EBADF until the budget is spent */
        uint64_t spilled; /* bytes in the spill file */
        bool spill_full;  /* there is no room for it any more: memory is waited for */
        uint64_t total;   /* bytes of all files */
        struct store_pool *pool;
        const char *spill_dir;
        void *names;                /* the files by name, for store_find() */
        struct store_relief relief; /* relieve may be NULL */
};

/**
 * @param budget bytes of memory it may use; the rest goes to the spill file
 * @param spill_dir where that (unnamed) file is made when needed: the checkpoint's directory. Must outlive the store.
 */
struct store *store_new(uint64_t budget, const char *spill_dir);
struct store *store_free(struct store *store);
static inline void store_freep(struct store **store) {
        *store = store_free(*store);
}

/** Makes memory for about `bytes` (at most the budget) warm: mapped, huge pages where possible, touched. */
void store_warm(struct store *store, uint64_t bytes);

/** Begins a file. Names are unique. @return the file, owned by the store; NULL with err for a bad or double name */
struct store_file *store_add(struct store *store, const char *name, struct st_error **err);

/**
 * Adds a file whose bytes stay where they are, on disk; they must not change, nor the file go away, while the store is
 * used.
 */
struct store_file *store_add_path(struct store *store, const char *name, const char *path, uint64_t size,
                                  struct st_error **err);

struct store_file *store_find(const struct store *store, const char *name);

/** Appends bytes from memory. */
int store_append(struct store *store, struct store_file *file, const void *data, size_t length, struct st_error **err);

/**
 * Appends what a pipe holds now: at most one read (into warm memory) or splice (into the spill file). May wait for
 * memory (struct store_relief).
 *
 * @return bytes taken; 0 at the pipe's end; -EAGAIN when it is empty; other -errno with err (-ENOSPC: disk full)
 */
ssize_t store_append_pipe(struct store *store, struct store_file *file, int pipe_fd, struct st_error **err);

/**
 * Room for bytes that are made in place, by a decoder: in the last chunk of the file or a new one.
 *
 * @param want about how many bytes are still to come
 * @param ret_room how many may be put at the result, at least 1
 * @return where; NULL: the budget is spent (store_spill() takes more)
 */
uint8_t *store_reserve(struct store *store, struct store_file *file, size_t want, size_t *ret_room);

/** `length` bytes were put where the last store_reserve() for this file said. */
void store_commit(struct store *store, struct store_file *file, size_t length);

/** Appends bytes to the spill file, whatever the budget. */
int store_spill(struct store *store, struct store_file *file, const void *data, size_t length, struct st_error **err);

/** Appends pages of a file of the parent: these are referred to, not stored. The file's size does not count them. */
void store_refer(struct store_file *file, const struct native_file *to, uint64_t first, uint64_t pages);

/** Bytes that are referred to. */
uint64_t store_referred(const struct store_file *file);

/** The bytes of an extent are not needed any more: its chunk may be used for others. @param index of the extent */
void store_release(struct store *store, struct store_file *file, size_t index);

/** They are gone: the memory goes back to the machine. Any thread, of extents of its own. */
void store_discard(struct store *store, struct store_file *file, size_t index);

/** A cursor over the bytes of a file, for writers. */
struct store_reader {
        const struct store *store;
        const struct store_file *file;
        size_t extent;
        size_t position;
        uint8_t *buffer; /* for extents that are not in memory */
        bool opened;     /* source is a descriptor of file->path */
        int source;
};

/** The next piece, up to 1 MiB. @return its length, 0 at the end, -errno; *ret valid until the next call */
ssize_t store_read(struct store_reader *reader, const uint8_t **ret);
/** Goes to an offset in the file, at most its size. */
void store_seek(struct store_reader *reader, uint64_t offset);
void store_reader_clear(struct store_reader *reader);
