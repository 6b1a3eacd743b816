"""What state each appliance is in, from what it says, how it does and whether it is heard at all.

Idea: all appliances are evaluated at once. Each signal (transitions.py) is a mask over them; of
the signals that would change an appliance's state, or why it is in it, the first in the order of
`Signal` acts. Only those that change are looked at one by one, to say why.
Rule: bad news acts at once (FAILED, DRAINING and FILLING at the first report that says so, silence
at the deadline); good news has to last (recover_reports, then slow start; leaving SATURATED takes
saturated_leave_after_ms below a lower threshold). Every fall to DOWN adds to a penalty that decays
by half-lives; from penalty_suppress until it is below penalty_reuse nothing is promoted. A
withdrawal is never delayed by it (numbers of RFC 7196 and FRR).
A site of which nobody is heard any more is believed to be down after site_stale_after_ms already:
single reports get lost, those of several machines at once do not, unless reporting as such is
broken (more than half of the cell is as quiet).
The first report of an appliance takes it straight UP: a plane that starts must not put the whole
fleet through slow start at once, and what nobody has seen fail has nothing to prove.
Silence of many at once is not theirs: when more than half of the live appliances have been quiet
for two thirds of stale_after_ms (which is before the first of them is overdue, so that it does not
matter how their reports are spread in time), reporting is taken to be broken, and nobody goes
STALE until stale_after_ms after most are heard again.
Measured on a busy 2-core machine: 0.5 ms for 2,000 appliances, 2.6 ms for 20,000; each that changes
8 us more.
Rejected: a score with a threshold (cannot say why); evaluation per report (a deadline is no
report).
"""

import numpy as np
import numpy.typing as npt

from pipeline.config import SteeringConfig
from pipeline.decide.outliers import EJECTED, outliers
from pipeline.decide.resends import resending
from pipeline.decide.stalls import suffering
from pipeline.decide.transitions import NEXT_REASON, NEXT_STATE, PROMOTIONS, Signal
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.fleet import Fleet
from pipeline.state.health import (
    CODE,
    FULL,
    RAMP_STEPS,
    REASONS,
    ApplianceState,
    Health,
    Service,
)
from pipeline.state.ids import Bool, Int64, UInt8
from pipeline.state.penalties import PENALTY_CEILING
from pipeline.state.plays import Plays

__all__ = ["ApplianceState", "evaluate"]

#: So many appliances must be heard before "more than half of them" says anything about reporting.
BLIND_MIN = 5
#: So many appliances of a site must be silent together before that says more than each alone. With
#: 1 report of 200 lost, and each at its own moment, three miss one together once in 8 million.
DARK_MIN = 3

_S = ApplianceState
_SERVING = (_S.UP, _S.PROBATION, _S.FILLING, _S.SATURATED)
#: The machine by signal, then state: a row is looked up for all appliances at once.
_NEXT_STATE, _NEXT_REASON = (np.ascontiguousarray(table.T) for table in (NEXT_STATE, NEXT_REASON))


def evaluate(
    health: Health, plays: Plays, fleet: Fleet, now_ms: int, config: SteeringConfig
) -> list[VerdictRow]:
    """Bring every appliance of the inventory into the state that its evidence asks for now; one
    verdict for each that changes its state, or why it is in it."""
    health.sync(fleet)
    live = fleet.appliance_alive
    _watch(health, now_ms, config)
    overdue = (health.heard_ms > 0) & (now_ms - health.heard_ms >= config.health.stale_after_ms)
    overdue |= _dark(health, fleet, now_ms, config)
    verdicts = _blindness(health, fleet, live & overdue, now_ms, config)
    signals = _signals(health, plays, fleet, overdue, now_ms, config)
    chosen = np.full(len(live), -1, dtype=np.int16)
    for signal in reversed(Signal):
        told = signals[signal] & live
        if told.any():
            state, reason = _NEXT_STATE[signal][health.state], _NEXT_REASON[signal][health.state]
            told &= (state >= 0) & ((state != health.state) | (reason != health.reason))
            chosen[told] = signal
    changed = np.flatnonzero(chosen >= 0)
    if not len(changed):
        health.failed_seen[:] = False
        return verdicts
    penalty = health.penalty_at(now_ms, config)
    for row in changed.tolist():
        signal = Signal(int(chosen[row]))
        to = NEXT_STATE[health.state[row], signal]
        verdicts.append(
            VerdictRow(
                kind="appliance",
                entity=fleet.appliances.names[row],
                from_state=ApplianceState(health.state[row]).name,
                to_state=ApplianceState(to).name,
                reason=REASONS[NEXT_REASON[health.state[row], signal]],
                detail=_detail(signal, health, plays, row, int(penalty[row]), now_ms, config),
            )
        )
    _apply(health, changed, chosen[changed], now_ms, config)
    return verdicts


def _in(state: UInt8, *states: ApplianceState) -> Bool:
    """Which of these states are one of `states` (by a table: np.isin takes 20 times as long)."""
    marks = np.zeros(len(_S), dtype=np.bool_)
    marks[list(states)] = True
    return marks[state]


