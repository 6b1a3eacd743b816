"""One simulated run: a plane, its faults, the calm after them, and what must be true then."""

import asyncio
from contextlib import ExitStack
from random import Random
from unittest.mock import patch

from aiokafka.errors import KafkaError

from pipeline.snapshot import chunks
from pipeline.wire.decode import decode
from schemas.registry import STEERING_CUTS, STEERING_EPOCHS
from tests.simulation import checks, edges
from tests.simulation.broker import Broker, Weather
from tests.simulation.clients import Store
from tests.simulation.faults import Faults
from tests.simulation.followers import SimFollower
from tests.simulation.group import Group
from tests.simulation.loop import SimError, SimLoop
from tests.simulation.plan import Plan, plan_of
from tests.simulation.trace import Trace
from tests.simulation.workers import Worker
from tests.simulation.worlds import CONFIGS, ToyWorld, World

#: After the last fault every cell leads and has published again within this time: a session that
#: ends, a restart, catching up, and what was slow.
CALM_S = 20.0
#: Then the owners put right what is left of the past.
SETTLE_S = 5.0
STOP_S = 2.0


class Run:
    """`plan`: drawn from the seed unless given."""

    def __init__(self, seed: int, world: World | None = None, plan: Plan | None = None) -> None:
        self.random = Random(seed)
        self.world: World = world or ToyWorld()
        self.plan = plan or plan_of(self.random)
        self.partitions, self.tick_ms = self.plan.partitions, self.plan.tick_ms
        self.start_ms = self.world.start_ms
        self.loop = SimLoop(self.random)
        self.trace = Trace(self.loop.time)
        self.broker = Broker(self.loop, self.random, self.plan.weather, self.trace)
        self.faults = Faults(self)
        self.broker.on_write = self.faults.wrote
        self.group = Group(self.broker, self.random, self.partitions, self.trace)
        self.configs = {config.hash(): config for config in CONFIGS}
        self.config, self.version = CONFIGS[0], 1
        self.slots: list[Worker | None] = [None] * self.plan.workers
        self.stores = [Store() for _ in self.slots]  # the workers' disks
        self.followers: list[SimFollower] = []
        self._started = 0
        self._failure: str | None = None
        self._calm = False

    def execute(self) -> None:
        """Raises SimError when a law does not hold."""
        with ExitStack() as stack:
            stack.enter_context(edges.replaced({**edges.EDGES, **self.world.names}))
            stack.enter_context(edges.replaced({"CODE_VERSION": 1}))
            edges.current.loop = self.loop
            edges.LOG.trace = self.trace
            self.loop.run(self._live())
            if self._failure is not None:
                raise SimError(self._failure)
            checks.check(self)

    def fail(self, why: str) -> None:
        """Remember the first thing that went wrong, where nothing can be raised."""
        if self._failure is None:
            self._failure = why
            self.trace("run", "FAILED", why)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # life ---------------------------------------------------------------------------------------

    async def _live(self) -> None:
        for slot in range(self.plan.workers):
            self._start(slot)
        self.follow(strict=True)
        producing = self.loop.spawn(self.loop.world, self._produce())
        ticking = self.loop.spawn(self.loop.world, self._tick())
        await self._suffer()
        self._heal()
        await self._until_calm()
        if self._failure is not None:
            return
        await self.sleep(SETTLE_S)
        producing.cancel()
        await self.sleep(STOP_S)
        for worker in self.workers():
            self.loop.post(worker.process, worker.cells.hold)
        await self.sleep(STOP_S)
        ticking.cancel()

    async def _produce(self) -> None:
        while True:
            await self.sleep(self.random.uniform(0.2, 1.8) * self.plan.rows_every_s)
            for topic, partition, new in self.world.produce(
                self.random, self.partitions, self.loop.time(), calm=self._calm
            ):
                self.broker.append((topic, partition), [new])

    async def _tick(self) -> None:
        while True:
            await self.sleep(0.5)
            self.group.tick()
            if self.plan.compacts and self.random.random() < 0.3:
                self.faults.compact()
            if self.plan.expires and self.random.random() < 0.3:
                self.faults.expire()

    async def _suffer(self) -> None:
        await self.sleep(self.random.uniform(0.0, 3.0))
        while self.loop.time() < self.plan.faults_s and self._failure is None:
            kind = self.random.choice(self.plan.kinds)
            self.trace("FAULT", kind)
            getattr(self.faults, kind)()
            await self.sleep(self.random.expovariate(1 / self.plan.every_s))

    def _heal(self) -> None:
        self.trace("run", "calm from here on")
        self._calm = True
        self.faults.disarm()
        self.group.deaf.clear()
        self.broker.down_until_s = min(self.broker.down_until_s, self.loop.time())
        self.broker.weather = Weather(latency_s=self.plan.weather.latency_s)
        for worker in self.workers():
            self.loop.resume(worker.process)

    async def _until_calm(self) -> None:
        begin_s = self.loop.time()
        marks = {p: self._last_cut(p) for p in range(self.partitions)}
        while not all(self._is_well(p, mark) for p, mark in marks.items()):
            if self._failure is not None:
                return
            if self.loop.time() - begin_s > CALM_S:
                raise SimError(f"not calm within {CALM_S} s: " + self._state())
            await self.sleep(0.25)
        self.trace("run", "is well")

    def _is_well(self, partition: int, mark: int) -> bool:
        owner = self.group.owners.get(partition)
        leads = [one for one in self.workers() if one.leads(partition)]
        return any(one.process is owner for one in leads) and self._last_epoch(partition) > mark + 2

    def _last_cut(self, partition: int) -> int:
        records = self.broker.parts[STEERING_CUTS.name, partition].written
        return max((decode(one.value or b"")[1]["number"] for one in records), default=0)

    def _last_epoch(self, partition: int) -> int:
        records = self.broker.parts[STEERING_EPOCHS.name, partition].written
        return int(decode(records[-1].value or b"")[1]["cut"]) if records else 0

    def _state(self) -> str:
        cells = {one.name: one.cells.readiness() for one in self.workers() if one.cells}
        return f"{cells}, group { ({p: one.name for p, one in self.group.owners.items()}) }"

    # workers ------------------------------------------------------------------------------------

    def workers(self) -> list[Worker]:
        return [one for one in self.slots if one is not None]

    def _start(self, slot: int) -> None:
        self._started += 1
        name = f"w{slot}.{self._started}"
        worker = Worker(self, name, self.version, self.config, self.stores[slot])
        self.slots[slot] = worker
        self.trace(name, "starts", f"version {self.version} config {self.config.hash()[:4]}")
        worker.start()

    def ended(self, worker: Worker, failure: BaseException | None) -> None:
        """A process is over; its supervisor starts another one."""
        if worker not in self.slots:
            return
        if failure is not None and not isinstance(failure, KafkaError):
            self.fail(f"{worker.name} fails: {failure!r}")
        self.trace(worker.name, "ends", repr(failure) if failure else "")
        slot = self.slots.index(worker)
        self.slots[slot] = None
        self.faults.disarm(worker.process)
        self.loop.kill(worker.process)
        if failure is not None and self.random.random() < 0.5:
            self.group.leave(worker.process)
        self.loop.later(self.random.uniform(0.1, 1.5), self._start, slot)

    def follow(self, *, strict: bool) -> None:
        follower = SimFollower(self, f"f{len(self.followers)}", strict=strict)
        self.followers.append(follower)
        follower.start()


def simulate(seed: int, world: World | None = None, plan: Plan | None = None) -> Run:
    """One run; a failure says which seed it was, and what happened before."""
    run = Run(seed, world, plan)
    try:
        with patch.object(chunks, "COPY_BYTES", run.plan.copy_bytes):
            run.execute()
    except Exception as failure:
        message = f"seed {seed}: {failure}\n{run.plan}\n{run.trace.text()}"
        raise SimError(message) from failure
    return run
