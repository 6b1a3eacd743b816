"""What the keys of bgp.routes name: a tombstone has nothing else."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import WireError
from pipeline.wire.address import parse_prefix


@dataclass(frozen=True, slots=True)
class RouteKeys:
    """By key: site, peer (String, empty where there is none); prefix (Binary, null where there is
    none); path_id int64, -1 where there is none; no_effect bool: a session's or an end of RIB's."""

    site: pl.Series
    peer: pl.Series
    prefix: pl.Series
    path_id: npt.NDArray[np.int64]
    no_effect: npt.NDArray[np.bool_]


def read_keys(keys: pl.Series) -> RouteKeys:
    """`site|peer|prefix|path_id`, `site|peer|session` and `site|peer|eor` from a Binary column."""
    pattern = r"^([^|]+)\|([^|]+)\|([^|]+)(?:\|([0-9]{1,10}))?$"
    field = _text(keys).str.extract_groups(pattern).struct
    third, fourth = field.field("3"), field.field("4")
    no_effect = third.is_in(["session", "eor"]) & fourth.is_null()
    return RouteKeys(
        site=field.field("1").fill_null(""),
        peer=field.field("2").fill_null(""),
        prefix=_parsed(third.fill_null("")),
        path_id=fourth.cast(pl.Int64).fill_null(-1).to_numpy(),
        no_effect=no_effect.fill_null(False).to_numpy(),
    )


def _text(keys: pl.Series) -> pl.Series:
    """Keys as text, empty where they are none. (polars casts all of a column or nothing.)"""
    try:
        return keys.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = [key.decode(errors="ignore") for key in keys]
        whole = [
            text if text.encode() == key else "" for text, key in zip(texts, keys, strict=True)
        ]
        return pl.Series(keys.name, whole, dtype=pl.String)


def _parsed(text: pl.Series) -> pl.Series:
    """Prefixes from text, null where there is none. Text by text (4 us), each only once: feeds
    withdraw by record, and tombstones come in bulk only when an operator sweeps a topic."""
    known = text.unique(maintain_order=True)
    values = pl.Series("prefix", [_prefix(one) for one in known], dtype=pl.Binary)
    table = pl.DataFrame({"text": known, "prefix": values})
    frame = pl.DataFrame({"text": text})
    return frame.join(table, on="text", how="left", maintain_order="left").get_column("prefix")


def _prefix(text: str) -> bytes | None:
    try:
        return parse_prefix(text)
    except WireError:
        return None
