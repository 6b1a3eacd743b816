"""The cell: all that one partition remembers, and `step`, the door between state and decisions.

    cell(n), effects(n) = step(cell(n - 1), rows between cut n - 1 and cut n, cut n, config)

`step` is pure but for changing the cell it is given: the same log gives the same bytes (L1). Every
cut folds all rows, decides the appliances' states, the weights of the sites whose members changed
and the eligibility of sites. A TICK or TAKEOVER also plans shares where there is a new bucket of
demand, and brings tables up to routes and paths before, or where these press; an URGENT cut reacts
only where eligibility changed, with the demand last planned for: nothing in it costs time in
proportion to prefixes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np

from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.decide.assignment import CLASSES, I64, TOTAL, Bools
from pipeline.decide.dampings import told_damped, told_released
from pipeline.decide.duty import only_there
from pipeline.decide.eligibility import Appliances, decide_eligibility
from pipeline.decide.exchange import Exchange, Planned, parts
from pipeline.decide.health import evaluate
from pipeline.decide.hearing import listen
from pipeline.decide.lossy import judge as judge_paths
from pipeline.decide.relief import eased
from pipeline.decide.siteloads import Standing
from pipeline.decide.units import load_bps
from pipeline.effects import Effects, EpochDraft, Record, VerdictRow
from pipeline.memory import Memory
from pipeline.regions import Region, Staged
from pipeline.state.forecast import Expected
from pipeline.state.health import ApplianceState
from pipeline.weighing import WITHDRAWN, weigh
from pipeline.wire.rows import Account, TopicRows
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    CAPACITY_PRICES,
    FLEET_INVENTORY,
    INPUTS,
    PLAY_EVENTS,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)

_SESSION_NEWS = ("PeerUp", "PeerDown")


class Cell(Memory):
    """What a partition remembers (memory.py), and what can be asked of it."""

    def states(self) -> dict[str, int]:
        """How many living appliances are in each state."""
        counts = np.bincount(
            self.health.state[self.fleet.live_appliances()], minlength=len(ApplianceState)
        )
        return {state.name: int(counts[state]) for state in ApplianceState}

    def projected_bps(self) -> I64:
        """Projected load of each site by class, int64[S, 3]."""
        total = np.zeros((len(self.fleet.sites), CLASSES), np.int64)
        for region in self.regions.values():
            load = region.shares.sites.load
            total[: len(load)] += load
        return load_bps(total)

    def measured_bps(self) -> tuple[I64, I64]:
        """What the living appliances of each site say they send, and their capacity by inventory:
        int64[S] each."""
        fleet, sites = self.fleet, len(self.fleet.sites)
        living = np.flatnonzero(fleet.live_appliances())
        egress, capacity = np.zeros(sites, np.int64), np.zeros(sites, np.int64)
        np.add.at(egress, fleet.appliance_site[living], self.health.egress_bps[living])
        np.add.at(capacity, fleet.appliance_site[living], fleet.appliance_capacity_bps[living])
        return egress, capacity

    def wanted_bps(self) -> I64:
        """What plays want of the appliances of each site, int64[S]."""
        fleet = self.fleet
        self.plays.sync(fleet)
        total = np.zeros(len(fleet.sites), np.int64)
        np.add.at(total, fleet.appliance_site, self.plays.wanted_bps(self.now_ms))
        return total

    def demand_bps(self) -> I64:
        """Demand of all client blocks by class, int64[3]."""
        total: I64 = self.demand.level_bps(self.now_ms).sum(axis=0)
        return total

    def expected_bps(self) -> dict[str, Expected]:
        """Demand of each region as it is and as it will be in a minute, by class."""
        return {
            region.name: self.demand.expected_of(index) for index, region in self.regions.items()
        }

    def published_records(self, topic: str) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every record that the cell has published on a table topic."""
        return self.ledger.records(topic, self.fleet.sites.names)


