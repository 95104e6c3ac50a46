/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A private directory of copies of the test plugins. Not below /tmp: anybody may write there, so nothing is loaded from
 * there.
 */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "plugin/registry.h"
#include "plugin/trust.h"

/** Where the build is: test programs are run by meson with these variables, or by hand in the build directory. */
static inline const char *build_directory(void) {
        return getenv("STASIS_BUILD") ?: ".";
}

/** A new directory that plugins may be loaded from; malloc'ed; NULL: there is no such place for this user. */
static inline char *plugin_dir_new(void) {
        const char *const places[] = { build_directory(), "/run", "/var/lib", getenv("HOME") ?: "/" };

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                _cleanup_close_ int fd = -EBADF;
                _cleanup_free_ char *absolute = path_absolute(places[i]);
                _cleanup_free_ char *directory = path_join(absolute, "stasis-test-XXXXXX");

                if (trust_directory(absolute, &fd, NULL) >= 0 && mkdtemp(directory))
                        return TAKE_PTR(directory);
        }
        return NULL;
}

static inline void plugin_dir_remove(char *directory) {
        assert_int_equal(io_remove_tree(directory), 0);
        free(directory);
}

static inline void copy_file(const char *from, const char *to) {
        _cleanup_free_ char *content = NULL;
        size_t size;

        assert_int_equal(io_read_file(AT_FDCWD, from, 64 << 20, &content, &size), 0);
        assert_int_equal(io_replace_file(to, content, size, 0644, false), 0);
}

/** Copies the test plugin NAME.so; @return the copy's path, malloc'ed */
static inline char *plugin_dir_add(const char *directory, const char *plugin, const char *as) {
        _cleanup_free_ char *from = xasprintf("%s/tests/plugins/%s.so", build_directory(), plugin);
        char *to = xasprintf("%s/%s.so", directory, as);

        copy_file(from, to);
        return to;
}

/** Of a cmocka test whose state is such a directory. */
static inline int plugin_dir_setup(void **state) {
        *state = plugin_dir_new();
        return *state ? 0 : -1;
}

static inline int plugin_dir_teardown(void **state) {
        registry_unload();
        plugin_dir_remove(*state);
        return 0;
}

#define assert_contains(text, part)                                                        \
        do {                                                                               \
                const char *_text = (text);                                                \
                if (!_text || !strstr(_text, part))                                        \
                        fail_msg("\"%s\" does not contain \"%s\"", _text ?: "NULL", part); \
        } while (0)
