"""Appliances that send clearly more packets again than their peers do: a bad cable, optic or port.

Idea: what is lost on the way to the viewers is lost for all appliances of a site alike. What one of
them loses more is lost on its own port, and it does not notice: it answers every request.
Rule: of the appliances that take load, those that are told whose retransmits a request (smoothed,
state/health.py) are TIMES those of the others of their cluster (or site) on average, and MORE above
them. Not one that is as busy as it may be: queues lose as well. The worst first, as many as may be
out (outliers.py).
Sources: a request is a segment of one to two seconds, at 6 Mbit/s 500 to 1,000 packets: MORE is
half a per cent to one per cent of them. Beyond one per cent a connection over 20 ms gets less than
such a stream needs (Mathis et al. 1997: 1.22 x 1,460 bytes / (rtt x root of the loss)). TIMES: the
spread among equal machines is that of a count of hundreds, far below two.
Rejected: a share of what is sent (the time between two reports is not known); a threshold without
peers (what a whole site loses is its link's, or its viewers').
"""

import numpy as np

from pipeline.config import SteeringConfig
from pipeline.decide.outliers import peers_of, worst_with_room
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.ids import Bool

TIMES, MORE = 4.0, 5.0


def resending(health: Health, fleet: Fleet, serving: Bool, config: SteeringConfig) -> Bool:
    """Mask of those among `serving` (mask: alive, fresh, in a state that takes traffic)."""
    limits = config.health
    found = np.zeros(len(serving), dtype=np.bool_)
    judged = np.flatnonzero(serving & (health.requests >= limits.requests_min))
    if not len(judged) or not (health.resent[judged] >= MORE).any():
        return found
    group, resent = peers_of(fleet)[judged], health.resent[judged]
    members = np.bincount(group)[group] - 1
    others = (np.bincount(group, weights=resent)[group] - resent) / np.maximum(members, 1)
    told = (members > 0) & (resent >= TIMES * others) & (resent - others >= MORE)
    told &= health.load[judged] < limits.saturated_enter
    found[worst_with_room(judged[told], -resent[told], health, fleet, config)] = True
    return found
