# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a terminal and types into it, as told by a script on standard input.

    terminal.py [ROWSxCOLUMNS] COMMAND [ARGUMENT…]

Each line of the script is one step:

    type TEXT     types it; \\r, \\x03 and the like are understood
    wait TEXT     until it has been printed since the last wait
    size RxC      another size of the terminal
    signal NAME   a signal to the command
    sleep SECONDS
    hangup        the terminal goes away

At the end it waits for the command. What the command printed goes to standard output, and the last lines are
"settings kept" or "settings changed" (of the terminal), and "exit N". A step that takes over 15 seconds fails.
"""
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

PATIENCE = 15


def resize(fd, text):
    rows, columns = map(int, text.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    def __init__(self, size, argv):
        self.master, self.slave = pty.openpty()
        resize(self.master, size)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""  # since the last wait
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(self.slave, fd)
            os.closerange(3, 256)
            for number in (signal.SIGPIPE, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.execvp(argv[0], argv)

    def read(self, timeout):
        if self.master < 0 or not select.select([self.master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # nobody has the terminal open
            return False
        sys.stdout.buffer.write(data)
        self.seen += data
        return bool(data)

    def wait_for(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            if time.monotonic() > end:
                self.fail("waited in vain for %r" % text)
            self.read(0.1)
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def fail(self, text):
        sys.stdout.flush()
        print("\nterminal.py:", text)
        sys.stdout.flush()
        os.kill(self.pid, signal.SIGKILL)
        sys.exit(99)

    def step(self, line):
        verb, _, rest = line.partition(" ")
        text = rest.encode().decode("unicode_escape").encode("latin-1")
        if verb == "type":
            os.write(self.master, text)
        elif verb == "wait":
            self.wait_for(text)
        elif verb == "size":
            resize(self.master, rest)
        elif verb == "signal":
            os.kill(self.pid, getattr(signal, "SIG" + rest))
        elif verb == "sleep":
            time.sleep(float(rest))
        elif verb == "hangup":
            os.close(self.master)
            os.close(self.slave)
            self.master = self.slave = -1
        else:
            self.fail("unknown step " + line)

    def finish(self):
        end = time.monotonic() + PATIENCE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                self.fail("the command does not end")
            if not self.read(0.05):
                time.sleep(0.01)
        while self.read(0):
            pass
        sys.stdout.flush()
        if self.slave >= 0:
            print("\nsettings", "kept" if termios.tcgetattr(self.slave) == self.before else "changed")
        print("exit", os.waitstatus_to_exitcode(status))


def main():
    argv = sys.argv[1:]
    size = argv.pop(0) if re.fullmatch(r"\d+x\d+", argv[0]) else "24x80"
    terminal = Terminal(size, argv)
    for line in sys.stdin:
        if line.strip():
            terminal.step(line.rstrip("\n"))
    terminal.finish()


main()
