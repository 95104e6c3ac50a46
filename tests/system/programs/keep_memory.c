/* SPDX-License-Identifier: Apache-2.0 */

/* Mappings of all kinds, namespaces and roots: keep.h says how it is used. */

#include <linux/limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/utsname.h>
#include <time.h>

#include "keep.h"

#define SIZE ((size_t)64 << 10)
#define HUGE_SIZE ((size_t)2 << 20)

static volatile char *map(size_t size, int protection, int flags) {
        void *memory = mmap(NULL, size, protection, flags | MAP_ANONYMOUS, -1, 0);

        CHECK(memory != MAP_FAILED);
        return memory;
}

/** The line of /proc/self/smaps that says VmFlags of the mapping that begins there. */
static bool has_flag(volatile const void *start, const char *flag) {
        FILE *f = fopen("/proc/self/smaps", "re");
        char line[1024];
        bool here = false, found = false;

        while (f && fgets(line, sizeof(line), f)) {
                unsigned long from, to;

                if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
                        here = from <= (unsigned long)start && (unsigned long)start < to;
                else if (here && strncmp(line, "VmFlags:", 8) == 0)
                        found = strstr(line, flag) != NULL;
        }
        if (f)
                (void)fclose(f);
        return found;
}

static void keep_maps(void) {
        const int private = MAP_PRIVATE, write = PROT_READ | PROT_WRITE;
        volatile char *none = map(SIZE, write, private), *code = map(SIZE, write, private),
                      *advised = map(SIZE, write, private), *locked = map(SIZE, write, private),
                      *sparse = map((size_t)1 << 30, write, private | MAP_NORESERVE),
                      *grows = map(SIZE, write, private | MAP_GROWSDOWN), *forked = map(SIZE, write, private);
        int file = MUST(open("/proc/self/exe", O_RDONLY));
        volatile char *text = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 4096), first = text[0];

        none[5] = 'n';
        MUST(mprotect((void *)none, SIZE, PROT_NONE));
        code[0] = (char)0xc3; /* x86: return; just bytes elsewhere */
        MUST(mprotect((void *)code, SIZE, PROT_READ | PROT_EXEC));
        MUST(madvise((void *)advised, SIZE, MADV_DONTFORK));
        MUST(madvise((void *)advised, SIZE, MADV_DONTDUMP));
        MUST(madvise((void *)forked, SIZE, MADV_WIPEONFORK));
        MUST(mlock((void *)locked, 4096));
        locked[1] = 'l';
        sparse[(size_t)512 << 20] = 's';
        grows[SIZE - 1] = 'g';
        forked[0] = 'w';
        meanwhile();
        MUST(mprotect((void *)none, SIZE, PROT_READ));
        CHECK(none[5] == 'n' && code[0] == (char)0xc3 && has_flag(code, " ex"));
        CHECK(has_flag(advised, " dc") && has_flag(advised, " dd") && has_flag(forked, " wf"));
        CHECK(has_flag(locked, " lo") && locked[1] == 'l');
        CHECK(sparse[(size_t)512 << 20] == 's' && sparse[(size_t)700 << 20] == 0);
        CHECK(grows[SIZE - 1] == 'g' && has_flag(grows, " gd"));
        CHECK(text[0] == first && forked[0] == 'w');
}

