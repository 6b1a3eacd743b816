"""An answer from whichever node is up and knows."""

import pytest
from aiokafka.errors import (
    KafkaError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from pipeline.broker import admin
from pipeline.broker.admin import ATTEMPTS, any_node


class Nodes:
    """Nodes that are asked one after the other: errors, then an answer."""

    def __init__(self, *errors: type[KafkaError]) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "known"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "RETRY_AFTER_S", 0.0)


async def test_a_node_that_is_gone_or_has_not_heard_of_a_topic_yet_is_not_the_last_word() -> None:
    nodes = Nodes(NodeNotReadyError, UnknownTopicOrPartitionError, NodeNotReadyError)
    assert await any_node(nodes.ask) == "known"
    assert nodes.asked == 4


async def test_what_all_of_them_say_is_raised() -> None:
    nodes = Nodes(*[UnknownTopicOrPartitionError] * (2 * ATTEMPTS))
    with pytest.raises(UnknownTopicOrPartitionError):
        await any_node(nodes.ask)
    assert nodes.asked == ATTEMPTS


async def test_a_refusal_is_not_asked_for_twice() -> None:
    nodes = Nodes(TopicAuthorizationFailedError)
    with pytest.raises(TopicAuthorizationFailedError):
        await any_node(nodes.ask)
    assert nodes.asked == 1
