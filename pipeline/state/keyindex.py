"""A map from integer keys to dense ids, in arrays: what a dict is, for a million keys at a time.

Idea: routes, prefixes, rankings and groups all need "which number did this key get?" for whole
columns at once, and again for a thousand keys against a million known ones, in time that goes with
the thousand.
Rule: open addressing with linear probing. A slot holds the id, the keys stand densely by id, and
every probing round is a handful of array operations over the keys still looking for their place.
Keys are compared in full, so a hash collision costs a round and never an error. Ids count up from
0 in the order in which the keys were first given.
Measured for 3 million keys of one column on a 2-core machine: 0.9 s to insert (growth included),
0.2 s to find, 8 bytes a key for the key itself and 8 to 16 for its slots. A thousand among them:
0.3 ms.
Rejected: a Python dict (106 bytes and 0.4 us a key, one by one); a sorted array with a sorted
delta (a merge for every cut, and no order of three columns that `searchsorted` understands); a
polars join (builds its hash table over all known keys anew for every thousand asked).
Limits: keys are never taken out; the owner builds a new index when most of its keys are dead. The
key that doubles the slots pays for placing all anew (about half a second for four million).
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.state.codec import Digests, Grown

Ids32 = npt.NDArray[np.int32]
Column = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

_EMPTY = -1
#: So few keys look at so many slots in a round.
_FEW, _AHEAD = 1024, 8
#: Keys probed together: their temporaries stay in the second-level cache.
_BLOCK = 1 << 15
_U64 = np.uint64
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # golden ratio; xxHash's primes


def grown(array: Column, size: int, fill: int | float = 0) -> Column:
    """`array` if it holds `size` elements, else a copy at least twice as long, `fill` behind."""
    if len(array) >= size:
        return array
    out = np.empty(max(size, 2 * len(array)), dtype=array.dtype)
    out[: len(array)] = array
    out[len(array) :] = fill
    return out


def distinct(array: Column) -> Column:
    """The values of an integer array, ascending, each once (np.unique: 35 times as long)."""
    ordered = np.sort(array)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return ordered[fresh]


def mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each word stirred so that every bit depends on all (splitmix64's finaliser, Steele 2014)."""
    words = (words ^ (words >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> _U64(27))) * _U64(0x94D049BB133111EB)
    return words ^ (words >> _U64(31))


