"""Appliances whose requests succeed clearly less often than those of their peers.

Idea: what is normal depends on the hour and the site, so an appliance is held against its cluster
(the site where it has none), not against a constant.
Rule: of a cluster's serving appliances with enough requests in their newest report, at least
outlier_hosts_min, those whose success rate is below mean - outlier_sigmas * standard deviation are
outliers, the worst first, as long as not more than outlier_share_max of the cluster's appliances
(but always one) are out for this reason.
Source: Envoy's outlier detection by success rate (1.9 sigma, 5 hosts, 100 requests, 10 %).
One condition more: the rate must be MARGIN below the mean. Among five equal hosts with one failed
request in a thousand at one of them, that one lies two sigmas out; five in a hundred is what the
sampling error of 100 requests explains (1.9 sigma at a success rate of 95 % is 4 %).
"""

import numpy as np
import numpy.typing as npt

from pipeline.config import SteeringConfig
from pipeline.reasons import Reason
from pipeline.state.fleet import Fleet
from pipeline.state.health import CODE, REASONS, ApplianceState, Health
from pipeline.state.ids import Bool, Int64

MARGIN = 0.05
#: By the code of a Reason: whether it takes out for what is done to others.
EJECTED = np.zeros(len(REASONS), dtype=np.bool_)
EJECTED[
    [
        *(CODE[Reason.OUTLIER], CODE[Reason.PLAYS_STALL]),
        *(CODE[Reason.PLAYS_LEAVE], CODE[Reason.RETRANSMITS]),
    ]
] = True


def outliers(health: Health, fleet: Fleet, serving: Bool, config: SteeringConfig) -> Bool:
    """Mask of outliers among `serving` (mask: alive, fresh, in a state that takes traffic)."""
    limits = config.health
    found = np.zeros(len(serving), dtype=np.bool_)
    judged = np.flatnonzero(serving & (health.requests >= limits.requests_min))
    if not judged.size:
        return found
    peers = peers_of(fleet)
    size = int(peers.max()) + 1
    group = peers[judged]
    rate = 1.0 - health.errors[judged] / health.requests[judged]
    hosts = np.bincount(group, minlength=size)
    mean = np.bincount(group, weights=rate, minlength=size) / np.maximum(hosts, 1)
    away = rate - mean[group]
    squares = np.bincount(group, weights=away * away, minlength=size)
    sigma = np.sqrt(squares / np.maximum(hosts, 1))
    low = (away < -limits.outlier_sigmas * sigma[group]) & (away < -MARGIN)
    low &= hosts[group] >= limits.outlier_hosts_min
    if not low.any():
        return found
    found[worst_with_room(judged[low], away[low], health, fleet, config)] = True
    return found


def worst_with_room(
    rows: Int64,
    rate: npt.NDArray[np.float64],
    health: Health,
    fleet: Fleet,
    config: SteeringConfig,
) -> Int64:
    """Of `rows`, the worst (lowest rate) of each cluster, as many as may be out beside those that
    already are for what they do to others."""
    if not len(rows):
        return rows
    live, peers = fleet.live_appliances(), peers_of(fleet)
    out = live & (health.state == ApplianceState.DOWN) & EJECTED[health.reason]
    members = np.bincount(peers[live], minlength=int(peers.max()) + 1)
    allowed = np.maximum((members * config.health.outlier_share_max).astype(np.int64), 1)
    room = allowed - np.bincount(peers[out], minlength=len(members))
    worst = rows[np.lexsort((rows, rate, peers[rows]))]
    ranked = peers[worst]
    rank = np.arange(len(worst)) - np.searchsorted(ranked, ranked, side="left")
    return worst[rank < room[ranked]]


def peers_of(fleet: Fleet) -> npt.NDArray[np.int64]:
    """Group number of each appliance: its cluster's, or one for the rest of its site."""
    cluster = fleet.appliance_cluster.astype(np.int64)
    return np.where(cluster >= 0, cluster, len(fleet.clusters) + fleet.appliance_site)
