/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mount points that stay outside the checkpoint: those that the container's variable STASIS_PERSISTENT_MOUNTS names. A
 * bind mount of config.json is so anyway: runc sees to it. To CRIU the others are "external" (criu(8), mnt[]): it saves
 * nothing of them, and a restore says where each is now. That is the directory of this machine that it is, where there
 * is one; else the file system is mounted anew from the source that it had.
 */

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <stasis/checkpoint.h>

#include "runc_restore.h"

#define MOUNTINFO_MAX ((size_t)16 << 20)
#define MOUNTS_MAX 256

/* What a value in CRIU's configuration file cannot hold (criu/config.c), quoted or not. */
#define NOT_FOR_CRIU " \t\n\v\f\r#\""

/* One line of mountinfo: proc(5). */
struct entry {
        char device[32]; /* "8:1" */
        char *root, *point, *type, *source;
};

static void entry_clear(struct entry *entry) {
        free(entry->root);
        free(entry->point);
        free(entry->type);
        free(entry->source);
        *entry = (struct entry){ 0 };
}

static bool parse(char *line, struct entry *ret) {
        char *fields[6], *rest = strstr(line, " - "), *saved = NULL, *type, *source;

        if (!rest)
                return false;
        *rest = '\0';
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                fields[i] = strtok_r(i == 0 ? line : NULL, " ", &saved);
                if (!fields[i])
                        return false;
        }
        type = strtok_r(rest + 3, " ", &saved);
        source = strtok_r(NULL, " ", &saved);
        if (!type || strlen(fields[2]) >= sizeof(ret->device))
                return false;
        (void)snprintf(ret->device, sizeof(ret->device), "%s", fields[2]);
        ret->root = util_unescape(fields[3]);
        ret->point = util_unescape(fields[4]);
        ret->type = util_strdup(type);
        ret->source = util_unescape(source ?: "none");
        return true;
}

/**
 * Looks through the mounts that a process sees, from the last one to the first: what was mounted later lies above.
 *
 * @return 1 found, 0 not; -errno
 */
static int find_mount(const char *process, bool (*is_it)(const struct entry *entry, const void *userdata),
                      const void *userdata, struct entry *ret) {
        _cleanup_free_ char *path = util_printf("/proc/%s/mountinfo", process), *text = NULL;
        int r = util_read_file(path, MOUNTINFO_MAX, &text, NULL);
        char *end;

        if (r < 0)
                return r;
        end = text + strlen(text);
        while (end > text) {
                char *line;

                *--end = '\0';
                line = strrchr(text, '\n');
                line = line ? line + 1 : text;
                end = line;
                if (parse(line, ret)) {
                        if (is_it(ret, userdata))
                                return 1;
                        entry_clear(ret);
                }
        }
        return 0;
}

static bool is_at(const struct entry *entry, const void *userdata) {
        return streq(entry->point, userdata);
}

/** Can the mount of the container be seen through this one of ours? */
static bool shows(const struct entry *ours, const void *userdata) {
        const struct entry *theirs = userdata;

        return streq(ours->device, theirs->device) && util_is_below(theirs->root, ours->root);
}

