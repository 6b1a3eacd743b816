"""What goes wrong in a run, and the housekeeping of the broker that others have to live with."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.snapshot.chunks import Commit, restore
from schemas.registry import BY_NAME, CELLS_CHANGELOG, STEERING_CUTS, STEERING_EPOCHS, TABLES
from tests.simulation.clients import Store
from tests.simulation.loop import Process
from tests.simulation.workers import Worker
from tests.simulation.worlds import CONFIGS

if TYPE_CHECKING:
    from tests.simulation.run import Run

WRITES = 12  # after at most so many of its writes an armed worker meets its fate


class Faults:
    """The methods without underscore are the kinds of plan.py, and `compact` and `expire`."""

    def __init__(self, run: "Run") -> None:
        self.run, self.loop, self.random = run, run.loop, run.random
        self._armed: dict[Process, tuple[int, Callable[[Worker], None]]] = {}
        self._floors: dict[int, Commit] = {}  # what may expire at the next call

    def disarm(self, process: Process | None = None) -> None:
        """Nothing will strike this process, or anybody, at a later write."""
        if process is None:
            self._armed.clear()
        else:
            self._armed.pop(process, None)

    def wrote(self, process: Process) -> None:
        """After a write of this process: is this its moment?"""
        if process not in self._armed:
            return
        left, strike = self._armed[process]
        if left:
            self._armed[process] = (left - 1, strike)
            return
        del self._armed[process]
        for worker in self.run.workers():
            if worker.process is process:
                strike(worker)

    def _any(self) -> Worker | None:
        workers = self.run.workers()
        return self.random.choice(workers) if workers else None

    def _kill(self, worker: Worker) -> None:
        self.run.trace(worker.name, "KILLED")
        self.run.ended(worker, None)

    def _freeze(self, worker: Worker) -> None:
        self.run.trace(worker.name, "FROZEN")
        self.loop.pause(worker.process)
        self.loop.later(self.random.choice((0.5, 2.0, 5.0, 9.0)), self._thaw, worker.process)

    def _thaw(self, process: Process) -> None:
        if process.paused and not process.dead:
            self.run.trace(process.name, "thaws")
            self.loop.resume(process)

    def crash(self) -> None:
        if worker := self._any():
            self._kill(worker)

    def crash_at_write(self) -> None:
        if worker := self._any():
            self._armed[worker.process] = (self.random.randrange(WRITES), self._kill)

    def lose_disk(self) -> None:
        if worker := self._any():
            self.run.stores[self.run.slots.index(worker)] = Store()
            self._kill(worker)

    def pause(self) -> None:
        if worker := self._any():
            self._freeze(worker)

    def pause_at_write(self) -> None:
        if worker := self._any():
            self._armed[worker.process] = (self.random.randrange(WRITES), self._freeze)

    def stop(self) -> None:
        if worker := self._any():
            worker.stop()

    def hang_up(self) -> None:
        self.run.config = self.random.choice(CONFIGS)
        for worker in self.run.workers():
            if self.random.random() < 0.8:
                worker.hang_up(self.run.config)

    def upgrade(self) -> None:
        """One worker after the other gets the other version, or only the next to start."""
        self.run.version = 3 - self.run.version
        if self.random.random() < 0.7:
            for after, worker in enumerate(self.run.workers()):
                self.loop.later(after * self.random.uniform(0.1, 3.0), self._replace, worker)

    def _replace(self, worker: Worker) -> None:
        if worker in self.run.slots and worker.version != self.run.version:
            worker.stop()

    def outage(self) -> None:
        until_s = self.loop.time() + self.random.choice((0.3, 2.0, 8.0))
        self.run.broker.down_until_s = max(self.run.broker.down_until_s, until_s)

    def deaf(self) -> None:
        if worker := self._any():
            self.run.group.deaf.add(worker.process)
            self.loop.later(
                self.random.uniform(3.5, 7.0), self.run.group.deaf.discard, worker.process
            )

    def shuffle(self) -> None:
        self.run.group.shuffle()

    def compact(self) -> None:
        for topic in (*TABLES, STEERING_EPOCHS, CELLS_CHANGELOG):
            for partition in range(self.run.partitions):
                self.run.broker.compact((topic.name, partition), self.run.plan.compaction_lag_s)

    def expire(self) -> None:
        """Retention and compaction take from the cut log and the inputs what stands before a
        snapshot that was whole a while ago, unless somebody is still reading it."""
        workers = self.run.workers()
        if any(worker.seeking for worker in workers):
            return
        for partition in range(self.run.partitions):
            part = self.run.broker.parts[CELLS_CHANGELOG.name, partition]
            held = {rec.key: rec.value for rec in part.seen if rec.key and rec.value}
            whole = restore(held)[0]
            floor = self._floors.get(partition)
            if whole is not None:
                self._floors[partition] = whole.commit
            if floor is not None:
                self._truncate(partition, floor)

    def _truncate(self, partition: int, floor: Commit) -> None:
        cells = [one.cells.runners.get(partition) for one in self.run.workers() if one.cells]
        running = [cell for cell in cells if cell is not None]
        begin = min([floor.log_next, *(cell.log_next for cell in running)])
        self.run.trace("broker", "expires", f"{STEERING_CUTS.name}/{partition} before {begin}")
        self.run.broker.parts[STEERING_CUTS.name, partition].truncate(begin)
        for topic, end in floor.cut.offsets.items():
            at = min([end, *(cell.inbox.lanes[topic].next_offset for cell in running)])
            part = self.run.broker.parts[topic, partition]
            if BY_NAME[topic].keyed:
                part.compact(at)
            else:
                part.truncate(at)

    def follower(self) -> None:
        if len(self.run.followers) < 3:
            self.run.follow(strict=False)
