/* SPDX-License-Identifier: Apache-2.0 */

/* What is put into the database comes out of it: jobs, their history, checkpoints, hosts. */

#include "test_db_common.h"

#define RUNNING STASIS__V1__JOB_STATE__RUNNING
#define EXITED STASIS__V1__JOB_STATE__EXITED
#define LOST STASIS__V1__JOB_STATE__LOST
#define RESTORING STASIS__V1__JOB_STATE__RESTORING
#define CHECKPOINTED STASIS__V1__JOB_STATE__CHECKPOINTED

static void assert_same(const void *a, const void *b) {
        _cleanup_free_ char *x = message_to_json_text(a, 0), *y = message_to_json_text(b, 0);

        assert_string_equal(x, y);
}

static void test_job(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = new_spec("calm-otter");
        _cleanup_(db_job_clear) struct db_job job = { 0 };

        spec->has_created = 1;
        spec->created = 12345;
        spec->policy = message_new(&daemon__job_policy__descriptor);
        spec->policy->has_every = spec->policy->has_keep = spec->policy->has_restart = 1;
        spec->policy->has_restartmax = 1;
        spec->policy->every = UINT64_MAX;
        spec->policy->keep = UINT32_MAX;
        spec->policy->restart = 1;
        assert_ok(db_job_add(db, spec, err));
        assert_true(db_job_exists(db, "calm-otter"));
        assert_false(db_job_exists(db, "calm-otte"));
        assert_fails(db_job_add(db, spec, err), EEXIST, "there is a job calm-otter already");
        assert_null(db_problem(db));
        for (int again = 0; again < 2; again++) {
                assert_ok(db_job_get(db, "calm-otter", &job, err));
                assert_same(job.spec, spec);
                assert_int_equal(job.state, STASIS__V1__JOB_STATE__STARTING);
                assert_true(job.since > 1600000000000);
                assert_true(!job.pid && !job.boot && !job.record && !job.latest && !job.problem && !job.restarts);
                db_job_clear(&job);
                db_close(db);
                db = open_db(place->path);
        }
        assert_fails(db_job_get(db, "other", &job, err), ENOENT, "there is no job other");
        assert_null(job.spec);
        /* An empty name is none. */
        assert_fails(add_job(db, "", err), EINVAL, "without a name");
}

static void test_policy(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(message_freep) Daemon__JobPolicy *policy = message_new(&daemon__job_policy__descriptor);
        _cleanup_(db_job_clear) struct db_job job = { 0 };

        assert_ok(add_job(db, "a", err));
        assert_ok(db_job_get(db, "a", &job, err));
        assert_null(job.spec->policy);
        db_job_clear(&job);
        policy->has_every = policy->has_keep = policy->has_restart = policy->has_restartmax = 1;
        policy->every = 5000;
        policy->restartmax = 3;
        assert_ok(db_job_set_policy(db, "a", policy, err));
        assert_ok(db_job_set_problem(db, "a", "the disk is full", err));
        assert_ok(db_job_get(db, "a", &job, err));
        assert_same(job.spec->policy, policy);
        assert_string_equal(job.problem, "the disk is full");
        db_job_clear(&job);
        policy->every = policy->restartmax = 0;
        assert_ok(db_job_set_policy(db, "a", policy, err));
        assert_ok(db_job_set_problem(db, "a", NULL, err));
        assert_ok(db_job_get(db, "a", &job, err));
        assert_null(job.spec->policy);
        assert_null(job.problem);
        assert_fails(db_job_set_policy(db, "b", policy, err), ENOENT, "there is no job b");
        assert_fails(db_job_set_problem(db, "b", "x", err), ENOENT, "there is no job b");
}

