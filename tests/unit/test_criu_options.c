/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/spawn.h"
#include "criu/options_table.h"

/* Sets every option that has a flag. */
static const char everything[] =
        "{\"ext_unix_sk\": true, \"tcp_established\": true, \"evasive_devices\": true, \"shell_job\": true,"
        " \"file_locks\": true, \"root\": \"/r\", \"track_mem\": true, \"link_remap\": true,"
        " \"veths\": [{\"if_in\": \"eth0\", \"if_out\": \"veth0\"}], \"cpu_cap\": 5, \"force_irmap\": true,"
        " \"ext_mnt\": [{\"key\": \"/data\", \"val\": \"d\"}], \"manage_cgroups\": true,"
        " \"cg_root\": [{\"path\": \"/a\"}, {\"ctrl\": \"cpu\", \"path\": \"/b\"}],"
        " \"inherit_fd\": [{\"key\": \"tty[1:2]\", \"fd\": 12}, {\"key\": \"pipe:[7]\", \"fd\": 13}],"
        " \"auto_ext_mnt\": true, \"ext_sharing\": true, \"ext_masters\": true, \"skip_mnt\": [\"/m\", \"/n\"],"
        " \"enable_fs\": [\"hugetlbfs\"], \"unix_sk_ino\": [{\"inode\": 77}], \"manage_cgroups_mode\": \"ignore\","
        " \"ghost_limit\": 10000000, \"irmap_scan_paths\": [\"/i\"],"
        " \"external\": [\"file[1:2]\", \"--help\"], \"empty_ns\": 1073741824,"
        " \"join_ns\": [{\"ns\": \"net\", \"ns_file\": \"/proc/self/ns/net\"}, {\"ns\": \"user\", \"ns_file\": \"1\","
        " \"extra_opt\": \"0,0\"}], \"cgroup_props\": \"p\", \"cgroup_props_file\": \"/p\","
        " \"cgroup_dump_controller\": [\"cpu\"], \"freeze_cgroup\": \"/f\", \"timeout\": 20,"
        " \"tcp_skip_in_flight\": true, \"weak_sysctls\": true, \"config_file\": \"/dev/null\", \"tcp_close\": true,"
        " \"lsm_profile\": \"apparmor:x\", \"cgroup_yard\": \"/y\", \"lsm_mount_context\": \"c\","
        " \"network_lock\": \"skip\", \"mntns_compat_mode\": true, \"skip_file_rwx_check\": true,"
        " \"unprivileged\": true}";

/* Those that stasis decides itself, or that mean something in the RPC only. */
static const char left_out[] =
        "{\"images_dir_fd\": 3, \"images_dir\": \"/i\", \"pid\": 1, \"leave_running\": true, \"log_level\": 2,"
        " \"log_file\": \"x\", \"notify_scripts\": true, \"work_dir_fd\": 4, \"rst_sibling\": true, \"status_fd\": 5,"
        " \"tls_cacert\": \"a\", \"tls_cacrl\": \"b\", \"tls_cert\": \"c\", \"tls_key\": \"d\", \"tls\": true,"
        " \"tls_no_cn_verify\": true, \"pre_dump_mode\": \"VM_READ\", \"pidfd_store_sk\": 6, \"leave_stopped\": true,"
        " \"display_stats\": true, \"log_to_stderr\": true}";

static Criu__CriuOpts *from_json(const char *json) {
        _cleanup_error_ struct st_error *err = NULL;
        Criu__CriuOpts *options = message_new(&criu__criu_opts__descriptor);

        if (criu_options_from_json(options, json, &err) < 0)
                fail_msg("%s", st_error_message(err));
        return options;
}

static void expect_argv(const char *json, enum criu_operation operation, const char *wanted) {
        _cleanup_(message_freep) Criu__CriuOpts *options = from_json(json);
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_strv_ struct strv argv = { 0 };

        if (criu_options_to_argv(options, operation, &argv, &err) < 0)
                fail_msg("%s", st_error_message(err));
        _cleanup_free_ char *got = strv_join(&argv, " ");
        assert_string_equal(got ? got : "", wanted);
}

