"""Appliances whose plays stall clearly more than those of their peers, though they say nothing.

Idea: the players of a site's appliances are the same people behind the same links. What all of them
suffer is the network's or the site's; what those of one appliance suffer is that appliance's.
Rule: of the appliances that take load, those of whose recent plays a share is missed that exceeds
that of all others of their cluster (or site) together by stall_margin are told, given plays_min
plays; by more, given as many fewer as leaves it as certain (n x excess squared), at least
PLAYS_LEAST. The worst first, as many as may be out (outliers.py). Not one that is as busy as it may
be, or that says itself that it refuses requests: those stall because of load, and weights take it
off them.
Sources: a share of n plays is off by sqrt(p (1 - p) / n) <= 0.5 / sqrt(n): 50 plays tell an excess
of 20 points at 2.8 standard errors, 5 plays one of 63. Ejection: outliers.py.
Rejected: deviations from the mean (in a site of three the bad one is most of the deviation); a
threshold without peers (a full link would empty every appliance behind it).
"""

import numpy as np

from pipeline.config import SteeringConfig
from pipeline.decide.outliers import peers_of, worst_with_room
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.ids import Bool
from pipeline.state.plays import Plays

#: Share of requests that an appliance itself reports as failed from which it is known to be
#: in trouble (the margin of outliers.py).
OWN_ERRORS = 0.05
PLAYS_LEAST = 5


def stalling(
    health: Health, plays: Plays, fleet: Fleet, serving: Bool, now_ms: int, config: SteeringConfig
) -> Bool:
    """Mask of those among `serving` (mask: alive, fresh, in a state that takes traffic)."""
    limits = config.health
    found = np.zeros(len(serving), dtype=np.bool_)
    plays.sync(fleet)
    number, wanted, missed = plays.recent(now_ms)
    judged = np.flatnonzero(serving & (number >= PLAYS_LEAST))
    if not len(judged) or not missed[judged].any():
        return found
    group = peers_of(fleet)[judged]
    size = int(group.max()) + 1
    total, lost = np.zeros((2, size), dtype=np.int64)
    np.add.at(total, group, wanted[judged])
    np.add.at(lost, group, missed[judged])
    others = total[group] - wanted[judged]
    share = missed[judged] / np.maximum(wanted[judged], 1)
    elsewhere = (lost[group] - missed[judged]) / np.maximum(others, 1)
    worse = np.maximum(share - elsewhere, 0.0)
    told = (others > 0) & (worse >= limits.stall_margin)
    told &= (
        number[judged] * worse * worse
        >= limits.plays_min * limits.stall_margin * limits.stall_margin
    )
    busy = health.load[judged] >= limits.saturated_enter
    refuses = health.errors[judged] > OWN_ERRORS * health.requests[judged]
    told &= ~busy & ~refuses
    found[worst_with_room(judged[told], -share[told], health, fleet, config)] = True
    return found
