/* SPDX-License-Identifier: Apache-2.0 */

/* Names and IDs, as the engine takes them. Apart from the rest because commands need nothing else of it. */

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "engine.h"

#define REFERENCE_MAX 512

/*
 * Names and IDs: [a-zA-Z0-9][a-zA-Z0-9_.-]* (a name in an inspect has a "/" before it); images also have "/", ":"
 * and "@" (REGISTRY:PORT/NAME:TAG@DIGEST).
 */
int engine_check_reference(const char *kind, const char *text, struct st_error **err) {
        const char *more = strcmp(kind, "image") == 0 ? "_.-/:@" : "_.-";
        const char *p = text ? text : "";

        bool good = isalnum((unsigned char)*p) && strlen(p) <= REFERENCE_MAX;
        for (; good && *p; p++)
                good = isalnum((unsigned char)*p) || strchr(more, *p);
        if (!good)
                return st_error_set(err, EINVAL, "\"%.100s\" is not the name or ID of a Docker %s", text ? text : "",
                                    kind);
        return 0;
}
