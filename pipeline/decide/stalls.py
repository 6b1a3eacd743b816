"""Appliances whose plays stall, or leave them, clearly more than those of their peers, though they
say nothing.

Idea: the players of a site's appliances are the same people behind the same links. What all of them
suffer is the network's or the site's; what those of one appliance suffer is that appliance's.
Rule: of the appliances that take load, those of whose recent plays a share goes wrong that exceeds
that of all others of their cluster (or site) together by a margin are told, given plays_min plays;
by more, given as many fewer as leaves it as certain (n x excess squared), at least PLAYS_LEAST. The
worst first, as many as may be out (outliers.py). Not one that is as busy as it may be, or that says
itself that it refuses requests: those fail because of load, and weights take it off them.
    stalling   the share of what is wanted that is missed; the margin is stall_margin
    abandoned  the share of plays that failed over: their players gave the appliance up, each after
               several requests. A smaller share says as much, since nothing but a fault makes it:
               LEFT_MARGIN, and by chance not once in so many plays
Sources: a share of n plays is off by sqrt(p (1 - p) / n) <= 0.5 / sqrt(n): 50 plays tell an excess
of 20 points at 2.8 standard errors, 5 plays one of 63. LEFT_MARGIN: that of outliers.py, for the
same requests; CERTAIN standard errors of what is counted, sqrt(p / n). Ejection: outliers.py.
Rejected: deviations from the mean (in a site of three the bad one is most of the deviation); a
threshold without peers (a full link would empty every appliance behind it).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.config import SteeringConfig
from pipeline.decide.outliers import MARGIN, peers_of, worst_with_room
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.ids import Bool, Int64
from pipeline.state.plays import Plays

#: Share of requests that an appliance itself reports as failed from which it is known to be
#: in trouble (the margin of outliers.py).
OWN_ERRORS = 0.05
PLAYS_LEAST = 5
LEFT_MARGIN, CERTAIN = MARGIN, 3.0
F64 = npt.NDArray[np.float64]


class Suffering(NamedTuple):
    """Masks over the appliances."""

    stalling: Bool
    abandoned: Bool


def suffering(
    health: Health, plays: Plays, fleet: Fleet, serving: Bool, now_ms: int, config: SteeringConfig
) -> Suffering:
    """Those among `serving` (mask: alive, fresh, in a state that takes traffic)."""
    limits = config.health
    found = Suffering(*(np.zeros(len(serving), dtype=np.bool_) for _ in range(2)))
    plays.sync(fleet)
    number, left, wanted, missed = plays.recent(now_ms)
    judged = np.flatnonzero(serving & (number >= PLAYS_LEAST))
    if not len(judged) or not (missed[judged].any() or left[judged].any()):
        return found
    busy = health.load[judged] >= limits.saturated_enter
    own_fault = ~busy & (health.errors[judged] <= OWN_ERRORS * health.requests[judged])
    group, many = peers_of(fleet)[judged], number[judged]
    share, worse = _excess(group, wanted[judged], missed[judged])
    told = own_fault & (worse >= limits.stall_margin)
    told &= many * worse * worse >= limits.plays_min * limits.stall_margin * limits.stall_margin
    out = worst_with_room(judged[told], -share[told], health, fleet, config)
    found.stalling[out] = True
    share, worse = _excess(group, many, left[judged])
    told = own_fault & (worse >= LEFT_MARGIN) & (left[judged] >= PLAYS_LEAST)
    told &= many * worse * worse >= CERTAIN * CERTAIN * share
    out = worst_with_room(judged[told], -share[told], health, fleet, config)
    found.abandoned[out] = True
    return found


def _excess(group: Int64, of: Int64, bad: Int64) -> tuple[F64, F64]:
    """(share that is bad, by how much it exceeds that of all others of the group; 0 where there is
    nobody else)."""
    total, wrong = np.zeros((2, int(group.max()) + 1), dtype=np.int64)
    np.add.at(total, group, of)
    np.add.at(wrong, group, bad)
    others = total[group] - of
    share = bad / np.maximum(of, 1)
    elsewhere = (wrong[group] - bad) / np.maximum(others, 1)
    return share, np.where(others > 0, np.maximum(share - elsewhere, 0.0), 0.0)
