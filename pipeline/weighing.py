"""Weights of the sites of a cell, from what it remembers of its appliances to the records of
lb.weights."""

from collections.abc import Iterator

import numpy as np

from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.decide.assignment import I64, Bools
from pipeline.decide.weights import Members, Spread, Weighed
from pipeline.effects import Record, VerdictRow
from pipeline.memory import Memory
from pipeline.reasons import Reason
from pipeline.state.health import CODE, FULL, REASONS, ApplianceState, Service
from pipeline.wire.rowbytes import Texts
from pipeline.wire.tables import WeightColumns, encode_weights

_HEALTHY = np.isin(
    np.arange(len(ApplianceState)),
    [
        ApplianceState.UP,
        ApplianceState.PROBATION,
        ApplianceState.FILLING,
        ApplianceState.SATURATED,
    ],
)
#: By the code of a Service: whether an appliance takes itself out.
WITHDRAWN = np.isin(np.arange(len(Service)), [Service.DRAINING, Service.FAILED])
_COMPARED = np.isin(np.arange(len(ApplianceState)), [ApplianceState.UP, ApplianceState.SATURATED])
#: State and reason of an appliance, by state * len(REASONS) + reason.
_STANDINGS = Texts.pairs((state.name, reason) for state in ApplianceState for reason in REASONS)


def weigh(
    cell: Memory, usable: I64, cut: Cut, config: SteeringConfig, verdicts: list[VerdictRow]
) -> list[Record]:
    """Records of the sites whose weights, states or reasons changed; tombstones of sites that
    left."""
    fleet, health = cell.fleet, cell.health
    live = fleet.live_appliances()
    members = Members(
        names=fleet.appliances.names,
        site=np.where(live, fleet.appliance_site, -1).astype(np.int32),
        capacity_bps=fleet.appliance_capacity_bps,
        usable_bps=usable,
        healthy=_HEALTHY[health.state],
        withdrawn=WITHDRAWN[health.service],
        load=np.where(_COMPARED[health.state], np.rint(health.load * FULL), -1).astype(np.int64),
        mark=health.state.astype(np.int64) << 8 | health.reason,
    )
    found = cell._weigher.weigh(
        members,
        fleet.version,
        config.assignment.min_shift,
        config.health.panic_below,
        turn=None if cut.cause is Cause.URGENT else cut.number,
    )
    verdicts += cell.sites.weighed(fleet.sites.names, found)
    names = [fleet.sites.names[one.site] for one in found]
    values = _site_weights(cell, found, members.withdrawn)
    records = cell.ledger.set_weights(zip(names, values, strict=True))
    cell._weighed_sites.update(one.site for one in found)
    for site in sorted(cell._weighed_sites - cell._weigher.sites()):
        if dropped := cell.ledger.drop_weights(fleet.sites.names[site]):
            records += dropped
            cell._weighed_sites.discard(site)
    return records


def _site_weights(cell: Memory, found: list[Weighed], withdrawn: Bools) -> Iterator[bytes]:
    """The records of sites as they were weighed. In panic an appliance that did not withdraw itself
    is weighted for that reason, whatever is thought of it."""
    fleet, health = cell.fleet, cell.health
    counts = np.array([len(one.members) for one in found], np.int64)
    member = np.array([member for one in found for member in one.members], np.int64)
    reason = health.reason[member].astype(np.int64)
    panic = np.array([one.spread is Spread.PANIC for one in found], np.bool_)
    if panic.any():
        reason[np.repeat(panic, counts) & ~withdrawn[member]] = CODE[Reason.PANIC]
    regions, sites = fleet.regions.names, fleet.sites.names
    columns = WeightColumns(
        place=[(regions[fleet.site_region[one.site]], sites[one.site]) for one in found],
        counts=counts,
        names=fleet.appliances.texts(),
        appliance=member,
        weight=np.array([weight for one in found for weight in one.weights], np.int64),
        standings=_STANDINGS,
        standing=health.state[member] * len(REASONS) + reason,
    )
    return encode_weights(columns)
