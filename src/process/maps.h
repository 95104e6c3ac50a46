/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The memory map of a process, proc_pid_maps(5). */

#include <stdbool.h>
#include <stdint.h>

struct map {
        uint64_t start, end;
        uint64_t dev, inode; /* 0: no file */
        bool shared;
        const char *path; /* as the kernel shows it, with its escapes; "" when it has none; valid during the call */
};

/** Called for each mapping; a negative result ends the iteration. */
typedef int (*map_fn)(const struct map *map, void *userdata);

/** Goes through a text in the format of /proc/PID/maps, which is written to; lines that do not parse are left out. */
int maps_parse(char *text, map_fn call, void *userdata);

/** Goes through the mappings of an open /proc/PID (see proc_open()). @return 0, -errno, or what `call` returned */
int maps_each(int proc_fd, map_fn call, void *userdata);
