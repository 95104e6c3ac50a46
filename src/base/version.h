/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#ifndef STASIS_VERSION
#define STASIS_VERSION "unknown"
#endif
