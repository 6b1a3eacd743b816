"""What happens to a plane in the chaos suite: faults by a seeded schedule, and who watches.

Three workers under a supervisor, a producer of known records, a live follower. Every fault ends
when each cell has published again; what has to be true in the end is in laws.py.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from pipeline.broker.admin import admin_client, any_node
from pipeline.broker.kafka import KafkaCluster
from pipeline.demo.children import Child
from pipeline.demo.run import CONFIG
from pipeline.errors import BrokerError
from pipeline.follow.follower import Follower
from pipeline.follow.table import Applied
from schemas.registry import LB_WEIGHTS, PLAY_EVENTS, STEERING_CUTS
from tests.brokers import TestBroker
from tests.known import KnownProducer
from topologies.app import SESSION_TIMEOUT_S

#: After a fault every cell must have published within this time; one that needs more stands still.
#: It says nothing of speed: three workers that start at once beside three brokers needed 113 s on
#: a machine with a fifth of the usual processor time, which runs other tests as well.
RECOVERY_S = 300.0
GIVEN_S = 20.0  # a session, a rebalance and a start, on a busy machine
SNAPSHOT_EVERY = 10  # cuts, so that kills fall into them
CUTS_AFTER = 2  # the first may have been under way when the fault struck
FIRST_CUTS = 3
LAST_WORDS = 15
#: Whose leaders are lost: the log, a table, an input, and the group's coordinator.
LED = (STEERING_CUTS.name, LB_WEIGHTS.name, PLAY_EVENTS.name, "__consumer_offsets")


class Kept:
    """A worker that is started again whatever ends it, after `restart_after_s`."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.restart_after_s = 0.5
        self.statuses: list[int] = []
        self.reasons: list[str] = []  # why it ended, where nobody ended it
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.child.start()
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            status = await self.child.wait()
            self.statuses.append(status)
            if status > 0:
                self.reasons.append(self.said()[-1])
            await asyncio.sleep(self.restart_after_s)
            await self.child.start()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child.pid, number)

    async def stop(self) -> int:
        """End it for good; its exit status."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.signal(signal.SIGCONT)
        return await self.child.stop()

    def said(self) -> list[str]:
        return self.child.log.read_text(errors="replace").splitlines()

    async def says(self, words: str, timeout_s: float) -> None:
        """Until it logs `words` once more, or the time is over."""
        before = self._times(words)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._times(words) <= before:
                    await asyncio.sleep(0.02)

    def _times(self, words: str) -> int:
        return self.child.log.read_bytes().count(words.encode()) if self.child.log.exists() else 0


@dataclass
class Watch:
    """What a live follower saw: it must never go back, nor hold what its Epoch does not say."""

    partitions: int
    last: dict[int, tuple[int, float]] = field(default_factory=dict)  # cell -> cut, when
    silence_s: dict[int, float] = field(default_factory=dict)  # cell -> longest since `begin`
    complaints: list[str] = field(default_factory=list)

    def attach(self, follower: Follower) -> None:
        self.follower = follower

    async def on_step(self, step: Applied) -> None:
        now = time.monotonic()
        cut, at = self.last.get(step.partition, (0, now))
        if step.cut <= cut:
            self.complaints.append(f"cell {step.partition}: cut {step.cut} after {cut}")
        if step.mismatch is not None:
            self.complaints.append(str(step.mismatch))
        self.last[step.partition] = step.cut, now
        silence = now - at
        self.silence_s[step.partition] = max(silence, self.silence_s.get(step.partition, 0.0))

    def begin(self) -> dict[int, int]:
        """Measure silence from now on; the cut of every cell."""
        self.silence_s.clear()
        return {cell: self.last.get(cell, (0, 0.0))[0] for cell in range(self.partitions)}


@dataclass
class Outcome:
    """One fault that was survived."""

    name: str
    kills: int
    silence_s: float  # the longest of any cell


class Chaos:
    """Workers, their supervisor and what is done to them. A context manager."""

    def __init__(
        self,
        broker: TestBroker,
        cluster: KafkaCluster | None,
        folder: Path,
        partitions: int,
        seed: int,
        workers: int = 3,
    ) -> None:
        self.broker, self.cluster, self.folder = broker, cluster, folder
        self.partitions, self.chance = partitions, Random(seed)
        self.config = folder / "edgesteer.toml"
        self.config.write_text(CONFIG)
        self.workers = [self.worker(f"w{number}") for number in range(workers)]
        self.watch = Watch(partitions)
        self.outcomes: list[Outcome] = []
        self.kills = 0
        self._configs = 0

    def worker(self, name: str) -> Kept:
        args = ["worker", "--broker", self.broker.settings.bootstrap, "--name", name]
        args += ["--config", str(self.config), "--datadir", str(self.folder / name)]
        args += ["--snapshot-every", str(SNAPSHOT_EVERY)]
        if not self.broker.is_kafka:
            args.append("--static-member")  # nobody else takes its place there
        return Kept(Child(name, args, self.folder / f"{name}.log"))

    async def __aenter__(self) -> "Chaos":
        await asyncio.gather(*(worker.start() for worker in self.workers))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> list[int]:
        """End all workers in good order; their exit statuses."""
        return list(await asyncio.gather(*(worker.stop() for worker in self.workers)))

    # the run --------------------------------------------------------------------------------------

    async def run(self, faults: Iterable[str], producer: KnownProducer) -> None:
        """One fault after the other, each in its own moment; wait for every cell after each."""
        await self.goes_on("the start", dict.fromkeys(range(self.partitions), FIRST_CUTS))
        for number, name in enumerate(faults):
            await self.stir(producer)
            await asyncio.sleep(self.chance.uniform(0.2, 2.5))
            kills, cuts = self.kills, self.watch.begin()
            print(f"{number}: {name}", flush=True)
            await getattr(self, name)()
            await self.goes_on(name, self._further(cuts))
            silence = max(self.watch.silence_s.values())
            self.outcomes.append(Outcome(name, self.kills - kills, silence))
            print(f"{number}: {name} survived, silent for {silence:.1f} s", flush=True)
            assert self.watch.complaints == []

    async def stir(self, producer: KnownProducer) -> None:
        """Something for the tables to say: an appliance fails, another one is well again."""
        for action in ("FAIL", "RECOVER"):
            name = self.chance.choice(producer.world.plant.names)
            await producer.command(action, name)

    async def goes_on(self, after: str, cuts: dict[int, int]) -> None:
        """Until every cell has published its cut of `cuts`; else which did not, and who said what
        last."""
        try:
            await self.watch.follower.wait_for(
                lambda table: all(table.cell(cell).cut >= cut for cell, cut in cuts.items()),
                RECOVERY_S,
            )
        except (TimeoutError, BrokerError) as error:
            stand = {cell: self.watch.last.get(cell, (0, 0))[0] for cell in cuts}
            words = [f"after {after}: {error!r} {error.__cause__!r}; cuts {stand}, wanted {cuts}"]
            for worker in self.workers:
                words += [f"-- {worker.child.name}, {worker.statuses}"]
                words += worker.said()[-LAST_WORDS:]
            raise AssertionError("\n".join(words)) from error

    def _further(self, cuts: dict[int, int]) -> dict[int, int]:
        return {cell: cut + CUTS_AFTER for cell, cut in cuts.items()}

    # faults: workers ------------------------------------------------------------------------------

    async def kill_one(self) -> None:
        self._kill(self.chance.choice(self.workers))

    async def kill_two(self) -> None:
        for worker in self.chance.sample(self.workers, 2):
            self._kill(worker)
            await asyncio.sleep(self.chance.uniform(0, 0.5))

    async def kill_all(self) -> None:
        for worker in self.workers:
            self._kill(worker)

    async def kill_catching_up(self) -> None:
        """Twice the same: the second time as soon as it was given cells."""
        worker = self.chance.choice(self.workers)
        self._kill(worker, restart_after_s=0.3)
        await worker.says("given cells", GIVEN_S)
        await asyncio.sleep(self.chance.uniform(0, 0.3))
        self._kill(worker)

    async def kill_taking_over(self) -> None:
        """One, and then whoever is given its cells."""
        first, *others = self.chance.sample(self.workers, len(self.workers))
        self._kill(first, restart_after_s=2 * SESSION_TIMEOUT_S)
        listening = {
            asyncio.create_task(worker.says("given cells", GIVEN_S)): worker for worker in others
        }
        done, rest = await asyncio.wait(listening, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(self.chance.uniform(0, 0.2))
        self._kill(listening[done.pop()])

    async def freeze(self) -> None:
        """A zombie: stopped for longer than its session lasts, then it goes on unaware."""
        worker = self.chance.choice(self.workers)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(SESSION_TIMEOUT_S + self.chance.uniform(1, 5))
        worker.signal(signal.SIGCONT)

    async def freeze_briefly(self) -> None:
        worker = self.chance.choice(self.workers)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(1, 4))
        worker.signal(signal.SIGCONT)

    async def hand_over(self) -> None:
        worker = self.chance.choice(self.workers)
        worker.restart_after_s = self.chance.uniform(0, 3)
        worker.signal(signal.SIGTERM)

    async def join_and_leave(self) -> None:
        """Two rebalances: one more worker for a while."""
        worker = self.worker("guest")
        await worker.start()
        await worker.says("worker started", RECOVERY_S)
        await worker.says("caught up", GIVEN_S)
        await asyncio.sleep(self.chance.uniform(0, 3))
        assert await worker.stop() == 0, "\n".join(worker.said()[-LAST_WORDS:])

    async def reconfigure(self) -> None:
        """Another configuration, one worker after the other."""
        self._configs += 1
        self.config.write_text(f"{CONFIG}sites_max = {2 + self._configs % 5}\n")
        for worker in self.chance.sample(self.workers, len(self.workers)):
            worker.signal(signal.SIGHUP)
            await asyncio.sleep(self.chance.uniform(0, 1))

    # faults: brokers ------------------------------------------------------------------------------

    async def lose_leader(self) -> None:
        """kill -9 of the broker that leads a partition; the cells go on before it is back."""
        await self._without_leader(KafkaCluster.kill_node, self._nothing)

    async def restart_broker(self) -> None:
        await self._without_leader(KafkaCluster.stop_node, self._nothing)

    async def lose_leader_and_worker(self) -> None:
        await self._without_leader(KafkaCluster.kill_node, self.kill_one)

    async def lose_leader_and_all(self) -> None:
        """All workers start while a broker is lost: the group's coordinator, the controller."""
        await self._without_leader(KafkaCluster.kill_node, self.kill_all)

    async def _without_leader(
        self, end: Callable[[KafkaCluster, int], None], meanwhile: Callable[[], Awaitable[None]]
    ) -> None:
        assert self.cluster is not None
        node = await self.leader(self.chance.choice(LED)) - 1
        cuts = {cell: cut for cell, (cut, _) in self.watch.last.items()}
        await asyncio.to_thread(end, self.cluster, node)
        await meanwhile()
        await self.goes_on(f"the end of node {node}", self._further(cuts))
        await asyncio.to_thread(self.cluster.start_node, node)
        await self.in_sync()

    async def _nothing(self) -> None:
        return None

    async def leader(self, topic: str) -> int:
        """The broker that leads one of its partitions (brokers count from 1)."""
        async with admin_client(self.broker.settings) as client:
            topics: list[dict[str, Any]] = await any_node(client.describe_topics)
        (found,) = [each for each in topics if each["topic"] == topic]
        return int(self.chance.choice(found["partitions"])["leader"])

    async def in_sync(self) -> None:
        """Until every copy is in sync: the next broker that is lost must not be the last."""
        async with asyncio.timeout(RECOVERY_S):
            while True:
                async with admin_client(self.broker.settings) as client:
                    described: list[dict[str, Any]] = await any_node(client.describe_topics)
                parts = [part for each in described for part in each["partitions"]]
                if all(len(part["isr"]) == len(part["replicas"]) for part in parts):
                    return
                await asyncio.sleep(0.5)

    # ----------------------------------------------------------------------------------------------

    def _kill(self, worker: Kept, restart_after_s: float | None = None) -> None:
        if restart_after_s is None:  # before its session ends, or after somebody took over
            restart_after_s = self.chance.uniform(0.2, 1.3 * SESSION_TIMEOUT_S)
        worker.restart_after_s = restart_after_s
        worker.signal(signal.SIGKILL)
        self.kills += 1

    def summary(self) -> str:
        """What was survived, for the one who reads the test's output."""
        silences = [each.silence_s for each in self.outcomes]
        by_name: dict[str, list[float]] = {}
        for each in self.outcomes:
            by_name.setdefault(each.name, []).append(each.silence_s)
        reasons = [reason for worker in self.workers for reason in worker.reasons]
        lines = [
            f"{len(self.outcomes)} faults, {self.kills} kills survived; "
            f"{len(reasons)} workers ended by themselves with a reason",
            *(f"  {reason}" for reason in reasons),
            f"longest silence of a cell: p50 {median(silences):.1f} s, max {max(silences):.1f} s",
        ]
        lines += [
            f"  {name}: " + ", ".join(f"{seconds:.1f}" for seconds in each)
            for name, each in sorted(by_name.items())
        ]
        return "\n".join(lines)
