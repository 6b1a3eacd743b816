"""Sections of a snapshot as bytes and back: named arrays and small values, no pickle.

Idea: what a section remembers is mostly columns, so its bytes are those columns as they lie in
memory, behind an index that says where each is.
Format: `edgeSNP` and the format's number in a byte; length of the index (uint64); the index, JSON:
[section, [[field, dtype, shape] or [field, value], ...]], filled up with spaces; the arrays,
little-endian, in C order, each filled up with zeros; the sums: size and xxh3_64 of each piece of at
most 256 KiB, how many there are, and the xxh3_64 of these. Everything begins at a multiple of 8
bytes. The same fields give the same bytes: the order is the caller's, nothing of a dictionary's or
a hash's.
Reading checks the sums before it believes anything else; what is damaged, cut off, of another
section or of another format is a SnapshotError that says which.
Rejected: pickle (runs what it reads); npz (time stamps, a file system in a file); Arrow (no
matrices, and its bytes change with its version); compression (ten times as slow as the snapshot;
where bytes matter the log can compress).
"""

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import xxhash

from pipeline.errors import SnapshotError

#: Changes with the format, or with the fields of any section.
FORMAT = 7
_MAGIC = b"edgeSNP" + bytes([FORMAT])
_WORD = 8
#: What is summed, and written, as one: far below the limit of a message (1 MiB unless told
#: otherwise).
PIECE_BYTES = 256 << 10
_KINDS = "biufS"  # booleans, integers, floats, bytes of fixed size

#: An array, or what JSON can say: None, booleans, integers of 64 bits, floats, text, lists, maps.
Value = Any


class Fields(dict[str, Value]):
    """The fields of a section by name; SnapshotError for one that it does not have."""

    def __init__(self, section: str, fields: Mapping[str, Value] | Iterable[tuple[str, Value]]):
        super().__init__(fields)
        self.section = section

    def __missing__(self, name: str) -> Value:
        raise SnapshotError(self.section, f"has no field {name}")

    def part(self, name: str) -> "Fields":
        """What `within(name, ...)` put in, under its own names."""
        start = f"{name}."
        inner = ((key[len(start) :], self[key]) for key in self if key.startswith(start))
        return Fields(f"{self.section}/{name}", inner)


def within(name: str, fields: Mapping[str, Value]) -> dict[str, Value]:
    """Fields of a part of a section, named after it."""
    return {f"{name}.{key}": value for key, value in fields.items()}


class Piece(NamedTuple):
    """A piece of a section: the number of its part, its own number there, its bytes, their xxh3."""

    part: int
    number: int
    data: memoryview
    digest: int


class Grown(NamedTuple):
    """An array as a field, and the digests of its whole pieces as far as they are known."""

    array: npt.NDArray[Any]
    digests: list[int]


