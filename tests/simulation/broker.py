"""A log broker in memory, and the network between it and everybody.

What a Kafka broker may do to a plain producer and a plain reader, it does by the seed: answers come
late; an acknowledgement is lost after the write, and the producer writes again; a request is slow
and arrives after its producer has died; a copy of a request that was thought lost arrives behind
newer ones; it is not there for a while. Inside one partition a producer has one request under way
(as aiokafka has). `written` keeps everything for the checks; readers see `seen`, from which
compaction takes old versions after a lag.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from tests.simulation.loop import Process, SimLoop
from tests.simulation.trace import Trace

T = TypeVar("T")
TP = tuple[str, int]
Headers = Sequence[tuple[str, bytes]]
_OFFSET = attrgetter("offset")

#: A producer or reader gives up waiting for a broker that is not there.
PATIENCE_S = 5.0


class Rec(NamedTuple):
    """A record as aiokafka shows it, as far as anybody looks."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    at_s: float


class New(NamedTuple):
    """A record that has no place yet."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass
class Partition:
    written: list[Rec] = field(default_factory=list)
    seen: list[Rec] = field(default_factory=list)
    begin: int = 0

    @property
    def end(self) -> int:
        return len(self.written)

    def read(self, position: int, limit: int) -> tuple[list[Rec], int]:
        """Records from `position` on, and the position behind them."""
        at = bisect_left(self.seen, position, key=_OFFSET)
        found = self.seen[at : at + limit]
        more = at + limit < len(self.seen)
        return found, (found[-1].offset + 1 if more else self.end)

    def truncate(self, begin: int) -> None:
        """Retention: what stands before `begin` is gone."""
        if begin > self.begin:
            self.begin = begin
            self.seen = self.seen[bisect_left(self.seen, begin, key=_OFFSET) :]

    def compact(self, before: int, *, tombstones: bool = False) -> int:
        """Drop what a later record below `before` replaces (and tombstones, if they are due)."""
        last = {rec.key: rec.offset for rec in self.seen if rec.offset < before}
        size = len(self.seen)
        self.seen = [
            rec
            for rec in self.seen
            if rec.offset >= before
            or (last[rec.key] == rec.offset and not (tombstones and rec.value is None))
        ]
        return size - len(self.seen)


@dataclass(frozen=True)
class Weather:
    """How likely what is, for one run."""

    slow: float = 0.0
    ack_lost: float = 0.0
    request_lost: float = 0.0
    late_copy: float = 0.0
    error: float = 0.0
    latency_s: float = 0.004

    def fate(self, dice: float) -> str:
        """What becomes of a produce request, by a number from 0 to 1."""
        for kind in ("slow", "ack_lost", "request_lost", "late_copy", "error"):
            dice -= getattr(self, kind)
            if dice < 0:
                return kind
        return "ok"


class Broker:
    def __init__(self, loop: SimLoop, random: Random, weather: Weather, trace: Trace) -> None:
        self.loop, self.random, self.weather, self.trace = loop, random, weather, trace
        self.parts: dict[TP, Partition] = defaultdict(Partition)
        self.watchers: dict[TP, list[Callable[[TP], None]]] = defaultdict(list)
        self.down_until_s = 0.0
        #: Called with the writer's process after each of its writes: crash points.
        self.on_write: Callable[[Process], None] = lambda process: None

    # the log ------------------------------------------------------------------------------------

    def append(self, tp: TP, news: Iterable[New]) -> int:
        """Write; the offset of the first."""
        part, now = self.parts[tp], self.loop.time()
        first = len(part.written)
        for offset, (key, value, headers) in enumerate(news, first):
            rec = Rec(offset, key, value, headers, now)
            part.written.append(rec)
            part.seen.append(rec)
        for watcher in self.watchers[tp]:
            watcher(tp)
        return first

    def compact(self, tp: TP, lag_s: float) -> None:
        """As the cleaner does: what is older than the lag, never the last record."""
        part, horizon = self.parts[tp], self.loop.time() - lag_s
        before = next((rec.offset for rec in part.seen if rec.at_s > horizon), part.end - 1)
        gone = part.compact(before)
        if gone:
            self.trace("broker", "compacted", f"{tp[0]}/{tp[1]}", f"{gone} records below {before}")

    # the network --------------------------------------------------------------------------------

    def delay_s(self) -> float:
        random = self.random.random()
        return self.weather.latency_s * (0.2 + random + (20.0 if random > 0.98 else 0.0))

    async def ask(self, process: Process, work: Callable[[], T]) -> T:
        """A request that changes nothing, answered as of its arrival."""
        answer = self.loop.create_future()
        asked_s = self.loop.time()

        def reply(result: Any, error: Exception | None) -> None:
            if not answer.done():
                answer.set_exception(error) if error else answer.set_result(result)

        def arrive() -> None:
            if process.dead:
                return
            wait_s = self.down_until_s - self.loop.time()
            if wait_s > 0 and self.loop.time() - asked_s + wait_s > PATIENCE_S:
                self.loop.later(PATIENCE_S, self.loop.post, process, reply, None, _gone())
            elif wait_s > 0:
                self.loop.later(wait_s + self.delay_s(), arrive)
            else:
                self.loop.later(self.delay_s(), self.loop.post, process, reply, work(), None)

        self.loop.later(self.delay_s(), arrive)
        result: T = await answer
        return result

    def produce(
        self,
        process: Process,
        tp: TP,
        news: Sequence[New],
        reply: Callable[[int | None, Exception | None], None],
    ) -> None:
        """A request that writes. `reply(offset, error)` in the process; (None, None): send again,
        nothing was heard."""
        delay_s, fate = self.delay_s(), self.weather.fate(self.random.random())
        if fate == "slow":
            delay_s += self.random.uniform(0.2, 3.0)
        request = _Request(self, process, tp, news, reply, fate, self.loop.time())
        self.loop.later(delay_s, request.arrive)


@dataclass(frozen=True, slots=True)
class _Request:
    """One produce request, and what becomes of it."""

    broker: Broker
    process: Process
    tp: TP
    news: Sequence[New]
    reply: Callable[[int | None, Exception | None], None]
    fate: str
    sent_s: float

    def arrive(self) -> None:
        broker, loop, random = self.broker, self.broker.loop, self.broker.random
        if self.process.dead and random.random() < 0.5:
            return  # its connection went with it
        back_s = broker.down_until_s - loop.time() + broker.delay_s()
        if loop.time() >= broker.down_until_s:
            loop.later(broker.delay_s(), loop.post, self.process, self.reply, *self.answer())
        elif broker.down_until_s - self.sent_s <= PATIENCE_S:
            loop.later(back_s, self.arrive)
        else:
            loop.later(PATIENCE_S, loop.post, self.process, self.reply, None, _gone())
            if random.random() < 0.5:
                loop.later(max(back_s, PATIENCE_S), self.write)

    def answer(self) -> tuple[int | None, Exception | None]:
        broker, fate = self.broker, self.fate
        if fate == "late_copy":
            broker.loop.later(broker.random.uniform(0.1, 4.0), self.write)
        if fate in ("request_lost", "late_copy"):
            return None, None
        if fate == "error" and broker.random.random() < 0.5:
            return None, KafkaConnectionError("refused")
        first = self.write()
        if fate == "error":
            return None, KafkaConnectionError("no answer")
        return (None if fate == "ack_lost" else first), None

    def write(self) -> int:
        first = self.broker.append(self.tp, self.news)
        where = f"{self.tp[0]}/{self.tp[1]}@{first}+{len(self.news)}"
        self.broker.trace(self.process.name, "writes", where, self.fate)
        self.broker.on_write(self.process)
        return first


def _gone() -> Exception:
    return KafkaTimeoutError("the broker is not there")
