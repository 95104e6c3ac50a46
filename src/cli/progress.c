/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/text.h"

#define DELAY_MS 500 /* what ends sooner shows nothing */
#define INTERVAL_MS 100
#define BAR_MOST 40

static struct {
        pthread_mutex_t lock;
        bool active; /* stderr is a terminal, and an operation runs */
        bool drawn;  /* a line is on the screen */
        uint64_t begun_ms, drawn_ms;
} progress = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int terminal_width(void) {
        struct winsize size;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 ? 80 : size.ws_col;
}

static void write_text(const char *text) {
        (void)io_write_full(STDERR_FILENO, text, strlen(text));
}

/* "\r", and "erase to the end of the line" (ECMA-48, 8.3.41). */
static void erase(void) {
        if (progress.drawn)
                write_text("\r\033[K");
        progress.drawn = false;
}

/* A line of the log, written as the logger itself does, but with the line of progress out of its way. */
static void log_line(enum st_log_level level, const char *message, void *userdata) {
        const char *name = level <= ST_LOG_ERROR     ? "error"
                           : level <= ST_LOG_WARNING ? "warning"
                           : level <= ST_LOG_INFO    ? NULL
                                                     : "debug";
        const char *colour = level <= ST_LOG_ERROR ? "1;31" : level <= ST_LOG_WARNING ? "1;33" : "2";
        _cleanup_free_ char *line = NULL;

        (void)userdata;
        if (!name)
                line = xasprintf("stasis: %s\n", message);
        else if (logger_colour())
                line = xasprintf("stasis: \033[%sm%s:\033[0m %s\n", colour, name, message);
        else
                line = xasprintf("stasis: %s: %s\n", name, message);

        pthread_mutex_lock(&progress.lock);
        erase();
        write_text(line);
        pthread_mutex_unlock(&progress.lock);
}

void progress_begin(void) {
        if (!isatty(STDERR_FILENO))
                return;
        progress.active = true;
        progress.begun_ms = clock_ms();
        progress.drawn_ms = 0;
        logger_set_target(LOGGER_CALL, log_line, NULL);
}

void progress_update(const char *phase, uint64_t done, uint64_t total) {
        uint64_t now;

        pthread_mutex_lock(&progress.lock);
        now = clock_ms();
        if (progress.active && now >= progress.begun_ms + DELAY_MS && now >= progress.drawn_ms + INTERVAL_MS) {
                _cleanup_free_ char *text = progress_text(phase, done, total, terminal_width() - 1);
                _cleanup_free_ char *line = xasprintf("\r\033[K%s", text);

                write_text(line);
                progress.drawn = true;
                progress.drawn_ms = now;
        }
        pthread_mutex_unlock(&progress.lock);
}

void progress_erase(void) {
        pthread_mutex_lock(&progress.lock);
        erase();
        pthread_mutex_unlock(&progress.lock);
}

void progress_end(void) {
        if (!progress.active)
                return;
        progress_erase();
        progress.active = false;
        logger_set_target(LOGGER_STDERR, NULL, NULL);
}

char *progress_text(const char *phase, uint64_t done, uint64_t total, int width) {
        _cleanup_free_ char *name = text_sanitise(phase, strlen(phase)), *sizes = NULL, *bar = NULL;
        _cleanup_free_ char *done_text = text_from_size(done), *total_text = text_from_size(total);
        unsigned percent = 0;
        int room;

        if (total == 0) {
                char *text = done > 0 ? xasprintf("%s  %s", name, done_text) : xstrdup(name);

                if (width >= 0 && strlen(text) > (size_t)width)
                        text[width] = 0;
                return text;
        }
        if (done > total)
                done = total;
        percent = (unsigned)((double)done / (double)total * 100.0);
        sizes = xasprintf("%3u%%  %s of %s", percent, done_text, total_text);

        room = width - (int)strlen(name) - (int)strlen(sizes) - 6; /* two spaces twice, and the brackets */
        if (room > BAR_MOST)
                room = BAR_MOST;
        if (room < 5) {
                char *text = xasprintf("%s  %s", name, sizes);

                if (width >= 0 && strlen(text) > (size_t)width)
                        text[width] = 0;
                return text;
        }
        bar = xmalloc((size_t)room + 1);
        int filled = (int)((double)done / (double)total * room);
        memset(bar, '#', (size_t)filled);
        memset(bar + filled, '-', (size_t)(room - filled));
        bar[room] = 0;
        return xasprintf("%s  [%s]  %s", name, bar, sizes);
}