class Digests:
    """What to give with an array that only grows at its end: the digest of a piece is made once, so
    that a snapshot does not walk over what it knows. Whoever changes what is there already takes a
    new one of these; PIECE_BYTES and the dtype must stay the same."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: list[int] = []

    def of(self, array: npt.NDArray[Any]) -> Grown:
        """The array as a field."""
        return Grown(array, self._known)


class Packed:
    """The bytes of a section, not yet joined: the index, then two parts for each array (its bytes,
    and what fills them up), then the sums. Arrays are seen where they lie, so it is good only until
    the section changes; whoever keeps it copies (`bytes`), and whoever wants to know what changed
    need not: every piece has its digest, and is read only once for it."""

    __slots__ = ("checksum", "pieces")

    def __init__(self, parts: list[tuple[memoryview, list[int] | None]]) -> None:
        """`parts`: each with the digests of its whole pieces, as far as they are known, to which
        the others are added; None where nothing is to be remembered."""
        self.pieces = [piece for number, part in enumerate(parts) for piece in _cut(number, *part)]
        sums = np.array([(len(one.data), one.digest) for one in self.pieces], "<u8").tobytes()
        sums += len(self.pieces).to_bytes(_WORD, "little")
        self.checksum = xxhash.xxh3_64_intdigest(sums)
        tail = sums + self.checksum.to_bytes(_WORD, "little")
        self.pieces += _cut(len(parts), memoryview(tail), None)

    def __bytes__(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)


def _cut(number: int, part: memoryview, known: list[int] | None) -> Iterator[Piece]:
    for nth, at in enumerate(range(0, len(part), PIECE_BYTES)):
        data = part[at : at + PIECE_BYTES]
        if known is None or len(data) < PIECE_BYTES:
            digest = xxhash.xxh3_64_intdigest(data)
        else:
            if nth == len(known):
                known.append(xxhash.xxh3_64_intdigest(data))
            digest = known[nth]
        yield Piece(number, nth, data, digest)


def pack(section: str, fields: Mapping[str, Value]) -> Packed:
    """The bytes of a section. TypeError for what neither JSON nor the format knows."""
    index: list[list[Value]] = []
    arrays: list[tuple[memoryview, list[int] | None]] = []
    for name, value in fields.items():
        known: list[int] | None = None
        if isinstance(value, Grown):
            value, known = value
        if not isinstance(value, np.ndarray):
            index.append([name, value])
            continue
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"{section}.{name}: no dtype for a snapshot: {value.dtype}")
        flat = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).reshape(-1)
        index.append([name, flat.dtype.str, list(value.shape)])
        # Two parts also where one is empty: so the n-th part is always of the same field.
        arrays.append((flat.view(np.uint8).data if flat.size else memoryview(b""), known))
        arrays.append((memoryview(bytes(-flat.nbytes % _WORD)), None))
    text = orjson.dumps([section, index])
    text += b" " * (-len(text) % _WORD)
    head = _MAGIC + len(text).to_bytes(_WORD, "little") + text
    return Packed([(memoryview(head), None), *arrays])


def unpack(section: str, data: bytes) -> Fields:
    """The fields of a section from its bytes; arrays are copies that may be written to."""
    if data[: len(_MAGIC) - 1] != _MAGIC[:-1]:
        raise SnapshotError(section, f"no snapshot: it begins with {data[:8]!r}")
    if data[: len(_MAGIC)] != _MAGIC:
        found = data[len(_MAGIC) - 1 : len(_MAGIC)]
        raise SnapshotError(section, f"of format {found.hex() or 'cut off'}, not {FORMAT:02x}")
    body = _checked(section, memoryview(data))
    try:
        start = 2 * _WORD + int.from_bytes(data[_WORD : 2 * _WORD], "little")
        name, index = orjson.loads(body[2 * _WORD : start])
        fields = Fields(section, _fields(index, body[start:]))
    except (ValueError, TypeError) as error:
        raise SnapshotError(section, f"its index cannot be read: {error}") from error
    if name != section:
        raise SnapshotError(section, f"another section: {name}")
    return fields


def checksum_of(data: bytes) -> int:
    """The checksum that the bytes of a section carry."""
    return int.from_bytes(data[-_WORD:], "little")


def _checked(section: str, data: memoryview) -> memoryview:
    """What stands before the sums, once every piece has the digest that they say."""
    count = int.from_bytes(data[-2 * _WORD : -_WORD], "little")
    sums = data[-(2 + 2 * count) * _WORD : -_WORD]
    if len(sums) == (1 + 2 * count) * _WORD and len(data) > len(sums) + _WORD:
        body, at = data[: -len(sums) - _WORD], 0
        if xxhash.xxh3_64_intdigest(sums) == checksum_of(bytes(data[-_WORD:])):
            for size, digest in np.frombuffer(sums[:-_WORD], "<u8").reshape(-1, 2).tolist():
                if xxhash.xxh3_64_intdigest(body[at : at + size]) != digest:
                    raise SnapshotError(section, f"damaged: the {size} bytes from byte {at} on")
                at += size
            if at == len(body):
                return body
    raise SnapshotError(section, f"damaged: the sums at the end of its {len(data)} bytes are wrong")


def _fields(index: list[list[Value]], data: memoryview) -> Iterable[tuple[str, Value]]:
    at = 0
    for name, *what in index:
        if len(what) == 1:
            yield name, what[0]
            continue
        dtype, shape = np.dtype(what[0]), tuple(what[1])
        if dtype.kind not in _KINDS:
            raise ValueError(f"{name} is of {dtype}")
        size = prod(shape)
        array = np.frombuffer(data, dtype, size, at) if size else np.empty(0, dtype)
        yield name, array.reshape(shape).copy()
        at += array.nbytes + -array.nbytes % _WORD
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes more than its arrays have")


def blobs(values: Iterable[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Byte strings as fields."""
    listed = list(values)
    return {
        "length": np.array([len(value) for value in listed], np.int64),
        "bytes": np.frombuffer(b"".join(listed), np.uint8),
    }


def blobs_of(fields: Fields) -> list[bytes]:
    """The inverse of `blobs`."""
    ends = np.cumsum(fields["length"]).tolist()
    joined = fields["bytes"].tobytes()
    return [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
