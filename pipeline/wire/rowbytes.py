"""Rows of bytes, written field by field, each field for all rows at once: what makes records of
columns without a Python object per record.

Rows are laid out in a matrix wide enough for the longest, and a mask of their lengths squeezes the
padding out. Which fields a record has says tables.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows of bytes: a matrix with room for the longest, and how many count of each."""

    rows: U8
    size: I64

    @classmethod
    def of(cls, texts: list[bytes]) -> "Texts":
        width = max(map(len, texts), default=0)
        joined = b"".join(text.ljust(width, b"\0") for text in texts)
        matrix = np.frombuffer(joined, np.uint8).reshape(len(texts), width)
        return cls(matrix, np.array([len(text) for text in texts], np.int64))

    @classmethod
    def strings(cls, texts: Iterable[str]) -> "Texts":
        """As Avro writes strings."""
        return cls.of([string(text) for text in texts])

    @classmethod
    def pairs(cls, texts: Iterable[tuple[str, str]]) -> "Texts":
        """Two strings a row."""
        return cls.of([string(one) + string(other) for one, other in texts])

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])


class Rows:
    """A matrix of rows that are written left to right, some rows at a time."""

    def __init__(self, height: int, width: int) -> None:
        self._matrix = np.zeros((height, width), np.uint8)
        self._flat = self._matrix.reshape(-1)
        self._size = np.zeros(height, np.int64)
        self._row = np.empty(0, np.int64)
        self._width = width

    def at(self, rows: I64) -> None:
        """The rows that what follows is written to."""
        self._row = rows

    def paste(self, block: U8, size: I64 | None = None) -> None:
        """Start the rows with those of `block`, of which `size` bytes count."""
        self._matrix[self._row, : block.shape[1]] = block
        self._size[self._row] = block.shape[1] if size is None else size

    def append(self, texts: Texts, which: I64) -> None:
        """Append some of these texts; there is room for the longest of them."""
        place = self._size[self._row] + self._row * self._width
        self._flat[place[:, None] + np.arange(texts.width)] = texts.rows[which]
        self._size[self._row] += texts.size[which]

    def varint(self, values: npt.NDArray[np.number]) -> None:
        """Append zigzag varints (values not negative)."""
        self._varint(self._row, values.astype(np.int64) << 1)

    def optional(self, values: npt.NDArray[np.integer]) -> None:
        """Append a ["null", "long"]: -1 is null."""
        present = values >= 0
        self._varint(self._row, present.astype(np.int64) << 1)
        self._varint(self._row[present], values[present].astype(np.int64) << 1)

    def _varint(self, row: I64, rest: I64) -> None:
        position = self._size[row] + row * self._width
        while True:
            more = rest > 0x7F
            self._flat[position] = (rest & 0x7F) | (more.astype(np.int64) << 7)
            self._size[row] += 1
            if not more.any():
                return
            row, rest, position = row[more], rest[more] >> 7, position[more] + 1

    def join(self, tops: I64) -> Iterator[bytes]:
        """The records: rows from one top to the next, without the padding."""
        data = self._matrix[np.arange(self._width) < self._size[:, None]].tobytes()
        ends = np.cumsum(np.add.reduceat(self._size, tops)).tolist()
        start = 0
        for end in ends:
            yield data[start:end]
            start = end


def pad(matrix: U8, before: bytes, after: bytes) -> U8:
    """`matrix` with the same bytes in front of and behind every row."""
    width = len(before) + matrix.shape[1] + len(after)
    out = np.empty((len(matrix), width), np.uint8)
    out[:, : len(before)] = np.frombuffer(before, np.uint8)
    out[:, len(before) : len(before) + matrix.shape[1]] = matrix
    out[:, width - len(after) :] = np.frombuffer(after, np.uint8)
    return out


def string(text: str) -> bytes:
    """As Avro writes a string."""
    data = text.encode()
    return varint(len(data)) + data


@lru_cache(maxsize=1 << 16)
def known(text: str) -> bytes:
    """The same of what is written again and again."""
    return string(text)


@lru_cache(maxsize=1 << 16)
def varint(value: int) -> bytes:
    """As Avro writes a long (not negative)."""
    rest, out = value << 1, bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    return bytes((*out, rest))
