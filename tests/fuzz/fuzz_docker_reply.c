/* SPDX-License-Identifier: Apache-2.0 */

/* What an engine answers: three digits of a status, then the body. The body's first line is taken for versions, too. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../plugins/docker/engine_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct st_error *error = NULL;
        json_t *reply = NULL;
        char api[16], line[64] = "";

        if (size < 3)
                return 0;
        long status = (data[0] - '0') * 100L + (data[1] - '0') * 10L + (data[2] - '0');
        int r = engine_reply_parse(status, (const char *)data + 3, size - 3, &reply, &error);
        if ((r < 0) != (error != NULL) || (r < 0 && reply) || r > 399 || (r >= 0 && r < 200))
                abort();
        json_decref(reply);
        error = st_error_free(error);

        memcpy(line, data + 3, size - 3 < sizeof(line) ? size - 3 : sizeof(line) - 1);
        line[strcspn(line, "\n")] = 0;
        r = engine_reply_negotiate(line, line, api, &error);
        if ((r < 0) != (error != NULL))
                abort();
        if (r == 0 && strspn(api, "0123456789.") != strlen(api))
                abort();
        st_error_free(error);
        return 0;
}
