/* SPDX-License-Identifier: Apache-2.0 */

/* The texts of /proc: the first byte of an input chooses the parser, the rest is the text. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "process/mounts.h"
#include "process/parse.h"
#include "process/sockdiag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What goes into messages must be valid UTF-8 already: sanitising it again changes nothing. */
static void check_text(const char *s) {
        _cleanup_free_ char *again = text_sanitise(s, strlen(s));

        assert(streq(s, again));
}

static void run_stat(const char *text) {
        struct proc_stat stat;

        if (proc_parse_stat(text, &stat) == 0)
                check_text(stat.command);
}

static void run_status(const char *text) {
        struct proc_status status;

        (void)proc_parse_status(text, &status);
        assert(status.n_groups <= 65536);
        proc_status_clear(&status);
}

static void run_mounts(const char *text) {
        Daemon__Mount **mounts = NULL;
        size_t n = 0;

        mounts_parse(text, &n, &mounts);
        for (size_t i = 0; i < n; i++) {
                check_text(mounts[i]->root);
                check_text(mounts[i]->mountpoint);
                check_text(mounts[i]->options);
                check_text(mounts[i]->fstype);
                check_text(mounts[i]->source);
                daemon__mount__free_unpacked(mounts[i], NULL);
        }
        free(mounts);
}

static void check_socket(const struct socket_facts *facts, void *userdata) {
        (void)userdata;
        assert(facts->inode != 0);
        assert(!facts->name || strnlen(facts->name, facts->name_length) == facts->name_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;

        _cleanup_free_ char *text = xmalloc(size);
        memcpy(text, data + 1, size - 1);
        text[size - 1] = 0;
        switch (data[0]) {
        case 's':
                run_stat(text);
                break;
        case 'S':
                run_status(text);
                break;
        case 'm':
                run_mounts(text);
                break;
        case 't':
                netproc_parse(SOCKET_TCP4, text, check_socket, NULL);
                break;
        case 'T':
                netproc_parse(SOCKET_TCP6, text, check_socket, NULL);
                break;
        case 'u':
                netproc_parse(SOCKET_UNIX, text, check_socket, NULL);
                break;
        }
        return 0;
}
