/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stasis/error.h>

#include "base/memory.h"
#include "base/text.h"

struct st_error {
        int number;         /* a positive errno */
        struct strv frames; /* the root cause first */
        char *hint;
        bool full;     /* a disk is: there is something to do about it, also when nobody said what */
        char *message; /* what st_error_message() made; NULL after a change */
};

/* Always a positive errno: a failure must never look like success. */
static int positive(int number) {
        if (number == 0 || number == INT_MIN)
                return EIO;
        return number < 0 ? -number : number;
}

static void forget_message(struct st_error *error) {
        free(error->message);
        error->message = NULL;
}

/* Pushes a frame (taking it), making the error when there is none yet. */
static void push(struct st_error **err, int number, char *frame) {
        if (!*err)
                *err = NEW(struct st_error);
        (*err)->number = number;
        strv_take(&(*err)->frames, frame);
        forget_message(*err);
}

int(st_error_set)(struct st_error **err, int number, const char *format, ...) {
        number = positive(number);
        if (err) {
                va_list ap;

                va_start(ap, format);
                push(err, number, xvasprintf(format, ap));
                va_end(ap);
        }
        return -number;
}

int(st_error_errno)(struct st_error **err, int number, const char *format, ...) {
        number = positive(number);
        if (err) {
                char buffer[128];
                va_list ap;

                va_start(ap, format);
                char *cause = xvasprintf(format, ap);
                va_end(ap);
                push(err, number, xasprintf("%s: %s", cause, strerror_r(number, buffer, sizeof(buffer))));
                free(cause);
                (*err)->full = (*err)->full || number == ENOSPC || number == EDQUOT;
        }
        return -number;
}

int(st_error_wrap)(struct st_error **err, const char *format, ...) {
        va_list ap;

        if (!err || !*err)
                return -EIO;
        va_start(ap, format);
        push(err, (*err)->number, xvasprintf(format, ap));
        va_end(ap);
        return -(*err)->number;
}

void st_error_hint(struct st_error **err, const char *format, ...) {
        va_list ap;

        if (!err || !*err || (*err)->hint)
                return;
        va_start(ap, format);
        (*err)->hint = xvasprintf(format, ap);
        va_end(ap);
        forget_message(*err);
}

int st_error_number(const struct st_error *error) {
        return error ? -error->number : 0;
}

const char *st_error_message(struct st_error *error) {
        if (!error)
                return "";
        if (error->message)
                return error->message;

        struct strv outermost_first = { 0 };
        for (size_t i = error->frames.n; i > 0; i--)
                strv_add(&outermost_first, error->frames.items[i - 1]);
        char *stack = strv_join(&outermost_first, ": ");
        strv_clear(&outermost_first);

        const char *hint = error->hint ?: error->full ? "make room there" : NULL;
        char *line = hint ? xasprintf("%s (hint: %s)", stack, hint) : xstrdup(stack);
        error->message = text_sanitise(line, strlen(line));
        free(line);
        free(stack);
        return error->message;
}

struct st_error *st_error_free(struct st_error *error) {
        if (error) {
                strv_clear(&error->frames);
                free(error->hint);
                free(error->message);
                free(error);
        }
        return NULL;
}

int st_error_move(struct st_error **err, struct st_error *from) {
        if (!from)
                return -EIO;

        int number = from->number;
        if (!err) {
                st_error_free(from);
        } else if (!*err) {
                *err = from;
        } else {
                for (size_t i = 0; i < from->frames.n; i++)
                        push(err, number, xstrdup(from->frames.items[i]));
                if (from->hint)
                        st_error_hint(err, "%s", from->hint);
                (*err)->full = (*err)->full || from->full;
                st_error_free(from);
        }
        return -number;
}
