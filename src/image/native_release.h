/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Removing a checkpoint that others may refer to: first these take over what they need of it. May be begun again at any
 * time, whatever became of the last one.
 */

#include <stdint.h>

#include <stasis/error.h>

#include "base/text.h"
#include "image/native_chain.h"

struct native_release {
        struct native_place place;
        const char *hidden; /* a name in the same directory that it gets, in the place of being removed; NULL: none */
        int cancel_fd;      /* polls readable: stop; -EBADF: none */
};

/**
 * Removes a checkpoint of any format. Only a native image that is whole can be referred to.
 *
 * @param ret_folded may be NULL; the paths of those that were changed are added, also on failure
 * @return 0; -ENOENT: it is not there; of native_fold(), with who needs it: then the checkpoint is still there
 */
int native_release(const struct native_release *release, struct strv *ret_folded, struct st_error **err);
