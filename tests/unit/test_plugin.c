/* SPDX-License-Identifier: Apache-2.0 */

/* Loading plugins, good ones and every kind of bad one; the registry; what a crash is blamed on. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <dlfcn.h>

#include "base/spawn.h"
#include "base/text.h"
#include "plugin/loader.h"
#include "plugin/registry.h"
#include "plugin_dir.h"

/* The entry of a file, whatever name it has; fails when there is none. */
static const struct plugin_entry *entry_of(const char *directory, const char *name) {
        _cleanup_free_ char *path = xasprintf("%s/%s.so", directory, name);

        for (size_t i = 0; i < registry_count(); i++)
                if (streq(registry_get(i)->file, path))
                        return registry_get(i);
        fail_msg("no entry for %s", path);
        return NULL;
}

static void add(const char *directory, const char *plugin, const char *as) {
        free(plugin_dir_add(directory, plugin, as));
}

/* The table of features. */

static void test_feature_table(void **state) {
        (void)state;
        assert_string_equal(feature_name(ST_FEATURE_theme), "theme");
        assert_string_equal(feature_name(ST_FEATURE_storage), "storage");
        assert_string_equal(feature_description(ST_FEATURE_dump_command), "command: dump TYPE");
        assert_true(feature_has_effect(ST_FEATURE_dump_handler));
        assert_false(feature_has_effect(ST_FEATURE_reaper));
        for (unsigned f = 0; f < ST_FEATURE_COUNT; f++) {
                assert_non_null(feature_name(f));
                assert_non_null(feature_description(f));
        }
}

/* An older plugin's struct ends earlier: in memory of exactly that size, for the sanitiser to watch. */
static void test_smaller_struct(void **state) {
        static const struct st_theme theme = { "a", "b", "c", "d" };
        const size_t size = offsetof(struct st_features, restore_command);
        (void)state;

        void *memory = calloc(1, size);
        assert_non_null(memory);
        memcpy(memory, &size, sizeof(size));
        const void *value = &theme;
        memcpy((char *)memory + offsetof(struct st_features, theme), &value, sizeof(value));

        struct st_plugin plugin = {
                .magic = ST_PLUGIN_MAGIC,
                .abi_major = ST_PLUGIN_ABI_MAJOR,
                .size = sizeof(plugin),
                .name = "older",
                .features = memory,
        };
        assert_int_equal(loader_check(&plugin, NULL), 0);
        struct plugin_entry entry = { .plugin = &plugin };
        assert_ptr_equal(registry_feature(&entry, ST_FEATURE_theme), &theme);
        assert_null(registry_feature(&entry, ST_FEATURE_dump_command));
        for (unsigned f = ST_FEATURE_restore_command; f < ST_FEATURE_COUNT; f++)
                assert_null(registry_feature(&entry, f));

        /* One byte less than a whole pointer is no pointer. */
        const size_t cut = offsetof(struct st_features, restore_command) - 1;
        memcpy(memory, &cut, sizeof(cut));
        assert_null(registry_feature(&entry, ST_FEATURE_dump_command));
        assert_non_null(registry_feature(&entry, ST_FEATURE_theme));

        entry.plugin = NULL;
        assert_null(registry_feature(&entry, ST_FEATURE_theme));
        free(memory);
}

/* The descriptor. */

static const struct st_dump_command foreign_command = { .command = { .type = "other" } };

static void refused(struct st_plugin plugin, int number, const char *part) {
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(loader_check(&plugin, &err), -number);
        assert_contains(st_error_message(err), part);
}

#define REFUSED(number, part, ...)         \
        do {                               \
                struct st_plugin p = good; \
                __VA_ARGS__;               \
                refused(p, number, part);  \
        } while (0)

