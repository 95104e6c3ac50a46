/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * SQLite, loaded when a database is opened. Linked in it would cost every command 0.4 ms at least (`stasis version`,
 * measured: 1.8 ms without it), and only the daemon has a database.
 */

#include <sqlite3.h>

#include <stasis/error.h>

/** What of it is used, without "sqlite3_". */
#define SQLITE_FUNCTIONS(F)      \
        F(backup_finish)         \
        F(backup_init)           \
        F(backup_step)           \
        F(bind_blob)             \
        F(bind_int64)            \
        F(bind_null)             \
        F(bind_text)             \
        F(busy_timeout)          \
        F(changes)               \
        F(clear_bindings)        \
        F(close)                 \
        F(column_blob)           \
        F(column_bytes)          \
        F(column_int64)          \
        F(column_text)           \
        F(column_type)           \
        F(db_readonly)           \
        F(errmsg)                \
        F(errstr)                \
        F(exec)                  \
        F(extended_errcode)      \
        F(extended_result_codes) \
        F(finalize)              \
        F(get_autocommit)        \
        F(last_insert_rowid)     \
        F(libversion_number)     \
        F(open_v2)               \
        F(prepare_v3)            \
        F(reset)                 \
        F(step)                  \
        F(system_errno)

/** sqlite.step is sqlite3_step, and so on. */
struct sqlite {
#define SQLITE_MEMBER(name) __typeof__(sqlite3_##name) *name;
        SQLITE_FUNCTIONS(SQLITE_MEMBER)
#undef SQLITE_MEMBER
};

/** Filled by sqlite_load(), constant afterwards. */
extern struct sqlite sqlite;

/** Loads the library, once; any thread. @return 0; -ENOPKG with err when it is not installed, or too old */
int sqlite_load(struct st_error **err);
