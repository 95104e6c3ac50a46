# SPDX-License-Identifier: Apache-2.0
"""The data path: each way to dump and restore, in turn, in one run, on one file system. docs/performance.md tells what
is measured; table.py makes the tables of it, picture.py the picture.

A scenario has a target of its own, so that all of them meet the same: dumped, changed and dumped again, ended, restored
in each way. Their order is reversed from one pair to the next. What a build does not know (exit code 2) is left out.
"""

import contextlib
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import picture
import table
from target import Failed, Peak, Target

SIZES = (16, 256, 1024, 4096)  # MiB
ZEROS_MIB = 1024
PAIRS = 5
SMALL_MIB = 64  # to there three times the pairs: what takes milliseconds is the noisiest
LARGE_MIB = 2048  # from there on fewer pairs, and none to warm up: a pair takes minutes
BUDGET = "64M"
TIMEOUT_S = 120
WHOLE_S = 900  # after that no table gets a further pair
USAGE = 2  # exit code of stasis: it knows no such flag or value
IMAGE = ("--compression", "image", "--image-codec")
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCS = os.path.join(SOURCE, "docs")
# The kernel's Documentation/mm/free_page_reporting.rst; the order of the smallest block that is reported.
REPORTING = "/sys/module/page_reporting/parameters/page_reporting_order"
NOTHING_REPORTED = 11  # more than any block has (MAX_PAGE_ORDER is 10)


class Unknown(Exception):
    """This build does not know the way."""


class Scenario:
    """stasis dump with these options. `lazy`: restored in this way, too; `child`: dumped once more after 5 % of the
    pages have changed, with the first one as the parent."""

    def __init__(self, key, options, lazy=False, child=False, limit=None):
        self.key, self.options, self.limit = key, list(options), limit
        self.lazy, self.child = key + "-lazy" if lazy else None, key + "-child" if child else None

    def measure(self, run):
        first = run.attempt(self.key, lambda: run.dump(self.key, self.options, self.limit))
        if not first:
            for key in (self.lazy, self.child):
                if key and self.key in run.left_out:
                    run.left_out[key] = run.left_out[self.key]
            return
        checkpoints = [(self.key, first, run.target.expected)]
        if self.child and run.wanted(self.child) and not run.zeros:
            run.target.dirty()
            second = run.attempt(self.child, lambda: run.dump(self.child, self.options + ["--parent", first], None))
            if second:
                checkpoints.append((self.child, second, run.target.expected))
        if self.limit:
            return
        run.end_target()
        for key, path, expected in checkpoints:
            run.attempt(key, lambda: run.restore(key, path, [], expected))
        if self.lazy and run.wanted(self.lazy) and not run.zeros:
            run.attempt(self.lazy, lambda: run.restore(self.lazy, first, ["--lazy"], checkpoints[0][2]))


class Raw:
    """CRIU alone, and what its user does for one compressed file that is as safe as ours."""

    key = "criu"
    packers = (("criu-zstd", "zstd -q -1 -T0", "zstd -q -dc", "raw.tar.zst"),
               ("criu-lz4", "lz4 -q -1", "lz4 -q -dc", "raw.tar.lz4"))

    def measure(self, run):
        images, expected = run.bench.fresh("raw"), run.target.expected
        dumped = run.attempt(self.key, lambda: run.dump_criu(images))
        if not dumped:
            return
        for key, pack, _, name in self.packers:
            if run.wanted(key):
                run.attempt(key, lambda: run.pack(key, images, pack, name, *dumped))
        run.end_target()
        run.attempt(self.key, lambda: run.restore_criu(self.key, images, None, expected))
        for key, _, unpack, name in self.packers:
            if run.wanted(key):
                images = run.bench.fresh("raw")
                script = "%s %s | tar -x -C %s" % (unpack, run.bench.path(name), images)
                run.attempt(key, lambda: run.restore_criu(key, images, script, expected))


