/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin with targets of its own, files: `freeze freezer FILE` makes the file, `unfreeze freezer FILE` removes it. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stasis/plugin.h>

static int fill(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);

        if (!words[0] || words[1])
                return st_error_set(err, EINVAL, "one file must be named");
        req->details->jid = strdup(words[0]);
        return req->details->jid ? 0 : st_error_set(err, ENOMEM, "no memory");
}

static int freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err) {
        int fd = open(req->details->jid, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        (void)operation;
        (void)resp;
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make %s", req->details->jid);
        close(fd);
        return 0;
}

static int unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err) {
        (void)operation;
        (void)resp;
        return unlink(req->details->jid) < 0 ? st_error_errno(err, errno, "cannot remove %s", req->details->jid) : 0;
}

static const struct st_dump_command freeze_command = {
        .command = { "freezer", "FILE", "Make a file", "freeze freezer /tmp/file", NULL },
        .fill = fill,
};

static const struct st_dump_command unfreeze_command = {
        .command = { "freezer", "FILE", "Remove a file", "unfreeze freezer /tmp/file", NULL },
        .fill = fill,
};

static const struct st_freezer freeze_handler = { freeze };
static const struct st_freezer unfreeze_handler = { unfreeze };

static const struct st_features features = {
        .size = sizeof(struct st_features),
        ST_FEATURE(freeze_command, freeze_command),
        ST_FEATURE(unfreeze_command, unfreeze_command),
        ST_FEATURE(freeze_handler, freeze_handler),
        ST_FEATURE(unfreeze_handler, unfreeze_handler),
};

ST_PLUGIN("freezer", "1.0", features, NULL, NULL);
