"""Whether plays still tell of all that is sent: a reporter that fell silent is no viewer that left.

Idea: appliances say themselves what they send. Where the plays of an appliance cease and it goes on
sending, the plays are lost on their way, and who is served there still is. How much is missing
follows from what the plays of that appliance usually are of what it says to send; whose it is, from
what each block drew while all was well.
Rule, once for each bucket of demand:
    usual     what plays received / egress of each appliance, smoothed with 1 / 2**USUAL_SHIFT while
              it is trusted
    distrust  plays of the newest part of the window below GONE of what they were in its older half,
              by more than chance, and below BACK of what is usual, while egress is above SENDING of
              what it was; or those of a whole region below REGION_GONE, while it sends above
              REGION_SENDING: then of all its appliances
    trust     again a window after they are back: above BACK of what is usual; at once where the
              appliance falls silent itself: it is gone, and what it sends when it comes back, from
              nothing, is not what a window of its plays is held against
    missing   usual x egress x window - plays of the window, of the distrusted appliances, by
              region; below MISSING of what the region's should be it is not worth acting on
    held      what each block drew in a window, as of the first distrust in its region
    added     to each block what it draws less than held, scaled so that all of them together get
              what is missing, and none more than ADDED_TIMES of what it lacks
Sources: BACK: "half of all reports stopping at once is a fault of the reporting until shown
otherwise". The others are judgement: viewers that leave take the egress along, so the two parts of
the test are far apart in either case. Measured in closed loop (docs/adr/0031) is that no scenario
of the package but that of lost plays distrusts anybody, and what the loss costs.
Rejected: a held demand that fades by a clock (a site 2 % too full is planned too little for: closed
loop); holding demand whenever it falls by half (an event that ends empties a region in truth);
scaling what is left (the blocks that are still heard would get the demand of those that are not).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.state.ids import Int32, Int64, grown

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

USUAL_SHIFT = 4
GONE, SENDING, BACK = 0.25, 0.75, 0.5
REGION_GONE, REGION_SENDING, MISSING = 0.8, 0.9, 0.02
ADDED_TIMES = 2.0
#: Windows that are looked at before anything is distrusted.
LEARNING = 3
_COLUMNS = ("usual", "egress", "until", "held", "short", "added", "judged")


class Heard(NamedTuple):
    """Of the appliances, by id: what they say to send, whether they said so lately, their region
    (of `regions`)."""

    egress_bps: Int64
    fresh: Bools
    region: Int32
    regions: int


class Drawn(NamedTuple):
    """Of the client blocks, by id: bytes in the complete buckets and in the newer half of them,
    and their region; which slots of the ring are complete, of the older half and newest."""

    whole: Int64
    recent: Int64
    region: Int32
    complete: Bools
    older: Bools
    newest: Bools

    @property
    def buckets(self) -> int:
        """Complete ones."""
        return int(self.complete.sum())


class Reporting:
    """`until` int64[A]: distrusted before this bucket; `added` int64[block, class]: bytes of a
    window that are missing from the plays. Columns by appliance grow with the fleet; `held` and
    `added` have no rows while nothing is missing."""

    def __init__(self, classes: int) -> None:
        self.drawn: Int64 = np.zeros((0, 0), np.int64)  # bytes of plays [slot, appliance]
        self.usual: F64 = np.zeros(0)
        self.egress: F64 = np.zeros(0)  # bit/s, smoothed while trusted
        self.until: Int64 = np.zeros(0, np.int64)
        self.judged = 0  # buckets
        self.held: Int64 = np.zeros((0, classes), np.int64)
        self.added: Int64 = np.zeros((0, classes), np.int64)
        self.short: Int64 = np.zeros(0, np.int64)  # regions in which plays are missing, by id

    def fields(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"drawn": self.drawn, **{name: getattr(self, name) for name in _COLUMNS}}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Reporting":
        """The inverse of `fields`."""
        reporting = cls(fields["held"].shape[1])
        reporting.drawn = fields["drawn"]
        for name in _COLUMNS:
            setattr(reporting, name, fields[name])
        return reporting

    def grow(self, slots: int, appliances: int) -> None:
        """Make room for so many; another number of slots begins anew."""
        if len(self.drawn) != slots:
            self.drawn = np.zeros((slots, 0), np.int64)
        more = appliances - self.drawn.shape[1]
        if more > 0:
            self.drawn = np.pad(self.drawn, ((0, 0), (0, more)))
        self.usual, self.egress = (
            grown(self.usual, appliances, 0),
            grown(self.egress, appliances, 0),
        )
        self.until = grown(self.until, appliances, 0)

    def begin(self, slot: int) -> None:
        """This slot holds another bucket from now on."""
        if slot < len(self.drawn):
            self.drawn[slot] = 0

    def add(self, slot: Int64, appliance: Int64, amount: Int64) -> None:
        """Plays of these (known) appliances."""
        where = slot * self.drawn.shape[1] + appliance
        np.add.at(self.drawn.reshape(-1), where, amount)

    def judge(self, heard: Heard, blocks: Drawn, noise: float, current: int) -> None:
        """Once for each bucket. `noise`: bytes, of Trend."""
        self.judged += 1
        newest, older, window = self._means(blocks)
        egress = heard.egress_bps.astype(np.float64)
        speaks = heard.fresh & (egress > 0)
        self.until[~heard.fresh] = 0
        expected = self.usual * egress
        if self.judged > LEARNING * blocks.buckets:
            chance = 4.0 * np.sqrt(noise * (1.0 / blocks.newest.sum() + 1.0 / blocks.older.sum()))
            gone = older - newest > np.maximum((1 - GONE) * older, chance * np.sqrt(older))
            gone &= speaks & (egress >= SENDING * self.egress) & (newest < BACK * expected)
            still = (current < self.until) & (newest < BACK * expected)
            begins, goes_on = self._regions_gone(heard, speaks, newest, older, expected, chance)
            begins |= goes_on & np.isin(np.arange(heard.regions), self.short)
            gone |= (still | begins[heard.region]) & speaks
            self.until[gone] = current + blocks.buckets
        distrusted = (current < self.until) & speaks
        self._learn(speaks & ~distrusted & (window > 0), window, egress)
        missing = np.where(distrusted, np.maximum(expected - window, 0.0), 0.0)
        lacking, wanted = (
            np.bincount(heard.region, of, minlength=heard.regions).astype(np.float64)
            for of in (missing, np.where(speaks, expected, 0.0))
        )
        lacking[lacking < MISSING * wanted] = 0.0
        self._add_what_is_missing(lacking * blocks.buckets, blocks)

    def _learn(self, calm: Bools, window: F64, egress: F64) -> None:
        """What is usual of the appliances `calm`."""
        known = self.egress > 0
        smoothed = np.where(known, self.egress + (egress - self.egress) / 8, egress)
        self.egress = np.where(calm, smoothed, self.egress)
        ratio = window / np.maximum(self.egress, 1.0)
        usual = np.where(known, self.usual + (ratio - self.usual) / (1 << USUAL_SHIFT), ratio)
        self.usual = np.where(calm, usual, self.usual)

    def renumber(self, kept: Int64) -> None:
        """Only these blocks are left, in this order."""
        if len(self.held):
            size = int(kept.max(initial=-1)) + 1
            self.held = grown(self.held, size, 0)[kept]
            self.added = grown(self.added, size, 0)[kept]

    def _means(self, blocks: Drawn) -> tuple[F64, F64, F64]:
        """Bytes a bucket of each appliance's plays: newest, older, and all of the window."""
        sets = (blocks.newest, blocks.older, blocks.complete)
        newest, older, window = (self.drawn[one].sum(axis=0) / max(one.sum(), 1) for one in sets)
        return newest, older, window

    def _regions_gone(
        self, heard: Heard, speaks: Bools, newest: F64, older: F64, expected: F64, chance: float
    ) -> tuple[Bools, Bools]:
        """Regions whose plays fell while what their appliances send did not, and those whose plays
        are fewer than they should be by what they send."""
        said = speaks & (self.egress > 0)
        now, before, sent, usual, due = (
            np.bincount(heard.region, np.where(said, of, 0.0), minlength=heard.regions)
            for of in (newest, older, heard.egress_bps.astype(np.float64), self.egress, expected)
        )
        limit = np.maximum((1 - REGION_GONE) * before, chance * np.sqrt(before))
        few = now < (1 + REGION_GONE) / 2 * due
        return few & (before - now > limit) & (sent >= REGION_SENDING * usual), few

    def _add_what_is_missing(self, missing: F64, blocks: Drawn) -> None:
        """`missing`: bytes of a window by region."""
        self.short = np.flatnonzero(missing)
        if not len(self.short):
            self.held, self.added = self.held[:0], self.added[:0]
            return
        if len(self.held):
            self.held = grown(self.held, len(blocks.whole), 0)
        else:
            older = blocks.whole - blocks.recent
            self.held = older * blocks.buckets // max(int(blocks.older.sum()), 1)
        lost = np.maximum(self.held[: len(blocks.whole)] - blocks.whole, 0)
        of_region = np.bincount(
            blocks.region, lost.sum(axis=1).astype(np.float64), minlength=len(missing)
        )
        part = np.minimum(missing / np.maximum(of_region, 1.0), ADDED_TIMES)
        self.added = (lost * part[blocks.region][:, None]).astype(np.int64)
