/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a field means in CRIU's RPC (setup_opts_from_req() in criu/cr-service.c of CRIU 4.2.1) and which flag does the
 * same (parse_options() in criu/config.c).
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <sched.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "criu/options_table.h"

#define BOTH (CRIU_DUMP | CRIU_RESTORE)

/* The capabilities of cpu_cap: CPU_CAP_* in criu/include/cr_options.h. */
enum { CPU_FPU = 1, CPU_CPU = 2, CPU_INS = 4, CPU_IMAGE = 8, CPU_ALL = CPU_FPU | CPU_CPU | CPU_INS };

static int emit_cpu_cap(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                        struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        if (!options->has_cpu_cap)
                return 0;

        uint32_t cap = options->cpu_cap & ~(uint32_t)CPU_IMAGE;

        /* Words add to CRIU's default: begin with none. */
        if (cap == 0)
                strv_addf(argv, "%s=none", row->flag);
        else if ((cap & CPU_ALL) == CPU_ALL)
                strv_addf(argv, "%s=all", row->flag);
        else
                strv_addf(argv, "%s=none%s%s%s", row->flag, cap & CPU_CPU ? ",cpu" : "", cap & CPU_FPU ? ",fpu" : "",
                          cap & CPU_INS ? ",ins" : "");
        return 0;
}

static int emit_cgroups_mode(const struct criu_option *row, const Criu__CriuOpts *options,
                             enum criu_operation operation, struct strv *argv, struct st_error **err) {
        static const char *const words[] = {
                [CRIU__CRIU_CG_MODE__IGNORE] = "ignore", [CRIU__CRIU_CG_MODE__CG_NONE] = "none",
                [CRIU__CRIU_CG_MODE__PROPS] = "props",   [CRIU__CRIU_CG_MODE__SOFT] = "soft",
                [CRIU__CRIU_CG_MODE__FULL] = "full",     [CRIU__CRIU_CG_MODE__STRICT] = "strict",
        };
        int mode = (int)options->manage_cgroups_mode;

        (void)operation;
        if (!options->has_manage_cgroups_mode || mode == CRIU__CRIU_CG_MODE__DEFAULT)
                return 0;
        if (mode < 0 || (size_t)mode >= ELEMENTSOF(words))
                return st_error_set(err, EINVAL, "CRIU option %s: unknown mode %d", row->field, mode);
        strv_addf(argv, "%s=%s", row->flag, words[mode]);
        return 0;
}

/* The old boolean; the mode wins, as in CRIU. */
static int emit_cgroups(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                        struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        if (options->manage_cgroups && !options->has_manage_cgroups_mode)
                strv_addf(argv, "%s=soft", row->flag);
        return 0;
}

static int emit_cgroup_roots(const struct criu_option *row, const Criu__CriuOpts *options,
                             enum criu_operation operation, struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        for (size_t i = 0; i < options->n_cg_root; i++) {
                const Criu__CgroupRoot *root = options->cg_root[i];

                strv_addf(argv, "%s=%s%s%s", row->flag, root->ctrl ? root->ctrl : "", root->ctrl ? ":" : "",
                          root->path);
        }
        return 0;
}

static int emit_inherited(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                          struct strv *argv, struct st_error **err) {
        (void)operation;
        for (size_t i = 0; i < options->n_inherit_fd; i++) {
                const Criu__InheritFd *inherited = options->inherit_fd[i];

                if (inherited->fd < 0 || isempty(inherited->key))
                        return st_error_set(err, EINVAL, "CRIU option %s: needs a key and a descriptor", row->field);
                strv_addf(argv, "%s=fd[%d]:%s", row->flag, inherited->fd, inherited->key);
        }
        return 0;
}

static int emit_veths(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                      struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        for (size_t i = 0; i < options->n_veths; i++)
                strv_addf(argv, "%s=veth[%s]:%s", row->flag, options->veths[i]->if_in, options->veths[i]->if_out);
        return 0;
}