/** Pages that a child has not changed since the fork, and such that it has. */
static void keep_copies(void) {
        volatile char *memory = map(16 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

        memset((void *)memory, 'p', 16 * SIZE);
        pid_t child = MUST(fork());
        if (child == 0) {
                memory[SIZE] = 'c';
                wait_for_file(place("go"));
                _exit(memory[SIZE] == 'c' && memory[0] == 'p' && memory[16 * SIZE - 1] == 'p' ? 7 : 1);
        }
        memory[2 * SIZE] = 'q';
        meanwhile();
        reap(child, 7);
        CHECK(memory[SIZE] == 'p' && memory[2 * SIZE] == 'q');
}

/** Only where huge pages are reserved. */
static void keep_huge(void) {
        volatile char *private = map(HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_HUGETLB),
                      *shared = map(HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_HUGETLB);

        private[HUGE_SIZE - 1] = 'p';
        shared[12345] = 's';
        meanwhile();
        CHECK(private[HUGE_SIZE - 1] == 'p' && private[0] == 0 && has_flag(private, " ht"));
        CHECK(shared[12345] == 's' && has_flag(shared, " ht"));
}

static void keep_uts(void) {
        struct utsname name;

        MUST(unshare(CLONE_NEWUTS));
        MUST(sethostname("kept", 4));
        MUST(setdomainname("domain", 6));
        meanwhile();
        CHECK(uname(&name) == 0 && strcmp(name.nodename, "kept") == 0 && strcmp(name.domainname, "domain") == 0);
}

/** A /tmp in memory would be packed into the checkpoint, with what others write there: not when none of it is used. */
static void leave_out_tmp(const char *program) {
        struct statfs st;

        MUST(statfs("/tmp", &st));
        if (st.f_type == TMPFS_MAGIC && strncmp(program, "/tmp/", 5) != 0 && strncmp(directory, "/tmp/", 5) != 0)
                MUST(umount2("/tmp", MNT_DETACH));
}

/**
 * A mount namespace of its own, as `unshare --mount` makes it: the program is begun in it, so that it has nothing open
 * of another. In it, a tmpfs with a file that is open.
 */
static void keep_mounts(void) {
        char program[PATH_MAX] = "";

        if (!getenv("KEEP_INSIDE")) {
                CHECK(readlink("/proc/self/exe", program, sizeof(program) - 1) > 0);
                MUST(unshare(CLONE_NEWNS));
                MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
                leave_out_tmp(program);
                for (int fd = 0; fd < 3; fd++) {
                        close(fd);
                        CHECK(open("/dev/null", O_RDWR) == fd);
                }
                MUST(setenv("KEEP_INSIDE", "1", 1));
                MUST(execl(program, program, object_name, directory, NULL));
        }
        MUST(mkdir(place("tmpfs"), 0700));
        MUST(mount("kept", place("tmpfs"), "tmpfs", 0, "size=1m"));
        int file = MUST(open(place("tmpfs/file"), O_RDWR | O_CREAT, 0600));
        write_all(file, "content", 7);
        meanwhile();
        MUST(lseek(file, 0, SEEK_SET));
        expect(file, "content");
        struct stat inside, outside;
        CHECK(stat(place("tmpfs/file"), &inside) == 0 && stat(directory, &outside) == 0);
        CHECK(inside.st_dev != outside.st_dev);
}

static void keep_time(void) {
        struct timespec before, after;
        int offsets;

        MUST(unshare(CLONE_NEWTIME));
        offsets = MUST(open("/proc/self/timens_offsets", O_WRONLY));
        write_all(offsets, "monotonic 100000 0", 18);
        close(offsets);
        int ns = MUST(open("/proc/self/ns/time_for_children", O_RDONLY));
        MUST(setns(ns, CLONE_NEWTIME));
        close(ns);
        MUST(clock_gettime(CLOCK_MONOTONIC, &before));
        meanwhile();
        MUST(clock_gettime(CLOCK_MONOTONIC, &after));
        CHECK(after.tv_sec >= before.tv_sec && after.tv_sec < before.tv_sec + 600);
}

static void keep_chroot(void) {
        struct stat here, above;
        const char *outside = directory;

        MUST(chroot(directory));
        MUST(chdir("/"));
        directory = "/";
        meanwhile();
        CHECK(access(outside, F_OK) < 0 && errno == ENOENT);
        CHECK(stat("/..", &above) == 0 && stat("/", &here) == 0 && here.st_ino == above.st_ino);
}

const struct object objects[] = {
        { "maps", keep_maps },     { "copies", keep_copies }, { "huge", keep_huge },     { "uts", keep_uts },
        { "mounts", keep_mounts }, { "time", keep_time },     { "chroot", keep_chroot }, { NULL, NULL },
};
