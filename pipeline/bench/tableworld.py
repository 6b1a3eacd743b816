"""What the `table` benchmark needs beside routes: a fleet, and changes."""

import numpy as np
import polars as pl

from pipeline.bench.announcements import Announcements
from pipeline.state.fleet import Fleet
from pipeline.state.lpm import Prefixes
from pipeline.wire.address import masks
from pipeline.wire.rows import OFFSET, Account, TopicRows
from schemas.partition import partition_of
from schemas.registry import FLEET_INVENTORY

REGION = "eu"
_LINKS = pl.List(pl.Struct({"link": pl.String, "capacity_bps": pl.Int64}))


def fleet_for(sites: list[str]) -> Fleet:
    """One region whose sites are spread over it."""
    count = len(sites)
    region = {"region": [REGION], "name": [REGION], "lat": [50.0], "lon": [8.0], OFFSET: [0]}
    places = {
        "site": sites,
        "region": [REGION] * count,
        "name": sites,
        "kind": ["IX"] * count,
        "lat": [40.0 + (at * 37 % count) / 10 for at in range(count)],
        "lon": [(at * 53 % (2 * count)) / 10 for at in range(count)],
        "links": [[]] * count,
        "regions": [[]] * count,
        OFFSET: range(1, count + 1),
    }
    kinds = {
        "kind": pl.Enum(["EMBEDDED", "IX"]),
        "links": _LINKS,
        "regions": pl.List(pl.String),
    }
    frames = {"Region": pl.DataFrame(region), "Site": pl.DataFrame(places, schema_overrides=kinds)}
    fleet, account = Fleet(), Account()
    rows = TopicRows(FLEET_INVENTORY.name, frames)
    account.arrive(rows)
    fleet.fold(rows, partition_of(REGION, 1), 1, 0, account)
    account.close()
    return fleet


def changes(made: Announcements, count: int, number: int) -> TopicRows:
    """Rows of bgp.routes that change so many prefixes: a quarter each get other attributes, are
    withdrawn by a site, are announced more specifically than before, or less specifically."""
    pick = np.random.default_rng(number).choice(len(made), count, replace=False)
    quarter = np.arange(count) % 4
    hi, lo, length = (column[made.prefix[pick]] for column in made.prefixes)
    longest = np.where((hi == 0) | (length > 64), 128, 64)
    length = np.where(quarter == 2, np.minimum(length + 1 + number % 3, longest), length)
    shortest = np.where(hi == 0, 96 + 8, 16)
    length = np.where(quarter == 3, np.maximum(length - 1 - number % 3, shortest), length)
    mask_hi, mask_lo = masks(length.astype(np.uint8))
    prefixes: Prefixes = (hi & mask_hi, lo & mask_lo, length.astype(np.uint8))
    changed = Announcements(
        prefixes,
        made.sites,
        np.arange(count, dtype=np.int32),
        made.site[pick],
        made.peer[pick],
        made.as_path_len[pick] + np.where(quarter == 0, 1 + number, 0).astype(np.int32),
        made.med[pick],
    )
    rows = changed.topic_rows(np.arange(count))
    frame = rows.frames["Route"]
    action = pl.Series("action", np.where(quarter == 1, "WITHDRAW", "ANNOUNCE"))
    frame = frame.with_columns(action.cast(frame.schema["action"]))
    return TopicRows(rows.topic, {"Route": frame})
