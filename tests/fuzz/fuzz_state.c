/* SPDX-License-Identifier: Apache-2.0 */

/* The saved state of a checkpoint: JSON, with messages of the API and options of CRIU inside. */

#include <stdlib.h>
#include <string.h>

#include "base/messages.h"
#include "criu/options.h"
#include "engine/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What --criu-opts takes from a command line. */
static void parse_options(const char *text) {
        Criu__CriuOpts *options = message_new(&criu__criu_opts__descriptor);
        struct st_error *error = NULL;

        if ((criu_options_from_json(options, text, &error) < 0) != (error != NULL))
                abort();
        st_error_free(error);
        message_freep(&options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct saved_state *saved = NULL;
        struct st_error *error = NULL;
        char *text = malloc(size + 1);

        if (!text)
                return 0;
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        int r = state_from_json(text, &saved, &error);
        if ((r < 0) != (error != NULL) || (r < 0) != (saved == NULL))
                abort();
        for (size_t i = 0; saved && i < saved->n_tasks; i++)
                if (saved->tasks[i].pid <= 0)
                        abort();
        saved_state_free(saved);
        st_error_free(error);
        parse_options(text);
        free(text);
        return 0;
}
