"""The viewers: they come, find a seat, watch, stall, move and leave; columns, never one by one.

Idea: viewers of one (network, class) at one site are alike, and so are those of one class at one
appliance. So there are two tables of how many there are, seen from either side: `seated`[network,
class, candidate] and `at`[class, appliance]. Whatever happens to one happens to the other by the
means over the site, so that both always hold the same viewers of each (site, class). Who has no
seat stands in `waiting`[network, class].
Rule, in the order of a second: who is cut off (dead appliance, no route) waits; arrivals are added
(Poisson); whoever waits tries where the table says, once every RETRY_S; seated viewers ask again
every RESTEER_S, sooner when they stall, and move only if they must: a session has a fixed lot, so
that of a changed share exactly the difference moves. A move that fails leaves the session where it
is. Then viewers leave: at the end of what they watch, WEARY a second while they wait, ANNOYED a
second while they stall.
Sources: sessions ask again every 300 s (HLS content steering's default TTL, DOMAIN); of viewers who
wait for a start, 5.8 % leave each second, and who stalls 1 % of the time watches 5 % less (Krishnan
and Sitaraman, IMC 2012), which at 1,200 s is 0.44 % for each second of stalling. Players notice a
dead server within 0.5 to 2 s and try again.
Rejected: an object or a row per viewer (five million); bitrates that adapt (whoever watches a worse
picture is harmed too, and then nobody could count it).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.layout import BITRATE_BPS, CLASSES, WATCH_S, Layout
from pipeline.sim.loop.tally import ratio, sums

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RESTEER_S, RESTEER_STALLED_S, RETRY_S = 300.0, 30.0, 2.0
WEARY, ANNOYED = 0.058, 0.0044


@dataclass(frozen=True, slots=True)
class Followed:
    """The table that clients follow: share float64[B, C, K] (of a network's candidates, sums to 1,
    or to 0 where it names none) and weight float64[A] (sums to 1 per site, or to 0)."""

    share: F64
    weight: F64


@dataclass(frozen=True, slots=True)
class Means:
    """What things are like this second: accepts float64[A]: share of new requests that appliances
    take; quality float64[A] and reach float64[B, K]: share of what is wanted that appliances send
    and that arrives of it; routed bool[B, K]."""

    accepts: F64
    quality: F64
    reach: F64
    routed: Bools


class Crowd:
    """All viewers. Counters since the beginning: `came`, `left`, `moved` (mid-session); of the
    last second: `tried` and `failed` to get a seat. `lost` float64[C]: who gave up waiting for one
    and would still be watching; `hoped` float64[B, C]: viewers there would be had nothing ever
    gone wrong, the same under every policy."""

    def __init__(self, layout: Layout) -> None:
        networks, width = layout.candidate.shape
        self._layout = layout
        sites = layout.sites
        #: of each (network, class, candidate) its number as site * CLASSES + class
        spot = np.where(layout.candidate >= 0, layout.candidate, sites)
        self._seat = (spot[:, None, :] * CLASSES + np.arange(CLASSES)[None, :, None]).reshape(-1)
        self.chair = layout.site[None, :] * CLASSES + np.arange(CLASSES)[:, None]
        self._places = (sites + 1) * CLASSES
        self.seated: F64 = np.zeros((networks, CLASSES, width))
        self.at: F64 = np.zeros((CLASSES, len(layout.site)))
        self.waiting: F64 = np.zeros((networks, CLASSES))
        self.came = self.left = self.moved = 0.0
        self.tried = self.failed = 0.0
        self.lost: F64 = np.zeros(CLASSES)
        self.hoped: F64 = np.zeros((networks, CLASSES))
        self._fresh: F64 = np.zeros((networks, CLASSES))

    def settle(self, viewers: F64, table: Followed) -> None:
        """Seat `viewers` [network, class] as the table says, as if they had always been there."""
        self.seated = viewers[:, :, None] * table.share
        self.waiting = viewers - self.seated.sum(axis=2)
        self.at = self.by_site(self.seated)[self.chair] * table.weight
        self.hoped = viewers.copy()
        self.came += float(viewers.sum())

    @property
    def present(self) -> float:
        """Viewers there are, seated or not."""
        return float(self.seated.sum() + self.waiting.sum())

    def by_site(self, seats: F64) -> F64:
        """Sums by (site, class) of something per seat."""
        return sums(self._seat, seats, self._places)

    def by_chair(self, chairs: F64) -> F64:
        """The same of something per (class, appliance)."""
        return sums(self.chair, chairs, self._places)

    def _spread(self, site: F64) -> F64:
        """A value per (site, class) for each seat."""
        spread: F64 = site[self._seat].reshape(self.seated.shape)
        return spread

    # -- a second, step by step

    def cut_off(self, alive: Bools, routed: Bools) -> None:
        """Whoever sits at a dead appliance or behind a route that is gone has to wait."""
        unreached = self.seated * ~routed[:, None, :]
        if unreached.any():
            self.waiting += unreached.sum(axis=2)
            self._vacate(unreached)
        dead = self.at * ~alive
        if dead.any():
            total = self.by_site(self.seated)
            share = np.where(total > 0, self.by_chair(dead) / np.maximum(total, 1e-300), 0.0)
            lost = self.seated * self._spread(np.minimum(share, 1.0))
            self.waiting += lost.sum(axis=2)
            self.seated -= lost
            self.at = self.at - dead

    def change_networks(self, leaving: F64, coming: F64) -> None:
        """Shares [network, class] of all viewers give up; as many per class come elsewhere, spread
        by `coming` [network, class]."""
        share = leaving[:, :, None]
        gone = self.seated * share
        stopped = gone.sum(axis=2) + self.waiting * leaving
        self._vacate(gone)
        self.waiting *= 1.0 - leaving
        total = stopped.sum(axis=0)
        self.left += float(total.sum())
        hoped = self.hoped * leaving
        self.hoped = self.hoped - hoped + (hoped.sum(axis=0) - total) * coming
        self.arrive(total * coming)

    def _vacate(self, seats: F64) -> None:
        """These leave their seats, and evenly the appliances there."""
        share = ratio(self.by_site(seats), self.by_site(self.seated))
        self.at *= 1.0 - share[self.chair]
        self.seated -= seats

    def arrive(self, viewers: F64) -> None:
        """They try for a seat in the same second."""
        self._fresh = self._fresh + viewers
        self.hoped = self.hoped + viewers
        self.came += float(viewers.sum())

    def find_seats(self, table: Followed, means: Means) -> None:
        """Those who wait, and the new ones, try where the table says."""
        trying = self._fresh + self.waiting / RETRY_S
        self.waiting = self.waiting + self._fresh
        self._fresh = np.zeros_like(self.waiting)
        taken, seats = self._accepting(table, means)
        won = trying[:, :, None] * table.share * seats
        self.seated += won
        self.at += self.by_site(won)[self.chair] * taken
        placed = won.sum(axis=2)
        self.waiting -= placed
        self.tried = float(trying.sum())
        self.failed = max(self.tried - float(placed.sum()), 0.0)

    def _accepting(self, table: Followed, means: Means) -> tuple[F64, F64]:
        """(share of a site's new viewers that each appliance gets, share of those sent to a seat
        that get one)."""
        taken = table.weight * means.accepts
        site = sums(self._layout.site, taken, self._layout.sites + 1)
        spread = np.divide(taken, site[self._layout.site], out=np.zeros_like(taken),
                           where=taken > 0)  # fmt: skip
        chosen = np.where(self._layout.candidate >= 0, self._layout.candidate, -1)
        seats = (site[chosen] * means.routed)[:, None, :]
        return spread, seats

    def ask_again(self, table: Followed, means: Means, dt_s: float) -> None:
        """Sessions that ask the table again move where their share went, if they are let in."""
        quality = self.quality(means)
        rate = dt_s * (1.0 / RESTEER_S + np.maximum(1.0 - quality, 0.0) / RESTEER_STALLED_S)
        total = self.seated.sum(axis=2, keepdims=True)
        named = table.share.sum(axis=2, keepdims=True) > 0
        wanted = table.share * total
        surplus = np.where(named, np.maximum(self.seated - wanted, 0.0), 0.0)
        deficit = np.where(named, np.maximum(wanted - self.seated, 0.0), 0.0)
        spread, seats = self._accepting(table, means)
        open_to = deficit / np.maximum(deficit.sum(axis=2, keepdims=True), 1e-300) * seats
        offered = surplus * np.minimum(rate, 1.0)
        out = offered * open_to.sum(axis=2, keepdims=True)
        into = offered.sum(axis=2, keepdims=True) * open_to
        share = ratio(self.by_site(out), self.by_site(self.seated))
        self.at *= 1.0 - share[self.chair]
        self.at += self.by_site(into)[self.chair] * spread
        self.seated += into - out
        self.moved += float(out.sum())
        self._ask_within(table, means, dt_s)

    def _ask_within(self, table: Followed, means: Means, dt_s: float) -> None:
        """The same between the appliances of a site."""
        total = self.by_chair(self.at)[self.chair]
        weighed = sums(self._layout.site, table.weight, self._layout.sites)
        named = (weighed > 0)[self._layout.site]
        wanted = table.weight * total
        rate = dt_s * (1.0 / RESTEER_S + np.maximum(1.0 - means.quality, 0.0) / RESTEER_STALLED_S)
        surplus = np.maximum(self.at - wanted, 0.0) * named * np.minimum(rate, 1.0)
        deficit = np.maximum(wanted - self.at, 0.0) * named
        room = ratio(deficit * means.accepts, self.by_chair(deficit)[self.chair])
        out = surplus * self.by_chair(room)[self.chair]
        into = self.by_chair(surplus)[self.chair] * room
        self.at += into - out

    def quality(self, means: Means) -> F64:
        """Per (network, class, candidate): share of what is wanted there that arrives."""
        return self.sent(means.quality) * means.reach[:, None, :]

    def sent(self, quality: F64) -> F64:
        """The same of what leaves the site, given what each appliance sends of what it should."""
        total = self.by_chair(self.at)
        site = np.where(total > 0, ratio(self.by_chair(self.at * quality), total), 1.0)
        return self._spread(site)

    def leave(self, means: Means, dt_s: float) -> F64:
        """Viewers end what they watch, or give up; returns the stalled ones [network, class,
        candidate] (as parts of viewers: half the bytes, half a stalled viewer)."""
        quality = self.quality(means)
        stalled: F64 = self.seated * np.maximum(1.0 - quality, 0.0)
        hazard = dt_s / WATCH_S
        gone = self.seated * hazard[None, :, None] + stalled * (ANNOYED * dt_s)
        reach = ratio(
            self.by_site(self.seated * means.reach[:, None, :]), self.by_site(self.seated)
        )[self.chair]
        poor = self.at * np.maximum(1.0 - means.quality * reach, 0.0)
        self.at = self.at - self.at * hazard[:, None] - poor * (ANNOYED * dt_s)
        weary = self.waiting * (WEARY * dt_s)
        self.lost = self.lost * (1.0 - hazard) + weary.sum(axis=0)
        self.hoped = self.hoped * (1.0 - hazard)
        self.seated -= gone
        self.waiting -= weary
        self.left += float(gone.sum() + weary.sum())
        return stalled

    # -- what they want

    def wanted_bps(self) -> F64:
        """Per (class, appliance)."""
        wanted: F64 = self.at * BITRATE_BPS[:, None]
        return wanted

    def viewers(self) -> F64:
        """Per (network, class), seated or not."""
        total: F64 = self.seated.sum(axis=2) + self.waiting
        return total

    def drift(self) -> float:
        """How far the two tables are apart: 0 but for rounding."""
        return float(np.abs(self.by_site(self.seated) - self.by_chair(self.at)).max())