static void expect_refused(const char *json, enum criu_operation operation, const char *name) {
        _cleanup_(message_freep) Criu__CriuOpts *options = from_json(json);
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_strv_ struct strv argv = { 0 };

        assert_int_equal(criu_options_to_argv(options, operation, &argv, &err), -EINVAL);
        if (!strstr(st_error_message(err), name))
                fail_msg("%s: %s", json, st_error_message(err));
}

static void every_field_has_a_row(void **state) {
        (void)state;
        const ProtobufCMessageDescriptor *descriptor = &criu__criu_opts__descriptor;
        size_t n;
        const struct criu_option *rows = criu_option_rows(&n);

        for (unsigned i = 0; i < descriptor->n_fields; i++)
                if (!criu_option_find(descriptor->fields[i].name))
                        fail_msg("the field %s of criu_opts has no row", descriptor->fields[i].name);
        for (size_t i = 0; i < n; i++) {
                const ProtobufCFieldDescriptor *field =
                        protobuf_c_message_descriptor_get_field_by_name(descriptor, rows[i].field);

                assert_ptr_equal(criu_option_find(rows[i].field), &rows[i]); /* only once */
                assert_true(rows[i].kind && rows[i].operations);
                assert_true((rows[i].kind == CRIU_SPECIAL) == (rows[i].emit != NULL));
                assert_true((rows[i].kind == CRIU_REFUSED) == (rows[i].why != NULL));
                if (!field) /* of a newer CRIU than the installed one */
                        continue;
                /* The kind must suit the field's type: it is read as that. */
                switch (rows[i].kind) {
                case CRIU_FLAG:
                        assert_true(field->type == PROTOBUF_C_TYPE_BOOL && field->label != PROTOBUF_C_LABEL_REPEATED);
                        break;
                case CRIU_NUMBER:
                        assert_true(field->type == PROTOBUF_C_TYPE_UINT32 && field->label != PROTOBUF_C_LABEL_REPEATED);
                        break;
                case CRIU_TEXT:
                        assert_true(field->type == PROTOBUF_C_TYPE_STRING && field->label != PROTOBUF_C_LABEL_REPEATED);
                        break;
                case CRIU_LIST:
                        assert_true(field->type == PROTOBUF_C_TYPE_STRING && field->label == PROTOBUF_C_LABEL_REPEATED);
                        break;
                default:
                        break;
                }
        }
}

static void argv_of_a_dump(void **state) {
        (void)state;
        expect_argv(everything, CRIU_DUMP,
                    "--ext-unix-sk --tcp-established --evasive-devices --shell-job --file-locks --root=/r --track-mem "
                    "--link-remap --external=veth[eth0]:veth0 --cpu-cap=none,fpu,ins --force-irmap "
                    "--external=mnt[/data]:d --cgroup-root=/a --cgroup-root=cpu:/b --external=mnt[] "
                    "--enable-external-sharing --enable-external-masters --skip-mnt=/m --skip-mnt=/n "
                    "--enable-fs=hugetlbfs --external=unix[77] --manage-cgroups=ignore --ghost-limit=10000000 "
                    "--irmap-scan-path=/i --external=file[1:2] --external=--help --empty-ns=net --cgroup-props=p "
                    "--cgroup-props-file=/p --cgroup-dump-controller=cpu --freeze-cgroup=/f --timeout=20 "
                    "--skip-in-flight --config=/dev/null --tcp-close --cgroup-yard=/y --network-lock=skip "
                    "--unprivileged");
}

static void argv_of_a_restore(void **state) {
        (void)state;
        expect_argv(everything, CRIU_RESTORE,
                    "--ext-unix-sk --tcp-established --evasive-devices --shell-job --file-locks --root=/r --link-remap "
                    "--external=veth[eth0]:veth0 --cpu-cap=none,fpu,ins --external=mnt[/data]:d --cgroup-root=/a "
                    "--cgroup-root=cpu:/b --inherit-fd=fd[12]:tty[1:2] --inherit-fd=fd[13]:pipe:[7] --external=mnt[] "
                    "--enable-external-sharing --enable-external-masters --enable-fs=hugetlbfs "
                    "--manage-cgroups=ignore --external=file[1:2] --external=--help --empty-ns=net "
                    "--join-ns=net:/proc/self/ns/net --join-ns=user:1,0,0 --weak-sysctls --config=/dev/null "
                    "--tcp-close --lsm-profile=apparmor:x "
                    "--cgroup-yard=/y --lsm-mount-context=c --mntns-compat-mode --skip-file-rwx-check "
                    "--unprivileged");
        expect_argv("{\"lazy_pages\": true}", CRIU_RESTORE, "--lazy-pages");
}

