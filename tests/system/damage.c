/* SPDX-License-Identifier: Apache-2.0 */

/*
 * damage WAY IMAGE VICTIM DIRECTORY cuts
 * damage WAY IMAGE VICTIM DIRECTORY flips N SEED
 *
 * Is a native image that is damaged refused, each time? VICTIM is the file that is damaged, and whole again after that:
 * IMAGE itself, or one of its ancestors. It is cut to every length, or one bit at a time is flipped, N of them drawn by
 * SEED. Each time all is read by the code of stasis, in this process, and in the WAY named:
 *
 *     verify  as `checkpoint verify` reads
 *     stream  as a restore reads that gives CRIU all files
 *     gated   as a restore reads that puts in the memory itself: its plan, the frames of it, and what CRIU still gets
 *
 * DIRECTORY is for the socket that files are served at. It is a failure when damage has no effect in IMAGE, and when
 * anything but the right bytes is read. Damage of an ancestor has none when it is in pages that IMAGE does not need.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/formats.h"
#include "image/native.h"
#include "image/serve.h"
#include "image/streamer.h"
#include "lazy/plan.h"

#define BUDGET ((uint64_t)64 << 20)

enum verdict { REFUSED, UNHARMED, WRONG };

struct trial {
        enum { VERIFY, STREAM, GATED } way;
        const char *image, *victim, *directory;
        struct hash whole; /* of all that is read of the undamaged image */
        struct st_error *error;
};

static int usage(void) {
        fputs("usage: damage verify|stream|gated IMAGE VICTIM DIRECTORY cuts|flips [N SEED]\n", stderr);
        return 2;
}

/** Asks for a file as CRIU does. @return the end to read from; -ENOENT; -EPIPE: the server has given up */
static int ask(int connection, const char *name) {
        uint8_t message[256], reply[6];
        size_t length = strlen(name);
        uint32_t size = (uint32_t)length + 2;
        int fds[2];
        if (length > 120)
                abort();
        memcpy(message, &size, sizeof(size));
        message[4] = 0x0a;
        message[5] = (uint8_t)length;
        memcpy(message + 6, name, length);
        if (send(connection, message, length + 6, MSG_NOSIGNAL) < 0 || io_read_full(connection, reply, 6) < 0)
                return -EPIPE;
        if (reply[5] == 0)
                return -ENOENT;
        if (pipe2(fds, O_CLOEXEC) < 0)
                abort();
        int r = io_send_fd(connection, fds[1]);
        close(fds[1]);
        if (r < 0)
                close(fds[0]);
        return r < 0 ? -EPIPE : fds[0];
}

static void read_to_end(int fd, struct hasher *hasher) {
        static uint8_t buffer[1 << 16];
        ssize_t n;
        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                hasher_update(hasher, buffer, (size_t)n);
        close(fd);
}

/** Reads all files, as far as they are served. @return what the server says at the end */
static int read_served(struct trial *trial, struct image *image, struct hasher *hasher) {
        struct serve *serve;
        _cleanup_free_ char *path = path_join(trial->directory, STREAMER_SERVE_SOCKET);
        (void)unlink(path);
        int r = serve_start(image, trial->directory, BUDGET, trial->directory, NULL, NULL, &serve, &trial->error);
        if (r < 0)
                return r;
        int connection = io_connect_unix(path); /* fails when damage was found already */
        for (size_t i = 0; connection >= 0 && i < image_file_count(image); i++) {
                const char *name = image_file_name(image, i);
                int fd = ask(connection, name);
                if (fd < 0)
                        break;
                hasher_update(hasher, name, strlen(name) + 1);
                read_to_end(fd, hasher);
        }
        if (connection >= 0)
                close(connection);
        return serve_finish(serve, &trial->error);
}

/** The frames that are put in without CRIU. */
static int read_planned(struct trial *trial, const struct lazy_plan *plan, struct hasher *hasher) {
        static uint8_t stored[NATIVE_STORED_MAX], out[NATIVE_FRAME_MAX];
        _cleanup_(native_coder_freep) struct native_coder *coder = native_coder_new();
        int r = 0;
        for (size_t i = 0; i < plan->n_frames && r == 0; i++) {
                const struct lazy_frame *frame = &plan->frames[i];
                r = native_read_frame(plan->native, frame->source, frame->frame, coder, stored, out, &trial->error);
                hasher_update(hasher, out, plan->native->sources[frame->source].frames[frame->frame].decoded);
        }
        for (size_t i = 0; i < plan->n_tasks; i++)
                for (size_t k = 0; k < plan->tasks[i].n; k++) {
                        const struct lazy_piece *piece = &plan->tasks[i].pieces[k];
                        const uint64_t numbers[] = { piece->at, piece->count, piece->frame, piece->page };
                        hasher_update(hasher, numbers, sizeof(numbers));
                }
        return r;
}

/** A gated restore lets nothing run before both have succeeded. */
static int read_gated(struct trial *trial, struct image *image, struct hasher *hasher) {
        _cleanup_(lazy_plan_freep) struct lazy_plan *plan = NULL;
        int r = lazy_plan_make(image, &plan, &trial->error);
        if (r == 0)
                r = lazy_plan_apply(plan, image, &trial->error);
        if (r == 0)
                r = read_planned(trial, plan, hasher);
        return r == 0 ? read_served(trial, image, hasher) : r;
}

