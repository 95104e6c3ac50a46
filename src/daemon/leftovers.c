/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/leftovers.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/partial.h"

struct cleaning {
        char *directory;
        uid_t uid;
};

/** Without a thread it is done at once. */
static void in_background(void *(*function)(void *userdata), void *userdata) {
        pthread_attr_t attributes;
        pthread_t thread;
        int r = pthread_attr_init(&attributes);

        if (r == 0) {
                (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
                r = pthread_create(&thread, &attributes, function, userdata);
                (void)pthread_attr_destroy(&attributes);
        }
        if (r != 0)
                (void)function(userdata);
}

static void *clean(void *userdata) {
        struct cleaning *cleaning = userdata;
        size_t n = partial_clean(cleaning->directory, cleaning->uid);

        if (n > 0)
                st_log_info("removed %zu unfinished or deleted checkpoint%s from %s", n, n == 1 ? "" : "s",
                            cleaning->directory);
        free(cleaning->directory);
        free(cleaning);
        return NULL;
}

void leftovers_clean(const char *directory, uid_t uid) {
        struct cleaning *cleaning = NEW(struct cleaning);

        *cleaning = (struct cleaning){ .directory = xstrdup(directory), .uid = uid };
        in_background(clean, cleaning);
}

/** Also what an earlier daemon did not get to remove. Should it fail or be cut short, the next one does it. */
static void *remove_hidden(void *userdata) {
        _cleanup_free_ char *path = userdata, *directory = path_directory(path);
        struct stat st;
        bool known = lstat(path, &st) == 0;

        (void)io_remove_tree(path);
        (void)partial_clean(directory, known ? st.st_uid : geteuid());
        return NULL;
}

void leftovers_remove(char *path) {
        in_background(remove_hidden, path);
}