static void what_is_left_out(void **state) {
        (void)state;
        static const char unset[] =
                "{\"tcp_established\": false, \"ext_unix_sk\": false, \"shell_job\": false, \"auto_dedup\": false,"
                " \"orphan_pts_master\": false, \"track_mem\": false, \"manage_cgroups\": false, \"lazy_pages\": false,"
                " \"root\": \"\", \"parent_img\": \"\", \"config_file\": \"\", \"external\": [], \"empty_ns\": 0}";

        for (int operation = CRIU_DUMP; operation <= CRIU_RESTORE; operation++) {
                expect_argv("{}", operation, "");
                expect_argv(left_out, operation, "");
                expect_argv(unset, operation, "");
        }
        expect_argv("{\"exec_cmd\": [\"sh\"]}", CRIU_DUMP, "");
        expect_argv("{\"parent_img\": \"../1\"}", CRIU_RESTORE, "");
}

static void single_values(void **state) {
        (void)state;
        expect_argv("{\"cpu_cap\": 0}", CRIU_DUMP, "--cpu-cap=none");
        expect_argv("{\"cpu_cap\": 4294967295}", CRIU_DUMP, "--cpu-cap=all");
        expect_argv("{\"cpu_cap\": 7}", CRIU_DUMP, "--cpu-cap=all");
        expect_argv("{\"cpu_cap\": 2}", CRIU_RESTORE, "--cpu-cap=none,cpu");
        expect_argv("{\"manage_cgroups\": true}", CRIU_DUMP, "--manage-cgroups=soft");
        expect_argv("{\"manage_cgroups\": true, \"manage_cgroups_mode\": \"DEFAULT\"}", CRIU_DUMP, "");
        static const char *const modes[] = { "ignore", "none", "props", "soft", "full", "strict" };
        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                _cleanup_free_ char *json = xasprintf("{\"manage_cgroups_mode\": %zu}", i),
                                    *flag = xasprintf("--manage-cgroups=%s", modes[i]);
                expect_argv(json, CRIU_RESTORE, flag);
        }
        expect_argv("{\"network_lock\": \"NFTABLES\"}", CRIU_DUMP, "--network-lock=nftables");
        expect_argv("{\"network_lock\": \"IPTABLES\"}", CRIU_DUMP, "--network-lock=iptables");
        expect_argv("{\"ghost_limit\": 0}", CRIU_DUMP, "--ghost-limit=0");
        expect_argv("{\"ghost_limit\": 4294967295}", CRIU_DUMP, "--ghost-limit=4294967295");
}

