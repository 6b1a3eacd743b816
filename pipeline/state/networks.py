"""Where client networks stand on the map: Network records, kept sorted for matching.

The newest record of a prefix wins, whichever region it names. Kept as sorted columns, because there
may be as many networks as routes; a change merges two sorted lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]

_SCHEMA = {
    "hi": pl.UInt64,
    "lo": pl.UInt64,
    "length": pl.UInt8,
    "lat": pl.Float64,
    "lon": pl.Float64,
    "region": pl.Int32,
}
KEY = ("hi", "lo", "length")


@dataclass(slots=True)
class Networks:
    """One row a network, sorted by (hi, lo, length), each prefix once."""

    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_SCHEMA))

    def fields(self) -> dict[str, Any]:
        """The columns, for a snapshot."""
        return {name: self.table.get_column(name).to_numpy() for name in _SCHEMA}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Networks":
        """The inverse of `fields`."""
        return cls(pl.DataFrame({name: fields[name] for name in _SCHEMA}, schema=_SCHEMA))

    def apply(self, news: pl.DataFrame, gone: pl.DataFrame) -> bool:
        """Take over `news` (the table's columns and `_offset`), forget `gone` (the key and
        `_offset`); the highest offset of a prefix decides. Returns whether anything changed."""
        if not (news.height or gone.height):
            return False
        last = (
            pl.concat([self.table.clear(), news, gone], how="diagonal")
            .sort("_offset")
            .unique(subset=KEY, keep="last", maintain_order=True)
        )
        kept = self.table.join(last, on=KEY, how="anti")
        fresh = last.filter(pl.col("region").is_not_null()).select(*_SCHEMA)
        table = pl.concat([kept, fresh]).sort(*KEY)
        if table.equals(self.table):
            return False
        self.table = table
        return True