static void test_descriptor(void **state) {
        static const struct st_features features = { .size = sizeof(features) };
        static const struct st_features huge = { .size = sizeof(huge) + 8 };
        static const struct st_features tiny = { .size = 4 };
        static const struct st_features foreign = { .size = sizeof(foreign), .dump_command = &foreign_command };
        const struct st_plugin good = {
                .magic = ST_PLUGIN_MAGIC,
                .abi_major = ST_PLUGIN_ABI_MAJOR,
                .abi_minor = ST_PLUGIN_ABI_MINOR,
                .size = sizeof(good),
                .name = "good-1",
                .features = &features,
        };
        (void)state;

        assert_int_equal(loader_check(&good, NULL), 0);
        REFUSED(EPROTONOSUPPORT, "no stasis plugin", p.magic++);
        REFUSED(EPROTONOSUPPORT, "ABI 2.4, this stasis has 1.4", p.abi_major++);
        REFUSED(EPROTONOSUPPORT, "built for an older stasis", p.abi_major--);
        REFUSED(EPROTONOSUPPORT, "ABI 1.5, this stasis has 1.4", p.abi_minor++);
        REFUSED(EINVAL, "size", p.size--);
        REFUSED(EINVAL, "size", p.size++);
        REFUSED(EINVAL, "no name", p.name = NULL);
        REFUSED(EINVAL, "name \"\"", p.name = "");
        REFUSED(EINVAL, "Upper", p.name = "Upper");
        REFUSED(EINVAL, "a/b", p.name = "a/b");
        REFUSED(EINVAL, "-x", p.name = "-x");
        REFUSED(EINVAL, "is not 1 to 32", p.name = "a23456789012345678901234567890123");
        REFUSED(EEXIST, "built in", p.name = "process");
        REFUSED(EEXIST, "built in", p.name = "job");
        REFUSED(EINVAL, "no features", p.features = NULL);
        REFUSED(EINVAL, "size", p.features = &huge);
        REFUSED(EINVAL, "size", p.features = &tiny);
        REFUSED(EINVAL, "\"other\"", p.features = &foreign);
}

/* A directory of plugins. */

static void test_no_plugins(void **state) {
        _cleanup_free_ char *missing = path_join(*state, "missing");

        registry_load(missing);
        assert_int_equal(registry_count(), 0);
        registry_unload();
        registry_load(*state);
        assert_int_equal(registry_count(), 0);
        assert_null(registry_find("sample"));
}

static void test_good_plugin(void **state) {
        add(*state, "sample", "sample");
        add(*state, "sample", ".hidden");
        _cleanup_free_ char *other = path_join(*state, "sample.so.txt");
        assert_int_equal(io_replace_file(other, "", 0, 0666, false), 0);

        registry_load(*state);
        assert_int_equal(registry_count(), 1);
        const struct plugin_entry *entry = registry_find("sample");
        assert_non_null(entry);
        assert_ptr_equal(entry, registry_get(0));
        assert_int_equal(entry->status, PLUGIN_LOADED);
        assert_null(entry->error);
        assert_string_equal(entry->version, "1.0");

        const struct st_dump_command *command = registry_feature(entry, ST_FEATURE_dump_command);
        assert_string_equal(command->command.type, "sample");
        assert_string_equal(command->command.options[0].flag, "sample-note");
        const struct st_dump_adapters *adapters = registry_feature(entry, ST_FEATURE_dump_middleware);
        assert_int_equal(adapters->n, 2);
        assert_null(registry_feature(entry, ST_FEATURE_storage));

        /* The first call counts. */
        registry_load("/");
        assert_int_equal(registry_count(), 1);
}

static void test_bad_plugins(void **state) {
        const char *directory = *state;
        const struct plugin_entry *entry;
        Dl_info library;

        add(directory, "sample", "sample");
        add(directory, "sample", "zz");
        add(directory, "other_abi", "other_abi");
        add(directory, "missing_symbol", "missing_symbol");
        add(directory, "failing_init", "failing_init");
        _cleanup_free_ char *text = path_join(directory, "text.so");
        assert_int_equal(io_replace_file(text, "hello\n", 6, 0644, false), 0);
        /* An ordinary library. */
        _cleanup_free_ char *ordinary = path_join(directory, "ordinary.so");
        assert_true(dladdr((void *)(uintptr_t)&_assert_true, &library));
        copy_file(library.dli_fname, ordinary);

        registry_load(directory);
        assert_int_equal(registry_count(), 7);
        for (size_t i = 1; i < registry_count(); i++)
                assert_true(strcmp(registry_get(i - 1)->name, registry_get(i)->name) <= 0);
        assert_int_equal(entry_of(directory, "sample")->status, PLUGIN_LOADED);

        entry = entry_of(directory, "zz");
        assert_int_equal(entry->status, PLUGIN_BROKEN);
        assert_contains(entry->error, "its name \"sample\" is taken by ");
        assert_contains(entry->error, "/sample.so");

        entry = entry_of(directory, "other_abi");
        assert_int_equal(entry->status, PLUGIN_INCOMPATIBLE);
        assert_string_equal(entry->name, "other_abi");
        assert_contains(entry->error, "ABI 2.0, this stasis has 1.4");
        assert_null(entry->plugin);

        entry = entry_of(directory, "missing_symbol");
        assert_int_equal(entry->status, PLUGIN_BROKEN);
        assert_string_equal(entry->error, "missing symbol st_function_of_tomorrow: it was built for another stasis");

        entry = entry_of(directory, "failing_init");
        assert_int_equal(entry->status, PLUGIN_BROKEN);
        assert_string_equal(entry->name, "failing-init");
        assert_string_equal(entry->version, "1.0");
        assert_string_equal(entry->error, "its init failed: the engine is not there");
        assert_null(entry->plugin);
        assert_null(registry_find("failing-init"));

        entry = entry_of(directory, "text");
        assert_int_equal(entry->status, PLUGIN_BROKEN);
        assert_contains(entry->error, "it cannot be loaded: ");
        assert_null(strstr(entry->error, directory)); /* the line that shows it begins with the file */

        entry = entry_of(directory, "ordinary");
        assert_int_equal(entry->status, PLUGIN_BROKEN);
        assert_string_equal(entry->error, "it is no stasis plugin");
}

