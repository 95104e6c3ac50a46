/* SPDX-License-Identifier: Apache-2.0 */
#include "db/sqlite.h"

#include <errno.h>
#include <pthread.h>

#include "base/cleanup.h"
#include "base/library.h"
#include "base/memory.h"

#define LIBRARY "libsqlite3.so.0"
/* The first with STRICT tables. */
#define OLDEST 3037000

struct sqlite sqlite;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *problem; /* why it cannot be loaded; for the whole life of the process */

static const struct library_function functions[] = {
#define SQLITE_ROW_OF(name) { "sqlite3_" #name, offsetof(struct sqlite, name) },
        SQLITE_FUNCTIONS(SQLITE_ROW_OF)
#undef SQLITE_ROW_OF
};

static void load(void) {
        problem = library_load(LIBRARY, functions, ELEMENTSOF(functions), &sqlite);
        if (!problem && sqlite.libversion_number() < OLDEST)
                problem = xasprintf("%s is older than 3.37", LIBRARY);
}

int sqlite_load(struct st_error **err) {
        (void)pthread_once(&once, load);
        if (!problem)
                return 0;
        st_error_set(err, ENOPKG, "cannot load SQLite, which the database needs: %s", problem);
        st_error_hint(err, "install SQLite's library, " LIBRARY);
        return -ENOPKG;
}
