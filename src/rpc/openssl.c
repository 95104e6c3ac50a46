/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/openssl.h"

#include <errno.h>
#include <pthread.h>

#include "base/cleanup.h"
#include "base/library.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
/* The ABI of the headers; it finds libcrypto by itself. */
#define LIBRARY "libssl.so." TEXT(OPENSSL_SHLIB_VERSION)

struct openssl openssl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *problem; /* why it cannot be loaded; for the whole life of the process */

static const struct library_function functions[] = {
#define OPENSSL_ROW(name) { #name, offsetof(struct openssl, name) },
        OPENSSL_FUNCTIONS(OPENSSL_ROW)
#undef OPENSSL_ROW
};

static void load(void) {
        problem = library_load(LIBRARY, functions, ELEMENTSOF(functions), &openssl);
}

int openssl_load(struct st_error **err) {
        (void)pthread_once(&once, load);
        if (!problem)
                return 0;
        st_error_set(err, ENOPKG, "cannot load OpenSSL, which TLS needs: %s", problem);
        st_error_hint(err, "install OpenSSL's library, " LIBRARY);
        return -ENOPKG;
}
