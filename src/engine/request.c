/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/request.h"

#include <errno.h>

#include "base/memory.h"
#include "base/text.h"
#include "criu/options.h"
#include "plugin/registry.h"

static bool type_exists(const char *type, const enum st_feature *features) {
        const struct plugin_entry *plugin;

        if (streq(type, "process"))
                return true;
        plugin = registry_find(type);
        for (; plugin && *features != ST_FEATURE_COUNT; features++)
                if (registry_feature(plugin, *features))
                        return true;
        return false;
}

int request_check_type(const char *verb, const char *type, const enum st_feature *features, struct st_error **err) {
        if (type_exists(type, features))
                return 0;
        st_error_set(err, EINVAL, "cannot %s a %s: no plugin for it is loaded", verb, type);
        st_error_hint(err, "see 'stasis features --errors'");
        return -EINVAL;
}

int request_check_off(char *const *off, size_t n, struct st_error **err) {
        for (size_t i = 0; i < n; i++)
                if (!criu_options_boolean(off[i]))
                        return st_error_set(err, EINVAL, "%s cannot be forced off: it is no boolean option of CRIU",
                                            off[i]);
        return 0;
}

bool request_is_off(char *const *off, size_t n, const char *option) {
        for (size_t i = 0; i < n; i++)
                if (streq(off[i], option))
                        return true;
        return false;
}

char *request_target_id(const Daemon__Details *details) {
        if (!details)
                return NULL;
        if (!isempty(details->jid))
                return xstrdup(details->jid);
        if (details->process && details->process->has_pid && details->process->pid)
                return xasprintf("%u", details->process->pid);
        if (details->runc && !isempty(details->runc->id))
                return xstrdup(details->runc->id);
        if (details->containerd && !isempty(details->containerd->id))
                return xstrdup(details->containerd->id);
        if (details->docker && !isempty(details->docker->id))
                return xstrdup(details->docker->id);
        return NULL;
}
