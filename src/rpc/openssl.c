/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/openssl.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
/* The ABI of the headers; it finds libcrypto by itself. */
#define LIBRARY "libssl.so." TEXT(OPENSSL_SHLIB_VERSION)

struct openssl openssl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *problem; /* why it cannot be loaded; for the whole life of the process */

static const struct {
        const char *name;
        size_t offset;
} functions[] = {
#define OPENSSL_ROW(name) { #name, offsetof(struct openssl, name) },
        OPENSSL_FUNCTIONS(OPENSSL_ROW)
#undef OPENSSL_ROW
};

static void load(void) {
        void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

        if (!library) {
                problem = xstrdup(dlerror());
                return;
        }
        for (size_t i = 0; i < ELEMENTSOF(functions); i++) {
                void *function = dlsym(library, functions[i].name);

                if (!function) {
                        problem = xasprintf("%s has no function %s", LIBRARY, functions[i].name);
                        return;
                }
                memcpy((char *)&openssl + functions[i].offset, &function, sizeof(function));
        }
}

int openssl_load(struct st_error **err) {
        (void)pthread_once(&once, load);
        if (!problem)
                return 0;
        st_error_set(err, ENOPKG, "cannot load OpenSSL, which TLS needs: %s", problem);
        st_error_hint(err, "install OpenSSL's library, " LIBRARY);
        return -ENOPKG;
}
