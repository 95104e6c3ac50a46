#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads a native image, written from docs/image-format.md alone: a second opinion on that document and on stasis.

read_image.py IMAGE [DIRECTORY]: checks every byte of the image and every frame of its ancestors that it refers to, and
writes its files into the directory, which must exist. Exit code 1 and one line on stderr when anything is wrong.

Needs Debian's python3-zstandard, python3-lz4 and python3-xxhash.
"""

import os
import struct
import sys

import lz4.block
import xxhash
import zstandard

HEADER, FOOTER, PAGE, ENTRY, EXTENT = 64, 128, 4096, 32, 12
DATA, PAGES = 1, 2
RAW, LZ4, ZSTD = 0, 1, 2
ZERO = 65535


class Damaged(Exception):
    """The image is not as the document says."""


def check(condition, what):
    if not condition:
        raise Damaged(what)


def digest(data, seed=0):
    return xxhash.xxh3_128(data, seed=seed).digest()


def unzstd(data, size):
    """Exactly one frame, of exactly this size."""
    decoder = zstandard.ZstdDecompressor().decompressobj()
    try:
        out = decoder.decompress(data)
    except zstandard.ZstdError as error:
        raise Damaged(str(error)) from None
    check(decoder.eof and not decoder.unused_data and len(out) == size, "a Zstandard frame of another size")
    return out


class Bytes:
    """What is read from the front; running out of it is damage."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        check(size <= len(self.data) - self.at, "the index is too short")
        self.at += size
        return self.data[self.at - size : self.at]

    def unpack(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def text(self, most):
        (length,) = self.unpack("H")
        check(1 <= length <= most, "a text of a wrong length")
        text = self.take(length)
        check(b"\0" not in text, "a NUL in a text")
        return text


def is_name(name):
    return b"/" not in name and name not in (b".", b"..")


class Image:
    """One file: header, footer, index. Frames are read and checked one by one."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb")
        self.size = os.fstat(self.file.fileno()).st_size
        check(self.size >= HEADER + FOOTER, "too short")
        self.read_footer(self.at(self.size - FOOTER, FOOTER))
        self.read_header(self.at(0, HEADER))
        self.read_index()
        self.cache = {}

    def at(self, offset, size):
        data = os.pread(self.file.fileno(), size, offset)
        check(len(data) == size, "too short")
        return data

    def read_footer(self, data):
        magic, version, _, size, whole = struct.unpack_from("<8sHHIQ", data)
        check(magic == b"\x89STASISF" and version == 1, "no footer of version 1")
        check(digest(data[:112]) == data[112:], "the footer's digest")
        check(size == FOOTER and whole == self.size, "sizes in the footer")
        self.digests_at, self.index_at, self.index_stored, self.index_decoded = struct.unpack_from("<QQQQ", data, 24)
        self.index_codec = data[56]
        check(self.index_codec in (RAW, ZSTD) and data[57:64] == bytes(7), "the index's codec")
        self.digests_digest, self.index_digest, self.id = data[64:80], data[80:96], data[96:112]
        check(HEADER <= self.digests_at <= self.index_at, "sections in disorder")
        check(self.index_at + self.index_stored == self.size - FOOTER, "the index's place")
        check(self.index_decoded <= 1 << 30, "the index is too large")
        if self.index_codec == RAW:
            check(self.index_stored == self.index_decoded, "the index's sizes")
        else:
            check(self.index_stored < self.index_decoded, "the index's sizes")

    def read_header(self, data):
        magic, version, _, size = struct.unpack_from("<8sHHI", data)
        check(magic == b"\x89STASIS\n" and version == 1, "no header of version 1")
        check(digest(data[:48]) == data[48:], "the header's digest")
        check(size == HEADER and data[40:48] == bytes(8), "the header")
        check(data[16:32] == self.id and any(self.id), "the ID")
        (self.seed,) = struct.unpack_from("<Q", data, 32)

    def read_index(self):
        stored = self.at(self.index_at, self.index_stored)
        check(digest(stored) == self.index_digest, "the index's digest")
        index = Bytes(stored if self.index_codec == RAW else unzstd(stored, self.index_decoded))
        n_ancestors, n_frames, n_files, zero = index.unpack("IIII")
        check(n_ancestors <= 1024 and n_frames <= 1 << 24 and n_files <= 1000000 and zero == 0, "the counts")
        check(n_files >= 1, "there are no files")
        self.ancestors = [self.read_ancestor(index) for _ in range(n_ancestors)]
        self.read_frames(index, n_frames)
        self.files = {}
        for _ in range(n_files):
            name, kind, extents = self.read_file(index)
            check(name not in self.files, "a name comes twice")
            self.files[name] = kind, extents
        check(index.at == len(index.data), "something follows the index")

    @staticmethod
    def read_ancestor(index):
        (identity, n_frames, frames) = index.unpack("16sI16s")
        name, path = index.text(255), index.text(4095)
        check(any(identity) and is_name(name) and path.startswith(b"/"), "an ancestor")
        return identity, n_frames, frames, name, path

    def read_frames(self, index, n):
        self.entries = index.take(n * ENTRY)
        self.frames, offset, pages = [], HEADER, 0
        for i in range(n):
            stored, decoded, kind, codec, zero, wanted = struct.unpack_from("<IIBB6s16s", self.entries, i * ENTRY)
            check(1 <= stored <= 1 << 22 and 1 <= decoded <= 1 << 21 and zero == bytes(6), "a frame's sizes")
            check(kind in (DATA, PAGES) and codec in (RAW, LZ4, ZSTD), "a frame's kind")
            check(codec != RAW or stored == decoded, "a frame's sizes")
            check(kind != PAGES or decoded % PAGE == 0, "a frame of pages")
            self.frames.append((offset, stored, decoded, kind, codec, wanted, pages))
            offset += stored
            pages += decoded // PAGE if kind == PAGES else 0
        check(offset == self.digests_at, "the frames' sizes")
        check(self.index_at - self.digests_at == 16 * pages, "the number of page digests")

    def read_file(self, index):
        name = index.text(255)
        check(is_name(name) and all(c >= 32 and c != 127 for c in name), "a file's name")
        kind, size, n = index.unpack("BQI")
        check(kind in (DATA, PAGES), "a file's kind")
        data = index.take(n * EXTENT)
        if kind == DATA:
            extents = list(struct.iter_unpack("<III", data))
            check(all(length >= 1 for length, _, _ in extents), "an empty extent")
            check(sum(length for length, _, _ in extents) == size, "a file's size")
        else:
            extents = list(struct.iter_unpack("<IIHH", data))
            check(all(count >= 1 for count, _, _, _ in extents), "an empty extent")
            check(sum(count for count, _, _, _ in extents) * PAGE == size, "a file's size")
        return name, kind, extents

    def frame(self, number):
        """The decoded bytes of a frame; the last ones stay in memory."""
        if number not in self.cache:
            if len(self.cache) >= 16:
                del self.cache[next(iter(self.cache))]
            self.cache[number] = self.read_frame(number)
        return self.cache[number]

    def read_frame(self, number):
        offset, stored, decoded, _, codec, wanted, _ = self.frames[number]
        data = self.at(offset, stored)
        check(digest(data) == wanted, f"the digest of frame {number}")
        if codec == ZSTD:
            data = unzstd(data, decoded)
        elif codec == LZ4:
            try:
                data = lz4.block.decompress(data, uncompressed_size=decoded)
            except lz4.block.LZ4BlockError as error:
                raise Damaged(str(error)) from None
        check(len(data) == decoded, f"the size of frame {number}")
        return data

    def check_all(self):
        """Every frame of this file, and the digest of every page."""
        digests = self.at(self.digests_at, self.index_at - self.digests_at)
        check(digest(digests) == self.digests_digest, "the digest of the page digests")
        for number, (_, _, decoded, kind, _, _, first) in enumerate(self.frames):
            data = self.read_frame(number)
            for page in range(decoded // PAGE if kind == PAGES else 0):
                wanted = digests[(first + page) * 16 : (first + page + 1) * 16]
                have = digest(data[page * PAGE : (page + 1) * PAGE], self.seed)
                check(have == wanted, f"the digest of page {page} of frame {number}")


def find_ancestor(image, ancestor):
    """Beside the image, then where it was; a symbolic link is not it."""
    identity, n_frames, frames, name, path = ancestor
    beside = os.path.join(os.path.dirname(os.path.abspath(image.path)), os.fsdecode(name))
    for place in beside, os.fsdecode(path):
        if os.path.islink(place) or not os.path.isfile(place):
            continue
        try:
            found = Image(place)
        except Damaged:
            continue
        if (
            found.id == identity
            and len(found.frames) >= n_frames
            and digest(found.entries[: n_frames * ENTRY]) == frames
        ):
            return found
    raise Damaged(f"no ancestor {os.fsdecode(name)}")


def pieces_of(sources, kind, extents):
    """The bytes of a file."""
    for extent in extents:
        if kind == DATA:
            length, number, offset = extent
            source = sources[0]
        else:
            count, number, page, which = extent
            length, offset = count * PAGE, page * PAGE
            if which == ZERO:
                check(number == 0 and page == 0, "zeros in a frame")
                yield count * PAGE
                continue
            check(which < len(sources), "an extent of no ancestor")
            source = sources[which]
            check(which == 0 or number < sources[0].ancestors[which - 1][1], "an extent of an ancestor's later frame")
        check(number < len(source.frames), "an extent of no frame")
        _, _, decoded, frame_kind, _, _, _ = source.frames[number]
        check(frame_kind == kind and offset + length <= decoded, "an extent outside of its frame")
        yield source.frame(number)[offset : offset + length]


def main():
    image = Image(sys.argv[1])
    image.check_all()
    sources = [image] + [find_ancestor(image, ancestor) for ancestor in image.ancestors]
    for name, (kind, extents) in image.files.items():
        out = None
        if len(sys.argv) > 2:
            out = open(os.path.join(os.fsencode(sys.argv[2]), name), "xb")
        size = 0
        for piece in pieces_of(sources, kind, extents):
            length = piece if isinstance(piece, int) else len(piece)
            size += length
            if out and isinstance(piece, int):
                out.seek(length, os.SEEK_CUR)  # a hole
            elif out:
                out.write(piece)
        if out:
            out.truncate(size)
            out.close()


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError) as error:
        print(f"{sys.argv[0]}: {sys.argv[1]}: {error}", file=sys.stderr)
        sys.exit(1)
