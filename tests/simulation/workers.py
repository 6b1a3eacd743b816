"""A worker process as topologies/worker.py puts it together, on the simulated edges."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from faust.types import TP

from pipeline.config import SteeringConfig
from schemas.registry import INPUTS, STEERING_CUTS
from tests.simulation import toy
from tests.simulation.clients import Client, Fetcher, Store
from tests.simulation.group import HEARTBEAT_S
from tests.simulation.loop import Process
from topologies import runner
from topologies.cells import Cells
from topologies.clock import Clock
from topologies.configs import Configs
from topologies.outputs import Outputs
from topologies.publishing import Publishing
from topologies.readback import Readback
from topologies.runner import Phase
from topologies.snapshots import Snapshots

if TYPE_CHECKING:
    from tests.simulation.run import Run


class SimClock(Clock):
    """Virtual time, and a skew of its own."""

    def __init__(self, run: "Run", tick_ms: int, skew_ms: int) -> None:
        super().__init__(tick_ms)
        self._run, self._skew_ms = run, skew_ms

    def now_ms(self) -> int:
        return self._run.start_ms + round(self._run.loop.time() * 1000) + self._skew_ms


class Worker:
    """One process from its start to its end."""

    def __init__(
        self, run: "Run", name: str, version: int, config: SteeringConfig, store: Store
    ) -> None:
        self.run, self.name, self.version = run, name, version
        self.config, self._store = config, store
        self.process = Process(name, self._enter)
        self.cells: Any = None
        self.seeking = False  # it knows where to read on, and does not read yet
        self._configs: Any = None

    def _enter(self) -> None:
        runner.CODE_VERSION = self.version  # type: ignore[attr-defined]
        toy.running["version"] = self.version

    def start(self) -> None:
        self.run.loop.spawn(self.process, self._main())

    def hang_up(self, config: SteeringConfig) -> None:
        """SIGHUP, with another configuration file."""
        self.config = config
        if self._configs is not None:
            self.run.loop.post(self.process, self._configs.replace, config)

    def stop(self) -> None:
        """SIGTERM."""
        self.run.loop.spawn(self.process, self._stop())

    async def _main(self) -> None:
        run, process = self.run, self.process
        client = Client(run.broker, process)
        outputs, readback = Outputs({"sim": client}), Readback({"sim": client})
        clock = SimClock(run, run.tick_ms, run.random.randint(-300, 300))
        self._configs = Configs(self.config, outputs, readback)
        snapshots = Snapshots({"sim": client}, readback, run.plan.snapshot_every_cuts)
        snapshots.table = SimpleNamespace(data=self._store)
        self.cells = Cells(
            run.partitions,
            writer=self.name,
            clock=clock,
            configs=self._configs,
            publishing=Publishing(outputs, readback, clock),
            snapshots=snapshots,
            on_failure=self._failed,
        )
        self.fetcher = Fetcher(client, self.cells)
        self.cells.consumer = snapshots.consumer = self.fetcher
        self._client = client
        try:
            await outputs.start()
            await readback.start()
            await snapshots.start()
            while True:
                await self._member()
        except KafkaError as failure:
            self._failed(failure)

    async def _member(self) -> None:
        """From joining the group to the next rebalance."""
        run = self.run
        mine = await run.group.join(self.process)
        topics = [STEERING_CUTS, *INPUTS]
        self.seeking = True
        for partition in mine:
            await self._store.recover(self._client, partition)
        assigned = {TP(topic.name, partition) for partition in mine for topic in topics}
        self.fetcher.seek(await self.cells.seek_offsets(assigned))
        self.seeking = False
        while await run.group.heartbeat(self.process):
            await run.sleep(HEARTBEAT_S)
        run.trace(self.name, "rebalance")
        self.cells.hold()
        self.fetcher.stop_flow()

    async def _stop(self) -> None:
        if self.cells is not None:
            self.fetcher.stop_flow()
            self.run.loop.later(0.01, self.run.group.leave, self.process)
            await self.cells.stop()
        self.run.ended(self, None)

    def _failed(self, failure: BaseException) -> None:
        self.run.ended(self, failure)

    def leads(self, partition: int) -> bool:
        cell = self.cells.runners.get(partition) if self.cells is not None else None
        return cell is not None and cell.phase is Phase.LEADING
