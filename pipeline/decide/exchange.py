"""What cells tell each other of the sites that they share (the rule is in decide/sharing.py)."""

from dataclasses import dataclass

import numpy as np

from pipeline.cut import Cause, Cut
from pipeline.decide.admission import Admission
from pipeline.decide.assignment import NO_ROOM
from pipeline.decide.shares import SiteLoad
from pipeline.decide.sharing import regrant, shares_of, targets
from pipeline.decide.transport import I64, TOTAL, Bools
from pipeline.decide.units import load_bps
from pipeline.effects import Record, VerdictRow
from pipeline.reasons import Reason
from pipeline.state.fleet import Fleet
from pipeline.state.screens import BPS_MAX
from pipeline.state.sharing import Claim, Grant, Sharing
from pipeline.wire.encode import encode
from schemas.partition import partition_of
from schemas.registry import CAPACITY_PRICES

#: A record for another cell, and its partition.
Word = tuple[int, Record]


@dataclass(frozen=True, slots=True)
class Planned:
    """What the last plan rests on and came to, by site: part int64[S] in ten-thousandths; natural
    (with everybody nearest) and load int64[S], kbit/s x ten-thousandths; price int64[S]."""

    part: I64
    natural: I64
    load: I64
    price: I64

    @classmethod
    def none(cls, sites: int) -> "Planned":
        """Of sites for which nothing was planned."""
        return cls(*(np.zeros(sites, np.int64) for _ in range(4)))

    def put(self, sites: I64, load: SiteLoad, admission: Admission) -> None:
        """Take over what a region planned of its sites."""
        self.part[sites], self.natural[sites] = admission.part[sites], admission.natural[sites]
        self.load[sites] = load.load[sites].sum(axis=1)
        self.price[sites] = load.price[sites].max(axis=1)


def parts(fleet: Fleet, sharing: Sharing) -> tuple[I64, Bools]:
    """Of each site the part of its capacity that this cell may plan with, ten-thousandths, and
    whether it is shared. A home that gave nothing away has all; who was granted nothing yet has
    nothing."""
    part = np.full(len(fleet.sites), TOTAL, np.int64)
    shared = np.zeros(len(fleet.sites), np.bool_)
    for site, regions in fleet.site_regions.items():
        name, mine = fleet.sites.names[site], _region(fleet, site)
        shared[site] = True
        if mine == regions[0]:
            held = sharing.given.get((name, mine))
            part[site] = TOTAL if held is None else held.share
        else:
            part[site] = sharing.granted.get((name, mine, regions[0]), Grant(0, 0)).share
    return part, shared


