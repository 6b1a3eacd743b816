"""What each appliance says of itself, smoothed, and the memory of its state machine.

Idea: one column per quantity, one row per appliance of the fleet. A report changes its row;
whether that changes the appliance's state is decided afterwards, for all rows at once
(decide/health.py).
Rule: reports of one appliance are folded in the order of the log, each smoothing the one before
(several in one cut: round by round). A report older than what is known is counted and changes
nothing. Silence is measured by the cut's clock from the cut that brought the last report, not by
the publisher's: a clock a minute off must neither keep a dead machine alive nor bury a living one.
What an appliance can send is measured (`measured`): what it sends, over how busy the busiest of
port, disk and CPU is with that. The inventory knows ports only. That needs no model, and is right
where it counts: among machines that are weighted by it each is as busy as the others. An idle
machine says nothing (its CPU is busy with itself), so from TELLS_FULLY down to TELLS_FROM it is
believed less and less, without a step at which weights could jump to and fro.
Sources: Envoy weighs by rate over utilisation in the same way (client-side weighted round robin by
ORCA reports); Open Connect's appliances report saturation by their bottleneck; smoothing by a
quarter takes 2.4 reports (12 s at one every 5 s) to forget half; slow
start from a tenth is Envoy's (min_weight_percent 10); the ceiling of the penalty is FRR's
max-suppress of 60 minutes: reuse times 2 to the number of half-lives in it.
Rejected: exponential decay by exp() (other last bits on another CPU); a moving window of reports
per appliance (no better than one number, and a hundred times the memory).
"""

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import SteeringConfig
from pipeline.reasons import Noted, Reason
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.fleet import Fleet
from pipeline.state.healthscreen import checks
from pipeline.state.ids import Bool, Int64, UInt8, codes, grown, rounds
from pipeline.state.penalties import decayed
from pipeline.wire.rows import OFFSET, Account, TopicRows, passing

Float64 = npt.NDArray[np.float64]

SMOOTHING = 0.25  # share of a new report in the smoothed utilisation
UTILISATION_MAX = 10.0  # an appliance that says it sends ten times what it can is not believed more
FULL = 10_000  # shares of capacity are ten-thousandths
RAMP_STEPS = 10  # slow start goes from 1/10 to 10/10, so that weights move ten times, not per cut
SATURATED_STEP = 100  # and the share of a saturated appliance moves by whole per cents
#: Loads from which a measured capacity is believed, and fully: CPUs of idle machines are busy to
#: about 5 % (both simulations), which at 30 % leaves the port the bottleneck.
TELLS_FROM, TELLS_FULLY = 0.1, 0.3
#: Something is always sent, or nobody would see that a disk is well again.
MEASURED_MIN = 1 / 16
ROUNDS_MAX = 100  # reports of one appliance folded one by one in a cut; of more, the newest

#: Reasons by the code that stands in `Health.reason`.
REASONS: tuple[Reason, ...] = tuple(Reason)
CODE: dict[Reason, int] = {reason: code for code, reason in enumerate(REASONS)}


_ALL = slice(None)


class ApplianceState(IntEnum):
    """What the plane makes of an appliance; `Health.state` holds the numbers."""

    UP = 0
    PROBATION = 1  # back after a failure: slow start
    FILLING = 2  # serves while it is being filled, with a share of its capacity
    DRAINING = 3  # takes nothing new
    SATURATED = 4  # above target: less than its capacity is usable
    DOWN = 5  # known to be bad
    STALE = 6  # nothing is known: never reported, or silent


class Service(IntEnum):
    """What an appliance says of its own service, in the order of the schema."""

    OK = 0
    DRAINING = 1
    FILLING = 2
    FAILED = 3


