"""The `failover` benchmark: from the report that takes an appliance down to a follower that knows.

One broker, one busy cell (one region) with 2,000 appliances, a worker, and `edgesteer sim run`,
which reports the health of all of them every five seconds, plays, links, paths and route changes
all the while. The benchmark holds the steering table with a follower, as an edge cache would. A
run: a Health record with service FAILED for an appliance that has weight is sent with a plain
producer; it ends when the follower has applied a step in which that appliance has weight 0. The
clock starts just before the send and stops inside the follower's step; both are read in this
process. The simulation goes on reporting that the appliance is well, so it comes back by probation;
each appliance is taken at most once, site by site in turn, at moments that know nothing of the
ticks.

Measured with 100,000 prefixes and again with ten times as many.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.bench import metrics
from pipeline.bench.common import (
    APPLIANCES,
    START_TIMEOUT_S,
    Say,
    closed,
    epochs,
    fleet_args,
    is_steady,
    kafka,
    machine,
    running,
    spread,
    until_up,
    worker_args,
)
from pipeline.broker.process import free_ports
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError
from pipeline.follow.follower import Follower
from pipeline.follow.reader import TopicReader
from pipeline.follow.table import Applied, SteeringTable
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode
from schemas.partition import partition_of
from schemas.registry import APPLIANCE_HEALTH, LB_WEIGHTS, STEERING_EPOCHS

PARTITIONS = 4
PREFIXES = (100_000, 1_000_000)
RUNS = 300
#: Between two runs, at random: so every moment of the second between two ticks is met.
PAUSE_S = (0.05, 0.25)
RUN_TIMEOUT_S = 15.0
SETTLE_S = 8.0  # the fleet is up, the first plays are counted
_SITE_MEMBERS_MIN = 4  # with fewer, one failure is half a site


async def run(say: Say, runs: int = RUNS, sizes: Sequence[int] = PREFIXES) -> dict[str, Any]:
    """`runs` failovers with each number of prefixes. Raises BrokerError when something ends or
    hangs."""
    found: dict[str, dict[str, Any]] = {}
    for prefixes in sizes:
        found[f"{prefixes:,} prefixes"] = await _at_size(say, runs, prefixes)
    figures = [one["failover_ms"]["p99"] for one in found.values()]
    detail: dict[str, Any] = {"machine": machine(), "runs": runs, "appliances": APPLIANCES}
    if len(figures) > 1:
        detail["p99_ratio_of_sizes"] = round(figures[-1] / figures[0], 2)
        medians = [one["failover_ms"]["p50"] for one in found.values()]
        detail["p50_ratio_of_sizes"] = round(medians[-1] / medians[0], 2)
    return {
        "name": "failover",
        "value": figures[0],
        "unit": "ms",
        "ratios": {},
        "detail": {**detail, **found},
    }


async def _at_size(say: Say, runs: int, prefixes: int) -> dict[str, Any]:
    async with kafka(PARTITIONS, say) as (broker, folder):
        (port,) = free_ports(1)
        arguments = [*worker_args(folder), "--metrics-port", str(port)]
        async with running("fleet", fleet_args(prefixes), broker, folder) as sim:
            await until_up(sim)
            async with running("worker", arguments, broker, folder) as worker:
                say(f"{prefixes:,} prefixes: the fleet is up, the worker starts ...")
                began = await epochs(broker, is_steady, worker, START_TIMEOUT_S)
                async with Failures(broker) as failures:
                    await asyncio.sleep(SETTLE_S)
                    before = await metrics.read(port)
                    took = await failures.measure(runs, say)
                    after = await metrics.read(port)
                    hops = await _hops(broker, took)
                    mismatches = len(failures.table.verify())
    held = {one.partition: one.prefixes for one in began}
    return {
        "failover_ms": spread([one.total_ms for one in took]),
        **{name: spread(values) for name, values in hops.items()},
        "worker": metrics.between(before, after),
        "prefixes_in_the_table": max(held.values()),
        "mismatches": mismatches,
    }


@dataclass(frozen=True, slots=True)
class Run:
    """One failover: when it was sent (Unix ms), how long it took, and the cut that it came with."""

    sent_ms: float
    total_ms: float
    partition: int
    cut: int


class Failures:
    """Async context manager: a follower, a producer, and one failure after another."""

    def __init__(self, broker: BrokerSettings) -> None:
        self._follower = Follower(broker, self._stepped)
        self._producer = AIOKafkaProducer(**broker.client_kwargs(), acks="all", linger_ms=0)
        self._site = b""
        self._appliance = ""
        self._seen: asyncio.Future[tuple[float, Applied]] | None = None

    @property
    def table(self) -> SteeringTable:
        """What the follower holds."""
        return self._follower.table

    async def __aenter__(self) -> "Failures":
        await self._follower.__aenter__()
        await self._producer.start()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._producer.stop()
        await self._follower.__aexit__(*error)

    async def measure(self, runs: int, say: Say) -> list[Run]:
        """So many failures, each of another appliance."""
        draw = random.Random(1)  # noqa: S311  (not a secret)
        took: list[Run] = []
        candidates = self._candidates()
        while len(took) < runs:
            await asyncio.sleep(draw.uniform(*PAUSE_S))
            partition, site, appliance = next(candidates)
            if not self._weight(partition, site, appliance):
                continue
            took.append(await self._fail(partition, site, appliance))
            if len(took) % 100 == 0:
                say(f"{len(took)} runs, p50 and p99 of them {_brief(took)} ms")
        return took

    def _candidates(self) -> Iterator[tuple[int, bytes, str]]:
        """(partition, site, appliance), a site's second only after every site's first."""
        sites = []
        for partition, key, value in self.table.items(LB_WEIGHTS.name):
            members = [one["appliance"] for one in decode(value)[1]["appliances"]]
            if len(members) >= _SITE_MEMBERS_MIN:
                sites.append((partition, key, members))
        for turn in range(max(len(members) for _, _, members in sites)):
            for partition, key, members in sites:
                if turn < len(members):
                    yield partition, key, members[turn]
        raise BrokerError("the fleet has too few appliances for so many runs")

    def _weight(self, partition: int, site: bytes, appliance: str) -> int:
        value = self.table.cells[partition].records[LB_WEIGHTS.name].get(site)
        return _weights(value).get(appliance, 0) if value else 0

    async def _fail(self, partition: int, site: bytes, appliance: str) -> Run:
        """One run."""
        value = self.table.cells[partition].records[LB_WEIGHTS.name][site]
        region = decode(value)[1]["region"]
        self._site, self._appliance = site, appliance
        self._seen = asyncio.get_running_loop().create_future()
        now_ms = time.time_ns() / 1e6
        record = encode("Health", _failed(appliance, int(now_ms)))
        began = time.perf_counter()
        await self._producer.send(
            APPLIANCE_HEALTH.name,
            value=record,
            key=appliance.encode(),
            partition=partition_of(region, PARTITIONS),
        )
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                ended, step = await self._seen
        except TimeoutError:
            raise BrokerError(f"{appliance} still has weight after {RUN_TIMEOUT_S} s") from None
        return Run(now_ms, (ended - began) * 1000, step.partition, step.cut)

    async def _stepped(self, step: Applied) -> None:
        value = step.changed[LB_WEIGHTS.name].get(self._site)
        if value is None or self._seen is None or self._seen.done():
            return
        if _weights(value).get(self._appliance) == 0:
            self._seen.set_result((time.perf_counter(), step))


def _weights(value: bytes) -> dict[str, int]:
    return {one["appliance"]: one["weight"] for one in decode(value)[1]["appliances"]}


def _failed(appliance: str, at_ms: int) -> dict[str, Any]:
    counts = ("egress_bps", "connections", "requests", "errors", "ttfb_ms", "retransmits")
    said = {"appliance": appliance, "at_ms": at_ms, "service": "FAILED", "cpu": 0.0, "disk": 0.0}
    return {**said, "capacity_bps": 0, **dict.fromkeys(counts, 0)}


def _brief(took: Sequence[Run]) -> str:
    found = spread([one.total_ms for one in took])
    return f"{found['p50']} and {found['p99']}"


async def _hops(broker: BrokerSettings, took: Sequence[Run]) -> dict[str, list[float]]:
    """The same runs in three parts, by the Epochs of their cuts (whole milliseconds): until the cut
    was made, until its Epoch was sent, until the follower had it."""
    wanted = {(one.partition, one.cut): one for one in took}
    hops: dict[str, list[float]] = {"to_cut_ms": [], "to_epoch_ms": [], "to_follower_ms": []}
    async with TopicReader(broker, (STEERING_EPOCHS.name,)) as reader:
        await reader.from_begin()
        async for fetched in reader.until(await reader.ends()):
            for records in fetched.values():
                for record in records:
                    epoch = closed(decode(record.value)[1])
                    one = wanted.get((epoch.partition, epoch.cut))
                    if one is not None:
                        hops["to_cut_ms"].append(epoch.at_ms - one.sent_ms)
                        hops["to_epoch_ms"].append(epoch.closed_ms - epoch.at_ms)
                        hops["to_follower_ms"].append(one.sent_ms + one.total_ms - epoch.closed_ms)
    return hops
