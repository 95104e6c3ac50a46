/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats-dump and stats-restore: a service image of CRIU, i.e. two little-endian magic numbers, the size of the message
 * and the message. Magic numbers: criu/include/magic.h; fields: images/stats.proto (CRIU 4.2.1; never renumbered).
 */
#include <errno.h>
#include <fcntl.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "criu/statistics.h"

#define MAGIC_SERVICE 0x55105940u
#define MAGIC_STATS 0x57093306u
#define FILE_MAX 65536

enum { ENTRY_DUMP = 1, ENTRY_RESTORE = 2 }; /* of stats_entry */

struct bytes {
        const uint8_t *data;
        size_t size;
};

static int take_varint(struct bytes *in, uint64_t *ret) {
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 64; shift += 7) {
                if (in->size == 0)
                        return -EBADMSG;

                uint8_t byte = *in->data++;

                in->size--;
                value |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = value;
                        return 0;
                }
        }
        return -EBADMSG;
}

static int take_bytes(struct bytes *in, uint64_t size, struct bytes *ret) {
        if (size > in->size)
                return -EBADMSG;
        *ret = (struct bytes){ in->data, (size_t)size };
        in->data += size;
        in->size -= (size_t)size;
        return 0;
}

/*
 * The next field: its number; a number in *ret_value or a length-delimited part in *ret_part, the other one zero.
 *
 * @return 1, 0 at the end, -EBADMSG
 */
static int take_field(struct bytes *in, uint64_t *ret_number, uint64_t *ret_value, struct bytes *ret_part) {
        uint64_t tag, size;

        *ret_value = 0;
        *ret_part = (struct bytes){ 0 };
        if (in->size == 0)
                return 0;
        if (take_varint(in, &tag) < 0)
                return -EBADMSG;
        *ret_number = tag >> 3;
        switch (tag & 7) {
        case 0:
                return take_varint(in, ret_value) < 0 ? -EBADMSG : 1;
        case 1:
                return take_bytes(in, 8, ret_part) < 0 ? -EBADMSG : 1;
        case 2:
                return take_varint(in, &size) < 0 || take_bytes(in, size, ret_part) < 0 ? -EBADMSG : 1;
        case 5:
                return take_bytes(in, 4, ret_part) < 0 ? -EBADMSG : 1;
        default:
                return -EBADMSG;
        }
}

static uint64_t *dump_member(struct criu_statistics *s, uint64_t field) {
        switch (field) {
        case 1:
                return &s->freezing_us;
        case 2:
                return &s->frozen_us;
        case 3:
                return &s->memory_dump_us;
        case 4:
                return &s->memory_write_us;
        case 5:
                return &s->pages_scanned;
        case 7:
                return &s->pages_written;
        default:
                return NULL;
        }
}

static uint64_t *restore_member(struct criu_statistics *s, uint64_t field) {
        switch (field) {
        case 3:
                return &s->forking_us;
        case 4:
                return &s->restore_us;
        case 5:
                return &s->pages_restored;
        default:
                return NULL;
        }
}

static int parse_entry(struct bytes in, enum criu_operation operation, struct criu_statistics *s) {
        uint64_t field, value;
        struct bytes part;
        int r;

        while ((r = take_field(&in, &field, &value, &part)) > 0) {
                uint64_t *m = operation == CRIU_DUMP ? dump_member(s, field) : restore_member(s, field);

                if (m)
                        *m = value;
        }
        return r;
}

int criu_statistics_parse(const uint8_t *data, size_t size, enum criu_operation operation,
                          struct criu_statistics *ret) {
        uint64_t wanted = operation == CRIU_DUMP ? ENTRY_DUMP : ENTRY_RESTORE, field, value;
        struct criu_statistics statistics = { 0 };
        struct bytes in, part;
        bool found = false;
        int r;

        if (size < 12 || bytes_le32(data) != MAGIC_SERVICE || bytes_le32(data + 4) != MAGIC_STATS ||
            bytes_le32(data + 8) > size - 12)
                return -EBADMSG;
        in = (struct bytes){ data + 12, bytes_le32(data + 8) };
        while ((r = take_field(&in, &field, &value, &part)) > 0)
                if (field == wanted && part.data) {
                        r = parse_entry(part, operation, &statistics);
                        if (r < 0)
                                return r;
                        found = true;
                }
        if (r < 0 || !found)
                return -EBADMSG;
        *ret = statistics;
        return 0;
}

int criu_statistics_read(const char *work_dir, enum criu_operation operation, struct criu_statistics *ret) {
        _cleanup_free_ char *path = path_join(work_dir, operation == CRIU_DUMP ? "stats-dump" : "stats-restore");
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = io_read_file(AT_FDCWD, path, FILE_MAX, &data, &size);

        if (r < 0)
                return r == -EFBIG ? -EBADMSG : r;
        return criu_statistics_parse((const uint8_t *)data, size, operation, ret);
}
