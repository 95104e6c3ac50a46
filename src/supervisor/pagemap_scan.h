/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The request PAGEMAP_SCAN of ioctl(2) on /proc/PID/pagemap, Linux 6.7: include/uapi/linux/fs.h and
 * Documentation/admin-guide/mm/pagemap.rst of the kernel. Under names of our own: Debian 12's headers are older, later
 * ones would collide.
 */

#include <stdint.h>
#include <sys/ioctl.h>

struct pagemap_region {
        uint64_t start, end; /* addresses */
        uint64_t categories;
};

struct pagemap_scan {
        uint64_t size; /* of this structure, bytes */
        uint64_t flags;
        uint64_t start, end; /* addresses */
        uint64_t walk_end;   /* out: where it stopped */
        uint64_t regions;    /* pointer to an array */
        uint64_t n_regions;  /* its length */
        uint64_t max_pages;
        uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct pagemap_scan)

#define PAGEMAP_SOFT_DIRTY ((uint64_t)1 << 7)
