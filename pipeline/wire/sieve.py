"""Which of many joined records are whole: all walked at once, field by field, in NumPy.

Idea: the native reader stops at the first damaged record of a chunk and does not say which.
Instead of asking it again and again with smaller parts (each failure may be a panic, which writes
to stderr), one cursor per record steps through its own bytes; a cursor that leaves its record, or
meets a length, index or number that its type does not have, marks the record as unsound.

Rule: sound means that the walk of `strict` would pass it, but for UTF-8, which is not looked at.
Unsound means no more than suspected: arrays of many items and blocks are given up on. Some 1 to 2
µs a record, so it runs only over chunks that failed, and over the fields up to the last union of a
schema that has one: the native reader takes every index but 0 for "there is a value".

Rejected: halving alone (each damaged record costs a dozen reads and a panic or more); silencing
file descriptor 2 around the reads (it belongs to the whole process, not to this room).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

VARINT_MAX = 10
#: Items of one array, and blocks, that are stepped through before a record is given up on.
ROUNDS_MAX = 256
_RANGES = {"int": (-(1 << 31), (1 << 31) - 1)}
_SIZES = {"null": 0, "float": 4, "double": 8}

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def sound(
    types: Iterable[Any], joined: bytes, starts: Ints, ends: Ints, *, whole: bool = True
) -> Mask:
    """For each record, the bytes `starts` to `ends` of `joined`: whether it is of these field types
    and (`whole`) nothing follows."""
    buffer = np.frombuffer(joined or b"\0", dtype=np.uint8)
    cursors = _Cursors(buffer, starts.copy(), ends, np.ones(len(starts), dtype=bool))
    for kind in types:
        cursors.value(kind)
    reached = cursors.at == ends if whole else cursors.at <= ends
    return cursors.fine & reached


class _Cursors:
    """`at`: the next byte of each record. `fine`: nothing wrong so far. A cursor never goes back,
    so one that left its record cannot end where that ends, whatever it reads on the way."""

    def __init__(self, buffer: npt.NDArray[np.uint8], at: Ints, end: Ints, fine: Mask) -> None:
        self.buffer, self.at, self.end, self.fine = buffer, at, end, fine

    def some(self, which: Ints) -> "_Cursors":
        """Copies of some of them, to be put back by `merge`."""
        return _Cursors(self.buffer, self.at[which], self.end[which], self.fine[which])

    def merge(self, which: Ints, part: "_Cursors") -> None:
        self.at[which], self.fine[which] = part.at, part.fine

    def byte(self, at: Ints) -> npt.NDArray[np.uint8]:
        return self.buffer.take(at, mode="clip")

    def skip(self, size: Ints) -> None:
        self.fine &= size >= 0
        self.at += np.clip(size, 0, len(self.buffer))

    def varint(self) -> Ints:
        byte = self.byte(self.at)
        value = byte.astype(np.uint64)
        self.at += 1
        more = np.flatnonzero(byte > 0x7F)
        if len(more):
            value[more] &= np.uint64(0x7F)
        for position in range(1, VARINT_MAX):
            if not len(more):
                break
            byte = self.byte(self.at[more])
            value[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * position)
            self.at[more] += 1
            more = more[byte > 0x7F]
        self.fine[more] = False
        return (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64)

    def within(self, least: int, greatest: int) -> Ints:
        value = self.varint()
        self.fine &= (value >= least) & (value <= greatest)
        return value

    def value(self, kind: Any) -> None:
        if isinstance(kind, list):
            self.union(kind)
        elif isinstance(kind, dict):
            self.complex(kind)
        elif kind in _SIZES:
            self.at += _SIZES[kind]
        elif kind in ("string", "bytes"):
            self.skip(self.varint())
        elif kind == "boolean":
            self.fine &= self.byte(self.at) < 2
            self.at += 1
        elif kind in _RANGES:
            self.within(*_RANGES[kind])
        else:
            self.varint()

    def complex(self, kind: dict[str, Any]) -> None:
        if kind["type"] == "enum":
            self.within(0, len(kind["symbols"]) - 1)
        elif kind["type"] == "fixed":
            self.at += kind["size"]
        elif kind["type"] == "record":
            for field in kind["fields"]:
                self.value(field["type"])
        else:
            self.array(kind["items"])

    def union(self, branches: list[Any]) -> None:
        index = self.within(0, len(branches) - 1)
        for number, branch in enumerate(branches):
            which = np.flatnonzero(self.fine & (index == number))
            if branch != "null" and len(which):
                part = self.some(which)
                part.value(branch)
                self.merge(which, part)

    def array(self, items: Any) -> None:
        active = np.flatnonzero(self.fine)
        left = np.zeros(len(active), dtype=np.int64)
        for _ in range(ROUNDS_MAX):
            if not len(active):
                return
            part = self.some(active)
            left = part.block(left)
            taking = np.flatnonzero(left > 0)
            inner = part.some(taking)
            inner.value(items)
            part.merge(taking, inner)
            self.merge(active, part)
            self.fine[active[left < 0]] = False
            going = part.fine & (left > 0) & (part.at <= part.end)
            active, left = active[going], left[going] - 1
        self.fine[active] = False

    def block(self, left: Ints) -> Ints:
        """Items left of the current block; where none are, those of the next one (0: the end)."""
        opening = np.flatnonzero(left == 0)
        part = self.some(opening)
        count = part.varint()
        sized = np.flatnonzero(count < 0)
        inner = part.some(sized)
        inner.varint()
        part.merge(sized, inner)
        self.merge(opening, part)
        left = left.copy()
        left[opening] = np.abs(count)  # of the least number there is: stays negative, given up on
        return left
