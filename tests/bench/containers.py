# SPDX-License-Identifier: Apache-2.0
"""Containers: dump and restore by stasis beside the engine's own checkpoints, in turn, in one run.

The engines are those of the system tests: the functions of tests/system/runc.bash and docker.bash do the work, in one
shell for a topic, so that an engine is private here, too, and nothing of it stays.
"""

import os
import shutil
import statistics
import subprocess
import time

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system")
SIZES = (16, 256)  # MiB
SLOW_MIB = 64  # from there on Docker's own way takes seconds: no pair to warm up, nothing that tells no more
TICK = "/dev/shm/tick"  # of no layer: what the ticker writes is no change of the container's files


class Shell:
    """A bash with the fixtures; what it runs may use their functions and variables."""

    def __init__(self, bench, stasis, build, fixture):
        self.out, self.err = bench.path("out"), bench.path("err")
        # In a session of its own: an interrupt is for us, and the shell cleans up when told to.
        self.process = subprocess.Popen(["bash", "--noprofile", "--norc"], cwd="/", start_new_session=True,
                                        env={**os.environ, "STASIS": stasis, "STASIS_BUILD": build},
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.do("source %s/common.bash; source %s/%s.bash; start_test" % (FIXTURES, FIXTURES, fixture))

    def do(self, script):
        """Runs it, which must succeed; its time in ms."""
        self.process.stdin.write(("{ %s\n} </dev/null >%s 2>%s; echo $?\n" % (script, self.out, self.err)).encode())
        begin = time.monotonic()
        self.process.stdin.flush()
        status = self.process.stdout.readline()
        elapsed = (time.monotonic() - begin) * 1000
        if status != b"0\n":
            raise SystemExit("bench: %s failed:\n%s%s" % (script, self.said(self.out), self.said(self.err)))
        return elapsed

    def stasis(self, script):
        """As do(), for a stasis that must not do without --fast what it was told to do with it."""
        elapsed = self.do(script)
        if "not --fast" in self.said(self.out) + self.said(self.err):
            raise SystemExit("bench: %s:\n%s%s" % (script, self.said(self.out), self.said(self.err)))
        return elapsed

    def read(self, script):
        self.do(script)
        return self.said(self.out).strip()

    @staticmethod
    def said(path):
        with open(path, errors="replace") as file:
            return file.read()

    def close(self, script):
        """Runs a last one, also when an interrupt has left something running, and ends."""
        self.process.stdin.write(("{ %s\n} </dev/null >%s 2>%s; exit $?\n" % (script, self.out, self.err)).encode())
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise SystemExit("bench: %s failed:\n%s%s" % (script, self.said(self.out), self.said(self.err)))


class Runc:
    name = "runc"
    needs = ("runc", "criu", "jq", "nsenter", "zstd")
    ways = (("none", ""), ("zstd", ""))
    own = "runc checkpoint", "runc restore"
    # What its user does for a checkpoint that is one compressed file, as durable as ours is.
    packed = "runc checkpoint; tar | zstd -1 -T0; sync", "tar -x; runc restore"
    stop = "stop_daemon; runc_cleanup && end_test"

    def __init__(self, shell, ticker):
        self.shell, self.ticker = shell, ticker
        shell.do("runc_start && start_daemon")

    def start(self, mib):
        self.shell.do("rm -rf $T/b1 && runc_bundle $T/b1 '.process.args = [\"/bin/ticker\", \"%d\", \"%s\"]' && "
                      "for file in %s $(ldd %s | grep -o '/[^ ]*'); do "
                      "mkdir -p $T/b1/rootfs${file%%/*} && cp -L $file $T/b1/rootfs$file || break; done && "
                      "ln -sf %s $T/b1/rootfs/bin/ticker && runc_run c1 $T/b1" %
                      (mib, TICK, self.ticker, self.ticker, self.ticker))

    def pid(self):
        return int(self.shell.read("runc_pid c1"))

    def end(self, bench):
        pid = self.pid()
        self.shell.do("runc_do kill c1 KILL && wait_for '[[ $(runc_state c1) = @(gone|stopped) ]]'")
        bench.reap(pid)
        # What stasis has restored it removes itself, maybe at this moment.
        self.shell.do("[ $(runc_state c1) = gone ] || runc_do delete c1 || [ $(runc_state c1) = gone ]")

    def dump_own(self):
        self.shell.do("rm -rf $T/own $T/own.work")
        return self.shell.do("runc_do checkpoint --leave-running --image-path $T/own --work-path $T/own.work c1")

    def restore_own(self):
        return self.shell.do("runc_restore c1 $T/b1 $T/own")

    def dump_packed(self):
        self.shell.do("rm -f $T/own.tar.zst")
        return self.dump_own() + self.shell.do("tar -c -C $T/own . | zstd -q -1 -T0 -o $T/own.tar.zst && "
                                               "sync $T/own.tar.zst")

    def restore_packed(self):
        self.shell.do("rm -rf $T/own && mkdir $T/own")
        return self.shell.do("zstd -q -dc $T/own.tar.zst | tar -x -C $T/own") + self.restore_own()

    def dump(self, name, options):
        return self.shell.stasis("$STASIS dump runc c1 --root $RUNC_ROOT --name %s %s" % (name, options))

    def restore(self, path, options):
        return self.shell.stasis("$STASIS restore runc --root $RUNC_ROOT --path %s %s" % (path, options))

    def tidy(self):
        pass


class Docker:
    name = "docker"
    needs = ("dockerd", "containerd", "runc", "criu", "jq", "curl", "nsenter")
    ways = (("none", ""), ("zstd", ""), ("none", "--fast"), ("zstd", "--fast"))
    own = "POST checkpoints", "POST start?checkpoint="
    packed = None
    stop = "stop_daemon; docker_stop && docker_nothing_left && end_test"

    def __init__(self, shell, ticker):
        self.shell, self.ticker, self.container = shell, ticker, ""
        shell.do("docker_start && docker_image tick:1 /bin/busybox %s && "
                 "export DOCKER_HOST=unix://$DOCKER_SOCK && start_daemon" % ticker)

    def start(self, mib):
        self.container = "c%d" % mib
        self.shell.do("docker_run %s '.Image = \"tick:1\" | .Cmd = [\"/bin/%s\", \"%d\", \"%s\"]'" %
                      (self.container, os.path.basename(self.ticker), mib, TICK))

    def pid(self):
        return int(self.shell.read("docker_get %s .State.Pid" % self.container))

    def end(self, bench):
        pid = self.pid()
        self.shell.do("docker_api POST /containers/%s/kill && wait_for '[ $(docker_get %s .State.Status) = exited ]'" %
                      (self.container, self.container))
        bench.reap(pid)

    def dump_own(self):
        at = "/containers/%s/checkpoints" % self.container
        self.shell.do("docker_api DELETE %s/own || true" % at)
        return self.shell.do("docker_api POST %s '{\"CheckpointID\": \"own\", \"Exit\": false}'" % at)

    def restore_own(self):
        return self.shell.do("docker_api POST '/containers/%s/start?checkpoint=own'" % self.container)

    def dump(self, name, options):
        return self.shell.stasis("$STASIS dump docker %s --name %s %s" % (self.container, name, options))

    def restore(self, path, options):
        return self.shell.stasis("$STASIS restore docker %s --path %s %s" % (self.container, path, options))

    def tidy(self):
        # The engine leaves a copy of the images at each start.
        self.shell.do("rm -rf --one-file-system ${DOCKER_DIR:?}/tmp/ctrd-checkpoint*")


ENGINES = {"runc": Runc, "docker": Docker}


def intact(bench, engine):
    """Asks the ticker: it runs, and its memory is as it was."""
    pid = engine.pid()
    bench.gap(pid, "/proc/%d/root%s" % (pid, TICK))


def dumps(engine, ways, times):
    times["own"].append(engine.dump_own())
    if engine.packed:
        times["packed"].append(engine.dump_packed())
    for way in ways:
        name = "".join(way)
        engine.shell.do("rm -rf $T/ckpt/%s $T/ckpt/%s.tar*" % (name, name))
        times[way].append(engine.dump(name, "--compression %s %s" % way))


def restores(bench, engine, ways, times):
    engine.end(bench)
    times["own"].append(engine.restore_own())
    intact(bench, engine)
    if engine.packed:
        engine.end(bench)
        times["packed"].append(engine.restore_packed())
        intact(bench, engine)
    for way in ways:
        engine.end(bench)
        path = engine.shell.read("ls -d $T/ckpt/%s $T/ckpt/%s.tar* 2>/dev/null || true" % ("".join(way), "".join(way)))
        times[way].append(engine.restore(path, way[1]))
        intact(bench, engine)
    engine.tidy()


def show(report, title, times, own, packed):
    for way, values in times.items():
        if way in ("own", "packed"):
            continue
        name = "%s, %s" % (title, " ".join(way).strip())
        beside, what = times["own"], own
        if packed and way[0] != "none":  # more work than what it stands beside: the fair one follows
            report("%s (beside: %s)" % (name, own), beside, values, "none", True, "engine")
            beside, what = times["packed"], packed
        ratio = statistics.median(values) / statistics.median(beside)
        # --fast is there to be much faster.
        goal = 0.7 if way[1] else 1.2
        report("%s (beside: %s)" % (name, what), beside, values, "≤ %.1f ×" % goal, ratio <= goal, "engine")


def measure(bench, engine, mib, pairs, report):
    ways = [way for way in engine.ways if mib < SLOW_MIB or len(engine.ways) == 2 or way != ("zstd", "")]
    engine.start(mib)
    intact(bench, engine)
    kinds = ["own", "packed"] if engine.packed else ["own"]
    dumped, restored = ({way: [] for way in [*kinds, *ways]} for _ in range(2))
    # The small container warms up for the large one, which takes Docker most of a minute for each pair.
    for pair in range(pairs if mib >= SLOW_MIB else pairs + 1):
        if pair == 1 and mib < SLOW_MIB:
            for values in [*dumped.values(), *restored.values()]:
                values.clear()
        dumps(engine, ways, dumped)
        intact(bench, engine)
        restores(bench, engine, ways, restored)
    engine.end(bench)
    packed = engine.packed or (None, None)
    show(report, "%s, %d MiB: dump" % (engine.name, mib), dumped, engine.own[0], packed[0])
    show(report, "%s, %d MiB: restore" % (engine.name, mib), restored, engine.own[1], packed[1])


def bench_engine(bench, name, stasis, build, pairs, report):
    missing = [program for program in ENGINES[name].needs if not shutil.which(program)]
    if missing:
        print("%s: left out, not installed: %s" % (name, " ".join(missing)))
        return
    shell = Shell(bench, stasis, build, name)
    try:
        engine = ENGINES[name](shell, os.path.join(build, "tests/system/ticker"))
        for mib in SIZES:
            measure(bench, engine, mib, pairs, report)
    finally:
        shell.close(ENGINES[name].stop)
