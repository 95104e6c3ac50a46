/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis explain LOG|CHECKPOINT`: why a dump or a restore failed, from a log of CRIU, whoever ran it; or why a
 * checkpoint cannot be used. Needs no daemon and no rights but to read.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "criu/digest.h"
#include "criu/log.h"
#include "image/image.h"

#define DOCUMENT "docs/troubleshooting.md"
#define NEXT_INSPECT "see 'stasis checkpoint inspect', and 'stasis restore process --check' for this machine"
#define LAST_LINES 5
#define LINE_MAX_SHOWN 1000
#define SNIFF 4096 /* bytes that tell a text from an image */

static const struct st_option explain_options[] = {
        { .flag = "all", .type = ST_OPTION_BOOL, .help = "also what followed from the cause, and harmless lines" },
        ST_OPTION_END,
};

struct explain {
        const struct cli *cli;
        const char *name; /* of the log, as it is shown */
        const char *text;
        struct digest_report report;
};

static void print_field(const char *title, const char *text) {
        if (text)
                printf("%-9s%s\n", title, text);
}

/* "dump.log:12: TEXT", or without the number. malloc'ed */
static char *place_of(const struct explain *explain, const struct digest_finding *finding) {
        return finding->line > 0 ? xasprintf("%s:%zu: %s", explain->name, finding->line, finding->text)
                                 : xasprintf("%s: %s", explain->name, finding->text);
}

static const char *rank_name(const struct digest_finding *finding) {
        switch (finding->rank) {
        case DIGEST_HARMLESS:
                return "harmless";
        case DIGEST_TAIL:
        case DIGEST_CONSEQUENCE:
                return "consequence";
        case DIGEST_CAUSE:
                return "cause";
        }
        return "";
}

static json_t *finding_json(const struct digest_finding *finding) {
        const struct digest_row *row = finding->row;

        return json_pack("{s:s, s:s?, s:s?, s:s, s:s?, s:s?, s:I, s:s}", "kind", rank_name(finding), "id",
                         row ? row->id : NULL, "title", row ? row->title : NULL, "cause", finding->cause, "hint",
                         finding->hint, "more", finding->more, "line", (json_int_t)finding->line, "text",
                         finding->text);
}

/* Is it worth to be shown beside the cause? */
static bool is_shown(const struct explain *explain, const struct digest_finding *finding) {
        if (finding == explain->report.cause)
                return false;
        return finding->rank == DIGEST_CAUSE || st_arguments_bool(explain->cli->arguments, "all");
}

/* The last lines of a log, in its order. */
static void last_lines(const char *text, struct strv *ret) {
        const char *begin = text + strlen(text);
        size_t lines = 0;

        while (begin > text && begin[-1] == '\n')
                begin--;
        for (; begin > text; begin--)
                if (begin[-1] == '\n' && ++lines == LAST_LINES)
                        break;
        while (*begin) {
                size_t size = strcspn(begin, "\n");

                if (size > 0)
                        strv_take(ret, text_sanitise(begin, size < LINE_MAX_SHOWN ? size : LINE_MAX_SHOWN));
                begin += size + (begin[size] == '\n');
        }
}

/* What the log as a whole says, when no line of it is known to be the cause. @return NULL: there is a cause */
static const char *verdict_of(const struct digest_report *report) {
        if (report->cause && report->cause->row && report->cause->rank >= DIGEST_CONSEQUENCE)
                return NULL;
        if (report->cause && report->cause->rank == DIGEST_CAUSE)
                return "not known to stasis: these are CRIU's own words";
        if (report->cause)
                return "CRIU failed without saying why";
        if (report->succeeded)
                return "no failure: the log ends with success";
        return "the log ends in the middle: CRIU was killed, or still runs";
}

static const char *advice_of(const struct digest_report *report) {
        if (report->cause && report->cause->rank == DIGEST_CAUSE)
                return "search for that text in CRIU's issues; run it again with CRIU.LogLevel=4 and report both logs";
        if (report->cause)
                return "run it again with CRIU.LogLevel=4: a terser log leaves the reason out";
        if (report->succeeded)
                return "if the program misbehaves all the same, its own log is the place to look at";
        return "was memory short? 'dmesg' names what the kernel killed for want of it";
}

static void print_json(const struct explain *explain) {
        const struct digest_report *report = &explain->report;
        const char *verdict = verdict_of(report);
        json_t *also = json_array(), *last = json_array();
        _cleanup_strv_ struct strv lines = { 0 };

        for (size_t i = 0; i < report->n; i++)
                if (is_shown(explain, &report->findings[i]))
                        json_array_append_new(also, finding_json(&report->findings[i]));
        if (verdict)
                last_lines(explain->text, &lines);
        for (size_t i = 0; i < lines.n; i++)
                json_array_append_new(last, json_string(lines.items[i]));
        output_json(json_pack("{s:s, s:o, s:b, s:s?, s:s?, s:o, s:o, s:o}", "kind", "log", "path",
                              output_text_json(explain->name), "explained", !verdict, "verdict", verdict, "advice",
                              verdict ? advice_of(report) : NULL, "cause",
                              report->cause ? finding_json(report->cause) : json_null(), "also", also, "last", last));
}

static void print_others(const struct explain *explain) {
        const struct digest_report *report = &explain->report;

        for (size_t i = 0; i < report->n; i++) {
                const struct digest_finding *finding = &report->findings[i];

                if (!is_shown(explain, finding))
                        continue;
                _cleanup_free_ char *place = place_of(explain, finding);
                print_field(finding->rank == DIGEST_CAUSE      ? "also:"
                            : finding->rank == DIGEST_HARMLESS ? "noise:"
                                                               : "then:",
                            place);
                /* CRIU's own words stand in the line already. */
                if (finding->row && (finding->row->cause || finding->rank == DIGEST_HARMLESS))
                        print_field("", finding->row->cause ? finding->cause : finding->more);
        }
}

static void print_text(const struct explain *explain) {
        const struct digest_report *report = &explain->report;
        const struct digest_finding *cause = report->cause;
        const char *verdict = verdict_of(report);

        if (cause && cause->rank >= DIGEST_CONSEQUENCE) {
                _cleanup_free_ char *place = place_of(explain, cause);

                print_field("cause:", cause->cause);
                print_field("hint:", cause->hint);
                print_field("why:", cause->more);
                print_field("where:", place);
                if (cause->row && cause->row->id)
                        printf("%-9s%s, in " DOCUMENT "\n", "topic:", cause->row->id);
        }
        print_others(explain);
        if (!verdict)
                return;

        _cleanup_strv_ struct strv lines = { 0 };

        print_field("verdict:", verdict);
        print_field("next:", advice_of(report));
        last_lines(explain->text, &lines);
        for (size_t i = 0; i < lines.n; i++)
                print_field(i == 0 ? "last:" : "", lines.items[i]);
}

/* The logs of runc, podman and docker name CRIU's: "log file: PATH", "path= PATH: ", and ours "(log: PATH)". */
static char *named_log(const char *text) {
        static const char *const introductions[] = { "log file: ", "path= ", "(log: ", "CRIU logfile " };

        for (size_t i = 0; i < ELEMENTSOF(introductions); i++) {
                const char *at = strstr(text, introductions[i]);
                size_t size;

                if (!at)
                        continue;
                at += strlen(introductions[i]);
                size = strcspn(at, " \t\n\"')\\");
                size -= size > 0 && at[size - 1] == ':';
                if (*at == '/' && size < 4096)
                        return text_sanitise(at, size);
        }
        return NULL;
}

static int no_log(const char *name, const char *text, struct st_error **err) {
        _cleanup_free_ char *other = named_log(text);
        int r;

        if (isempty(text))
                return st_error_set(err, EINVAL, "%s is empty", name);
        r = st_error_set(err, EINVAL, "%s is neither a log of CRIU nor a checkpoint", name);
        if (other)
                st_error_hint(err, "it names one: stasis explain %s", other);
        else
                st_error_hint(err, "CRIU's log is dump.log, restore.log or criu-dump.log; podman and runc name it in "
                                   "their error");
        return r;
}

static int explain_log(const struct cli *cli, int fd, const char *name, struct st_error **err) {
        struct explain explain = { .cli = cli, .name = name };
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = criu_log_read(fd, &text, &size);

        if (r == -EFBIG)
                return st_error_set(err, EFBIG, "%s is no log of CRIU: it does not end within %d GiB", name,
                                    (int)(CRIU_LOG_READ_MAX >> 30));
        if (r < 0)
                return st_error_errno(err, -r, "cannot read %s", name);
        explain.text = text;
        digest_report(text, &explain.report);
        if (!explain.report.is_log && !explain.report.cause) {
                r = no_log(name, text, err);
        } else {
                if (cli->json)
                        print_json(&explain);
                else
                        print_text(&explain);
                r = verdict_of(&explain.report) ? EXIT_FAILED : EXIT_OK;
        }
        digest_report_clear(&explain.report);
        return r;
}

static void print_checkpoint(const struct cli *cli, const char *path, struct image *image, const char *state,
                             const char *next) {
        const char *format = image ? image_format_name(image_get_format(image)) : NULL;
        _cleanup_free_ char *size = image ? text_from_size(image_size(image)) : NULL;
        _cleanup_free_ char *about = image ? xasprintf("%s (%s, %s)", path, format, size) : xstrdup(path);

        if (cli->json) {
                output_json(json_pack("{s:s, s:o, s:s?, s:b, s:o, s:s}", "kind", "checkpoint", "path",
                                      output_text_json(path), "format", format, "usable", image != NULL, "state",
                                      output_text_json(state), "next", next));
                return;
        }
        printf("checkpoint: %s\n", about);
        printf("state:      %s\n", state);
        printf("next:       %s\n", next);
}

/* Logs that CRIU and the engines put into a directory; of several the newest. malloc'ed, NULL: none */
static char *log_in(const char *directory) {
        static const char *const names[] = { "dump.log", "restore.log", "criu-dump.log", "criu-restore.log" };
        struct timespec newest = { 0 };
        char *found = NULL;
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *path = path_join(directory, names[i]);

                if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
                        continue;
                if (found && (st.st_mtim.tv_sec < newest.tv_sec ||
                              (st.st_mtim.tv_sec == newest.tv_sec && st.st_mtim.tv_nsec < newest.tv_nsec)))
                        continue;
                free(found);
                found = TAKE_PTR(path);
                newest = st.st_mtim;
        }
        return found;
}

/* @return -EINVAL without output when it is none at all */
static int explain_checkpoint(const struct cli *cli, const char *path, struct st_error **err) {
        _cleanup_(image_freep) struct image *image = NULL;
        _cleanup_error_ struct st_error *problem = NULL;
        _cleanup_free_ char *log = NULL, *next = NULL;
        int r = image_open(path, &image, &problem);

        if (r >= 0 && image_verified(image)) {
                r = interrupt_watch(err);
                if (r < 0)
                        return r;
                r = image_verify(image, interrupt_fd(), &problem);
        }
        if (r == -EBADMSG) {
                print_checkpoint(cli, path, NULL, st_error_message(problem),
                                 "it cannot be restored: copy it again from where it came, or take another one");
                return EXIT_OK;
        }
        if (r < 0)
                return st_error_move(err, TAKE_PTR(problem));
        if (image_verified(image)) {
                print_checkpoint(cli, path, image, "sound: every file agrees with its checksum", NEXT_INSPECT);
                return EXIT_OK;
        }
        log = log_in(path);
        if (log)
                next = xasprintf("'stasis explain %s' tells what CRIU said of it", log);
        print_checkpoint(cli, path, image,
                         "complete as far as can be seen: it was made by plain CRIU and has no checksums",
                         next ?: NEXT_INSPECT);
        return EXIT_OK;
}

/* Text has no control characters but white space and ESC; what begins otherwise is not a log. */
static bool begins_as_text(int fd) {
        unsigned char buffer[SNIFF];
        ssize_t n = pread(fd, buffer, sizeof(buffer), 0);

        for (ssize_t i = 0; i < n; i++)
                if (buffer[i] < ' ' && !strchr("\t\n\v\f\r\x1b", buffer[i]))
                        return false;
        return n >= 0;
}

static int explain_directory(const struct cli *cli, const char *path, struct st_error **err) {
        _cleanup_error_ struct st_error *problem = NULL;
        int r = explain_checkpoint(cli, path, &problem);

        if (r == -EINVAL) {
                /* What a failed dump of plain CRIU leaves: images that are no checkpoint yet, and its log. */
                _cleanup_free_ char *log = log_in(path);
                _cleanup_close_ int fd = log ? open(log, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -EBADF;

                if (fd >= 0)
                        return explain_log(cli, fd, log, err);
        }
        return r < 0 ? st_error_move(err, TAKE_PTR(problem)) : r;
}

static int no_file(const char *path, struct st_error **err) {
        st_error_set(err, EINVAL, "%s is neither a file, nor a directory, nor a pipe", path);
        st_error_hint(err, "name a log of CRIU or a checkpoint; '-' reads a log from standard input");
        return -EINVAL;
}

static int run_explain(struct cli *cli, struct st_error **err) {
        const char *word = st_arguments_words(cli->arguments)[0];
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        cli_begin_work(cli);
        if (streq(word, "-"))
                return explain_log(cli, STDIN_FILENO, "standard input", err);

        _cleanup_free_ char *path = path_absolute(word);

        /* Opening a device may do something, and reading one may never end. */
        if (stat(path, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s", path);
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISFIFO(st.st_mode))
                return no_file(path, err);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s", path);
        if (S_ISDIR(st.st_mode))
                return explain_directory(cli, path, err);
        if (!S_ISREG(st.st_mode) || begins_as_text(fd))
                return explain_log(cli, fd, word, err);
        return explain_checkpoint(cli, path, err);
}

const struct command command_explain = {
        .path = "explain",
        .words = "LOG|CHECKPOINT",
        .min_words = 1,
        .max_words = 1,
        .summary = "Says why a dump or a restore failed, from any log of CRIU ('-': standard input), or what is wrong "
                   "with a checkpoint; exits with 1 when the log shows no failure that is known",
        .examples = "explain /var/log/stasis/dump-42-1.log\n"
                    "explain /run/containerd/io.containerd.runtime.v2.task/moby/ID/criu-dump.log --json\n"
                    "explain /backup/web.stasis",
        .options = (const struct st_option *const[]){ explain_options, NULL },
        .run = run_explain,
};
