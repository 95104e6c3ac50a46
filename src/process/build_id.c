/* SPDX-License-Identifier: Apache-2.0 */
#include "process/build_id.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"

/* Real files have a dozen program headers and notes of some hundred bytes. */
#define HEADERS_MAX 1024
#define NOTES_MAX ((uint64_t)64 << 10)

/** Reads so many bytes from a place of the file. @return 0; -ENODATA at its end; -errno */
static int read_at(int fd, uint64_t offset, void *buffer, size_t n) {
        ssize_t k = io_read_at(fd, buffer, n, offset);

        return k < 0 ? (int)k : (size_t)k == n ? 0 : -ENODATA;
}

/** Looks for the build ID in a segment of notes. @return its length, 0 when it is not there */
static int find_note(const uint8_t *notes, size_t size, uint8_t id[BUILD_ID_MAX]) {
        size_t at = 0;

        while (size - at >= sizeof(Elf64_Nhdr)) { /* both classes have the same */
                Elf64_Nhdr note;

                memcpy(&note, notes + at, sizeof(note));
                at += sizeof(note);
                uint64_t name = ((uint64_t)note.n_namesz + 3) & ~UINT64_C(3);
                uint64_t content = ((uint64_t)note.n_descsz + 3) & ~UINT64_C(3);
                if (name > size - at || note.n_descsz > size - at - name)
                        return 0;
                if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + at, "GNU", 4) == 0 &&
                    note.n_descsz <= BUILD_ID_MAX) {
                        memcpy(id, notes + at + name, note.n_descsz);
                        return (int)note.n_descsz;
                }
                if (content > size - at - name)
                        return 0;
                at += (size_t)(name + content);
        }
        return 0;
}

static int read_notes(int fd, uint64_t offset, uint64_t size, uint8_t id[BUILD_ID_MAX]) {
        _cleanup_free_ uint8_t *notes = NULL;

        if (size > NOTES_MAX)
                return 0;
        notes = xmalloc((size_t)size + 1);
        return read_at(fd, offset, notes, (size_t)size) < 0 ? 0 : find_note(notes, (size_t)size, id);
}

/** One program header, of either class: where its notes are. @return whether it has any */
static bool notes_of(const uint8_t *header, bool wide, uint64_t *offset, uint64_t *size) {
        if (wide) {
                Elf64_Phdr segment;

                memcpy(&segment, header, sizeof(segment));
                *offset = segment.p_offset;
                *size = segment.p_filesz;
                return segment.p_type == PT_NOTE;
        }
        Elf32_Phdr segment;

        memcpy(&segment, header, sizeof(segment));
        *offset = segment.p_offset;
        *size = segment.p_filesz;
        return segment.p_type == PT_NOTE;
}

int build_id_read(int fd, uint8_t id[BUILD_ID_MAX]) {
        union {
                unsigned char identity[EI_NIDENT];
                Elf64_Ehdr wide;
                Elf32_Ehdr narrow;
        } file = { 0 };
        const unsigned char order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
        int r = read_at(fd, 0, &file.narrow, sizeof(file.narrow));

        if (r < 0)
                return r == -ENODATA ? 0 : r;
        bool wide = file.identity[EI_CLASS] == ELFCLASS64;
        if (memcmp(file.identity, ELFMAG, SELFMAG) != 0 || file.identity[EI_DATA] != order ||
            (!wide && file.identity[EI_CLASS] != ELFCLASS32) ||
            (wide && read_at(fd, 0, &file.wide, sizeof(file.wide)) < 0))
                return 0;

        size_t n = wide ? file.wide.e_phnum : file.narrow.e_phnum;
        size_t each = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
        uint64_t table = wide ? file.wide.e_phoff : file.narrow.e_phoff;
        for (size_t i = 0; i < n && i < HEADERS_MAX; i++) {
                uint8_t header[sizeof(Elf64_Phdr)];
                uint64_t offset, size;

                if (read_at(fd, table + i * each, header, each) < 0)
                        return 0;
                if (notes_of(header, wide, &offset, &size) && (r = read_notes(fd, offset, size, id)) > 0)
                        return r;
        }
        return 0;
}
