/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Memory that still comes to what `restore --lazy` started (engine/lazy_process.h) must not be given up by the kernel
 * when all who serve and guard it are killed at once. So the parent of what runs has the end of a socket into which the
 * server puts all descriptors and never reads it: what is on its way is held. When nobody is at the other end any more,
 * and nobody has said that all is in, a new guard gets the socket, with all that is in it.
 */

/** The word for stasis, and the number of the socket there. */
#define MEMORY_GUARD "guard-pages"
#define MEMORY_GUARD_FD 3

/**
 * To be called when the socket has hung up; closes it.
 *
 * @param record of the server: a file that it holds locked, and removes when all is in
 * @param program path of stasis
 * @return 1: a guard was started, a child; 0: none is needed; -errno: it could not be
 */
int memory_abandoned(int *socket, const char *record, const char *program);
