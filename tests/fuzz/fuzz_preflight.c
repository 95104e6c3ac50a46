/* SPDX-License-Identifier: Apache-2.0 */

/* What preflight parses: the first byte chooses between a program's build ID and a text of /proc/PID/maps. */

#include <assert.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "process/build_id.h"
#include "process/maps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check_map(const struct map *map, void *userdata) {
        (void)userdata;
        assert(map->path);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        if (data[0] == 'm') {
                _cleanup_free_ char *text = xstrndup((const char *)data + 1, size - 1);

                (void)maps_parse(text, check_map, NULL);
                return 0;
        }
        _cleanup_close_ int fd = io_memfd("fuzz", data + 1, size - 1);
        uint8_t id[BUILD_ID_MAX];

        if (fd >= 0)
                assert(build_id_read(fd, id) <= BUILD_ID_MAX);
        return 0;
}
