/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#ifndef STASIS_LIBEXECDIR
#define STASIS_LIBEXECDIR "/usr/local/libexec/stasis"
#endif
#ifndef STASIS_PLUGINDIR
#define STASIS_PLUGINDIR "/usr/local/lib/stasis/plugins"
#endif

char *path_join(const char *a, const char *b) {
        size_t n = strlen(a);

        while (n > 0 && a[n - 1] == '/')
                n--;
        while (*b == '/')
                b++;
        return xasprintf("%.*s/%s", (int)n, a, b);
}

/* Where relative paths begin. A current directory that was removed has no name, but still this one. */
static char *current_directory(void) {
        char *directory = getcwd(NULL, 0);

        if (directory && directory[0] == '/')
                return directory;
        free(directory);
        return xstrdup("/proc/self/cwd");
}

char *path_absolute(const char *path) {
        _cleanup_free_ char *from = NULL;

        if (path[0] != '/') {
                _cleanup_free_ char *directory = current_directory();
                from = path_join(directory, path);
                path = from;
        }

        char *result = xmalloc(strlen(path) + 2), *out = result;
        while (*path) {
                size_t n = strcspn(path, "/");

                if (n > 0 && !(n == 1 && path[0] == '.')) {
                        *out++ = '/';
                        out = mempcpy(out, path, n);
                }
                path += n + (path[n] == '/');
        }
        if (out == result)
                *out++ = '/';
        *out = 0;
        return result;
}

char *path_directory(const char *path) {
        size_t n = strlen(path);

        while (n > 1 && path[n - 1] == '/')
                n--;
        while (n > 0 && path[n - 1] != '/')
                n--;
        if (n == 0)
                return xstrdup(".");
        while (n > 1 && path[n - 1] == '/')
                n--;
        return xstrndup(path, n);
}

const char *path_name(const char *path) {
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

bool path_is_name(const char *name) {
        size_t n = strlen(name);

        if (n == 0 || n > NAME_MAX || streq(name, ".") || streq(name, ".."))
                return false;
        for (size_t i = 0; i < n; i++)
                if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
                        return false;
        return true;
}

static char *self;

static void find_self(void) {
        static const char deleted[] = " (deleted)"; /* what proc(5) appends when the file was replaced */
        char buffer[PATH_MAX];

        ssize_t n = readlink("/proc/self/exe", buffer, sizeof(buffer));
        if (n <= 0 || (size_t)n >= sizeof(buffer)) {
                self = path_absolute(program_invocation_name);
                return;
        }
        self = xstrndup(buffer, (size_t)n);
        if (text_ends_with(self, deleted) && access(self, F_OK) < 0)
                self[(size_t)n - (sizeof(deleted) - 1)] = 0;
}

const char *path_self(void) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        pthread_once(&once, find_self);
        return self;
}

/* A path beside the executable; malloc'ed. */
static char *beside_self(const char *name) {
        _cleanup_free_ char *directory = path_directory(path_self());
        return path_join(directory, name);
}

bool path_in_build_tree(void) {
        _cleanup_free_ char *build = beside_self("build.ninja"), *plugins = beside_self("plugins");
        struct stat st;

        return stat(build, &st) == 0 && S_ISREG(st.st_mode) && stat(plugins, &st) == 0 && S_ISDIR(st.st_mode);
}

char *path_libexec(const char *program) {
        return path_in_build_tree() ? beside_self(program) : path_join(STASIS_LIBEXECDIR, program);
}

char *path_plugins(void) {
        return path_in_build_tree() ? beside_self("plugins") : xstrdup(STASIS_PLUGINDIR);
}

/* A directory that the environment may move; not in a set-user-ID program. */
static const char *directory_or(const char *variable, const char *fallback) {
        const char *value = secure_getenv(variable);
        return isempty(value) ? fallback : value;
}

const char *path_temporary_dir(void) {
        const char *directory = getenv("TMPDIR");

        return directory && directory[0] == '/' ? directory : "/var/tmp";
}

const char *path_run_dir(void) {
        return directory_or("STASIS_RUN_DIR", PATH_RUN_DIR);
}

const char *path_log_dir(void) {
        return directory_or("STASIS_LOG_DIR", "/var/log/stasis");
}
