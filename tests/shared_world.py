"""Three cells that share one site, on paper: each with its log, and what they tell each other on
its way for a while.

Region eu is the home of site x; us and ap use it as well. Every region has a site of its own,
farther from its clients than x. Demand is what one play a second makes of a window.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cause
from pipeline.effects import Effects
from schemas.partition import partition_of
from schemas.registry import CAPACITY_PRICES
from tests.cell_world import GBPS, Log, read

REGIONS = ("eu", "us", "ap")
PARTITIONS = 8
SHARED = "x"
NETS = 12


@dataclass
class SharedCell:
    """One region's cell; `loads`, `parts`: of the shared site after each cut."""

    region: str
    log: Log = field(default_factory=Log)
    effects: list[Effects] = field(default_factory=list)
    loads: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.partition = self.log.partition = partition_of(self.region, PARTITIONS)
        self.cell = Cell(self.partition, PARTITIONS)
        self._taken = dict.fromkeys(self.log.values, 0)

    def cut(self, cause: Cause = Cause.TICK) -> Effects:
        self.log.cut(cause)
        rows = {}
        for topic, end in self.log.cuts[-1].offsets.items():
            start, self._taken[topic] = self._taken[topic], end
            if end > start:
                rows[topic] = read(self.log, topic, start, end)
        effects = step(self.cell, rows, self.log.cuts[-1], SteeringConfig())
        site = self.cell.fleet.sites.get(SHARED)
        self.effects.append(effects)
        self.loads.append(int(self.cell.projected_bps()[site].sum()))
        self.parts.append(int(self.cell.eligibility.part[site]))
        return effects

    def inventory(self, shared_gbps: int, own_gbps: int) -> None:
        log, region = self.log, self.region
        log._fleet("Region", region, name=region, lat=0.0, lon=0.0)
        for site, regions in ((SHARED, list(REGIONS)), (f"{region}-own", [])):
            place = {"region": region, "name": site, "kind": "IX", "lat": 0.0, "lon": 0.0}
            log._fleet("Site", site, links=[], regions=regions, **place)
        for site, gbps in ((SHARED, shared_gbps), (f"{region}-own", own_gbps)):
            log._fleet(
                "Appliance",
                f"{site}-a0",
                site=site,
                cluster="",
                region=region,
                capacity_bps=gbps * GBPS,
                serves=["VOD"],
                addresses=[],
            )
        for net in range(NETS):
            log.route(SHARED, f"20.{net}.0.0/16", hops=1)
            log.route(f"{region}-own", f"20.{net}.0.0/16", hops=2)

    def report(self, gbps: int) -> None:
        """A second of everybody's reports, and of plays that come to so much."""
        for site in (SHARED, f"{self.region}-own"):
            self.log.health(f"{site}-a0", egress_bps=GBPS, cpu=0.0, disk=0.0)
        for net in range(NETS):
            size = gbps * GBPS // 8 // NETS
            self.log.play(f"20.{net}.1.9", f"{self.region}-own-a0", "VOD", size)


class SharedWorld:
    """`delay(random)`: how many seconds a word takes from cell to cell."""

    def __init__(
        self,
        seed: int = 1,
        *,
        shared_gbps: int = 30,
        own_gbps: int = 40,
        delay: Callable[[Random], int] = lambda random: random.randrange(4),
    ) -> None:
        self._random, self._delay = Random(seed), delay
        self.cells = {region: SharedCell(region) for region in REGIONS}
        self._by_partition = {one.partition: one for one in self.cells.values()}
        assert len(self._by_partition) == len(REGIONS)
        self._under_way: list[tuple[int, int, int, bytes, bytes]] = []  # due, nth, partition, ...
        self.second = 0
        for one in self.cells.values():
            one.inventory(shared_gbps, own_gbps)

    def run(self, seconds: int, demand: dict[str, int], silent: tuple[str, ...] = ()) -> None:
        """Cuts of all cells but the silent ones, in another order each second."""
        for _ in range(seconds):
            self.second += 1
            self._deliver()
            order = [one for region, one in self.cells.items() if region not in silent]
            self._random.shuffle(order)
            for one in order:
                one.report(demand[one.region])
                self.tell(one.cut(self._random.choice([Cause.TICK] * 9 + [Cause.URGENT])))
            for region in silent:
                self.cells[region].log.now_ms += 1000

    def tell(self, effects: Effects) -> None:
        for partition, record in effects.prices:
            assert record.topic == CAPACITY_PRICES.name
            due = self.second + 1 + self._delay(self._random)
            place = (due, len(self._under_way), partition)
            self._under_way.append((*place, record.key, record.value or b""))

    def _deliver(self) -> None:
        due = [one for one in self._under_way if one[0] <= self.second]
        self._under_way = [one for one in self._under_way if one[0] > self.second]
        for *_, partition, key, value in due:
            self._by_partition[partition].log.raw(CAPACITY_PRICES.name, key, value)

    def parts(self) -> dict[str, int]:
        """What part of the shared site each cell plans with, ten-thousandths."""
        return {region: one.parts[-1] for region, one in self.cells.items()}

    def loads(self) -> dict[str, int]:
        return {region: one.loads[-1] for region, one in self.cells.items()}

    def history(self, name: str) -> np.ndarray:
        """int64[cuts, regions] of `parts` or `loads` (all cells have made as many cuts)."""
        return np.array([getattr(one, name) for one in self.cells.values()]).T
