"""The state machine of an appliance: every (state, signal) pair, and what becomes of it.

It is data so that it can be read, tested pair by pair, looked up in columns, and printed:
docs/health.md is made from it. When a signal is true, and for how long, is decide/health.py.
"""

from enum import IntEnum

import numpy as np

from pipeline.reasons import Reason
from pipeline.state.health import CODE, ApplianceState


class Signal(IntEnum):
    """What may be true of an appliance at a cut; the first that changes anything acts."""

    FAILED_REPORT = 0  # it says FAILED, or said so since the last cut
    SILENT = 1  # no report for stale_after_ms, of its whole site for site_stale_after_ms
    ERRORS = 2  # error_reports reports in a row with too many errors
    OUTLIER = 3  # more of its requests fail than at its peers, clearly, by its own reports
    STALLS = 4  # its plays stall more than those of its peers, clearly, by what players say
    LEFT = 5  # sessions fail over from it more than from its peers, clearly, by what players say
    RESENDS = 6  # it sends more packets again than its peers, clearly, by its own reports
    DRAIN_REPORT = 7  # it says DRAINING
    FILL_REPORT = 8  # it says FILLING
    HELD = 9  # it would be promoted, were it not for its penalty
    FIRST_REPORT = 10  # its first report ever says OK
    RECOVERED = 11  # recover_reports good reports in a row; whoever was ejected, in its time
    OK_REPORT = 12  # it says OK
    RAMP_DONE = 13  # slow start is over
    OVER_TARGET = 14  # load at or above saturated_enter
    RELIEVED = 15  # load below saturated_leave for saturated_leave_after_ms


