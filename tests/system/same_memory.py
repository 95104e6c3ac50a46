#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""same_memory.py DIR DIR: do two directories of CRIU's images (--compression none) hold the same memory?

For each pagemap-*.img the same pages at the same addresses, with the same flags (lazy, present) and the same bytes,
however CRIU has cut them into entries. And besides the same files. Formats: criu.org/Memory_dumping_and_restoring,
images/pagemap.proto of CRIU.
"""
import hashlib
import os
import struct
import sys

PAGE = 4096


def number(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def message(data):
    """Fields that are numbers, by theirs; these messages have no others."""
    fields, at = {}, 0
    while at < len(data):
        key, at = number(data, at)
        assert key & 7 == 0, "not a number"
        fields[key >> 3], at = number(data, at)
    return fields


def memory(directory, name):
    """Address → flags and hash, of each page."""
    with open(os.path.join(directory, name), "rb") as file:
        data = file.read()
    messages, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        messages.append(message(data[at + 4 : at + 4 + size]))
        at += 4 + size
    pages = {}
    with open(os.path.join(directory, f"pages-{messages[0][1]}.img"), "rb") as file:
        for entry in messages[1:]:
            for i in range(entry.get(5) or entry[2]):
                content = file.read(PAGE)
                assert len(content) == PAGE, f"{name}: pages are missing"
                pages[entry[1] + i * PAGE] = entry.get(4, 0), hashlib.md5(content).hexdigest()
        assert not file.read(1), f"{name}: there are too many pages"
    return pages


def main():
    one, other = sys.argv[1:]
    names = sorted(os.listdir(one))
    if names != sorted(os.listdir(other)):
        sys.exit(f"other files: {sorted(set(names) ^ set(os.listdir(other)))}")
    total = 0
    for name in names:
        if not name.startswith("pagemap-"):
            continue
        left, right = memory(one, name), memory(other, name)
        for at in sorted(set(left) | set(right)):
            if left.get(at) != right.get(at):
                sys.exit(f"{name}: at {at:#x} {left.get(at)} and {right.get(at)}")
        total += len(left)
    print(total, "pages")


main()
