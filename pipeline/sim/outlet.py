"""Where a world's records leave: published, counted when acknowledged, soiled if that is asked."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError
from pipeline.feeds.publisher import Publisher
from pipeline.sim.dirt import Dirt, Soiled
from pipeline.sim.telemetry import Rows

_PATIENCE_S = 3.0


class Outlet:
    """Async context manager. `produced`: records acknowledged per topic, the bad ones among them;
    `soiled`: the bad ones by kind. Raises BrokerError."""

    def __init__(self, broker: BrokerSettings, seed: int, dirt: float) -> None:
        self._broker, self._publisher = broker, Publisher(broker)
        stream = np.random.SeedSequence([seed, 0xD1])  # apart from the world's own streams
        self._dirt = Dirt(np.random.Generator(np.random.PCG64(stream)), dirt) if dirt else None
        self._raw: Any = None  # the publisher refuses what is not right, as it should
        self._sending = asyncio.Lock()
        self.produced: Counter[str] = Counter()
        self.soiled: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        await self._publisher.__aenter__()
        if self._dirt is not None:
            self._raw = AIOKafkaProducer(**self._broker.client_kwargs(), acks="all")
            try:
                await self._raw.start()
            except KafkaError as error:
                await self.__aexit__(None, None, None)
                raise BrokerError(f"broker {self._broker.bootstrap}: {error}") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # all that was acknowledged is counted; a broker that is gone need not be waited for
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                if self._raw is not None:
                    await self._raw.stop()
                await self._publisher.__aexit__(kind, error, trace)

    async def send(self, batches: list[Rows]) -> None:
        """Send partitions side by side, each in order; return when all is acknowledged."""
        soiled = self._dirt.beside(batches) if self._dirt is not None else []
        async with self._sending:
            places = self._by_place(batches)
            await _all(self._send(place, rows) for place, rows in places.items())
            await _all(map(self._soil, soiled))

    def _by_place(self, batches: Iterable[Rows]) -> dict[tuple[str, int], Rows]:
        places: dict[tuple[str, int], Rows] = {}
        for rows in batches:
            place = (rows.topic, self._publisher.partition(rows.topic, rows.region))
            if place in places:
                places[place].keys.extend(rows.keys)
                places[place].values.extend(rows.values)
            else:
                places[place] = rows
        return places

    async def _send(self, place: tuple[str, int], rows: Rows) -> None:
        await self._publisher.send_rows(*place, rows.keys, rows.values)
        self.produced[rows.topic] += len(rows)

    async def _soil(self, bad: Soiled) -> None:
        partitions = self._publisher.partitions
        if bad.astray and partitions == 1:
            return  # there is no wrong partition
        partition = (self._publisher.partition(bad.topic, bad.region) + bad.astray) % partitions
        try:
            await self._raw.send_and_wait(
                bad.topic, key=bad.key, value=bad.value, partition=partition
            )
        except KafkaError as error:
            raise BrokerError(f"{bad.topic} was not published: {error}") from error
        self.produced[bad.topic] += 1
        self.soiled[bad.kind] += 1


async def _all(sends: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for every one, so that the account is whole; then raise what the first failure was."""
    for result in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