#: Column -> (type, what stands there before the first report).
_COLUMNS: dict[str, tuple[type[np.generic], float]] = {
    "last_at_ms": (np.int64, 0),
    "heard_ms": (np.int64, 0),
    "service": (np.uint8, Service.OK),
    "egress_bps": (np.int64, 0),
    "capacity_bps": (np.int64, 0),
    "utilisation": (np.float64, 0),
    "load": (np.float64, 0),
    "cpu": (np.float64, 0),
    "disk": (np.float64, 0),
    "connections": (np.int64, 0),
    "requests": (np.int64, 0),
    "errors": (np.int64, 0),
    "ttfb_ms": (np.int64, 0),
    "retransmits": (np.int64, 0),
    "resent": (np.float64, 0),
    "drain_by_ms": (np.int64, 0),
    "drain_from_share": (np.int64, 0),
    "good_run": (np.int64, 0),
    "bad_run": (np.int64, 0),
    "failed_seen": (np.bool_, 0),
    "state": (np.uint8, ApplianceState.STALE),
    "reason": (np.uint8, CODE[Reason.NEVER_REPORTED]),
    "since_ms": (np.int64, 0),
    "ramp_from_ms": (np.int64, 0),
    "below_since_ms": (np.int64, 0),
    "penalty": (np.int64, 0),
    "penalty_at_ms": (np.int64, 0),
    "suppressed": (np.bool_, 0),
}
_REPORTED = (
    *("service", "egress_bps", "capacity_bps", "cpu", "disk"),
    *("connections", "requests", "errors", "ttfb_ms", "retransmits", "drain_by_ms"),
)


