# SPDX-License-Identifier: Apache-2.0
"""holder.py THING DIRECTORY [ARGUMENT]: holds one thing open that makes a dump or a restore fail, and waits.

Creates DIRECTORY/held when it is there, or DIRECTORY/unable when this kernel has no such thing.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
thing, directory = sys.argv[1:3]
argument = sys.argv[3] if len(sys.argv) > 3 else None


def file(name, size=3):
    path = os.path.join(directory, name)
    with open(path, "wb") as f:
        f.write(b"x" * size)
    return path


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "system call")
    return result


def connection(accept):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    return (listener, client, listener.accept() if accept else None)


def ghost():
    f = open(file("ghost", 100000), "rb")
    os.unlink(f.name)
    return f


def linked():
    f = open(file("linked"), "rb")
    os.link(f.name, f.name + ".other")
    os.unlink(f.name)
    return f


def lock():
    f = open(file("locked"), "rb")
    fcntl.flock(f, fcntl.LOCK_EX)
    return f


def netlink():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.bind((0, 0))
    # RTM_GETLINK with NLM_F_DUMP: the answer stays unread.
    s.send(struct.pack("IHHIIB3x", 20, 18, 0x301, 1, 0, 0))
    return s


def tun():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"st%d", 2 | 0x1000)) # TUNSETIFF: IFF_TAP | IFF_NO_PI
    return fd


def shared_memory():
    libc.shmat.restype = ctypes.c_void_p
    number = checked(libc.shmget(0, 65536, 0o1600))
    libc.shmat(number, None, 0)
    libc.shmctl(number, 0, None) # gone with its last user


def corked():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(17, 1, 1) # UDP_CORK
    s.connect(("127.0.0.1", 9))
    s.send(b"x")
    return s


def pair():
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        with open(os.path.join(directory, "other"), "w") as f:
            f.write(str(os.getpid()))
        time.sleep(1000)
    theirs.close()
    return ours


def credentials():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.send(b"x")
    return ours, theirs


def main_thread_gone():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    open(os.path.join(directory, "held"), "w").close()
    libc.syscall(60, 0) # exit, of this thread only


THINGS = {
    "file": lambda: open(file("file"), "r+b"),
    "tcp": lambda: connection(True),
    "in-flight": lambda: connection(False),
    "listener": lambda: socket.create_server(("127.0.0.1", int(argument))),
    "ghost": ghost,
    "linked": linked,
    "lock": lock,
    "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
    "mptcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
    "netlink": netlink,
    "corked": corked,
    "unix": lambda: pair(),
    "credentials": credentials,
    "pidfd": lambda: os.pidfd_open(1),
    "tun": tun,
    "fuse": lambda: os.open("/dev/fuse", os.O_RDWR),
    "userfaultfd": lambda: checked(libc.syscall(323, 0)),
    "secret": lambda: os.ftruncate(checked(libc.syscall(447, 0)), 4096),
    "sysv-shm": shared_memory,
    "main-thread-gone": main_thread_gone,
}

try:
    held = THINGS[thing]()
except (OSError, AttributeError) as error:
    with open(os.path.join(directory, "unable"), "w") as f:
        f.write(str(error))
    sys.exit(77)
open(os.path.join(directory, "held"), "w").close()
time.sleep(1000)
