/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A process that writes to the database is killed in the middle, again and again, and each time the next one finds a
 * sound database with everything in it that was acknowledged. STASIS_STRESS=1: 40 times as often.
 */

#include "test_db_common.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS 50
#define ROUNDS_STRESS 2000

/* What the killed process does with job N, one after the other; each is acknowledged by a byte. */
#define STEPS 5

static int take_step(struct db *db, const char *name, unsigned step, bool keeps) {
        switch (step) {
        case 0:
                return add_job(db, name, NULL);
        case 1:
                return change_job(db, name, STASIS__V1__JOB_STATE__RUNNING, NULL);
        case 2:
                return add_checkpoint(db, name, name, 5, NULL);
        case 3:
                return change_job(db, name, STASIS__V1__JOB_STATE__CHECKPOINTED, NULL);
        default:
                return keeps ? db_job_set_problem(db, name, "p", NULL) : db_job_delete(db, name, NULL);
        }
}

/* Every fourth job stays. */
static bool keeps(unsigned n) {
        return n % 4 == 0;
}

static void write_until_killed(const char *path, unsigned first, int acknowledge) {
        struct db *db;
        char *moved, name[16];

        if (db_open(path, &db, &moved, NULL) < 0)
                _exit(1);
        for (unsigned i = 0;; i++) {
                snprintf(name, sizeof(name), "j%u", first + i / STEPS);
                if (take_step(db, name, i % STEPS, keeps(first + i / STEPS)) < 0)
                        _exit(2);
                if (write(acknowledge, "", 1) != 1)
                        _exit(3);
        }
}

/* @return how many steps of a job are in the database; each must be there with those before it */
static unsigned steps_of(struct db *db, const char *name) {
        _cleanup_(db_job_clear) struct db_job job = { 0 };
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;
        bool ready = db_checkpoint_get(db, name, &info, NULL) == 0;
        int r = db_job_get(db, name, &job, NULL);

        if (r == -ENOENT)
                return ready ? 5 : 0;
        assert_int_equal(r, 0);
        switch (job.state) {
        case STASIS__V1__JOB_STATE__STARTING:
                assert_false(ready);
                return 1;
        case STASIS__V1__JOB_STATE__RUNNING:
                assert_int_equal(ready, !!job.latest);
                return ready ? 3 : 2;
        default:
                assert_true(job.state == STASIS__V1__JOB_STATE__CHECKPOINTED && ready && job.latest);
                return job.problem ? 5 : 4;
        }
}

static void check_round(const char *path, uint64_t seed, unsigned round, unsigned first, unsigned acknowledged) {
        _cleanup_(db_closep) struct db *db = open_db(path);
        char name[16];

        assert_ok(db_check(db, err));
        for (unsigned n = 1; n <= first + acknowledged / STEPS + 1; n++) {
                unsigned done = n < first ? STEPS : 0, taken;

                if (n < first && n + 40 < first && n % 16) /* of those of earlier rounds some */
                        continue;
                if (n >= first)
                        done = acknowledged >= (n - first + 1) * STEPS ? STEPS : acknowledged - (n - first) * STEPS;
                if (n == first + acknowledged / STEPS + 1)
                        done = 0;
                snprintf(name, sizeof(name), "j%u", n);
                taken = steps_of(db, name);
                /* One step more may have been taken than was acknowledged, of the last job only. */
                if (taken < done || taken > done + (n == first + acknowledged / STEPS))
                        fail_msg("seed %llu, round %u: of %s %u steps were acknowledged and %u taken",
                                 (unsigned long long)seed, round, name, done, taken);
                /* So that the next round knows what there is. */
                for (; taken < STEPS && n <= first + acknowledged / STEPS; taken++) {
                        if (taken == 2) /* it may have been begun */
                                (void)db_checkpoint_delete(db, name, NULL);
                        assert_int_equal(take_step(db, name, taken, keeps(n)), 0);
                }
        }
}

static void test_kills(void **state) {
        struct place *place = *state;
        const char *stress = getenv("STASIS_STRESS");
        unsigned rounds = stress && streq(stress, "1") ? ROUNDS_STRESS : ROUNDS, first = 1, total = 0, early = 0;
        uint64_t seed = (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
        unsigned short random[3] = { (unsigned short)seed, (unsigned short)(seed >> 16), (unsigned short)(seed >> 32) };

        print_message("# seed %llu\n", (unsigned long long)seed);
        for (unsigned round = 0; round < rounds; round++) {
                int acknowledged[2], status;
                char bytes[4096];
                ssize_t got;
                unsigned n = 0;

                assert_int_equal(pipe2(acknowledged, O_CLOEXEC), 0);
                pid_t child = fork();
                if (child == 0)
                        write_until_killed(place->path, first, acknowledged[1]);
                close(acknowledged[1]);
                /* Some die while they open it, some in the middle of many writes. */
                bool opening = round % 5 == 0;
                if (!opening)
                        assert_int_equal(read(acknowledged[0], bytes, 1), 1);
                n += !opening;
                const struct timespec wait = { .tv_nsec = nrand48(random) % (opening ? 4000000 : 12000000) };
                (void)nanosleep(&wait, NULL);
                kill(child, SIGKILL);
                while ((got = read(acknowledged[0], bytes, sizeof(bytes))) > 0)
                        n += (unsigned)got;
                close(acknowledged[0]);
                assert_int_equal(waitpid(child, &status, 0), child);
                if (!WIFSIGNALED(status))
                        fail_msg("seed %llu, round %u: it ended by itself: %d", (unsigned long long)seed, round,
                                 WEXITSTATUS(status));
                early += n == 0;
                check_round(place->path, seed, round, first, n);
                total += n;
                first += n / STEPS + 1;
        }
        print_message("# %u writes acknowledged in %u rounds, %u killed before the first\n", total, rounds, early);
        assert_true(total > rounds * 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_kills, place_setup, place_teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
