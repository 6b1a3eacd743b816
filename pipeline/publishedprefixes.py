"""The first level as it is published: the prefixes of one region and the group of each.

Idea: of a million prefixes two sorted arrays are kept, and a diff against them is a binary search.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.decide.assignment import I64, U64
from pipeline.decide.serving import U8
from pipeline.effects import Block
from pipeline.wire.tables import prefix_keys, prefix_values
from schemas.registry import STEERING_PREFIXES

#: A prefix as one comparable item: fixed-size bytes compare as (address, length) does.
KEY = np.dtype("S17")
Keys = npt.NDArray[np.bytes_]


def keys_of(prefix: U8) -> Keys:
    """A matrix of prefixes (rows x 17) as an array of comparable items, and back with
    `bytes_of`."""
    return np.ascontiguousarray(prefix).view(KEY).reshape(-1)


def bytes_of(keys: Keys) -> U8:
    """The inverse of `keys_of`."""
    return np.ascontiguousarray(keys).view(np.uint8).reshape(-1, KEY.itemsize)


@dataclass(frozen=True, slots=True)
class PrefixDiff:
    """What changes in one region's first level. set_keys with set_group uint64 and old_group uint64
    (where `known`: the prefix is published with another group); removed_keys with removed_group."""

    set_keys: Keys
    set_group: U64
    known: npt.NDArray[np.bool_]
    old_group: U64
    removed_keys: Keys
    removed_group: U64

    def __len__(self) -> int:
        return len(self.set_keys) + len(self.removed_keys)


class PublishedPrefixes:
    """The published first level of one region: keys, ascending, and group uint64 of each."""

    def __init__(self) -> None:
        self.keys: Keys = np.empty(0, KEY)
        self.group: U64 = np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self.keys)

    def diff(self, set_keys: Keys, set_group: U64, removed: Keys) -> PrefixDiff:
        """What setting and removing these (distinct) prefixes changes."""
        at, known = self._find(set_keys)
        old = np.zeros(len(set_keys), np.uint64)
        old[known] = self.group[at[known]]
        news = ~known | (old != set_group)
        gone, there = self._find(removed)
        return PrefixDiff(
            set_keys[news],
            set_group[news],
            known[news],
            old[news],
            removed[there],
            self.group[gone[there]],
        )

    def diff_to(self, keys: Keys, group: U64) -> PrefixDiff:
        """What has to change for exactly these prefixes to be published."""
        return self.diff(keys, group, np.setdiff1d(self.keys, keys, assume_unique=True))

    def apply(self, diff: PrefixDiff) -> None:
        """Take over a diff. Costs a copy of the arrays where prefixes come or go."""
        at, _ = self._find(diff.set_keys[diff.known])
        self.group[at] = diff.set_group[diff.known]
        if len(diff.removed_keys):
            gone, _ = self._find(diff.removed_keys)
            self.keys, self.group = np.delete(self.keys, gone), np.delete(self.group, gone)
        fresh = diff.set_keys[~diff.known]
        if len(fresh):
            order = np.argsort(fresh)
            at = np.searchsorted(self.keys, fresh[order])
            self.keys = np.insert(self.keys, at, fresh[order])
            self.group = np.insert(self.group, at, diff.set_group[~diff.known][order])

    def records(self, keys: Keys, region: str) -> dict[bytes, bytes]:
        """Key -> value of the records of those of these prefixes that are published."""
        at, known = self._find(keys)
        prefix = bytes_of(keys[known])
        values = prefix_values(prefix, self.group[at[known]], region)
        block = Block(STEERING_PREFIXES.name, prefix_keys(prefix, region), values)
        return {one.key: one.value or b"" for one in block.records()}

    def _find(self, keys: Keys) -> tuple[I64, npt.NDArray[np.bool_]]:
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return at, self.keys[at] == keys
