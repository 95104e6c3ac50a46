/* SPDX-License-Identifier: Apache-2.0 */

/* The layout. Each row of the table leads from one user_version to the next; a row that was released never changes. */

#include <stdio.h>

#include "base/cleanup.h"
#include "db/private.h"

/* The specification is the packed stasis.v1.JobSpec without what has columns: JID, Created, Policy. */
static const char layout_1[] = "CREATE TABLE hosts ("
                               " id INTEGER PRIMARY KEY,"
                               " machine TEXT NOT NULL UNIQUE,"
                               " name TEXT NOT NULL,"
                               " description BLOB NOT NULL," /* packed daemon.Host */
                               " first_seen INTEGER NOT NULL,"
                               " last_seen INTEGER NOT NULL) STRICT;"

                               "CREATE TABLE jobs ("
                               " id INTEGER PRIMARY KEY,"
                               " jid TEXT NOT NULL UNIQUE,"
                               " created INTEGER NOT NULL,"
                               " spec BLOB NOT NULL,"
                               " every INTEGER NOT NULL,"
                               " keep INTEGER NOT NULL,"
                               " restart INTEGER NOT NULL CHECK (restart IN (0, 1)),"
                               " restart_max INTEGER NOT NULL,"
                               " state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),"
                               " since INTEGER NOT NULL,"
                               " pid INTEGER,"
                               " start_time INTEGER,"
                               " boot TEXT,"
                               " record TEXT,"
                               " exit_status INTEGER,"
                               " restarts INTEGER NOT NULL CHECK (restarts >= 0),"
                               " resume INTEGER NOT NULL CHECK (resume IN (0, 1)),"
                               " killed INTEGER NOT NULL CHECK (killed >= 0),"
                               " problem TEXT,"
                               " CHECK ((exit_status IS NOT NULL) = (state = 4)),"
                               " CHECK (resume = 0 OR state = 2)) STRICT;"
                               "CREATE INDEX jobs_by_age ON jobs (created);"

                               "CREATE TABLE job_history ("
                               " job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,"
                               " n INTEGER NOT NULL,"
                               " time INTEGER NOT NULL,"
                               " state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),"
                               " pid INTEGER,"
                               " exit_status INTEGER,"
                               " reason TEXT,"
                               " PRIMARY KEY (job, n)) STRICT, WITHOUT ROWID;"

                               "CREATE TABLE checkpoints ("
                               " id INTEGER PRIMARY KEY,"
                               " name TEXT NOT NULL UNIQUE,"
                               " job INTEGER REFERENCES jobs ON DELETE SET NULL,"
                               " host INTEGER REFERENCES hosts,"
                               " operation TEXT NOT NULL,"
                               " ready INTEGER NOT NULL CHECK (ready IN (0, 1)),"
                               " type TEXT NOT NULL,"
                               " path TEXT NOT NULL,"
                               " time INTEGER NOT NULL,"
                               " uid INTEGER,"
                               " scheduled INTEGER NOT NULL CHECK (scheduled IN (0, 1)),"
                               " ends INTEGER NOT NULL CHECK (ends IN (0, 1)),"
                               " format TEXT,"
                               " size INTEGER,"
                               " frozen INTEGER,"
                               " duration INTEGER,"
                               " pages INTEGER) STRICT;"
                               "CREATE INDEX checkpoints_of_job ON checkpoints (job, ready, time);"
                               "CREATE INDEX checkpoints_by_time ON checkpoints (ready, time);";

/* Native images that refer to others. */
static const char layout_2[] = "ALTER TABLE checkpoints ADD COLUMN parent TEXT;"
                               "ALTER TABLE checkpoints ADD COLUMN ancestors INTEGER;";

/* What is to be deleted: an interrupted deletion is told from a file that somebody else has taken away. */
static const char layout_3[] = "ALTER TABLE checkpoints ADD COLUMN deleting INTEGER;";

static const char *const migrations[] = { layout_1, layout_2, layout_3 };

int db_version(void) {
        return (int)ELEMENTSOF(migrations);
}

static int migrate_one(sqlite3 *connection, size_t i) {
        char version[128];
        int code = sqlite.exec(connection, "BEGIN IMMEDIATE", NULL, NULL, NULL);

        if (code != SQLITE_OK)
                return code;
        (void)snprintf(version, sizeof(version), "PRAGMA application_id = %d; PRAGMA user_version = %zu; COMMIT",
                       DB_APPLICATION, i + 1);
        code = sqlite.exec(connection, migrations[i], NULL, NULL, NULL);
        if (code == SQLITE_OK)
                code = sqlite.exec(connection, version, NULL, NULL, NULL);
        if (code != SQLITE_OK && !sqlite.get_autocommit(connection))
                (void)sqlite.exec(connection, "ROLLBACK", NULL, NULL, NULL);
        return code;
}

int db_migrate(sqlite3 *connection, int64_t version) {
        for (size_t i = (size_t)version; i < ELEMENTSOF(migrations); i++) {
                int code = migrate_one(connection, i);

                if (code != SQLITE_OK)
                        return code;
        }
        return SQLITE_OK;
}
