/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "db/private.h"

static int put_host(struct db *db, const Daemon__Host *host, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *put = NULL;
        const char *name = isempty(host->hostname) ? "localhost" : host->hostname;
        size_t size;
        _cleanup_free_ uint8_t *packed = message_pack(&host->base, &size);
        int r = db_statement(db,
                             "INSERT INTO hosts (machine, name, description, first_seen, last_seen)"
                             " VALUES (?1, ?2, ?3, ?4, ?4)"
                             " ON CONFLICT (machine) DO UPDATE SET name = excluded.name,"
                             " description = excluded.description, last_seen = excluded.last_seen"
                             " RETURNING id",
                             &put, err);
        if (r < 0)
                return r;
        db_bind_text(put, 1, isempty(host->id) ? name : host->id);
        db_bind_text(put, 2, name);
        db_bind_blob(put, 3, packed, size);
        db_bind_int(put, 4, db_now());
        r = db_step(db, put, err);
        if (r > 0)
                db->host = sqlite.column_int64(put, 0);
        return r < 0 ? r : db_run(db, put, err);
}

int db_this_host(struct db *db, struct st_error **err) {
        return db->host || !db->this_host ? 0 : put_host(db, db->this_host, err);
}

int db_host_seen(struct db *db, const Daemon__Host *host, struct st_error **err) {
        message_freep(&db->this_host);
        db->this_host = message_copy(&host->base);
        int r = db_begin(db, false, err);
        if (r < 0)
                return r;
        r = db_end(db, put_host(db, host, err), err);
        return r < 0 ? r : 0;
}