/* Who may have written it. */

static void reload(const char *directory) {
        registry_unload();
        registry_load(directory);
}

static void assert_refused(const char *directory, const char *part, const char *hint) {
        reload(directory);
        assert_int_equal(registry_count(), 1);
        assert_int_equal(registry_get(0)->status, PLUGIN_BROKEN);
        assert_null(registry_get(0)->plugin);
        assert_contains(registry_get(0)->error, part);
        assert_contains(registry_get(0)->error, hint);
}

static void assert_loaded(const char *directory) {
        reload(directory);
        assert_int_equal(registry_count(), 1);
        if (registry_get(0)->status != PLUGIN_LOADED)
                fail_msg("%s", registry_get(0)->error);
}

static void test_file_of_others(void **state) {
        _cleanup_free_ char *file = plugin_dir_add(*state, "sample", "sample");

        assert_loaded(*state);
        assert_int_equal(chmod(file, 0666), 0);
        assert_refused(*state, "/sample.so has owner ", "chmod go-w ");
        assert_contains(registry_get(0)->error, "mode 0666");
        assert_int_equal(chmod(file, 0620), 0);
        assert_refused(*state, "mode 0620", "chmod go-w ");
        assert_int_equal(chmod(file, 0600), 0);
        assert_loaded(*state);

        if (geteuid() == 0) {
                assert_int_equal(chown(file, 12345, 12345), 0);
                assert_refused(*state, "owner uid 12345", "chown root ");
                assert_int_equal(chmod(file, 0777), 0);
                assert_refused(*state, "mode 0777", "&& chmod go-w ");
        }

        assert_int_equal(unlink(file), 0);
        assert_int_equal(symlink("/etc/passwd", file), 0);
        assert_refused(*state, "it is a link", "regular file");
        assert_int_equal(unlink(file), 0);
        assert_int_equal(mkfifo(file, 0600), 0);
        assert_refused(*state, "not a regular file", "");
}

static void test_directory_of_others(void **state) {
        _cleanup_free_ char *parent = path_join(*state, "parent");
        _cleanup_free_ char *directory = path_join(parent, "plugins");

        assert_int_equal(io_make_directories(directory, 0755), 0);
        add(directory, "sample", "sample");
        assert_loaded(directory);

        assert_int_equal(chmod(directory, 0775), 0);
        assert_refused(directory, "/parent/plugins has owner ", "chmod go-w ");
        assert_int_equal(chmod(directory, 0755), 0);
        assert_int_equal(chmod(parent, 0707), 0);
        assert_refused(directory, "/parent has owner ", "chmod go-w ");
        /* What makes /tmp fit for others' files does not make it fit for plugins. */
        assert_int_equal(chmod(parent, 01777), 0);
        assert_refused(directory, "mode 1777", "only root can change");
        assert_int_equal(chmod(parent, 0755), 0);
        if (geteuid() == 0) {
                assert_int_equal(chown(parent, 12345, 0), 0);
                assert_refused(directory, "/parent has owner uid 12345", "chown root ");
                assert_int_equal(chown(parent, 0, 0), 0);
        }
        assert_loaded(directory);
}