static int emit_mounts(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                       struct strv *argv, struct st_error **err) {
        (void)operation;
        for (size_t i = 0; i < options->n_ext_mnt; i++) {
                const Criu__ExtMountMap *map = options->ext_mnt[i];

                /* mnt[] would mean "all of them". */
                if (isempty(map->key))
                        return st_error_set(err, EINVAL, "CRIU option %s: needs a key", row->field);
                strv_addf(argv, "%s=mnt[%s]:%s", row->flag, map->key, map->val);
        }
        return 0;
}

static int emit_auto_mounts(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                            struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        if (options->auto_ext_mnt)
                strv_addf(argv, "%s=mnt[]", row->flag);
        return 0;
}

static int emit_unix_sockets(const struct criu_option *row, const Criu__CriuOpts *options,
                             enum criu_operation operation, struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        for (size_t i = 0; i < options->n_unix_sk_ino; i++)
                strv_addf(argv, "%s=unix[%u]", row->flag, options->unix_sk_ino[i]->inode);
        return 0;
}

static int emit_namespaces(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                           struct strv *argv, struct st_error **err) {
        (void)operation;
        (void)err;
        for (size_t i = 0; i < options->n_join_ns; i++) {
                const Criu__JoinNamespace *ns = options->join_ns[i];

                strv_addf(argv, "%s=%s:%s%s%s", row->flag, ns->ns, ns->ns_file, isempty(ns->extra_opt) ? "" : ",",
                          isempty(ns->extra_opt) ? "" : ns->extra_opt);
        }
        return 0;
}

static int emit_empty_ns(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                         struct strv *argv, struct st_error **err) {
        (void)operation;
        if (options->empty_ns & ~(uint32_t)CLONE_NEWNET)
                return st_error_set(err, EINVAL, "CRIU option %s: only the network namespace (%#x) can be empty",
                                    row->field, CLONE_NEWNET);
        if (options->empty_ns)
                strv_addf(argv, "%s=net", row->flag);
        return 0;
}

static int emit_network_lock(const struct criu_option *row, const Criu__CriuOpts *options,
                             enum criu_operation operation, struct strv *argv, struct st_error **err) {
        static const char *const words[] = {
                [CRIU__CRIU_NETWORK_LOCK_METHOD__IPTABLES] = "iptables",
                [CRIU__CRIU_NETWORK_LOCK_METHOD__NFTABLES] = "nftables",
                /* Not in --help of 4.2.1, but taken. */
                [CRIU__CRIU_NETWORK_LOCK_METHOD__SKIP] = "skip",
        };
        int method = (int)options->network_lock;

        (void)operation;
        if (!options->has_network_lock)
                return 0;
        if (method < 0 || (size_t)method >= ELEMENTSOF(words) || !words[method])
                return st_error_set(err, EINVAL, "CRIU option %s: unknown method %d", row->field, method);
        strv_addf(argv, "%s=%s", row->flag, words[method]);
        return 0;
}

static int emit_lazy_pages(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                           struct strv *argv, struct st_error **err) {
        if (!options->lazy_pages)
                return 0;
        /* A dump would stay there as a page server, its target frozen. */
        if (operation != CRIU_RESTORE)
                return st_error_set(err, EINVAL, "CRIU option %s: is an option of a restore", row->field);
        strv_add(argv, row->flag);
        return 0;
}

static int emit_config_file(const struct criu_option *row, const Criu__CriuOpts *options, enum criu_operation operation,
                            struct strv *argv, struct st_error **err) {
        (void)operation;
        if (isempty(options->config_file))
                return 0;
        /* CRIU takes no notice of a file that it cannot open. */
        if (access(options->config_file, R_OK) < 0)
                return st_error_errno(err, errno, "CRIU option %s: %s", row->field, options->config_file);
        strv_addf(argv, "%s=%s", row->flag, options->config_file);
        return 0;
}

#define ROW(name, option, type, valid_for, ...) \
        { .field = (name), .flag = (option), .kind = (type), .operations = (valid_for), __VA_ARGS__ }

