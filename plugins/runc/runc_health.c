/* SPDX-License-Identifier: Apache-2.0 */

/* Is the program there, new enough, and can it checkpoint? */

#include <stdio.h>

#include <stasis/child.h>

#include "runc.h"

#define TIMEOUT_MS 1500

/** What `PROGRAM --version` says; malloc'ed. @return 0 or -errno with err */
static int ask_version(char **ret, struct st_error **err) {
        char *const argv[] = { (char *)runc_engine.name, (char *)"--version", NULL };
        const struct st_child child = { .size = sizeof(child), .path = runc_engine.name, .argv = argv };
        _cleanup_free_ char *said = NULL;
        int code = st_child_run(&child, TIMEOUT_MS, -EBADF, ret, err);

        if (code < 0)
                st_error_hint(err, "install %s, or put it in the PATH", runc_engine.name);
        if (code <= 0)
                return code;
        said = *ret ? runc_last_error(*ret) : NULL;
        return st_error_set(err, EIO, "%s --version ended with exit code %d%s%s", runc_engine.name, code,
                            said ? ": " : "", said ?: "");
}

/** runc always can, if there is a CRIU; crun only when it was built so: it lists "+CRIU". */
static bool has_criu(const char *version) {
        return runc_engine.has_state_file || strstr(version, "+CRIU");
}

int runc_check_criu(struct st_error **err) {
        _cleanup_free_ char *version = NULL;
        int r = runc_engine.has_state_file ? 0 : ask_version(&version, err);

        if (r < 0 || runc_engine.has_state_file || has_criu(version))
                return r;
        st_error_set(err, EOPNOTSUPP, "this %s was built without CRIU: '%s --version' does not list +CRIU",
                     runc_engine.name, runc_engine.name);
        st_error_hint(err, "install one that has it, or run the container by runc");
        return -EOPNOTSUPP;
}

int runc_check_program(struct st_operation *operation, bool full, Daemon__HealthCheckResult *result,
                       struct st_error **err) {
        _cleanup_free_ char *text = NULL, *number = NULL, *warning = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        int major = 0, minor = 0;
        const char *at;

        (void)operation;
        (void)full;
        (void)err;
        if (ask_version(&text, &error) < 0) {
                /* The plugin is there for all who may have it; the program is not everybody's. */
                st_health_add(result, "version", NULL, NULL, st_error_message(error));
                return 0;
        }
        at = strstr(text, "version ");
        number = util_printf("%.*s", at ? (int)strcspn(at + 8, " \n") : 0, at ? at + 8 : "");
        if (sscanf(number, "%d.%d", &major, &minor) != 2 || major < runc_engine.version[0] ||
            (major == runc_engine.version[0] && minor < runc_engine.version[1]))
                warning = util_printf("%d.%d or newer is needed", runc_engine.version[0], runc_engine.version[1]);
        st_health_add(result, "version", number, NULL, warning);
        st_health_add(result, "checkpoints", has_criu(text) ? "by CRIU" : NULL, NULL,
                      has_criu(text) ? NULL : "built without CRIU: its containers cannot be dumped or restored");
        return 0;
}