static void test_links(void **state) {
        const char *root = *state;
        _cleanup_free_ char *directory = path_join(root, "plugins"), *open = path_join(root, "open"),
                            *link = path_join(root, "link"), *middle = path_join(root, "open/middle"),
                            *loop = path_join(root, "loop");

        assert_int_equal(io_make_directories(directory, 0755), 0);
        assert_int_equal(io_make_directories(open, 0755), 0);
        add(directory, "sample", "sample");

        assert_int_equal(symlink("plugins", link), 0);
        assert_loaded(link);
        assert_int_equal(unlink(link), 0);
        assert_int_equal(symlink(directory, link), 0);
        assert_loaded(link);
        assert_int_equal(unlink(link), 0);

        /* A link that leads through a directory of others ends in a good one, as long as they like. */
        assert_int_equal(symlink("open/middle", link), 0);
        assert_int_equal(symlink("../plugins", middle), 0);
        assert_loaded(link);
        assert_int_equal(chmod(open, 0777), 0);
        assert_refused(link, "/open has owner ", "chmod go-w ");
        assert_int_equal(chmod(open, 0755), 0);
        if (geteuid() == 0) {
                assert_int_equal(lchown(middle, 12345, 12345), 0);
                assert_refused(link, "owner uid 12345", "chown -h root ");
        }

        int fd;
        assert_int_equal(symlink("loop", loop), 0);
        assert_int_equal(trust_directory(loop, &fd, NULL), -ELOOP);
        _cleanup_free_ char *file = path_join(directory, "sample.so");
        assert_int_equal(trust_directory(file, &fd, NULL), -ENOTDIR);
}

/* Reaching features. */

struct seen {
        struct strv names;
        const char *fail_at;
};

static int see(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_dump_adapters *adapters = value;
        struct seen *seen = userdata;
        char message[128];

        assert_true(adapters->n > 0);
        strv_add(&seen->names, plugin);
        registry_crash_message(message, sizeof(message));
        _cleanup_free_ char *expected = xasprintf("plugin %s, adapter dump_middleware", plugin);
        assert_string_equal(message, expected);
        if (seen->fail_at && streq(seen->fail_at, plugin))
                return st_error_set(err, EBUSY, "failed in %s", plugin);
        return 3;
}

static void assert_seen(struct seen *seen, const char *expected) {
        _cleanup_free_ char *names = strv_join(&seen->names, " ");

        assert_string_equal(names ?: "", expected);
        strv_clear(&seen->names);
}

#define assert_unavailable(call, message)                            \
        do {                                                         \
                assert_int_equal((call), -EOPNOTSUPP);               \
                assert_string_equal(st_error_message(err), message); \
                err = st_error_free(err);                            \
        } while (0)

static void test_if_available(void **state) {
        struct seen seen = { 0 };
        struct st_error *err = NULL;

        assert_unavailable(feature_if_available(dump_middleware, see, &seen, &err),
                           "no plugin implements \"adapters of the dump\"");
        add(*state, "sample", "a");
        add(*state, "crash", "b");
        add(*state, "other_abi", "c");
        reload(*state);

        registry_set_running("outer", "storage");
        assert_int_equal(feature_if_available(dump_middleware, see, &seen, NULL), 3);
        assert_seen(&seen, "crash sample");
        char message[128];
        registry_crash_message(message, sizeof(message));
        assert_string_equal(message, "plugin outer, adapter storage");
        registry_set_running(NULL, NULL);

        assert_int_equal(feature_if_available(dump_middleware, see, &seen, NULL, "sample"), 3);
        assert_seen(&seen, "sample");
        assert_int_equal(feature_if_available(dump_middleware, see, &seen, NULL, "sample", "runc", "crash"), 3);
        assert_seen(&seen, "crash sample");
        assert_int_equal(st_feature_if_available(ST_FEATURE_dump_middleware, see, &seen, NULL, NULL), 3);
        assert_seen(&seen, "crash sample");

        seen.fail_at = "crash";
        assert_int_equal(feature_if_available(dump_middleware, see, &seen, &err), -EBUSY);
        assert_string_equal(st_error_message(err), "failed in crash");
        err = st_error_free(err);
        assert_seen(&seen, "crash");

        assert_unavailable(feature_if_available(restore_command, see, &seen, &err, "crash"),
                           "plugin crash does not implement \"command: restore TYPE\"");
        assert_unavailable(feature_if_available(dump_command, see, &seen, &err, "runc"),
                           "plugin runc is not installed");
        assert_unavailable(feature_if_available(dump_command, see, &seen, &err, "runc", "crun"),
                           "none of the plugins runc, crun implements \"command: dump TYPE\"");
        assert_int_equal(feature_if_available(dump_command, see, &seen, &err, "c"), -EOPNOTSUPP);
        assert_contains(st_error_message(err), "plugin c cannot be used: ABI 2.0");
        st_error_free(err);
        assert_seen(&seen, "");
}

