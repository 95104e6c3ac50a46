/* SPDX-License-Identifier: Apache-2.0 */
#include "image/podman.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/formats.h"

/** What stands beside checkpoint/. Without the first two it is no container. */
static const char *const beside[] = {
        "config.dump",    "spec.dump",
        "network.status", "rootfs-diff.tar",
        "deleted.files",  "devshm-checkpoint.tar",
        "bind.mounts",    "stats-dump",
        "ctr.log",        "dump.log",
        "restore.log",    "checkpointed.pod",
        "image.options",  "io.kubernetes.cri-o.LogPath",
};

char *podman_path(const char *name) {
        if (strncmp(name, "stasis.", strlen("stasis.")) == 0)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(beside); i++)
                if (streq(name, beside[i]))
                        return xstrdup(name);
        return xasprintf(PODMAN_DIRECTORY "%s", name);
}

int podman_check(const struct image *image, enum image_format format, struct st_error **err) {
        bool configured = manifest_find(&image->manifest, beside[0]) != NULL;

        if (!configured || !manifest_find(&image->manifest, beside[1])) {
                st_error_set(err, EINVAL, "%s holds no container of Podman's: there is no %s in it", image->path,
                             configured ? beside[1] : beside[0]);
                st_error_hint(err, "Podman restores only what 'podman container checkpoint --export' made");
                return -EINVAL;
        }
        if (format == IMAGE_TAR || format == IMAGE_GZIP || format == IMAGE_ZSTD)
                return 0;
        return st_error_set(err, EINVAL, "Podman reads .tar, .tar.gz and .tar.zst, not the format %s",
                            image_format_name(format));
}
