/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A container of runc: the input is its state.json, a NUL, its config.json, a NUL, and what runc has said. What is kept
 * of it for a restore can be read again.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/messages.h"

#include "../../plugins/runc/runc_restore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const struct runc_engine runc_engine = {
        .name = "runc",
        .root = "/run/runc",
        .criu_config = "",
        .has_state_file = true,
        .version = { 1, 1 },
};

static char root[] = "/tmp/stasis-fuzz-runc.XXXXXX";

static void remove_root(void) {
        _cleanup_free_ char *state = util_printf("%s/c/state.json", root), *container = util_printf("%s/c", root);

        (void)unlink(state);
        (void)rmdir(container);
        (void)rmdir(root);
}

/* Stays in the working directory: libFuzzer's corpora may be relative to it. */
static void make_root(void) {
        if (strstr(root, "XXXXXX") == NULL)
                return;
        if (!mkdtemp(root) || atexit(remove_root) != 0)
                abort();
        _cleanup_free_ char *container = util_printf("%s/c", root);
        if (mkdir(container, 0700) < 0)
                abort();
}

static void read_state(const char *text, size_t size) {
        _cleanup_container_ struct runc_container container = { 0 };
        _cleanup_free_ char *path = util_printf("%s/c/state.json", root), *saved = NULL;
        struct st_error *error = NULL;

        (void)unlink(path);
        if (util_write_new(path, text, size) < 0)
                abort();
        int r = runc_container_load(root, "c", &container, &error);
        if ((r < 0) != (error != NULL) || (r == 0 && (!container.bundle || container.pid < 0)))
                abort();
        st_error_free(error);
        if (r < 0)
                return;
        saved = runc_state_save(&container);
        _cleanup_json_ json_t *again = saved ? json_loads(saved, 0, NULL) : NULL;
        if (!again || strcmp(util_json_text(again, "bundle", NULL) ?: "", container.bundle) != 0)
                abort();
}

/* Only what needs no mount(2), and no symbolic link in the place of an odd name. */
static bool all_on_host(const json_t *mounts) {
        json_t *mount;
        size_t i;

        json_array_foreach((json_t *)mounts, i, mount) {
                const char *host = util_json_text(mount, "host", NULL);

                if (!host || strchr(host, '\\'))
                        return false;
        }
        return true;
}

static void read_config(const char *text, size_t size) {
        struct runc_container container = { .pid = getpid(), .config = json_loadb(text, size, 0, NULL) };
        Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);
        struct st_dump dump = { .size = sizeof(dump), .resp = resp };
        _cleanup_list_ struct util_list lines = { 0 }, back = { 0 }, made = { 0 };
        _cleanup_json_ json_t *list = NULL;
        struct st_error *error = NULL;
        const char *path;
        json_t *mount;
        size_t i;

        (void)runc_has_namespace(container.config, "network", &path);
        json_array_foreach(json_object_get(container.config, "mounts"), i, mount)(void) runc_is_bind_mount(mount);
        int r = runc_mounts_find(&dump, &container, &lines, &list, &error);
        if ((r < 0) != (error != NULL) || (r == 0 && json_array_size(list) != lines.n))
                abort();
        error = st_error_free(error);
        for (i = 0; i < lines.n; i++)
                if (strchr(lines.items[i], '\n'))
                        abort();
        if (r == 0 && all_on_host(list) && runc_mounts_supply(NULL, list, &back, &made, NULL) == 0 && back.n != lines.n)
                abort();
        /* As a checkpoint of somebody else may have it. */
        mount = json_object_get(container.config, "mounts");
        if (all_on_host(mount)) {
                r = runc_mounts_supply(NULL, mount, &back, &made, &error);
                if ((r < 0) != (error != NULL) || made.n > 0)
                        abort();
                st_error_free(error);
        }
        message_freep(&resp);
        json_decref(container.config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *text = (const char *)data, *end = text + size;

        make_root();
        for (int part = 0; part < 3; part++) {
                const char *zero = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;
                size_t n = (size_t)((zero ? zero : end) - text);

                if (part == 0)
                        read_state(text, n);
                else if (part == 1)
                        read_config(text, n);
                else {
                        _cleanup_free_ char *output = util_printf("%.*s", (int)n, n > 0 ? text : "");
                        free(runc_last_error(output));
                }
                text += n + (zero != NULL);
        }
        return 0;
}
