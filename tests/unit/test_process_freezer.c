/* SPDX-License-Identifier: Apache-2.0 */

/* Freezing: the texts of the kernel that say where cgroups are, the record of what was frozen, stopping by signals. */

#include "test_process_child.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/frozen.h"
#include "process/freezer.h"
#include "process/stopper.h"
#include "process/tree.h"

static const char mountinfo[] =
        "25 1 0:22 / /sys/fs/cgroup rw shared:8 - tmpfs tmpfs rw,mode=755\n"
        "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        "31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 25 0:28 /docker/abc /sys/fs/cgroup/with\\040blank rw shared:1 master:2 - cgroup cgroup rw,freezer\n"
        "33 25 0:29 / /sys/fs/cgroup/nofreezer rw - cgroup cgroup rw,freezers,xfreezer\n"
        "broken line\n"
        "34 25 0:30 / /x rw -\n";

static void test_mounts(void **unused) {
        (void)unused;
        _cleanup_hierarchy_ struct freezer_hierarchy v1 = { 0 }, v2 = { 0 }, none = { 0 };

        freezer_hierarchy_parse(mountinfo, FREEZER_V1, &v1);
        assert_int_equal(v1.n, 1);
        assert_string_equal(v1.mounts[0].root, "/docker/abc");
        assert_string_equal(v1.mounts[0].point, "/sys/fs/cgroup/with blank");
        freezer_hierarchy_parse(mountinfo, FREEZER_V2, &v2);
        assert_int_equal(v2.n, 1);
        assert_string_equal(v2.mounts[0].point, "/sys/fs/cgroup/unified");
        freezer_hierarchy_parse("", FREEZER_V2, &none);
        assert_int_equal(none.n, 0);
}

static void assert_path(const char *text, enum freezer_version version, int expected, const char *path) {
        _cleanup_free_ char *found = NULL;

        assert_int_equal(freezer_path_parse(text, version, &found), expected);
        if (path)
                assert_string_equal(found, path);
        else
                assert_null(found);
}

static void test_paths(void **unused) {
        (void)unused;
        const char hybrid[] = "7:cpu,freezer,pids:/a/b:c\n1:name=freezer:/no\n0::/user.slice\n";

        assert_path(hybrid, FREEZER_V1, 0, "/a/b:c");
        assert_path(hybrid, FREEZER_V2, 0, "/user.slice");
        assert_path("0::/\n", FREEZER_V1, -ENOENT, NULL);
        assert_path("4:memory:/\n", FREEZER_V2, -ENOENT, NULL);
        assert_path("", FREEZER_V2, -ENOENT, NULL);
        assert_path("nonsense\n", FREEZER_V2, -EBADMSG, NULL);
        assert_path("0::relative\n", FREEZER_V2, -EBADMSG, NULL);
}

static void assert_common(const char *a, const char *b, const char *expected) {
        _cleanup_free_ char *one = freezer_path_common(a, b), *two = freezer_path_common(b, a);

        assert_string_equal(one, expected);
        assert_string_equal(two, expected);
        assert_true(freezer_path_is_within(a, one) && freezer_path_is_within(b, one));
}

static void test_common_paths(void **unused) {
        (void)unused;
        assert_common("/", "/", "/");
        assert_common("/", "/a", "/");
        assert_common("/a", "/b", "/");
        assert_common("/a", "/a", "/a");
        assert_common("/a/b", "/a/bc", "/a");
        assert_common("/a/b", "/a/b/c", "/a/b");
        assert_common("/a/b/x", "/a/b/y/z", "/a/b");
        assert_false(freezer_path_is_within("/ab", "/a"));
        assert_false(freezer_path_is_within("/a", "/a/b"));
}

