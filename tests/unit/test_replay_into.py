"""A replay into isolated topics, without a broker: when, in which order, and what is sent."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.broker.isolated import IsolatedProducer
from pipeline.cli.main import app
from pipeline.errors import IsolationError, UsageError
from pipeline.replay import into
from pipeline.replay.archive import Recording
from pipeline.replay.fold import Ignored
from pipeline.replay.into import WRITTEN, Pace, Writer, merged
from pipeline.wire.decode import decode
from pipeline.wire.headers import HEADER, unpack_cut
from pipeline.wire.tablehash import format_hash, records_hash
from schemas.registry import (
    CAPACITY_PRICES,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
    TABLES,
)
from tests.cell_world import Log, fold, make_log
from tests.recorded import epochs_of, write

PREFIX = "replay."
CUTS = 24


class Clock:
    """Time that passes only while somebody sleeps, or when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


def paced(speed: float | None) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(speed, clock, clock.sleep), clock


@pytest.mark.parametrize(("speed", "expected_s"), [(1, [1.0, 0.5]), (4, [0.25, 0.125])])
async def test_cuts_are_as_far_apart_as_they_were_divided_by_the_speed(
    speed: float, expected_s: list[float]
) -> None:
    pace, clock = paced(speed)
    for at_ms in (5000, 6000, 6500):
        await pace.reach(at_ms)
        assert pace.behind_ms(at_ms) == 0
    assert clock.slept_s == expected_s


async def test_what_is_late_is_not_waited_for_and_says_how_late_it_is() -> None:
    pace, clock = paced(2)
    await pace.reach(0)
    clock.now_s += 3  # a slow cut
    await pace.reach(4000)
    assert (pace.behind_ms(4000), clock.slept_s) == (1000, [])
    await pace.reach(8000)  # the lost time is caught up
    assert (pace.behind_ms(8000), clock.slept_s) == (0, [1.0])


async def test_at_full_speed_nothing_waits_and_nothing_is_late() -> None:
    pace, clock = paced(None)
    for at_ms in (0, 10_000, 5):
        await pace.reach(at_ms)
        clock.now_s += 7
        assert pace.behind_ms(at_ms) == 0
    assert clock.slept_s == []


def test_cells_are_interleaved_by_time_and_each_is_folded_only_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step's cell goes on living: it must not be folded further before the step was used."""
    times = {0: [10, 30, 25, 60], 1: [10, 20, 50]}
    folded = {0: 0, 1: 0}

    def fold(_: Any, span: int, ignored: Ignored) -> Iterator[Any]:
        for number, at_ms in enumerate(times[span], 1):
            folded[span] = number
            yield SimpleNamespace(cut=SimpleNamespace(partition=span, number=number, at_ms=at_ms))

    monkeypatch.setattr(into, "fold", fold)
    recording: Any = SimpleNamespace(manifest=SimpleNamespace(cells=[0, 1]))
    seen = []
    for step in merged(recording, Ignored()):
        assert folded[step.cut.partition] == step.cut.number
        seen.append((step.cut.at_ms, step.cut.partition))
    assert seen == [(10, 0), (10, 1), (20, 1), (30, 0), (25, 0), (50, 1), (60, 0)]


