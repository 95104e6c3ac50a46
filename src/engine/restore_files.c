/* SPDX-License-Identifier: Apache-2.0 */

/* Files that changed since the checkpoint: RestoreReq.Files says what to do about them. */

#include "engine/restore_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/file_changes.h"
#include "engine/file_rollback.h"
#include "engine/operation.h"
#include "engine/restore_context.h"

/* How many files an error names, and how many lines an answer has of them. */
#define NAMED_MAX 5
#define LINES_MAX 20

/** Bits: what may be done about a file that changed. None: nothing, only checked. */
enum files_mode { FILES_CHECK = 0, FILES_ROLLBACK = 1 << 0, FILES_KEEP = 1 << 1 };

/** What is to become of a changed file. */
enum fate {
        FATE_FAIL,
        FATE_ROLL_BACK,
        FATE_KEEP, /* CRIU is told not to look */
        FATE_TELL, /* CRIU takes it as it is */
};

static int mode_from_text(const char *text, unsigned *ret, struct st_error **err) {
        _cleanup_strv_ struct strv words = { 0 };

        *ret = FILES_CHECK;
        if (isempty(text))
                return 0;
        strv_split(&words, text, ',');
        for (size_t i = 0; i < words.n; i++)
                if (streq(words.items[i], "rollback"))
                        *ret |= FILES_ROLLBACK;
                else if (streq(words.items[i], "keep"))
                        *ret |= FILES_KEEP;
                else if (!streq(words.items[i], "check") || words.n > 1)
                        return st_error_set(err, EINVAL,
                                            "unknown way to treat files '%s': check, rollback, keep or rollback,keep",
                                            text);
        return 0;
}

static enum fate fate_of(const struct file_change *change, unsigned mode) {
        if ((mode & FILES_ROLLBACK) && change->remedy != REMEDY_IMPOSSIBLE)
                return FATE_ROLL_BACK;
        if (change->refused)
                return (mode & FILES_KEEP) && file_change_is_keepable(change) ? FATE_KEEP : FATE_FAIL;
        /*
         * Asked to put all back: one that cannot be is no small matter. But what others write to as well, a log that
         * was inherited, is not the target's alone.
         */
        return mode == FILES_ROLLBACK && !change->shared ? FATE_FAIL : FATE_TELL;
}

/** Is it handed over as a descriptor, instead of being opened? (criu(8), --inherit-fd: the path without its slash) */
static bool is_inherited(const char *path, void *userdata) {
        return restore_is_inherited(userdata, path + 1);
}

static int find(struct st_restore *restore, struct file_changes *changes, struct st_error **err) {
        const struct file_changes_look look = {
                .image = restore_context(restore)->image,
                .operation = restore->operation,
                .ignore_permissions = restore->criu->has_skip_file_rwx_check && restore->criu->skip_file_rwx_check,
                .skip = is_inherited,
                .userdata = restore,
        };

        return file_changes_find(&look, changes, err);
}

/* ---- telling */

static char *describe(const struct file_change *change, unsigned mode, enum fate fate) {
        if ((mode & FILES_ROLLBACK) && change->obstacle)
                return xasprintf("%s: %s%s", change->difference,
                                 fate == FATE_FAIL ? "" : "not put back: ", change->obstacle);
        return xstrdup(change->difference);
}

static const char *hint_of(const struct file_change *change, unsigned mode, enum fate fate) {
        bool can_roll_back = change->remedy != REMEDY_IMPOSSIBLE, can_keep = file_change_is_keepable(change);

        if (fate == FATE_ROLL_BACK)
                return "it will be put back";
        if (fate == FATE_KEEP)
                return "it will be used as it is";
        if (fate == FATE_TELL)
                return can_roll_back ? "--files=rollback puts it back; else it is used as it is"
                                     : "it is used as it is";
        if (can_roll_back && can_keep)
                return "--files=rollback puts it back, --files=keep uses it as it is";
        if (can_roll_back)
                return "--files=rollback puts it back";
        if (can_keep)
                return mode & FILES_ROLLBACK ? "--files=rollback,keep uses what cannot be put back as it is"
                                             : "--files=keep uses it as it is";
        return change->exists ? "it holds code that runs: bring the old file back" : "bring the file back";
}

