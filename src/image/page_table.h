/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where pages are stored already, by their digests: those of the native image that is being written, and those of its
 * parent and that one's ancestors. Memory: 16 bytes for the digest of each page, and 11 to 21 for finding it. Any
 * threads at once, unless it says otherwise.
 */

#include <stdbool.h>
#include <stdint.h>

#include "image/hash.h"
#include "image/native_format.h"

struct page_table;

/** A page of a frame of a source: source 0 is the image that is written. */
struct page_place {
        uint32_t frame;
        uint16_t page, source;
};

/** Frames of the image that is written have at most so many pages. */
#define PAGE_TABLE_FRAME ((size_t)256)

struct page_table *page_table_new(void);
/** @return NULL */
struct page_table *page_table_free(struct page_table *table);

/**
 * Adds all pages of a further source, which is numbered from 1 in the order of the calls. Before all other use.
 *
 * @param digests 16 bytes for each page of its frames of pages, in order; malloc'ed, the table's from now on
 * @return its number
 */
uint16_t page_table_add_source(struct page_table *table, const struct native_frame *frames, uint32_t n_frames,
                               uint8_t *digests);

/** Makes room for the digests of a frame of the image that is written, before page_table_add() names it. */
void page_table_open_frame(struct page_table *table, uint32_t frame);

/**
 * Looks for a page; when it is nowhere yet it is at `place` from now on, which is of source 0.
 *
 * @return whether it was somewhere: *ret says where
 */
bool page_table_add(struct page_table *table, struct hash digest, struct page_place place, struct page_place *ret);

/** The digests of an opened frame, 16 bytes each, as they are stored. */
const uint8_t *page_table_digests(const struct page_table *table, uint32_t frame);
