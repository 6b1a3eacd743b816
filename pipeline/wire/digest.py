"""The raw records that a cut took: one by one for dead letters, as one number for the Epoch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xxhash


def digest_of(pieces: Iterable[Sequence[bytes | None]]) -> str:
    """xxh3_64 over values in order of offset, 16 hex digits; the same for any division into
    pieces. A tombstone adds nothing."""
    state = xxhash.xxh3_64()
    for values in pieces:
        try:
            state.update(b"".join(values))  # type: ignore[arg-type]  # a tombstone raises
        except TypeError:
            state.update(b"".join(value or b"" for value in values))
    return state.hexdigest()


@dataclass(slots=True)
class Raw:
    """The raw records of one topic between two cuts: for dead letters and for the digest."""

    offsets: list[npt.NDArray[np.int64]] = field(default_factory=list)
    values: list[list[bytes | None]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.values))

    def at(self, offset: int) -> bytes:
        """The record at `offset`; empty for a tombstone or where nothing is."""
        for offsets, values in zip(self.offsets, self.values, strict=True):
            index = int(np.searchsorted(offsets, offset))
            if index < len(offsets) and offsets[index] == offset:
                return values[index] or b""
        return b""

    def digest(self) -> str:
        """As `digest_of`; the same for any chunking."""
        return digest_of(self.values)