def _watch(health: Health, now_ms: int, config: SteeringConfig) -> None:
    """What has to be remembered between cuts: since when load is low, and who is suppressed."""
    below = health.load < config.health.saturated_leave
    started = np.where(health.below_since_ms > 0, health.below_since_ms, now_ms)
    health.below_since_ms = np.where(below, started, 0)
    if health.penalty.any() or health.suppressed.any():
        penalty = health.penalty_at(now_ms, config)
        health.suppressed |= penalty >= max(config.health.penalty_suppress, 1)
        health.suppressed &= penalty >= config.health.penalty_reuse


def _dark(health: Health, fleet: Fleet, now_ms: int, config: SteeringConfig) -> Bool:
    """Mask of the appliances of sites of which nobody has been heard for site_stale_after_ms."""
    heard = fleet.live_appliances() & (health.heard_ms > 0)
    quiet = heard & (now_ms - health.heard_ms >= config.health.site_stale_after_ms)
    if 2 * int(quiet.sum()) > int(heard.sum()):
        return np.zeros(len(quiet), dtype=np.bool_)
    sites = len(fleet.sites)
    talking = np.bincount(fleet.appliance_site[heard & ~quiet], minlength=sites)
    silent = np.bincount(fleet.appliance_site[quiet], minlength=sites)
    dark: Bool = quiet & ((talking == 0) & (silent >= DARK_MIN))[fleet.appliance_site]
    return dark