class Health:
    """One row per appliance id of the fleet (`sync` brings the columns to its length)."""

    last_at_ms: (
        Int64  # of the newest report, by its publisher's clock, never ahead of the cut; 0 never
    )
    heard_ms: Int64  # at_ms of the cut that brought it; 0: never reported
    service: UInt8  # Service
    egress_bps: Int64
    capacity_bps: Int64  # as reported; 0: not reported
    utilisation: Float64  # egress / capacity, smoothed
    load: Float64  # of its bottleneck (port, disk or CPU), smoothed; never below utilisation
    cpu: Float64
    disk: Float64
    connections: Int64
    requests: Int64  # requests, errors, ttfb_ms, retransmits: of the newest report
    errors: Int64
    ttfb_ms: Int64
    retransmits: Int64
    resent: Float64  # retransmits a request, smoothed
    drain_by_ms: Int64  # when it wants to have no load any more; 0: at once
    drain_from_share: Int64  # of its capacity, ten-thousandths, when it came to be DRAINING
    good_run: Int64  # reports in a row that were good, and bad
    bad_run: Int64
    failed_seen: Bool  # FAILED was reported since the states were last evaluated
    state: UInt8  # ApplianceState
    reason: UInt8  # index into REASONS
    since_ms: Int64  # when it came into its state
    ramp_from_ms: Int64  # when its slow start began; 0: it has none
    below_since_ms: Int64  # since when utilisation is below saturated_leave; 0: it is not
    penalty: Int64  # for flapping, as of penalty_at_ms
    penalty_at_ms: Int64
    suppressed: Bool  # the penalty went above suppress and is not yet below reuse

    def __init__(self) -> None:
        self.blind_until_ms = (
            0  # most reports are missing at once: silence means nothing until then
        )
        self.blind = False
        for column, (dtype, _) in _COLUMNS.items():
            setattr(self, column, np.empty(0, dtype=dtype))

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        blind = {"blind": self.blind, "blind_until_ms": self.blind_until_ms}
        return pack("health", {column: getattr(self, column) for column in _COLUMNS} | blind)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Health":
        """The inverse of `to_bytes`."""
        health, fields = cls(), unpack("health", data)
        for name in (*_COLUMNS, "blind", "blind_until_ms"):
            setattr(health, name, fields[name])
        return health

    def sync(self, fleet: Fleet) -> None:
        """Bring every column to the length of the fleet; new rows never reported."""
        size = len(fleet.appliances)
        if len(self.state) < size:
            for column, (_, fill) in _COLUMNS.items():
                setattr(self, column, grown(getattr(self, column), size, fill))

    def reason_of(self, appliance: int) -> Reason:
        """Why this appliance is in its state."""
        return REASONS[int(self.reason[appliance])]

    def fold(
        self, rows: TopicRows, fleet: Fleet, now_ms: int, config: SteeringConfig, account: Account
    ) -> None:
        """Take over the rows of appliance.health."""
        self.sync(fleet)
        frame = rows.frames.get("Health")
        if frame is None:
            return
        row = fleet.appliances.index(frame.get_column("appliance"))
        offsets = frame.get_column(OFFSET).to_numpy()
        screened = checks(frame, row, fleet, now_ms, config)
        kept = passing(rows.topic, offsets, screened, account)
        columns = {
            name: frame.get_column(name).to_numpy()[kept]
            for name in ("at_ms", *_REPORTED)
            if name != "service"
        }
        columns["service"] = codes(frame.get_column("service"), Service.__members__)[kept]
        columns["row"] = row[kept]
        account.fold(rows.topic, len(columns["row"]))
        if not len(columns["row"]):
            return
        parts, left_out = rounds(columns["row"], ROUNDS_MAX)
        account.note(Noted.LATE, len(left_out))
        self._failures({name: column[left_out] for name, column in columns.items()})
        for part in parts:
            one_each = {name: column[part] for name, column in columns.items()}
            self._reports(one_each, fleet, now_ms, config, account)
        np.minimum(self.last_at_ms, now_ms, out=self.last_at_ms)

    def _failures(self, news: dict[str, npt.NDArray[Any]]) -> None:
        """Remember who said FAILED: it counts even when the same cut also brings the recovery."""
        told = (news["service"] == Service.FAILED) & (news["at_ms"] >= self.last_at_ms[news["row"]])
        self.failed_seen[news["row"][told]] = True

    def _reports(
        self,
        news: dict[str, npt.NDArray[Any]],
        fleet: Fleet,
        now_ms: int,
        config: SteeringConfig,
        account: Account,
    ) -> None:
        """Fold at most one report of each appliance. Who stops draining starts from where that
        was (decide/health.py), so its deadline stays known."""
        drains = news["service"] == Service.DRAINING
        deadline = np.where(drains, news["drain_by_ms"], self.drain_by_ms[news["row"]])
        news = {**news, "drain_by_ms": deadline}
        last = self.last_at_ms[news["row"]]
        again = news["at_ms"] == last
        for column in _REPORTED:
            again &= news[column] == getattr(self, column)[news["row"]]
        older = news["at_ms"] < last
        account.note(Noted.DUPLICATE, int(again.sum()))
        account.note(Noted.REORDERED, int(older.sum()))
        if (told := again | older).any():
            news = {name: column[~told] for name, column in news.items()}
        self._failures(news)
        rows = news["row"]
        for column in _REPORTED:
            getattr(self, column)[rows] = news[column]
        capacity = np.maximum(self.trusted_capacity_bps(fleet, rows), 1)
        measured = np.minimum(news["egress_bps"] / capacity, UTILISATION_MAX)
        busiest = np.maximum(measured, np.maximum(news["disk"], news["cpu"]))
        first = self.heard_ms[rows] == 0
        resent = news["retransmits"] / np.maximum(news["requests"], 1)
        smoothing = (self.utilisation, measured), (self.load, busiest), (self.resent, resent)
        for smoothed, value in smoothing:
            before = smoothed[rows]
            smoothed[rows] = np.where(first, value, before + (value - before) * SMOOTHING)
        enough = news["requests"] >= config.health.requests_min
        bad = enough & (news["errors"] > config.health.error_rate_max * news["requests"])
        serving = (news["service"] == Service.OK) | (news["service"] == Service.FILLING)
        self.bad_run[rows] = np.where(bad, self.bad_run[rows] + 1, 0)
        self.good_run[rows] = np.where(serving & ~bad, self.good_run[rows] + 1, 0)
        self.last_at_ms[rows] = news["at_ms"]
        self.heard_ms[rows] = now_ms

    def trusted_capacity_bps(self, fleet: Fleet, rows: Int64 | slice = _ALL) -> Int64:
        """int64[n]: the lesser of what inventory and appliance say, of all or of `rows`; a reported
        0 says nothing."""
        known, told = fleet.appliance_capacity_bps[rows], self.capacity_bps[rows]
        return np.where(told > 0, np.minimum(told, known), known)

    def penalty_at(self, now_ms: int, config: SteeringConfig) -> Int64:
        """int64[n]: the penalties as of `now_ms`."""
        half_life_ms = config.health.penalty_half_life_ms
        return decayed(self.penalty, self.penalty_at_ms, now_ms, half_life_ms)

    def ramp(self, now_ms: int, config: SteeringConfig) -> Int64:
        """int64[n]: share of capacity that slow start allows, in ten-thousandths."""
        length = max(config.health.slow_start_ms, 1)
        step = np.clip((now_ms - self.ramp_from_ms) * RAMP_STEPS // length + 1, 1, RAMP_STEPS)
        step = np.where(self.suppressed, 1, step)
        return np.where(self.ramp_from_ms == 0, FULL, step * (FULL // RAMP_STEPS))

    def draining(self, now_ms: int) -> Int64:
        """int64[n]: share of capacity that is left of what an appliance had when it began to drain,
        evenly less until its deadline; whole per cents, so that weights move so often at most."""
        left = np.maximum(self.drain_by_ms - now_ms, 0)
        whole = np.maximum(self.drain_by_ms - self.since_ms, 1)
        share: Int64 = self.drain_from_share * np.minimum(left, whole) // whole
        return share // SATURATED_STEP * SATURATED_STEP

    def share(self, now_ms: int, config: SteeringConfig) -> Int64:
        """int64[n]: share of what it can carry that may be planned on, by state."""
        ramp = self.ramp(now_ms, config)
        excess = np.maximum(self.load, config.health.saturated_enter)
        relief = FULL * config.health.saturated_enter / excess
        relief_steps = np.rint(relief).astype(np.int64) // SATURATED_STEP * SATURATED_STEP
        filling = ramp * int(FULL * config.health.filling_share) // FULL
        share = np.zeros(len(self.state), dtype=np.int64)
        for state, of_capacity in (
            (ApplianceState.UP, np.full_like(share, FULL)),
            (ApplianceState.PROBATION, ramp),
            (ApplianceState.FILLING, filling),
            (ApplianceState.DRAINING, self.draining(now_ms)),
            (ApplianceState.SATURATED, relief_steps),
        ):
            share = np.where(self.state == state, of_capacity, share)
        return share

    def measured(self) -> Int64:
        """int64[n]: what an appliance can send as a share of its port's capacity, by what it sends
        and how busy its bottleneck is with that; in ten-thousandths."""
        told = np.clip((self.load - TELLS_FROM) / (TELLS_FULLY - TELLS_FROM), 0.0, 1.0)
        share = 1.0 - told * (1.0 - self.utilisation / np.maximum(self.load, TELLS_FROM))
        found: Int64 = np.rint(FULL * np.maximum(share, MEASURED_MIN)).astype(np.int64)
        return found

    def usable_bps(self, fleet: Fleet, now_ms: int, config: SteeringConfig) -> Int64:
        """int64[n]: capacity that may be planned on, by state; 0 for what is not alive."""
        self.sync(fleet)
        share = self.share(now_ms, config)
        able = self.trusted_capacity_bps(fleet) * self.measured() // FULL
        usable = able * share // FULL
        return np.where(fleet.live_appliances(), usable, 0)
