/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/chain.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "engine/operation.h"
#include "plugin/registry.h"

static int chain_add(struct chain *chain, struct chain_link link, struct st_error **err) {
        if (chain->n == CHAIN_MAX)
                return st_error_set(err, E2BIG, "the chain has more than %d adapters: %s does not fit", CHAIN_MAX,
                                    link.name);
        chain->links[chain->n++] = link;
        return 0;
}

int chain_add_dump(struct chain *chain, const char *plugin, const struct st_dump_adapter *adapter,
                   struct st_error **err) {
        return chain_add(chain, (struct chain_link){ .name = adapter->name, .plugin = plugin, .dump = adapter->run },
                         err);
}

int chain_add_restore(struct chain *chain, const char *plugin, const struct st_restore_adapter *adapter,
                      struct st_error **err) {
        return chain_add(chain, (struct chain_link){ .name = adapter->name, .plugin = plugin, .restore = adapter->run },
                         err);
}

int chain_add_run(struct chain *chain, const char *plugin, const struct st_run_adapter *adapter,
                  struct st_error **err) {
        return chain_add(chain, (struct chain_link){ .name = adapter->name, .plugin = plugin, .run = adapter->run },
                         err);
}

static int add_dump_adapters(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_dump_adapters *adapters = value;
        int r = 0;

        for (size_t i = 0; i < adapters->n && r >= 0; i++)
                r = chain_add_dump(userdata, plugin, &adapters->adapters[i], err);
        return r;
}

static int add_restore_adapters(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_restore_adapters *adapters = value;
        int r = 0;

        for (size_t i = 0; i < adapters->n && r >= 0; i++)
                r = chain_add_restore(userdata, plugin, &adapters->adapters[i], err);
        return r;
}

static int add_run_adapters(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_run_adapters *adapters = value;
        int r = 0;

        for (size_t i = 0; i < adapters->n && r >= 0; i++)
                r = chain_add_run(userdata, plugin, &adapters->adapters[i], err);
        return r;
}

static int add_dump_handler(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        return chain_add_dump(userdata, plugin, value, err);
}

static int add_restore_handler(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        return chain_add_restore(userdata, plugin, value, err);
}

static int add_run_handler(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        return chain_add_run(userdata, plugin, value, err);
}

int chain_add_feature(struct chain *chain, enum st_feature feature, const char *type, struct st_error **err) {
        static int (*const add[ST_FEATURE_COUNT])(const char *plugin, const void *value, void *userdata,
                                                  struct st_error **err) = {
                [ST_FEATURE_dump_middleware] = add_dump_adapters,
                [ST_FEATURE_dump_handler] = add_dump_handler,
                [ST_FEATURE_restore_middleware_early] = add_restore_adapters,
                [ST_FEATURE_restore_middleware_late] = add_restore_adapters,
                [ST_FEATURE_restore_handler] = add_restore_handler,
                [ST_FEATURE_run_middleware_early] = add_run_adapters,
                [ST_FEATURE_run_middleware_late] = add_run_adapters,
                [ST_FEATURE_run_handler] = add_run_handler,
                [ST_FEATURE_run_handler_no_server] = add_run_handler,
                [ST_FEATURE_manage_handler] = add_run_handler,
        };
        const char *const only[] = { type, NULL };
        _cleanup_error_ struct st_error *error = NULL;
        int r;

        assert(add[feature]);
        if (streq(type, "process"))
                return -EOPNOTSUPP;
        r = st_feature_if_available(feature, add[feature], chain, only, &error);
        return r < 0 && r != -EOPNOTSUPP ? st_error_move(err, TAKE_PTR(error)) : r;
}

bool chain_has_feature(enum st_feature feature, const char *type) {
        const struct plugin_entry *plugin = streq(type, "process") ? NULL : registry_find(type);

        return plugin && registry_feature(plugin, feature);
}

static void chain_position(struct chain *chain, size_t index) {
        const struct chain_link *link = &chain->links[index];

        chain->running = index;
        registry_set_running(link->plugin, link->name);
        operation_report_position(chain->operation, link->plugin, link->name);
}

/** The operation that goes through the chain: one of these. */
struct subject {
        struct st_dump *dump;
        struct st_restore *restore;
        struct st_run *run;
};

static int call_link(struct chain *chain, size_t index, const struct subject *subject, struct st_error **err) {
        const struct chain_link *link = &chain->links[index];

        if (subject->dump)
                return link->dump(subject->dump, &(struct st_dump_next){ chain, index + 1 }, err);
        if (subject->restore)
                return link->restore(subject->restore, &(struct st_restore_next){ chain, index + 1 }, err);
        return link->run(subject->run, &(struct st_run_next){ chain, index + 1 }, err);
}

/** Calls one link, timed. What it calls below comes back here, so times nest. */
static int chain_call(struct chain *chain, size_t index, const struct subject *subject, struct st_error **err) {
        struct chain_link *link = &chain->links[index];
        size_t caller = chain->running;
        int r;

        if (link->called)
                return st_error_set(err, EINVAL, "adapter %s called the next one, %s, a second time",
                                    chain->links[caller].name, link->name);
        link->called = true;
        r = st_operation_check_cancelled(chain->operation, err);
        if (r < 0)
                return r;

        chain_position(chain, index);
        chain->nested_ns = 0;
        uint64_t begin = clock_ns();
        r = call_link(chain, index, subject, err);
        uint64_t inclusive = clock_ns() - begin;
        if (r < 0 && err && !*err)
                st_error_errno(err, r, "adapter %s failed", link->name);

        operation_report_span(chain->operation, link->plugin, link->name, (unsigned)index, inclusive,
                              inclusive - chain->nested_ns);
        chain->nested_ns = inclusive;
        chain_position(chain, caller);
        return r;
}

int st_dump_proceed(struct st_dump_next *next, struct st_dump *dump, struct st_error **err) {
        /* A handler that proceeds has nothing below it: a plugin's mistake, not the user's. */
        if (next->index >= next->chain->n)
                return st_error_set(err, EINVAL, "the handler of the dump called the next adapter, but it is the last");
        return chain_call(next->chain, next->index, &(struct subject){ .dump = dump }, err);
}

int st_restore_proceed(struct st_restore_next *next, struct st_restore *restore, struct st_error **err) {
        if (next->index >= next->chain->n)
                return st_error_set(err, EINVAL,
                                    "the handler of the restore called the next adapter, but it is the last");
        return chain_call(next->chain, next->index, &(struct subject){ .restore = restore }, err);
}

int st_run_proceed(struct st_run_next *next, struct st_run *run, struct st_error **err) {
        if (next->index >= next->chain->n)
                return st_error_set(err, EINVAL, "the handler of the run called the next adapter, but it is the last");
        return chain_call(next->chain, next->index, &(struct subject){ .run = run }, err);
}

int chain_run_dump(struct chain *chain, struct st_dump *dump, struct st_error **err) {
        assert(chain->n > 0);
        return chain_call(chain, 0, &(struct subject){ .dump = dump }, err);
}

int chain_run_restore(struct chain *chain, struct st_restore *restore, struct st_error **err) {
        assert(chain->n > 0);
        return chain_call(chain, 0, &(struct subject){ .restore = restore }, err);
}

int chain_run_run(struct chain *chain, struct st_run *run, struct st_error **err) {
        assert(chain->n > 0);
        return chain_call(chain, 0, &(struct subject){ .run = run }, err);
}
