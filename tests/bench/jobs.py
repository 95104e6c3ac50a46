# SPDX-License-Identifier: Apache-2.0
"""Jobs: until the exit code of a short one is back, how fast its output comes, and `ps` with many."""

import os
import pty
import sqlite3
import statistics
import subprocess
import threading
import time

OUTPUT_MIB = 256
MANY = 10000
WRITER = "head -c %d /dev/zero" % (OUTPUT_MIB << 20)


def summary(values):
    return "%8.1f  (%.1f … %.1f)" % (statistics.median(values), min(values), max(values))


def timed(command, env, stdout=subprocess.DEVNULL):
    begin = time.monotonic()
    status = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, check=False).returncode
    if status != 0:
        raise SystemExit("bench: %s: exit code %d" % (" ".join(command), status))
    return (time.monotonic() - begin) * 1000


def drain(fd):
    """Reads to the end; bytes."""
    size = 0
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return size
        if not data:
            return size
        size += len(data)


def through_pipe(command, env):
    """MiB/s of its output."""
    begin = time.monotonic()
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    size = drain(process.stdout.fileno())
    if process.wait() != 0 or size != OUTPUT_MIB << 20:
        raise SystemExit("bench: %s: %d bytes, exit code %d" % (" ".join(command), size, process.returncode))
    return (size >> 20) / (time.monotonic() - begin)


def through_terminal(command, env):
    master, slave = pty.openpty()
    got = []
    reader = threading.Thread(target=lambda: got.append(drain(master)))
    begin = time.monotonic()
    process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    reader.start()
    status = process.wait()
    reader.join()
    elapsed = time.monotonic() - begin
    os.close(master)
    if status != 0 or got[0] < OUTPUT_MIB << 20:
        raise SystemExit("bench: %s: %d bytes, exit code %d" % (" ".join(command), got[0], status))
    return (got[0] >> 20) / elapsed


def exit_code(bench, stasis, pairs):
    floor, ours, here = [], [], []
    for pair in range(pairs * 5 + 1):
        one = timed(["/bin/true"], bench.env)
        two = timed([stasis, "run", "--attach", "process", "/bin/true"], bench.env)
        three = timed([stasis, "run", "--no-server", "process", "/bin/true"], bench.env)
        if pair:
            floor.append(one), ours.append(two), here.append(three)
    for title, values in (("run --attach process true", ours), ("run --no-server process true", here)):
        more = statistics.median(values) - statistics.median(floor)
        print("%s, until its exit code is back\n  fork+exec %s ms\n  stasis    %s ms\n  more      %8.1f ms   "
              "goal ≤ 25 ms: %s" % (title, summary(floor), summary(values), more, "met" if more <= 25 else "MISSED"))


def output(bench, stasis, pairs):
    for title, measure, limit in (("a pipe", through_pipe, 0.1), ("a terminal", through_terminal, 0.5)):
        floor, ours = [], []
        for pair in range(pairs + 1):
            one = measure(["sh", "-c", WRITER], bench.env)
            two = measure([stasis, "run", "--attach", "process", "sh", "-c", WRITER], bench.env)
            if pair:
                floor.append(one), ours.append(two)
        ratio = statistics.median(ours) / statistics.median(floor)
        print("%d MiB of output by %s\n  raw     %s MiB/s\n  attach  %s MiB/s\n  ratio   %8.2f   goal ≥ %.1f: %s" %
              (OUTPUT_MIB, title, summary(floor), summary(ours), ratio, limit, "met" if ratio >= limit else "MISSED"))


def multiply(path):
    """Makes many of the one job that there is."""
    with sqlite3.connect(path) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)") if row[1] not in ("id", "jid")]
        listed = ", ".join(columns)
        db.execute("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                   " INSERT INTO jobs (jid, %s) SELECT 'many-' || i, %s FROM n, (SELECT * FROM jobs LIMIT 1)" %
                   (listed, listed), (MANY,))
    db.close()


def listing(bench, stasis, pairs):
    timed([stasis, "run", "--attach", "process", "/bin/true"], bench.env)
    bench.stop_daemon()
    multiply(bench.env["STASIS_DB_PATH"])
    bench.start_daemon()
    for words in ([], ["--json"]):
        values = [timed([stasis, "ps"] + words, bench.env) for _ in range(pairs * 3)]
        ok = statistics.median(values) <= 100
        print("ps %s with %d jobs\n  %s ms   goal ≤ 100 ms: %s" %
              (" ".join(words), MANY, summary(values), "met" if ok else "MISSED"))


def bench_jobs(bench, stasis, pairs):
    exit_code(bench, stasis, pairs)
    output(bench, stasis, pairs)
    listing(bench, stasis, pairs)