static void refused(void **state) {
        (void)state;
        expect_refused("{\"ps\": {\"port\": 1}}", CRIU_DUMP, "ps");
        expect_refused("{\"parent_img\": \"../1\"}", CRIU_DUMP, "parent_img");
        expect_refused("{\"auto_dedup\": true}", CRIU_DUMP, "auto_dedup");
        expect_refused("{\"exec_cmd\": [\"sh\"]}", CRIU_RESTORE, "exec_cmd");
        expect_refused("{\"orphan_pts_master\": true}", CRIU_RESTORE, "orphan_pts_master");
        expect_refused("{\"lazy_pages\": true}", CRIU_DUMP, "lazy_pages");
        expect_refused("{\"empty_ns\": 131072}", CRIU_DUMP, "empty_ns");
        expect_refused("{\"ext_mnt\": [{\"key\": \"\", \"val\": \"x\"}]}", CRIU_DUMP, "ext_mnt");
        expect_refused("{\"inherit_fd\": [{\"key\": \"x\", \"fd\": -1}]}", CRIU_RESTORE, "inherit_fd");

        _cleanup_(message_freep) Criu__CriuOpts *options = from_json("{\"config_file\": \"/nonexistent/criu.conf\"}");
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_strv_ struct strv argv = { 0 };
        assert_int_equal(criu_options_to_argv(options, CRIU_DUMP, &argv, &err), -ENOENT);

        /* Values that only an API client can send. */
        options->config_file[0] = '\0';
        options->has_network_lock = options->has_manage_cgroups_mode = 1;
        options->network_lock = (Criu__CriuNetworkLockMethod)0;
        options->manage_cgroups_mode = (Criu__CriuCgMode)0;
        assert_int_equal(criu_options_to_argv(options, CRIU_DUMP, &argv, NULL), -EINVAL);
        options->has_network_lock = 0;
        options->manage_cgroups_mode = (Criu__CriuCgMode)-1;
        assert_int_equal(criu_options_to_argv(options, CRIU_DUMP, &argv, NULL), -EINVAL);
        options->manage_cgroups_mode = (Criu__CriuCgMode)7;
        assert_int_equal(criu_options_to_argv(options, CRIU_DUMP, &argv, NULL), -EINVAL);
}

/* Does the installed CRIU take this flag? It parses all of them before it prints its version. */
static bool criu_takes(const char *criu, const char *flag) {
        const struct spawn spawn = {
                .path = criu,
                .argv =
                        (char *[]){
                                (char *)criu,
                                (char *)"--no-default-config",
                                (char *)flag,
                                (char *)"--version",
                                NULL,
                        },
        };
        _cleanup_free_ char *output = NULL;
        int r = spawn_run(&spawn, 5000, &output, NULL);

        return r == 0 && strstr(output, "Version:");
}

static void criu_knows_the_flags(void **state) {
        (void)state;
        const char *criu = access("/usr/local/sbin/criu", X_OK) == 0 ? "/usr/local/sbin/criu" : "/usr/sbin/criu";

        if (access(criu, X_OK) < 0 || !criu_takes(criu, "--tcp-established"))
                skip();
        assert_false(criu_takes(criu, "--no-such-flag"));

        _cleanup_(message_freep) Criu__CriuOpts *options = from_json(everything);
        for (int operation = CRIU_DUMP; operation <= CRIU_RESTORE; operation++) {
                _cleanup_strv_ struct strv argv = { 0 };

                options->n_inherit_fd = 0; /* these must be open */
                options->lazy_pages = operation == CRIU_RESTORE;
                assert_int_equal(criu_options_to_argv(options, operation, &argv, NULL), 0);
                for (size_t i = 0; i < argv.n; i++)
                        if (!criu_takes(criu, argv.items[i]))
                                fail_msg("%s is refused by %s", argv.items[i], criu);
                options->n_inherit_fd = 2;
        }
        assert_true(criu_takes(criu, "--inherit-fd=fd[0]:tty[1:2]"));

        /* And what has a flag, but is not given: it must at least be its name. */
        size_t n;
        const struct criu_option *rows = criu_option_rows(&n);
        const struct spawn help = { .path = criu, .argv = (char *[]){ (char *)criu, (char *)"--help", NULL } };
        _cleanup_free_ char *output = NULL;
        spawn_run(&help, 5000, &output, NULL);
        assert_non_null(output);
        for (size_t i = 0; i < n; i++)
                if ((rows[i].kind == CRIU_LEFT_OUT || rows[i].kind == CRIU_REFUSED) && rows[i].flag &&
                    !strstr(output, rows[i].flag))
                        fail_msg("%s is not in the help of %s", rows[i].flag, criu);
}

