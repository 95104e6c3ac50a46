/* SPDX-License-Identifier: Apache-2.0 */

/* Options of CRIU: flags of the program where it has them, a configuration file of CRIU's otherwise. */

#include <stasis/checkpoint.h>

#include "runc.h"

#define CONFIG_MAX ((size_t)1 << 20)

void runc_add_flags(struct util_list *argv, const Criu__CriuOpts *criu, const Criu__CriuOpts *given) {
        static const char *const modes[] = {
                [CRIU__CRIU_CG_MODE__SOFT] = "soft",
                [CRIU__CRIU_CG_MODE__FULL] = "full",
                [CRIU__CRIU_CG_MODE__STRICT] = "strict",
        };

        if (criu->has_tcp_established && criu->tcp_established)
                util_list_add(argv, "--tcp-established");
        if (criu->has_ext_unix_sk && criu->ext_unix_sk)
                util_list_add(argv, "--ext-unix-sk");
        if (criu->has_shell_job && criu->shell_job)
                util_list_add(argv, "--shell-job");
        if (criu->has_file_locks && criu->file_locks)
                util_list_add(argv, "--file-locks");
        if (given->has_manage_cgroups_mode && given->manage_cgroups_mode >= 0 &&
            (size_t)given->manage_cgroups_mode < ELEMENTSOF(modes) && modes[given->manage_cgroups_mode])
                util_list_addf(argv, "--manage-cgroups-mode=%s", modes[given->manage_cgroups_mode]);
}

/** What runc_add_flags() has said already; then nothing else may be left of it. */
static void clear_flags(Criu__CriuOpts *criu) {
        criu->has_tcp_established = criu->has_ext_unix_sk = criu->has_shell_job = criu->has_file_locks = 0;
        criu->has_manage_cgroups_mode = 0;
        criu->has_leave_running = criu->has_log_level = 0;
}

int runc_check_options(const Criu__CriuOpts *given, bool restore, struct st_error **err) {
        Criu__CriuOpts rest = *given; /* only numbers are changed in it: its texts stay those of `given` */
        _cleanup_free_ char *text = NULL;
        int r;

        clear_flags(&rest);
        r = st_criu_config(&rest, restore, &text, err);
        if (r < 0)
                return r;
        if (runc_engine.has_state_file || isempty(text))
                return 0;
        text[strcspn(text, "\n")] = '\0';
        st_error_set(err, EINVAL, "%s cannot be told the option '%s' of CRIU", runc_engine.name, text);
        st_error_hint(err, "put it in %s: it is read at every dump and restore", runc_engine.criu_config);
        return -EINVAL;
}

int runc_write_criu_config(const char *path, const char *first, const char *configured, const char *last,
                           struct st_error **err) {
        const char *file = configured ?: runc_engine.criu_config;
        _cleanup_free_ char *theirs = NULL, *text = NULL;
        int r = isempty(file) ? -ENOENT : util_read_file(file, CONFIG_MAX, &theirs, NULL);

        if (r < 0 && r != -ENOENT)
                return st_error_errno(err, r, "cannot read CRIU's configuration file %s", file);
        text = util_printf("%s%s\n%s", first, theirs ?: "", last);
        r = util_write_new(path, text, strlen(text));
        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}
