#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills parts of stasis in the middle of dumps, and looks whether all is well after each.

Each iteration dumps a target that holds memory and a TCP connection to itself (programs/connected.c), and kills one of

  worker      the daemon's process for the dump
  hook        stasis-hook, which CRIU runs
  daemon
  client      the command line, with SIGKILL; with --no-server that is what does the dump
  interrupt   the command line, with SIGINT

at a random moment. After that

  - the target runs on; or, with --stop, has ended, and its checkpoint verifies, restores, and runs on from there;
  - it goes on counting without a gap or a repetition, its memory and its connection are intact;
  - a checkpoint that exists is whole; of a dump that failed there is none, unless nobody was left to withdraw it;
  - no process of stasis or CRIU is left, no zombie, no mount, no table of nftables;
  - no hidden file of an unfinished checkpoint and no work directory, after the next operation at the latest.

How it is run, and what is printed: killing.py. Environment: PROGRAMS, besides.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from killing import (Failure, Loop, PATIENCE, Process, is_alive, kill, list_directory, main,  # pylint: disable=C0413
                     processes, reap_orphans, start, tail, wait_for)

SUFFIXES = {"none": "", "zstd": ".tar.zst", "image": ".stasis"}  # of checkpoints, by format
VICTIMS = ("worker", "hook", "daemon", "client", "interrupt")
# Those that are there without the daemon.
LOCAL_VICTIMS = ("hook", "client", "interrupt")
OUTCOMES = ("too late", "target runs on", "runs on, checkpoint is whole", "ended, restored")
# A work directory that has no lock yet is left alone so long by those who clean up (src/engine/work_dir.c).
UNLOCKED_GRACE = 12


# What must not grow.


def nft_tables():
    """CRIU locks connections by tables of nftables. None when there is no nft."""
    if not shutil.which("nft"):
        return None
    return subprocess.run(["nft", "list", "tables"], check=True, stdout=subprocess.PIPE).stdout


def mounts():
    with open("/proc/self/mountinfo") as file:
        return file.read()


