#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""changing_job.py FILE MIB SEED: a job with so much memory, random. SIGUSR1 changes every 20th page of it; FILE tells the
version and a checksum of all of it, anew after each SIGUSR1 and SIGUSR2."""

import os
import random
import signal
import sys
import zlib

PAGE = 4096
STRIDE = 20 * PAGE

told, mib, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
random.seed(seed)
memory = bytearray(random.randbytes(mib << 20))
version = 0


def tell():
    with open(told + ".new", "w") as file:
        file.write("%d %x\n" % (version, zlib.crc32(memory)))
    os.rename(told + ".new", told)


def change():
    for at in range(version % 20 * PAGE, len(memory), STRIDE):
        memory[at:at + 8] = version.to_bytes(8, "little")


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
tell()
while True:
    if signal.sigwait({signal.SIGUSR1, signal.SIGUSR2}) == signal.SIGUSR1:
        version += 1
        change()
    tell()
