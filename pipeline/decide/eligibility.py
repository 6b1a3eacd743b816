"""Which site may serve which class now, and how much of it.

Rule: a site serves a class with what its usable appliances of that class have together, limited by
its links; it is eligible where that is more than nothing. Hysteresis is not needed here: the
appliances' states have it. What an operator took out of service (nothing is admitted) is not
eligible, but stays a resort for groups that have no other site (pipeline/decide/assignment.py).

Panic: where no site of a whole region is eligible for a class although appliances that serve it
have not withdrawn by their own report, it is the evidence that is missing, not the region: a dead
health feed must not empty the shares (L7). Those appliances count with their inventory capacity
then. A part of a region that falls silent is believed to be down: its neighbours can take over, so
there is no need to guess. Rejected: Envoy's 50 % between sites, which would go on sending to sites
that lost power."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.assignment import CLASSES, I32, I64, TOTAL, Bools
from pipeline.reasons import Reason

U8 = npt.NDArray[np.uint8]

#: Status of a (site, class): eligible, or 1 + index into wire.tables.PASSED_REASONS.
ELIGIBLE, NO_CAPACITY, CLASS_NOT_SERVED, DRAINED = 0, 1, 2, 4
REASON_OF_STATUS = {
    NO_CAPACITY: Reason.NO_CAPACITY,
    CLASS_NOT_SERVED: Reason.CLASS_NOT_SERVED,
    DRAINED: Reason.DRAINING,
}


@dataclass(frozen=True, slots=True)
class Appliances:
    """What is asked about the N living appliances, and the S sites with R regions they stand in:
    site int32[N]; serves uint8[N] bits; usable_bps, capacity_bps int64[N]; withdrawn bool[N]: out
    by its own report; heard bool[N]: has ever reported; site_region int32[S]; link_bps int64[S], -1
    where a site has no links; admitted int64[S]: share that operators admit, ten-thousandths."""

    site: I32
    serves: U8
    usable_bps: I64
    capacity_bps: I64
    withdrawn: Bools
    heard: Bools
    site_region: I32
    link_bps: I64
    admitted: I64
    regions: int


@dataclass(frozen=True, slots=True)
class Eligibility:
    """status uint8[S, 3]; panic bool[S, 3]: eligible only because its whole region looks dead;
    site_bps int64[S], class_bps int64[S, 3]: capacity for all classes and for each; admitted
    int64[S]: what share of its load a site gets; part int64[S]: what part of its capacity is this
    cell's (of which site_bps and class_bps are), both ten-thousandths; shared bool[S]: others plan
    with it too."""

    status: U8
    panic: Bools
    site_bps: I64
    class_bps: I64
    admitted: I64
    part: I64
    shared: Bools

    @classmethod
    def none(cls) -> "Eligibility":
        """Of no sites."""
        by_class, by_site = np.zeros((0, CLASSES), np.int64), np.zeros(0, np.int64)
        panic = by_class.astype(np.bool_)
        shared = np.zeros(0, np.bool_)
        return cls(by_class.astype(np.uint8), panic, by_site, by_class, by_site, by_site, shared)

    def fields(self) -> dict[str, npt.NDArray[Any]]:
        """The columns, for a snapshot."""
        return {name: getattr(self, name) for name in self.__slots__}

    def divided(self, part: I64, shared: Bools) -> "Eligibility":
        """The same with this part of each site's capacity. Who may serve is the same: what nobody
        gave us is a site that is full."""
        site_bps = _of(self.site_bps, part)
        class_bps = _of(self.class_bps, part[:, None])
        return replace(self, site_bps=site_bps, class_bps=class_bps, part=part, shared=shared)

    @property
    def eligible(self) -> Bools:
        return np.equal(self.status, ELIGIBLE)

    @property
    def resort(self) -> Bools:
        """Out of service, and able."""
        return np.equal(self.status, DRAINED)


def decide_eligibility(asked: Appliances) -> Eligibility:
    """Status and capacity of every (site, class)."""
    sites = len(asked.site_region)
    asked = replace(asked, usable_bps=_presumed(asked))
    serves = ((asked.serves[:, None] >> np.arange(CLASSES, dtype=np.uint8)) & 1).astype(np.bool_)
    served = _sum(serves.astype(np.int64), asked.site, sites) > 0
    usable = _sum(np.where(serves, asked.usable_bps[:, None], 0), asked.site, sites)
    site_bps = _sum(asked.usable_bps[:, None], asked.site, sites)[:, 0]

    fallback_bps = np.where(asked.withdrawn, 0, asked.capacity_bps)
    fallback = _sum(np.where(serves, fallback_bps[:, None], 0), asked.site, sites)
    open_link = (asked.link_bps != 0)[:, None]
    panic = _without(usable * open_link, asked.site_region, asked.regions) & (fallback > 0)
    panic &= open_link
    usable = np.where(panic, fallback, usable)
    all_fallback = _sum(fallback_bps[:, None], asked.site, sites)[:, 0]
    site_bps = np.where(panic.any(axis=1), np.maximum(all_fallback, site_bps), site_bps)
    site_bps = np.where(asked.link_bps >= 0, np.minimum(site_bps, asked.link_bps), site_bps)

    able = (usable > 0) & open_link
    status = np.where(able, ELIGIBLE, np.where(served, NO_CAPACITY, CLASS_NOT_SERVED))
    status[able & (asked.admitted == 0)[:, None]] = DRAINED
    whole, unshared = np.full(sites, TOTAL, np.int64), np.zeros(sites, np.bool_)
    return Eligibility(
        status.astype(np.uint8), panic, site_bps, usable, asked.admitted, whole, unshared
    )


def _of(bps: I64, part: I64) -> I64:
    """This part of it, exactly where it is all; no product is beyond 64 bits."""
    return bps // TOTAL * part + bps % TOTAL * part // TOTAL


def _presumed(asked: Appliances) -> I64:
    """Usable capacity; that of the inventory for what never reported while a region still starts
    up."""
    region = asked.site_region[asked.site]
    living = np.bincount(region + 1, minlength=asked.regions + 1)
    heard = np.bincount(region[asked.heard] + 1, minlength=asked.regions + 1)
    starting = 2 * heard < living
    return np.where(starting[region + 1] & ~asked.heard, asked.capacity_bps, asked.usable_bps)


def _without(usable: I64, site_region: I32, regions: int) -> Bools:
    """Per (site, class): whether no site of its region has any of `usable`."""
    alive = np.zeros((regions + 1, CLASSES), np.bool_)
    np.logical_or.at(alive, site_region, usable > 0)
    return ~alive[site_region]


def _sum(values: I64, site: I32, sites: int) -> I64:
    """Sums of int64[N, k] by site: int64[S, k]."""
    width = values.shape[1]
    out = np.zeros(sites * width, np.int64)
    np.add.at(out, (site[:, None] * width + np.arange(width)).reshape(-1), values.reshape(-1))
    return out.reshape(sites, width)
