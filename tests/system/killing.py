# SPDX-License-Identifier: Apache-2.0
"""
What the tests share that kill parts of stasis at random: kills.py, job_kills.py, chain_kills.py.

Each of them must be PID 1 of namespaces of its own (PIDs, mounts, networks): then every process that it sees is one of
ours, and all end with it. Each iteration draws from a generator of its own, made of the seed and its number.

Environment: STASIS, and the directories of stasis (STASIS_RUN_DIR …), all of them below --directory.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

PATIENCE = 30


class Failure(Exception):
    """Something is not as it must be."""


def wait_for(condition, what, seconds=PATIENCE):
    """Until condition() is true, reaping meanwhile. Returns its value."""
    end = time.monotonic() + seconds
    while True:
        reap_orphans()
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited in vain: {what}")
        time.sleep(0.005)


# Processes.

children = {}  # by PID: those whose end somebody here asks for


def start(command, **options):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    children[process.pid] = process
    return process


def reap_orphans():
    """As PID 1 must; without taking the exit code of a child from its object."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in children:
            children.pop(ended.si_pid).poll()
        else:
            os.waitpid(ended.si_pid, 0)


class Process:
    """What /proc tells about one."""

    def __init__(self, pid):
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, rest = file.read().rpartition(b")")
        fields = rest.split()
        self.pid, self.name = pid, head.partition(b"(")[2].decode(errors="replace")
        self.state, self.parent = fields[0].decode(), int(fields[1])
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            self.arguments = file.read().split(b"\0")[:-1]

    def __str__(self):
        command = b" ".join(self.arguments).decode(errors="replace")
        return f"{self.pid} ({self.name}, {self.state}, child of {self.parent}) {command}"


def processes():
    """All but this one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                found.append(Process(int(name)))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def kill(pid, number=signal.SIGKILL):
    """Returns whether there was something to kill."""
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def is_alive(pid):
    try:
        return Process(pid).state not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def list_directory(path):
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def tail(path, count=20):
    with open(path, errors="replace") as file:
        return "".join(file.readlines()[-count:])


class Loop:
    """A daemon, and iterations that kill something. What a test is derives from it."""

    description = ""

    def __init__(self, options):
        self.options = options
        self.stasis = os.environ["STASIS"]
        self.log = open(os.path.join(options.directory, "daemon.log"), "ab")
        self.daemon = None

    def iterate(self, number):
        """Kills something, and looks whether all is well. Raises Failure."""
        raise NotImplementedError

    def begin(self):
        """Before the first iteration, with a daemon."""

    def finish(self):
        """After the last one."""

    def clear(self):
        """Whatever has become of it: what is outside of the namespaces must not stay."""

    def explain(self, failure):
        """Prints what somebody needs who wants to understand it."""

    def show(self):
        """Prints what was done."""

    def missed(self):
        """What a long run should have hit, and has not."""
        return []

    def start_daemon(self):
        self.daemon = start([self.stasis, "daemon", "start"], stdout=self.log, stderr=subprocess.STDOUT)
        wait_for(lambda: self.run([self.stasis, "daemon", "status"]).returncode == 0, "for the daemon")

    @staticmethod
    def run(command):
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=PATIENCE, check=False, encoding="utf-8", errors="replace")

    def command(self, *arguments):
        """Must succeed. What it printed."""
        result = self.run([self.stasis, *arguments])
        if result.returncode != 0:
            raise Failure(f"{' '.join(arguments)}: {result.stdout}{result.stderr}")
        return result.stdout

    def is_worker(self, process):
        """One of the daemon's."""
        return process.arguments[1:2] == [b"worker"] and process.parent == self.daemon.pid

    def loop(self):
        end = time.monotonic() + self.options.seconds if self.options.seconds else None
        self.start_daemon()
        self.begin()
        for number in range(self.options.iterations):
            if end and time.monotonic() > end:
                break
            try:
                self.iterate(number)
            except (Failure, subprocess.TimeoutExpired) as failure:
                raise Failure(f"iteration {number}: {failure}") from failure
        self.finish()


def main(test):
    """@param test a class derived from Loop. @return exit code"""
    parser = argparse.ArgumentParser(description=test.description)
    parser.add_argument("--directory", required=True, help="the test's own, with the directories of stasis in it")
    parser.add_argument("--seed", required=True)
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--seconds", type=float, help="begin no iteration after so long")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="until all must be as it must be")
    parser.add_argument("--all", action="store_true", help="fail unless each kind was hit")
    options = parser.parse_args()
    print(f"STASIS_SEED={options.seed}", flush=True)
    if os.getpid() != 1:
        sys.exit("must be PID 1 of namespaces of its own, as in the .bats file beside")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    loop, failed = test(options), False
    try:
        loop.loop()
    except (Failure, subprocess.TimeoutExpired) as failure:
        loop.explain(failure)
        failed = True
    finally:
        loop.clear()
    loop.show()
    missed = loop.missed() if options.all else []
    if missed:
        print("hit too seldom: " + ", ".join(missed))
    return 1 if failed or missed else 0
