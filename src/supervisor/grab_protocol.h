/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Between stasis and stasis-grab.so, the library that is loaded into the criu of a dump by grabbing (grab_preload.c).
 */

/** The path of CRIU's cache of what the kernel can, instead of criu.kdat in /run. */
#define GRAB_KDAT_VARIABLE "STASIS_GRAB_KDAT"
