/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "plugin/registry.h"

static const struct {
        const char *name;
        const char *description;
        size_t offset;
} rows[] = {
#define X(name, type, description) { #name, description, offsetof(struct st_features, name) },
        ST_FEATURES(X)
#undef X
};

static_assert(ELEMENTSOF(rows) == ST_FEATURE_COUNT, "a row for each feature");

/* Those listed have a caller in the engine or the command line; the others are announced by the ABI only. */
bool feature_has_effect(enum st_feature feature) {
        switch (feature) {
        case ST_FEATURE_dump_command:
        case ST_FEATURE_restore_command:
        case ST_FEATURE_freeze_command:
        case ST_FEATURE_unfreeze_command:
        case ST_FEATURE_freeze_handler:
        case ST_FEATURE_unfreeze_handler:
        case ST_FEATURE_query_command:
        case ST_FEATURE_helper_commands:
        case ST_FEATURE_dump_middleware:
        case ST_FEATURE_dump_handler:
        case ST_FEATURE_restore_middleware_early:
        case ST_FEATURE_restore_middleware_late:
        case ST_FEATURE_restore_handler:
        case ST_FEATURE_run_handler:
        case ST_FEATURE_run_handler_no_server:
        case ST_FEATURE_run_middleware_early:
        case ST_FEATURE_run_middleware_late:
        case ST_FEATURE_kill_signal:
        case ST_FEATURE_cleanup:
        case ST_FEATURE_manage_handler:
        case ST_FEATURE_query_handler:
        case ST_FEATURE_health_checks:
                return true;
        default:
                return false;
        }
}

const char *feature_name(enum st_feature feature) {
        assert((unsigned)feature < ST_FEATURE_COUNT);
        return rows[feature].name;
}

const char *feature_description(enum st_feature feature) {
        assert((unsigned)feature < ST_FEATURE_COUNT);
        return rows[feature].description;
}

const void *features_value(const struct st_features *features, enum st_feature feature) {
        const void *value;

        assert((unsigned)feature < ST_FEATURE_COUNT);
        if (features->size < rows[feature].offset + sizeof(value))
                return NULL;
        /* Every member is a pointer to an object: all have the same representation. */
        memcpy(&value, (const char *)features + rows[feature].offset, sizeof(value));
        return value;
}

const void *registry_feature(const struct plugin_entry *entry, enum st_feature feature) {
        return entry->plugin ? features_value(entry->plugin->features, feature) : NULL;
}

static bool names_have(const char *const *names, const char *name) {
        for (; *names; names++)
                if (streq(*names, name))
                        return true;
        return false;
}

/* Why none of the plugins that were asked for could do it. */
static int not_available(enum st_feature feature, const char *const *only, struct st_error **err) {
        const char *what = feature_description(feature);

        if (!only)
                return st_error_set(err, EOPNOTSUPP, "no plugin implements \"%s\"", what);
        if (only[1]) {
                _cleanup_strv_ struct strv names = { 0 };
                for (; *only; only++)
                        strv_add(&names, *only);
                _cleanup_free_ char *list = strv_join(&names, ", ");
                return st_error_set(err, EOPNOTSUPP, "none of the plugins %s implements \"%s\"", list, what);
        }
        if (registry_find(only[0]))
                return st_error_set(err, EOPNOTSUPP, "plugin %s does not implement \"%s\"", only[0], what);
        for (size_t i = 0; i < registry_count(); i++)
                if (streq(registry_get(i)->name, only[0]))
                        return st_error_set(err, EOPNOTSUPP, "plugin %s cannot be used: %s", only[0],
                                            registry_get(i)->error);
        return st_error_set(err, EOPNOTSUPP, "plugin %s is not installed", only[0]);
}

int st_feature_if_available(enum st_feature feature,
                            int (*call)(const char *plugin, const void *value, void *userdata, struct st_error **err),
                            void *userdata, const char *const *only, struct st_error **err) {
        bool called = false;
        int r = 0;

        if (only && !*only)
                only = NULL;
        for (size_t i = 0; i < registry_count() && r >= 0; i++) {
                const struct plugin_entry *entry = registry_get(i);
                const void *value = registry_feature(entry, feature);
                const char *plugin, *adapter;

                if (!value || (only && !names_have(only, entry->name)))
                        continue;
                called = true;
                registry_running(&plugin, &adapter);
                registry_set_running(entry->name, feature_name(feature));
                r = call(entry->name, value, userdata, err);
                registry_set_running(plugin, adapter);
        }
        return called ? r : not_available(feature, only, err);
}
