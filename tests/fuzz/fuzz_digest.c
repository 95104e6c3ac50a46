/* SPDX-License-Identifier: Apache-2.0 */

/* CRIU's log: it quotes what the target chose, names of files and sockets. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "criu/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each is shown on one line of a terminal. */
static void check_line(const char *text) {
        for (const char *c = text ? text : ""; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        abort();
}

static void check_report(const struct digest_report *report, const struct digest *digest) {
        size_t last = 0;

        for (size_t i = 0; i < report->n; i++) {
                const struct digest_finding *finding = &report->findings[i];

                check_line(finding->text);
                check_line(finding->cause);
                check_line(finding->hint);
                check_line(finding->more);
                if (!finding->text || !finding->cause || finding->number <= 0 || !finding->rank)
                        abort();
                if (finding->line > 0 && finding->line <= last)
                        abort();
                last = finding->line > 0 ? finding->line : last;
        }
        /* Both readers must come to the same reason. */
        if (!report->cause != !digest->cause)
                abort();
        if (report->cause && (strcmp(report->cause->cause, digest->cause) != 0 ||
                              report->cause->number != digest->number || report->cause->rank <= DIGEST_HARMLESS))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *log = malloc(size + 1);
        struct digest_report report;
        struct digest digest;

        if (!log)
                return 0;
        if (size > 0)
                memcpy(log, data, size);
        log[size] = '\0';
        digest_log(log, &digest);
        check_line(digest.cause);
        check_line(digest.hint);
        if (!digest.cause && digest.hint)
                abort();
        digest_report(log, &report);
        check_report(&report, &digest);
        digest_report_clear(&report);
        digest_clear(&digest);
        free(log);
        return 0;
}
