#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills parts of stasis while checkpoints that refer to each other are made, folded, deleted and restored lazily.

A job knows its memory, of which each checkpoint changes a part. Each iteration has an operation, in turn: dump (with a
parent), fold (asked for, or by Checkpoint.MaxChain), delete (of what others refer to), lazy (`restore --lazy`); at a
random moment of it one of these gets SIGKILL:

  worker, hook, daemon, client, supervisor, server and guard (of the memory that follows)
  both        the daemon and its worker
  holders     the server and the guard, in one go

After each kill, and the start of the next daemon if it was that,

  - each file under a checkpoint's name verifies with all that it refers to, and nothing else is there: no hidden file,
    no work directory, no record of a lazy restore, no cgroup, no process (after the next operation at the latest);
  - the list of checkpoints has each of these files, with its size, its parent and the number of its ancestors, and no
    other; no chain is longer than Checkpoint.MaxChain for long;
  - the job has the memory that it should have, whenever it says something of it; or it was ended, and says why.

How it is run: killing.py. Exit code 0 if all was well.
"""

import glob
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from killing import (Failure, Loop, is_alive, kill, list_directory, main, processes, start,  # pylint: disable=C0413
                     tail, wait_for)

OPERATIONS = ("dump", "fold", "delete", "lazy")
VICTIMS = {
    "dump": ("worker", "daemon", "hook", "client", "both"),
    "fold": ("worker", "daemon", "client", "both"),
    "delete": ("worker", "daemon", "client", "both"),
    "lazy": ("holders", "server", "worker", "guard", "hook", "holders", "daemon", "supervisor", "client", "both"),
}
# Of the memory that follows.
HOLDERS = ("server", "guard", "holders")
OUTCOMES = ("too late", "undone", "done", "ended")
MAX_CHAIN = 3
CHECKPOINTS_MAX = 6
LOG_LINES = 60


class Run(Loop):
    """The loop and what it knows."""

    description = "kill parts of stasis during operations on chains of checkpoints"

    def __init__(self, options):
        super().__init__(options)
        self.checkpoints, self.run_dir = os.environ["STASIS_CHECKPOINT_DIR"], os.environ["STASIS_RUN_DIR"]
        self.told = os.path.join(options.directory, "told")
        self.out = os.path.join(options.directory, "out")
        self.jid = os.path.basename(options.directory).replace("st.", "chain")
        self.job_log = os.path.join(os.environ["STASIS_LOG_DIR"], f"stasis-output-{self.jid}.log")
        self.memory = {}  # by the name of a checkpoint: what the job said of it
        self.pid, self.made, self.rng = None, 0, random.Random(f"{options.seed}/first")
        self.victim = None
        self.durations = dict.fromkeys((*OPERATIONS, "background"), 0.05)
        self.table = {(operation, victim): dict.fromkeys(OUTCOMES, 0)
                      for operation in OPERATIONS for victim in sorted(set(VICTIMS[operation]))}
        self.story = []

    def tell(self, text):
        self.story.append(f"{time.monotonic():.3f} {text}")

    def start_daemon(self):
        self.tell("a daemon starts")
        super().start_daemon()

    # The job.

    def state(self):
        """As the daemon knows it."""
        listed = [job for job in json.loads(self.command("job", "list", "--json")) if job["jid"] == self.jid]
        if not listed:
            raise Failure("the job is lost")
        self.pid = listed[0]["pid"] if listed[0]["state"] == "running" else None
        return listed[0]["state"]

    def find_job(self):
        """Its PID while it runs."""
        self.state()
        return self.pid

    def ask(self, number=signal.SIGUSR2):
        """What it says of its memory. None: it has ended."""
        pid = self.pid
        if os.path.exists(self.told):
            os.unlink(self.told)
        if not pid or not kill(pid, number):
            return None
        wait_for(lambda: os.path.exists(self.told) or not is_alive(pid), "for the job to tell of its memory")
        if not os.path.exists(self.told):
            return None
        with open(self.told) as file:
            return file.read()

    def end_job(self):
        self.run([self.stasis, "kill", self.jid])
        if self.pid:
            wait_for(lambda: not os.path.exists(f"/proc/{self.pid}"), "for the end of the job")
        # For some seconds a daemon does not know what became of a restore that the one before it had begun.
        wait_for(lambda: self.state() not in ("running", "restoring"), "for the job's end to be known")

    def revive(self, name=None):
        """It runs, with the memory of a checkpoint: the newest if none is named."""
        self.end_job()
        name = name or os.path.basename(self.listed()[0]["path"])
        self.tell(f"restores {name}")
        self.command("restore", "job", self.jid, "--path", os.path.join(self.checkpoints, name))
        self.find_job()
        self.expect(name)

    def expect(self, name):
        said = self.ask()
        if said != self.memory[name]:
            raise Failure(f"the job restored from {name} has {said!r}, not {self.memory[name]!r}")

    # Checkpoints.

    def listed(self):
        return json.loads(self.command("checkpoints", self.jid, "--json"))

    def next_name(self):
        self.made += 1
        name = f"c{self.made}.stasis"
        self.memory[name] = self.ask(signal.SIGUSR1)
        if not self.memory[name]:
            raise Failure("the job has ended")
        return name

    def dump_command(self):
        return ["dump", "job", self.jid, "--name", self.next_name().removesuffix(".stasis")]

    def save(self):
        """Undisturbed."""
        self.command(*self.dump_command())

    def is_quiet(self):
        return not any(self.is_worker(process) for process in processes())

    def long_chain(self):
        listed = self.listed()
        return listed and listed[0]["ancestors"] > MAX_CHAIN

    def prepare(self, operation):
        """As many checkpoints as it needs, and a newest one that refers to others."""
        if not self.find_job():
            self.revive()
        wait_for(self.is_quiet, "for the folds in the background")
        for checkpoint in self.listed()[:CHECKPOINTS_MAX - 2:-1]:
            self.command("checkpoint", "delete", checkpoint["id"])
        # A fold whose worker was killed is done with the next checkpoint.
        while len(self.listed()) < 2 or self.listed()[0]["ancestors"] == 0 or self.long_chain():
            self.save()
            wait_for(self.is_quiet, "for the folds in the background")
        if operation == "lazy":
            self.end_job()

    # Operations. Each returns its client, what it is about, and when it began.

    def begin_dump(self):
        command = self.dump_command()
        return command, command[-1] + ".stasis"

    def begin_fold(self):
        of = self.rng.choice([each for each in self.listed() if each["ancestors"] > 0])
        if self.victim == "client" and self.rng.random() < 0.5:
            return ["checkpoint", "fold", of["path"], "--no-server"], os.path.basename(of["path"])
        return ["checkpoint", "fold", of["id"]], os.path.basename(of["path"])

    def begin_delete(self):
        of = self.rng.choice(self.listed()[1:])
        return ["checkpoint", "delete", of["id"]], os.path.basename(of["path"])

    def begin_lazy(self):
        of = self.rng.choice(self.listed())
        return ["restore", "job", self.jid, "--lazy", "--path", of["path"]], os.path.basename(of["path"])

    def fold_in_background(self):
        """Makes the chain so long that it is folded. When that begins; what it is about."""
        while True:
            self.save()
            listed = self.listed()
            if listed[0]["ancestors"] > MAX_CHAIN:
                return os.path.basename(listed[0]["path"])
            if listed[0]["ancestors"] == 0:  # it was quick
                return os.path.basename(listed[0]["path"])

    def operate(self, command):
        with open(self.out, "wb") as out:
            return start([self.stasis, *command], stdout=out, stderr=subprocess.STDOUT)

    # The kill.

    def find(self, victim, client):
        """PIDs to be killed, in this order; none when it is not there."""
        if victim == "client":
            return [client.pid] if client and client.poll() is None else []
        if victim == "daemon":
            return [self.daemon.pid]
        found = processes()
        workers = [each.pid for each in found if self.is_worker(each)]
        servers, guards = ([each.pid for each in found if each.arguments[1:2] == [word] and each.state not in "ZX"]
                           for word in (b"serve-pages-on", b"guard-pages"))
        hooks = [each.pid for each in found if each.name == "stasis-hook"]
        supervisors = [each.pid for each in found if each.name.startswith("stasis-superv")]
        holders = [*servers, *guards] if servers and guards else []
        if self.rng.random() < 0.5:
            holders.reverse()
        return {"worker": workers, "both": [self.daemon.pid, *workers] if workers else [], "server": servers,
                "guard": guards, "hook": hooks, "supervisor": supervisors, "holders": holders}[victim]

    def strike(self, client, duration):
        """Waits for the moment and the victim. Returns whether something was killed while all was at work."""
        end = time.monotonic() + max(0.3, duration * 1.5)
        if self.victim in HOLDERS and self.rng.random() < 0.5:
            # When it runs already, and its memory still comes.
            wait_for(lambda: client.poll() is not None, "for the restore")
            duration = 0.05
        time.sleep(self.rng.uniform(0, 1.1) * duration)
        while time.monotonic() < end or (client and client.poll() is None):
            pids = self.find(self.victim, client)
            for pid in pids:
                kill(pid)
            if pids:
                self.tell(f"kills {self.victim}: {pids}")
                if self.daemon.pid in pids:
                    wait_for(lambda: self.daemon.poll() is not None, "for the end of the daemon")
                return not client or client.poll() is None or self.victim in HOLDERS
            if client and client.poll() is not None and self.victim in ("worker", "both", "client", "hook"):
                break
            time.sleep(0.0005)
        self.tell(f"{self.victim} was not there")
        return False

    # What must hold.

    def others(self):
        """Processes that must have ended."""
        return [str(each) for each in processes() if each.state == "Z" or each.name in ("criu", "stasis-hook") or
                each.arguments[1:2] in ([b"worker"], [b"serve-pages"], [b"serve-pages-on"], [b"guard-pages"])]

    def hidden(self):
        return [path for path in glob.glob(os.path.join(self.checkpoints, ".*"))] + [
            os.path.join(self.run_dir, kind, name) for kind in ("w", "lazy")
            for name in list_directory(os.path.join(self.run_dir, kind))]

    def wrong_list(self):
        """Do the list and the files say the same?"""
        listed = {os.path.basename(each["path"]): each for each in self.listed()}
        there = [name for name in list_directory(self.checkpoints) if not name.startswith(".")]
        if sorted(listed) != there:
            return f"the list has {sorted(listed)}, and there is {there}"
        for name, entry in listed.items():
            path = os.path.join(self.checkpoints, name)
            found = json.loads(self.command("checkpoint", "inspect", path, "--json"))
            chain = found.get("chain") or []
            if (entry["size"], entry["ancestors"], entry["parent"]) != (os.path.getsize(path), len(chain),
                                                                     chain[0] if chain else None):
                return f"the list says {entry}, and {name} has {os.path.getsize(path)} bytes, refers to {chain}"
        return None

    def wrong(self):
        others = self.others()
        if others:
            return "left:\n" + "\n".join(others)
        cgroups = glob.glob(f"/sys/fs/cgroup/**/stasis-jobs/{self.jid}@*", recursive=True)
        if cgroups and not self.find_job():
            return f"left: {cgroups}"
        return self.wrong_list()

    def settle(self, check, seconds=None):
        problem = None

        def is_well():
            nonlocal problem
            problem = check()
            return not problem
        try:
            wait_for(is_well, "", seconds or self.options.patience)
        except Failure as failure:
            raise Failure(problem or str(failure)) from failure

    def check_files(self):
        for name in list_directory(self.checkpoints):
            if not name.startswith("."):
                self.command("checkpoint", "verify", os.path.join(self.checkpoints, name))

    def check_leftovers(self):
        """By the next operation, if not by now."""
        if self.hidden():
            if not self.find_job():
                self.revive()
            self.tell(f"left until the next dump: {self.hidden()}")
            self.save()
        self.settle(lambda: [f"left: {self.hidden()}"] if self.hidden() else None)

    def check_job(self, operation, name):
        """Is the memory right? Whether the job runs."""
        if operation != "lazy":
            if self.ask() is None:
                raise Failure("the job has ended")
            return True
        restored = self.find_job()
        said = self.ask()
        if said is not None and said != self.memory[name]:
            raise Failure(f"the job restored from {name} has {said!r}, not {self.memory[name]!r}")
        if said is None and restored:
            self.check_reason()
        return said is not None

    def check_reason(self):
        with open(self.job_log, errors="replace") as log:
            if f"job {self.jid} was killed while its memory was still coming" not in log.read():
                raise Failure("the job has ended, and its log does not say why")

    # The loop.

    def is_done(self, operation, name, alive):
        if operation == "lazy":
            return alive
        there = {os.path.basename(each["path"]): each for each in self.listed()}
        if operation == "fold":
            return there[name]["ancestors"] == 0
        return (name in there) == (operation == "dump")

    def strike_and_look(self, operation, number):
        self.prepare(operation)
        self.victim = VICTIMS[operation][number // len(OPERATIONS) % len(VICTIMS[operation])]
        in_background = operation == "fold" and self.victim != "client" and self.rng.random() < 0.5
        if in_background:
            name, client = self.fold_in_background(), None
        else:
            command, name = getattr(self, f"begin_{operation}")()
            self.tell(" ".join(command))
            client = self.operate(command)
        hit = self.strike(client, self.durations["background" if in_background else operation])
        if client:
            wait_for(lambda: client.poll() is not None, f"for the end of {operation}'s command line")
            self.tell(f"it ended with {client.returncode}")
        # Before anybody mends anything.
        early = self.ask() if operation == "lazy" and self.pid else None
        if early and early != self.memory[name]:
            raise Failure(f"the job restored from {name} has {early!r}, not {self.memory[name]!r}")
        if self.daemon.poll() is not None:
            self.start_daemon()
        alive = self.check_job(operation, name)
        self.settle(self.wrong)
        self.check_files()
        if client and client.returncode == 0 and operation != "lazy" and not self.is_done(operation, name, alive):
            raise Failure(f"the command line said that {operation} of {name} was done")
        row = self.table[(operation, self.victim)]
        row["too late" if not hit else "done" if self.is_done(operation, name, alive) else
            "ended" if operation == "lazy" and self.pid else "undone"] += 1
        self.check_leftovers()
        if self.victim in ("daemon", "both"):
            self.settle(lambda: "a chain is too long" if self.long_chain() else None)

    def iterate(self, number):
        operation = OPERATIONS[number % len(OPERATIONS)]
        self.rng = random.Random(f"{self.options.seed}/{number}")
        self.tell(f"iteration {number}, {operation}")
        try:
            self.strike_and_look(operation, number)
        except (Failure, subprocess.TimeoutExpired) as failure:
            raise Failure(f"{operation}, {self.victim}: {failure}") from failure
        if self.victim == "supervisor" and operation == "lazy":
            self.revive()

    def measure(self, operation):
        """Undisturbed: the moments of the kills are drawn from the time that it takes."""
        self.prepare(operation)
        command, name = getattr(self, f"begin_{operation}")()
        begin = time.monotonic()
        self.command(*command)
        if operation == "lazy":
            wait_for(lambda: not list_directory(os.path.join(self.run_dir, "lazy")), "for all of the memory")
        self.durations[operation] = time.monotonic() - begin
        if operation == "lazy":
            self.find_job()
            self.expect(name)

    def begin(self):
        job = os.path.join(os.path.dirname(os.path.abspath(__file__)), "changing_job.py")
        self.command("run", "process", "--jid", self.jid, "--", "/usr/bin/python3", job, self.told,
                     os.environ.get("MIB", "48"), self.options.seed)
        wait_for(lambda: os.path.exists(self.told), "for the job to begin")
        self.find_job()
        for operation in OPERATIONS:
            self.measure(operation)
        # At the lowest priority.
        self.durations["background"] = 1.5 * self.durations["fold"]

    def finish(self):
        """Each of those that are left."""
        self.prepare("lazy")
        for checkpoint in self.listed():
            self.revive(os.path.basename(checkpoint["path"]))
        self.settle(self.wrong)

    def clear(self):
        for process in processes():
            kill(process.pid)
        wait_for(lambda: not any(is_alive(process.pid) for process in processes()), "for the end of all")
        for cgroup in glob.glob(f"/sys/fs/cgroup/**/stasis-jobs/{self.jid}*", recursive=True):
            os.rmdir(cgroup)

    def explain(self, failure):
        print(f"{failure}\nwhat was done:\n" + "\n".join(self.story[-LOG_LINES:]))
        print("\n".join(map(str, processes())))
        print(f"the daemon said:\n{tail(self.log.name, LOG_LINES)}")
        if os.path.exists(self.out):
            print(f"the command line said:\n{tail(self.out)}")
        if os.path.exists(self.job_log):
            print(f"the job's log:\n{tail(self.job_log)}")

    def show(self):
        print(f"{'':18}" + "".join(f"  {outcome:>8}" for outcome in OUTCOMES))
        for (operation, victim), row in self.table.items():
            print(f"{operation + ' ' + victim:18}" + "".join(f"  {row[outcome]:>8}" for outcome in OUTCOMES))
        print(f"{sum(sum(row.values()) - row['too late'] for row in self.table.values())} kills; "
              f"seconds undisturbed: {', '.join(f'{each} {s:.2f}' for each, s in self.durations.items())}", flush=True)

    def missed(self):
        return [" ".join(key) for key, row in self.table.items() if sum(row.values()) == row["too late"]]


if __name__ == "__main__":
    sys.exit(main(Run))
