# SPDX-License-Identifier: Apache-2.0
"""A process to measure (workload.c), and how much memory other processes take."""

import os
import signal
import struct
import subprocess
import threading
import time

CONTROL = struct.Struct("7Q")  # struct control of workload.c
MAGIC = 0x64616F6C6B726F77
STALL, ASKED, ANSWERED = 8, 24, 32  # offsets in it
CHECK, DIRTY = 1, 2
SAMPLE_S = 0.01


class Failed(Exception):
    """Something that was to be measured did not work."""


class Target:
    """One workload; after a restore it is the same one again."""

    def __init__(self, program, mib, zeros):
        self.needed_kib = mib * 1024 // (2 if zeros else 1)  # what is not zero
        process = subprocess.Popen([program, str(mib)] + ["zeros"] * zeros, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.pid = process.pid
        told = process.stdout.readline()
        process.stdout.close()
        if not told:
            raise Failed("no process with %d MiB" % mib)
        self.address = int(told, 16)
        self.expected = self.words()[6]

    def control(self):
        """(magic, stall, stall_end, asked, answered, intact, expected); None while it cannot be read."""
        try:
            with open("/proc/%d/mem" % self.pid, "rb", buffering=0) as memory:
                memory.seek(self.address)
                words = CONTROL.unpack(memory.read(CONTROL.size))
        except (OSError, struct.error):
            return None
        return words if words[0] == MAGIC else None

    def words(self):
        """As control(), of a target that must live."""
        words = self.control()
        if not words:
            raise Failed("the target is gone")
        return words

    def write(self, offset, *words):
        try:
            with open("/proc/%d/mem" % self.pid, "r+b", buffering=0) as memory:
                memory.seek(self.address + offset)
                memory.write(struct.pack("%dQ" % len(words), *words))
        except OSError as error:
            raise Failed("the target is gone") from error

    def forget_stalls(self):
        self.write(STALL, 0, 0)

    def stall_ms(self):
        """The longest one since forget_stalls()."""
        return self.words()[1] / 1e6

    def first_tick(self, begin):
        """When it ran again, if it has done so since `begin` (s, time.time()); else None."""
        words = self.control()
        return words[2] / 1e9 if words and words[2] / 1e9 > begin else None

    def all_in(self):
        """All of its memory that is not zero is there."""
        return status_kib(self.pid, "RssAnon:") >= self.needed_kib

    def ask(self, request):
        words = self.words()
        number = (words[3] // 4 + 1) * 4 + request
        self.write(ASKED, number)
        deadline = time.monotonic() + 120
        while words[4] != number:
            if time.monotonic() > deadline:
                raise Failed("the target does not answer")
            time.sleep(0.002)
            words = self.words()
        return words

    def dirty(self):
        """Has it write 5 % of its pages anew."""
        self.expected = self.ask(DIRTY)[6]

    def check(self, expected):
        """Its memory is the one with this checksum, bit by bit."""
        words = self.ask(CHECK)
        if words[5] != 1 or words[6] != expected:
            raise Failed("THE MEMORY IS DAMAGED")

    def end(self, bench):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        bench.reap(self.pid)


def status_kib(pid, key):
    try:
        with open("/proc/%d/status" % pid) as file:
            for line in file:
                if line.startswith(key):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def descendants(pid):
    found = []
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            for child in file.read().split():
                found += [int(child)] + descendants(int(child))
    except OSError:
        pass
    return found


class Peak(threading.Thread):
    """with Peak(pid) as peak: the largest VmHWM (proc(5)) of any process that is started below it meanwhile."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.kib, self.over = pid, 0, threading.Event()
        self.before = set(descendants(pid))
        self.own = os.readlink("/proc/self/exe")

    def run(self):
        while not self.over.wait(SAMPLE_S):
            for pid in descendants(self.pid):
                if pid not in self.before and self.executed(pid):
                    self.kib = max(self.kib, status_kib(pid, "VmHWM:"))

    def executed(self, pid):
        """It is not still a copy of this program."""
        try:
            return os.readlink("/proc/%d/exe" % pid) != self.own
        except OSError:
            return False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        self.join()

    def mib(self):
        return self.kib / 1024