static const struct criu_option rows[] = {
        /* field, flag, kind, operations */
        ROW("images_dir_fd", "-D", CRIU_LEFT_OUT, BOTH),
        ROW("images_dir", "-D", CRIU_LEFT_OUT, BOTH),
        ROW("pid", "-t", CRIU_LEFT_OUT, BOTH),
        ROW("leave_running", "-R", CRIU_LEFT_OUT, BOTH),
        ROW("ext_unix_sk", "--ext-unix-sk", CRIU_FLAG, BOTH),
        ROW("tcp_established", "--tcp-established", CRIU_FLAG, BOTH),
        ROW("evasive_devices", "--evasive-devices", CRIU_FLAG, BOTH),
        ROW("shell_job", "--shell-job", CRIU_FLAG, BOTH),
        ROW("file_locks", "--file-locks", CRIU_FLAG, BOTH),
        ROW("log_level", "-v", CRIU_LEFT_OUT, BOTH), /* given by criu_start() */
        ROW("log_file", "-o", CRIU_LEFT_OUT, BOTH),
        ROW("ps", "--page-server", CRIU_REFUSED, BOTH, .why = "cannot be used: images are streamed to stasis"),
        ROW("notify_scripts", NULL, CRIU_LEFT_OUT, BOTH),
        ROW("root", "--root", CRIU_TEXT, BOTH),
        ROW("parent_img", "--prev-images-dir", CRIU_REFUSED, CRIU_DUMP,
            .why = "cannot be used: a parent is named by --parent, and its pages are kept by stasis"),
        ROW("track_mem", "--track-mem", CRIU_FLAG, CRIU_DUMP),
        ROW("auto_dedup", "--auto-dedup", CRIU_REFUSED, BOTH,
            .why = "cannot be used: a failed dump would destroy the pages of its parent"),
        ROW("work_dir_fd", "-W", CRIU_LEFT_OUT, BOTH),
        ROW("link_remap", "--link-remap", CRIU_FLAG, BOTH),
        ROW("veths", "--external", CRIU_SPECIAL, BOTH, .emit = emit_veths),
        ROW("cpu_cap", "--cpu-cap", CRIU_SPECIAL, BOTH, .emit = emit_cpu_cap),
        ROW("force_irmap", "--force-irmap", CRIU_FLAG, CRIU_DUMP),
        ROW("exec_cmd", "--exec-cmd", CRIU_REFUSED, CRIU_RESTORE,
            .why = "cannot be used: stasis is the parent of what it restores"),
        ROW("ext_mnt", "--external", CRIU_SPECIAL, BOTH, .emit = emit_mounts),
        ROW("manage_cgroups", "--manage-cgroups", CRIU_SPECIAL, BOTH, .emit = emit_cgroups),
        ROW("cg_root", "--cgroup-root", CRIU_SPECIAL, BOTH, .emit = emit_cgroup_roots),
        ROW("rst_sibling", "--restore-sibling", CRIU_LEFT_OUT, BOTH),
        ROW("inherit_fd", "--inherit-fd", CRIU_SPECIAL, CRIU_RESTORE, .emit = emit_inherited),
        ROW("auto_ext_mnt", "--external", CRIU_SPECIAL, BOTH, .emit = emit_auto_mounts),
        ROW("ext_sharing", "--enable-external-sharing", CRIU_FLAG, BOTH),
        ROW("ext_masters", "--enable-external-masters", CRIU_FLAG, BOTH),
        ROW("skip_mnt", "--skip-mnt", CRIU_LIST, CRIU_DUMP),
        ROW("enable_fs", "--enable-fs", CRIU_LIST, BOTH),
        ROW("unix_sk_ino", "--external", CRIU_SPECIAL, CRIU_DUMP, .emit = emit_unix_sockets),
        ROW("manage_cgroups_mode", "--manage-cgroups", CRIU_SPECIAL, BOTH, .emit = emit_cgroups_mode),
        ROW("ghost_limit", "--ghost-limit", CRIU_NUMBER, CRIU_DUMP),
        ROW("irmap_scan_paths", "--irmap-scan-path", CRIU_LIST, CRIU_DUMP),
        ROW("external", "--external", CRIU_LIST, BOTH),
        ROW("empty_ns", "--empty-ns", CRIU_SPECIAL, BOTH, .emit = emit_empty_ns),
        ROW("join_ns", "--join-ns", CRIU_SPECIAL, CRIU_RESTORE, .emit = emit_namespaces),
        ROW("cgroup_props", "--cgroup-props", CRIU_TEXT, CRIU_DUMP),
        ROW("cgroup_props_file", "--cgroup-props-file", CRIU_TEXT, CRIU_DUMP),
        ROW("cgroup_dump_controller", "--cgroup-dump-controller", CRIU_LIST, CRIU_DUMP),
        ROW("freeze_cgroup", "--freeze-cgroup", CRIU_TEXT, CRIU_DUMP),
        ROW("timeout", "--timeout", CRIU_NUMBER, CRIU_DUMP),
        ROW("tcp_skip_in_flight", "--skip-in-flight", CRIU_FLAG, CRIU_DUMP),
        ROW("weak_sysctls", "--weak-sysctls", CRIU_FLAG, CRIU_RESTORE),
        ROW("lazy_pages", "--lazy-pages", CRIU_SPECIAL, BOTH, .emit = emit_lazy_pages),
        ROW("status_fd", "--status-fd", CRIU_LEFT_OUT, BOTH),
        ROW("orphan_pts_master", NULL, CRIU_REFUSED, BOTH,
            .why = "cannot be used: CRIU hands the terminal over in its RPC only; a job gets one by --attachable"),
        ROW("config_file", "--config", CRIU_SPECIAL, BOTH, .emit = emit_config_file),
        ROW("tcp_close", "--tcp-close", CRIU_FLAG, BOTH),
        ROW("lsm_profile", "--lsm-profile", CRIU_TEXT, CRIU_RESTORE),
        /* Of CRIU's connection to a page server, of which there is none (see ps). */
        ROW("tls_cacert", "--tls-cacert", CRIU_LEFT_OUT, BOTH),
        ROW("tls_cacrl", "--tls-cacrl", CRIU_LEFT_OUT, BOTH),
        ROW("tls_cert", "--tls-cert", CRIU_LEFT_OUT, BOTH),
        ROW("tls_key", "--tls-key", CRIU_LEFT_OUT, BOTH),
        ROW("tls", "--tls", CRIU_LEFT_OUT, BOTH),
        ROW("tls_no_cn_verify", "--tls-no-cn-verify", CRIU_LEFT_OUT, BOTH),
        ROW("cgroup_yard", "--cgroup-yard", CRIU_TEXT, BOTH),
        ROW("pre_dump_mode", "--pre-dump-mode", CRIU_LEFT_OUT, BOTH),
        ROW("pidfd_store_sk", NULL, CRIU_LEFT_OUT, BOTH),
        ROW("lsm_mount_context", "--lsm-mount-context", CRIU_TEXT, CRIU_RESTORE),
        ROW("network_lock", "--network-lock", CRIU_SPECIAL, CRIU_DUMP, .emit = emit_network_lock),
        ROW("mntns_compat_mode", "--mntns-compat-mode", CRIU_FLAG, CRIU_RESTORE),
        ROW("skip_file_rwx_check", "--skip-file-rwx-check", CRIU_FLAG, CRIU_RESTORE),
        ROW("unprivileged", "--unprivileged", CRIU_FLAG, BOTH),
        ROW("leave_stopped", "-s", CRIU_LEFT_OUT, BOTH),
        ROW("display_stats", "--display-stats", CRIU_LEFT_OUT, BOTH),
        ROW("log_to_stderr", NULL, CRIU_LEFT_OUT, BOTH),
};