/* Crashes. */

static void test_crash_message(void **state) {
        char message[64], small[8];
        (void)state;

        registry_crash_message(message, sizeof(message));
        assert_string_equal(message, "");
        registry_set_running("runc", "network");
        registry_crash_message(message, sizeof(message));
        assert_string_equal(message, "plugin runc, adapter network");
        registry_crash_message(small, sizeof(small));
        assert_string_equal(small, "plugin ");
        registry_crash_message(small, 1);
        assert_string_equal(small, "");
        registry_set_running(NULL, "network options");
        registry_crash_message(message, sizeof(message));
        assert_string_equal(message, "adapter network options");
        registry_set_running(NULL, NULL);
        registry_crash_message(message, sizeof(message));
        assert_string_equal(message, "");
}

static int crash_pipe;

static void on_crash(int signal) {
        char message[128];

        (void)signal;
        registry_crash_message(message, sizeof(message));
        _exit(write(crash_pipe, message, strlen(message)) > 0 ? 42 : 43);
}

/* Runs the adapter as the chain does. */
static int run_adapters(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_dump_adapters *adapters = value;
        struct st_dump dump = { .size = sizeof(dump) };
        (void)userdata;

        registry_set_running(plugin, adapters->adapters[0].name);
        return adapters->adapters[0].run(&dump, NULL, err);
}

static void test_crash(void **state) {
        char message[128] = { 0 };
        int fds[2], status;

        add(*state, "crash", "crash");
        reload(*state);
        assert_non_null(registry_find("crash"));
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);

        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                crash_pipe = fds[1];
                /* The sanitisers report what is meant to happen: not into the test's output. */
                dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
                sigaction(SIGSEGV, &(struct sigaction){ .sa_handler = on_crash }, NULL);
                feature_if_available(dump_middleware, run_adapters, NULL, NULL, "crash");
                _exit(0);
        }
        close(fds[1]);
        assert_true(read(fds[0], message, sizeof(message) - 1) >= 0);
        close(fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_string_equal(message, "plugin crash, adapter crashing");
        assert_int_equal(spawn_exit_code(status), 42);
}

/* What does not fit does not compile. */

static int compile(const char *directory, const char *type, char **ret_output) {
        _cleanup_free_ char *source = path_join(directory, "plugin.c"), *content = NULL, *include = NULL, *api = NULL;

        content = xasprintf("#include <stasis/plugin.h>\n"
                            "static const struct %s value;\n"
                            "static const struct st_features features = {\n"
                            "        .size = sizeof(features), ST_FEATURE(dump_middleware, value),\n"
                            "};\n"
                            "ST_PLUGIN(\"x\", \"1\", features, NULL, NULL);\n",
                            type);
        assert_int_equal(io_replace_file(source, content, strlen(content), 0600, false), 0);
        include = xasprintf("-I%s/include", getenv("STASIS_SOURCE") ?: "..");
        api = xasprintf("-I%s/api", build_directory());
        char *argv[] = { (char *)"cc",
                         (char *)"-std=gnu17",
                         (char *)"-Wall",
                         (char *)"-Wextra",
                         (char *)"-Werror",
                         (char *)"-fsyntax-only",
                         include,
                         api,
                         source,
                         NULL };
        return spawn_run(&(struct spawn){ .path = "cc", .argv = argv }, 20000, ret_output, NULL);
}

static void test_wrong_type(void **state) {
        _cleanup_free_ char *good = NULL, *bad = NULL;

        int r = compile(*state, "st_dump_adapters", &good);
        if (r == -ENOENT)
                skip(); /* no compiler here */
        if (r != 0)
                fail_msg("a plugin does not compile (%d): %s", r, good ?: "");
        assert_true(compile(*state, "st_restore_adapters", &bad) > 0);
        assert_contains(bad, "st_restore_adapters");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_feature_table),
                cmocka_unit_test(test_smaller_struct),
                cmocka_unit_test(test_descriptor),
                cmocka_unit_test(test_crash_message),
                cmocka_unit_test_setup_teardown(test_no_plugins, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_good_plugin, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_bad_plugins, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_file_of_others, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_directory_of_others, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_links, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_if_available, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_crash, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_wrong_type, plugin_dir_setup, plugin_dir_teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
