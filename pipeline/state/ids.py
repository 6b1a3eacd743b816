"""Dense integer ids for names, so that everything behind the fold is an array.

Rule: an id is given at first sight, in the order of the log, and never taken back: what was
removed and comes again is the same row. A name may get its id by being referred to before its own
record comes, so the order of records inside a topic does not matter; `alive` columns say what
really is.
Names of a long column are looked up by a hash that polars makes of them, and each is compared with
the name that was found. Five thousand among two thousand, on a busy machine: 0.7 ms.
Rejected: a dictionary lookup per row where there are many (5 ms, and a Python object each); a join
(3 ms, most of it to get going); a cast to an Enum of the names (2 ms) or to Categorical (0.6 ms,
with no way to its numbers but another 0.3, and never forgotten).
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.wire.rowbytes import Texts

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

ID_BYTES_MAX = 255
#: Values of one column that are looked up one by one.
FEW = 1024
#: Slots for each name: of so many names about one shares its slot, and is looked up one by one.
_SPARE = 32
#: Control, format, unassigned and private characters, line breaks; "|" parts the fields of keys.
_UNPRINTABLE = r"[\p{C}\p{Zl}\p{Zp}|]"


def bad_ids(series: pl.Series, *, optional: bool = False) -> Bool:
    """Mask of identifiers nobody may have: empty (unless `optional`), over-long, unprintable."""
    length = series.str.len_bytes().fill_null(0)
    bad = (length > ID_BYTES_MAX) | series.str.contains(_UNPRINTABLE).fill_null(value=False)
    if not optional:
        bad = bad | (length == 0)
    return bad.to_numpy()


def grown(array: npt.NDArray[T], size: int, fill: float) -> npt.NDArray[T]:
    """`array` at exactly `size` rows: itself when it has them, else a copy with `fill` behind."""
    if array.shape[0] >= size:
        return array
    bigger = np.full((size, *array.shape[1:]), fill, dtype=array.dtype)
    bigger[: array.shape[0]] = array
    return bigger


class Ids:
    """Names in the order in which they came; the position is the id."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._id: dict[str, int] = {}
        self._slots: Int32 | None = None  # by hash, of the names as they are in `_names`
        self._names = pl.Series(dtype=pl.String)
        self._texts: Texts | None = None

    @classmethod
    def of(cls, names: Iterable[str]) -> "Ids":
        """Ids in the order of these names (each once)."""
        ids = cls()
        ids.add_all(names)
        return ids

    def __len__(self) -> int:
        return len(self.names)

    def get(self, name: str) -> int:
        """The id of `name`, -1 when it has none."""
        return self._id.get(name, -1)

    def add(self, name: str) -> int:
        """The id of `name`, a new one when it has none."""
        found = self._id.get(name)
        if found is None:
            found = self._id[name] = len(self.names)
            self.names.append(name)
            self._slots = self._texts = None
        return found

    def texts(self) -> Texts:
        """All names as Avro strings, by id."""
        if self._texts is None:
            self._texts = Texts.strings(self.names)
        return self._texts

    def add_all(self, names: Iterable[str]) -> Int32:
        """The ids of `names` in their order; new ones for those that have none."""
        return np.fromiter((self.add(name) for name in names), dtype=np.int32)

    def index(self, series: pl.Series) -> Int32:
        """The ids of a String column, -1 where a name has none. A short column one by one."""
        if len(series) <= FEW or series.null_count() or not self.names:
            return self._each(series)
        if self._slots is None:
            self._names = pl.Series(self.names, dtype=pl.String)
            self._slots = np.zeros(1 << (_SPARE * len(self.names)).bit_length(), np.int32)
            self._slots[self._slots_of(self._names)] = np.arange(len(self.names))
        found = self._slots[self._slots_of(series)]
        # An empty slot names the first: whatever was found is compared.
        other = np.flatnonzero((self._names[pl.Series(found)] != series).to_numpy())
        if len(other):
            found[other] = self._each(series[pl.Series(other)])
        return found

    def _slots_of(self, series: pl.Series) -> UInt64:
        assert self._slots is not None
        hashed: UInt64 = pl.DataFrame([series]).hash_rows().to_numpy()
        return hashed & np.uint64(len(self._slots) - 1)

    def _each(self, series: pl.Series) -> Int32:
        found = [self._id.get(name, -1) for name in series.to_list()]
        return np.array(found, dtype=np.int32)

    def strangers(self, series: pl.Series, ids: Int32) -> Bool:
        """Mask of the names without an id (`ids`: what `index` says of them) that nobody may have.
        Those that have one were looked at when they got it."""
        bad = np.zeros(len(ids), dtype=np.bool_)
        unknown = np.flatnonzero(ids < 0)
        if len(unknown):
            bad[unknown] = bad_ids(series.gather(unknown))
        return bad


def codes(series: pl.Series, symbols: Mapping[str, int]) -> UInt8:
    """The numbers of an Enum column's values by `symbols`, which has them in the Enum's order. A
    short column one by one: an expression takes as long to get going as a thousand look-ups."""
    if len(series) <= FEW:
        return np.fromiter(map(symbols.__getitem__, series.to_list()), np.uint8, len(series))
    found: UInt8 = series.to_physical().to_numpy()
    return found


def rounds(ids: Int32, limit: int) -> tuple[list[Int64 | slice], Int64]:
    """Rows in rounds, so that several rows of one id can be folded one after the other in columns.

    Round r holds the row at which each id stands for the r-th time; all rows where none stands
    twice. Of an id that has more than `limit` rows only the last `limit` take part; second, the
    rows left out.
    """
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return [slice(None)] if len(ids) else [], order[:0]
    first = np.searchsorted(ordered, ordered, side="left")
    count = np.searchsorted(ordered, ordered, side="right") - first
    rank = np.arange(len(ids)) - first - np.maximum(count - limit, 0)
    rank_of_row = np.empty(len(ids), dtype=np.int64)
    rank_of_row[order] = rank
    by_rank = np.argsort(rank_of_row, kind="stable")
    amount = int(rank_of_row.max(initial=-1)) + 1
    edges = np.searchsorted(rank_of_row[by_rank], np.arange(amount + 1))
    parts: list[Int64 | slice] = [by_rank[edges[at] : edges[at + 1]] for at in range(amount)]
    return parts, by_rank[: edges[0]]