class Exchange:
    """One cut's words to other cells: what is new, and at a take-over all that stands, for what was
    folded without being published (an upgrade) was not said."""

    def __init__(
        self,
        fleet: Fleet,
        sharing: Sharing,
        planned: Planned,
        partitions: int,
        cut: Cut,
    ) -> None:
        self._fleet, self._sharing, self._planned = fleet, sharing, planned
        self._partitions, self._cut, self._now_ms = partitions, cut.number, cut.at_ms
        self._again = cut.cause is Cause.TAKEOVER
        self.records: list[Word] = []
        self.verdicts: list[VerdictRow] = []

    def take(self, whole_bps: I64, min_shift: int) -> None:
        """Divide the sites that are at home here, and claim of the others. `whole_bps` int64[S]:
        what each can carry for all together, to the target."""
        for site in sorted(self._fleet.site_regions, key=self._fleet.sites.names.__getitem__):
            regions = self._fleet.site_regions[site]
            if not self._fleet.site_alive[site]:
                continue
            if _region(self._fleet, site) == regions[0]:
                self._divide(site, regions, int(whole_bps[site]), min_shift)
            else:
                self._claim(site, regions[0], int(whole_bps[site]), min_shift)

    def _divide(
        self, site: int, regions: tuple[str, ...], capacity_bps: int, min_shift: int
    ) -> None:
        name, held = self._fleet.sites.names[site], self._sharing
        claims = {r: held.claims[name, r] for r in regions if (name, r) in held.claims}
        given = {r: held.given[name, r] for r in regions if (name, r) in held.given}
        wants = [_bps(self._planned.natural[site])]
        wants += [claims[r].want_bps if r in claims else 0 for r in regions[1:]]
        heard = [region == regions[0] or region in claims for region in regions]
        target = targets(regions, shares_of(wants, capacity_bps), given, heard)
        planned = int(self._planned.part[site])
        now = regrant(regions, target, given, claims, planned, self._cut, min_shift)
        for region in [one for one in given if one not in now]:
            del held.given[name, region]
        for (region, grant), want in zip(now.items(), wants, strict=True):
            held.given[name, region] = grant
            before = given.get(region, Grant(0, TOTAL if region == regions[0] else 0))
            new = grant.share != before.share
            if region != regions[0] and (new or (self._again and grant.cut)):
                self._send("CapacityGrant", name, regions[0], region, grant._asdict())
            if not new:
                continue
            price = claims[region].price if region in claims else int(self._planned.price[site])
            self._tell(name, region, before.share, grant.share, want, price)

    def _claim(self, site: int, home: str, capacity_bps: int, min_shift: int) -> None:
        name, mine, held = self._fleet.sites.names[site], _region(self._fleet, site), self._sharing
        planned = self._planned
        grant = held.granted.get((name, mine, home), Grant(0, 0))
        told = held.told.get((name, mine, home))
        confirms = grant.share == planned.part[site]
        claim = Claim(
            cut=self._cut,
            want_bps=_bps(planned.natural[site]),
            load_bps=_bps(planned.load[site]),
            price=int(planned.price[site]),
            share=int(planned.part[site]),
            grant_cut=grant.cut if confirms else told.grant_cut if told else 0,
        )
        if told is not None and told.grant_cut == claim.grant_cut and not self._again:
            wants = shares_of([claim.want_bps, told.want_bps], capacity_bps)
            if abs(wants[0] - wants[1]) < max(min_shift, 1):
                return
        held.told[name, mine, home] = claim
        self._send("CapacityClaim", name, mine, home, claim._asdict())

    def _send(self, record: str, site: str, region: str, to: str, fields: dict[str, int]) -> None:
        names = (site, region, to)
        self.records.append(_word(record, names, fields, self._now_ms, self._partitions))

    def _tell(
        self, site: str, region: str, before: int, after: int, want_bps: int, price: int
    ) -> None:
        detail = f"of {site}; it wants {want_bps} bps"
        detail += ", no room anywhere" if price == NO_ROOM else f", price {price}" if price else ""
        states = (f"{region} {before / 100:g} %", f"{region} {after / 100:g} %")
        self.verdicts.append(VerdictRow("site", site, *states, Reason.DIVIDED, detail))


def standing(fleet: Fleet, sharing: Sharing, partitions: int, at_ms: int) -> list[Word]:
    """All that stands of what a cell has told others, said once more at `at_ms`."""
    words = [
        _word("CapacityClaim", names, claim._asdict(), at_ms, partitions)
        for names, claim in sorted(sharing.told.items())
    ]
    for (name, region), grant in sorted(sharing.given.items()):
        regions = fleet.site_regions.get(fleet.sites.get(name), ())
        if grant.cut and region in regions[1:]:
            names = (name, regions[0], region)
            words.append(_word("CapacityGrant", names, grant._asdict(), at_ms, partitions))
    return words


def _word(
    record: str, names: tuple[str, ...], fields: dict[str, int], at_ms: int, partitions: int
) -> Word:
    """`names`: the site, the region that speaks and the one that is told."""
    site, region, to = names
    told = {"site": site, "region": region, "to": to, "at_ms": at_ms, **fields}
    written = Record(CAPACITY_PRICES.name, "|".join(names).encode(), encode(record, told))
    return partition_of(to, partitions), written


def _region(fleet: Fleet, site: int) -> str:
    return fleet.regions.names[int(fleet.site_region[site])]


def _bps(load: "np.int64 | int") -> int:
    """bits/s of a load; no more than what is believed of a rate."""
    return min(load_bps(int(load)), BPS_MAX)
