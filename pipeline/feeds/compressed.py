"""Files as they come: plain, gzip or bzip2, told by their first bytes, read in bounded pieces.

Idea: an archive's file may be cut off, damaged, or several members one after another. Whatever can
be decompressed is handed on; what is wrong is said in `damage`, and never raised.
Rejected: the standard library's file objects (`gzip.open`), which raise at the damage and lose what
the same read had already decompressed.
"""

import bz2
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

#: Bytes read from the file at once; compression of 100 to 1 makes this a few MiB at most.
PIECE_BYTES = 64 * 1024
#: Bytes handed on at once at most, so that a bomb cannot fill the memory.
OUTPUT_BYTES = 1 << 20

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"


class _Member(Protocol):
    """One member of a compressed file. `feed` raises zlib.error or OSError at damage."""

    ended: bool
    rest: bytes

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _GzipMember:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._inflate.eof:
            before = self._inflate.copy()  # an error throws away what this call had got so far
            try:
                output = self._inflate.decompress(data, OUTPUT_BYTES)
            except zlib.error:
                yield _salvage(before, data)
                raise
            data = self._inflate.unconsumed_tail
            if output:
                yield output
        self.ended, self.rest = self._inflate.eof, self._inflate.unused_data


def _salvage(inflate: "zlib._Decompress", data: bytes) -> bytes:
    """All that can be had of `data` before the byte at which it stops making sense."""
    output = bytearray()
    try:
        for at in range(len(data)):
            output += inflate.decompress(data[at : at + 1])
    except zlib.error:
        pass
    return bytes(output)


class _Bzip2Member:
    def __init__(self) -> None:
        self._expand = bz2.BZ2Decompressor()
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        output = self._expand.decompress(data, OUTPUT_BYTES)
        while output:
            yield output
            if self._expand.eof or self._expand.needs_input:
                break
            output = self._expand.decompress(b"", OUTPUT_BYTES)
        self.ended = self._expand.eof
        self.rest = self._expand.unused_data if self.ended else b""


class Source:
    """One file, decompressed. `read_bytes`: how much of the file was read so far, `size_bytes`: of
    how much; `damage`: what was wrong with it, empty when it was whole. OSError when it cannot be
    opened or read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = path.stat().st_size
        self.read_bytes = 0
        self.damage = ""

    def chunks(self) -> Iterator[bytes]:
        """The content, in pieces of at most OUTPUT_BYTES."""
        with self.path.open("rb") as file:
            pieces = iter(lambda: file.read(PIECE_BYTES), b"")
            first = next(pieces, b"")
            self.read_bytes = len(first)
            if first.startswith((_GZIP, _BZIP2)):
                yield from self._expand(first, pieces)
                return
            yield first
            for piece in pieces:
                self.read_bytes += len(piece)
                yield piece

    def _expand(self, piece: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        member: _Member | None = None
        while True:
            if member is None:
                if len(piece) < 3:
                    piece += next(pieces, b"")
                piece = piece.lstrip(b"\0")  # padding between members and at the end
                member = _member(piece)
                if member is None:
                    self.damage = f"{len(piece)} bytes or more behind the end" if piece else ""
                    return
            try:
                yield from member.feed(piece)
            except (zlib.error, OSError) as error:
                self.damage = str(error)
                return
            if member.ended:
                piece, member = member.rest, None
                continue
            piece = next(pieces, b"")
            self.read_bytes += len(piece)
            if not piece:
                self.damage = "the compressed file is cut off"
                return


def _member(start: bytes) -> _Member | None:
    if start.startswith(_GZIP):
        return _GzipMember()
    if start.startswith(_BZIP2):
        return _Bzip2Member()
    return None
