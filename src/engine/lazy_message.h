/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Messages between a restore, the process that serves its memory (lazy_serve.c) and that one's guard (lazy_guard.c),
 * over a pair of SOCK_SEQPACKET sockets: one letter, then text.
 */

#include <stddef.h>

#include <stasis/error.h>

#define LAZY_TEXT_MAX 4096

/* From the server to the restore. */
#define LAZY_READY 'r'
#define LAZY_HEALTHY 'h'
#define LAZY_FAILURE 'f' /* text: why */

/* From the restore to the server. */
#define LAZY_ASK 'h'    /* all processes stand, and are to run */
#define LAZY_LET_GO 'p' /* they run; text: PID of the root, its start time */

/* From the server to the guard. */
#define LAZY_DESCRIPTOR 'u' /* with the descriptor */
#define LAZY_RUNNING_NOW 'h'
#define LAZY_ROOT 'p' /* text: PID, start time */
#define LAZY_KILL 'k' /* text: why */
#define LAZY_DONE_ALL 'd'

/* From the server to whoever becomes a guard later, the first one; with the log. */
#define LAZY_WORDS 'w' /* text: PID and start time of the supervisor, job, record, image; a line each */

/** A connected pair, close-on-exec. @return 0 or -errno */
int lazy_message_pair(int fds[2]);

/** @param fd to go with it; negative: none. @return 0 or -errno */
int lazy_message_send(int socket, char kind, const char *text, int fd);

/**
 * Waits for a message.
 *
 * @param text room for LAZY_TEXT_MAX bytes; NUL-terminated. @param ret_fd may be NULL; -EBADF: none came
 * @return the letter; 0: the other end is closed; -errno
 */
int lazy_message_receive(int socket, char *text, int *ret_fd);
