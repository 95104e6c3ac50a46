/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * May code be loaded from there? Only if nobody but root (or, when we are an ordinary user, ourselves) can put anything
 * else in its place: the file, its directory, and every directory and link on the way there must belong to root and be
 * writable by nobody else. A sticky directory such as /tmp does not do: anybody may make new names in it. Of a program
 * that was not installed the plugins that were built with it are as safe as itself.
 */

#include <stasis/error.h>

/**
 * Checks a directory, from the root down, links followed one by one: what was found safe above cannot be changed by
 * others afterwards, so neither can the answer.
 *
 * @param ret_fd an O_PATH descriptor of the directory, close-on-exec
 * @return 0; -EPERM with err naming the part of the path that is not safe; another -errno
 */
int trust_directory(const char *path, int *ret_fd, struct st_error **err);

/**
 * Checks a regular file in a directory that trust_directory() found safe.
 *
 * @param path the whole path, for messages
 */
int trust_file(int dir_fd, const char *name, const char *path, struct st_error **err);