SCENARIOS = (Raw(),
             Scenario("none", ("--compression", "none")),
             Scenario("image-zstd", (*IMAGE, "zstd"), lazy=True, child=True),
             Scenario("image-lz4", (*IMAGE, "lz4"), lazy=True, child=True),
             Scenario("grab", (*IMAGE, "zstd", "--capture=grab"), child=True),
             Scenario("budget", (*IMAGE, "zstd"), limit=BUDGET))
WITH_ZEROS = ("criu", "image-zstd", "image-lz4")


class Run:
    """The scenarios on memory of one size; `rows` is what the pairs have given, by row and column."""

    def __init__(self, tools, mib, zeros):
        self.bench, self.stasis, self.workload, self.criu = tools.bench, tools.stasis, tools.workload, tools.criu
        self.left_out, self.notes = tools.left_out, tools.notes
        self.mib, self.zeros, self.failed, self.rows = mib, zeros, {}, {}
        self.target = None

    def title(self):
        return "%d MiB%s" % (self.mib, ", half of it zero pages" if self.zeros else "")

    def wanted(self, key):
        return key not in self.left_out and key not in self.failed

    def attempt(self, key, measure):
        """What it returns; None when it cannot be measured, which is on record then."""
        try:
            return measure()
        except Unknown as unknown:
            self.left_out[key] = str(unknown)
        except Failed as failure:
            self.failed[key] = str(failure)
            print("bench: %s: %s: %s" % (self.title(), key, failure), file=sys.stderr)
            self.end_target()
        return None

    def pair(self, scenarios):
        for scenario in scenarios:
            if self.wanted(scenario.key):
                self.target = Target(self.workload, self.mib, self.zeros)
                try:
                    scenario.measure(self)
                finally:
                    self.end_target()
                    for name in ("raw", "ckpt"):
                        self.bench.fresh(name)
                    for packer in Raw.packers:
                        if os.path.exists(self.bench.path(packer[3])):
                            os.unlink(self.bench.path(packer[3]))

    def end_target(self):
        self.target.end(self.bench)

    def note(self, key, **values):
        row = self.rows.setdefault(key, {})
        for column, value in values.items():
            row.setdefault(column, []).append(round(value, 3))

    def command(self, words, env=None):
        """Runs it to its end; (time in ms, its output)."""
        begin = time.monotonic()
        try:
            done = subprocess.run(words, env=env or self.bench.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, check=False, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as expired:
            raise Failed("%s takes more than %d s" % (" ".join(words), TIMEOUT_S)) from expired
        elapsed = (time.monotonic() - begin) * 1000
        told = done.stderr.decode(errors="replace")
        self.judge(words, done.returncode, told)
        return elapsed, done.stdout.decode(errors="replace")

    def judge(self, words, status, told):
        lines = told.strip().splitlines() or [""]
        if words[0] == self.stasis and status == USAGE:
            raise Unknown(lines[-1].replace("stasis: error: ", ""))
        if status != 0:
            raise Failed("%s: exit code %d: %s" % (" ".join(words), status, lines[-1]))
        for line in lines:
            if line.startswith("stasis: ") and self.target:  # a warning, such as that it was done in another way
                self.notes.setdefault(line.replace(str(self.target.pid), "PID"), self.title())

    def dump(self, key, options, limit):
        """The path of the checkpoint."""
        words = [self.stasis, "dump", "process", str(self.target.pid), "--name", key] + options
        env, above = self.bench.env, self.bench.daemon.pid
        if limit:
            words, above = words + ["--no-server"], os.getpid()
            env = {**env, "STASIS_CHECKPOINT_STREAM_MEMORY_LIMIT": limit}
        self.target.forget_stalls()
        with Peak(above) as peak:
            total, told = self.command(words, env)
        path = told.split()[-1]
        self.note(key, frozen_ms=self.target.stall_ms(), total_ms=total, size_mib=size_mib(path), peak_mib=peak.mib())
        return path

    def dump_criu(self, images):
        self.target.forget_stalls()
        with Peak(os.getpid()) as peak:
            total, _ = self.command(self.criu + ["dump", "-R", "-t", str(self.target.pid), "-D", images,
                                                 "-o", "dump.log"])
        frozen = self.target.stall_ms()
        self.note("criu", frozen_ms=frozen, total_ms=total, size_mib=size_mib(images), peak_mib=peak.mib())
        return frozen, total

    def pack(self, key, images, packer, name, frozen, total):
        archive = self.bench.path(name)
        with Peak(os.getpid()) as peak:
            more, _ = self.command(["bash", "-o", "pipefail", "-c", "tar -c -C %s . | %s >%s && sync %s" %
                                    (images, packer, archive, archive)])
        self.note(key, frozen_ms=frozen, total_ms=total + more, size_mib=size_mib(archive), peak_mib=peak.mib())

    def restore(self, key, path, options, expected):
        begin = time.time()
        self.follow(key, [self.stasis, "restore", "process", "--path", path] + options, begin, expected)

    def restore_criu(self, key, images, unpack, expected):
        begin = time.time()
        if unpack:
            self.command(["bash", "-o", "pipefail", "-c", unpack])
        self.follow(key, self.criu + ["restore", "-d", "-D", images, "-o", "restore.log"], begin, expected)

    def follow(self, key, words, begin, expected):
        """Starts a restore, and looks at the target until it runs and all of its memory is there. Its
        clock is not the monotonic one, see workload.c."""
        with open(self.bench.path("restore.err"), "w+", errors="replace") as told:
            process = subprocess.Popen(words, env=self.bench.env, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=told)
            try:
                running, whole = self.watch(process, begin)
            except Failed:
                process.kill()
                raise
            finally:
                process.wait()
            told.seek(0)
            self.judge(words, process.returncode, told.read())
        self.target.check(expected)
        self.note(key, running_ms=(running - begin) * 1000, all_in_ms=(whole - begin) * 1000)
        self.end_target()

    def watch(self, process, begin):
        """When it ran again, and when all was in; both None when the restore has failed."""
        running = whole = None
        while time.time() < begin + TIMEOUT_S:
            ended = process.poll()
            if not running:
                running = self.target.first_tick(begin)
                if running and self.target.all_in():
                    whole = running
            elif not whole and self.target.all_in():
                whole = time.time()
            if ended or (ended == 0 and whole):
                return running, whole
            time.sleep(0.001)
        state = "has not all of its memory" if running else "does not run"
        raise Failed("%s: the target %s" % (" ".join(process.args), state))


class Tools:
    def __init__(self, bench, stasis, build, criu):
        self.bench, self.stasis, self.criu = bench, stasis, list(criu)
        self.workload = os.path.join(build, "tests/bench/workload")
        self.left_out, self.notes = {}, {}


def size_mib(path):
    if os.path.isdir(path):
        return sum(os.stat(os.path.join(path, name)).st_size for name in os.listdir(path)) / (1 << 20)
    return os.stat(path).st_size / (1 << 20)


def available_mib():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")) // 1024


def room_for(bench, mib):
    """What is missing for memory of that size, or ""."""
    if available_mib() < 3 * mib + 1024:
        return "%d MiB of memory are available, %d needed" % (available_mib(), 3 * mib + 1024)
    free = shutil.disk_usage(bench.dir).free >> 20
    return "" if free > 4 * mib + 1024 else "%d MiB of disk are free, %d needed" % (free, 4 * mib + 1024)


def tables_to_make(bench, left_out):
    """[(MiB, zeros, pairs)]"""
    wanted = [int(word) for word in os.environ.get("BENCH_SIZES", "").replace(",", " ").split()] or list(SIZES)
    pairs = int(os.environ.get("BENCH_PAIRS", str(PAIRS)))
    made = []
    for mib in wanted:
        missing = room_for(bench, mib)
        if missing:
            left_out["%d MiB" % mib] = missing
        else:
            made.append((mib, False, min(pairs, 2) if mib >= LARGE_MIB else pairs * (3 if mib <= SMALL_MIB else 1)))
    sizes = [mib for mib, _, _ in made if mib <= ZEROS_MIB]
    if sizes:
        made.append((max(sizes), True, min(pairs, 3)))
    return sorted(made)  # the largest last: it gets fewer pairs when the time is up


def measure(tools, mib, zeros, pairs, deadline):
    """At least one pair; no further one that would not end in time."""
    run = Run(tools, mib, zeros)
    scenarios = [scenario for scenario in SCENARIOS if not zeros or scenario.key in WITH_ZEROS]
    if mib < LARGE_MIB:
        print("bench: %s: warming up" % run.title(), file=sys.stderr)
        run.pair(scenarios)
        run.rows.clear()
    made = lasted = 0
    while made == 0 or (made < pairs and time.monotonic() + lasted < deadline):
        begin = time.monotonic()
        print("bench: %s: pair %d of %d" % (run.title(), made + 1, pairs), file=sys.stderr)
        run.pair(scenarios if made % 2 else scenarios[::-1])
        made, lasted = made + 1, time.monotonic() - begin
    return {"mib": mib, "zeros": zeros, "pairs": made, "rows": run.rows, "failed": run.failed}


def version_of(words):
    told = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    return told.splitlines()[0].strip() if told else ""


def machine(bench, stasis):
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) >> 20
    return {"cores": os.cpu_count(), "memory_gib": memory, "kernel": platform.release().split("-")[0],
            "file_system": version_of(["findmnt", "-n", "-o", "FSTYPE", "-T", bench.dir]),
            "criu": version_of(["criu", "--version"]).replace("Version: ", ""),
            "stasis": version_of([stasis, "version"])}


