"""Sites that serve several regions: what their cells have told each other, and what was decided.

Idea: a shared site has a home region, whose cell divides its capacity into shares. The cell of each
other region claims what it wants, and plans with what it is granted. Both travel as records on
capacity.prices, each in the partition of the region that it is for, so a cell has them in its log
like any other input.
Rule: of what one region tells another about a site the highest cut counts, and stays until the next
(a cell that is silent keeps what it was granted; nobody else gets it). Names need not be in the
inventory yet.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipeline.reasons import Noted, Refusal
from pipeline.state import screens
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.drains import FULL
from pipeline.state.ids import bad_ids
from pipeline.wire.rows import OFFSET, TOMBSTONE, Account, Check, TopicRows, screen
from schemas.partition import partition_of

_NAMES = ("site", "region", "to")
_RECORDS = ("CapacityClaim", "CapacityGrant")
_LIMITS = {
    "CapacityClaim": (
        *(("cut", screens.COUNT_MAX), ("want_bps", screens.BPS_MAX)),
        *(("load_bps", screens.BPS_MAX), ("price", 2**62)),
        *(("share", FULL), ("grant_cut", screens.COUNT_MAX)),
    ),
    "CapacityGrant": (("cut", screens.COUNT_MAX), ("share", FULL)),
}


class Claim(NamedTuple):
    """What a region told the home; the fields of CapacityClaim."""

    cut: int
    want_bps: int
    load_bps: int
    price: int
    share: int
    grant_cut: int


class Grant(NamedTuple):
    """A share, and the home's cut that gave it."""

    cut: int
    share: int


#: (site, region that claims or is granted), then the home that is told or grants, where that is
#: another cell: a site whose home moves begins anew.
Names = tuple[str, ...]


class Sharing:
    """claims: what other regions told us as a home; granted: what we may plan with, elsewhere at
    home; given: what we as a home gave each region, ourselves included; told: our own claims as
    they were sent last."""

    def __init__(self) -> None:
        self.claims: dict[Names, Claim] = {}
        self.granted: dict[Names, Grant] = {}
        self.given: dict[Names, Grant] = {}
        self.told: dict[Names, Claim] = {}

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        return pack(
            "sharing",
            {
                name: [
                    [list(names), list(values)]
                    for names, values in sorted(getattr(self, name).items())
                ]
                for name in _HELD
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sharing":
        """The inverse of `to_bytes`."""
        sharing, fields = cls(), unpack("sharing", data)
        for name, kind in _HELD.items():
            setattr(sharing, name, {tuple(names): kind(*rest) for names, rest in fields[name]})
        return sharing

    def fold(self, rows: TopicRows, partition: int, partitions: int, account: Account) -> None:
        """Take over the rows of capacity.prices."""
        news: list[tuple[int, str, tuple[Any, ...]]] = []
        for record in _RECORDS:
            frame = rows.frames.get(record)
            if frame is not None:
                frame = screen(rows.topic, frame, _checks(record, frame, partition, partitions),
                               account)  # fmt: skip
                account.fold(rows.topic, frame.height)
                columns = frame.select(OFFSET, *_NAMES, *_FIELDS[record])
                news += [(offset, record, rest) for offset, *rest in columns.iter_rows()]  # type: ignore[misc]
        self._forget(rows, account)
        for _, record, (site, region, to, *fields) in sorted(news):
            if record == "CapacityClaim":
                _newest(self.claims, (site, region), Claim(*fields), account)
            else:
                _newest(self.granted, (site, to, region), Grant(*fields), account)

    def _forget(self, rows: TopicRows, account: Account) -> None:
        """Tombstones take what they name, claim or grant."""
        frame = rows.frames.get(TOMBSTONE)
        if frame is None:
            return
        for offset, key in frame.select(OFFSET, "key").iter_rows():
            names = (key or b"").decode(errors="replace").split("|")
            if len(names) != len(_NAMES) or not all(names):
                account.refuse(rows.topic, (offset,), Refusal.BAD_KEY, repr(key))
                continue
            site, region, to = names
            self.claims.pop((site, region), None)
            self.granted.pop((site, to, region), None)
            account.fold(rows.topic, 1)


_HELD: dict[str, Any] = {"claims": Claim, "granted": Grant, "given": Grant, "told": Claim}
_FIELDS = {"CapacityClaim": Claim._fields, "CapacityGrant": Grant._fields}


def _newest(held: dict[Names, Any], names: Names, news: Any, account: Account) -> None:
    before = held.get(names)
    if before is not None and news.cut < before.cut:
        account.note(Noted.REORDERED, 1)
    elif news == before:
        account.note(Noted.DUPLICATE, 1)
    else:
        held[names] = news


def _checks(record: str, frame: pl.DataFrame, partition: int, partitions: int) -> list[Check]:
    to = frame.get_column("to")
    strangers = [one for one in to.unique().sort() if partition_of(one, partitions) != partition]
    return [
        *((Refusal.BAD_ID, bad_ids(frame.get_column(name))) for name in _NAMES),
        (Refusal.WRONG_PARTITION, np.asarray(to.is_in(strangers).to_numpy())),
        screens.integers(frame, _LIMITS[record]),
    ]