/** The same directory on this machine; malloc'ed, NULL: there is none. */
static char *find_on_host(pid_t pid, const struct entry *theirs) {
        _cleanup_free_ char *inside = util_printf("/proc/%d/root%s", (int)pid, theirs->point), *path = NULL;
        struct entry ours = { 0 };
        struct stat a, b;

        if (find_mount("self", shows, theirs, &ours) <= 0)
                return NULL;
        const char *below = theirs->root + (streq(ours.root, "/") ? 0 : strlen(ours.root));
        path = streq(below, "/") ? util_strdup(ours.point)
                                 : util_printf("%s%s", streq(ours.point, "/") ? "" : ours.point, below);
        entry_clear(&ours);
        if (stat(path, &a) < 0 || stat(inside, &b) < 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
                return NULL;
        return TAKE_PTR(path);
}

static bool is_bound_by_config(const json_t *config, const char *point) {
        json_t *mount;
        size_t i;

        json_array_foreach(json_object_get(config, "mounts"), i, mount) {
                const char *destination = util_json_text(mount, "destination", NULL);
                if (destination && streq(destination, point) && runc_is_bind_mount(mount))
                        return true;
        }
        return false;
}

/** name_for_criu() has a way for every directory, but not for a file. */
static int check_host(const char *host, struct st_error **err) {
        struct stat st;

        if (!strpbrk(host, NOT_FOR_CRIU) || (stat(host, &st) == 0 && S_ISDIR(st.st_mode)))
                return 0;
        st_error_set(err, EINVAL, "CRIU cannot be told the name of the file '%s'", host);
        st_error_hint(err, "give it a name without spaces, # and \"");
        return st_error_wrap(err, "%s", RUNC_VARIABLE);
}

/** A field is bytes, and JSON holds none that are not UTF-8: NULL is saved as none. */
static void save_field(json_t *saved, const char *name, const char *text) {
        _cleanup_free_ char *escaped = text ? util_escape(text) : NULL;

        if (escaped)
                json_object_set_new(saved, name, json_string(escaped));
}

/** A field that was saved so; malloc'ed, NULL: there is none, or it is not of ours. */
static char *saved_field(const json_t *saved, const char *name) {
        const char *text = util_json_text(saved, name, NULL);

        return text && !strpbrk(text, NOT_FOR_CRIU) ? util_unescape(text) : NULL;
}

static int add_mount(struct st_dump *dump, const struct runc_container *container, const char *point,
                     struct util_list *lines, json_t *list, struct st_error **err) {
        _cleanup_free_ char *process = util_printf("%d", (int)container->pid), *host = NULL;
        _cleanup_(entry_clear) struct entry entry = { 0 };
        size_t number = json_array_size(list);
        json_t *saved;
        int r;

        if (*point != '/' || strpbrk(point, NOT_FOR_CRIU "[]:") || number >= MOUNTS_MAX) {
                st_error_set(err, EINVAL, "%s: '%s' cannot be left out", RUNC_VARIABLE, point);
                st_error_hint(err, "it names at most %d absolute paths without spaces, and without any of []#\"",
                              MOUNTS_MAX);
                return -EINVAL;
        }
        if (is_bound_by_config(container->config, point))
                return 0;
        r = find_mount(process, is_at, point, &entry);
        if (r < 0)
                return st_error_errno(err, r, "cannot read the mounts of process %s", process);
        if (r == 0) {
                st_dump_message(dump, "%s names %s, which is no mount point: it is not left out", RUNC_VARIABLE, point);
                return 0;
        }
        host = find_on_host(container->pid, &entry);
        r = host ? check_host(host, err) : 0;
        if (r < 0)
                return r;
        util_list_addf(lines, "external mnt[%s]:stasis-%zu", point, number);
        saved = json_object();
        save_field(saved, "point", point);
        save_field(saved, "type", entry.type);
        save_field(saved, "source", entry.source);
        save_field(saved, "host", host);
        json_array_append_new(list, saved);
        st_dump_message(dump, "%s is not in the checkpoint: %s", point,
                        host                         ? "a restore uses the same directory of this machine"
                        : streq(entry.type, "tmpfs") ? "it is empty after a restore"
                                                     : "a restore mounts it anew");
        return 0;
}

int runc_mounts_find(struct st_dump *dump, const struct runc_container *container, struct util_list *lines,
                     json_t **ret, struct st_error **err) {
        const char *value = runc_variable(container->config, RUNC_VARIABLE);
        _cleanup_json_ json_t *list = json_array();

        for (const char *at = value ?: ""; *at;) {
                size_t size = strcspn(at, ":,");
                _cleanup_free_ char *point = util_printf("%.*s", (int)size, at);
                int r;

                for (size_t n = size; n > 1 && point[n - 1] == '/'; n--)
                        point[n - 1] = '\0';
                r = *point ? add_mount(dump, container, point, lines, list, err) : 0;
                if (r < 0)
                        return r;
                at += size + (at[size] != '\0');
        }
        *ret = TAKE_PTR(list);
        return 0;
}

/** Mounts a file system again that this machine shows nowhere. */
static int mount_anew(struct st_operation *operation, const char *type, const char *source, size_t number,
                      struct util_list *made, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/mount-%zu", st_operation_work_dir(operation), number);

        if (mkdir(path, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", path);
        if (mount(source, path, type, MS_NOSUID | MS_NODEV, NULL) < 0) {
                int number_of = errno;

                (void)rmdir(path);
                return st_error_errno(err, number_of, "cannot mount %s (%s)", source, type);
        }
        util_list_add(made, path);
        (void)mount(NULL, path, NULL, MS_PRIVATE, NULL);
        if (streq(type, "tmpfs"))
                (void)chmod(path, 01777);
        return 0;
}

/**
 * How CRIU can be told of something on this machine: by its path, or through a link where that is a name that its
 * configuration cannot hold. It follows a link only within a path.
 */
static int name_for_criu(struct st_operation *operation, const char *host, size_t number, char **ret,
                         struct st_error **err) {
        if (!strpbrk(host, NOT_FOR_CRIU)) {
                *ret = util_strdup(host);
                return 0;
        }
        _cleanup_free_ char *link = util_printf("%s/mount-%zu", st_operation_work_dir(operation), number);
        if (symlink(host, link) < 0)
                return st_error_errno(err, errno, "cannot make %s", link);
        *ret = util_printf("%s/.", link);
        return 0;
}

static int supply(struct st_operation *operation, const json_t *mount, size_t number, struct util_list *lines,
                  struct util_list *made, struct st_error **err) {
        _cleanup_free_ char *point = saved_field(mount, "point"), *host = saved_field(mount, "host");
        _cleanup_free_ char *type = saved_field(mount, "type"), *source = saved_field(mount, "source"), *path = NULL;
        int r;

        if (number >= MOUNTS_MAX || !point || !type || !source || (!host && json_object_get(mount, "host")))
                return st_error_set(err, EBADMSG, "%s of the checkpoint: mount %zu is bad", RUNC_FILE_STATE, number);
        if (!host) {
                r = mount_anew(operation, type, source, number, made, err);
                if (r >= 0)
                        path = util_strdup(made->items[made->n - 1]);
        } else if (access(host, F_OK) < 0) {
                r = st_error_errno(err, errno, "%s, which the container has at %s", util_json_text(mount, "host", NULL),
                                   point);
                st_error_hint(err, "make it again: it is not in the checkpoint, as %s asked", RUNC_VARIABLE);
        } else
                r = name_for_criu(operation, host, number, &path, err);
        if (r < 0)
                return r;
        util_list_addf(lines, "external mnt[stasis-%zu]:%s", number, path);
        return 0;
}

int runc_mounts_supply(struct st_operation *operation, const json_t *mounts, struct util_list *lines,
                       struct util_list *made, struct st_error **err) {
        json_t *mount;
        size_t i;

        json_array_foreach((json_t *)mounts, i, mount) {
                int r = supply(operation, mount, i, lines, made, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

void runc_mounts_undo(struct util_list *made) {
        for (size_t i = made->n; i > 0; i--)
                if (umount2(made->items[i - 1], MNT_DETACH) == 0)
                        (void)rmdir(made->items[i - 1]);
        util_list_clear(made);
}
