/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/namespaces.h"

static const char host[] = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
                           "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
                           "28 27 0:25 / /mnt rw - tmpfs none rw\n";

static void compares_roots(void **state) {
        (void)state;
        /* A mount namespace that was copied from it has other numbers, and may have more mounts. */
        assert_true(namespaces_same_root(host, "99 80 254:0 / / rw - ext4 /dev/vda rw\n"
                                               "100 99 0:99 / /tmp rw - tmpfs tmpfs rw\n"));
        /* A container on a directory of the same file system, on another one, and on nothing that is seen. */
        assert_false(namespaces_same_root(host, "99 80 254:0 /var/lib/root / rw - ext4 /dev/vda rw\n"));
        assert_false(namespaces_same_root(host, "99 80 0:44 / / rw - overlay overlay rw\n"));
        assert_false(namespaces_same_root(host, "100 99 0:99 / /tmp rw - tmpfs tmpfs rw\n"));
        assert_false(namespaces_same_root("", ""));
        /* What lies on top counts. */
        assert_false(namespaces_same_root(host, "99 80 254:0 / / rw - ext4 /dev/vda rw\n"
                                                "98 99 0:44 / / rw - overlay overlay rw\n"));
        assert_false(namespaces_same_root(host, "99 80 254:0\n99 80\n\n / /\n"));
}

static void knows_our_own(void **state) {
        (void)state;
        assert_false(namespaces_differ(getpid(), "mnt"));
        assert_false(namespaces_cgroups_differ(getpid()));
        assert_false(namespaces_mounts_on_our_root(getpid()));
}

static void sees_a_mount_namespace(void **state) {
        int ends[2];
        char byte = 0;

        (void)state;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                byte = unshare(CLONE_NEWNS) == 0 ? 'y' : 'n';
                (void)!write(ends[1], &byte, 1);
                for (;;)
                        pause();
        }
        assert_int_equal(read(ends[0], &byte, 1), 1);
        bool differs = namespaces_differ(child, "mnt"), ours = namespaces_mounts_on_our_root(child),
             net = namespaces_differ(child, "net");
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        close(ends[0]);
        close(ends[1]);
        if (byte == 'n')
                skip();
        assert_true(differs);
        assert_true(ours);
        assert_false(net);
        /* Who has ended is nowhere else than we, as far as it matters. */
        assert_false(namespaces_cgroups_differ(child));
        assert_false(namespaces_mounts_on_our_root(child));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(compares_roots),
                cmocka_unit_test(knows_our_own),
                cmocka_unit_test(sees_a_mount_namespace),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