const struct criu_option *criu_option_rows(size_t *ret_n) {
        *ret_n = ELEMENTSOF(rows);
        return rows;
}

const struct criu_option *criu_option_find(const char *field) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (streq(rows[i].field, field))
                        return &rows[i];
        return NULL;
}

static const void *member(const Criu__CriuOpts *options, unsigned offset) {
        return (const char *)options + offset;
}

/* Is it present, as protobuf counts? A bool also has to be true: existing clients always send false. */
static bool is_set(const Criu__CriuOpts *options, const ProtobufCFieldDescriptor *field) {
        const void *value = member(options, field->offset);

        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return *(const size_t *)member(options, field->quantifier_offset) > 0;
        switch (field->type) {
        case PROTOBUF_C_TYPE_MESSAGE:
                return *(const ProtobufCMessage *const *)value;
        case PROTOBUF_C_TYPE_STRING:
                return !isempty(*(const char *const *)value);
        case PROTOBUF_C_TYPE_BOOL:
                return *(const protobuf_c_boolean *)value;
        default:
                return *(const protobuf_c_boolean *)member(options, field->quantifier_offset);
        }
}

static void emit_value(const struct criu_option *row, const Criu__CriuOpts *options,
                       const ProtobufCFieldDescriptor *field, struct strv *argv) {
        const void *value = member(options, field->offset);

        switch (row->kind) {
        case CRIU_FLAG:
                strv_add(argv, row->flag);
                break;
        case CRIU_NUMBER:
                strv_addf(argv, "%s=%u", row->flag, *(const uint32_t *)value);
                break;
        case CRIU_TEXT:
                /* In one word with its flag, so that a value never looks like a flag. */
                strv_addf(argv, "%s=%s", row->flag, *(const char *const *)value);
                break;
        case CRIU_LIST:
                for (size_t i = 0; i < *(const size_t *)member(options, field->quantifier_offset); i++)
                        strv_addf(argv, "%s=%s", row->flag, (*(char *const *const *)value)[i]);
                break;
        default:
                break;
        }
}

