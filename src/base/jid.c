/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jid.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/jid_words.h"
#include "base/memory.h"
#include "base/text.h"

/* So often two words are tried before there is a number behind them. */
#define TRIES_WITHOUT_NUMBER 10

static bool is_letter_or_digit(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static int refuse(const char *jid, const char *why, struct st_error **err) {
        _cleanup_free_ char *shown = text_sanitise(jid, strnlen(jid, JID_MAX));

        st_error_set(err, EINVAL, "\"%s%s\" cannot be a job's name: %s", shown, strlen(jid) > JID_MAX ? "…" : "", why);
        st_error_hint(err, "use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most %d",
                      JID_MAX);
        return -EINVAL;
}

int jid_check(const char *jid, struct st_error **err) {
        if (isempty(jid))
                return refuse("", "it is empty", err);
        if (strnlen(jid, JID_MAX + 1) > JID_MAX)
                return refuse(jid, "it is too long", err);
        if (!is_letter_or_digit(jid[0]))
                return refuse(jid, "it does not begin with a letter or digit", err);
        for (const char *p = jid; *p; p++) {
                _cleanup_free_ char *why = NULL;

                if (is_letter_or_digit(*p) || strchr("._-", *p))
                        continue;
                if (*p == ' ')
                        return refuse(jid, "it has a space", err);
                if (*p < ' ' || *p > '~')
                        return refuse(jid, "it has a character other than ASCII letters and digits", err);
                why = xasprintf("it has the character '%c'", *p);
                return refuse(jid, why, err);
        }
        return 0;
}

/* Below a bound. Nothing hangs on its quality: without entropy the clock does. */
static uint32_t pick(uint32_t bound) {
        uint32_t number;

        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t)sizeof(number)) {
                struct timespec now;

                (void)clock_gettime(CLOCK_MONOTONIC, &now);
                number = (uint32_t)now.tv_nsec * 2654435761u >> 7;
        }
        return number % bound;
}

char *jid_invent(bool (*is_taken)(const char *jid, void *userdata), void *userdata) {
        uint32_t numbers = 100; /* more and more of them, for at some time one must be free */

        for (int i = 0;; i++) {
                const char *first = jid_first[pick(ELEMENTSOF(jid_first))];
                const char *second = jid_second[pick(ELEMENTSOF(jid_second))];
                _cleanup_free_ char *jid = NULL;

                if (i < TRIES_WITHOUT_NUMBER) {
                        jid = xasprintf("%s-%s", first, second);
                } else {
                        jid = xasprintf("%s-%s-%u", first, second, 2 + pick(numbers));
                        numbers = numbers > UINT32_MAX / 2 ? numbers : numbers * 2;
                }
                if (!is_taken(jid, userdata))
                        return TAKE_PTR(jid);
        }
}
