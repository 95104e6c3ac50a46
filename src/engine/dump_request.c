/* SPDX-License-Identifier: Apache-2.0 */

/* Adapters of the dump that look at nothing but the request: defaults, validation, where the checkpoint goes. */

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/dump_context.h"
#include "engine/dump_grab.h"
#include "engine/operation.h"
#include "engine/request.h"
#include "engine/settings.h"

/* CRIU's own default, 1 MiB, is less than many an unlinked log. */
#define GHOST_LIMIT_DEFAULT 10000000

static void default_string(char **field, const char *value) {
        if (isempty(*field))
                message_set_string(field, value);
}

/** dump-TYPE-JID-or-PID-TIME */
static char *default_name(const Daemon__DumpReq *req) {
        _cleanup_free_ char *id = request_target_id(req->details);

        return id ? xasprintf("dump-%s-%s-%lld", req->type, id, (long long)time(NULL))
                  : xasprintf("dump-%s-%lld", req->type, (long long)time(NULL));
}

/** In how many streams: as asked, or as configured; 0 means as many as is right, which is one file. */
static int64_t asked_streams(const struct st_dump *dump) {
        return dump->req->has_streams && dump->req->streams != 0
                       ? dump->req->streams
                       : st_arguments_int(st_operation_config(dump->operation), "Checkpoint.Streams");
}

/** CRIU.ManageCgroups as the enum of criu_opts. */
static int default_manage_cgroups(struct st_dump *dump, const char *mode, struct st_error **err) {
        const ProtobufCEnumDescriptor *modes = &criu__criu_cg_mode__descriptor;
        char name[16] = "";

        if (streq(mode, "auto")) /* decided when the target is known: dump_cgroups() */
                return 0;

        for (size_t i = 0; mode[i] && i + 1 < sizeof(name); i++)
                name[i] = (mode[i] >= 'a' && mode[i] <= 'z') ? (char)(mode[i] - 'a' + 'A') : mode[i];

        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value_by_name(modes, name);
        if (!value && streq(name, "NONE"))
                value = protobuf_c_enum_descriptor_get_value_by_name(modes, "CG_NONE");
        if (!value)
                return st_error_set(err, EINVAL, "CRIU.ManageCgroups: unknown mode %s", mode);
        dump->criu->has_manage_cgroups_mode = 1;
        dump->criu->manage_cgroups_mode = (Criu__CriuCgMode)value->value;
        return 0;
}

int dump_defaults(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const struct st_arguments *config = st_operation_config(dump->operation);
        struct dump_context *context = dump_context(dump);
        Criu__CriuOpts *criu = dump->criu;
        int r;

        default_string(&dump->req->dir, st_arguments_string(config, "Checkpoint.Dir"));
        default_string(&dump->req->compression, settings_format(config, asked_streams(dump)));
        default_string(&dump->req->imagecodec, st_arguments_string(config, "Checkpoint.ImageCodec"));
        default_string(&dump->req->capture, st_arguments_string(config, "Checkpoint.Capture"));
        if (isempty(dump->req->name)) {
                free(dump->req->name);
                dump->req->name = default_name(dump->req);
                context->named_by_default = true;
        }

        if (!criu->has_log_level || criu->log_level <= 0) {
                criu->has_log_level = 1;
                criu->log_level = (int32_t)st_arguments_int(config, "CRIU.LogLevel");
        }
        /* A dump never ends what it dumps unless told to: present and false. */
        if (!criu->has_leave_running) {
                criu->has_leave_running = 1;
                criu->leave_running = st_arguments_bool(config, "CRIU.LeaveRunning");
        }
        context->leave_stopped = criu->has_leave_stopped && criu->leave_stopped;
        context->dump.stop = !criu->leave_running && !context->leave_stopped;
        context->ghost_limit_given = criu->has_ghost_limit && criu->ghost_limit != 0;
        if (!context->ghost_limit_given) {
                criu->has_ghost_limit = 1;
                criu->ghost_limit = GHOST_LIMIT_DEFAULT;
        }
        if (!criu->has_ext_masters && !dump_forced_off(dump, "ext_masters")) {
                criu->has_ext_masters = 1;
                criu->ext_masters = 1;
        }
        if (!criu->has_manage_cgroups_mode) {
                r = default_manage_cgroups(dump, st_arguments_string(config, "CRIU.ManageCgroups"), err);
                if (r < 0)
                        return r;
        }
        return st_dump_proceed(next, dump, err);
}

static int choose_streams(struct st_dump *dump, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        int64_t streams = asked_streams(dump);

        if (streams < 0 || streams > IMAGE_STREAMS_MAX)
                return st_error_set(err, EINVAL, "a checkpoint can be in 1 to %d streams, not in %lld",
                                    IMAGE_STREAMS_MAX, (long long)streams);
        context->streams = (unsigned)streams;
        return image_check_streams(context->format, context->streams, err);
}

