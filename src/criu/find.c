/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "criu/criu.h"
#include "criu/environment.h"
#include "process/proc.h"

#define CHECK_TIMEOUT_MS 5000
#define CACHE_VERSION 2
#define CACHE_MAX 4096
#define HINT_INSTALL "run scripts/install-criu, or set CRIU.BinaryPath"

struct criu_binary *criu_binary_free(struct criu_binary *binary) {
        if (binary) {
                free(binary->path);
                free(binary->version);
                free(binary->problem);
                free(binary);
        }
        return NULL;
}

int criu_version_number(const char *text) {
        int parts[3] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                if (*text < '0' || *text > '9')
                        return 0;
                while (*text >= '0' && *text <= '9') {
                        parts[i] = parts[i] * 10 + (*text++ - '0');
                        if (parts[i] > 99 * (i == 0 ? 100 : 1))
                                return 0;
                }
                if (*text != '.')
                        break;
                text++;
        }
        return parts[0] * 10000 + parts[1] * 100 + parts[2];
}

/* What the answer depends on; any change of it makes a cached one worthless. malloc'ed */
static char *cache_key(const char *path, const struct stat *st) {
        const char *boot = proc_boot_id();

        if (isempty(boot))
                return NULL;
        return xasprintf("%d %s %ju:%ju %ju %jd.%09ld %jd.%09ld %s %ju", CACHE_VERSION, path, (uintmax_t)st->st_dev,
                         (uintmax_t)st->st_ino, (uintmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
                         st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec, boot,
                         (uintmax_t)geteuid());
}

static char *cache_path(const char *path) {
        return xasprintf("%s/criu-%016" PRIx64 ".json", path_run_dir(), (uint64_t)XXH3_64bits(path, strlen(path)));
}

/* Whoever could write this file could tell us any version: only our own counts. */
static char *read_cache(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) ||
            st.st_size <= 0 || st.st_size > CACHE_MAX)
                return NULL;

        size_t size = (size_t)st.st_size;
        char *text = xmalloc(size + 1);

        if (io_read_full(fd, text, size) < 0) {
                free(text);
                return NULL;
        }
        text[size] = '\0';
        return text;
}

static struct criu_binary *binary_new(const char *path, const char *version) {
        struct criu_binary *binary = NEW(struct criu_binary);

        binary->path = xstrdup(path);
        binary->version = xstrdup(version);
        binary->number = criu_version_number(version);
        return binary;
}

static struct criu_binary *cache_load(const char *path, const char *key) {
        _cleanup_free_ char *file = cache_path(path), *text = read_cache(file);
        struct criu_binary *binary = NULL;
        const char *version, *cached;
        json_t *json;
        int nftables;

        if (!text || !key)
                return NULL;
        json = json_loads(text, 0, NULL);
        if (json &&
            json_unpack(json, "{s:s, s:s, s:b}", "key", &cached, "version", &version, "nftables", &nftables) == 0 &&
            streq(cached, key) && criu_version_number(version) > 0) {
                binary = binary_new(path, version);
                binary->working = true;
                binary->nftables = nftables;
        }
        json_decref(json);
        return binary;
}

/* Without a cache everything works, only slower: errors do not matter. */
static void cache_store(const struct criu_binary *binary, const char *key) {
        _cleanup_free_ char *file = cache_path(binary->path), *text = NULL;
        json_t *json;

        if (!key || io_make_directories(path_run_dir(), 0755) < 0)
                return;
        json = json_pack("{s:s, s:s, s:b}", "key", key, "version", binary->version, "nftables", (int)binary->nftables);
        text = json ? json_dumps(json, JSON_COMPACT) : NULL;
        json_decref(json);
        if (text)
                (void)io_replace_file(file, text, strlen(text), 0600, false);
}

/* Runs it with one command, and a feature or NULL. @return the exit code or a negative errno with err */
static int ask(const char *path, const char *command, const char *feature, char **ret_output, struct st_error **err) {
        _cleanup_strv_ struct strv environment = { 0 };

        criu_environment(NULL, &environment);

        const struct spawn spawn = {
                .path = path,
                .argv = (char *[]){ (char *)path, (char *)"--no-default-config", (char *)command,
                                    (char *)(feature ? "--feature" : NULL), (char *)feature, NULL },
                .environment = environment.items,
                .new_session = true,
                .parent_death_signal = SIGKILL, /* nobody waits for one that hangs */
        };
        return spawn_run(&spawn, CHECK_TIMEOUT_MS, ret_output, err);
}

