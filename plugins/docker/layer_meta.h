/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which extended attributes and inode flags of a layer are kept, and the few constants of its archive. */

#include <stdbool.h>
#include <stddef.h>

#include <archive_entry.h>

#include <stasis/error.h>

/* Of one file, names and values: so much that its header stays below the 1 MiB that libarchive reads. */
#define LAYER_XATTRS_MAX ((size_t)512 << 10)

/* What only overlayfs's or our own handling gives a meaning. */
#define LAYER_TYPE_XATTR "stasis.type"
#define LAYER_TYPE_SOCKET "socket"
#define LAYER_DEFAULT_ACL "system.posix_acl_default"

/** FS_IOC_GETFLAGS's, those that a user sets and that do not depend on the file system. */
unsigned layer_meta_flags_mask(void);

/** Is an attribute of this name saved and put back? */
bool layer_meta_keeps(const char *name, bool root);

/** "/proc/self/fd/FD/NAME", for calls that know no directories' descriptors. */
#define LAYER_PROC_PATH_MAX (sizeof("/proc/self/fd//") + 11 + 256)
void layer_meta_proc_path(char path[static LAYER_PROC_PATH_MAX], int dir_fd, const char *name);

/** Adds all attributes that are kept to the entry. shown: the path, for errors */
int layer_meta_read_xattrs(int dir_fd, const char *name, bool root, const char *shown, struct archive_entry *entry,
                           struct st_error **err);

/** Sets the entry's attributes, but not the default ACL, which files made afterwards would inherit. */
int layer_meta_write_xattrs(int dir_fd, const char *name, bool root, const char *shown, struct archive_entry *entry,
                            struct st_error **err);

/** Adds flags to those that an open file or directory has. */
int layer_meta_set_flags(int fd, unsigned flags, const char *shown, struct st_error **err);
