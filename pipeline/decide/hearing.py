"""Plays held against what appliances say that they send, once for each bucket of demand: verdicts
of kind "demand", of entity region, where plays of a region begin to be missing (state/reporting.py)
and where they are all there again."""

import numpy as np

from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.demand import Demand
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.reporting import Heard


def listen(
    demand: Demand, fleet: Fleet, health: Health, now_ms: int, stale_after_ms: int
) -> list[VerdictRow]:
    """Bring `demand` up to what is heard; the verdicts."""
    heard = Heard(
        egress_bps=health.egress_bps,
        fresh=fleet.live_appliances() & (health.heard_ms > now_ms - stale_after_ms),
        region=np.maximum(fleet.site_region[fleet.appliance_site], 0),
        regions=len(fleet.regions),
    )
    before = set(demand.reporting.short.tolist())
    demand.listen(now_ms, heard)
    now = set(demand.reporting.short.tolist())
    rows = []
    for region in sorted(before ^ now):
        states = ("TRUSTED", "MISSING") if region in now else ("MISSING", "TRUSTED")
        reason = Reason.REPORTS_LOST if region in now else Reason.RELEASED
        detail = "plays ceased, and the appliances go on sending" if region in now else ""
        rows.append(VerdictRow("demand", fleet.regions.names[region], *states, reason, detail))
    return rows