/** Reads the image in the way of the trial. @return 0, or -errno, then there is trial->error */
static int read_all(struct trial *trial, struct hash *ret) {
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        _cleanup_(image_freep) struct image *image = NULL;
        trial->error = st_error_free(trial->error);
        int r = image_open(trial->image, &image, &trial->error);
        if (r == 0 && trial->way == VERIFY)
                r = image_verify(image, -EBADF, &trial->error);
        else if (r == 0)
                r = trial->way == STREAM ? read_served(trial, image, hasher) : read_gated(trial, image, hasher);
        *ret = hasher_finish(hasher);
        return r;
}

static enum verdict judge(struct trial *trial) {
        struct hash hash;
        bool same = read_all(trial, &hash) == 0;
        bool all = hash_equal(hash, trial->whole);
        if (trial->way == VERIFY)
                return same ? UNHARMED : REFUSED;
        /* Refused when CRIU had everything is too late. */
        return same == all ? (same ? UNHARMED : REFUSED) : WRONG;
}

struct counts {
        uint64_t tried, refused, other;
};

/** @return whether it is as it should be */
static bool count(struct trial *trial, struct counts *counts, uint64_t at, int bit) {
        bool itself = streq(trial->image, trial->victim);
        enum verdict verdict = judge(trial);
        const char *message = trial->error ? st_error_message(trial->error) : "";
        counts->tried++;
        counts->refused += verdict == REFUSED;
        /* Whoever reads it must be told which file is to blame. */
        bool named = verdict != REFUSED || strstr(message, path_name(trial->victim));
        if (verdict != WRONG && named && (verdict == REFUSED || !itself))
                return true;
        printf("%s %s %llu, bit %d: %s%s\n", trial->victim, bit < 0 ? "cut to" : "at", (unsigned long long)at, bit,
               verdict == REFUSED    ? "refused without its name: "
               : verdict == UNHARMED ? "taken for whole"
                                     : "found too late, or something else was read ",
               message);
        return false;
}

static bool cut(struct trial *trial, struct counts *counts, int fd, const uint8_t *bytes, size_t size) {
        bool good = true;
        for (size_t n = size; n-- > 0 && good;) {
                if (ftruncate(fd, (off_t)n) < 0)
                        abort();
                good = count(trial, counts, n, -1);
        }
        return pwrite(fd, bytes, size, 0) == (ssize_t)size && good;
}

static uint64_t next_random(uint64_t *state) {
        uint64_t z = *state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
}

static bool flip(struct trial *trial, struct counts *counts, int fd, const uint8_t *bytes, size_t size, uint64_t n,
                 uint64_t random) {
        bool good = true;
        for (uint64_t i = 0; i < n && good; i++) {
                size_t at = (size_t)(next_random(&random) % size);
                int bit = (int)(next_random(&random) % 8);
                uint8_t byte = bytes[at] ^ (uint8_t)(1 << bit);
                if (pwrite(fd, &byte, 1, (off_t)at) != 1)
                        abort();
                good = count(trial, counts, at, bit);
                if (pwrite(fd, &bytes[at], 1, (off_t)at) != 1)
                        abort();
        }
        return good;
}

static int run(struct trial *trial, char **words) {
        struct counts counts = { 0 };
        _cleanup_close_ int fd = open(trial->victim, O_RDWR | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return usage();
        size_t size = (size_t)st.st_size;
        _cleanup_free_ uint8_t *bytes = xmalloc(size);
        if (pread(fd, bytes, size, 0) != (ssize_t)size)
                return usage();
        bool good = false;
        if (streq(words[0], "cuts"))
                good = cut(trial, &counts, fd, bytes, size);
        else if (streq(words[0], "flips") && words[1] && words[2])
                good = flip(trial, &counts, fd, bytes, size, strtoull(words[1], NULL, 10),
                            strtoull(words[2], NULL, 10));
        else
                return usage();
        printf("%s of %s: %llu, refused: %llu\n", words[0], path_name(trial->victim), (unsigned long long)counts.tried,
               (unsigned long long)counts.refused);
        return good ? 0 : 1;
}

int main(int argc, char **argv) {
        struct trial trial = { 0 };
        if (argc < 6)
                return usage();
        trial.way = streq(argv[1], "verify") ? VERIFY : streq(argv[1], "stream") ? STREAM : GATED;
        trial.image = argv[2];
        trial.victim = argv[3];
        trial.directory = argv[4];
        if (read_all(&trial, &trial.whole) < 0) {
                printf("undamaged: %s\n", st_error_message(trial.error));
                return 1;
        }
        int r = run(&trial, argv + 5);
        struct hash hash;
        if (r == 0 && (read_all(&trial, &hash) < 0 || !hash_equal(hash, trial.whole))) {
                printf("not whole at the end: %s\n", st_error_message(trial.error));
                r = 1;
        }
        st_error_free(trial.error);
        return r;
}
