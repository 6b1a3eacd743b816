"""Dense integer ids for names, so that everything behind the fold is an array.

Rule: an id is given at first sight, in the order of the log, and never taken back: what was
removed and comes again is the same row. A name may get its id by being referred to before its own
record comes, so the order of records inside a topic does not matter; `alive` columns say what
really is.
Rejected: a dictionary lookup per row where there are many (0.1 us a row and a Python object each; a
join takes 0.02); a cast to an Enum of the names (0.02 as well, but 0.3 ms to get going).
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.wire.tables import Texts

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

ID_BYTES_MAX = 255
#: Names of one column that are looked up one by one.
FEW = 1024
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
        self._table: pl.DataFrame | None = None
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
            self._table = self._texts = None
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
        """The ids of a String column, -1 where a name has none. A short column one by one; a long
        one by a join, which takes a quarter of that and 0.1 ms to get going."""
        if len(series) <= FEW:
            found = [self._id.get(name, -1) for name in series.to_list()]
            return np.array(found, dtype=np.int32)
        if self._table is None:
            numbers = pl.Series("id", np.arange(len(self.names), dtype=np.int32))
            self._table = pl.DataFrame([pl.Series("name", self.names, dtype=pl.String), numbers])
        asked = pl.DataFrame([series.alias("name")])
        joined = asked.join(self._table, on="name", how="left", maintain_order="left")
        codes = joined.get_column("id")
        if codes.null_count():
            codes = codes.fill_null(-1)
        return codes.to_numpy()

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


def rounds(ids: Int32, limit: int) -> tuple[list[Int64], Int64]:
    """Rows in rounds, so that several rows of one id can be folded one after the other in columns.

    Round r holds the row at which each id stands for the r-th time. Of an id that has more than
    `limit` rows only the last `limit` take part; second, the rows left out.
    """
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    first = np.searchsorted(ordered, ordered, side="left")
    count = np.searchsorted(ordered, ordered, side="right") - first
    rank = np.arange(len(ids)) - first - np.maximum(count - limit, 0)
    rank_of_row = np.empty(len(ids), dtype=np.int64)
    rank_of_row[order] = rank
    by_rank = np.argsort(rank_of_row, kind="stable")
    amount = int(rank_of_row.max(initial=-1)) + 1
    edges = np.searchsorted(rank_of_row[by_rank], np.arange(amount + 1))
    parts = [by_rank[edges[at] : edges[at + 1]] for at in range(amount)]
    return parts, by_rank[: edges[0]]
