"""What a scenario does to the world, second by second.

Idea: every fault is a function from the second to what it changes in `Conditions`, so that
several may happen at once and recovery is nothing of its own: a fault that is over changes nothing
any more. Where a fault has to choose its victims it takes the busiest, or every n-th, by the layout
alone: all policies meet the same fault.
Sources: a BGP session to a dead site ends with its hold time, 90 s (RFC 4271 4.2 suggests it).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.layout import CLASS_SHARE, CLASSES, PEERING, Layout
from pipeline.sim.loop.scenario import Fault, Scenario
from pipeline.sim.loop.tally import sums

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HOLD_S = 90
LIVE = 1
OK, DRAINING, FILLING, FAILED = range(4)
_EVENT_ENDS_S = 60  # within which those leave who came for an event


@dataclass(slots=True)
class Conditions:
    """What holds in one second. alive, heard, played bool[A] (its reports, its plays arrive);
    service uint8[A]; disk float64[A] (left of its speed); failing float64[A] (of its requests,
    reported by nobody), cable float64[A] (share of packets lost on its port); link float64[links]
    (left of its capacity), noise float64[links] (share of packets lost there); session bool[S,
    isps]; demand, leaving, coming, extra float64[B, C]: arrivals as a multiple of the usual, shares
    that leave at once, where as many come instead (0: nowhere), viewers that come besides."""

    alive: Bools
    heard: Bools
    played: Bools
    service: npt.NDArray[np.uint8]
    disk: F64
    failing: F64
    cable: F64
    link: F64
    noise: F64
    session: Bools
    demand: F64
    leaving: F64
    coming: F64
    extra: F64

    @classmethod
    def well(cls, layout: Layout) -> "Conditions":
        """Nothing is wrong."""
        appliances, shape = len(layout.site), (len(layout.metro), CLASSES)
        return cls(
            alive=np.ones(appliances, bool),
            heard=np.ones(appliances, bool),
            played=np.ones(appliances, bool),
            service=np.full(appliances, OK, np.uint8),
            disk=np.ones(appliances),
            failing=np.zeros(appliances),
            cable=np.zeros(appliances),
            link=np.ones(len(layout.link_bps)),
            noise=np.zeros(len(layout.link_bps)),
            session=np.ones((layout.sites, layout.size.isps), bool),
            demand=np.ones(shape),
            leaving=np.zeros(shape),
            coming=np.zeros(shape),
            extra=np.zeros(shape),
        )


def busiest(layout: Layout, count: float, isp: int | None = None) -> I64:
    """The sites that most viewers (of this ISP) are nearest to, the busiest first."""
    mine = layout.popularity * (1.0 if isp is None else layout.isp == isp)
    load = sums(layout.candidate[:, 0], mine, layout.sites)
    return np.argsort(-load, kind="stable")[: int(count)]


class Script:
    """A scenario on a layout."""

    def __init__(self, layout: Layout, scenario: Scenario) -> None:
        self._layout, self._scenario = layout, scenario

    def at(self, second: int) -> Conditions:
        """The conditions in this second since the warm-up ended (negative before)."""
        now = Conditions.well(self._layout)
        if self._scenario.period_s:
            now.demand *= self._wave(second)
        for fault in self._scenario.faults:
            _APPLY[fault.kind](self._layout, self._scenario, fault, second, now)
        return now

    def _wave(self, second: int) -> float:
        """Trough at the beginning, peak in the middle of the day."""
        turn = np.cos(2 * np.pi * second / self._scenario.period_s)
        trough = self._scenario.trough
        return float(trough + (1.0 - trough) * (1.0 - turn) / 2)

    def first_fault(self) -> Fault | None:
        """What relief is measured from."""
        return min(self._scenario.faults, key=lambda one: one.from_s, default=None)


def _lasts(fault: Fault, second: int) -> bool:
    return fault.from_s <= second < fault.to_s


def _site_loss(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        lost = busiest(layout, fault.of["sites"])
        now.alive &= ~np.isin(layout.site, lost)
        if second >= fault.from_s + HOLD_S:
            now.session[lost] = False


def _link_cut(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        now.link[busiest(layout, fault.of["sites"]) * 2 + PEERING] *= fault.of["left"]


def _slow_disk(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        first = np.searchsorted(layout.site, np.arange(layout.sites))
        now.disk[first] *= fault.of["left"]


def _bad_cable(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        now.cable[:: int(fault.of["every"])] = fault.of["loss"]


def _noisy_link(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        now.noise[busiest(layout, fault.of["sites"]) * 2 + PEERING] = fault.of["loss"]


def _peer_flap(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    down_s = fault.of["down_s"]
    turn = (second - fault.from_s) % (down_s + fault.of["up_s"])
    if _lasts(fault, second) and turn < down_s:
        isp = int(fault.of["isp"])
        now.session[busiest(layout, fault.of["sites"], isp), isp] = False


def _flash_crowd(
    layout: Layout, scenario: Scenario, fault: Fault, second: int, now: Conditions
) -> None:
    there = layout.metro < fault.of["metros"]
    times, rise_s = fault.of["times"], fault.of["rise_s"]
    if _lasts(fault, second):
        now.demand[there, LIVE] *= times
        if second < fault.from_s + rise_s:
            usual = layout.popularity * layout.size.viewers * scenario.load * CLASS_SHARE[LIVE]
            now.extra[there, LIVE] += usual[there] * (times - 1) / rise_s
    elif fault.to_s <= second < fault.to_s + _EVENT_ENDS_S:
        # the same number each second, until one of `times` is left
        gone = 1 - 1 / times
        passed = (second - fault.to_s) / _EVENT_ENDS_S
        now.leaving[there, LIVE] += gone / _EVENT_ENDS_S / (1 - gone * passed)


def _lying_report(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        now.failing[:: int(fault.of["every"])] = fault.of["failing"]


def _report_loss(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        number = np.arange(len(layout.site)) * 7919 % len(layout.site)
        now.heard &= number >= fault.of["share"] * len(layout.site)


def _play_loss(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    if _lasts(fault, second):
        number = np.arange(len(layout.site)) * 37 % len(layout.site)
        now.played &= number >= fault.of["share"] * len(layout.site)


def _upgrade(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    count = np.bincount(layout.site, minlength=layout.sites)[layout.site]
    nth = np.arange(len(layout.site)) - np.searchsorted(layout.site, layout.site)
    takes_s = fault.of["drain_s"] + fault.of["off_s"]
    first = fault.from_s + nth * (fault.to_s - fault.from_s - takes_s) / np.maximum(count - 1, 1)
    since = second - first
    now.service[(since >= 0) & (since < fault.of["drain_s"])] = DRAINING
    now.alive &= ~((since >= fault.of["drain_s"]) & (since < takes_s))


def _isp_shift(layout: Layout, _: Scenario, fault: Fault, second: int, now: Conditions) -> None:
    old, new = (layout.isp == int(fault.of[key]) for key in ("isp", "to_isp"))
    if not _lasts(fault, second):
        return
    share, over_s = fault.of["share"], fault.of["over_s"]
    where = np.where(new, layout.popularity, 0.0)
    where /= max(where.sum(), 1e-300)
    more = layout.popularity[old].sum() / max(layout.popularity[new].sum(), 1e-300)
    now.demand[old] *= 1.0 - share
    now.demand[new] *= 1.0 + share * more
    passed = second - fault.from_s
    if passed < over_s:
        now.leaving[old] += (share / over_s) / (1.0 - share * passed / over_s)
        now.coming[:] += where[:, None]


_APPLY = {
    "site_loss": _site_loss,
    "link_cut": _link_cut,
    "slow_disk": _slow_disk,
    "bad_cable": _bad_cable,
    "noisy_link": _noisy_link,
    "peer_flap": _peer_flap,
    "flash_crowd": _flash_crowd,
    "lying_report": _lying_report,
    "report_loss": _report_loss,
    "play_loss": _play_loss,
    "upgrade": _upgrade,
    "isp_shift": _isp_shift,
}
