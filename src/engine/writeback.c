/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/writeback.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "image/threads.h"

/** How often it looks. A disk takes a few MiB in this time, and an idle look costs some µs. */
#define INTERVAL_MS 15
/** Only whole ones are sent, so that no page is sent while it is still filled, and small files are left to the sync. */
#define STEP ((uint64_t)1 << 20)
/** At once: the call waits while the queue of the disk is full, and whoever stops us waits for it. */
#define AT_ONCE (8 * STEP)
/** Large files are few: one for each process. Those beyond are left to the sync. */
#define FILES_MAX 512

struct file {
        ino_t inode;
        uint64_t begun; /* all before it */
};

struct writeback {
        pthread_t thread;
        DIR *directory;
        int end_fd; /* an eventfd: readable when it is to end */
        atomic_uint_least64_t begun;
        struct file files[FILES_MAX];
        size_t n;
};

/** @param add a new one; NULL: it is not known, or would be one too many */
static struct file *find_file(struct writeback *writeback, ino_t inode, bool add) {
        for (size_t i = 0; i < writeback->n; i++)
                if (writeback->files[i].inode == inode)
                        return &writeback->files[i];
        if (!add || writeback->n == FILES_MAX)
                return NULL;
        writeback->files[writeback->n] = (struct file){ .inode = inode };
        return &writeback->files[writeback->n++];
}

static void send_file(struct writeback *writeback, const char *name) {
        _cleanup_close_ int fd = -EBADF;
        int directory = dirfd(writeback->directory);
        struct file *file;
        struct stat st;

        if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                return;
        file = find_file(writeback, st.st_ino, (uint64_t)st.st_size >= STEP);
        if (!file)
                return;
        if (file->begun > (uint64_t)st.st_size) /* cut off, or a new file with the number of an old one */
                file->begun = 0;
        if ((uint64_t)st.st_size - file->begun < STEP)
                return;
        fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        while (fd >= 0 && (uint64_t)st.st_size - file->begun >= STEP && !threads_signalled(writeback->end_fd)) {
                uint64_t length = ((uint64_t)st.st_size - file->begun) / STEP * STEP;

                if (length > AT_ONCE)
                        length = AT_ONCE;
                if (sync_file_range(fd, (off_t)file->begun, (off_t)length, SYNC_FILE_RANGE_WRITE) < 0)
                        return; /* the sync will meet it, too, and tell */
                file->begun += length;
                atomic_fetch_add(&writeback->begun, length);
        }
}

static void *run(void *userdata) {
        struct writeback *writeback = userdata;
        struct pollfd end = { .fd = writeback->end_fd, .events = POLLIN };

        while (poll(&end, 1, INTERVAL_MS) <= 0) {
                struct dirent *entry;

                rewinddir(writeback->directory);
                while (!threads_signalled(writeback->end_fd) && (entry = readdir(writeback->directory)))
                        send_file(writeback, entry->d_name);
        }
        return NULL;
}

static struct writeback *writeback_free(struct writeback *writeback) {
        if (writeback->directory)
                closedir(writeback->directory);
        if (writeback->end_fd >= 0)
                close(writeback->end_fd);
        free(writeback);
        return NULL;
}

struct writeback *writeback_start(const char *directory) {
        struct writeback *writeback = NEW(struct writeback);

        writeback->end_fd = eventfd(0, EFD_CLOEXEC);
        writeback->directory = opendir(directory);
        if (writeback->end_fd < 0 || !writeback->directory || threads_start(&writeback->thread, run, writeback) < 0)
                return writeback_free(writeback);
        return writeback;
}

uint64_t writeback_begun(const struct writeback *writeback) {
        return atomic_load(&writeback->begun);
}

struct writeback *writeback_stop(struct writeback *writeback) {
        const uint64_t one = 1;

        if (!writeback)
                return NULL;
        (void)io_write_full(writeback->end_fd, &one, sizeof(one));
        (void)pthread_join(writeback->thread, NULL);
        return writeback_free(writeback);
}
