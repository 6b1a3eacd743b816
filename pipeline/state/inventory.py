"""What a cut's rows of fleet.inventory come to: per kind the newest valid record of each id.

Rule: a bad record is refused by itself; of what is left, the highest offset of an id decides,
record or tombstone, so the order in which the kinds are folded does not matter.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.state import screens
from pipeline.state.drains import SCOPES, ids_of
from pipeline.state.ids import Bool, bad_ids
from pipeline.wire.address import masks, parse_prefix, prefix_columns
from pipeline.wire.rows import OFFSET, TOMBSTONE, Account, Check, TopicRows, screen
from schemas.partition import partition_of

#: Record -> the columns that name something: (column, may be empty).
_NAMES: dict[str, tuple[tuple[str, bool], ...]] = {
    "Region": (("region", False),),
    "Site": (("site", False), ("region", False)),
    "Cluster": (("cluster", False), ("site", False), ("region", False)),
    "Appliance": (("appliance", False), ("site", False), ("cluster", True), ("region", False)),
    "Network": (("region", False),),
    "Drain": (("entity", False), ("region", False)),
}
_COORDINATES = (("lat", -90.0, 90.0), ("lon", -180.0, 180.0))
_PREFIX_BITS = 128
_ENDS = {OFFSET: pl.Int64, "hi": pl.UInt64, "lo": pl.UInt64, "length": pl.UInt8}


@dataclass(frozen=True, slots=True)
class Batch:
    """`news`: the newest record of each id; `lost`: the ids whose newest is a tombstone."""

    news: pl.DataFrame
    lost: list[str]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Batches by record name; Network rows and ends with their prefix as hi, lo, length."""

    batches: dict[str, Batch]
    networks: pl.DataFrame
    network_ends: pl.DataFrame


def read(rows: TopicRows, partition: int, partitions: int, account: Account) -> Inventory:
    """Screen everything that `rows` bring and report each row to `account`."""
    ends, network_ends = _tombstones(rows, account)
    batches: dict[str, Batch] = {}
    networks = pl.DataFrame(schema=_ENDS)
    for kind, names in _NAMES.items():
        frame = rows.frames.get(kind)
        if frame is not None:
            checks = [*_name_checks(frame, names), *_value_checks(kind, frame)]
            checks.append((Refusal.WRONG_PARTITION, _elsewhere(frame, partition, partitions)))
            frame = screen(rows.topic, frame, checks, account)
            account.fold(rows.topic, frame.height)
        if kind == "Network":
            if frame is not None and frame.height:
                hi, lo, length = prefix_columns(frame.get_column("network"))
                networks = frame.with_columns(hi=hi, lo=lo, length=length)
        elif frame is not None or ends[kind]:
            batches[kind] = _newest(_with_id(kind, frame), ends[kind])
    return Inventory(batches, networks, network_ends)


def _with_id(kind: str, frame: pl.DataFrame | None) -> pl.DataFrame | None:
    """The rows with what their keys name as `_id`."""
    if frame is None:
        return None
    if kind == "Drain":
        return ids_of(frame)
    return frame.with_columns(_id=kind.lower())


def _newest(frame: pl.DataFrame | None, ends: list[tuple[int, str]]) -> Batch:
    if frame is None:
        return Batch(pl.DataFrame(), sorted({name for _, name in ends}))
    fates = pl.concat(
        [
            frame.select(OFFSET, name="_id", row=pl.int_range(frame.height, dtype=pl.Int64)),
            pl.DataFrame(
                [(offset, name, -1) for offset, name in ends],
                schema={OFFSET: pl.Int64, "name": pl.String, "row": pl.Int64},
                orient="row",
            ),
        ]
    )
    last = fates.sort(OFFSET).unique(subset="name", keep="last", maintain_order=True)
    lost = last.filter(pl.col("row") < 0).get_column("name").to_list()
    return Batch(frame[last.filter(pl.col("row") >= 0).get_column("row")], lost)


