"""What a step wants done: plain data; the shell carries it out in order and closes it by the
Epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.wire.rows import Refused

_CHUNK = 8192  # rows whose bytes are copied together


@dataclass(frozen=True, slots=True)
class Record:
    """One record to be published; `value` None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Block:
    """Many records of equal size on one topic, as bytes matrices (rows x bytes): a whole prefix
    table is made and sent without a Python object per prefix until the socket. `values` None:
    tombstones."""

    topic: str
    keys: npt.NDArray[np.uint8]
    values: npt.NDArray[np.uint8] | None

    def __len__(self) -> int:
        return int(self.keys.shape[0])

    def records(self) -> Iterator[Record]:
        """The same, one by one."""
        width, size = self.keys.shape[1], 0 if self.values is None else self.values.shape[1]
        for first in range(0, len(self), _CHUNK):
            keys = self.keys[first : first + _CHUNK].tobytes()
            values = b"" if self.values is None else self.values[first : first + _CHUNK].tobytes()
            for row in range(len(keys) // width):
                value = None if self.values is None else values[row * size : (row + 1) * size]
                yield Record(self.topic, keys[row * width : (row + 1) * width], value)


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One change of mind, before it is encoded."""

    kind: str
    entity: str
    from_state: str
    to_state: str
    reason: str
    detail: str = ""


@dataclass(slots=True)
class EpochDraft:
    """The Epoch of a cut but for what only the shell knows: output ends and how late it was.
    `loads`: sites of which steering.sites tells; the Epoch itself does not say."""

    table_hash: int = 0
    prefixes: int = 0
    groups: int = 0
    sites: int = 0
    loads: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    folded: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Effects:
    """What one cut publishes. `tables`: lb.weights, steering.groups, steering.prefixes, then
    steering.sites; `prices`: for other cells, each with its partition."""

    tables: list[Record | Block] = field(default_factory=list)
    verdicts: list[VerdictRow] = field(default_factory=list)
    prices: list[tuple[int, Record]] = field(default_factory=list)
    refused: dict[str, list[Refused]] = field(default_factory=dict)
    epoch: EpochDraft = field(default_factory=EpochDraft)
