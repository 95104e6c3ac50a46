/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where the messages of st_log() go. Set up once at the start of a program, before any thread. */

#include <stdbool.h>
#include <stasis/log.h>

enum logger_target {
        LOGGER_STDERR,  /* "stasis: warning: …", coloured when stderr is a terminal */
        LOGGER_JOURNAL, /* sd-journal; for a unit of systemd (JOURNAL_STREAM names our stderr) */
        LOGGER_JSON,    /* a JSON object for each line on stderr: time, level, message, pid */
        LOGGER_CALL,    /* a function: the worker sends its lines to the daemon */
};

typedef void (*logger_call)(enum st_log_level level, const char *message, void *userdata);

/** Chooses LOGGER_JOURNAL when stderr is the journal's stream, else LOGGER_STDERR. */
enum logger_target logger_default_target(void);

void logger_set_target(enum logger_target target, logger_call call, void *userdata);

/** Messages less urgent than `level` are dropped. Default: ST_LOG_INFO. */
void logger_set_level(enum st_log_level level);

/** error, warning, info, debug. @return 0 or -EINVAL */
int logger_level_from_text(const char *text, enum st_log_level *ret);

/** Colours on or off; default: on when stderr is a terminal and NO_COLOR is not set. */
void logger_set_colour(bool on);
bool logger_colour(void);
