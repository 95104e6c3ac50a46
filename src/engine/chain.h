/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The wrapper around every adapter: it tells where the operation is (what a crash is blamed on), measures inclusive and
 * exclusive time, and stops a cancelled operation between two adapters. That is the whole profiling system.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/dump.h>
#include <stasis/features.h>
#include <stasis/operation.h>
#include <stasis/restore.h>
#include <stasis/run.h>

/** More than the built-in lists and the adapters of any plugin together. */
#define CHAIN_MAX 64

struct chain_link {
        const char *name;
        const char *plugin; /* NULL: built in */
        st_dump_fn dump;    /* one of these three */
        st_restore_fn restore;
        st_run_fn run;
        bool called;
};

struct chain {
        struct st_operation *operation;
        struct chain_link links[CHAIN_MAX];
        size_t n;
        size_t running;     /* index of the link that runs now */
        uint64_t nested_ns; /* inclusive time of the link that ended last: its caller's share to subtract */
};

struct st_dump_next {
        struct chain *chain;
        size_t index;
};

struct st_restore_next {
        struct chain *chain;
        size_t index;
};

struct st_run_next {
        struct chain *chain;
        size_t index;
};

/** Appends a link. @return 0 or -E2BIG with err */
int chain_add_dump(struct chain *chain, const char *plugin, const struct st_dump_adapter *adapter,
                   struct st_error **err);
int chain_add_restore(struct chain *chain, const char *plugin, const struct st_restore_adapter *adapter,
                      struct st_error **err);
int chain_add_run(struct chain *chain, const char *plugin, const struct st_run_adapter *adapter, struct st_error **err);

/**
 * Appends what a plugin exports for a place in the list: the adapters of dump_middleware, restore_middleware_early and
 * _late, run_middleware_early and _late, the handler of dump_handler, restore_handler, run_handler,
 * run_handler_no_server and manage_handler.
 *
 * @param type the plugin's name; "process" is built in and has none
 * @return 0; -EOPNOTSUPP without err: it exports nothing there; -E2BIG with err
 */
int chain_add_feature(struct chain *chain, enum st_feature feature, const char *type, struct st_error **err);

/** Does the plugin of a type export the feature? "process" has no plugin. */
bool chain_has_feature(enum st_feature feature, const char *type);

/** Runs the chain from its first link. */
int chain_run_dump(struct chain *chain, struct st_dump *dump, struct st_error **err);
int chain_run_restore(struct chain *chain, struct st_restore *restore, struct st_error **err);
int chain_run_run(struct chain *chain, struct st_run *run, struct st_error **err);
