/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/** Prints the version of this program on stdout. */
void version_print(bool json);
