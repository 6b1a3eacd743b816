"""What keeps a replay off the live topics: the prefix, and the one way out."""

import itertools
from typing import Any

import pytest

from pipeline.broker import isolated
from pipeline.broker.isolated import NAME_MAX, IsolatedProducer, isolated_prefix
from pipeline.errors import IsolationError, UsageError
from schemas.registry import BY_NAME, TOPICS


class Broker:
    """Takes whatever comes."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def create_batch(self) -> str:
        return "batch"

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> str:
        self.sent.append(topic)
        return "future"


@pytest.mark.parametrize("prefix", ["replay.", "r.", "2026-05-01.a_b.", "replay.steering.", "x.y."])
def test_names_under_a_good_prefix_are_no_live_ones(prefix: str) -> None:
    assert isolated_prefix(prefix) == prefix
    assert not {prefix + name for name in BY_NAME} & set(BY_NAME)


WRONG = ["", ".", "..", ".replay.", "replay", "re play.", "re/play.", "rejoué.", "replay.\n", "\n."]
WRONG += ["__replay.", "__.", "*.", "x" * NAME_MAX + "."]


@pytest.mark.parametrize("prefix", WRONG)
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(IsolationError):
        isolated_prefix(prefix)


def test_a_prefix_that_live_names_begin_with_is_refused() -> None:
    parts = {name.split(".")[0] + "." for name in BY_NAME if "." in name}
    assert {"steering.", "lb.", "bgp.", "fleet."} <= parts
    for prefix in sorted(parts):
        with pytest.raises(IsolationError, match="is not apart from the live topic"):
            isolated_prefix(prefix)


def test_a_prefix_that_makes_a_live_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two names of the registry are so today; the rule does not rest on that."""
    live = BY_NAME["lb.weights"]
    monkeypatch.setattr(isolated, "BY_NAME", {**BY_NAME, "far.lb.weights": live})
    with pytest.raises(IsolationError, match=r"far\.lb\.weights"):
        isolated_prefix("far.")


def test_it_is_wrong_usage() -> None:
    assert issubclass(IsolationError, UsageError)


@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS])
async def test_no_topic_of_the_registry_is_ever_written(topic: str) -> None:
    broker = Broker()
    with pytest.raises(IsolationError, match=topic):
        await IsolatedProducer(broker, "replay.").send_batch("batch", topic, partition=0)
    assert broker.sent == []


async def test_a_live_name_is_refused_even_where_it_is_under_the_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker()
    producer = IsolatedProducer(broker, "far.")
    live = BY_NAME["lb.weights"]
    monkeypatch.setattr(isolated, "BY_NAME", {**BY_NAME, "far.lb.weights": live})
    with pytest.raises(IsolationError):
        await producer.send_batch("batch", "far.lb.weights", partition=0)
    assert broker.sent == []


async def test_what_is_not_under_the_prefix_is_refused() -> None:
    broker = Broker()
    producer = IsolatedProducer(broker, "replay.")
    strange = ["", "replay", "replaylb.weights", "other.lb.weights", "x.replay.lb.weights"]
    for topic in strange:
        with pytest.raises(IsolationError):
            await producer.send_batch("batch", topic, partition=0)
    assert broker.sent == []
    assert await producer.send_batch("batch", "replay.lb.weights", partition=0) == "future"
    assert broker.sent == ["replay.lb.weights"]


def test_a_producer_without_a_good_prefix_cannot_be_made() -> None:
    for prefix in [*WRONG, "steering."]:
        with pytest.raises(IsolationError):
            IsolatedProducer(Broker(), prefix)


def test_no_two_prefixes_meet_in_one_live_name() -> None:
    """Whatever is cut off the front of a live name is refused as a prefix."""
    for name in BY_NAME:
        for prefix in itertools.accumulate(name):
            with pytest.raises(IsolationError):
                isolated_prefix(prefix)
