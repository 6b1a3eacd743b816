"""The embedded broker is pinned: another version must pass this contract before it is taken."""

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.broker import embedded
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.topics import check_topics, create_topics
from pipeline.errors import BrokerError


def test_the_version_is_the_one_that_was_tested() -> None:
    assert importlib.metadata.version("noida-db") == embedded.VERSION


async def test_it_keeps_topics_over_an_orderly_restart(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        created = await create_topics(broker.settings, partitions=3)
        assert created
    with EmbeddedBroker(tmp_path) as broker:
        assert await check_topics(broker.settings, partitions=3) == []


def test_it_listens_on_loopback_only_and_frees_its_port(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        socket.create_connection(("127.0.0.1", broker.port), timeout=5).close()
        with pytest.raises(OSError), socket.socket() as other:
            other.bind(("127.0.0.1", broker.port))
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", broker.port))


def test_one_that_dies_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        assert broker._server is not None
        os.kill(broker._server.pid, signal.SIGKILL)
        broker._server.process.wait()
        with pytest.raises(BrokerError, match="ended with status -9"):
            broker.check_alive()


OWNER = """
import sys, time
from pathlib import Path
from pipeline.broker.embedded import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1])).start()
print(broker.port, flush=True)
time.sleep(600)
"""


def test_it_does_not_outlive_an_owner_that_was_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    port = int(owner.stdout.readline())
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("the broker outlived its owner")


def test_a_platform_without_a_wheel_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", no_version)
    with pytest.raises(BrokerError, match=r"no wheel of it for .* Use Apache Kafka"):
        EmbeddedBroker(tmp_path).start()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9.9")
    with pytest.raises(BrokerError, match=r"noida-db 9\.9\.9, but"):
        EmbeddedBroker(tmp_path).start()