int criu_options_to_argv(const Criu__CriuOpts *options, enum criu_operation operation, struct strv *argv,
                         struct st_error **err) {
        const ProtobufCMessageDescriptor *descriptor = &criu__criu_opts__descriptor;

        for (unsigned i = 0; i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
                const struct criu_option *row = criu_option_find(field->name);

                if (!is_set(options, field))
                        continue;
                if (!row)
                        return st_error_set(err, EINVAL, "CRIU option %s: not known to this stasis", field->name);
                if (!(row->operations & operation))
                        continue;
                if (row->kind == CRIU_REFUSED)
                        return st_error_set(err, EINVAL, "CRIU option %s %s", row->field, row->why);
                if (row->kind == CRIU_SPECIAL) {
                        int r = row->emit(row, options, operation, argv, err);
                        if (r < 0)
                                return r;
                } else
                        emit_value(row, options, field, argv);
        }
        return 0;
}

void criu_options_list(const Criu__CriuOpts *options, enum criu_operation operation, struct strv *fields) {
        const ProtobufCMessageDescriptor *descriptor = &criu__criu_opts__descriptor;

        for (unsigned i = 0; i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
                const struct criu_option *row = criu_option_find(field->name);
                bool zero = field->label != PROTOBUF_C_LABEL_REPEATED &&
                            (field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_INT32) &&
                            *(const uint32_t *)member(options, field->offset) == 0;

                if (!is_set(options, field) || zero)
                        continue;
                /* Of those that are not CRIU's to know this one is the caller's. */
                if (row && row->kind == CRIU_LEFT_OUT && !streq(row->field, "leave_stopped"))
                        continue;
                if (!row || (row->operations & operation))
                        strv_add(fields, field->name);
        }
}

/* The name of a field, with its dashes made underscores; malloc'ed. */
static char *field_name(const char *name) {
        char *field = xstrdup(name);

        for (char *c = field; *c; c++)
                if (*c == '-')
                        *c = '_';
        return field;
}