def step(cell: Cell, rows: Mapping[str, TopicRows], cut: Cut, config: SteeringConfig) -> Effects:
    """Fold `rows` (by topic), then decide. Raises LogError if a row is unaccounted for (L3)."""
    account, staged = Account(), Staged()
    staged.verdicts += _fold(cell, rows, cut, config, account)
    account.close()
    cell.now_ms = cut.at_ms
    fleet = cell.fleet
    cell.sites.grow(len(fleet.sites))
    staged.verdicts += evaluate(cell.health, cell.plays, fleet, cut.at_ms, config)
    usable = cell.health.usable_bps(fleet, cut.at_ms, config)
    weights = weigh(cell, usable, cut, config, staged.verdicts)
    admitted, going = fleet.drains.admitted(
        fleet.sites, fleet.site_region, fleet.regions, fleet.site_regions, cut.at_ms
    )
    crossed, verdicts = cell.duties.take(fleet.sites.names, fleet.site_alive, admitted, going)
    staged.verdicts += verdicts
    now = decide_eligibility(_appliances(cell, usable, admitted))
    full = round(config.health.saturated_enter * TOTAL)
    whole = replace(now, site_bps=eased(now.site_bps, cell.wanted_bps(), full))
    cell.eligibility = whole.divided(*parts(fleet, cell.sharing))
    changed, verdicts = cell.sites.eligibility(
        fleet.sites.names, fleet.site_alive, cell.eligibility
    )
    changed |= crossed
    staged.verdicts += verdicts
    prices: list[tuple[int, Record]] = []
    exact = {index: region.shares.sites.exact for index, region in cell.regions.items()}
    if cut.cause is Cause.URGENT:
        for region in cell.regions.values():
            region.react(cell.eligibility, changed, config)
    else:
        _tick(cell, changed, config, staged)
        prices = _exchange(cell, whole.site_bps, cut, config, staged.verdicts)
    for index, region in cell.regions.items():
        staged.verdicts += region.told_exact(exact.get(index, True))
        staged.groups += cell.ledger.set_groups(region.name, fleet.sites.names)
    return Effects(
        tables=[*weights, *staged.in_order()],
        verdicts=staged.verdicts,
        prices=prices,
        refused=account.refused,
        epoch=_epoch(cell, account),
    )


def current(cell: Cell, topic: str, keys: Collection[bytes]) -> dict[bytes, bytes | None]:
    """What the cell has published under these keys of a table topic; None: nothing."""
    return cell.ledger.current(topic, keys, cell.fleet.sites.names)


def reconcile(cell: Cell, topic: str, held: Mapping[bytes, bytes]) -> list[Record]:
    """What to write so that a table topic that holds `held` holds what the cell has published."""
    return cell.ledger.reconcile(topic, held, cell.fleet.sites.names)


def _fold(
    cell: Cell,
    rows: Mapping[str, TopicRows],
    cut: Cut,
    config: SteeringConfig,
    account: Account,
) -> list[VerdictRow]:
    """Every topic's rows into its section, in the order of INPUTS; what came of it at once."""
    fleet, now_ms = cell.fleet, cut.at_ms
    turned = cell.routes.release(now_ms)
    cell._cause |= len(turned.sessions) > 0
    verdicts = told_released(cell.routes, turned)
    for topic in INPUTS:
        arrived = rows.get(topic.name)
        if arrived is None or not arrived.count:
            continue  # nothing and an empty chunk are the same
        account.arrive(arrived)
        if topic is FLEET_INVENTORY:
            fleet.fold(arrived, cell.partition, cell.partitions, now_ms, account)
        elif topic is BGP_ROUTES:
            turned = cell.routes.fold(arrived, now_ms, config, account, fleet)
            cell._cause |= any(name in arrived.frames for name in _SESSION_NEWS)
            verdicts += told_damped(cell.routes, turned, now_ms)
        elif topic is APPLIANCE_HEALTH:
            cell.health.fold(arrived, fleet, now_ms, config, account)
        elif topic is TRAFFIC_LINKS:
            cell.links.fold(arrived, fleet, now_ms, config, account)
        elif topic is TRAFFIC_PATHS:
            cell.paths.fold(arrived, fleet, now_ms, config, account)
        elif topic is PLAY_EVENTS:
            told = cell.demand.fold(arrived, fleet, now_ms, config, account)
            if told is not None:
                cell.plays.fold(told, fleet, now_ms)
        elif topic is CAPACITY_PRICES:
            cell.sharing.fold(arrived, cell.partition, cell.partitions, account)
    return verdicts