static void json(void **state) {
        (void)state;
        _cleanup_(message_freep) Criu__CriuOpts *options =
                from_json("{\"tcp-established\": true, \"ghost-limit\": 5, \"network_lock\": \"nftables\","
                          " \"inherit-fd\": [{\"key\": \"k\", \"fd\": 3}]}");
        assert_true(options->has_tcp_established && options->tcp_established);
        assert_true(options->has_ghost_limit && options->ghost_limit == 5);
        assert_int_equal(options->network_lock, CRIU__CRIU_NETWORK_LOCK_METHOD__NFTABLES);
        assert_int_equal(options->n_inherit_fd, 1);

        static const struct {
                const char *json, *message;
        } wrong[] = {
                { "", "not JSON" },
                { "{\"a\":", "not JSON" },
                { "[]", "expected an object" },
                { "{\"tcp_establish\": true}", "did you mean tcp_established" },
                { "{\"tcp-establish\": true}", "did you mean tcp_established" },
                { "{\"tcp_close\": 1}", "tcp_close: expected true or false" },
                { "{\"tcp_close\": true, \"tcp-close\": false}", "given twice" },
                { "{\"tcp_close\": true, \"tcp_close\": false}", "not JSON: duplicate" },
                { "{\"ghost_limit\": -1}", "ghost_limit" },
                { "{\"ghost_limit\": 4294967296}", "ghost_limit" },
        };
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                _cleanup_(message_freep) Criu__CriuOpts *o = message_new(&criu__criu_opts__descriptor);
                _cleanup_error_ struct st_error *err = NULL;

                assert_int_equal(criu_options_from_json(o, wrong[i].json, &err), -EINVAL);
                if (!strstr(st_error_message(err), wrong[i].message))
                        fail_msg("%s: %s", wrong[i].json, st_error_message(err));
        }
}

static void merge(void **state) {
        (void)state;
        _cleanup_(message_freep)
                Criu__CriuOpts *to = from_json(everything),
                               *from = from_json("{\"tcp_established\": false, \"external\": [\"new\"],"
                                                 " \"root\": \"/new\", \"ghost_limit\": 1, \"ps\": {\"port\": 9},"
                                                 " \"manage_cgroups_mode\": \"FULL\"}"),
                               *empty = from_json("{}");

        assert_int_equal(criu_options_merge(to, from, NULL), 0);
        assert_true(to->has_tcp_established && !to->tcp_established);
        assert_int_equal(to->n_external, 1);
        assert_string_equal(to->external[0], "new");
        assert_string_equal(to->root, "/new");
        assert_int_equal(to->ghost_limit, 1);
        assert_int_equal(to->ps->port, 9);
        assert_int_equal(to->manage_cgroups_mode, CRIU__CRIU_CG_MODE__FULL);
        assert_true(to->shell_job);
        assert_int_equal(to->n_skip_mnt, 2);
        /* A copy: `from` keeps what it has. */
        assert_string_equal(from->root, "/new");
        assert_ptr_not_equal(from->root, to->root);

        size_t before, after;
        _cleanup_free_ uint8_t *a = message_pack(&to->base, &before);
        assert_int_equal(criu_options_merge(to, empty, NULL), 0);
        _cleanup_free_ uint8_t *b = message_pack(&to->base, &after);
        assert_int_equal(before, after);
        assert_memory_equal(a, b, before);
        assert_int_equal(criu_options_merge(empty, to, NULL), 0);
        _cleanup_free_ uint8_t *c = message_pack(&empty->base, &after);
        assert_int_equal(before, after);
        assert_memory_equal(a, c, before);
}

static void booleans(void **state) {
        (void)state;
        assert_string_equal(criu_options_boolean("tcp_established"), "tcp_established");
        assert_string_equal(criu_options_boolean("tcp-established"), "tcp_established");
        assert_string_equal(criu_options_boolean("ext-unix-sk"), "ext_unix_sk");
        assert_null(criu_options_boolean("ghost_limit"));
        assert_null(criu_options_boolean("leave_running")); /* has its own flag */
        assert_null(criu_options_boolean(""));
        assert_null(criu_options_boolean("nonsense"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_field_has_a_row),
                cmocka_unit_test(argv_of_a_dump),
                cmocka_unit_test(argv_of_a_restore),
                cmocka_unit_test(what_is_left_out),
                cmocka_unit_test(single_values),
                cmocka_unit_test(refused),
                cmocka_unit_test(criu_knows_the_flags),
                cmocka_unit_test(json),
                cmocka_unit_test(merge),
                cmocka_unit_test(booleans),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