/* A job's way through its life; at each step what stays and what goes. */
static void test_change(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(db_job_clear) struct db_job job = { 0 };
        static const struct {
                struct db_job_change change;
                int exit_status;
                unsigned restarts;
                bool resume;
                const char *record;
        } steps[] = {
                { { .state = RUNNING, .reason = "run", .pid = 42, .start_time = 7, .boot = "b1", .record = "r1" },
                  0,
                  0,
                  false,
                  "r1" },
                { { .state = RUNNING, .restarted = true }, 0, 1, false, "r1" },
                { { .state = EXITED, .reason = "end", .exit_status = 9 }, 9, 1, false, "r1" },
                { { .state = EXITED }, 9, 1, false, "r1" },
                { { .state = RESTORING, .reason = "restart 1", .restarted = true }, 0, 2, false, NULL },
                { { .state = RUNNING, .pid = 43, .start_time = UINT64_MAX, .boot = "b2", .record = "r2" },
                  0,
                  2,
                  false,
                  "r2" },
                { { .state = CHECKPOINTED, .reason = "dump --stop", .resume = true }, 0, 2, true, "r2" },
                { { .state = CHECKPOINTED, .reason = "" }, 0, 2, true, "r2" },
                { { .state = RESTORING, .reason = "restore", .by_hand = true }, 0, 0, false, NULL },
        };

        assert_ok(add_job(db, "a", err));
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                assert_ok(db_job_change(db, "a", &steps[i].change, err));
                db_job_clear(&job);
                assert_ok(db_job_get(db, "a", &job, err));
                assert_int_equal(job.state, steps[i].change.state);
                assert_int_equal(job.exit_status, steps[i].exit_status);
                assert_int_equal(job.restarts, steps[i].restarts);
                assert_int_equal(job.resume, steps[i].resume);
                assert_string_equal(job.record ?: "-", steps[i].record ?: "-");
                assert_int_equal(job.pid, i < 5 ? 42 : 43);
                assert_true(job.start_time == (i < 5 ? 7 : UINT64_MAX));
                assert_string_equal(job.boot, i < 5 ? "b1" : "b2");
        }
        assert_fails(change_job(db, "a", STASIS__V1__JOB_STATE__STARTING, err), EINVAL,
                     "the job a is restoring: it cannot become starting");
        assert_fails(change_job(db, "b", RUNNING, err), ENOENT, "there is no job b");

        _cleanup_(message_freep) Stasis__V1__JobInfo *info = message_new(&stasis__v1__job_info__descriptor);
        static const char *const reasons[] = { "run", "run", "end", "restart 1", "", "dump --stop", "restore" };
        assert_ok(db_job_history(db, "a", info, err));
        assert_int_equal(info->n_history, ELEMENTSOF(reasons));
        for (size_t i = 0; i < ELEMENTSOF(reasons); i++) {
                assert_string_equal(info->history[i]->reason ?: "", reasons[i]);
                assert_int_equal(info->history[i]->has_exitstatus, i == 2);
                assert_true(info->history[i]->time > 1600000000000);
        }
        assert_int_equal(info->history[2]->exitstatus, 9);
        assert_int_equal(info->history[0]->has_pid, 0);
        assert_int_equal(info->history[4]->pid, 43);
        assert_fails(db_job_history(db, "b", info, err), ENOENT, "there is no job b");
}

static void test_history_is_bounded(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(message_freep) Stasis__V1__JobInfo *info = message_new(&stasis__v1__job_info__descriptor);
        char reason[16];

        assert_ok(add_job(db, "other", err));
        assert_ok(add_job(db, "a", err));
        for (int i = 0; i < 1100; i++) {
                struct db_job_change change = { .state = i % 2 ? RESTORING : LOST, .reason = reason };

                snprintf(reason, sizeof(reason), "%d", i);
                assert_ok(db_job_change(db, "a", &change, err));
        }
        assert_ok(db_job_history(db, "a", info, err));
        assert_int_equal(info->n_history, 1000);
        assert_string_equal(info->history[0]->reason, "100");
        assert_string_equal(info->history[999]->reason, "1099");
        assert_ok(db_job_history(db, "other", info, err));
        assert_int_equal(info->n_history, 1001);
        assert_ok(db_check(db, err));
}