class Target:
    """A process that counts, with memory and a connection."""

    def __init__(self, directory, number, mib):
        self.file, self.mib = os.path.join(directory, f"count{number}"), mib
        self.pid = start([os.path.join(os.environ["PROGRAMS"], "connected"), str(mib), self.file],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/").pid
        self.go_on()

    def lines(self):
        """All complete lines."""
        try:
            with open(self.file) as file:
                return file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def go_on(self):
        """Must count three times more, and have counted right until then."""
        before = len(self.lines())
        wait_for(lambda: len(self.lines()) >= before + 3 or not is_alive(self.pid), "for the target to go on")
        lines = self.lines()
        for number, line in enumerate(lines, 1):
            if line != str(number):
                raise Failure(f"line {number} of the target's file is {line!r}")
        if not is_alive(self.pid):
            raise Failure("the target has ended")

    def end(self):
        kill(self.pid)
        wait_for(lambda: not os.path.exists(f"/proc/{self.pid}"), "for the end of the target")
        os.unlink(self.file)


class Plan:
    """What one iteration does; all that is random."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed}/{number}")
        self.number = number
        # In turn, so that even a short run has all.
        self.victim = VICTIMS[number % len(VICTIMS)]
        self.mib = rng.randint(1, 40)
        self.new_target = rng.random() < 0.3
        self.stop = rng.random() < 0.5
        self.format = rng.choice(tuple(SUFFIXES))
        self.local = rng.random() < 0.4 and self.victim in LOCAL_VICTIMS
        self.moment = rng.random()  # of the time that a dump takes
        self.hook_delay = rng.choice((0, 0, rng.uniform(0, 0.005), rng.uniform(0, 0.03)))

    def __str__(self):
        return (f"iteration {self.number}: {self.victim} at {self.moment:.3f}"
                f"{f' + {self.hook_delay * 1000:.1f} ms' if self.victim == 'hook' else ''}, {self.format}"
                f"{', --stop' if self.stop else ''}{', --no-server' if self.local else ''}")


class Run(Loop):
    """The loop and what it knows."""

    description = "kill parts of stasis in the middle of dumps"

    def __init__(self, options):
        super().__init__(options)
        self.checkpoints = os.path.join(options.directory, "ckpt")
        self.work = os.path.join(options.directory, "run", "w")
        self.target = None
        self.targets = 0
        self.output = ""  # of the last dump
        self.table = {victim: dict.fromkeys(OUTCOMES, 0) for victim in VICTIMS}
        self.unlocked = {}  # work directories without a lock: when they were seen first
        self.mounts, self.tables = mounts(), nft_tables()
        self.duration = 0.0
        self.done = 0

    def path(self, plan, name):
        return os.path.join(self.checkpoints, name + SUFFIXES[plan.format])

    def dump(self, plan, name):
        """Starts it."""
        with open(os.path.join(self.options.directory, "out"), "wb") as out:
            return start([self.stasis, "dump", "process", str(self.target.pid), "--name", name,
                          "--compression", plan.format, *(["--stop"] if plan.stop else []),
                          *(["--no-server"] if plan.local else [])], stdout=out, stderr=subprocess.STDOUT)

    def ended(self, client):
        """Its exit code, once it has one."""
        wait_for(lambda: client.poll() is not None, "for the end of the command line")
        with open(os.path.join(self.options.directory, "out"), errors="replace") as out:
            self.output = out.read()
        return client.returncode

    # The kill.

    def find(self, victim):
        """Its PID if it runs now."""
        for process in processes():
            if process.state in "ZX":
                continue
            if victim == "worker" and self.is_worker(process):
                return process.pid
            if victim == "hook" and process.name == "stasis-hook":
                return process.pid
        return None

    def strike(self, plan, client):
        """Waits for the moment and for the victim, and kills it. Returns whether the dump was still at work then."""
        moment = time.monotonic() + plan.moment * self.duration * (0.3 + self.target.mib / 50)
        while client.poll() is None:
            if time.monotonic() < moment and plan.victim != "hook":
                time.sleep(0.001)
            elif plan.victim in ("client", "interrupt"):
                return kill(client.pid, signal.SIGINT if plan.victim == "interrupt" else signal.SIGKILL)
            elif plan.victim == "daemon":
                kill(self.daemon.pid)
                wait_for(lambda: self.daemon.poll() is not None, "for the end of the daemon")
                return True
            elif pid := self.find(plan.victim):
                if plan.victim == "worker":
                    return kill(pid)
                # It lives for a few ms: its moment is counted from when it is there.
                time.sleep(plan.hook_delay)
                if (pid := self.find("hook")) and kill(pid):
                    return True
        return False

    # What must hold.

    def check_processes(self):
        """Only the daemon, the target, and who looks after a restored target."""
        try:
            wait_for(lambda: not self.other_processes(), "for all processes to end")
        except Failure as failure:
            raise Failure("left:\n" + "\n".join(self.other_processes())) from failure

    def other_processes(self):
        """Those that must have ended, and zombies."""
        supervisor = self.supervisor()
        return [str(process) for process in processes()
                if process.state == "Z" or (process.pid not in (self.daemon.pid, self.target.pid) and not (
                    process.name.startswith("stasis-superv") and process.pid == supervisor))]

    def supervisor(self):
        """The parent of the target."""
        try:
            return Process(self.target.pid).parent
        except (FileNotFoundError, ProcessLookupError):
            return None

    def leftovers(self):
        """Hidden files and work directories that somebody must have removed by now."""
        now = time.monotonic()
        found = [name for name in list_directory(self.checkpoints) if name.startswith(".")]
        for name in list_directory(self.work):
            since = self.unlocked.setdefault(name, now)
            path = os.path.join(self.work, name)
            if os.path.exists(os.path.join(path, "lock")) or now > since + UNLOCKED_GRACE:
                found.append(path)
        return found

    def check_files(self):
        """What a killed command line left is removed by the next operation, all else by the daemon."""
        if self.leftovers():
            self.command("query", "process", str(self.daemon.pid), "--no-server")
        try:
            wait_for(lambda: not self.leftovers(), "", 5)
        except Failure as failure:
            raise Failure(f"left: {self.leftovers()}") from failure

    def check_host(self):
        if mounts() != self.mounts:
            raise Failure(f"mounts before:\n{self.mounts}now:\n{mounts()}")
        if nft_tables() != self.tables:
            raise Failure(f"tables of nftables: {nft_tables().decode()}")

    def settle_target(self, plan, code, checkpoint):
        """It lives, or is restored. Returns the outcome."""
        exists = os.path.exists(checkpoint)
        if exists:
            self.command("checkpoint", "verify", checkpoint)
        if is_alive(self.target.pid):
            if code == 0 and (plan.stop or not exists):
                raise Failure("the dump succeeded, but the target was not ended" if plan.stop else "but no checkpoint")
            # Who did the dump lived on and knew of the failure: then there is no checkpoint.
            if exists and code != 0 and (plan.victim == "hook" or "goes on running" in self.output):
                raise Failure("the dump failed, but there is a checkpoint")
            self.target.go_on()
            return "runs on, checkpoint is whole" if exists else "target runs on"
        if not plan.stop or not exists:
            raise Failure("the target has ended" + ("" if exists else ", and there is no checkpoint"))
        if "goes on running" in self.output:
            raise Failure("the command line said that the target goes on, but it was ended")
        reap_orphans()
        self.command("restore", "process", "--path", checkpoint)
        self.target.go_on()
        return "ended, restored"

    # The loop.

    def prepare_target(self, plan):
        if self.target and not plan.new_target:
            return
        if self.target:
            self.target.end()
        self.targets += 1
        self.target = Target(self.options.directory, self.targets, plan.mib)

    def begin(self):
        """How long a dump takes: the moments of the kills are drawn from that time."""
        plan = Plan(self.options.seed, -1)
        plan.mib, plan.format, plan.stop, plan.local, plan.new_target = 20, "image", False, False, True
        self.prepare_target(plan)
        begin = time.monotonic()
        code = self.ended(self.dump(plan, "first"))
        self.duration = time.monotonic() - begin
        if code != 0:
            raise Failure("the first dump failed")
        os.unlink(self.path(plan, "first"))

    def iterate(self, number):
        plan = Plan(self.options.seed, number)
        try:
            self.strike_and_look(plan)
        except (Failure, subprocess.TimeoutExpired) as failure:
            raise Failure(f"{plan}, target {self.target.pid} of {self.target.mib} MiB:\n{failure}") from failure
        self.done += 1

    def strike_and_look(self, plan):
        name = f"checkpoint{plan.number}"
        self.prepare_target(plan)
        client = self.dump(plan, name)
        hit = self.strike(plan, client)
        code = self.ended(client)
        if hit and plan.victim == "daemon":
            self.start_daemon()
        # CRIU rolls back by itself when who ran it was killed.
        wait_for(lambda: not any(process.name in ("criu", "stasis-hook") or process.arguments[1:2] == [b"worker"]
                                 for process in processes()), "for the end of CRIU and the worker")
        outcome = self.settle_target(plan, code, self.path(plan, name))
        self.table[plan.victim][outcome if hit else "too late"] += 1
        self.check_processes()
        self.check_files()
        self.check_host()
        path = self.path(plan, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)
        if list_directory(self.checkpoints):
            raise Failure(f"left: {list_directory(self.checkpoints)}")

    def finish(self):
        # The last one may have left a work directory that was too young to be removed.
        if list_directory(self.work):
            self.unlocked = dict.fromkeys(self.unlocked, 0.0)
            wait_for(lambda: self.command("query", "process", str(self.daemon.pid), "--no-server") or
                     not list_directory(self.work), f"for the end of {list_directory(self.work)}")

    def show(self):
        print(f"{'':10}" + "".join(f"  {outcome:>{len(outcome)}}" for outcome in OUTCOMES))
        for victim, row in self.table.items():
            print(f"{victim:10}" + "".join(f"  {row[outcome]:>{len(outcome)}}" for outcome in OUTCOMES))
        print(f"{self.done} iterations")

    def explain(self, failure):
        print(f"{failure}\nthe command line said: {self.output}\nthe daemon said:\n{tail(self.log.name)}")

    def missed(self):
        return [victim for victim in VICTIMS if self.hits(victim) == 0]

    def hits(self, victim):
        return sum(self.table[victim].values()) - self.table[victim]["too late"]


if __name__ == "__main__":
    sys.exit(main(Run))
