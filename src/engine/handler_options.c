/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/handler_options.h"

#include <errno.h>

#include <stasis/features.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "criu/options.h"
#include "engine/chain.h"

/* In a list of a plugin: it looks at CRIU's options itself. */
#define ANY_OF_CRIU "criu"

static const char *text_of(const char *text) {
        return isempty(text) ? NULL : text;
}

static const char *dump_files_option(const void *req) {
        return text_of(((const Daemon__DumpReq *)req)->files);
}

static const char *restore_files_option(const void *req) {
        return text_of(((const Daemon__RestoreReq *)req)->files);
}

static const char *restore_out_option(const void *req) {
        return text_of(((const Daemon__RestoreReq *)req)->log);
}

static const char *restore_attach_option(const void *req) {
        const Daemon__RestoreReq *restore = req;

        return restore->has_attachable && restore->attachable ? "" : NULL;
}

/* What nobody but the handler can do. The flag's name, and its value in a request; NULL: it is not asked for. */
struct handled {
        const char *name;
        const char *(*value)(const void *req);
};

static const struct handled dump_options[] = {
        { "files", dump_files_option },
        { NULL, NULL },
};

static const struct handled restore_options[] = {
        { "files", restore_files_option },
        { "out", restore_out_option },
        { "attach", restore_attach_option },
        { NULL, NULL },
};

static bool is_listed(const char *const *list, const char *name, const char *value) {
        _cleanup_free_ char *both = xasprintf("%s=%s", name, value);

        for (; list && *list; list++)
                if (streq(*list, name) || streq(*list, both))
                        return true;
        return false;
}

/* One operation on its way, as refuse() wants it. */
struct asked {
        const char *type;
        const struct handled *rows;
        const void *req;
        const Criu__CriuOpts *given;
        enum criu_operation operation;
};

static int refuse(const struct asked *asked, const struct st_handler_options *options, struct st_error **err) {
        const char *const *list = asked->operation == CRIU_DUMP ? options->dump : options->restore;
        _cleanup_strv_ struct strv refused = { 0 }, fields = { 0 };
        _cleanup_free_ char *text = NULL;

        for (const struct handled *row = asked->rows; row->name; row++) {
                const char *value = row->value(asked->req);

                if (value && !is_listed(list, row->name, value))
                        strv_addf(&refused, "--%s%s%s", row->name, *value ? "=" : "", value);
        }
        if (!is_listed(list, ANY_OF_CRIU, ""))
                criu_options_list(asked->given, asked->operation, &fields);
        for (size_t i = 0; i < fields.n; i++)
                if (!is_listed(list, fields.items[i], ""))
                        strv_addf(&refused, "CRIU's option %s", fields.items[i]);
        if (refused.n == 0)
                return 0;
        text = strv_join(&refused, ", ");
        st_error_set(err, EOPNOTSUPP, "not possible for type %s: %s", asked->type, text);
        st_error_hint(err, "%s", options->hint ?: "leave it out");
        return -EOPNOTSUPP;
}

static int check(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        (void)plugin;
        return refuse(userdata, value, err);
}

/* A plugin without the feature is from before it, and looks at all by itself. */
static int check_plugin(struct asked *asked, struct st_error **err) {
        const char *const only[] = { asked->type, NULL };

        if (!chain_has_feature(ST_FEATURE_handler_options, asked->type))
                return 0;
        return st_feature_if_available(ST_FEATURE_handler_options, check, asked, only, err);
}

int dump_handler_options(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct asked asked = { dump->req->type, dump_options, dump->req, dump->given, CRIU_DUMP };
        int r = check_plugin(&asked, err);

        return r < 0 ? r : st_dump_proceed(next, dump, err);
}

int restore_handler_options(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct asked asked = { restore->req->type, restore_options, restore->req, restore->given, CRIU_RESTORE };
        int r = check_plugin(&asked, err);

        return r < 0 ? r : st_restore_proceed(next, restore, err);
}