@contextlib.contextmanager
def memory_kept():
    """A guest that tells its host what is free has it taken away within seconds, and the first touch after that takes ten
    times as long: which way of dumping meets it would be a matter of luck. So nothing is reported meanwhile."""
    try:
        with open(REPORTING, "r+") as file:
            before = file.read()
            file.seek(0)
            file.write("%d\n" % NOTHING_REPORTED)
    except OSError:
        before = ""  # no such guest, or a kernel that does not let go of it
    try:
        yield
    finally:
        if before:
            with open(REPORTING, "w") as file:
                file.write(before)


def collect(tools):
    wanted = tables_to_make(tools.bench, tools.left_out)
    if not wanted:
        raise SystemExit("bench: %s" % "; ".join("%s: %s" % item for item in tools.left_out.items()))
    largest = max(mib for mib, _, _ in wanted)
    begin = time.monotonic()
    with memory_kept():
        # Memory that the host has not backed yet is slow at its first touch.
        subprocess.run([tools.workload, "--warm", str(min(available_mib() * 3 // 4, 5 * largest + 1024))], check=False)
        tables = [measure(tools, *one, begin + WHOLE_S) for one in wanted]
    return {"date": datetime.date.today().isoformat(), "seconds": round(time.monotonic() - begin),
            "budget": BUDGET, "machine": machine(tools.bench, tools.stasis), "tables": tables,
            "left_out": tools.left_out, "notes": tools.notes}


def write_docs(data):
    with open(os.path.join(DOCS, "bench.json"), "w") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    with open(os.path.join(DOCS, "bench.svg"), "w") as file:
        file.write(picture.draw(data))
    table.replace_in(os.path.join(DOCS, "performance.md"), data)


def bench_data(bench, stasis, build, criu, options):
    """Measures, unless `options.data` is a file of what was measured; prints the tables."""
    if options.data:
        with open(options.data) as file:
            data = json.load(file)
    else:
        try:
            data = collect(Tools(bench, stasis, build, criu))
        except Failed as failure:
            raise SystemExit("bench: %s" % failure) from failure
        path = os.environ.get("BENCH_JSON", os.path.join(build, "bench.json"))
        with open(path, "w") as file:
            json.dump(data, file, indent=1)
        print("bench: what was measured is in %s" % path, file=sys.stderr)
    print(table.text(data))
    sys.stdout.flush()
    if options.write_docs:
        write_docs(data)
    if any(one["failed"] for one in data["tables"]):
        raise SystemExit("bench: some rows have failed, see above")
