"""Fixtures of every room: a broker (tests/brokers.py says which), and topics of one's own.

- `broker`: one for the whole run. Topics on it come from `new_topic`, so that tests do not meet.
- `own_broker`: one for a module, for what needs the registry's topics, whose names are fixed.

A test marked `kafka` needs Apache Kafka and is skipped on the embedded broker; `gap(kind, error,
reason)` says that what a test asks is known not to hold on one kind (and fails once it does). With
EDGESTEER_REQUIRE_BROKER=1 a skipped broker test is a failure: continuous integration sets it.
"""

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from hypothesis import settings

from pipeline.broker.admin import admin_client, await_leaders
from tests.brokers import EMBEDDED, TestBroker, candidates, running

NewTopicMaker = Callable[..., Awaitable[str]]

_BROKER_FIXTURES = {"broker", "own_broker", "new_topic"}
_ran_on = pytest.StashKey[list[str]]()


#: How long an example takes says nothing: it would fail on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
#: Bad input makes polars' reader panic (caught): a line each, here and in every process of a test.
os.environ["RUST_BACKTRACE"] = "0"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ran_on] = []


def pytest_report_header() -> str:
    kinds = candidates()
    instead = f" (if it does not start: {', then '.join(kinds[1:])})" if kinds[1:] else ""
    return f"broker: {kinds[0]}{instead}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in dict.fromkeys(terminalreporter.config.stash[_ran_on]):
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs_broker = _BROKER_FIXTURES & set(getattr(item, "fixturenames", ()))
    required = os.environ.get("EDGESTEER_REQUIRE_BROKER") == "1"
    if required and needs_broker and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but EDGESTEER_REQUIRE_BROKER=1: {report.longrepr}"
    return report


def _start(config: pytest.Config, folder: Path) -> Iterator[TestBroker]:
    lines = config.stash[_ran_on]
    with running(
        candidates(), folder, lambda why: lines.append(f"not run against {why}")
    ) as broker:
        lines.append(f"ran against {broker}")
        yield broker


@pytest.fixture(scope="session")
def broker(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestBroker]:
    """The broker of this run."""
    yield from _start(pytestconfig, tmp_path_factory.mktemp("broker"))


@pytest.fixture(scope="module")
def own_broker(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestBroker]:
    """A broker that nobody else uses: its topics are this module's."""
    if ":" in candidates()[0]:
        pytest.skip("would create and fill the plane's own topics on a broker that was given")
    yield from _start(pytestconfig, tmp_path_factory.mktemp("own_broker"))


@pytest.fixture
async def new_topic(broker: TestBroker) -> AsyncIterator[NewTopicMaker]:
    """`await new_topic(partitions=1, **{"cleanup.policy": "compact"})` -> a name of its own."""
    made: list[str] = []

    async def make(partitions: int = 1, **config: str) -> str:
        name = f"test.{uuid.uuid4().hex[:12]}"
        async with admin_client(broker.settings) as client:
            await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
            await await_leaders(client, {name})
        made.append(name)
        return name

    yield make
    async with admin_client(broker.settings) as client:
        if made:
            await client.delete_topics(made)


@pytest.fixture(autouse=True)
def _what_the_broker_can_do(request: pytest.FixtureRequest) -> None:
    """Apply the marks `kafka` and `gap`, now that it is known which broker it is."""
    node = request.node
    gaps = list(node.iter_markers("gap"))
    if not gaps and node.get_closest_marker("kafka") is None:
        return
    name = "own_broker" if "own_broker" in request.fixturenames else "broker"
    kind = request.getfixturevalue(name).kind
    if node.get_closest_marker("kafka") is not None and kind == EMBEDDED:
        pytest.skip("needs Apache Kafka: EDGESTEER_TEST_BROKER=kafka")
    for gap in gaps:
        if gap.args[0] == kind:
            node.add_marker(pytest.mark.xfail(strict=True, raises=gap.args[1], **gap.kwargs))
