"""One cell along its cut log: what arrives waits here until a cut that counts says to fold it.

Who makes the cuts and who speaks of them is decided in runner.py.
"""

import asyncio
from collections import deque
from time import monotonic, perf_counter

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cut, CutSequence
from schemas.registry import BGP_ROUTES
from topologies import metrics
from topologies.chunks import Chunk
from topologies.configs import Configs
from topologies.heap import give_back
from topologies.inbox import Inbox
from topologies.observed import observe
from topologies.publishing import Folded
from topologies.snapshots import Found


class Folding:
    """Owns the Cell, and what of its log and its inputs is not folded yet."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        *,
        inbox: Inbox,
        log_begin: int,
        found: Found,
        configs: Configs,
    ) -> None:
        """`log_begin`: the first offset of the cut log. `found`: the snapshot to begin from, if
        there is one; `inbox` begins where its cut ends."""
        self.partition, self.partitions = partition, partitions
        self.inbox = inbox
        self.moved_at = monotonic()  # when anything last came or was folded
        self.cell = found.cell or Cell(partition, partitions)
        self.last = found.commit.cut if found.commit else None  # that was folded
        self.log_next = found.commit.log_next if found.commit else log_begin
        self._folded_to = self.log_next  # offset of the cut log behind the last cut folded
        self._whole = log_begin == 0 or found.commit is not None
        self._sequence = CutSequence(whole=self._whole, last=self.last)
        self._configs = configs
        self._waiting: deque[tuple[Cut, int]] = deque()  # read, not folded; each with its offset
        self._news = asyncio.Event()  # a cut or rows came

    def deliver_chunk(self, chunk: Chunk) -> None:
        """Input rows came."""
        self.moved_at = monotonic()
        self.inbox.append(chunk)
        self._news.set()

    def deliver_cut(self, cut: Cut, offset: int) -> None:
        """A record of the cut log came; one that was seen before (a refetch) is dropped."""
        if offset >= self.log_next:
            self.log_next = offset + 1
            self._waiting.append((cut, offset))
            self._news.set()

    def needed(self, topic: str) -> int:
        """The offset up to which rows of `topic` are waited for; 0 when none are."""
        return self._waiting[0][0].offsets.get(topic, 0) if self._waiting else 0

    async def _read_one(self) -> Folded | None:
        """Take the next cut from the log; fold it if it counts."""
        while not self._waiting:
            await self._wait_for_news()
        cut, offset = self._waiting[0]
        if not self._sequence.take(cut):
            metrics.CUTS_IGNORED.labels(self.partition).inc()
            self._waiting.popleft()
            return None
        while not self.inbox.reached(cut.offsets):
            await self._wait_for_news()
        self._waiting.popleft()
        config = await self._configs.get(cut.config_hash)
        folded = self._fold(cut, config)
        self.last, self.moved_at, self._folded_to = cut, monotonic(), offset + 1
        self._progressed(cut)
        await asyncio.sleep(0)  # a long log must not keep the consumer's callbacks waiting
        return folded

    def _fold(self, cut: Cut, config: SteeringConfig) -> Folded:
        rows, raw = self.inbox.take(cut.offsets)
        began = perf_counter()
        effects = step(self.cell, rows, cut, config)
        observe(self.cell, cut, effects, perf_counter() - began)
        folded = Folded.of(cut, config, effects, raw)
        del rows, raw
        give_back(effects.epoch.rows.get(BGP_ROUTES.name, 0))
        return folded

    def _progressed(self, cut: Cut) -> None:
        """`cut` was folded; what follows from that is up to who has the cell."""

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()