class KeyIndex:
    """Dense ids for keys of one to three unsigned columns, e.g. `KeyIndex(np.uint64, np.uint8)`."""

    def __init__(self, *dtypes: type[np.unsignedinteger[Any]]) -> None:
        self._columns: list[Column] = [np.empty(1024, dtype=dtype) for dtype in dtypes]
        self._slots: Ids32 = np.full(4096, _EMPTY, dtype=np.int32)
        self._count = 0
        self._digests = [Digests() for _ in dtypes]

    @classmethod
    def of(cls, *columns: Column) -> Self:
        """An index of these keys (each once), whose columns it takes over: ids in the order of the
        rows. A quarter of the time of `intern`, for nothing has to be looked for."""
        index = cls(*(column.dtype.type for column in columns))
        index._columns, index._count = list(columns), len(columns[0])
        slots = len(index._slots)
        while slots < 2 * index._count:
            slots *= 2
        index._fill(slots)
        return index

    def __len__(self) -> int:
        return self._count

    def column(self, number: int) -> Column:
        """One column of the keys, by id: a view, to be read only."""
        return self._columns[number][: self._count]

    def field(self, number: int) -> Grown:
        """One column of the keys for a snapshot."""
        return self._digests[number].of(self.column(number))

    def fields(self) -> dict[str, Grown]:
        """The key columns by number, for a snapshot; `of` makes the index from them."""
        return {str(number): self.field(number) for number in range(len(self._columns))}

    def find(self, *keys: Column) -> Ids32:
        """The ids of equally long key columns; -1 where a key is unknown."""
        out = np.empty(len(keys[0]), dtype=np.int32)
        for start in range(0, len(out), _BLOCK):
            block = slice(start, start + _BLOCK)
            part = [column[block] for column in keys]
            self._probe(part, self._home(part), out[block])
        return out

    def intern(self, *keys: Column, where: Mask | None = None) -> Ids32:
        """The ids of equally long key columns; unknown keys get the next ones, in order: all, or
        those of the rows `where` alone, and the others stay -1."""
        out, known = np.empty(len(keys[0]), dtype=np.int32), self._count
        for start in range(0, len(out), _BLOCK):
            block = slice(start, start + _BLOCK)
            part, found = [column[block] for column in keys], out[block]
            at = self._probe(part, self._home(part), found)
            unknown = found == _EMPTY
            fresh = (unknown if where is None else unknown & where[block]).nonzero()[0]
            if len(fresh):
                found[fresh] = self._insert([column[fresh] for column in part], at[fresh])
        if where is not None and self._count > known:  # some may be known by now
            late = (out == _EMPTY).nonzero()[0]
            out[late] = self.find(*(column[late] for column in keys))
        return out

    def _probe(self, keys: list[Column], home: Column, out: Ids32) -> Column:
        """Write the ids of these keys to `out`, -1 where one is unknown; returns the slot where
        each was found, or the empty one where looking for it ended. The first round takes all keys
        as they are: with slots half empty most of them are told by it. When few are left a round
        looks at several slots of each, for then it costs the same however many there are."""
        if not self._count:
            out[:] = _EMPTY
            return home
        mask = len(self._slots) - 1
        ids = self._slots[home]
        other = self._differs(keys, ids)
        out[:] = np.where(other, _EMPTY, ids)  # of an empty slot: -1 either way
        todo = (other & (ids != _EMPTY)).nonzero()[0]
        if not len(todo):
            return home
        ended, at = home.copy(), home[todo]
        keys = [column[todo][:, None] for column in keys]
        while True:
            width = 1 if len(todo) > _FEW else _AHEAD
            slots = (at[:, None] + np.arange(1, width + 1)) & mask
            ids = self._slots[slots]
            other = self._differs(keys, ids)
            on = other & (ids != _EMPTY)
            last = np.arange(len(todo)), on.argmin(axis=1)  # 0 where none is the last one
            out[todo] = np.where(other[last], _EMPTY, ids[last])
            ended[todo] = slots[last]
            more = on[last].nonzero()[0]
            if not len(more):
                return ended
            todo, at = todo[more], slots[more, -1]
            keys = [column[more] for column in keys]

    def _insert(self, keys: list[Column], at: Column) -> Ids32:
        """Ids of keys that are not known yet but may stand here more than once; `at`: the empty
        slots where looking for them ended."""
        if self._reserve(self._count + len(keys[0])):
            at = self._home(keys)
        # The keys go behind the known ones with provisional ids; twins then yield to the one that
        # won the slot, and the winners close up in order of appearance.
        base, amount = self._count, len(keys[0])
        for number, column in enumerate(keys):
            self._columns[number][base : base + amount] = column
        winner, slot = self._place(keys, at, base)
        mine = np.arange(amount) == winner
        if mine.all():
            self._count = base + amount
            return np.arange(base, base + amount, dtype=np.int32)
        rank = np.cumsum(mine) - 1
        ids = (base + rank[winner]).astype(np.int32)
        kept = mine.nonzero()[0]
        self._slots[slot[kept]] = ids[kept]
        for number, column in enumerate(keys):
            self._columns[number][base : base + len(kept)] = column[kept]
        self._count = base + len(kept)
        return ids

    def _place(self, keys: list[Column], at: Column, base: int) -> tuple[Column, Column]:
        """Put ids base, base + 1, ... into slots, of which those before `at` are known to hold
        other keys: per key the row of its winner, and the slot."""
        mask = len(self._slots) - 1
        todo = np.arange(len(at))
        winner, slot = todo.copy(), at.copy()
        while len(todo):
            free = (self._slots[at] == _EMPTY).nonzero()[0][::-1]
            self._slots[at[free]] = base + todo[free]
            ids = self._slots[at]
            settled = ids == base + todo
            if not settled.all():
                other = (~settled).nonzero()[0]
                settled[other] = ~self._differs(
                    [column[todo[other]] for column in keys], ids[other]
                )
            done = todo[settled]
            winner[done], slot[done] = ids[settled] - base, at[settled]
            on = (~settled).nonzero()[0]
            todo, at = todo[on], (at[on] + 1) & mask
        return winner, slot

    def _differs(self, keys: list[Column], ids: Ids32) -> npt.NDArray[np.bool_]:
        """Which keys are not those with these ids (of no meaning where an id is -1)."""
        differs: npt.NDArray[np.bool_] = self._columns[0][ids] != keys[0]
        for known, column in zip(self._columns[1:], keys[1:], strict=True):
            differs |= known[ids] != column
        return differs

    def _home(self, keys: list[Column]) -> npt.NDArray[np.int64]:
        words = keys[0].astype(np.uint64) * _U64(_ODD[0])
        for column, odd in zip(keys[1:], _ODD[1:], strict=False):
            words = (words ^ (words >> _U64(32))) + column.astype(np.uint64) * _U64(odd)
        return (mix(words) & _U64(len(self._slots) - 1)).astype(np.int64)

    def _reserve(self, size: int) -> bool:
        """Room for `size` keys at a load of at most a half; whether all were placed anew."""
        self._columns = [grown(column, size) for column in self._columns]
        if 2 * size <= len(self._slots):
            return False
        slots = len(self._slots)
        while slots < 2 * size:
            slots *= 2
        self._fill(slots)
        return True

    def _fill(self, slots: int) -> None:
        """Place all keys anew, into so many slots. In the order of their homes each goes to its
        own or behind the one before it; what is pushed over the end begins anew at the front. All
        but the sort goes block by block: this is when an index takes most memory."""
        self._slots = np.empty(0, dtype=np.int32)  # the old ones make room
        self._slots = np.full(slots, _EMPTY, dtype=np.int32)
        packed = np.empty(self._count, dtype=np.uint64)
        for start in range(0, self._count, _BLOCK):
            stop = min(start + _BLOCK, self._count)
            home = self._home([column[start:stop] for column in self._columns])
            packed[start:stop] = home.astype(np.uint64) << _U64(32)
            packed[start:stop] |= np.arange(start, stop, dtype=np.uint64)
        packed.sort()
        beyond, ahead = [np.empty(0, dtype=np.int32)], np.int64(0)
        for start in range(0, self._count, _BLOCK):
            block = packed[start : start + _BLOCK]
            row = np.arange(start, start + len(block))
            at = (block >> _U64(32)).astype(np.int64) - row
            at[0] = max(at[0], ahead)
            at = np.maximum.accumulate(at)
            ahead, at = at[-1], at + row
            ids = block.astype(np.uint32).astype(np.int32)
            inside = int(np.searchsorted(at, slots))
            self._slots[at[:inside]] = ids[:inside]
            beyond.append(ids[inside:])
        pushed = np.concatenate(beyond)
        if len(pushed):
            free = (self._slots[: self._count] == _EMPTY).nonzero()[0]
            self._slots[free[: len(pushed)]] = pushed