static void test_adopt(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = new_spec("a");
        struct db_job given = { .spec = spec,
                                .state = EXITED,
                                .since = 5,
                                .pid = 3,
                                .start_time = 4,
                                .boot = (char *)"b",
                                .record = (char *)"r",
                                .exit_status = 256,
                                .restarts = 2,
                                .problem = (char *)"p",
                                .resume = true };
        _cleanup_(db_job_clear) struct db_job job = { 0 };

        assert_ok(db_job_adopt(db, &given, "adopted", err));
        assert_ok(db_job_get(db, "a", &job, err));
        assert_true(job.state == EXITED && job.since == 5 && job.pid == 3 && job.start_time == 4 &&
                    job.exit_status == 256 && job.restarts == 2 && !job.resume);
        assert_string_equal(job.boot, "b");
        assert_string_equal(job.record, "r");
        assert_string_equal(job.problem, "p");
        assert_fails(db_job_adopt(db, &given, "adopted", err), EEXIST, "there is a job a already");
}

static int name_of(const struct db_job *job, void *userdata) {
        strv_add(userdata, job->spec->jid);
        if (job->latest)
                strv_add(userdata, job->latest->id);
        return 0;
}

static int stop_at_second(const struct db_job *job, void *userdata) {
        (void)job;
        return ++*(int *)userdata == 2 ? 7 : 0;
}

static void test_each(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_strv_ struct strv names = { 0 };
        _cleanup_free_ char *joined = NULL;
        uint64_t counts[JOB_STATES];
        int n = 0;

        assert_ok(db_job_each(db, false, name_of, &names, err));
        assert_int_equal(names.n, 0);
        for (int i = 0; i < 4; i++) {
                char jid[8] = { (char)('d' - i), 0 };
                _cleanup_(message_freep) Stasis__V1__JobSpec *spec = new_spec(jid);
                /* b and a are of the same moment; c is the oldest. */
                spec->has_created = 1;
                spec->created = i == 1 ? -5 : i == 0 ? 10 : 20;
                assert_ok(db_job_add(db, spec, err));
        }
        assert_ok(change_job(db, "d", EXITED, err));
        assert_ok(change_job(db, "b", RUNNING, err));
        assert_ok(add_checkpoint(db, "b1", "b", 100, err));
        assert_ok(add_checkpoint(db, "b3", "b", 300, err));
        assert_ok(add_checkpoint(db, "b2", "b", 200, err));
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *begun = new_checkpoint("b4", "b", 400);
        assert_ok(db_checkpoint_begin(db, begun, "op", err));
        assert_ok(db_job_each(db, false, name_of, &names, err));
        strv_add(&names, "|");
        assert_ok(db_job_each(db, true, name_of, &names, err));
        joined = strv_join(&names, " ");
        assert_string_equal(joined, "c d b b3 a | c b b3 a");
        assert_int_equal(db_job_each(db, false, stop_at_second, &n, NULL), 7);
        assert_int_equal(n, 2);
        assert_ok(db_job_count(db, counts, err));
        assert_true(counts[STASIS__V1__JOB_STATE__STARTING] == 2 && counts[RUNNING] == 1 && counts[EXITED] == 1 &&
                    counts[CHECKPOINTED] == 0 && counts[RESTORING] == 0 && counts[LOST] == 0);
}

struct walk {
        struct db *db;
        int seen;
};

/* Whoever gets a row may change and delete what he likes. */
static int lose_and_delete(const struct db_job *job, void *userdata) {
        struct walk *walk = userdata;

        assert_ok(change_job(walk->db, job->spec->jid, LOST, err));
        if (walk->seen++ % 2)
                assert_ok(db_job_delete(walk->db, job->spec->jid, err));
        return 0;
}

