/* SPDX-License-Identifier: Apache-2.0 */

/* docker.json of a checkpoint: what is accepted can be written again, and means the same. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../plugins/docker/docker_saved.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct docker_saved saved = { 0 }, again = { 0 };
        struct st_error *error = NULL;
        int r = docker_saved_parse((const char *)data, size, &saved, &error);

        if ((r < 0) != (error != NULL))
                abort();
        if (r >= 0) {
                char *text = docker_saved_format(&saved, NULL);

                if (!text || docker_saved_parse(text, strlen(text), &again, NULL) < 0 || !docker_saved_name(&again) ||
                    strcmp(docker_saved_id(&saved), docker_saved_id(&again)) != 0)
                        abort();
                free(text);
        }
        st_error_free(error);
        docker_saved_clear(&saved);
        docker_saved_clear(&again);
        return 0;
}