def _tombstones(
    rows: TopicRows, account: Account
) -> tuple[dict[str, list[tuple[int, str]]], pl.DataFrame]:
    """(kind -> (offset, id) of its tombstones, those of networks as columns)."""
    ends: dict[str, list[tuple[int, str]]] = {kind: [] for kind in _NAMES}
    networks: list[tuple[int, bytes]] = []
    frame = rows.frames.get(TOMBSTONE)
    if frame is not None:
        for offset, key in frame.select(OFFSET, "key").iter_rows():
            try:
                kind, _, name = (key or b"").decode().partition(":")
                kind = kind.capitalize()
                if kind not in ends or not name:
                    raise WireError(Refusal.BAD_KEY)
                if kind == "Drain" and name.partition(":")[0] not in SCOPES:
                    raise WireError(Refusal.BAD_KEY)
                if kind == "Network":
                    networks.append((offset, parse_prefix(name)))
                else:
                    ends[kind].append((offset, name))
            except (UnicodeDecodeError, WireError):
                account.refuse(rows.topic, (offset,), Refusal.BAD_KEY, repr(key))
            else:
                account.fold(rows.topic, 1)
    prefixes = pl.Series("network", [prefix for _, prefix in networks], dtype=pl.Binary)
    hi, lo, length = prefix_columns(prefixes)
    at = pl.Series([offset for offset, _ in networks], dtype=pl.Int64)
    return ends, pl.DataFrame({OFFSET: at, "hi": hi, "lo": lo, "length": length}, schema=_ENDS)


def _name_checks(frame: pl.DataFrame, names: tuple[tuple[str, bool], ...]) -> list[Check]:
    return [
        (Refusal.BAD_ID, bad_ids(frame.get_column(column), optional=optional))
        for column, optional in names
    ]


def _value_checks(kind: str, frame: pl.DataFrame) -> list[Check]:
    """What is wrong with the numbers of a kind's records."""
    if kind == "Appliance":
        return [screens.integers(frame, (("capacity_bps", screens.BPS_MAX),))]
    if kind == "Cluster":
        return []
    if kind == "Drain":
        return [
            screens.integers(
                frame, (("at_ms", screens.TIME_MAX_MS), ("deadline_ms", screens.TIME_MAX_MS))
            )
        ]
    checks: list[Check] = [*screens.doubles(frame, _COORDINATES)]
    if kind == "Site":
        checks += _link_checks(frame)
        checks.append((Refusal.BAD_ID, _bad_regions(frame)))
    elif kind == "Network":
        hi, lo, length = prefix_columns(frame.get_column("network"))
        mask_hi, mask_lo = masks(length)
        checks.append((Refusal.BAD_PREFIX_LENGTH, length > _PREFIX_BITS))
        checks.append((Refusal.HOST_BITS, ((hi & ~mask_hi) | (lo & ~mask_lo)) != 0))
    return checks


def _bad_regions(frame: pl.DataFrame) -> Bool:
    """Mask of the sites with a region that nobody may be called."""
    listed = frame.select(OFFSET, region="regions").explode("region").drop_nulls()
    if not listed.height:
        return np.zeros(frame.height, np.bool_)
    bad = listed.get_column(OFFSET).to_numpy()[bad_ids(listed.get_column("region"))]
    return np.isin(frame.get_column(OFFSET).to_numpy(), bad)


def _link_checks(frame: pl.DataFrame) -> list[Check]:
    """A site with one bad link is refused whole: half of its links would be a false capacity."""
    links = frame.select(OFFSET, "links").explode("links").drop_nulls().unnest("links")
    if not links.height:
        return []
    _, absurd = screens.integers(links, (("capacity_bps", screens.BPS_MAX),))
    checks: list[Check] = []
    for reason, bad in (
        (Refusal.BAD_ID, bad_ids(links.get_column("link"))),
        (Refusal.OUT_OF_RANGE, absurd),
    ):
        offsets = links.get_column(OFFSET).to_numpy()[bad]
        checks.append((reason, np.isin(frame.get_column(OFFSET).to_numpy(), offsets)))
    return checks


def _elsewhere(frame: pl.DataFrame, partition: int, partitions: int) -> Bool:
    """Mask of the rows whose region belongs to another partition (hashed once per region)."""
    regions = frame.get_column("region")
    strangers = [
        region
        for region in regions.unique().sort()
        if partition_of(region, partitions) != partition
    ]
    return regions.is_in(strangers).to_numpy()
