/* SPDX-License-Identifier: Apache-2.0 */

/* What a freeze reads: its record, and the kernel's texts about cgroups. */

#include <stdlib.h>
#include <string.h>

#include "engine/frozen.h"
#include "process/freezer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_record(const char *text) {
        struct frozen *frozen = NULL;
        struct st_error *error = NULL;
        int r = frozen_from_json(text, &frozen, &error);

        if ((r < 0) != (error != NULL) || (r < 0) != (frozen == NULL))
                abort();
        if (frozen) { /* what is accepted can be written again */
                char *again = frozen_to_json(frozen);
                struct frozen *second = NULL;

                if (!again || frozen_from_json(again, &second, NULL) < 0 || second->tasks.n != frozen->tasks.n)
                        abort();
                free(again);
                frozen_free(second);
        }
        frozen_free(frozen);
        st_error_free(error);
}

static void parse_kernel(const char *text) {
        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2; version++) {
                struct freezer_hierarchy hierarchy;
                char *path = NULL, *common;

                freezer_hierarchy_parse(text, version, &hierarchy);
                freezer_hierarchy_clear(&hierarchy);
                if (freezer_path_parse(text, version, &path) < 0)
                        continue;
                common = freezer_path_common(path, "/a/b/c");
                if (!freezer_path_is_within(path, common))
                        abort();
                free(common);
                free(path);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = malloc(size + 1);

        if (!text)
                return 0;
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        parse_record(text);
        parse_kernel(text);
        free(text);
        return 0;
}
