/* SPDX-License-Identifier: Apache-2.0 */

/* What the plugin of a job's type knows of its end. */

#include <signal.h>

#include <stasis/features.h>

#include "base/text.h"
#include "engine/engine.h"
#include "plugin/registry.h"

static int call_cleanup(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_cleanup *cleanup = value;

        (void)plugin;
        return cleanup->run(userdata, err);
}

/** Is there anybody to be asked? A plugin that is not there is a failure, one that has nothing to say is none. */
static bool has_nothing(const char *type, enum st_feature feature) {
        const struct plugin_entry *entry;

        if (isempty(type) || streq(type, "process"))
                return true;
        entry = registry_find(type);
        return entry && !registry_feature(entry, feature);
}

int engine_cleanup(const char *type, const Daemon__Details *details, struct st_error **err) {
        if (has_nothing(type, ST_FEATURE_cleanup))
                return 0;
        return feature_if_available(cleanup, call_cleanup, (void *)details, err, type);
}

static int read_signal(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_kill_signal *kill_signal = value;

        if (kill_signal->number <= 0 || kill_signal->number > SIGRTMAX)
                return st_error_set(err, EPROTO, "plugin %s: there is no signal %d", plugin, kill_signal->number);
        *(int *)userdata = kill_signal->number;
        return 0;
}

int engine_kill_signal(const char *type, int *ret, struct st_error **err) {
        *ret = SIGKILL;
        if (has_nothing(type, ST_FEATURE_kill_signal))
                return 0;
        return feature_if_available(kill_signal, read_signal, ret, err, type);
}