int restore_files_examine(struct st_restore *restore, struct restore_findings *findings, struct st_error **err) {
        _cleanup_file_changes_ struct file_changes changes = { 0 };
        unsigned mode;
        int r;

        r = mode_from_text(restore->req->files, &mode, err);
        if (r >= 0)
                r = find(restore, &changes, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < changes.n; i++) {
                const struct file_change *change = &changes.items[i];
                enum fate fate = fate_of(change, mode);
                _cleanup_free_ char *text = describe(change, mode, fate);

                restore_findings_add(findings, "files",
                                     fate == FATE_FAIL ? DAEMON__FINDING_LEVEL__PROBLEM
                                                       : DAEMON__FINDING_LEVEL__WARNING,
                                     change->path, text, hint_of(change, mode, fate));
        }
        return 0;
}

void restore_findings_add(struct restore_findings *findings, const char *check, Daemon__FindingLevel level,
                          const char *subject, const char *text, const char *hint) {
        Daemon__Finding *finding = message_new(&daemon__finding__descriptor);

        finding->check = xstrdup(check);
        finding->has_level = 1;
        finding->level = level;
        finding->subject = xstrdup(subject);
        finding->text = xstrdup(text);
        finding->hint = xstrdup(hint);
        GROW(findings->items, findings->n, findings->room);
        findings->items[findings->n++] = finding;
}

void restore_findings_clear(struct restore_findings *findings) {
        for (size_t i = 0; i < findings->n; i++)
                message_freep(&findings->items[i]);
        free(findings->items);
        *findings = (struct restore_findings){ 0 };
}

/** One error of all files that stand in the way. @return 0: there are none */
static int refuse(const struct file_changes *changes, unsigned mode, struct st_error **err) {
        _cleanup_strv_ struct strv texts = { 0 };
        _cleanup_free_ char *all = NULL;
        bool can_roll_back = !(mode & FILES_ROLLBACK), can_keep = !(mode & FILES_KEEP);
        const struct file_change *first = NULL;
        size_t n = 0;

        for (size_t i = 0; i < changes->n; i++) {
                const struct file_change *change = &changes->items[i];
                _cleanup_free_ char *text = NULL;

                if (fate_of(change, mode) != FATE_FAIL)
                        continue;
                first = first ?: change;
                can_roll_back &= change->remedy != REMEDY_IMPOSSIBLE;
                can_keep &= file_change_is_keepable(change);
                text = describe(change, mode, FATE_FAIL);
                if (n++ < NAMED_MAX)
                        strv_addf(&texts, "%s %s", change->path, text);
        }
        if (n == 0)
                return 0;
        if (n > NAMED_MAX)
                strv_addf(&texts, "and %zu more", n - NAMED_MAX);
        all = strv_join(&texts, ", ");
        if (n == 1)
                st_error_set(err, EBUSY, "%s", all);
        else
                st_error_set(err, EBUSY, "%zu files are not as they were: %s", n, all);
        if (n == 1)
                st_error_hint(err, "%s", hint_of(first, mode, FATE_FAIL));
        else if (can_roll_back || can_keep)
                st_error_hint(err, "%s%s%s", can_roll_back ? "--files=rollback puts them back" : "",
                              can_roll_back && can_keep ? ", " : "",
                              !can_keep               ? ""
                              : mode & FILES_ROLLBACK ? "--files=rollback,keep uses what cannot be put back as it is"
                                                      : "--files=keep uses them as they are");
        else
                st_error_hint(err, "'stasis restore --check' says for each what can be done");
        return -EBUSY;
}

struct lines {
        struct st_restore *restore;
        size_t n;
};

static void say(const char *line, void *userdata) {
        struct lines *lines = userdata;

        if (lines->n++ < LINES_MAX)
                st_restore_message(lines->restore, "%s", line);
}

static void say_end(const struct lines *lines) {
        if (lines->n > LINES_MAX)
                st_restore_message(lines->restore, "and %zu more files", lines->n - LINES_MAX);
}

