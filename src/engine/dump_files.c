/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "criu/images.h"
#include "engine/dump_files_private.h"
#include "engine/open_files.h"
#include "process/files.h"
#include "process/parse.h"
#include "process/proc.h"

/* In all, times the limit of one file. */
#define AUTO_FILES 16

/* What --files=copy may copy while the target is frozen, about 30 ms; more when Checkpoint.FilesLimit is more. */
#define COPY_BUDGET (128ull << 20)

/* Memory that is made ready for it, bytes. */
#define EXPECTED_MAX (256ull << 20)

#define IMAGE_MAX ((uint64_t)64 << 20)

/* How many files a message names. */
#define NAMED_MAX 5

/* From this size on it is worth to write a file's pages to the disk before it is cloned, bytes. */
#define FLUSH_MIN (1 << 20)

#define FL_LEASE 32 /* of a lock's flag, include/linux/filelock.h */

/* ---- before the freeze */

static int mode_from_text(const char *text, enum dump_files_mode *ret, struct st_error **err) {
        static const char *const names[] = {
                [DUMP_FILES_AUTO] = "auto",
                [DUMP_FILES_RECORD] = "record",
                [DUMP_FILES_COPY] = "copy",
                [DUMP_FILES_NONE] = "none",
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (streq(names[i], text)) {
                        *ret = (enum dump_files_mode)i;
                        return 0;
                }
        return st_error_set(err, EINVAL, "unknown way to treat files '%s': auto, record, copy or none", text);
}

static bool shares_extents(int fd) {
        struct statfs fs;

        return fstatfs(fd, &fs) == 0 && (fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC);
}

/**
 * A file that is open for writing, before the freeze: memory for its content can be made ready, and most of its dirty
 * pages be written, which cloning it would have to do.
 */
static int prepare_file(const struct file *file, void *userdata) {
        struct dump_files *files = userdata;
        struct plain_file now;

        if (file->kind != FILE_PLAIN || !file->writable || file->link[0] != '/')
                return 0;
        if (plain_file_look(AT_FDCWD, file->link, AT_SYMLINK_NOFOLLOW, &now) < 0 || !S_ISREG(now.mode))
                return 0;
        if (now.size <= files->limit && now.size <= files->budget && files->expected + now.size <= EXPECTED_MAX)
                files->expected += now.size;
        if (files->mode != DUMP_FILES_COPY || now.size < FLUSH_MIN)
                return 0;
        _cleanup_close_ int fd = plain_file_open(file->link, O_RDONLY | O_NOATIME);
        if (fd >= 0 && shares_extents(fd))
                (void)fdatasync(fd);
        return 0;
}

static void prepare_files(struct dump_files *files, const struct process_analysis *analysis) {
        for (size_t i = 0; i < analysis->n_tasks; i++) {
                _cleanup_close_ int proc_fd = proc_open(analysis->tasks[i].pid);

                if (proc_fd >= 0)
                        (void)files_each(proc_fd, FILES_ALL, prepare_file, files);
        }
}

uint64_t dump_files_expected(const struct dump_context *context) {
        return context->files ? context->files->expected : 0;
}

static void dump_files_clear(struct dump_files *files) {
        file_records_clear(&files->records);
        for (size_t i = 0; i < files->n_clones; i++)
                close(files->clones[i].fd);
        free(files->clones);
        free(files->devices);
        strv_clear(&files->left_out);
}

int dump_files(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const struct st_arguments *config = st_operation_config(dump->operation);
        struct dump_context *context = dump_context(dump);
        uint64_t limit = (uint64_t)st_arguments_int(config, "Checkpoint.FilesLimit");
        const char *mode =
                isempty(dump->req->files) ? st_arguments_string(config, "Checkpoint.Files") : dump->req->files;
        struct dump_files files = { 0 };
        int r;

        r = mode_from_text(mode, &files.mode, err);
        if (r < 0)
                return r;
        switch (files.mode) {
        case DUMP_FILES_AUTO:
                files.limit = limit;
                if (__builtin_mul_overflow(limit, AUTO_FILES, &files.budget))
                        files.budget = UINT64_MAX;
                break;
        case DUMP_FILES_COPY:
                /* A target that is going to be ended anyway can wait. */
                files.limit = UINT64_MAX;
                files.budget = context->dump.stop ? UINT64_MAX : limit > COPY_BUDGET ? limit : COPY_BUDGET;
                break;
        case DUMP_FILES_RECORD:
        case DUMP_FILES_NONE:
                break;
        }
        if (files.limit > 0)
                prepare_files(&files, context->analysis);
        context->files = &files;
        r = st_dump_proceed(next, dump, err);
        context->files = NULL;
        dump_files_clear(&files);
        return r;
}

/* ---- while frozen */

/** All bytes of a file of the store; malloc'ed. -ENOENT without err: there is none. */
static int read_store(const struct store *store, const char *name, char **ret, size_t *ret_size,
                      struct st_error **err) {
        const struct store_file *file = store_find(store, name);
        struct store_reader reader = { .store = store, .file = file };
        const uint8_t *piece;
        size_t have = 0;
        ssize_t n;

        if (!file)
                return -ENOENT;
        if (file->size > IMAGE_MAX)
                return st_error_set(err, EFBIG, "%s of the target's image is too large", name);
        _cleanup_free_ char *data = malloc((size_t)file->size + 1);
        if (!data)
                return st_error_errno(err, ENOMEM, "cannot read %s of the target's image", name);
        while ((n = store_read(&reader, &piece)) > 0) {
                memcpy(data + have, piece, (size_t)n);
                have += (size_t)n;
        }
        store_reader_clear(&reader);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read back %s", name);
        *ret = TAKE_PTR(data);
        *ret_size = have;
        return 0;
}

static int load_maps(const struct store *store, struct open_files *open, struct st_error **err) {
        uint64_t pid;
        int r = 0;

        for (size_t i = 0; i < store->n_files && r >= 0; i++) {
                const char *name = store->files[i]->name;
                _cleanup_free_ char *data = NULL;
                size_t size;

                if (!criu_images_id(name, "mm", &pid))
                        continue;
                r = read_store(store, name, &data, &size, err);
                if (r >= 0)
                        r = open_files_add_maps(open, name, data, size, err);
        }
        return r;
}

/** Is there a lease among the locks? To open such a file breaks it. */
static int visit_lock(struct criu_image_entry *entry, void *userdata, struct st_error **err) {
        (void)err;
        *(bool *)userdata |= (((const CriuImage__FileLock *)entry->message)->flag & FL_LEASE) != 0;
        return 0;
}

/** What CRIU says of the open files. */
static int load(struct dump_files *files, const struct store *store, struct open_files *open, struct st_error **err) {
        _cleanup_free_ char *data = NULL, *remaps = NULL, *locks = NULL;
        size_t size;
        int r;

        r = read_store(store, "remap-fpath.img", &remaps, &size, err);
        if (r >= 0)
                r = open_files_add_remaps(open, remaps, size, err);
        if (r >= 0 || r == -ENOENT)
                r = read_store(store, "files.img", &data, &size, err);
        if (r >= 0)
                r = open_files_add(open, data, size, err);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = load_maps(store, open, err);
        if (r < 0)
                return r;
        open_files_finish(open);

        r = read_store(store, "filelocks.img", &locks, &size, err);
        if (r >= 0)
                r = criu_images_each("filelocks.img", locks, size, &criu_image__file_lock__descriptor, visit_lock,
                                     &files->no_opens, err);
        files->no_opens |= open->has_fanotify;
        return r == -ENOENT ? 0 : r;
}

/** Made up by the kernel, or of another machine's making: nothing there can be put back. */
static bool is_pseudo(const char *path) {
        /* Those that linux/magic.h does not name: kernel sources, fs/…. */
        static const long magics[] = {
                PROC_SUPER_MAGIC,
                SYSFS_MAGIC,
                CGROUP_SUPER_MAGIC,
                CGROUP2_SUPER_MAGIC,
                DEBUGFS_MAGIC,
                TRACEFS_MAGIC,
                SELINUX_MAGIC,
                SECURITYFS_MAGIC,
                BPF_FS_MAGIC,
                EFIVARFS_MAGIC,
                0x62656570 /* configfs */,
                0x19800202 /* mqueue */,
                0x65735543 /* fusectl */,
                DEVPTS_SUPER_MAGIC,
                NSFS_MAGIC,
                BINFMTFS_MAGIC,
                PSTOREFS_MAGIC,
        };
        struct statfs fs;

        if (statfs(path, &fs) < 0)
                return true;
        for (size_t i = 0; i < ELEMENTSOF(magics); i++)
                if (fs.f_type == magics[i])
                        return true;
        return false;
}

struct dump_files_device *dump_files_device(struct dump_files *files, uint64_t dev, const char *path) {
        for (size_t i = 0; i < files->n_devices; i++)
                if (files->devices[i].dev == dev)
                        return &files->devices[i];
        GROW(files->devices, files->n_devices, files->room_devices);
        files->devices[files->n_devices] = (struct dump_files_device){ .dev = dev, .pseudo = is_pseudo(path) };
        return &files->devices[files->n_devices++];
}

static void add_record(struct dump_files *files, const struct open_file *open) {
        struct file_record record = {
                .append = open->append,
                .at_end = open->at_end,
                .mapped = open->mapped,
                .position = open->position,
        };

        if (plain_file_look(AT_FDCWD, open->path, AT_SYMLINK_NOFOLLOW, &record.was) < 0 || !S_ISREG(record.was.mode) ||
            dump_files_device(files, record.was.dev, open->path)->pseudo)
                return;
        /* A process outside writes to it, too: CRIU's size is what a restore must find. */
        if (open->has_size && record.was.size != open->size) {
                record.was.size = open->size;
                record.was.mtime = (struct timespec){ 0 };
        }
        record.path = xstrdup(open->path);
        GROW(files->records.items, files->records.n, files->records.room);
        files->records.items[files->records.n++] = record;
}

int dump_files_capture(struct dump_context *context, struct store *store, struct st_error **err) {
        _cleanup_open_files_ struct open_files open = { 0 };
        struct dump_files *files = context->files;
        uint64_t begin = clock_ns();
        size_t paths = 0;
        int r;

        if (!files || files->mode == DUMP_FILES_NONE)
                return 0;
        r = load(files, store, &open, err);
        if (r < 0)
                return st_error_wrap(err, "cannot record the open files");
        files->records.boot = xstrdup(proc_boot_id());
        for (size_t i = 0; i < open.n; i++) {
                if (!open.items[i].writable)
                        continue;
                paths += strlen(open.items[i].path);
                if (files->records.n < FILE_RECORD_MAX && paths <= FILE_RECORD_PATHS_MAX)
                        add_record(files, &open.items[i]);
                else
                        strv_addf(&files->left_out, "%s", open.items[i].path);
        }
        r = dump_files_take_content(files, store, err);
        if (r < 0)
                return st_error_wrap(err, "cannot save the content of open files");
        files->captured = true;
        st_log_debug("%zu files were looked at, %zu of them cloned, in %.2f ms, the target frozen", files->records.n,
                     files->n_clones, (double)(clock_ns() - begin) / 1000000);
        return 0;
}

/* ---- after it, or before the target is ended */

static void tell_left_out(struct dump_context *context) {
        const struct strv *left_out = &context->files->left_out;
        _cleanup_strv_ struct strv named = { 0 };
        _cleanup_free_ char *text = NULL;

        if (left_out->n == 0)
                return;
        for (size_t i = 0; i < left_out->n && i < NAMED_MAX; i++)
                strv_add(&named, left_out->items[i]);
        if (left_out->n > NAMED_MAX)
                strv_addf(&named, "and %zu more", left_out->n - NAMED_MAX);
        text = strv_join(&named, ", ");
        st_dump_message(&context->dump, "the content of these files is not in the checkpoint: %s%s", text,
                        context->files->mode == DUMP_FILES_COPY ? ": a larger Checkpoint.FilesLimit takes it in" : "");
}

int dump_files_finish(struct dump_context *context, struct store *store, struct st_error **err) {
        struct dump_files *files = context->files;
        _cleanup_free_ char *text = NULL;
        struct store_file *file;
        int r;

        if (!files || !files->captured)
                return 0;
        files->captured = false;
        r = dump_files_store_content(files, store, err);
        if (r < 0)
                return st_error_wrap(err, "cannot save the content of open files");
        tell_left_out(context);
        text = file_records_to_json(&files->records);
        file = store_add(store, FILE_RECORD, err);
        if (!file)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        return store_append(store, file, text, strlen(text), err);
}