class Batch:
    """Holds three records."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, **record: Any) -> object | None:
        assert isinstance(record["headers"], list)
        assert record["timestamp"] is None  # the time of writing, or retention takes it
        if len(self.records) == 3:
            return None
        self.records.append(record)
        return record

    def record_count(self) -> int:
        return len(self.records)


class Broker:
    """Topics in memory, under the names that they were sent to; offsets begin at `begin`."""

    def __init__(self, begin: int = 0) -> None:
        self.begin = begin
        self.topics: dict[str, list[dict[str, Any]]] = {}
        self.order: list[str] = []
        self.under_way = self.most_under_way = 0

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
        assert partition == 0
        held = self.topics.setdefault(topic, [])
        metadata = SimpleNamespace(offset=self.begin + len(held))
        held += batch.records
        self.order.append(topic.removeprefix(PREFIX))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

        async def acknowledged() -> Any:
            self.under_way -= 1
            return metadata

        return acknowledged()

    def held(self, name: str) -> list[dict[str, Any]]:
        return self.topics.get(PREFIX + name, [])

    def decoded(self, name: str) -> list[dict[str, Any]]:
        return [decode(record["value"])[1] for record in self.held(name)]

    def live(self) -> dict[tuple[str, bytes], bytes]:
        """What stands in the tables once all is compacted."""
        live: dict[tuple[str, bytes], bytes] = {}
        for topic in TABLES:
            for record in self.held(topic.name):
                if record["value"] is None:
                    live.pop((topic.name, record["key"]), None)
                else:
                    live[topic.name, record["key"]] = record["value"]
        return live


async def publish(path: Path, broker: Broker) -> Writer:
    ends = {(topic.name, 0): broker.begin for topic in TABLES}
    writer = Writer(IsolatedProducer(broker, PREFIX), PREFIX, ends)
    with Recording(path) as recording:
        await writer.configs(recording)
        for step in merged(recording, Ignored()):
            if not step.lead_in:
                await writer.publish(step, Pace(None))
    return writer


@pytest.fixture
def log() -> Log:
    return make_log(3, CUTS)


async def test_every_cut_is_published_as_a_worker_does(tmp_path: Path, log: Log) -> None:
    broker, epochs = Broker(begin=7), epochs_of(log)
    writer = await publish(write(tmp_path / "log", log, epochs), broker)
    sent = broker.decoded(STEERING_EPOCHS.name)
    for there, here in zip(sent, epochs, strict=True):
        changed = ("outputs", "behind_ms", "reconciled")
        assert {**there, **dict.fromkeys(changed)} == {**here, **dict.fromkeys(changed)}
    assert [one["reconciled"] for one in sent] == [True] + [False] * (CUTS - 1)
    ends = {one["topic"]: one["end_offset"] for one in sent[-1]["outputs"]}
    assert ends == {topic.name: 7 + len(broker.held(topic.name)) for topic in TABLES}
    live = broker.live()
    table_hash = format_hash(records_hash((key for _, key in live), live.values()))
    assert table_hash == sent[-1]["table_hash"]
    cuts = [cut.to_record() for cut in log.cuts]
    assert broker.decoded(STEERING_CUTS.name) == cuts
    assert writer.counts == {PREFIX + topic.name: len(broker.held(topic.name)) for topic in WRITTEN}
    assert set(broker.topics) == set(writer.counts)


async def test_records_say_which_cut_they_are_of(tmp_path: Path, log: Log) -> None:
    broker = Broker()
    await publish(write(tmp_path / "log", log, epochs_of(log)), broker)
    for name in (*(topic.name for topic in TABLES), STEERING_VERDICTS.name, CAPACITY_PRICES.name):
        for record in broker.held(name):
            ((header, packed),) = record["headers"]
            partition, cut, term = unpack_cut(packed)
            assert (header, partition, term) == (HEADER, 0, 1)
            assert 0 < cut <= CUTS
            if name == STEERING_VERDICTS.name:
                assert decode(record["value"])[1]["cut"] == cut
    for name in (STEERING_CUTS.name, STEERING_CONFIG.name):
        assert all(record["headers"] == [] for record in broker.held(name))


async def test_dead_letters_carry_what_stood_in_the_topic(tmp_path: Path, log: Log) -> None:
    broker = Broker()
    await publish(write(tmp_path / "log", log, epochs_of(log)), broker)
    letters = broker.decoded(STEERING_DEAD_LETTERS.name)
    assert len(letters) > 10
    for letter in letters:
        assert letter["record"] == (log.values[letter["topic"]][letter["offset"]] or b"")


async def test_other_cells_are_told_of_shared_sites_what_they_were_told(
    tmp_path: Path, log: Log
) -> None:
    broker = Broker()
    await publish(write(tmp_path / "log", log, epochs_of(log)), broker)
    then = [record for _, effects in fold(log) for _, record in effects.prices]
    assert len({record.key for record in then}) > 1
    told = broker.held(CAPACITY_PRICES.name)
    assert [(record["key"], record["value"]) for record in told] == [
        (record.key, record.value) for record in then
    ]


async def test_the_first_cut_after_the_lead_in_tells_all_that_stands(
    tmp_path: Path, log: Log
) -> None:
    def words(records: list[tuple[bytes, bytes]]) -> dict[bytes, dict[str, Any]]:
        """The last ones, without the time at which they were sent."""
        return {key: {**decode(value)[1], "at_ms": 0} for key, value in records}

    broker = Broker()
    await publish(write(tmp_path / "log", log, epochs_of(log), from_cut=CUTS), broker)
    then = [record for _, effects in fold(log) for _, record in effects.prices]
    told = broker.held(CAPACITY_PRICES.name)
    assert words([(one["key"], one["value"]) for one in told]) == words(
        [(one.key, one.value or b"") for one in then]
    )
    assert {decode(one["value"])[1]["at_ms"] for one in told} == {log.cuts[-1].at_ms}


async def test_a_cut_stands_before_its_effects_and_its_epoch_behind_them(
    tmp_path: Path, log: Log
) -> None:
    broker = Broker()
    await publish(write(tmp_path / "log", log, epochs_of(log)), broker)
    config, *rest = [one for n, one in enumerate(broker.order) if broker.order[n - 1 : n] != [one]]
    assert config == STEERING_CONFIG.name
    cuts = " ".join(rest).split(f"{STEERING_CUTS.name} ")[1:]
    assert len(cuts) == CUTS
    tables = {topic.name for topic in TABLES}
    for cut in cuts:
        *effects, epoch = cut.split()
        assert epoch == STEERING_EPOCHS.name
        assert effects == sorted(effects, key=lambda name: name not in tables)
    assert 1 < broker.most_under_way <= 8


async def test_the_lead_in_is_only_folded_and_the_first_cut_has_the_whole_tables(
    tmp_path: Path, log: Log
) -> None:
    """What a follower of the new topics holds is what followers held then."""
    broker, epochs = Broker(), epochs_of(log)
    await publish(write(tmp_path / "log", log, epochs, from_cut=11), broker)
    sent = broker.decoded(STEERING_EPOCHS.name)
    assert [one["cut"] for one in sent] == list(range(11, CUTS + 1))
    assert [one["table_hash"] for one in sent] == [one["table_hash"] for one in epochs[10:]]
    live = broker.live()
    table_hash = format_hash(records_hash((key for _, key in live), live.values()))
    assert table_hash == epochs[-1]["table_hash"]
    assert broker.decoded(STEERING_CUTS.name)[0]["number"] == 11


# -- the command ----------------------------------------------------------------------------------


def replay(*args: str) -> Result:
    return CliRunner().invoke(app, ["replay", *args])


@pytest.fixture
def file(tmp_path: Path, log: Log) -> str:
    return str(write(tmp_path / "log", log, epochs_of(log)))


@pytest.mark.parametrize("prefix", ["", ".", "steering.", "lb.", "capacity.", "replay"])
@pytest.mark.parametrize("broker", [("--broker", "127.0.0.1:9"), ()])
def test_a_wrong_prefix_is_refused_before_anything_is_read(
    prefix: str, broker: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no demo and no configuration file says where a broker is
    monkeypatch.setenv("HOME", str(tmp_path))
    result = replay("no-such-file", "--into", prefix, *broker)
    assert isinstance(result.exception, IsolationError)


@pytest.mark.parametrize("speed", ["0", "-1", "inf", "nan", "fast", ""])
def test_a_speed_is_a_number_above_nothing_or_max(speed: str) -> None:
    given = ("--into", PREFIX, "--speed", speed, "--broker", "127.0.0.1:9")
    result = replay("no-such-file", *given)
    assert isinstance(result.exception, UsageError)
    assert "--speed" in str(result.exception)


def test_a_speed_without_anything_to_publish_is_refused(file: str) -> None:
    assert isinstance(replay(file, "--speed", "2").exception, UsageError)


def test_a_broker_that_would_not_be_used_is_refused(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (("--broker", "127.0.0.1:9"), ("--sasl-user", "me"), ("--tls-ca", "x.pem")):
        result = replay(file, *given)
        assert isinstance(result.exception, UsageError)
        assert "without a broker" in str(result.exception)
    monkeypatch.setenv("EDGESTEER_BROKER", "127.0.0.1:9")  # says where, not that it be used
    assert replay(file).exit_code == 0
