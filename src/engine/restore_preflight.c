/* SPDX-License-Identifier: Apache-2.0 */

/* Can a checkpoint be restored here? Looked at before anything is started. */

#include <errno.h>
#include <stdarg.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "engine/preflight_restore.h"

#define PROBLEMS_SHOWN 5

/* In the order of the table that `restore --check` prints. */
static const struct check {
        const char *name;
        preflight_fn run;
        bool always;      /* cheap and certain: at every restore. The others only with --check */
        bool needs_image; /* CRIU's images */
} checks[] = {
        { "image", preflight_image, false, false },
        { "machine", preflight_machine, false, true },
        { "CRIU", preflight_criu, false, false },
        { "PIDs", preflight_pids, true, false },
        { "terminals", preflight_terminals, false, false },
        { "files", preflight_files, false, false }, /* at every restore by the adapter "files" */
        { "executables", preflight_executables, false, true },
        { "directories", preflight_directories, false, true },
        { "mounts", preflight_mounts, false, false },
        { "file locks", preflight_locks, true, false },
        { "addresses", preflight_addresses, false, true },
        { "UNIX sockets", preflight_unix, false, true },
        { "memory", preflight_memory, false, false },
        { "reading", preflight_reading, false, false }, /* at every restore by the adapter "memory" */
        { "limits", preflight_limits, false, true },
        { "security", preflight_security, false, true },
};

static void preflight_clear(struct preflight *preflight) {
        inspect_images_free(preflight->images);
        restore_findings_clear(&preflight->findings);
        free(preflight->summary);
}

void preflight_find(struct preflight *preflight, Daemon__FindingLevel level, int number, const char *subject,
                    const char *hint, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = xvasprintf(format, ap);
        va_end(ap);
        restore_findings_add(&preflight->findings, preflight->check, level, subject, text, hint);
        if (level == DAEMON__FINDING_LEVEL__PROBLEM && preflight->number == 0)
                preflight->number = number;
}

void preflight_summary(struct preflight *preflight, const char *format, ...) {
        va_list ap;

        free(preflight->summary);
        va_start(ap, format);
        preflight->summary = xvasprintf(format, ap);
        va_end(ap);
}

/** What CRIU's images are needed for. Pages are not: this is small, except for very large trees. */
static void load_images(struct preflight *preflight) {
        static const char *const kinds[] = { "inventory", "pstree",      "core",      "mm",          "fs",
                                             "files",     "remap-fpath", "netns",     "mountpoints", "userns",
                                             "ids",       "fdinfo",      "filelocks", NULL };
        _cleanup_error_ struct st_error *error = NULL;
        struct image *image = restore_context(preflight->restore)->image;

        if (inspect_images_load(image, kinds, &preflight->images, &error) >= 0)
                return;
        preflight->check = "image";
        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, -st_error_number(error), NULL, NULL, "%s",
                       st_error_message(error));
}

/** Runs one check; a check that finds nothing is a finding too: OK. */
static int run_check(struct preflight *preflight, const struct check *check, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        size_t before = preflight->findings.n;
        int r;

        preflight->check = check->name;
        r = check->run(preflight, &error);
        if (r == -ECANCELED || r == -ETIMEDOUT)
                return st_error_move(err, TAKE_PTR(error));
        if (r < 0)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, -r, NULL, NULL, "%s",
                               st_error_message(error));
        if (preflight->findings.n == before)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__OK, 0, NULL, NULL, "%s",
                               preflight->summary ?: "nothing in the way");
        free(TAKE_PTR(preflight->summary));
        return 0;
}

/** All checks: the findings are the answer. Nothing is started, whatever they are. */
static int check_all(struct preflight *preflight, struct st_error **err) {
        Daemon__RestoreResp *resp = preflight->restore->resp;

        load_images(preflight);
        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                int r = st_operation_check_cancelled(preflight->restore->operation, err);

                if (r >= 0 && (preflight->images || !checks[i].needs_image))
                        r = run_check(preflight, &checks[i], err);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < preflight->findings.n; i++)
                message_append(&resp->n_findings, &resp->findings, TAKE_PTR(preflight->findings.items[i]));
        preflight->findings.n = 0;
        return 0;
}

/** One error that names the first few problems. */
static int problems_error(const struct preflight *preflight, struct st_error **err) {
        _cleanup_strv_ struct strv texts = { 0 };
        _cleanup_free_ char *text = NULL;
        const char *hint = NULL;
        size_t problems = 0;

        for (size_t i = 0; i < preflight->findings.n; i++) {
                const Daemon__Finding *finding = preflight->findings.items[i];

                if (finding->level != DAEMON__FINDING_LEVEL__PROBLEM)
                        continue;
                if (problems++ < PROBLEMS_SHOWN)
                        strv_add(&texts, finding->text);
                hint = hint ?: finding->hint;
        }
        if (problems > PROBLEMS_SHOWN)
                strv_addf(&texts, "and %zu more", problems - PROBLEMS_SHOWN);
        text = strv_join(&texts, "; ");
        st_error_set(err, preflight->number, "%s", text);
        if (hint)
                st_error_hint(err, "%s", hint);
        return -preflight->number;
}

/** The checks that run at every restore. */
static int check_some(struct preflight *preflight, struct st_error **err) {
        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                int r = 0;

                if (checks[i].always)
                        r = run_check(preflight, &checks[i], err);
                if (r < 0)
                        return r;
        }
        return preflight->number == 0 ? 0 : problems_error(preflight, err);
}

int restore_preflight(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        __attribute__((cleanup(preflight_clear))) struct preflight preflight = {
                .restore = restore,
                .saved = restore_context(restore)->saved,
        };
        int r;

        if (restore->req->has_check && restore->req->check)
                return check_all(&preflight, err);
        r = check_some(&preflight, err);
        return r < 0 ? r : st_restore_proceed(next, restore, err);
}
