/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/examine.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/* What the kernel reads of a script (BINPRM_BUF_SIZE). */
#define HEAD_SIZE 256

#define PROGRAM_HEADERS_MAX 64

static int may_execute(const char *path) {
        return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* The interpreter of a first line "#! /path argument". */
static void find_interpreter(const char head[static HEAD_SIZE + 1], char detail[static EXAMINE_DETAIL]) {
        const char *at = head + 2 + strspn(head + 2, " \t");
        size_t n = strcspn(at, " \t\n");

        if (n < EXAMINE_DETAIL) {
                memcpy(detail, at, n);
                detail[n] = '\0';
        }
}

/* The loader that an ELF program of 64 bits names. */
static void find_loader(int fd, const char *head, size_t size, char detail[static EXAMINE_DETAIL]) {
        Elf64_Ehdr elf;

        if (size < sizeof(elf) || head[EI_CLASS] != ELFCLASS64)
                return;
        memcpy(&elf, head, sizeof(elf));
        for (unsigned i = 0; i < elf.e_phnum && i < PROGRAM_HEADERS_MAX; i++) {
                Elf64_Phdr program;

                if (io_read_at(fd, &program, sizeof(program), elf.e_phoff + i * sizeof(program)) != sizeof(program))
                        return;
                if (program.p_type != PT_INTERP || program.p_filesz >= EXAMINE_DETAIL)
                        continue;
                ssize_t n = io_read_at(fd, detail, program.p_filesz, program.p_offset);
                detail[n < 0 ? 0 : n] = '\0';
                return;
        }
}

/* The file is there and may be executed: what of what runs it? */
static void examine_content(const char *path, int *number, enum launch_why *why, char detail[static EXAMINE_DETAIL]) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        char head[HEAD_SIZE + 1] = "";
        ssize_t n = fd < 0 ? -errno : io_read_at(fd, head, HEAD_SIZE, 0);
        int r;

        detail[0] = '\0';
        if (n > 2 && head[0] == '#' && head[1] == '!') {
                *why = LAUNCH_WHY_INTERPRETER;
                find_interpreter(head, detail);
        } else if (n > SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
                *why = LAUNCH_WHY_LOADER;
                find_loader(fd, head, (size_t)n, detail);
        }
        r = detail[0] ? may_execute(detail) : 0;
        if (r < 0)
                *number = -r;
        else if (*number == ENOENT && n < 0)
                *why = LAUNCH_WHY_INTERPRETER; /* it cannot be read, so we do not know which */
        else
                *why = LAUNCH_WHY_ERRNO;
}

void examine_command(const char *path, int *number, enum launch_why *why, char detail[static EXAMINE_DETAIL]) {
        struct statvfs fs;
        struct stat st;
        int r;

        *why = LAUNCH_WHY_ERRNO;
        if (stat(path, &st) < 0) {
                *number = errno;
                return;
        }
        r = may_execute(path);
        if (S_ISDIR(st.st_mode)) {
                *why = LAUNCH_WHY_DIRECTORY;
                *number = EISDIR;
        } else if (!S_ISREG(st.st_mode)) {
                *why = LAUNCH_WHY_NOT_REGULAR;
                *number = EACCES;
        } else if ((st.st_mode & 0111) == 0) {
                *why = LAUNCH_WHY_NO_X;
                *number = EACCES;
        } else if ((r == -EACCES || *number == EACCES) && statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOEXEC)) {
                *why = LAUNCH_WHY_MOUNT;
                *number = EACCES;
        } else if (r < 0) {
                *number = -r;
        } else if (*number == ENOEXEC) {
                *why = LAUNCH_WHY_NO_PROGRAM;
        } else {
                examine_content(path, number, why, detail);
        }
}
