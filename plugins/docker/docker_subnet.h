/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/** Is an address ("10.1.2.3", "fd00::1") in a subnet ("10.1.0.0/16")? No, when one of them is neither. */
bool docker_subnet_contains(const char *subnet, const char *address);
