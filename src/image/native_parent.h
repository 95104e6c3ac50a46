/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The parent of a native image that is written: what is in it and its ancestors already. */

#include "image/native_encoder.h"

/**
 * Sets the header of the image. With a parent: opens it, holds it until the encoder is freed, and makes all its pages
 * known to the table.
 *
 * @return 0; what native_open() and native_hold() say
 */
int native_parent_open(struct native_encoder *encoder, struct st_error **err);

/**
 * Sets the ancestors of an index, the parent first, then those that are referred to; runs of its files are renumbered
 * from sources of the table to them.
 */
void native_parent_refer(const struct native_encoder *encoder, struct native_index *index);