/* A directory with the files of a frozen cgroup stands for one: the kernel's own are for the system tests. */
static void test_directories(void **unused) {
        (void)unused;
        char root[] = "/tmp/stasis-freezer-XXXXXX";
        _cleanup_free_ char *text = NULL, *found = NULL, *missing = NULL, *outermost = NULL, *control = NULL;
        _cleanup_hierarchy_ struct freezer_hierarchy hierarchy = { 0 };

        assert_non_null(mkdtemp(root));
        text = xasprintf("30 25 0:26 /top %s rw - cgroup2 cgroup2 rw\n", root);
        freezer_hierarchy_parse(text, FREEZER_V2, &hierarchy);
        const char *const names[] = { "a", "a/b", "a/b/c" };
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *dir = xasprintf("%s/%s", root, names[i]);
                _cleanup_free_ char *file = xasprintf("%s/cgroup.freeze", dir);

                assert_int_equal(mkdir(dir, 0700), 0);
                _cleanup_fclose_ FILE *f = fopen(file, "we");
                assert_non_null(f);
                fprintf(f, "%d\n", streq(names[i], "a/b")); /* only the middle one is frozen by itself */
        }

        assert_int_equal(freezer_directory(&hierarchy, "/top/a/b/c", &found), 0);
        assert_true(text_ends_with(found, "/a/b/c"));
        assert_int_equal(freezer_directory(&hierarchy, "/top", &missing), -ENOENT);
        assert_int_equal(freezer_directory(&hierarchy, "/topmost/a", &missing), -ENOENT);
        assert_int_equal(freezer_directory(&hierarchy, "/top/../a", &missing), -ENOENT);
        assert_int_equal(freezer_outermost(FREEZER_V2, found, &outermost), 0);
        assert_true(text_ends_with(outermost, "/a/b"));
        assert_int_equal(freezer_set(FREEZER_V2, outermost, false), 0);
        assert_int_equal(freezer_outermost(FREEZER_V2, found, &control), -ENOENT);

        for (size_t i = ELEMENTSOF(names); i > 0; i--) {
                _cleanup_free_ char *dir = xasprintf("%s/%s", root, names[i - 1]);
                _cleanup_free_ char *file = xasprintf("%s/cgroup.freeze", dir);
                assert_int_equal(unlink(file), 0);
                assert_int_equal(rmdir(dir), 0);
        }
        assert_int_equal(rmdir(root), 0);
}

static void test_record(void **unused) {
        (void)unused;
        struct frozen frozen = {
                .pid = 42,
                .start_time = UINT64_C(1) << 40,
                .uid = UINT32_MAX,
                .client = 77,
                .time = 1700000000,
                .complete = true,
                .cgroup = (char *)"/sys/fs/cgroup/x \"y\"",
                .version = FREEZER_V2,
        };
        _cleanup_(frozen_freep) struct frozen *read = NULL, *without = NULL;

        stopped_add(&frozen.tasks, 42, frozen.start_time, false);
        stopped_add(&frozen.tasks, 43, 5, true);
        _cleanup_free_ char *text = frozen_to_json(&frozen);
        assert_int_equal(frozen_from_json(text, &read, NULL), 0);
        assert_int_equal(read->pid, 42);
        assert_true(read->start_time == frozen.start_time && read->uid == UINT32_MAX && read->complete);
        assert_string_equal(read->cgroup, frozen.cgroup);
        assert_int_equal(read->version, FREEZER_V2);
        assert_int_equal(read->tasks.n, 2);
        assert_true(stopped_find(&read->tasks, 43, 5)->ours);
        assert_null(stopped_find(&read->tasks, 43, 6));

        _cleanup_(frozen_freep) struct frozen *bytes = NULL;
        frozen.cgroup = (char *)"/sys/fs/cgroup/\xff\"";
        _cleanup_free_ char *strange = frozen_to_json(&frozen);
        assert_int_equal(frozen_from_json(strange, &bytes, NULL), 0);
        assert_string_equal(bytes->cgroup, frozen.cgroup);
        assert_int_equal(bytes->version, FREEZER_V2);

        frozen.cgroup = NULL;
        _cleanup_free_ char *signals = frozen_to_json(&frozen);
        assert_int_equal(frozen_from_json(signals, &without, NULL), 0);
        assert_null(without->cgroup);
        stopped_clear(&frozen.tasks);
}

