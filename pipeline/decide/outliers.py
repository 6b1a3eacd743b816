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
from pipeline.state.health import CODE, ApplianceState, Health
from pipeline.state.ids import Bool

MARGIN = 0.05


def outliers(health: Health, fleet: Fleet, serving: Bool, config: SteeringConfig) -> Bool:
    """Mask of outliers among `serving` (mask: alive, fresh, in a state that takes traffic)."""
    limits = config.health
    found = np.zeros(len(serving), dtype=np.bool_)
    judged = np.flatnonzero(serving & (health.requests >= limits.requests_min))
    if not judged.size:
        return found
    peers = _peers(fleet)
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
    # Room: what the cluster may have out, less what is out already.
    live = fleet.live_appliances()
    out = live & (health.state == ApplianceState.DOWN) & (health.reason == CODE[Reason.OUTLIER])
    members = np.bincount(peers[live], minlength=size)
    allowed = np.maximum((members * limits.outlier_share_max).astype(np.int64), 1)
    room = allowed - np.bincount(peers[out], minlength=size)
    worst = np.lexsort((judged[low], away[low], group[low]))
    ranked = group[low][worst]
    rank = np.arange(ranked.size) - np.searchsorted(ranked, ranked, side="left")
    found[judged[low][worst][rank < room[ranked]]] = True
    return found


def _peers(fleet: Fleet) -> npt.NDArray[np.int64]:
    """Group number of each appliance: its cluster's, or one for the rest of its site."""
    cluster = fleet.appliance_cluster.astype(np.int64)
    return np.where(cluster >= 0, cluster, len(fleet.clusters) + fleet.appliance_site)