PROMOTIONS = (Signal.FIRST_REPORT, Signal.RECOVERED, Signal.OK_REPORT, Signal.RAMP_DONE)
_S, _G, _R = ApplianceState, Signal, Reason
#: What the signals do that change a state, or (HELD) why it is as it is.
_CHANGES: dict[ApplianceState, dict[Signal, tuple[ApplianceState, Reason]]] = {
    _S.UP: {
        _G.FAILED_REPORT: (_S.DOWN, _R.REPORTED_FAILED),
        _G.SILENT: (_S.STALE, _R.SILENT),
        _G.ERRORS: (_S.DOWN, _R.ERROR_RATE),
        _G.OUTLIER: (_S.DOWN, _R.OUTLIER),
        _G.STALLS: (_S.DOWN, _R.PLAYS_STALL),
        _G.LEFT: (_S.DOWN, _R.PLAYS_LEAVE),
        _G.RESENDS: (_S.DOWN, _R.RETRANSMITS),
        _G.DRAIN_REPORT: (_S.DRAINING, _R.REPORTED_DRAINING),
        _G.FILL_REPORT: (_S.FILLING, _R.REPORTED_FILLING),
        _G.OVER_TARGET: (_S.SATURATED, _R.SATURATED),
    },
    _S.PROBATION: {
        _G.FAILED_REPORT: (_S.DOWN, _R.REPORTED_FAILED),
        _G.SILENT: (_S.STALE, _R.SILENT),
        _G.ERRORS: (_S.DOWN, _R.ERROR_RATE),
        _G.OUTLIER: (_S.DOWN, _R.OUTLIER),
        _G.STALLS: (_S.DOWN, _R.PLAYS_STALL),
        _G.LEFT: (_S.DOWN, _R.PLAYS_LEAVE),
        _G.RESENDS: (_S.DOWN, _R.RETRANSMITS),
        _G.DRAIN_REPORT: (_S.DRAINING, _R.REPORTED_DRAINING),
        _G.FILL_REPORT: (_S.FILLING, _R.REPORTED_FILLING),
        _G.HELD: (_S.PROBATION, _R.FLAPPING),
        _G.RAMP_DONE: (_S.UP, _R.PROMOTED),
    },
    _S.FILLING: {
        _G.FAILED_REPORT: (_S.DOWN, _R.REPORTED_FAILED),
        _G.SILENT: (_S.STALE, _R.SILENT),
        _G.ERRORS: (_S.DOWN, _R.ERROR_RATE),
        _G.OUTLIER: (_S.DOWN, _R.OUTLIER),
        _G.STALLS: (_S.DOWN, _R.PLAYS_STALL),
        _G.LEFT: (_S.DOWN, _R.PLAYS_LEAVE),
        _G.RESENDS: (_S.DOWN, _R.RETRANSMITS),
        _G.DRAIN_REPORT: (_S.DRAINING, _R.REPORTED_DRAINING),
        _G.HELD: (_S.FILLING, _R.FLAPPING),
        _G.OK_REPORT: (_S.PROBATION, _R.REPORTED_OK),
    },
    _S.DRAINING: {
        _G.FAILED_REPORT: (_S.DOWN, _R.REPORTED_FAILED),
        _G.SILENT: (_S.STALE, _R.SILENT),
        _G.HELD: (_S.DRAINING, _R.FLAPPING),
        _G.RECOVERED: (_S.PROBATION, _R.SLOW_START),
        _G.OK_REPORT: (_S.PROBATION, _R.REPORTED_OK),
    },
    _S.SATURATED: {
        _G.FAILED_REPORT: (_S.DOWN, _R.REPORTED_FAILED),
        _G.SILENT: (_S.STALE, _R.SILENT),
        _G.ERRORS: (_S.DOWN, _R.ERROR_RATE),
        _G.OUTLIER: (_S.DOWN, _R.OUTLIER),
        _G.STALLS: (_S.DOWN, _R.PLAYS_STALL),
        _G.LEFT: (_S.DOWN, _R.PLAYS_LEAVE),
        _G.RESENDS: (_S.DOWN, _R.RETRANSMITS),
        _G.DRAIN_REPORT: (_S.DRAINING, _R.REPORTED_DRAINING),
        _G.FILL_REPORT: (_S.FILLING, _R.REPORTED_FILLING),
        _G.RELIEVED: (_S.UP, _R.RELIEVED),
    },
    _S.DOWN: {
        _G.DRAIN_REPORT: (_S.DRAINING, _R.REPORTED_DRAINING),
        _G.HELD: (_S.DOWN, _R.FLAPPING),
        _G.RECOVERED: (_S.PROBATION, _R.SLOW_START),
    },
    _S.STALE: {
        _G.FAILED_REPORT: (_S.DOWN, _R.REPORTED_FAILED),
        _G.ERRORS: (_S.DOWN, _R.ERROR_RATE),
        _G.DRAIN_REPORT: (_S.DRAINING, _R.REPORTED_DRAINING),
        _G.HELD: (_S.DOWN, _R.FLAPPING),
        _G.FIRST_REPORT: (_S.UP, _R.FIRST_REPORT),
        _G.RECOVERED: (_S.PROBATION, _R.SLOW_START),
    },
}
#: The signals that leave a state as it is. They are listed so that a new signal or state has to be
#: thought through everywhere: a pair that stands in neither table is an error at import.
_STAYS: dict[ApplianceState, tuple[Signal, ...]] = {
    _S.UP: (_G.HELD, _G.FIRST_REPORT, _G.RECOVERED, _G.OK_REPORT, _G.RAMP_DONE, _G.RELIEVED),
    # Slow start already bounds what it is given; and a failing PROBATION falls by other signals.
    _S.PROBATION: (_G.FIRST_REPORT, _G.RECOVERED, _G.OK_REPORT, _G.OVER_TARGET, _G.RELIEVED),
    _S.FILLING: (
        _G.FILL_REPORT,
        _G.FIRST_REPORT,
        _G.RECOVERED,
        _G.RAMP_DONE,
        _G.OVER_TARGET,
        _G.RELIEVED,
    ),
    # It takes nothing new: errors and load are those of what is leaving. Going on to FILLING is a
    # promotion and takes the way through PROBATION.
    _S.DRAINING: (
        _G.ERRORS,
        _G.OUTLIER,
        _G.STALLS,
        _G.LEFT,
        _G.RESENDS,
        _G.DRAIN_REPORT,
        _G.FILL_REPORT,
        _G.FIRST_REPORT,
        _G.RAMP_DONE,
        _G.OVER_TARGET,
        _G.RELIEVED,
    ),
    _S.SATURATED: (
        _G.HELD,
        _G.FIRST_REPORT,
        _G.RECOVERED,
        _G.OK_REPORT,
        _G.RAMP_DONE,
        _G.OVER_TARGET,
    ),
    # Silence tells nothing new of what is known to be bad; and one good report is not enough.
    _S.DOWN: (
        _G.FAILED_REPORT,
        _G.SILENT,
        _G.ERRORS,
        _G.OUTLIER,
        _G.STALLS,
        _G.LEFT,
        _G.RESENDS,
        _G.FILL_REPORT,
        _G.FIRST_REPORT,
        _G.OK_REPORT,
        _G.RAMP_DONE,
        _G.OVER_TARGET,
        _G.RELIEVED,
    ),
    _S.STALE: (
        _G.SILENT,
        _G.OUTLIER,
        _G.STALLS,
        _G.LEFT,
        _G.RESENDS,
        _G.FILL_REPORT,
        _G.OK_REPORT,
        _G.RAMP_DONE,
        _G.OVER_TARGET,
        _G.RELIEVED,
    ),
}


def _complete() -> dict[tuple[ApplianceState, Signal], tuple[ApplianceState, Reason] | None]:
    table: dict[tuple[ApplianceState, Signal], tuple[ApplianceState, Reason] | None] = {}
    for state in ApplianceState:
        changes, stays = _CHANGES[state], _STAYS[state]
        for signal in Signal:
            if (signal in changes) == (signal in stays):
                raise LookupError(f"{state.name} and {signal.name} must be listed, and once")
            table[state, signal] = changes.get(signal)
    return table


#: The whole machine: (state, signal) -> (state, Reason); None: stays as it is.
TRANSITIONS = _complete()
#: The same to look up in columns: int16[state, signal], -1 where it stays.
NEXT_STATE = np.full((len(ApplianceState), len(Signal)), -1, dtype=np.int16)
NEXT_REASON = NEXT_STATE.copy()
for _pair, _to in TRANSITIONS.items():
    if _to is not None:
        NEXT_STATE[_pair], NEXT_REASON[_pair] = _to[0], CODE[_to[1]]


def transition_table_markdown() -> str:
    """The machine as docs/health.md shows it: a row for each signal, in the order of precedence."""
    lines = [
        "| signal | " + " | ".join(state.name for state in ApplianceState) + " |",
        "|---" * (len(ApplianceState) + 1) + "|",
    ]
    for signal in Signal:
        cells = []
        for state in ApplianceState:
            to = TRANSITIONS[state, signal]
            cells.append("" if to is None else f"{to[0].name} ({to[1]})")
        lines.append(f"| {signal.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