def _blindness(
    health: Health, fleet: Fleet, overdue: Bool, now_ms: int, config: SteeringConfig
) -> list[VerdictRow]:
    """Keep `blind_until_ms`: how long silence proves nothing, because most reports are missing."""
    limit_ms = config.health.stale_after_ms
    heard = fleet.appliance_alive & (health.heard_ms > 0)
    heard &= ~_in(health.state, ApplianceState.STALE, ApplianceState.DOWN)
    quiet = int((heard & (now_ms - health.heard_ms >= limit_ms * 2 // 3)).sum())
    many = int(heard.sum())
    if many >= BLIND_MIN and 2 * quiet > many:
        health.blind_until_ms = now_ms + limit_ms
    was, blind = health.blind, now_ms < health.blind_until_ms
    health.blind = blind and (was or bool((heard & overdue).any()))
    if health.blind == was:
        return []
    return [
        VerdictRow(
            kind="cell",
            entity=str(fleet.partition),
            from_state="REPORTING" if health.blind else "BLIND",
            to_state="BLIND" if health.blind else "REPORTING",
            reason=Reason.PANIC if health.blind else Reason.RELEASED,
            detail=f"{quiet} of {many} appliances quiet for {limit_ms * 2 / 3000:.1f} s or more",
        )
    ]


def _signals(
    health: Health, plays: Plays, fleet: Fleet, overdue: Bool, now_ms: int, config: SteeringConfig
) -> dict[Signal, Bool]:
    """Mask of each signal over the appliances."""
    limits, service = config.health, health.service
    fresh = (health.heard_ms > 0) & ~overdue
    never = (health.state == _S.STALE) & (health.reason == CODE[Reason.NEVER_REPORTED])
    says_ok = fresh & (service == Service.OK)
    ramp_done = (health.ramp_from_ms == 0) | (now_ms - health.ramp_from_ms >= limits.slow_start_ms)
    below_ms = now_ms - health.below_since_ms
    relieved = (health.below_since_ms > 0) & (below_ms >= limits.saturated_leave_after_ms)
    taking = fresh & fleet.live_appliances() & _in(health.state, *_SERVING)
    stalling, abandoned = suffering(health, plays, fleet, taking, now_ms, config)
    recovered = fresh & (health.good_run >= limits.recover_reports)
    signals = {
        Signal.FAILED_REPORT: (fresh & (service == Service.FAILED)) | health.failed_seen,
        Signal.SILENT: overdue & (not health.blind),
        Signal.ERRORS: fresh & (health.bad_run >= limits.error_reports),
        Signal.OUTLIER: outliers(health, fleet, taking, config),
        Signal.STALLS: stalling,
        Signal.LEFT: abandoned,
        Signal.RESENDS: resending(health, fleet, taking, config),
        Signal.DRAIN_REPORT: fresh & (service == Service.DRAINING),
        Signal.FILL_REPORT: fresh & (service == Service.FILLING),
        Signal.FIRST_REPORT: says_ok & never & (health.good_run > 0),
        Signal.RECOVERED: recovered & ~_ejected(health, now_ms, config),
        Signal.OK_REPORT: says_ok,
        Signal.RAMP_DONE: fresh & ramp_done,
        Signal.OVER_TARGET: fresh & (health.load >= limits.saturated_enter),
        Signal.RELIEVED: fresh & relieved,
    }
    due = np.zeros(len(fresh), dtype=np.bool_)
    for signal in PROMOTIONS:
        due |= signals[signal] & (_NEXT_STATE[signal] >= 0)[health.state]
        signals[signal] = signals[signal] & ~health.suppressed
    signals[Signal.HELD] = due & health.suppressed
    return signals


def _ejected(health: Health, now_ms: int, config: SteeringConfig) -> Bool:
    """Mask of those that were taken out for what they do to others and have not been out for long
    enough. Who serves nobody gives no evidence: it must not come back for the lack of it."""
    out = _in(health.state, _S.DOWN) & EJECTED[health.reason]
    if not out.any():
        return out
    limits = config.health
    times = -(-health.penalty_at(now_ms, config) // max(limits.penalty_per_failure, 1))
    out_ms = np.minimum(np.maximum(times, 1) * limits.ejection_ms, limits.ejection_max_ms)
    ejected: Bool = out & (now_ms - health.since_ms < out_ms)
    return ejected


def _apply(
    health: Health,
    rows: Int64,
    signals: npt.NDArray[np.int16],
    now_ms: int,
    config: SteeringConfig,
) -> None:
    """Move `rows` as their signals say, with what goes along: clocks, runs, ramp and penalty. Who
    stops draining begins slow start where the drain had come to."""
    before = health.state[rows]
    after = NEXT_STATE[before, signals].astype(np.uint8)
    share = health.share(now_ms, config)[rows]
    into = (after == _S.DRAINING) & (before != _S.DRAINING)
    health.drain_from_share[rows[into]] = share[into]
    health.reason[rows] = NEXT_REASON[before, signals]
    health.state[rows] = after
    health.since_ms[rows[after != before]] = now_ms
    unknown = _in(after, _S.DOWN, _S.STALE)
    health.good_run[rows[unknown]] = health.bad_run[rows[unknown]] = 0
    starts = (after == _S.PROBATION) & _in(before, _S.DRAINING, _S.DOWN, _S.STALE)
    done = np.maximum(np.where(before == _S.DRAINING, share, 0) - FULL // RAMP_STEPS, 0)
    ramp_from = now_ms - config.health.slow_start_ms * done // FULL
    health.ramp_from_ms[rows[starts]] = ramp_from[starts]
    health.ramp_from_ms[rows[after == _S.UP]] = 0
    fell = rows[(after == _S.DOWN) & _in(before, *_SERVING)]
    limits = config.health
    most = max(limits.penalty_reuse * PENALTY_CEILING, limits.penalty_suppress)
    penalty = health.penalty_at(now_ms, config)[fell] + limits.penalty_per_failure
    health.penalty[fell] = np.minimum(penalty, most)
    health.penalty_at_ms[fell] = now_ms
    health.failed_seen[:] = False


def _detail(
    signal: Signal,
    health: Health,
    plays: Plays,
    row: int,
    penalty: int,
    now_ms: int,
    config: SteeringConfig,
) -> str:
    """The numbers that a change rests on."""
    limits = config.health
    errors, requests = health.errors[row], health.requests[row]
    load = f"load {health.load[row]:.3f}"
    silent_s, stale_s = (now_ms - health.heard_ms[row]) / 1000, limits.stale_after_ms / 1000
    below_s = (now_ms - health.below_since_ms[row]) / 1000
    match signal:
        case Signal.SILENT:
            if silent_s < stale_s:
                return f"silent for {silent_s:.1f} s like its whole site"
            return f"silent for {silent_s:.1f} s, limit {stale_s:.1f} s"
        case Signal.ERRORS:
            bad_run = health.bad_run[row]
            return f"{errors} of {requests} requests failed, {bad_run} bad reports in a row"
        case Signal.OUTLIER | Signal.STALLS | Signal.LEFT | Signal.RESENDS:
            how_much = _against_peers(signal, health, plays, row, now_ms)
            return f"{how_much}, clearly more than at its peers"
        case Signal.HELD:
            return f"penalty {penalty}, held until it is below {limits.penalty_reuse}"
        case Signal.RECOVERED:
            return f"{health.good_run[row]} good reports in a row"
        case Signal.RAMP_DONE:
            return f"slow start of {limits.slow_start_ms / 1000:.1f} s is over"
        case Signal.OVER_TARGET:
            return f"{load}, limit {limits.saturated_enter:.3f}"
        case Signal.RELIEVED:
            return f"{load}, below {limits.saturated_leave:.3f} for {below_s:.1f} s"
        case _:
            left_ms = int(health.drain_by_ms[row]) - now_ms
            if signal is Signal.DRAIN_REPORT and left_ms > 0:
                return f"reported DRAINING, within {left_ms / 1000:.1f} s"
            failed = signal is Signal.FAILED_REPORT  # perhaps not in its newest report
            return f"reported {(Service.FAILED if failed else Service(health.service[row])).name}"


def _against_peers(signal: Signal, health: Health, plays: Plays, row: int, now_ms: int) -> str:
    """What is so much more at an appliance than at its peers."""
    told, left, wanted, missed = (int(one[row]) for one in plays.recent(now_ms))
    match signal:
        case Signal.STALLS:
            return f"{100 * missed / max(wanted, 1):.0f} % missed in {told} plays"
        case Signal.LEFT:
            return f"{left} of {told} plays failed over"
        case Signal.RESENDS:
            return f"{health.resent[row]:.1f} retransmits a request"
        case _:
            return f"{health.errors[row]} of {health.requests[row]} requests failed"
