/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "engine/preflight_dump.h"

#define TEXTS_SHOWN 5

void dump_problem(struct dump_problems *problems, int number, const char *hint, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        strv_take(&problems->texts, xvasprintf(format, ap));
        va_end(ap);
        if (hint && !strv_has(&problems->hints, hint))
                strv_add(&problems->hints, hint);
        if (problems->number == 0)
                problems->number = number;
}

int dump_problems_error(const struct dump_problems *problems, struct st_error **err) {
        _cleanup_strv_ struct strv shown = { 0 };
        _cleanup_free_ char *text = NULL, *hint = NULL;

        for (size_t i = 0; i < problems->texts.n && i < TEXTS_SHOWN; i++)
                strv_add(&shown, problems->texts.items[i]);
        if (problems->texts.n > TEXTS_SHOWN)
                strv_addf(&shown, "and %zu more", problems->texts.n - TEXTS_SHOWN);
        text = strv_join(&shown, "; ");
        st_error_set(err, problems->number, "%s", text);
        if (problems->hints.n > 0) {
                hint = strv_join(&problems->hints, "; ");
                st_error_hint(err, "%s", hint);
        }
        return -problems->number;
}

void dump_problems_clear(struct dump_problems *problems) {
        strv_clear(&problems->texts);
        strv_clear(&problems->hints);
}