def _tick(cell: Cell, changed: Bools, config: SteeringConfig, out: Staged) -> None:
    """Tables and shares of every region."""
    fleet = cell.fleet
    placed = (fleet.placement_version, config.hash())
    cause, cell._cause, cell._placed = cell._cause or placed != cell._placed, False, placed
    cell.demand.compact(cell.now_ms)
    turned = cell.demand.learn(cell.now_ms)
    if turned:
        stale_after_ms = config.health.stale_after_ms
        out.verdicts += listen(cell.demand, fleet, cell.health, cell.now_ms, stale_after_ms)
    out.verdicts += judge_paths(cell.paths, fleet)
    cell.paths.compact(cell.now_ms, config)  # paths age where nothing is measured any more
    for index, name in enumerate(fleet.regions.names):
        if index not in cell.regions and fleet.region_alive[index]:
            cell.regions[index] = Region(index, name, cell.ledger)
    planned = False
    for index, region in cell.regions.items():
        sections = (cell.routes, fleet, cell.paths)
        if cause:
            change = region.table.update(*sections, config)
        else:
            change = region.follow(*sections, cell.now_ms, config)
        touched = region.take(change, cell.now_ms, cause, config, out)
        if region.plan(cell.demand, cell.eligibility, changed, touched, cell.now_ms, config):
            planned = True
            out.verdicts += cell.sites.loads(
                fleet.sites.names,
                (fleet.site_region == index) & fleet.site_alive,
                cell.eligibility.admitted < TOTAL,
                region.shares.sites.longer(len(fleet.sites)),
                cell.now_ms,
                config.health.saturated_leave_after_ms,
            )
        if turned:
            out.verdicts += region.told_surges(cell.demand, cell.now_ms)
    if planned:
        groups = [only_there(one.shares.groups, cell.eligibility) for one in cell.regions.values()]
        out.verdicts += cell.duties.held(fleet.sites.names, np.sum(groups, axis=0))
        out.loads += _tell_loads(cell, config)


def _tell_loads(cell: Cell, config: SteeringConfig) -> list[Record]:
    """Records of the sites whose load stands otherwise than was told; tombstones of sites that
    left."""
    fleet, ledger = cell.fleet, cell.ledger
    target = round(config.assignment.target * TOTAL)
    now = Standing.of(cell.sites.load_state, cell.eligibility.site_bps * target // TOTAL)
    for region in cell.regions.values():
        mine = np.flatnonzero((fleet.site_region == region.index) & fleet.site_alive)
        now.put(mine, region.shares.sites)
    news, gone = cell.loads.take(now, config.assignment.min_shift)
    names = fleet.sites.names
    regions = [fleet.regions.names[region] for region in fleet.site_region.tolist()]
    records = ledger.set_loads(cell.loads.records(news, names, regions))
    for site in gone.tolist():
        records += ledger.drop_load(names[site])
    return records


def _exchange(
    cell: Cell, whole_bps: I64, cut: Cut, config: SteeringConfig, verdicts: list[VerdictRow]
) -> list[tuple[int, Record]]:
    """What other cells are told of shared sites."""
    fleet, number = cell.fleet, len(cell.fleet.sites)
    if not fleet.site_regions:
        return []
    planned = Planned.none(number)
    for region in cell.regions.values():
        mine = np.flatnonzero(fleet.site_region == region.index)
        planned.put(
            mine, region.shares.sites.longer(number), region.shares.admission.longer(number)
        )
    exchange = Exchange(fleet, cell.sharing, planned, cell.partitions, cut)
    target = round(config.assignment.target * TOTAL)
    exchange.take(whole_bps // TOTAL * target, config.assignment.min_shift)
    verdicts += exchange.verdicts
    return exchange.records


def _appliances(cell: Cell, usable: I64, admitted: I64) -> Appliances:
    fleet, health = cell.fleet, cell.health
    living = np.flatnonzero(fleet.live_appliances()) if len(fleet.appliances) else usable
    return Appliances(
        site=fleet.appliance_site[living],
        serves=fleet.appliance_serves[living],
        usable_bps=usable[living],
        capacity_bps=fleet.appliance_capacity_bps[living],
        withdrawn=WITHDRAWN[health.service[living]],
        heard=health.heard_ms[living] > 0,
        site_region=fleet.site_region,
        link_bps=cell.links.site_link_capacity_bps(fleet),
        admitted=admitted,
        regions=len(fleet.regions),
    )


def _epoch(cell: Cell, account: Account) -> EpochDraft:
    ledger = cell.ledger
    return EpochDraft(
        table_hash=ledger.table_hash,
        prefixes=ledger.prefix_count(),
        groups=ledger.group_count(),
        sites=len(ledger.weights),
        loads=len(ledger.loads),
        rows=dict(account.rows),
        folded=dict(account.folded),
        notes={str(name): count for name, count in sorted(account.notes.items())},
    )
