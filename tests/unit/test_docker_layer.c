/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The layer of a container's changes: every kind of file there and back, archives that lie, and directories put
 * aside.
 */

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "base/cleanup.h"

#include "../../plugins/docker/layer.h"

static char home[64];
static int home_fd = -EBADF, from_fd = -EBADF, to_fd = -EBADF;

static int make_home(void **state) {
        (void)state;
        snprintf(home, sizeof(home), "/var/tmp/stasis-layer.XXXXXX"); /* a disk: /tmp may be a tmpfs without user.* */
        if (!mkdtemp(home))
                return -1;
        home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (home_fd < 0 || mkdirat(home_fd, "from", 0755) < 0 || mkdirat(home_fd, "to", 0700) < 0)
                return -1;
        from_fd = openat(home_fd, "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        to_fd = openat(home_fd, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return from_fd < 0 || to_fd < 0 ? -1 : 0;
}

static int remove_home(void **state) {
        (void)state;
        close(from_fd);
        close(to_fd);
        close(home_fd);
        return layer_remove(AT_FDCWD, home, NULL);
}

static void need_root(void) {
        if (geteuid() != 0)
                skip();
}

#define ok(call)                                                         \
        do {                                                             \
                struct st_error *_e = NULL;                              \
                int _r = (call);                                         \
                if (_r < 0)                                              \
                        fail_msg("%s: %s", #call, st_error_message(_e)); \
                st_error_free(_e);                                       \
        } while (0)

#define sys(call)                                                   \
        do {                                                        \
                if ((call) < 0)                                     \
                        fail_msg("%s: %s", #call, strerror(errno)); \
        } while (0)

static int memory_file(void) {
        int fd = memfd_create("layer", MFD_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

static void write_file(int dir, const char *name, const char *data, off_t at) {
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, data, strlen(data), at), strlen(data));
}

static char *proc_path(int dir, const char *name) {
        static char path[PATH_MAX];
        snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
        return path;
}

static void set_xattr(int dir, const char *name, const char *key, const void *value, size_t size) {
        sys(lsetxattr(proc_path(dir, name), key, value, size, 0));
}

/* ---- comparing two trees ---- */

static void same_xattrs(int a, int b, const char *name) {
        char names[2][65536], *p;
        ssize_t n = llistxattr(proc_path(a, name), names[0], sizeof(names[0]));
        ssize_t m = llistxattr(proc_path(b, name), names[1], sizeof(names[1]));
        if (n != m)
                fail_msg("%s: attributes of %zd and %zd bytes", name, n, m);
        for (p = names[0]; p < names[0] + n; p += strlen(p) + 1) {
                char x[65536], y[65536];
                ssize_t s = lgetxattr(proc_path(a, name), p, x, sizeof(x));
                ssize_t t = lgetxattr(proc_path(b, name), p, y, sizeof(y));
                if (s != t || memcmp(x, y, (size_t)s) != 0)
                        fail_msg("%s: attribute %s: %zd and %zd bytes", name, p, s, t);
        }
}

#define FLAGS (FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_DIRSYNC_FL)

static void add_flags(int fd, int more) {
        int flags = 0;
        sys(ioctl(fd, FS_IOC_GETFLAGS, &flags));
        flags |= more;
        sys(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

static void same_content(int a, int b, const char *name, off_t size) {
        _cleanup_close_ int x = openat(a, name, O_RDONLY | O_CLOEXEC);
        _cleanup_close_ int y = openat(b, name, O_RDONLY | O_CLOEXEC);
        int f = 0, g = 0;
        assert_true(x >= 0 && y >= 0);
        sys(ioctl(x, FS_IOC_GETFLAGS, &f));
        sys(ioctl(y, FS_IOC_GETFLAGS, &g));
        assert_int_equal(f & FLAGS, g & FLAGS);
        for (off_t at = 0; at < size;) {
                off_t data = lseek(x, at, SEEK_DATA);
                assert_int_equal(data, lseek(y, at, SEEK_DATA));
                if (data < 0)
                        break;
                off_t hole = lseek(x, data, SEEK_HOLE);
                assert_int_equal(hole, lseek(y, data, SEEK_HOLE));
                for (at = data; at < hole;) {
                        static char p[65536], q[65536];
                        size_t n = hole - at < (off_t)sizeof(p) ? (size_t)(hole - at) : sizeof(p);
                        ssize_t got = pread(x, p, n, at);
                        assert_true(got > 0);
                        assert_int_equal(pread(y, q, (size_t)got, at), got);
                        assert_memory_equal(p, q, (size_t)got);
                        at += got;
                }
        }
}

static void same_tree(int a, int b, unsigned depth);

static void same_entry(int a, int b, const char *name, unsigned depth) {
        struct stat s, t;
        sys(fstatat(a, name, &s, AT_SYMLINK_NOFOLLOW));
        if (fstatat(b, name, &t, AT_SYMLINK_NOFOLLOW) < 0)
                fail_msg("%s is missing", name);
        if (s.st_mode != t.st_mode || s.st_uid != t.st_uid || s.st_gid != t.st_gid || s.st_rdev != t.st_rdev)
                fail_msg("%s: %o %u:%u %lx became %o %u:%u %lx", name, s.st_mode, s.st_uid, s.st_gid, s.st_rdev,
                         t.st_mode, t.st_uid, t.st_gid, t.st_rdev);
        if (!S_ISDIR(s.st_mode)) {
                assert_int_equal(s.st_nlink, t.st_nlink);
                assert_int_equal(s.st_size, t.st_size);
        }
        if (s.st_mtim.tv_sec != t.st_mtim.tv_sec || s.st_mtim.tv_nsec != t.st_mtim.tv_nsec)
                fail_msg("%s: time %ld.%09ld became %ld.%09ld", name, s.st_mtim.tv_sec, s.st_mtim.tv_nsec,
                         t.st_mtim.tv_sec, t.st_mtim.tv_nsec);
        same_xattrs(a, b, name);
        if (S_ISREG(s.st_mode))
                same_content(a, b, name, s.st_size);
        if (S_ISLNK(s.st_mode)) {
                char x[PATH_MAX] = "", y[PATH_MAX] = "";
                sys(readlinkat(a, name, x, sizeof(x) - 1));
                sys(readlinkat(b, name, y, sizeof(y) - 1));
                assert_string_equal(x, y);
        }
        if (S_ISDIR(s.st_mode) && strcmp(name, ".") != 0) {
                _cleanup_close_ int x = openat(a, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                _cleanup_close_ int y = openat(b, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                int f = 0, g = 0;
                sys(ioctl(x, FS_IOC_GETFLAGS, &f));
                sys(ioctl(y, FS_IOC_GETFLAGS, &g));
                assert_int_equal(f & FLAGS, g & FLAGS);
                same_tree(x, y, depth + 1);
        }
}

static unsigned count(int dir) {
        unsigned n = 0;
        DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n - 2;
}

static void same_tree(int a, int b, unsigned depth) {
        DIR *d = fdopendir(openat(a, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        assert_non_null(d);
        assert_int_equal(count(a), count(b));
        for (struct dirent *e; (e = readdir(d));)
                if (strcmp(e->d_name, "..") != 0 && (depth == 0 || strcmp(e->d_name, ".") != 0))
                        same_entry(a, b, e->d_name, depth);
        closedir(d);
}

/* ---- a tree with everything ---- */

static void make_names(int dir) {
        char name[NAME_MAX + 1];
        write_file(dir, "new\nline", "1", 0);
        write_file(dir, "\xff\xfe not UTF-8", "2", 0);
        write_file(dir, "ünï", "3", 0);
        write_file(dir, "._apple", "no note about \"apple\"", 0);
        write_file(dir, "apple", "4", 0);
        write_file(dir, " trailing ", "5", 0);
        write_file(dir, "back\\slash", "6", 0);
        memset(name, 0xe4, NAME_MAX);
        name[NAME_MAX] = 0;
        write_file(dir, name, "7", 0);
        sys(symlinkat("\xff/../\n", dir, "link \xff"));
        sys(linkat(dir, "\xff\xfe not UTF-8", dir, "also \xff", 0));
        sys(mkdirat(dir, "\xe4 dir", 01777));
        sys(mkdirat(dir, "GNUSparseFile.0", 0755));
}

static void make_sparse(int dir) {
        write_file(dir, "sparse", "in the middle", 1 << 20);
        write_file(dir, "sparse \xff", "end", 0);
        write_file(dir, "sparse \xff", "end", 5 << 20);
        write_file(dir, "large", "begin", 0);
        write_file(dir, "large", "end", (off_t)9 << 30);
        write_file(dir, "hole", "", 0);
        write_file(dir, "empty", "", 0);
        sys(truncate(proc_path(dir, "hole"), 123456789));
        write_file(dir, "tail", "x", 0);
        sys(truncate(proc_path(dir, "tail"), 3 << 20));
}

static void make_special(int dir) {
        sys(mknodat(dir, "whiteout", S_IFCHR, 0));
        sys(linkat(dir, "whiteout", home_fd, "shared-whiteout", 0));
        sys(mknodat(dir, "null", S_IFCHR | 0666, makedev(1, 3)));
        sys(mknodat(dir, "block", S_IFBLK | 0640, makedev(259, 1048575)));
        sys(mknodat(dir, "fifo", S_IFIFO | 0622, 0));
        sys(mknodat(dir, "socket", S_IFSOCK | 0755, 0));
        sys(linkat(dir, "fifo", dir, "fifo-link", 0));
        sys(symlinkat("/nowhere", dir, "symlink"));
        sys(linkat(dir, "symlink", dir, "symlink-link", 0));
        sys(fchownat(dir, "symlink", 7, 8, AT_SYMLINK_NOFOLLOW));
        set_xattr(dir, "symlink", "trusted.overlay.origin", "\0\xfb!", 3);
        set_xattr(dir, "whiteout", "trusted.note", "", 0);
        set_xattr(dir, "socket", "trusted.note", "a socket", 8);
}

static void make_attributes(int dir) {
        /*
         * A capability (version 2, cap_net_raw) and an ACL (version 2; user::rwx user:1000:r-- group::r-x mask::r-x
         * other::---).
         */
        static const unsigned char capability[20] = { 1, 0, 0, 2, 0, 0x20 };
        static const unsigned char acl[] = { 2, 0,   0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  4,
                                             0, 232, 3,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
                                             5, 0,   255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255 };
        static char big[3000];

        write_file(dir, "setuid", "#!", 0);
        sys(fchownat(dir, "setuid", 1000, 3000000000U, 0));
        sys(fchmodat(dir, "setuid", 06755, 0));
        set_xattr(dir, "setuid", "security.capability", capability, sizeof(capability));
        set_xattr(dir, "setuid", "user.a=b=c\n%41", "\0binary\n", 8);
        set_xattr(dir, "setuid", "user.empty", "", 0);
        set_xattr(dir, "setuid", "user.\xff", "odd", 3);
        memset(big, 'b', sizeof(big));
        set_xattr(dir, "setuid", "trusted.big", big, sizeof(big));
        sys(mkdirat(dir, "opaque", 02775));
        set_xattr(dir, "opaque", "trusted.overlay.opaque", "y", 1);
        set_xattr(dir, "opaque", "system.posix_acl_access", acl, sizeof(acl));
        write_file(dir, "opaque/no-acl", "made before the default ACL", 0);
        sys(mkdirat(dir, "opaque/plain", 0750));
        set_xattr(dir, "opaque", "system.posix_acl_default", acl, sizeof(acl));
        sys(mkdirat(dir, "flags", 0));
        _cleanup_close_ int fd = openat(dir, "flags", O_RDONLY | O_CLOEXEC);
        add_flags(fd, FS_NODUMP_FL | FS_NOATIME_FL);
        write_file(dir, "flags/immutable", "for ever", 0);
        _cleanup_close_ int file = openat(dir, "flags/immutable", O_RDONLY | O_CLOEXEC);
        add_flags(file, FS_IMMUTABLE_FL | FS_APPEND_FL);
}

static void set_time(int dir, const char *name, time_t seconds, long nanoseconds) {
        struct timespec times[] = { { 1, 2 }, { seconds, nanoseconds } };
        sys(utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW));
}

static void test_every_kind(void **state) {
        (void)state;
        struct layer_stats saved, loaded;
        need_root();
        make_names(from_fd);
        make_sparse(from_fd);
        make_special(from_fd);
        make_attributes(from_fd);
        set_time(from_fd, "symlink", 1700000000, 999999999);
        set_time(from_fd, "empty", -2, 500000000);
        set_time(from_fd, "hole", -1, 1);
        set_time(from_fd, "large", 9000000000, 1);
        set_time(from_fd, "setuid", 1, 0);
        set_time(from_fd, "opaque/plain", 1234567890, 7);
        set_time(from_fd, "opaque", 1234567890, 123456789);
        set_xattr(from_fd, ".", "trusted.overlay.impure", "y", 1);
        sys(fchmod(from_fd, 01751));
        sys(fchown(from_fd, 12, 34));
        set_time(from_fd, ".", 987654321, 1);

        _cleanup_close_ int tar = memory_file();
        ok(layer_save(from_fd, tar, NULL, &saved, &_e));
        assert_true(lseek(tar, 0, SEEK_END) < 4 << 20); /* holes take no room */
        lseek(tar, 0, SEEK_SET);
        ok(layer_load(tar, to_fd, NULL, &loaded, &_e));
        assert_int_equal(saved.entries, loaded.entries);
        assert_int_equal(saved.bytes, loaded.bytes);
        unlinkat(home_fd, "shared-whiteout", 0);
        same_tree(from_fd, to_fd, 0);

        struct stat a, b;
        sys(fstatat(to_fd, "fifo", &a, 0));
        sys(fstatat(to_fd, "fifo-link", &b, 0));
        assert_int_equal(a.st_ino, b.st_ino);
        sys(fstatat(to_fd, "empty", &a, 0));
        assert_int_equal(a.st_atim.tv_sec, 1);
        assert_int_equal(a.st_atim.tv_nsec, 2);
}

static void test_notes_of_the_mount(void **state) {
        (void)state;
        need_root();
        set_xattr(from_fd, ".", "trusted.overlay.origin", "o", 1);
        set_xattr(from_fd, ".", "trusted.overlay.uuid", "u", 1);
        write_file(from_fd, "file", "x", 0);
        set_xattr(from_fd, "file", "trusted.overlay.origin", "o", 1);
        _cleanup_close_ int tar = memory_file();
        ok(layer_save(from_fd, tar, NULL, NULL, &_e));
        lseek(tar, 0, SEEK_SET);
        ok(layer_load(tar, to_fd, NULL, NULL, &_e));
        assert_int_equal(llistxattr(proc_path(to_fd, "."), NULL, 0), 0);
        same_xattrs(from_fd, to_fd, "file");
}

#define DEPTH 100
#define COMPONENT "a directory with a name that makes the path longer than PATH_MAX"

static void test_deep(void **state) {
        (void)state;
        struct rlimit before;
        need_root();
        int fd = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; i < DEPTH; i++) {
                sys(mkdirat(fd, COMPONENT, 0755));
                int next = openat(fd, COMPONENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                close(fd);
                fd = next;
        }
        write_file(fd, "bottom", "reached", 0);
        sys(linkat(fd, "bottom", fd, "link", 0));
        close(fd);
        _cleanup_close_ int tar = memory_file();
        sys(getrlimit(RLIMIT_NOFILE, &before));
        sys(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 40, before.rlim_max }));
        ok(layer_save(from_fd, tar, NULL, NULL, &_e));
        lseek(tar, 0, SEEK_SET);
        ok(layer_load(tar, to_fd, NULL, NULL, &_e));
        sys(setrlimit(RLIMIT_NOFILE, &before));
        fd = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; i < DEPTH; i++) {
                int next = openat(fd, COMPONENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(fd);
                fd = next;
        }
        struct stat st;
        sys(fstatat(fd, "link", &st, 0));
        assert_int_equal(st.st_nlink, 2);
        close(fd);
}

/* ---- archives that lie ---- */

struct lie {
        const char *path;
        mode_t type; /* 0: a hard link */
        int expected;
        const char *target; /* of a link; of others: an attribute */
};

static void write_lie(struct archive *archive, const struct lie *lie) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_copy_pathname(entry, lie->path);
        archive_entry_set_mode(entry, (lie->type ? lie->type : S_IFREG) | 0755);
        archive_entry_set_size(entry, 0);
        if (lie->type == 0)
                archive_entry_copy_hardlink(entry, lie->target);
        else if (lie->type == S_IFLNK)
                archive_entry_copy_symlink(entry, lie->target);
        else if (lie->target)
                archive_entry_xattr_add_entry(entry, lie->target, "v", 1);
        assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
        archive_entry_free(entry);
}

static int archive_of(const struct lie *lies, size_t n) {
        int fd = memory_file();
        struct archive *archive = archive_write_new();
        archive_write_set_format_pax(archive);
        archive_write_set_options(archive, "hdrcharset=BINARY,xattrheader=LIBARCHIVE");
        archive_write_open_fd(archive, fd);
        for (size_t i = 0; i < n; i++)
                write_lie(archive, &lies[i]);
        assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
        archive_write_free(archive);
        lseek(fd, 0, SEEK_SET);
        return fd;
}

static void test_hostile(void **state) {
        (void)state;
        /* The last one of each group is the lie. */
        static const struct lie lies[][4] = {
                { { ".", S_IFDIR }, { "../escaped", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "/escaped", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFDIR }, { "a/../../escaped", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFDIR }, { "a//b", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFDIR }, { "a/./b", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "..", S_IFDIR, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFLNK, 0, ".." }, { "a/escaped", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFLNK, 0, ".." }, { "a", S_IFDIR, EEXIST } },
                { { ".", S_IFDIR }, { "a", S_IFLNK, 0, "../victim" }, { "a", S_IFREG, EEXIST } },
                { { ".", S_IFDIR }, { "a", 0, EBADMSG, "../victim" } },
                { { ".", S_IFDIR }, { "a", 0, EBADMSG, "/etc/passwd" } },
                { { ".", S_IFDIR }, { "l", S_IFLNK, 0, ".." }, { "a", 0, ENOTDIR, "l/victim" } },
                { { ".", S_IFDIR }, { "a", 0, ENOENT, "nothing" } },
                { { ".", S_IFDIR }, { "a", S_IFDIR }, { "b", 0, EPERM, "a" } },
                { { ".", S_IFDIR }, { "a", S_IFDIR }, { "b", S_IFDIR }, { "a/c", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "no/parent", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFREG }, { "a", S_IFREG, EEXIST } },
                { { ".", S_IFDIR }, { "a", S_IFREG }, { "a/b", S_IFREG, EBADMSG } },
                { { ".", S_IFDIR }, { ".", S_IFDIR, EBADMSG } },
                { { ".", S_IFREG, EBADMSG } },
                { { "a", S_IFDIR, EBADMSG } },
                { { ".", S_IFDIR }, { "a", S_IFREG, EBADMSG, "security.selinux" } },
                { { ".", S_IFDIR }, { "a", S_IFREG, EBADMSG, "system.other" } },
                { { ".", S_IFDIR }, { "a", S_IFREG, EBADMSG, "trusted.overlay.upper" } },
        };
        need_root();
        write_file(home_fd, "victim", "untouched", 0);
        for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
                size_t n = 0;
                while (n < 4 && lies[i][n].path)
                        n++;
                _cleanup_close_ int tar = archive_of(lies[i], n);
                struct st_error *error = NULL;
                char aside[LAYER_NAME_MAX];
                int r = layer_replace(home_fd, "to", tar, NULL, NULL, aside, &error);
                if (r != -lies[i][n - 1].expected)
                        fail_msg("%zu: %d %s", i, r, st_error_message(error));
                st_error_free(error);
                assert_int_equal(count(home_fd), 3);
        }
        struct stat st;
        sys(fstatat(home_fd, "victim", &st, 0));
        assert_int_equal(st.st_nlink, 1);
        assert_int_equal(st.st_size, 9);
        assert_true(faccessat(AT_FDCWD, "/escaped", F_OK, 0) < 0);
}

static void test_cut_off(void **state) {
        (void)state;
        static char block[3000];
        need_root();
        write_file(from_fd, "a", block, 0);
        write_file(from_fd, "zeros", "x", 0);
        _cleanup_close_ int zeros = openat(from_fd, "zeros", O_WRONLY | O_CLOEXEC);
        assert_int_equal(write(zeros, block, sizeof(block)), sizeof(block));
        sys(symlinkat("x", from_fd, "z"));
        _cleanup_close_ int tar = memory_file();
        ok(layer_save(from_fd, tar, NULL, NULL, &_e));
        off_t size = lseek(tar, 0, SEEK_END);
        for (off_t cut = size - 512; cut >= 0; cut -= 256) {
                struct st_error *error = NULL;
                char aside[LAYER_NAME_MAX];
                sys(ftruncate(tar, cut));
                lseek(tar, 0, SEEK_SET);
                int r = layer_replace(home_fd, "to", tar, NULL, NULL, aside, &error);
                if (r != -EBADMSG)
                        fail_msg("cut at %ld of %ld: %d %s", cut, size, r, st_error_message(error));
                st_error_free(error);
        }
        assert_int_equal(count(home_fd), 2);
}

/* ---- aside and back ---- */

static int small_archive(void) {
        static const struct lie entries[] = {
                { ".", S_IFDIR }, { "new", S_IFREG }, { "dir", S_IFDIR }, { "dir/x", S_IFREG }
        };
        return archive_of(entries, 4);
}

static void test_replace(void **state) {
        (void)state;
        char aside[LAYER_NAME_MAX];
        struct stat st;
        need_root();
        write_file(to_fd, "old", "precious", 0);
        sys(mkdirat(to_fd, "immutable", 0755));
        write_file(to_fd, "immutable/file", "x", 0);
        _cleanup_close_ int immutable = openat(to_fd, "immutable", O_RDONLY | O_CLOEXEC);
        add_flags(immutable, FS_IMMUTABLE_FL);

        _cleanup_close_ int tar = small_archive();
        ok(layer_replace(home_fd, "to", tar, NULL, NULL, aside, &_e));
        sys(fstatat(home_fd, "to/dir/x", &st, 0));
        assert_true(fstatat(home_fd, "to/old", &st, 0) < 0);
        assert_int_equal(strncmp(aside, LAYER_ASIDE_PREFIX, strlen(LAYER_ASIDE_PREFIX)), 0);
        assert_int_equal(count(home_fd), 3);
        ok(layer_replace_undo(home_fd, "to", aside, &_e));
        sys(fstatat(home_fd, "to/old", &st, 0));
        assert_true(fstatat(home_fd, "to/new", &st, 0) < 0);
        assert_int_equal(count(home_fd), 2);

        lseek(tar, 0, SEEK_SET);
        ok(layer_replace(home_fd, "to", tar, NULL, NULL, aside, &_e));
        ok(layer_replace_commit(home_fd, "to", aside, &_e));
        sys(fstatat(home_fd, "to/new", &st, 0));
        assert_int_equal(count(home_fd), 2);
}

/** Of what a policy's restores keep only the newest stays; what somebody's own has kept stays. */
static void test_keep(void **state) {
        (void)state;
        char aside[LAYER_NAME_MAX], first[LAYER_NAME_MAX], second[LAYER_NAME_MAX], by_hand[LAYER_NAME_MAX];
        struct stat st;
        need_root();
        write_file(to_fd, "old", "precious", 0);
        _cleanup_close_ int tar = small_archive();
        ok(layer_replace(home_fd, "to", tar, NULL, NULL, aside, &_e));
        assert_int_equal(layer_replace_keep(home_fd, "to", aside, false, by_hand), 0);
        assert_int_equal(strncmp(by_hand, "to.stasis-kept-2", strlen("to.stasis-kept-2")), 0);
        sys(mkdirat(home_fd, "to2.stasis-kept-restart-20260101-000000", 0755));

        lseek(tar, 0, SEEK_SET);
        ok(layer_replace(home_fd, "to", tar, NULL, NULL, aside, &_e));
        assert_int_equal(layer_replace_keep(home_fd, "to", aside, true, first), 0);
        assert_int_equal(strncmp(first, "to.stasis-kept-restart-2", strlen("to.stasis-kept-restart-2")), 0);
        lseek(tar, 0, SEEK_SET);
        ok(layer_replace(home_fd, "to", tar, NULL, NULL, aside, &_e));
        assert_int_equal(layer_replace_keep(home_fd, "to", aside, true, second), 0);
        assert_true(fstatat(home_fd, first, &st, 0) < 0);
        sys(fstatat(home_fd, second, &st, 0));
        sys(fstatat(home_fd, by_hand, &st, 0));
        sys(fstatat(home_fd, "to2.stasis-kept-restart-20260101-000000", &st, 0));
        assert_int_equal(count(home_fd), 5);

        assert_int_equal(layer_replace_keep(home_fd, "to", "absent", true, first), -ENOENT);
        sys(fstatat(home_fd, second, &st, 0));
}

static void test_not_empty(void **state) {
        (void)state;
        need_root();
        write_file(to_fd, "old", "precious", 0);
        _cleanup_close_ int tar = small_archive();
        assert_int_equal(layer_load(tar, to_fd, NULL, NULL, NULL), -EEXIST);
        assert_int_equal(count(to_fd), 1);
}

static void test_cancelled(void **state) {
        (void)state;
        need_root();
        _cleanup_close_ int cancel = eventfd(1, EFD_CLOEXEC);
        _cleanup_close_ int tar = small_archive();
        char aside[LAYER_NAME_MAX];
        struct layer_io io = { .cancel_fd = cancel };
        int pipe_fds[2];
        write_file(to_fd, "old", "precious", 0);
        assert_int_equal(layer_replace(home_fd, "to", tar, &io, NULL, aside, NULL), -ECANCELED);
        assert_int_equal(count(home_fd), 2);
        assert_int_equal(count(to_fd), 1);
        assert_int_equal(layer_save(to_fd, tar, &io, NULL, NULL), -ECANCELED);

        /* While a pipe that nobody reads or writes makes us wait. */
        sys(pipe2(pipe_fds, O_CLOEXEC));
        assert_int_equal(layer_load(pipe_fds[0], from_fd, &io, NULL, NULL), -ECANCELED);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
}

static void test_no_room(void **state) {
        (void)state;
        struct st_error *error = NULL;
        need_root();
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        write_file(from_fd, "file", "x", 0);
        assert_int_equal(layer_save(from_fd, full, NULL, NULL, &error), -ENOSPC);
        assert_non_null(strstr(st_error_message(error), "No space left on device"));
        st_error_free(error);
}

#define test(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)

int main(void) {
        const struct CMUnitTest tests[] = {
                test(test_every_kind), test(test_notes_of_the_mount),
                test(test_deep),       test(test_hostile),
                test(test_cut_off),    test(test_replace),
                test(test_keep),       test(test_not_empty),
                test(test_cancelled),  test(test_no_room),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
