"""Faust's aiokafka transport with four changes, each for a measured reason (docs/adr/0003).

1. Input topics arrive as chunks (chunks.py): one Faust event per fetched response.
2. Offsets are ours: nothing is read from the group's commits, which are made after each snapshot
   for the tools that show lag. On every (re)assignment `perform_seek` stops the flow, asks the
   cells where they stand and seeks there. Stock Faust with a table loses records at a rebalance
   (recovery resumes the flow before the seek, then clears the queues); with the stop and the
   suspension first, none were lost in over sixty rebalances.
3. A broker without long poll is given a pause after an empty fetch, or every idle consumer spins.
4. A broker with long poll answers an empty fetch after FETCH_WAIT_MS.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import faust
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
)
from faust.types import TP

from pipeline.broker.longpoll import pause_empty_fetches
from topologies.chunks import fetch_in_chunks

log = structlog.get_logger("edgesteer.transport")

#: A broker answers a connection's requests in order. Faust lets it hold a fetch of nothing back for
#: 1.5 s, and each offset that a rebalance asks for waited behind that.
FETCH_WAIT_MS = 100
#: Where to go on reading, for every partition that is assigned now.
SeekOffsets = Callable[[set[TP]], Awaitable[dict[TP, int]]]


class RawSchema(faust.Schema):  # type: ignore[misc]  # faust is untyped
    """Hand the value over as it is: a Chunk for input topics, bytes otherwise."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.value


class CellConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """The consumer's thread, with chunked fetching."""

    async def on_start(self) -> None:
        await super().on_start()
        self._consumer._fetcher._fetch_max_wait_ms = FETCH_WAIT_MS
        fetch_in_chunks(self._consumer, self.transport.chunked_topics)
        pause_empty_fetches(self._consumer)

    async def tell_progress(self, offsets: Mapping[TP, int]) -> None:
        """Commit for the lag tools; nothing depends on it, so a refusal is told and no more."""
        await self.call_thread(self._tell_progress, offsets)

    async def _tell_progress(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        ours = {
            TopicPartition(tp.topic, tp.partition): offset
            for tp, offset in offsets.items()
            if tp in self.assignment()
        }
        try:
            await consumer.commit(ours)
        except KafkaError as error:
            log.warning("offsets not committed", reason=repr(error))


class CellConsumer(Consumer):  # type: ignore[misc]
    """A consumer that goes on where the cells stand, not where the group committed."""

    def _new_consumer_thread(self) -> CellConsumerThread:
        return CellConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek every assigned stream partition to where its cell goes on. Recovery calls it, while
        the flow is running already: it is stopped here, and resumed by the caller. The fetcher
        calls it as well, beside recovery, where it threw away what it had fetched because the flow
        is stopped: it goes back in the cells that are there, and leaves new ones to recovery."""
        asked_by_recovery = self.flow_active
        self.stop_flow()
        self.app.flow_control.suspend()
        assigned = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        if asked_by_recovery and assigned:
            await self.seek_wait(await self.transport.seek_offsets(assigned))
        elif assigned:
            await self.seek_wait(self.transport.positions(assigned))

    async def tell_progress(self, offsets: Mapping[TP, int]) -> None:
        """Let the group's committed offsets say how far the cells are."""
        await self._thread.tell_progress(offsets)


class CellTransport(Transport):  # type: ignore[misc]
    """Carries what the consumer needs to know: which topics are chunked, and where to seek."""

    Consumer = CellConsumer

    def __init__(
        self,
        *args: Any,
        chunked_topics: Collection[str],
        seek_offsets: SeekOffsets,
        positions: Callable[[set[TP]], dict[TP, int]],
    ) -> None:
        """`positions`: the same for cells that are there already."""
        super().__init__(*args)
        self.chunked_topics = frozenset(chunked_topics)
        self.seek_offsets, self.positions = seek_offsets, positions