/* The record with one text replaced by another. */
static void assert_refused(const char *from, const char *to, int expected) {
        struct frozen frozen = { .pid = 42, .start_time = 4711, .cgroup = (char *)"/c", .version = FREEZER_V1 };
        _cleanup_(frozen_freep) struct frozen *read = NULL;
        _cleanup_error_ struct st_error *error = NULL;

        stopped_add(&frozen.tasks, 43, 5, true);
        _cleanup_free_ char *text = frozen_to_json(&frozen);
        stopped_clear(&frozen.tasks);
        char *at = strstr(text, from);
        assert_non_null(at);
        _cleanup_free_ char *changed = xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        assert_int_equal(frozen_from_json(changed, &read, &error), expected);
        assert_non_null(error);
        assert_null(read);
}

static void test_record_refused(void **unused) {
        (void)unused;
        assert_refused("{", "", -EBADMSG);
        assert_refused("\"/c\"", "7", -EBADMSG);
        assert_refused("\"pid\":42", "\"pid\":1", -EBADMSG);
        assert_refused("\"pid\":43", "\"pid\":-43", -EBADMSG);
        assert_refused("\"pid\":43", "\"pid\":\"43\"", -EBADMSG);
        assert_refused("\"version\":1", "\"version\":2", -EOPNOTSUPP);
        assert_refused("\"boot\":\"", "\"boot\":\"x", -ESTALE);
        assert_refused("\"cgroup\":\"/c", "\"cgroup\":\"c", -EBADMSG);
        assert_refused("\"freezer\":1", "\"freezer\":3", -EBADMSG);
        assert_refused("\"tasks\":[", "\"tasks\":3,\"x\":[", -EBADMSG);
}

static uint64_t start_of(pid_t pid) {
        struct proc_stat stat;

        assert_int_equal(proc_read_stat(pid, &stat), 0);
        return stat.start_time;
}

static void make_two(void) {
        for (int i = 0; i < 2; i++)
                if (child_fork() == 0)
                        child_wait();
}

struct recorded {
        unsigned calls;
        size_t n;
        int result;
        bool early; /* nobody stood yet when it was called */
};

static int take_record(const struct stopped *stopped, void *userdata, struct st_error **err) {
        struct recorded *recorded = userdata;

        recorded->calls++;
        recorded->n = stopped->n;
        recorded->early = !stopper_stands(stopped->tasks[0].pid, stopped->tasks[0].start_time);
        return recorded->result < 0 ? st_error_set(err, EPERM, "not these") : 0;
}

static void kill_all(pid_t root) {
        _cleanup_tree_ struct tree tree = { 0 };

        assert_int_equal(tree_read(root, true, &tree, NULL), 0);
        for (size_t i = tree.n; i > 0; i--)
                (void)kill(tree.tasks[i - 1].pid, SIGKILL);
        assert_int_equal(waitpid(root, NULL, 0), root);
}

static void test_stop_and_continue(void **unused) {
        (void)unused;
        pid_t pid = child_start(make_two, -1);
        struct recorded recorded = { 0 };
        const struct stopper options = {
                .timeout_ms = 10000, .cancel_fd = -1, .record = take_record, .userdata = &recorded
        };
        _cleanup_stopped_ struct stopped stopped = { 0 };

        assert_int_equal(stopper_stop(pid, &options, NULL, &stopped, NULL), 0);
        assert_true(recorded.calls >= 1 && recorded.n == 3 && recorded.early);
        assert_int_equal(stopped.n, 3);
        for (size_t i = 0; i < stopped.n; i++) {
                assert_true(stopped.tasks[i].ours);
                assert_true(stopper_stands(stopped.tasks[i].pid, stopped.tasks[i].start_time));
        }

        /* Of another process with that number: not its business. */
        stopped.tasks[2].start_time++;
        assert_int_equal(stopper_continue(&stopped), 2);
        stopped.tasks[2].start_time--;
        assert_true(stopper_stands(stopped.tasks[2].pid, stopped.tasks[2].start_time));

        /* Stopped before, it is not ours, unless it is known to be. */
        _cleanup_stopped_ struct stopped second = { 0 }, third = { 0 };
        assert_int_equal(stopper_stop(pid, &options, NULL, &second, NULL), 0);
        assert_false(stopped_find(&second, stopped.tasks[2].pid, stopped.tasks[2].start_time)->ours);
        assert_int_equal(stopper_stop(pid, &options, &stopped, &third, NULL), 0);
        assert_int_equal(stopper_continue(&third), 3);
        assert_false(stopper_stands(pid, start_of(pid)));
        kill_all(pid);
}