static int delete_checkpoint(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        struct walk *walk = userdata;

        walk->seen++;
        assert_ok(db_checkpoint_delete(walk->db, info->id, err));
        return 0;
}

static void test_each_may_write(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        struct walk walk = { db, 0 };
        uint64_t counts[JOB_STATES];
        char name[16];

        for (int i = 0; i < 300; i++) {
                snprintf(name, sizeof(name), "j%d", i);
                assert_ok(add_job(db, name, err));
                assert_ok(add_checkpoint(db, name, name, i / 3, err));
        }
        assert_ok(db_job_each(db, true, lose_and_delete, &walk, err));
        assert_int_equal(walk.seen, 300);
        assert_ok(db_job_count(db, counts, err));
        assert_int_equal(counts[LOST], 150);
        assert_int_equal(counts[STASIS__V1__JOB_STATE__STARTING], 0);
        walk.seen = 0;
        assert_ok(db_checkpoint_each(db, "j0", delete_checkpoint, &walk, err));
        assert_int_equal(walk.seen, 1);
        assert_ok(db_checkpoint_each(db, NULL, delete_checkpoint, &walk, err));
        assert_int_equal(walk.seen, 300);
        assert_ok(db_check(db, err));
}

static int id_of(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        strv_add(userdata, info->id);
        return 0;
}

static int begun_of(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata) {
        strv_addf(userdata, "%s:%s", info->id, operation);
        return 0;
}

static void test_checkpoint(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = new_checkpoint("c1", "a", 77), *got = NULL;
        _cleanup_(message_freep) Daemon__Host *host = message_new(&daemon__host__descriptor);

        message_set_string(&host->id, "machine");
        message_set_string(&host->hostname, "one");
        assert_ok(db_host_seen(db, host, err));
        message_set_string(&host->hostname, "two"); /* it was renamed */
        assert_ok(db_host_seen(db, host, err));
        assert_fails(db_checkpoint_begin(db, info, "op", err), ENOENT, "there is no job a");
        assert_ok(add_job(db, "a", err));
        info->has_uid = info->has_scheduled = info->has_ends = 1;
        info->ends = 1;
        info->uid = UINT32_MAX;
        info->scheduled = 1;
        assert_ok(db_checkpoint_begin(db, info, "op", err));
        assert_fails(db_checkpoint_begin(db, info, "op", err), EEXIST, "checkpoint c1, which there is already");
        assert_fails(db_checkpoint_get(db, "c1", &got, err), ENOENT, "there is no checkpoint c1");
        assert_int_equal(db_checkpoint_latest(db, "a", &got, NULL), -ENOENT);
        assert_null(got);
        info->has_size = info->has_frozen = info->has_duration = info->has_pages = 1;
        info->size = UINT64_MAX;
        info->frozen = 2;
        info->duration = 3;
        info->pages = 4;
        message_set_string(&info->format, "zstd");
        message_set_string(&info->path, "/\xff where it is");
        assert_ok(db_checkpoint_ready(db, info, err));
        message_set_string(&info->host, "two");
        assert_ok(db_checkpoint_get(db, "c1", &got, err));
        assert_string_equal(got->path, info->path);
        assert_same(got, info);
        message_freep(&got);
        assert_ok(db_checkpoint_latest(db, "a", &got, err));
        assert_same(got, info);
        message_freep(&got);
        /* Its job goes, it stays. */
        assert_ok(db_job_delete(db, "a", err));
        assert_fails(db_job_delete(db, "a", err), ENOENT, "there is no job a");
        assert_ok(add_job(db, "a", err));
        assert_int_equal(db_checkpoint_latest(db, "a", &got, NULL), -ENOENT);
        assert_ok(db_checkpoint_get(db, "c1", &got, err));
        assert_null(got->jid);
        assert_ok(db_checkpoint_delete(db, "c1", err));
        assert_fails(db_checkpoint_delete(db, "c1", err), ENOENT, "there is no checkpoint c1");
        assert_fails(db_checkpoint_ready(db, info, err), ENOENT, "there is no checkpoint c1");
        assert_ok(db_check(db, err));
}