/** Files that are used as they are. */
static void tell_used(struct lines *lines, const struct file_changes *changes, unsigned mode) {
        for (size_t i = 0; i < changes->n; i++) {
                const struct file_change *change = &changes->items[i];
                enum fate fate = fate_of(change, mode);
                _cleanup_free_ char *text = NULL, *line = NULL;

                if (fate != FATE_KEEP && fate != FATE_TELL)
                        continue;
                text = describe(change, mode, fate);
                line = xasprintf("%s %s: it is used as it is%s", change->path, text,
                                 !change->exists                             ? ""
                                 : change->now.size < change->open->position ? ", shorter than where the process is"
                                 : change->now.size < change->open->map_end && change->now.size < change->open->size
                                         ? ", shorter than what is mapped"
                                 : change->only_grew && fate == FATE_TELL
                                         ? " (what it wrote since would come twice: --files=rollback cuts it)"
                                         : "");
                say(line, lines);
        }
}

/* ---- doing */

struct acceptance {
        const struct file_changes *changes;
        unsigned mode;
};

static bool is_kept(const char *path, void *userdata) {
        const struct acceptance *acceptance = userdata;

        for (size_t i = 0; i < acceptance->changes->n; i++) {
                const struct file_change *change = &acceptance->changes->items[i];

                if (streq(change->path, path))
                        return fate_of(change, acceptance->mode) == FATE_KEEP;
        }
        return false;
}

/** Has CRIU take files as they are: it gets a files.img without their sizes and modes. */
static int keep(struct st_restore *restore, const struct file_changes *changes, unsigned mode, struct st_error **err) {
        struct acceptance acceptance = { changes, mode };
        struct image *image = restore_context(restore)->image;
        _cleanup_free_ char *data = NULL;
        void *relaxed = NULL;
        size_t size, relaxed_size;
        bool any = false;
        int r;

        for (size_t i = 0; i < changes->n; i++)
                any |= fate_of(&changes->items[i], mode) == FATE_KEEP;
        if (!any)
                return 0;
        r = image_read(image, "files.img", &data, &size, err);
        if (r >= 0)
                r = open_files_relax(data, size, is_kept, &acceptance, &relaxed, &relaxed_size, err);
        return r < 0 ? r : image_override(image, "files.img", relaxed, relaxed_size, err);
}

/** Goes on; when that fails, all is put back. */
static int proceed_or_undo(struct st_restore *restore, struct st_restore_next *next, struct file_rollback *rollback,
                           struct st_error **err) {
        struct st_error *error = NULL;
        int r;

        r = st_restore_proceed(next, restore, err);
        if (r < 0 && rollback && file_rollback_undo(rollback, &error) < 0)
                st_error_wrap(err, "%s", st_error_message(error));
        st_error_free(error);
        return r;
}

static int roll_back(struct st_restore *restore, struct st_restore_next *next, const struct file_changes *changes,
                     struct st_error **err) {
        _cleanup_(file_rollback_freep) struct file_rollback *rollback = NULL;
        struct lines lines = { restore, 0 };
        int r;

        r = file_rollback_prepare(restore_context(restore)->image, changes, st_operation_by_policy(restore->operation),
                                  &rollback, err);
        if (r >= 0)
                r = st_operation_check_cancelled(restore->operation, err);
        if (r >= 0)
                r = file_rollback_apply(rollback, err);
        if (r < 0)
                return st_error_wrap(err, "cannot roll back the files");
        file_rollback_describe(rollback, say, &lines);
        say_end(&lines);
        r = proceed_or_undo(restore, next, rollback, err);
        if (r >= 0 && st_operation_by_policy(restore->operation)) {
                size_t removed = file_rollback_remove_older(rollback);

                if (removed > 0)
                        st_log_debug("removed %zu files that earlier restores by the policy had kept", removed);
        }
        return r;
}

int restore_files(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        _cleanup_file_changes_ struct file_changes changes = { 0 };
        struct lines lines = { restore, 0 };
        unsigned mode;
        int r;

        r = mode_from_text(restore->req->files, &mode, err);
        if (r >= 0)
                r = find(restore, &changes, err);
        if (r >= 0)
                r = refuse(&changes, mode, err);
        if (r >= 0)
                r = keep(restore, &changes, mode, err);
        if (r < 0)
                return r;
        if ((mode & FILES_ROLLBACK) && changes.open.elsewhere > 0)
                st_restore_message(restore,
                                   "%zu open files in mount namespaces of the target's own are not rolled back",
                                   changes.open.elsewhere);
        tell_used(&lines, &changes, mode);
        say_end(&lines);
        return mode & FILES_ROLLBACK ? roll_back(restore, next, &changes, err) : st_restore_proceed(next, restore, err);
}
