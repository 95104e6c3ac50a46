#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""memories.py DIR: a tree of three processes with memory of many kinds, which waits when it is ready."""
import ctypes
import mmap
import os
import signal
import sys

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MIB = 1 << 20
libc = ctypes.CDLL(None)


def address(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


os.chdir(sys.argv[1])
shared = mmap.mmap(-1, 2 * MIB)
shared[:] = os.urandom(2 * MIB)

sparse = mmap.mmap(-1, 4 * MIB, flags=PRIVATE)
for i in range(0, len(sparse), 8192):
    sparse[i] = 1

# Unreadable, locked and thrown away in turn, so that there is no mapping of one kind.
mixed = mmap.mmap(-1, 4 * MIB, flags=PRIVATE)
mixed[:] = os.urandom(4 * MIB)
start = address(mixed)
libc.mlock(ctypes.c_void_p(start + 2 * MIB), MIB)
libc.madvise(ctypes.c_void_p(start + 3 * MIB), MIB // 2, 4)  # MADV_DONTNEED
for i in range(0, 256, 16):
    libc.mprotect(ctypes.c_void_p(start + i * 4096), 4 * 4096, 0)

file = os.open("file", os.O_RDWR | os.O_CREAT)
os.write(file, os.urandom(MIB))
private = mmap.mmap(file, MIB, flags=mmap.MAP_PRIVATE)
private[5000] = private[5000] ^ 1

memfd = os.memfd_create("memory")
os.write(memfd, os.urandom(MIB))
mapped = mmap.mmap(memfd, MIB)

if os.fork() == 0:
    sparse[100] = 9
    if os.fork() == 0:
        sparse[8192 * 3] = 7
        open("ready", "w").close()
while True:
    signal.pause()