int dump_validate(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        static const enum st_feature features[] = { ST_FEATURE_dump_command, ST_FEATURE_dump_handler,
                                                    ST_FEATURE_dump_middleware, ST_FEATURE_COUNT };
        struct dump_context *context = dump_context(dump);
        const Daemon__DumpReq *req = dump->req;
        int r;

        r = request_check_type("dump", req->type, features, err);
        if (r >= 0)
                r = request_check_off(req->off, req->n_off, err);
        if (r < 0)
                return r;
        if (req->has_action && req->action != DAEMON__DUMP_ACTION__DUMP)
                return st_error_set(err, EINVAL, "unknown action %d", (int)req->action);
        if (!isempty(req->gpufreezetype))
                return st_error_set(err, EOPNOTSUPP, "GPUFreezeType: GPUs are not supported");
        if (!path_is_name(req->name))
                return st_error_set(err, EINVAL, "bad name '%s' for a checkpoint: it must be a single file name",
                                    req->name);
        r = image_format_from_text(req->compression, &context->format, err);
        if (r >= 0)
                r = native_codec_from_text(req->imagecodec, &context->codec, err);
        if (r >= 0)
                r = dump_grab_from_text(req->capture, &context->grab, err);
        if (r < 0)
                return r;
        r = choose_streams(dump, err);
        if (r < 0)
                return r;
        return st_dump_proceed(next, dump, err);
}

/** Can a file be made in the directory? Asked before anything is frozen: a read-only or full disk shows here. */
static int probe_directory(const char *dir, struct st_error **err) {
        _cleanup_free_ char *path = xasprintf("%s/.stasis-probe-%d", dir, (int)getpid());
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0) {
                int number = errno;
                st_error_errno(err, number, "cannot write to %s", dir);
                st_error_hint(err, number == ENOSPC ? "free space there, or choose another directory with --dir"
                                                    : "choose another directory with --dir");
                return -number;
        }
        (void)unlink(path);
        return 0;
}

/** @return the topmost directory of the path that does not exist yet, malloc'ed; NULL when all exist */
static char *first_missing(const char *dir) {
        char *missing = NULL;
        char *at = xstrdup(dir);

        while (access(at, F_OK) < 0 && errno == ENOENT && !streq(at, "/")) {
                char *parent = path_directory(at);
                free(missing);
                missing = at;
                at = parent;
        }
        free(at);
        return missing;
}

/** Removes directories that we made for a checkpoint that was not to be, as long as they are empty. */
static void remove_made(const char *dir, const char *first_made) {
        char *at = xstrdup(dir);

        while (rmdir(at) == 0 && !streq(at, first_made)) {
                char *parent = path_directory(at);
                free(at);
                at = parent;
        }
        free(at);
}

static int prepare_destination(struct st_dump *dump, const char *dir, struct st_error **err) {
        struct stat st;
        int r;

        /* Where the configuration says it is the machine's; elsewhere it is the user's, as the checkpoint will be. */
        if (streq(dump->req->dir, st_arguments_string(st_operation_config(dump->operation), "Checkpoint.Dir")))
                r = io_make_directories(dir, 0700);
        else
                r = io_make_directories_for(dir, 0700, st_operation_uid(dump->operation),
                                            st_operation_gid(dump->operation));
        if (r < 0)
                return st_error_errno(err, r, "cannot make the directory %s", dir);
        if (lstat(dump->destination, &st) == 0) {
                st_error_set(err, EEXIST, "%s exists already", dump->destination);
                st_error_hint(err, "choose another --name, or remove it");
                return -EEXIST;
        }
        return probe_directory(dir, err);
}

/* More dumps of one process within a second than this are not for anybody to keep apart by name. */
#define DEFAULT_NAMES_MAX 1000

/** Sets the final path; of a default name the first one that is free: NAME, NAME-2, …. */
static int choose_destination(struct st_dump *dump, const char *dir, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        const char *suffix = context->streams > 1 ? "" : image_format_suffix(context->format);
        struct stat st;

        for (unsigned i = 1; i <= DEFAULT_NAMES_MAX; i++) {
                _cleanup_free_ char *name = i == 1 ? xasprintf("%s%s", dump->req->name, suffix)
                                                   : xasprintf("%s-%u%s", dump->req->name, i, suffix);

                if (!path_is_name(name))
                        return st_error_set(err, ENAMETOOLONG, "the name '%s' is too long for a file", name);
                free(dump->destination);
                dump->destination = path_join(dir, name);
                if (!context->named_by_default || lstat(dump->destination, &st) < 0)
                        break;
        }
        context->partial = image_partial_path(dump->destination, operation_id(dump->operation));
        return 0;
}

int dump_storage(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        _cleanup_free_ char *dir = NULL, *made = NULL;
        int r;

        if (strstr(dump->req->dir, "://"))
                return st_error_set(err, EOPNOTSUPP, "no plugin for the storage %s is loaded", dump->req->dir);

        dir = path_absolute(dump->req->dir);
        r = choose_destination(dump, dir, err);
        if (r < 0)
                return r;
        made = first_missing(dir);
        r = prepare_destination(dump, dir, err);
        if (r >= 0)
                r = st_dump_proceed(next, dump, err);
        if (r < 0 && made)
                remove_made(dir, made);
        return r;
}
