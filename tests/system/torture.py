#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and restores trees of processes that change their memory all the time (churn.c), in many ways.

Each run is one way to copy memory (--capture), one to put it back (--restore), and draws all else: how large it is, how
many processes and threads, a PID namespace or none, the format, how many checkpoints one after another and whether they
refer to each other, what becomes of the earlier ones, which of them are restored, and whether what was restored is
dumped again. Before and after, and while memory is still missing, each process says whether each of its pages is what
it should be.

It must be PID 1 of namespaces of its own (PIDs, mounts), see torture.bats. Each run draws from a generator of its own,
made of the seed, the ways and its number: --first N --runs 1 repeats it. Exit code 0 if all was well.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from killing import Failure, is_alive, kill, processes, start, wait_for  # pylint: disable=C0413

STASIS = os.environ["STASIS"]
CHURN = os.path.join(os.environ["STASIS_BUILD"], "tests", "system", "churn")
# An answer may take so long on a machine that does much else.
PATIENCE = 60
IMAGES = ("zstd", "lz4", "none", "chain")
CAPTURES = ("stream", "grab")
RESTORES = ("stream", "gated", "lazy")


class Run:
    """One target, its checkpoints, and what is restored of them."""

    def __init__(self, options, capture, restore, number):
        self.capture, self.restore_method = capture, restore
        self.draw = random.Random(f"{options.seed} {capture} {restore} {number}")
        self.directory = os.path.join(options.directory, "target")
        self.seed = self.draw.randrange(1, 1 << 32)
        self.mib = self.draw.choice((1, 2, 4, 8, 16, 24, 32, 64))
        self.processes = self.draw.randint(1, min(8, max(1, 128 // self.mib)))
        self.threads = self.draw.randint(1, 4)
        self.namespace = self.draw.choice(("", "", "", "a PID namespace", "PID and mount namespaces"))
        # Only in a chain something is not copied when it is grabbed.
        images = IMAGES + (("chain",) * 3 if capture == "grab" else ())
        self.kind, self.format = self.draw.choice(
            [("image", each) for each in images] + ([("none", ""), ("zstd", "")] if restore == "stream" else []))
        self.pid = None
        self.checkpoints = []
        self.asked = self.streamed = self.dumps = self.restores = 0
        self.story = []

    def __str__(self):
        return (f"{self.capture}, {self.restore_method}, {self.kind} {self.format}: {self.mib} MiB, up to "
                f"{self.processes} processes of {self.threads} threads{', in ' if self.namespace else ''}{self.namespace}")

    def path(self, name):
        return os.path.join(self.directory, name)

    def said(self):
        try:
            with open(self.path("said")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def fail(self, what):
        raise Failure(f"{what}\nit said: {self.said()}")

    def start(self):
        """The target, until it is ready."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        command = [CHURN, str(self.seed), str(self.mib), str(self.processes), str(self.threads), self.directory]
        if self.namespace:
            # Files that were opened in other mounts cannot be dumped.
            command = ["unshare", "--pid", "--fork", *(["--mount-proc"] if "mount" in self.namespace else []), "setsid",
                       "sh", "-c", 'exec "$0" "$@" </dev/null >/dev/null 2>&1', *command]
        process = start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: "ready" in self.said(), "churn to be ready", PATIENCE)
        self.pid = process.pid
        if self.namespace:
            self.pid = next(each.pid for each in processes() if each.parent == process.pid)
        self.churn()

    def churn(self):
        time.sleep(self.draw.choice((0, 0.01, 0.05, 0.1, 0.3)))

    def ask(self, when):
        """All pages of all processes, looked at by themselves."""
        self.asked += 1
        word = f"question-{self.asked}"
        os.symlink(word, self.path("ask"))

        def answered():
            if not is_alive(self.pid):
                self.fail(f"it ended, {when}")
            try:
                with open(self.path("answer")) as file:
                    return file.read().startswith(word + " ")
            except FileNotFoundError:
                return False
        wait_for(answered, f"an answer, {when}", PATIENCE)
        with open(self.path("answer")) as file:
            answer = file.read().strip()
        os.unlink(self.path("ask"))
        if not answer.startswith(word + " right "):
            self.fail(f"memory is wrong, {when}: {answer}")
        self.story.append(f"{when}: {answer}")

    def stasis(self, *arguments):
        """Runs it; what it says is in the story."""
        with open(self.path("out"), "w+") as out, open(self.path("err"), "w+") as err:
            done = subprocess.run([STASIS, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False)
            out.seek(0)
            err.seek(0)
            done.stdout, done.stderr = out.read(), err.read()
        self.story.append(f"stasis {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            self.fail(f"stasis {arguments[0]} failed:\n{done.stderr}")
        return done

    def dump(self, parent=None, stop=False):
        """Adds a checkpoint."""
        self.dumps += 1
        arguments = ["dump", "process", str(self.pid), "--no-server", "--capture", self.capture, "--compression",
                     self.kind, "--name", f"c{self.dumps}", "--dir", self.path("checkpoints")]
        if self.kind == "image":
            arguments += ["--image-codec", "lz4" if self.format == "lz4" else
                          "none" if self.format == "none" else "zstd"]
        if parent:
            arguments += ["--parent", parent]
        done = self.stasis(*arguments, *(["--stop"] if stop else []))
        self.streamed += "streamed" in done.stderr
        self.checkpoints.append(done.stdout.split()[-1])

    def dump_all(self):
        """One, or several one after another while it goes on."""
        count = self.draw.randint(2, 6) if self.format == "chain" else 1 + (self.draw.random() < 0.2)
        if self.draw.random() < 0.3:
            self.ask("before the dump")
        for i in range(count):
            self.churn()
            parent = self.checkpoints[-1] if self.format == "chain" and self.checkpoints else None
            self.dump(parent, stop=i == count - 1 and self.draw.random() < 0.3)
        if is_alive(self.pid) and self.draw.random() < 0.3:
            self.ask("after the dump")

    def group(self):
        """All processes of it that there are, dead ones, too."""
        found = []
        for process in processes():
            try:
                if process.pid == self.pid or os.getsid(process.pid) == self.pid:
                    found.append(process.pid)
            except ProcessLookupError:
                pass
        return found

    def end(self):
        """Ends it and all it has made; their numbers are free then."""
        if not self.pid:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in self.group():
                kill(pid, number)
        wait_for(lambda: not self.group(), "its end", PATIENCE)
        self.pid = None

    def lazy_is_over(self):
        directory = os.path.join(os.environ["STASIS_RUN_DIR"], "lazy")
        return not os.path.isdir(directory) or not os.listdir(directory)

    def restore(self, checkpoint):
        """What it knows is right at once, and some time later."""
        self.restores += 1
        for name in ("answer", "ask"):
            if os.path.lexists(self.path(name)):
                os.unlink(self.path(name))
        arguments = ["restore", "process", "--path", checkpoint, "--no-server", "--out", self.path("out"),
                     "--pid-file", self.path("pid")]
        arguments += ["--lazy"] if self.restore_method == "lazy" else []
        method = "stream" if self.restore_method == "stream" else "gated"
        with open(self.path("restored"), "w+b") as output:
            process = start([STASIS, *arguments], stdout=output, stderr=output,
                            env=os.environ | {"STASIS_RESTORE_METHOD": method})

        def restored():
            with open(self.path("restored"), errors="replace") as file:
                return "\nrestored " in "\n" + file.read()
        try:
            wait_for(lambda: restored() or process.poll() is not None, "a restore", PATIENCE)
        finally:
            with open(self.path("restored"), errors="replace") as file:
                text = file.read()
            self.story.append(f"stasis {' '.join(arguments)}:\n{text}")
        if not restored():
            self.fail(f"stasis restore failed:\n{text}")
        with open(self.path("pid")) as file:
            self.pid = int(file.read())
        expected = {"lazy": "while its memory follows", "gated": "of its memory were in after",
                    "stream": "restored"}[self.restore_method]
        if expected not in text:
            self.fail(f"it was not restored by {self.restore_method}:\n{text}")
        if self.draw.random() < 0.5:
            self.churn()
        self.ask("restored")

    def restore_and_look(self, checkpoint, again=True):
        self.restore(checkpoint)
        if again and self.draw.random() < 0.3:
            self.churn()
            self.dump(checkpoint if self.kind == "image" and self.draw.random() < 0.5 else None,
                      stop=self.draw.random() < 0.3)
            self.end()
            self.restore_and_look(self.checkpoints[-1], False)
            return
        wait_for(self.lazy_is_over, "all pages to come", PATIENCE)
        self.churn()
        self.ask("some time after that")
        self.end()

    def play(self):
        """All of it."""
        self.start()
        self.dump_all()
        self.end()
        last = self.checkpoints[-1]
        others = self.checkpoints[:-1]
        if others and self.draw.random() < 0.3:
            gone = self.draw.choice(others)
            others.remove(gone)
            self.stasis("checkpoint", "delete", gone)
        chosen = [last] + ([self.draw.choice(others)] if others and self.draw.random() < 0.5 else [])
        self.draw.shuffle(chosen)
        for checkpoint in chosen:
            self.restore_and_look(checkpoint)
        shutil.rmtree(self.directory)


def play(options, capture, restore, number):
    """One run. Returns it; None: it failed."""
    run = Run(options, capture, restore, number)
    try:
        run.play()
        return run
    except Failure as failure:
        print(f"--seed {options.seed} --capture {capture} --restore {restore} --first {number} --runs 1 failed.\n{run}\n"
              + "\n".join(run.story) + f"\n{failure}", flush=True)
        run.pid = run.pid if run.pid and is_alive(run.pid) else None
        run.end()
        return None


def main():
    parser = argparse.ArgumentParser(description="checkpoint and restore what changes its memory all the time")
    parser.add_argument("--directory", required=True, help="the test's own, with the directories of stasis in it")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--capture", choices=CAPTURES, help="only this way to copy")
    parser.add_argument("--restore", choices=RESTORES, help="only this way to restore")
    parser.add_argument("--first", type=int, default=0, help="number of the first run of each")
    parser.add_argument("--runs", type=int, required=True, help="of each way to copy and to restore")
    parser.add_argument("--seconds", type=float, help="begin no run after so long")
    options = parser.parse_args()
    print(f"STASIS_SEED={options.seed}", flush=True)
    if os.getpid() != 1:
        sys.exit("torture.py must be PID 1 of namespaces of its own, see torture.bats")
    ways = [(capture, restore) for capture in CAPTURES for restore in RESTORES
            if options.capture in (None, capture) and options.restore in (None, restore)]
    begin, failed, done = time.monotonic(), 0, {way: [] for way in ways}
    for number in range(options.first, options.first + options.runs):
        for way in ways:
            if failed < 3 and (not options.seconds or time.monotonic() - begin < options.seconds):
                run = play(options, *way, number)
                failed += run is None
                done[way] += [run] if run else []
    for (capture, restore), runs in done.items():
        print(f"{capture} {restore}: {len(runs)} runs, {sum(run.dumps for run in runs)} dumps "
              f"({sum(run.streamed for run in runs)} streamed after all), "
              f"{sum(run.restores for run in runs)} restores, {sum(run.asked for run in runs)} times asked")
    return 1 if failed or not all(done.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
