/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/progress.h"

bool profile_wanted(const struct st_arguments *arguments) {
        return st_arguments_bool(arguments, "Profiling.Enabled") ||
               !isempty(st_arguments_string(arguments, "Profiling.Path"));
}

void profile_add(Stasis__V1__Profile *profile, const Stasis__V1__Span *span) {
        Stasis__V1__Span *copy = message_copy(&span->base);

        message_append(&profile->n_spans, &profile->spans, copy);
}

char *profile_duration(uint64_t nanoseconds, const char *precision) {
        if (streq(precision, "ns"))
                return xasprintf("%" PRIu64 " ns", nanoseconds);
        if (streq(precision, "us") || (streq(precision, "auto") && nanoseconds < 1000000))
                return xasprintf("%.1f us", (double)nanoseconds / 1e3);
        if (streq(precision, "ms") || (streq(precision, "auto") && nanoseconds < 1000000000))
                return xasprintf("%.2f ms", (double)nanoseconds / 1e6);
        return xasprintf("%.3f s", (double)nanoseconds / 1e9);
}

static int compare_depth(const void *a, const void *b) {
        const Stasis__V1__Span *x = *(Stasis__V1__Span *const *)a, *y = *(Stasis__V1__Span *const *)b;

        return (x->depth > y->depth) - (x->depth < y->depth);
}

static int column_width(const Stasis__V1__Profile *profile, bool plugin, const char *title) {
        size_t width = strlen(title);

        for (size_t i = 0; i < profile->n_spans; i++) {
                const char *text = plugin ? profile->spans[i]->plugin : profile->spans[i]->name;
                size_t n = text ? strlen(text) : 0;

                width = n > width ? n : width;
        }
        return (int)width;
}

static void print_span(const Stasis__V1__Span *span, int name_width, int plugin_width, const char *precision) {
        _cleanup_free_ char *inclusive = profile_duration(span->inclusive, precision);
        _cleanup_free_ char *exclusive = profile_duration(span->exclusive, precision);
        _cleanup_free_ char *name = text_sanitise(span->name ?: "", strlen(span->name ?: ""));
        _cleanup_free_ char *plugin = text_sanitise(span->plugin ?: "", strlen(span->plugin ?: ""));

        fprintf(stderr, "%-*s  %-*s  %12s  %12s\n", name_width, name, plugin_width, plugin, inclusive, exclusive);
}

static void print_table(const Stasis__V1__Profile *profile, const struct st_arguments *arguments) {
        const char *precision = st_arguments_string(arguments, "Profiling.Precision") ?: "auto";
        bool detailed = st_arguments_bool(arguments, "Profiling.Detailed");
        int name_width = column_width(profile, false, "ADAPTER"), plugin_width = column_width(profile, true, "PLUGIN");

        progress_erase();
        fprintf(stderr, "%-*s  %-*s  %12s  %12s\n", name_width, "ADAPTER", plugin_width, "PLUGIN", "INCLUSIVE",
                "EXCLUSIVE");
        for (size_t i = 0; i < profile->n_spans; i++)
                if (detailed || profile->spans[i]->depth == 0)
                        print_span(profile->spans[i], name_width, plugin_width, precision);
}

static void write_profile(const Stasis__V1__Profile *profile, const char *path) {
        json_t *json = message_to_json(&profile->base);
        _cleanup_free_ char *text = json_dumps(json, JSON_INDENT(2));
        int r;

        json_decref(json);
        r = text ? io_put_file(path, text, strlen(text), 0644) : -EINVAL;
        if (r < 0)
                st_log_warning("cannot write the profile to %s: %s", path, strerror(-r));
}

void profile_show(Stasis__V1__Profile *profile, const struct st_arguments *arguments) {
        const char *path = st_arguments_string(arguments, "Profiling.Path");

        if (profile->n_spans == 0)
                return;
        /* The adapters of a chain are nested: by depth is the order in which they began. */
        qsort(profile->spans, profile->n_spans, sizeof(*profile->spans), compare_depth);
        if (st_arguments_bool(arguments, "Profiling.Enabled"))
                print_table(profile, arguments);
        if (!isempty(path))
                write_profile(profile, path);
}
