"""Who is in service: what is remembered of each site that operators take out of service or put
back, so that a change can be told: verdicts of kind "site".

DRAINED is where a drain ends, HELD where it cannot: groups that no other site can serve stay, for
nobody is left without a site (L7)."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from pipeline.decide.eligibility import Eligibility
from pipeline.decide.serving import U8, ServedGroups
from pipeline.decide.transport import I64, TOTAL, Bools
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.ids import grown


class Duty(IntEnum):
    """How a site is in service."""

    IN_SERVICE = 0
    DRAINING = 1  # admitted less and less
    DRAINED = 2  # admitted nothing
    HELD = 3  # the same, but somebody has no other site
    RETURNING = 4  # admitted more and more


_REASON = {
    Duty.IN_SERVICE: Reason.RELEASED,
    Duty.DRAINING: Reason.DRAINING,
    Duty.DRAINED: Reason.DRAINED,
    Duty.HELD: Reason.HELD,
    Duty.RETURNING: Reason.UNDRAINED,
}


class Duties:
    """One Duty a site id, uint8[S]."""

    def __init__(self) -> None:
        self.state: U8 = np.empty(0, np.uint8)

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        return pack("duties", {"state": self.state})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Duties":
        """The inverse of `to_bytes`."""
        duties = cls()
        duties.state = unpack("duties", data)["state"]
        return duties

    def take(
        self, names: Sequence[str], alive: Bools, admitted: I64, going: I64
    ) -> tuple[Bools, list[VerdictRow]]:
        """Remember what is admitted, and where that is going (int64[S] each, ten-thousandths).
        Returns bool[S] of the sites that are in service now and were not, or the other way round,
        and the verdicts."""
        before = grown(self.state, len(names), Duty.IN_SERVICE)
        now = np.where(going == TOTAL, Duty.RETURNING, Duty.DRAINING)
        now = np.where((going == TOTAL) & (admitted == TOTAL), Duty.IN_SERVICE, now)
        out = (going < TOTAL) & (admitted == 0)
        now = np.where(out, np.where(before == Duty.HELD, Duty.HELD, Duty.DRAINED), now)
        self.state = now.astype(np.uint8)
        rows = [
            _verdict(names[site], before[site], now[site], f"{admitted[site] / 100:g} % admitted")
            for site in np.flatnonzero((now != before) & alive).tolist()
        ]
        return (now == Duty.IN_SERVICE) != (before == Duty.IN_SERVICE), rows

    def held(self, names: Sequence[str], groups: I64) -> list[VerdictRow]:
        """Remember how many groups int64[S] each site still serves that nobody else can."""
        out = np.isin(self.state, (Duty.DRAINED, Duty.HELD))
        now = np.where(out, np.where(groups > 0, Duty.HELD, Duty.DRAINED), self.state)
        rows = [
            _verdict(
                names[site],
                self.state[site],
                now[site],
                f"{groups[site]} groups have no other site that can serve them",
            )
            for site in np.flatnonzero(now != self.state).tolist()
        ]
        self.state = now.astype(np.uint8)
        return rows


def only_there(groups: ServedGroups, now: Eligibility) -> I64:
    """int64[S]: how many groups each site serves although nothing is admitted to it."""
    sites = len(now.admitted)
    if not now.resort.any():
        return np.zeros(sites, np.int64)
    out: Bools = np.logical_or.reduce(now.resort, axis=1)
    entries, _ = groups.entries(groups.naming(out))
    site = groups.site[entries]
    stays = ((groups.shares[entries] > 0) & now.resort[site]).any(axis=1)
    return np.bincount(site[stays], minlength=sites)


def _verdict(name: str, before: int, now: int, detail: str) -> VerdictRow:
    old, new = Duty(before), Duty(now)
    return VerdictRow("site", name, old.name, new.name, _REASON[new], detail)
