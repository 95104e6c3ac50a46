# SPDX-License-Identifier: Apache-2.0
"""terminal_host.py LOG COMMAND…: runs it as the leader of a session on a fresh terminal, whose output goes to LOG.

Prints its PID, and stays as the parent, as a terminal emulator does.
"""

import os
import pty
import signal
import sys


def main():
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvp(sys.argv[2], sys.argv[2:])
    print(pid, flush=True)
    with open(sys.argv[1], "ab", buffering=0) as log:
        while True:
            try:
                data = os.read(master, 4096)
            except OSError: # nobody has the other side open
                break
            log.write(data)
    os.waitpid(pid, 0)


main()
