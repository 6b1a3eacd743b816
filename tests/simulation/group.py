"""A consumer group: who has which partition, as the coordinator believes.

Members heartbeat; who is silent for the session time loses what it had, without being asked. A
rebalance waits until all known members have joined again, or their session has ended.
"""

from random import Random
from typing import Any

from tests.simulation.broker import Broker
from tests.simulation.loop import Process
from tests.simulation.trace import Trace

SESSION_S = 3.0
HEARTBEAT_S = 1.0


class Group:
    """The coordinator."""

    def __init__(self, broker: Broker, random: Random, partitions: int, trace: Trace) -> None:
        self._broker, self._random = broker, random
        self._partitions, self._trace = partitions, trace
        self.heard_s: dict[Process, float] = {}  # member -> its last sign of life
        self.owners: dict[int, Process] = {}
        self.deaf: set[Process] = set()  # whose heartbeats get lost
        self._joined: dict[Process, Any] = {}
        self._settled = True

    async def join(self, process: Process) -> list[int]:
        """The partitions of this member, once everybody has joined."""
        broker = self._broker
        future = broker.loop.create_future()

        def arrive() -> None:
            if process.dead:
                return
            self.heard_s[process] = broker.loop.time()
            self._joined[process] = future
            self._settled = False
            self._settle()

        broker.loop.later(broker.delay_s(), arrive)
        mine: list[int] = await future
        return mine

    async def heartbeat(self, process: Process) -> bool:
        """Whether this member may go on; else it has to join (again)."""

        def arrive() -> bool:
            if process in self.deaf:
                return True  # lost: nothing is heard, the client goes on believing
            if process in self.heard_s:
                self.heard_s[process] = self._broker.loop.time()
            return process in self.heard_s and self._settled

        return await self._broker.ask(process, arrive)

    def leave(self, process: Process) -> None:
        """A member says good-bye, or is known to be gone."""
        if self.heard_s.pop(process, None) is not None:
            self._joined.pop(process, None)
            self.deaf.discard(process)
            self._trace("group", "without", process.name)
            self._settled = False
            self._settle()

    def shuffle(self) -> None:
        """A rebalance without a reason."""
        self._settled = False
        self._settle()

    def tick(self) -> None:
        """Every now and then: end the sessions of the silent."""
        now = self._broker.loop.time()
        for process in list(self.heard_s):
            waits = process in self._joined and not process.dead
            if now - self.heard_s[process] > SESSION_S and not waits:
                self.leave(process)
        self._settle()

    def _settle(self) -> None:
        members = list(self.heard_s)
        if self._settled or not members or any(one not in self._joined for one in members):
            return
        if self._broker.loop.time() < self._broker.down_until_s:
            return
        before = self.owners
        self.owners = {}
        self._random.shuffle(members)
        for partition in range(self._partitions):
            owner = before.get(partition)
            if owner not in members or self._random.random() < 0.3:
                owner = members[partition % len(members)]
            self.owners[partition] = owner
        self._settled = True
        joined, self._joined = self._joined, {}
        shares = {p: one.name for p, one in self.owners.items()}
        self._trace("group", "assigns", shares)
        loop, now = self._broker.loop, self._broker.loop.time()
        for process, future in joined.items():
            self.heard_s[process] = now
            mine = [p for p, one in self.owners.items() if one is process]
            loop.later(self._broker.delay_s(), loop.post, process, _answer, future, mine)


def _answer(future: Any, mine: list[int]) -> None:
    if not future.done():
        future.set_result(mine)