/* @return malloc'ed version, NULL with err */
static char *ask_version(const char *path, struct st_error **err) {
        _cleanup_free_ char *output = NULL;
        int r = ask(path, "--version", NULL, &output, err);

        if (r < 0)
                return NULL;
        for (const char *line = output; line && *line; line = strchr(line, '\n')) {
                line += strspn(line, "\n");
                const char *version = text_after(line, "Version: ");
                if (version)
                        return xstrndup(version, strcspn(version, " \r\n"));
        }
        st_error_set(err, ENOPKG, "it prints no version (exit code %d)", r);
        return NULL;
}

/* Does it work on this kernel? */
static void check(struct criu_binary *binary) {
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_free_ char *output = NULL, *cause = NULL, *hint = NULL;
        int r = ask(binary->path, "check", NULL, &output, &err);

        binary->working = r == 0;
        if (r == 0) {
                _cleanup_free_ char *said = NULL;
                binary->nftables = ask(binary->path, "check", "network_lock_nftables", &said, NULL) == 0;
                return;
        }
        if (r > 0)
                criu_digest(output ? output : "", &cause, &hint);
        if (r < 0)
                binary->problem = xstrdup(st_error_message(err));
        else if (cause)
                binary->problem = TAKE_PTR(cause);
        else
                binary->problem = xasprintf("`criu check` ended with exit code %d", r);
}

static int too_old(const char *path, const char *version, struct st_error **err) {
        int r = st_error_set(err, ENOPKG, "criu %s in %s is too old: %d.%d is needed", version, path,
                             CRIU_VERSION_MINIMUM / 10000, CRIU_VERSION_MINIMUM / 100 % 100);
        st_error_hint(err, HINT_INSTALL);
        return r;
}

/* One file that may be CRIU. @return -ENOENT when it is not there at all */
static int probe(const char *path, struct criu_binary **ret, struct st_error **err) {
        _cleanup_free_ char *key = NULL, *version = NULL;
        struct criu_binary *binary;
        struct stat st;

        if (stat(path, &st) < 0)
                return errno == ENOTDIR ? -ENOENT : -errno;
        if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0) {
                int r = st_error_set(err, ENOPKG, "CRIU cannot be run: %s is not executable", path);
                st_error_hint(err, HINT_INSTALL);
                return r;
        }
        key = cache_key(path, &st);
        binary = cache_load(path, key);
        if (binary && binary->number >= CRIU_VERSION_MINIMUM) {
                *ret = binary;
                return 0;
        }
        criu_binary_free(binary);

        version = ask_version(path, err);
        if (!version) {
                int r = st_error_set(err, ENOPKG, "CRIU cannot be run: %s", path);
                st_error_hint(err, HINT_INSTALL);
                return r;
        }
        if (criu_version_number(version) < CRIU_VERSION_MINIMUM)
                return too_old(path, version, err);
        binary = binary_new(path, version);
        check(binary);
        /* Only what works is kept: what it lacks (a module, a capability) may come at any time. */
        if (binary->working)
                cache_store(binary, key);
        *ret = binary;
        return 0;
}

/* Directories where it may be: those of PATH, then the usual ones, which the PATH of a service often lacks. */
static void candidates(const char *name, struct strv *ret) {
        static const char *const usual[] = { "/usr/local/sbin", "/usr/sbin", "/sbin" };
        const char *path = getenv("PATH");

        while (!isempty(path)) {
                size_t n = strcspn(path, ":");

                if (path[0] == '/')
                        strv_addf(ret, "%.*s/%s", (int)n, path, name);
                path += n + (path[n] == ':');
        }
        for (size_t i = 0; i < ELEMENTSOF(usual); i++)
                strv_addf(ret, "%s/%s", usual[i], name);
}

static int missing(const char *configured, struct st_error **err) {
        int r = isempty(configured) ? st_error_set(err, ENOPKG, "CRIU is missing")
                                    : st_error_set(err, ENOPKG, "CRIU is missing: there is no %s", configured);
        st_error_hint(err, HINT_INSTALL);
        return r;
}

int criu_find(const char *configured, struct criu_binary **ret, struct st_error **err) {
        _cleanup_error_ struct st_error *first = NULL;
        _cleanup_strv_ struct strv list = { 0 };

        *ret = NULL;
        if (!isempty(configured) && strchr(configured, '/'))
                strv_take(&list, path_absolute(configured));
        else
                candidates(isempty(configured) ? "criu" : configured, &list);

        /* An old one in front must not hide a good one behind it; it is the error when there is none. */
        for (size_t i = 0; i < list.n; i++) {
                _cleanup_error_ struct st_error *error = NULL;
                int r = probe(list.items[i], ret, &error);

                if (r == 0)
                        return 0;
                if (r == -ENOENT)
                        continue;
                if (!error)
                        st_error_errno(&error, r, "%s", list.items[i]);
                if (!first)
                        first = TAKE_PTR(error);
        }
        return first ? st_error_move(err, TAKE_PTR(first)) : missing(configured, err);
}
