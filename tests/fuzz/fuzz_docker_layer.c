/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any archive as the changes of a container: whatever it says, nothing may appear beside the directory that it is
 * unpacked into, and a failure must leave that as it was.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../plugins/docker/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned count(int dir_fd) {
        unsigned n = 0;
        DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        while (dir && readdir(dir))
                n++;
        if (dir)
                closedir(dir);
        return n;
}

/* Makes the checksum of every block right that looks like a header, or nothing would get past it. */
static void seal(uint8_t *archive, size_t size) {
        for (size_t at = 0; at + 512 <= size; at += 512) {
                uint8_t *block = archive + at;
                unsigned sum = 8 * ' ';
                if (memcmp(block + 257, "ustar", 5) != 0)
                        continue;
                for (size_t i = 0; i < 512; i++)
                        sum += i >= 148 && i < 156 ? 0 : block[i];
                snprintf((char *)block + 148, 7, "%06o", sum & 0777777);
                block[155] = ' ';
        }
}

static void load(const uint8_t *data, size_t size) {
        char home[] = "/tmp/stasis-fuzz-layer.XXXXXX", aside[LAYER_NAME_MAX];
        struct st_error *error = NULL;
        int tar = memfd_create("layer", MFD_CLOEXEC);

        if (tar < 0 || write(tar, data, size) != (ssize_t)size || lseek(tar, 0, SEEK_SET) < 0 || !mkdtemp(home))
                abort();
        int home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (home_fd < 0 || mkdirat(home_fd, "upper", 0755) < 0)
                abort();
        int r = layer_replace(home_fd, "upper", tar, NULL, NULL, aside, &error);
        if ((r < 0) != (error != NULL) || count(home_fd) != (r < 0 ? 3U : 4U))
                abort();
        int upper_fd = openat(home_fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (upper_fd < 0 || (r < 0 && count(upper_fd) != 2))
                abort();
        st_error_free(error);
        close(upper_fd);
        close(home_fd);
        close(tar);
        if (layer_remove(AT_FDCWD, home, NULL) < 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint8_t *sealed = malloc(size ? size : 1);
        load(data, size);
        if (sealed && size > 0) {
                memcpy(sealed, data, size);
                seal(sealed, size);
                load(sealed, size);
        }
        free(sealed);
        return 0;
}
