#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills the daemon during a mix of operations on jobs, starts a new one, and looks whether it knows all that happened.

Each iteration has a phase, in turn: idle, run, dump, stop (dump --stop), restore, attach, kill, delete; some have a
second operation on another job, some a job that ends meanwhile, some kill the next daemon, too, while it finds out what
the one before left. After each the new daemon must say of every job what is so:

  - a job is there or not, runs or not, as the operation was done or not; when the command line said it was, it was;
  - there is one process for each job that runs, the one of the list, and it goes on counting without a gap;
  - one that ended has the exit code that it wrote into a file of its own before, or that of the signal it got;
  - every checkpoint of the list verifies, and nothing else stands in the directory of checkpoints;
  - supervisors and their records are those of the jobs that run, cgroups too; no process of stasis or CRIU is left,
    no work directory, no hidden file, nothing begun in the database, which is consistent after each kill.

How it is run: killing.py. Environment: STASIS_BUILD, besides.

Of a failure it prints what was done in the last iterations, with the moments, what the daemon, the database and /proc
say of all jobs, and where the daemon's log and the database are kept.
"""

import glob
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from killing import (Failure, Loop, PATIENCE, is_alive, kill, list_directory, main, processes,  # pylint: disable=C0413
                     start, tail, wait_for)

FORMATS = ("none", "zstd", "image", "image")  # of two images of a job the second often refers to the first
PHASES = ("idle", "run", "dump", "stop", "restore", "attach", "kill", "delete")
# Those that a worker of the daemon does: a kill has landed in one while there is one.
BY_WORKER = ("run", "dump", "stop", "restore")
COLUMNS = ("kills", "at work", "done", "undone")
JOBS_MAX = 6
CHECKPOINTS_MAX = 3
# How often each phase must have been hit in a long run.
MINIMUM = 5
# Of a failure: so much is printed.
STORY_LINES = 60
LOG_LINES = 80

# Counts, until it is told to end with a code; says so in a file of its own before.
SCRIPT = """i=0
while [ ! -e "$0.go" ]; do i=$((i + 1)); echo $i; sleep 0.02; done
read -r code <"$0.go"; echo $code >"$0.end"; exit $code"""


class Job:
    """What must be so of one. Its state is None before it is known to be there, and after it was deleted."""

    def __init__(self, directory, jid, attachable):
        self.jid, self.attachable = jid, attachable
        self.path = os.path.join(directory, "jobs", jid)
        self.state = self.code = self.pid = None
        self.restores = 0
        self.checkpoints = []  # when they were asked for last

    def outcome(self):
        return (self.state, self.code)

    def tell_to_end(self, code):
        with open(self.path + ".new", "w") as file:
            file.write(f"{code}\n")
        os.rename(self.path + ".new", self.path + ".go")

    def forget_end(self):
        """Before a new life."""
        for suffix in (".go", ".end"):
            if os.path.exists(self.path + suffix):
                os.unlink(self.path + suffix)

    def own_end(self):
        """The code that it wrote itself, if it did."""
        try:
            with open(self.path + ".end") as file:
                text = file.read()
                return int(text) if text.endswith("\n") else None
        except FileNotFoundError:
            return None

    def numbers(self):
        """What it has counted."""
        try:
            with open(os.path.join(os.environ["STASIS_LOG_DIR"], f"stasis-output-{self.jid}.log")) as file:
                return [int(line) for line in file.read().split("\n")[:-1]]
        except FileNotFoundError:
            return []

    def check_numbers(self):
        """Each follows the one before, but for the first after a restore from an older checkpoint."""
        before, repeated = 0, 0
        for number in self.numbers():
            if number > before + 1:
                raise Failure(f"job {self.jid} counted {number} after {before}")
            repeated += number <= before
            before = number
        if repeated > self.restores:
            raise Failure(f"job {self.jid} went back {repeated} times, and was restored {self.restores} times")


class Operation:
    """One command, and the ends that it may have."""

    def __init__(self, phase, job, client, outcomes, name=None):
        self.phase, self.job, self.client, self.name = phase, job, client, name
        self.before, self.outcomes = job.outcome(), outcomes
        self.begin = time.monotonic()
        self.at_work = False
        self.ended_before = None  # its exit code, if it ended before the kill

    def is_success(self, code):
        return code == (self.outcomes[-1][1] if self.phase == "attach" else 0)


class Run(Loop):
    """The loop and what it knows."""

    description = "kill the daemon during operations on jobs"

    def __init__(self, options):
        super().__init__(options)
        self.checkpoints = os.environ["STASIS_CHECKPOINT_DIR"]
        self.run_dir, self.database = os.environ["STASIS_RUN_DIR"], os.environ["STASIS_DB_PATH"]
        self.prefix = os.path.basename(options.directory).replace("st.", "k")
        self.jobs, self.made, self.rng = [], 0, None
        self.verified, self.removed = set(), set()  # paths; names
        self.durations = dict.fromkeys(PHASES, 0.02)
        self.table = {phase: dict.fromkeys(COLUMNS, 0) for phase in (*PHASES, "recovery")}
        self.story = []
        os.mkdir(os.path.join(options.directory, "jobs"))

    # For who has to understand a failure.

    def tell(self, text):
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03}"
        self.story.append(f"{clock} {text}")

    def rows(self):
        """What the database holds of jobs, as lines. Of a copy: the daemon has it locked."""
        copy = self.copy_database()
        lines = []
        connection = sqlite3.connect(copy)
        for statement in ("SELECT jid, state, pid, record, exit_status, since FROM jobs",
                          "SELECT jid, n, time, h.state, h.pid, reason FROM job_history h JOIN jobs ON id = job",
                          "SELECT name, jid, operation, ready, ends, time, path"
                          " FROM checkpoints c LEFT JOIN jobs j ON j.id = c.job"):
            lines.append(statement)
            lines.extend(f"    {row}" for row in connection.execute(statement).fetchall())
        connection.close()
        return lines

    def keep(self):
        """Copies what the test's own directory takes with it. Where to"""
        kept = os.path.join(os.environ["STASIS_BUILD"], f"job-kills-{self.options.seed}")
        shutil.rmtree(kept, ignore_errors=True)
        os.makedirs(kept)
        for path in (self.log.name, *glob.glob(self.database + "*"), os.environ["STASIS_LOG_DIR"]):
            if os.path.isdir(path):
                shutil.copytree(path, os.path.join(kept, os.path.basename(path)), symlinks=True)
            elif os.path.exists(path):
                shutil.copy(path, kept)
        return kept

    def explain(self, failure):
        print("\n".join(map(str, processes())))
        print(f"{failure}\nwhat was done:\n" + "\n".join(self.story[-STORY_LINES:]))
        for job in self.jobs:
            print(f"known of job {job.jid}: {job.outcome()}, process {job.pid}, wrote {job.own_end()}, restored "
                  f"{job.restores} times, its last numbers {job.numbers()[-5:]}")
        for args in (("job", "list", "--json"), ("daemon", "status")):
            try:
                result = self.run([self.stasis, *args])
                print(f"{' '.join(args)}: {result.stdout}{result.stderr}")
            except subprocess.TimeoutExpired as timeout:
                print(timeout)
        for path in (self.checkpoints, os.path.join(self.run_dir, "jobs"), os.path.join(self.run_dir, "w")):
            print(f"{path}: {list_directory(path)}")
        try:
            print("\n".join(self.rows()))
        except sqlite3.Error as error:
            print(f"the database: {error}")
        print(f"the daemon said:\n{tail(self.log.name, LOG_LINES)}\nall of it, and the database: {self.keep()}")

    # Commands.

    def start_daemon(self):
        self.tell("a daemon starts")
        super().start_daemon()

    def operate(self, phase, job, outcomes, *arguments, name=None):
        """Starts a command in the background."""
        with open(os.path.join(self.options.directory, f"out.{job.jid}"), "wb") as out:
            client = start([self.stasis, *arguments], stdout=out, stderr=subprocess.STDOUT)
        self.tell(f"{' '.join(arguments).replace(SCRIPT, 'SCRIPT')} (process {client.pid})")
        return Operation(phase, job, client, outcomes, name)

    def said(self, operation):
        with open(os.path.join(self.options.directory, f"out.{operation.job.jid}"), errors="replace") as out:
            return out.read()

    def complete(self, operation):
        """Undisturbed: must succeed. The moments of the kills are drawn from the time that it takes."""
        while operation.client.poll() is None and time.monotonic() < operation.begin + PATIENCE:
            time.sleep(0.0005)
        self.durations[operation.phase] += (time.monotonic() - operation.begin - self.durations[operation.phase]) / 2
        if not operation.is_success(operation.client.returncode):
            raise Failure(f"{operation.phase} of job {operation.job.jid} ended with {operation.client.returncode}: "
                          f"{self.said(operation)}")
        self.settle({operation.job: operation.outcomes[-1:]})

    # Operations. Their outcomes: (state, exit code); the last is that of success.

    def begin_run(self, attachable=None):
        self.made += 1
        job = Job(self.options.directory, f"{self.prefix}-{self.made}",
                  self.rng.random() < 0.6 if attachable is None else attachable)
        self.jobs.append(job)
        outcomes = [(None, None), ("running", None)]
        if self.rng.random() < 0.3:
            # It ends at once: maybe before anybody has recorded that it began.
            code = self.rng.randint(2, 100)
            job.tell_to_end(code)
            outcomes = [(None, None), ("exited", code)]
        return self.operate("run", job, outcomes, "run", "process", "--jid", job.jid,
                            *(["--attachable"] if job.attachable else []), "sh", "-c", SCRIPT, job.path)

    def begin_dump(self, job, stop=False):
        self.made += 1
        name = f"{job.jid}-c{self.made}"
        arguments = ["dump", "job", job.jid, "--name", name, "--compression", self.rng.choice(FORMATS)]
        if stop:
            return self.operate("stop", job, [("running", None), ("checkpointed", None)], *arguments, "--stop",
                                name=name)
        return self.operate("dump", job, [("running", None)], *arguments, name=name)

    def begin_stop(self, job):
        return self.begin_dump(job, True)

    def begin_restore(self, job):
        job.forget_end()
        job.restores += 1
        return self.operate("restore", job, [job.outcome(), ("running", None)], "restore", "job", job.jid)

    def begin_attach(self, job, ends=None):
        code = self.rng.randint(2, 100)
        if ends is None:
            ends = self.rng.random() < 0.7
        outcomes = [("exited", code)] if ends else [("running", None)]
        operation = self.operate("attach", job, outcomes, "attach", job.jid)
        if ends:
            time.sleep(self.rng.uniform(0, 0.02))
            job.tell_to_end(code)
        return operation

    def begin_kill(self, job):
        return self.operate("kill", job, [("running", None), ("exited", 128 + signal.SIGKILL)], "kill", job.jid)

    def begin_delete(self, job):
        self.listed_checkpoints()
        return self.operate("delete", job, [job.outcome(), (None, None)], "delete", job.jid)

    # Jobs for them.

    def listed_checkpoints(self):
        """Those of deleted jobs, too, as they were listed before."""
        for job in self.jobs:
            if job.state:
                job.checkpoints = json.loads(self.command("checkpoints", job.jid, "--json"))
        return [checkpoint for job in self.jobs for checkpoint in job.checkpoints]

    def new_job(self, attachable=None):
        while True:
            operation = self.begin_run(attachable)
            self.complete(operation)
            if operation.job.state == "running":
                return operation.job

    def a_job(self, phase, taken):
        """One that the phase can be of; not one of those taken."""
        alive = [job for job in self.jobs if job.state == "running" and job not in taken]
        halted = [job for job in self.jobs if job.state and job.state != "running" and job not in taken]
        if phase == "run":
            return None
        if phase == "delete":
            if not halted:
                halted = [self.new_job()]
                self.complete(self.begin_kill(halted[0]))
            return self.rng.choice(halted)
        if phase == "restore":
            with_checkpoint = {checkpoint["jid"] for checkpoint in self.listed_checkpoints()}
            halted = [job for job in halted if job.jid in with_checkpoint]
            if halted:
                return self.rng.choice(halted)
            job = self.rng.choice(alive) if alive else self.new_job()
            if self.rng.random() < 0.5:
                self.complete(self.begin_dump(job))
                if job.attachable and self.rng.random() < 0.5:
                    self.complete(self.begin_attach(job, True))
                else:
                    self.complete(self.begin_kill(job))
            else:
                self.complete(self.begin_stop(job))
            return job
        if phase == "attach":
            alive = [job for job in alive if job.attachable]
        return self.rng.choice(alive) if alive else self.new_job(phase == "attach" or None)

    def begin_phase(self, phase, job):
        return getattr(self, f"begin_{phase}")(*([job] if job else []))

    def trim(self):
        """Not more and more jobs and checkpoints."""
        self.listed_checkpoints()
        for job in self.jobs:
            for checkpoint in job.checkpoints[CHECKPOINTS_MAX if job.state else 0:]:
                self.command("checkpoint", "delete", checkpoint["id"])
                self.removed.add(os.path.basename(checkpoint["path"]))
        for job in self.jobs:
            for name in self.kept(job):
                self.removed.add(name)
                subprocess.run(["rm", "-rf", os.path.join(self.checkpoints, name)], check=True)
        self.jobs = [job for job in self.jobs if job.state]
        while len(self.jobs) > JOBS_MAX:
            job = self.rng.choice(self.jobs)
            if job.state == "running":
                self.complete(self.begin_kill(job))
            self.complete(self.begin_delete(job))
            self.trim()

    # What must hold.

    def roots(self, found):
        """The processes of each job: by its path. A child that is about to become another program is none."""
        roots = {}
        for process in found:
            if process.arguments[:1] and process.arguments[0].endswith(b"/sh") and process.state not in "ZX":
                roots.setdefault(os.fsdecode(process.arguments[-1]), []).append(process)
        return {path: [each for each in group if each.parent not in [other.pid for other in group]]
                for path, group in roots.items()}

    def wrong_job(self, job, listed, roots, outcomes):
        """What is wrong with it, or None. Takes what it has become."""
        entry = listed.get(job.jid)
        outcome = (entry["state"], entry["exit_code"]) if entry else (None, None)
        pids = [root.pid for root in roots.get(job.path, [])]
        if outcome not in outcomes:
            return f"job {job.jid} is {outcome}, not one of {outcomes}; its processes: {pids}, its end: {job.own_end()}"
        if pids != ([entry["pid"]] if outcome[0] == "running" else []):
            return f"job {job.jid} is {outcome}, process {entry and entry['pid']}, and has the processes {pids}"
        if job.state == "running" == outcome[0] and job.pid not in (None, pids[0]):
            return f"job {job.jid} was process {job.pid}, and is {pids[0]}"
        if outcome != job.outcome():
            own = outcome[1] if outcome[0] == "exited" and outcome[1] <= 128 else None
            # What was deleted had its end before.
            if outcome[0] and job.own_end() != own:
                return f"job {job.jid} is {outcome}, and wrote {job.own_end()}"
        return None

    def wrong_processes(self, found):
        alive = sum(job.state == "running" for job in self.jobs)
        pids = {job.pid for job in self.jobs}
        supervisors = [each for each in found if each.name.startswith("stasis-superv") and each.state != "Z"]
        # A job reaps its own children.
        others = [str(each) for each in found if each.name in ("criu", "stasis-hook", "stasis-launch") or
                  each.arguments[1:2] == [b"worker"] or (each.state == "Z" and each.parent not in pids)]
        if len(supervisors) != alive:
            others.append(f"{alive} jobs run:")
            others.extend(map(str, supervisors))
        return "left: " + "\n".join(others) if others else None

    def is_deleted(self, name):
        """A deleted checkpoint that the daemon did not get to remove: the next dump or deletion does it."""
        return name[0] == "." and name[1:].rpartition(".partial-")[0] in self.removed

    def kept(self, job):
        """
        Files of a deleted job that were never listed as its: of a dump that the kill of the daemon interrupted, of which
        was not known yet that it had succeeded when the job was deleted. They are in the database, without a job.
        """
        known = [os.path.basename(checkpoint["path"]) for checkpoint in job.checkpoints]
        return [] if job.state else [name for name in list_directory(self.checkpoints)
                                     if name.startswith(f"{job.jid}-c") and name not in known]

    def wrong_files(self, paths, strict):
        records = list_directory(os.path.join(self.run_dir, "jobs"))
        if len(records) != sum(job.state == "running" for job in self.jobs):
            return f"records: {records}"
        hidden = [os.path.join(top, name) for top, directories, files in os.walk(self.run_dir)
                  for name in directories + files if name.startswith(".")]
        if hidden or list_directory(os.path.join(self.run_dir, "w")):
            return f"left: {hidden}, {list_directory(os.path.join(self.run_dir, 'w'))}"
        there = [name for name in list_directory(self.checkpoints) if strict or not self.is_deleted(name)]
        listed = sorted([os.path.basename(path) for path in paths] +
                        [name for job in self.jobs for name in self.kept(job)])
        if listed != there:
            return f"the checkpoints are {listed}, and there is {there}"
        for job in self.jobs:
            cgroups = glob.glob(f"/sys/fs/cgroup/**/stasis-jobs/{job.jid}@*", recursive=True)
            if cgroups and job.state != "running":
                return f"left: {cgroups}"
        return None

    def wrong_database(self):
        """The end of each dump is told, also of one that was interrupted, which takes a moment after its end."""
        connection = sqlite3.connect(self.copy_database())
        try:
            begun = connection.execute("SELECT path FROM checkpoints WHERE NOT ready").fetchall()
            known = [os.path.basename(row[0]) for row in connection.execute("SELECT path FROM checkpoints").fetchall()]
            unknown = [name for job in self.jobs for name in self.kept(job) if name not in known]
            if begun:
                return f"begun: {begun}"
            return f"files that no row tells of: {unknown}" if unknown else None
        except sqlite3.Error as error:
            return f"the copy of the database, which the daemon writes to: {error}"
        finally:
            connection.close()

    def wrong(self, expected, strict):
        """The first thing that is not as it must be, or None."""
        listed = {entry["jid"]: entry for entry in json.loads(self.command("job", "list", "--json"))}
        roots = self.roots(processes())
        strange = (set(listed) - {job.jid for job in self.jobs}) | (set(roots) - {job.path for job in self.jobs})
        if strange:
            return f"jobs that must not be: {strange}"
        for job in self.jobs:
            problem = self.wrong_job(job, listed, roots, expected.get(job, [job.outcome()]))
            if problem:
                return problem
        for job in self.jobs:
            entry = listed.get(job.jid)
            job.state, job.code, job.pid = (entry["state"], entry["exit_code"], entry["pid"]) if entry else (None,) * 3
            expected[job] = [job.outcome()]
        return (self.wrong_processes(processes()) or
                self.wrong_files([each["path"] for each in self.listed_checkpoints()], strict) or
                self.wrong_database())

    def settle(self, expected, strict=False):
        """All is as it must be, soon. @param expected outcomes of those that may have changed"""
        problem = None

        def is_well():
            nonlocal problem
            problem = self.wrong(expected, strict)
            return problem is None
        try:
            wait_for(is_well, "", self.options.patience)
        except Failure as failure:
            raise Failure(problem or str(failure)) from failure

    def check_checkpoints(self, again=False):
        for checkpoint in self.listed_checkpoints():
            if again or checkpoint["path"] not in self.verified:
                self.command("checkpoint", "verify", checkpoint["path"])
                self.verified.add(checkpoint["path"])

    def check_counting(self):
        before = {job: len(job.numbers()) for job in self.jobs if job.state == "running"}
        for job, count in before.items():
            wait_for(lambda job=job, count=count: len(job.numbers()) > count, f"for job {job.jid} to go on")
        for job in self.jobs:
            job.check_numbers()

    def copy_database(self):
        copy = os.path.join(self.options.directory, "copy.db")
        for path in glob.glob(copy + "*"):
            os.unlink(path)
        for suffix in ("", "-wal"):
            if os.path.exists(self.database + suffix):
                shutil.copyfile(self.database + suffix, copy + suffix)
        return copy

    def check_database(self, idle):
        """As the dead daemon left it; of a copy, for the next daemon shall find it so. @param idle it did nothing"""
        connection = sqlite3.connect(self.copy_database())
        for statement, good in (("PRAGMA integrity_check", [("ok",)]), ("PRAGMA foreign_key_check", []),
                                ("SELECT path FROM checkpoints WHERE NOT ready", [] if idle else None),
                                ("SELECT jid, state FROM jobs WHERE state IN (0, 3)", [] if idle else None)):
            result = connection.execute(statement).fetchall()
            if good is not None and result != good:
                raise Failure(f"{statement}: {result}")
        connection.close()

    # The loop.

    def kill_daemon(self, idle=False):
        self.tell(f"kills the daemon, process {self.daemon.pid}")
        kill(self.daemon.pid)
        wait_for(lambda: self.daemon.poll() is not None, "for the end of the daemon")
        self.check_database(idle)

    def has_worker(self):
        """Quickly: what is looked for may live for a few ms."""
        with open(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children") as children:
            for pid in children.read().split():
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        if file.read().split(b"\0")[1:2] == [b"worker"]:
                            return True
                except (FileNotFoundError, ProcessLookupError):
                    pass
        return False

    def strike(self, phase, operations):
        """Waits for the moment and kills the daemon."""
        # Often about the end, where much is recorded within a short time.
        time.sleep(self.rng.uniform(self.rng.choice((0, 0, 0.7)), 1.2) * self.durations[phase])
        has_worker = any(each.phase in BY_WORKER for each in operations) and self.has_worker()
        for operation in operations:
            operation.ended_before = operation.client.poll()
            operation.at_work = operation.ended_before is None and (operation.phase not in BY_WORKER or has_worker)
            self.tell(f"strikes {operation.phase} of {operation.job.jid}, which "
                      f"{'was at work' if operation.at_work else f'had ended: {operation.ended_before}'}")
        self.kill_daemon(not operations)

    def bystander(self, taken):
        """A job that ends of itself, or by somebody's signal, while there is no daemon or a busy one."""
        alive = [job for job in self.jobs if job.state == "running" and job not in taken]
        if not alive or self.rng.random() < 0.5:
            return {}
        job = self.rng.choice(alive)
        code = self.rng.randint(2, 100)
        self.tell(f"job {job.jid} is to end by itself, or by a signal")
        if self.rng.random() < 0.7:
            job.tell_to_end(code)
        else:
            number = self.rng.choice((signal.SIGTERM, signal.SIGKILL))
            kill(job.pid, number)
            code = 128 + number
        return {job: [("exited", code)]}

    def judge(self, operation):
        """The command line has said something: is it so?"""
        wait_for(lambda: operation.client.poll() is not None, f"for the end of {operation.phase}'s command line")
        code = operation.client.returncode
        success = operation.is_success(code)
        lost = operation.phase == "attach" and operation.outcomes == [("running", None)]
        if not success and operation.ended_before is not None and not lost:
            raise Failure(f"{operation.phase} failed before the kill: {code}: {self.said(operation)}")
        if success and not lost:
            operation.outcomes = operation.outcomes[-1:]
        if not success and code != 1:
            raise Failure(f"{operation.phase} ended with {code}: {self.said(operation)}")
        return success

    def count(self, operation, success):
        row = self.table[operation.phase]
        row["kills"] += 1
        row["at work"] += operation.at_work
        if operation.phase == "dump":
            done = any(operation.name in each["path"] for each in operation.job.checkpoints)
        else:
            done = success if operation.phase == "attach" else operation.job.outcome() != operation.before
        row["done" if done else "undone"] += 1

    def iterate(self, number):
        phase = PHASES[number % len(PHASES)]
        try:
            self.strike_and_look(number, phase)
        except (Failure, subprocess.TimeoutExpired) as failure:
            raise Failure(f"{phase}:\n{failure}") from failure
        self.struck += phase != "idle"

    def strike_and_look(self, number, phase):
        self.rng = random.Random(f"{self.options.seed}/{number}")
        phases = [] if phase == "idle" else [phase]
        if phases and self.rng.random() < 0.4:
            phases.append(self.rng.choice(PHASES[1:]))
        self.tell(f"iteration {number}, {phase}: {phases}")
        jobs = []
        for each in phases:
            jobs.append(self.a_job(each, jobs))
        expected = self.bystander(jobs) if self.rng.random() < 0.5 else {}
        operations = [self.begin_phase(each, job) for each, job in zip(phases, jobs)]
        self.strike(phase, operations)
        if not expected:
            expected = self.bystander([each.job for each in operations])
        if not operations:
            self.table["idle"]["kills"] += 1
            self.table["idle"]["at work"] += 1
        successes = [self.judge(operation) for operation in operations]
        expected.update({operation.job: operation.outcomes for operation in operations})
        self.start_daemon()
        if self.rng.random() < 0.15:
            time.sleep(self.rng.uniform(0, 0.3))
            self.kill_daemon()
            self.table["recovery"]["kills"] += 1
            self.table["recovery"]["at work"] += 1
            self.start_daemon()
        self.settle(expected)
        for operation, success in zip(operations, successes):
            self.count(operation, success)
            if success and operation.name and not any(operation.name in each["path"]
                                                      for each in self.listed_checkpoints()):
                raise Failure(f"the checkpoint {operation.name} is lost")
        self.check_checkpoints()
        self.check_counting()
        self.trim()

    def begin(self):
        """How long does each operation take?"""
        self.rng = random.Random(f"{self.options.seed}/first")
        job = self.new_job(True)
        for phase in ("dump", "stop", "restore", "kill", "restore", "attach", "delete", "run"):
            self.complete(self.begin_attach(job, True) if phase == "attach" else
                          self.begin_phase(phase, None if phase == "run" else job))
        self.trim()

    def kills(self):
        return sum(row["kills"] for phase, row in self.table.items() if phase in ("idle", "recovery")) + self.struck

    struck = 0  # iterations with an operation

    def finish(self):
        self.check_checkpoints(True)
        self.kill_daemon(True)
        self.start_daemon()
        self.complete(self.begin_dump(self.new_job()))
        self.settle({}, True)

    def clear(self):
        """Ends all; what is outside of the namespaces must not stay."""
        for process in processes():
            kill(process.pid)
        wait_for(lambda: not any(is_alive(process.pid) for process in processes()), "for the end of all")
        for cgroup in glob.glob(f"/sys/fs/cgroup/**/stasis-jobs/{self.prefix}-*", recursive=True):
            os.rmdir(cgroup)

    def show(self):
        print(f"{'':10}" + "".join(f"  {column:>8}" for column in COLUMNS))
        for phase, row in self.table.items():
            print(f"{phase:10}" + "".join(f"  {row[column]:>8}" for column in COLUMNS))
        print(f"{self.kills()} kills", flush=True)

    def missed(self):
        return [phase for phase, row in self.table.items() if row["at work"] < MINIMUM]


if __name__ == "__main__":
    sys.exit(main(Run))
