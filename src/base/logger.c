/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/text.h"

enum colour { COLOUR_UNKNOWN, COLOUR_OFF, COLOUR_ON };

/* Written at the start of the program, before there are threads; only read afterwards. */
static struct {
        enum logger_target target;
        enum st_log_level level;
        enum colour colour;
        logger_call call;
        void *userdata;
} logger = { .target = LOGGER_STDERR, .level = ST_LOG_INFO };

static const struct {
        enum st_log_level level;
        const char *name;
        const char *colour; /* SGR parameters (ECMA-48, 8.3.117) */
} levels[] = {
        { ST_LOG_ERROR, "error", "1;31" },
        { ST_LOG_WARNING, "warning", "1;33" },
        { ST_LOG_INFO, "info", NULL },
        { ST_LOG_DEBUG, "debug", "2" },
};

/* An unknown level, of a plugin, counts as the nearest less urgent one. */
static size_t level_index(enum st_log_level level) {
        for (size_t i = 0; i < ELEMENTSOF(levels); i++)
                if (level <= levels[i].level)
                        return i;
        return ELEMENTSOF(levels) - 1;
}

enum logger_target logger_default_target(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        uintmax_t device, inode;
        struct stat st;

        /* systemd.exec(5): "device:inode" of the stream that it connected; stderr may have been redirected since. */
        if (!stream || sscanf(stream, "%ju:%ju", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) < 0)
                return LOGGER_STDERR;
        return st.st_dev == device && st.st_ino == inode ? LOGGER_JOURNAL : LOGGER_STDERR;
}

void logger_set_target(enum logger_target target, logger_call call, void *userdata) {
        logger.target = target;
        logger.call = call;
        logger.userdata = userdata;
}

void logger_set_level(enum st_log_level level) {
        logger.level = level;
}

int logger_level_from_text(const char *text, enum st_log_level *ret) {
        for (size_t i = 0; i < ELEMENTSOF(levels); i++)
                if (streq(text, levels[i].name)) {
                        *ret = levels[i].level;
                        return 0;
                }
        if (streq(text, "warn")) {
                *ret = ST_LOG_WARNING;
                return 0;
        }
        return -EINVAL;
}

void logger_set_colour(bool on) {
        logger.colour = on ? COLOUR_ON : COLOUR_OFF;
}

bool logger_colour(void) {
        const char *terminal = getenv("TERM");

        if (logger.colour != COLOUR_UNKNOWN)
                return logger.colour == COLOUR_ON;
        /* https://no-color.org: set and not empty. */
        return isempty(getenv("NO_COLOR")) && !(terminal && streq(terminal, "dumb")) && isatty(STDERR_FILENO);
}

/* One write for each line: lines of several threads and processes do not mix. */
static void write_line(char *line) {
        size_t n = strlen(line);

        line[n] = '\n'; /* in place of the NUL */
        (void)io_write_full(STDERR_FILENO, line, n + 1);
        free(line);
}

static void log_to_stderr(size_t i, const char *message) {
        const char *name = levels[i].level == ST_LOG_INFO ? NULL : levels[i].name;

        if (!name)
                write_line(xasprintf("stasis: %s", message));
        else if (logger_colour())
                write_line(xasprintf("stasis: \033[%sm%s:\033[0m %s", levels[i].colour, name, message));
        else
                write_line(xasprintf("stasis: %s: %s", name, message));
}

/*
 * The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram of FIELD=value lines, which values of one
 * line need no more than. So the small programs, which do not link libsystemd, log as the daemon does.
 */
static void log_to_journal(size_t i, const char *message) {
        const struct sockaddr_un journal = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };
        _cleanup_free_ char *fields =
                xasprintf("MESSAGE=%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=stasis\n", message, (int)levels[i].level);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ssize_t n;

        do
                n = sendto(fd, fields, strlen(fields), MSG_NOSIGNAL, (const struct sockaddr *)&journal,
                           sizeof(journal));
        while (n < 0 && errno == EINTR);
        /* Too long for a datagram, or no journal: stderr is its stream, or somebody's. */
        if (n < 0)
                log_to_stderr(i, message);
}

/* A sanitised text in a JSON string (RFC 8259, 7): no control characters are left to escape. malloc'ed */
static char *escape_json(const char *s) {
        char *result = xrealloc(NULL, strlen(s) + 1, 2), *out = result;

        for (; *s; s++) {
                if (*s == '"' || *s == '\\')
                        *out++ = '\\';
                *out++ = *s;
        }
        *out = 0;
        return result;
}

static void log_as_json(size_t i, const char *message) {
        char date[sizeof("2000-01-01T00:00:00")]; /* RFC 3339 */
        struct timespec now;
        struct tm tm;

        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);

        _cleanup_free_ char *text = escape_json(message);
        write_line(xasprintf("{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"%s\",\"pid\":%d}", date,
                             now.tv_nsec / 1000000, levels[i].name, text, (int)getpid()));
}

void st_log(enum st_log_level level, const char *format, ...) {
        int saved = errno;
        va_list ap;

        if (level > logger.level)
                return;
        va_start(ap, format);
        _cleanup_free_ char *raw = xvasprintf(format, ap);
        va_end(ap);
        _cleanup_free_ char *message = text_sanitise(raw, strlen(raw));
        size_t i = level_index(level);

        switch (logger.target) {
        case LOGGER_STDERR:
                log_to_stderr(i, message);
                break;
        case LOGGER_JOURNAL:
                log_to_journal(i, message);
                break;
        case LOGGER_JSON:
                log_as_json(i, message);
                break;
        case LOGGER_CALL:
                if (logger.call)
                        logger.call(levels[i].level, message, logger.userdata);
                break;
        }
        errno = saved;
}
