/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/progress.h"
#include "rpc/status.h"

void output_json(json_t *value) {
        (void)json_dumpf(value, stdout, JSON_INDENT(2)); /* a failure shows in output_flush() */
        putchar('\n');
        json_decref(value);
}

void output_list_add(struct output_list *list, json_t *value) {
        json_t *alone = json_array();
        size_t n;

        /* As the only element of an array it is indented as in a longer one: between "[\n" and "\n]". */
        json_array_append_new(alone, value);
        for (;;) {
                n = json_dumpb(alone, list->text, list->room, JSON_INDENT(2));
                if (n <= list->room)
                        break;
                list->room = n * 2;
                list->text = xrealloc(list->text, list->room, 1);
        }
        json_decref(alone);
        if (n <= 4)
                return;
        (void)fputs(list->any ? ",\n" : "[\n", stdout);
        (void)fwrite(list->text + 2, 1, n - 4, stdout);
        list->any = true;
}

void output_list_end(struct output_list *list) {
        (void)puts(list->any ? "\n]" : "[]");
        free(list->text);
        *list = (struct output_list){ 0 };
}

void output_message_json(const ProtobufCMessage *message) {
        _cleanup_free_ char *text = message_to_json_text(message, 0);

        (void)fputs(text, stdout);
        putchar('\n');
}

void output_talk(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        _cleanup_free_ char *raw = xvasprintf(format, ap);
        va_end(ap);
        _cleanup_free_ char *text = text_sanitise(raw, strlen(raw));
        _cleanup_free_ char *line = xasprintf("stasis: %s\n", text);

        progress_erase();
        (void)io_write_full(STDERR_FILENO, line, strlen(line));
}

void output_messages(char *const *messages, size_t n) {
        for (size_t i = 0; i < n; i++)
                output_talk("%s", messages[i]);
}

json_t *output_text_json(const char *text) {
        text = text ?: "";
        json_t *json = json_string(text);

        if (!json) {
                _cleanup_free_ char *safe = text_sanitise(text, strlen(text));
                json = json_string(safe);
        }
        return json;
}

json_t *output_messages_json(char *const *messages, size_t n) {
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                json_array_append_new(array, output_text_json(messages[i]));
        return array;
}

void output_error(struct st_error *error, bool interrupted, bool json) {
        const char *message = st_error_message(error);
        int number = st_error_number(error);

        progress_erase();
        if (interrupted)
                output_talk("%s", message);
        else
                st_log_error("%s", message);
        if (json) {
                output_json(json_pack("{s:o, s:s}", "error", output_text_json(message), "code",
                                      rpc_code_name(rpc_code_from_errno(number))));
        }
}

int output_flush(void) {
        errno = 0;
        if (fflush(stdout) == 0 && !ferror(stdout))
                return 0;
        if (errno)
                return -errno;
        /* An earlier write failed, and its errno is gone; a pipe that nobody reads shows still. */
        struct pollfd out = { .fd = STDOUT_FILENO };
        return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) ? -EPIPE : -EIO;
}
