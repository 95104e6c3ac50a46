/* SPDX-License-Identifier: Apache-2.0 */
#include "base/library.h"

#include <dlfcn.h>
#include <string.h>

#include "base/memory.h"

char *library_load(const char *file, const struct library_function *functions, size_t n, void *ret) {
        void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

        if (!library)
                return xstrdup(dlerror());
        for (size_t i = 0; i < n; i++) {
                void *function = dlsym(library, functions[i].name);

                if (!function)
                        return xasprintf("%s has no function %s", file, functions[i].name);
                memcpy((char *)ret + functions[i].offset, &function, sizeof(function));
        }
        return NULL;
}