static void test_checkpoints(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_strv_ struct strv ids = { 0 };
        _cleanup_free_ char *joined = NULL;
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *begun = new_checkpoint("begun", "a", 1), *got = NULL;

        assert_ok(add_job(db, "a", err));
        assert_ok(add_job(db, "b", err));
        assert_ok(add_checkpoint(db, "c1", "a", 10, err));
        assert_ok(add_checkpoint(db, "c3", "b", 30, err));
        assert_ok(add_checkpoint(db, "c2", "a", 20, err));
        assert_ok(add_checkpoint(db, "c2b", "a", 20, err)); /* of the same moment: the later one is the newer one */
        assert_ok(add_checkpoint(db, "c0", "", 0, err));    /* of no job */
        assert_ok(db_checkpoint_begin(db, begun, "op-7", err));
        assert_ok(db_checkpoint_each(db, NULL, id_of, &ids, err));
        strv_add(&ids, "|");
        assert_ok(db_checkpoint_each(db, "a", id_of, &ids, err));
        strv_add(&ids, "|");
        assert_ok(db_checkpoint_each(db, "nobody", id_of, &ids, err));
        assert_ok(db_checkpoint_each_begun(db, begun_of, &ids, err));
        joined = strv_join(&ids, " ");
        assert_string_equal(joined, "c3 c2b c2 c1 c0 | c2b c2 c1 | begun:op-7");
        assert_ok(db_checkpoint_latest(db, "a", &got, err));
        assert_string_equal(got->id, "c2b");
}

/** What is known of a checkpoint whose pages are in others. */
static void test_chain(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        Stasis__V1__CheckpointInfo changed = STASIS__V1__CHECKPOINT_INFO__INIT, *got = NULL;

        assert_ok(add_job(db, "a", err));
        for (int i = 0; i < 3; i++) {
                char name[8], path[16];
                _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;

                snprintf(name, sizeof(name), "c%d", i);
                info = new_checkpoint(name, "a", i);
                snprintf(path, sizeof(path), "/c%d", i);
                message_set_string(&info->path, path);
                snprintf(path, sizeof(path), "/c%d", i - 1);
                message_set_string(&info->parent, i > 0 ? path : NULL);
                info->has_ancestors = 1;
                info->ancestors = (uint32_t)i;
                assert_ok(db_checkpoint_begin(db, info, "op", err));
                assert_ok(db_checkpoint_ready(db, info, err));
        }
        assert_ok(db_checkpoint_get(db, "c2", &got, err));
        assert_string_equal(got->parent, "/c1");
        assert_int_equal(got->ancestors, 2);
        message_freep(&got);

        changed.path = (char *)"/c1";
        changed.has_size = changed.has_ancestors = 1;
        changed.size = 12345;
        assert_ok(db_checkpoint_set_chain(db, &changed, err));
        assert_ok(db_checkpoint_get(db, "c1", &got, err));
        assert_true(isempty(got->parent));
        assert_int_equal(got->ancestors, 0);
        assert_int_equal(got->size, 12345);
        message_freep(&got);
        changed.path = (char *)"/nobody";
        assert_ok(db_checkpoint_set_chain(db, &changed, err));

        /* Nobody refers to what goes. */
        assert_ok(db_checkpoint_delete(db, "c1", err));
        assert_ok(db_checkpoint_get(db, "c2", &got, err));
        assert_true(isempty(got->parent));
        message_freep(&got);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_job),         TEST(test_policy), TEST(test_change),         TEST(test_history_is_bounded),
                TEST(test_adopt),       TEST(test_each),   TEST(test_each_may_write), TEST(test_checkpoint),
                TEST(test_checkpoints), TEST(test_chain),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