static void test_stop_refused(void **unused) {
        (void)unused;
        pid_t pid = child_start(make_two, -1);
        struct recorded recorded = { .result = -EPERM };
        int cancel[2];
        const struct stopper options = {
                .timeout_ms = 10000, .cancel_fd = -1, .record = take_record, .userdata = &recorded
        };
        _cleanup_stopped_ struct stopped stopped = { 0 };
        _cleanup_error_ struct st_error *error = NULL, *cancelled = NULL, *gone = NULL;

        assert_int_equal(stopper_stop(pid, &options, NULL, &stopped, &error), -EPERM);
        assert_int_equal(stopped.n, 0);
        assert_false(stopper_stands(pid, start_of(pid)));

        assert_int_equal(pipe2(cancel, O_CLOEXEC), 0);
        close(cancel[1]);
        const struct stopper hurried = { .timeout_ms = 10000, .cancel_fd = cancel[0] };
        assert_int_equal(stopper_stop(pid, &hurried, NULL, &stopped, &cancelled), -ECANCELED);
        close(cancel[0]);
        /* Continuing is as quick as stopping, but not instant. */
        for (int i = 0; i < 1000 && stopper_stands(pid, start_of(pid)); i++)
                (void)poll(NULL, 0, 1);
        assert_false(stopper_stands(pid, start_of(pid)));
        kill_all(pid);
        assert_int_equal(stopper_stop(pid, &options, NULL, &stopped, &gone), -ESRCH);
}

static int wait_forever(void *unused) {
        (void)unused;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (pause() < 0)
                ;
        return 0;
}

/** What vfork(2) does, with a stack of its own: ThreadSanitizer would make a fork(2) of it, for which nobody waits. */
static void vfork_forever(void) {
        static _Alignas(16) char stack[64 << 10];

        if (child_fork() > 0)
                return;
        close(CHILD_READY_FD);
        (void)clone(wait_forever, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        _exit(1);
}

static void test_stop_in_vain(void **unused) {
        (void)unused;
        pid_t pid = child_start(vfork_forever, -1);
        const struct stopper options = { .timeout_ms = 300, .cancel_fd = -1 };
        _cleanup_stopped_ struct stopped stopped = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_tree_ struct tree tree = { 0 };

        /* Root, the one that waits, and the one that is waited for. */
        for (int i = 0; i < 1000 && tree.n < 3; i++) {
                tree_clear(&tree);
                assert_int_equal(tree_read(pid, true, &tree, NULL), 0);
                (void)poll(NULL, 0, 1);
        }
        assert_int_equal(stopper_stop(pid, &options, NULL, &stopped, &error), -ETIMEDOUT);
        assert_non_null(strstr(st_error_message(error), "vfork"));
        assert_false(stopper_stands(pid, start_of(pid)));
        kill_all(pid);
}

static void test_own_pid(void **unused) {
        (void)unused;
        assert_int_equal(stopper_own_pid(getpid()), getpid());
        assert_int_equal(stopper_own_pid(4194304), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_mounts),
                cmocka_unit_test(test_paths),
                cmocka_unit_test(test_common_paths),
                cmocka_unit_test(test_directories),
                cmocka_unit_test(test_record),
                cmocka_unit_test(test_record_refused),
                cmocka_unit_test(test_stop_and_continue),
                cmocka_unit_test(test_stop_refused),
                cmocka_unit_test(test_stop_in_vain),
                cmocka_unit_test(test_own_pid),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