int criu_options_from_json(Criu__CriuOpts *options, const char *json, struct st_error **err) {
        json_error_t problem;
        json_t *given = json_loads(json, JSON_REJECT_DUPLICATES, &problem), *fields, *value;
        const char *name;
        int r = 0;

        if (!given)
                return st_error_set(err, EINVAL, "CRIU options: not JSON: %s (line %d, column %d)", problem.text,
                                    problem.line, problem.column);
        fields = json_object();
        if (!json_is_object(given) || !fields)
                r = st_error_set(err, EINVAL, "CRIU options: expected an object, {\"ghost_limit\": 1000000}");
        if (r == 0)
                json_object_foreach(given, name, value) {
                        _cleanup_free_ char *field = field_name(name);

                        if (json_object_get(fields, field)) {
                                r = st_error_set(err, EINVAL, "CRIU options: %s is given twice", field);
                                break;
                        }
                        json_object_set(fields, field, value);
                }
        if (r == 0) {
                r = message_from_json(&options->base, fields, err);
                if (r < 0)
                        r = st_error_wrap(err, "CRIU options");
        }
        json_decref(fields);
        json_decref(given);
        return r;
}

static void swap_bytes(void *a, void *b, size_t offset, size_t size) {
        char value[sizeof(ProtobufCBinaryData)], *in_a = (char *)a + offset, *in_b = (char *)b + offset;

        assert(size <= sizeof(value));
        memcpy(value, in_a, size);
        memcpy(in_a, in_b, size);
        memcpy(in_b, value, size);
}

static size_t value_size(ProtobufCType type) {
        switch (type) {
        case PROTOBUF_C_TYPE_BOOL:
                return sizeof(protobuf_c_boolean);
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(void *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
        case PROTOBUF_C_TYPE_DOUBLE:
                return sizeof(uint64_t);
        default:
                return sizeof(uint32_t);
        }
}

/* Swaps one field of two messages; what it owns goes with it. */
static void swap_field(Criu__CriuOpts *a, Criu__CriuOpts *b, const ProtobufCFieldDescriptor *field) {
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
                swap_bytes(a, b, field->offset, sizeof(void *));
                swap_bytes(a, b, field->quantifier_offset, sizeof(size_t));
                return;
        }
        swap_bytes(a, b, field->offset, value_size(field->type));
        if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
                swap_bytes(a, b, field->quantifier_offset, sizeof(protobuf_c_boolean));
}

/* Present, and be it false: what protobuf sees. */
static bool is_present(const Criu__CriuOpts *options, const ProtobufCFieldDescriptor *field) {
        if (field->label != PROTOBUF_C_LABEL_REPEATED && field->type == PROTOBUF_C_TYPE_BOOL)
                return *(const protobuf_c_boolean *)member(options, field->quantifier_offset);
        return is_set(options, field);
}

int criu_options_merge(Criu__CriuOpts *to, const Criu__CriuOpts *from, struct st_error **err) {
        const ProtobufCMessageDescriptor *descriptor = &criu__criu_opts__descriptor;
        _cleanup_(message_freep) Criu__CriuOpts *copy = NULL;

        /* A required field of a submessage that is not there cannot be packed, and so not copied. */
        if (!protobuf_c_message_check(&from->base))
                return st_error_set(err, EINVAL, "CRIU options: a required part of an option is missing");
        copy = message_copy(&from->base);
        for (unsigned i = 0; i < descriptor->n_fields; i++)
                if (is_present(from, &descriptor->fields[i]))
                        swap_field(to, copy, &descriptor->fields[i]);
        return 0;
}

const char *criu_options_boolean(const char *name) {
        _cleanup_free_ char *field = field_name(name);
        const struct criu_option *row = criu_option_find(field);

        return row && row->kind == CRIU_FLAG ? row->field : NULL;
}

void criu_options_clear(Criu__CriuOpts *options, const char *name) {
        const char *boolean = criu_options_boolean(name);
        const ProtobufCFieldDescriptor *field =
                boolean ? protobuf_c_message_descriptor_get_field_by_name(options->base.descriptor, boolean) : NULL;

        if (!field)
                return;
        *(protobuf_c_boolean *)((char *)options + field->quantifier_offset) = 0;
        *(protobuf_c_boolean *)((char *)options + field->offset) = 0;
}
