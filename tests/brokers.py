"""Which broker the tests run against, and starting it.

EDGESTEER_TEST_BROKER=kafka|docker|embedded|HOST:PORT says which; unset, the first that is there:
Docker (an engine answers), Apache Kafka (Java and its jars or Maven), the embedded broker. Where
one does not start although nobody asked for it, the next is taken; the last lines say which it was.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.broker.embedded import VERSION as EMBEDDED_VERSION
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.kafka import VERSION as KAFKA_VERSION
from pipeline.broker.kafka import KafkaCluster, why_not
from pipeline.broker.process import free_ports, wait_for_brokers
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError

EMBEDDED, KAFKA, DOCKER, GIVEN = "embedded", "kafka", "docker", "given"
IMAGE = os.environ.get("EDGESTEER_KAFKA_IMAGE", f"apache/kafka:{KAFKA_VERSION}")

#: What tests change: a cleaner that looks often, and sessions short enough to wait for.
TEST_PROPERTIES = {
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "group.min.session.timeout.ms": "1000",
}


@dataclass(frozen=True)
class TestBroker:
    """A broker that answers. `kind`: embedded, kafka, docker, or given (somebody else's)."""

    __test__ = False
    kind: str
    settings: BrokerSettings

    @property
    def is_kafka(self) -> bool:
        """Whether Kafka's full behaviour is promised."""
        return self.kind != EMBEDDED

    def __str__(self) -> str:
        name = {
            EMBEDDED: f"the embedded broker (noida-db {EMBEDDED_VERSION})",
            KAFKA: f"Apache Kafka {KAFKA_VERSION}",
            DOCKER: f"{IMAGE} in Docker",
            GIVEN: "a broker that was given",
        }[self.kind]
        return f"{name} at {self.settings.bootstrap}"


def docker_answers() -> bool:
    """Whether a Docker engine can be spoken to."""
    import docker

    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):
        return False


def candidates() -> list[str]:
    """The brokers to try, in order: one when it was said which."""
    said = os.environ.get("EDGESTEER_TEST_BROKER", "")
    if said:
        return [said]
    there = [DOCKER] if docker_answers() else []
    return [*there, *([] if why_not() else [KAFKA]), EMBEDDED]


@contextmanager
def running(kinds: list[str], folder: Path, said: Callable[[str], None]) -> Iterator[TestBroker]:
    """The first of them that starts; ended afterwards. Raises BrokerError when none does."""
    for index, kind in enumerate(kinds):
        if ":" in kind:
            yield TestBroker(GIVEN, BrokerSettings.load(bootstrap=kind))
            return
        if kind not in STARTERS:
            raise BrokerError(f"EDGESTEER_TEST_BROKER={kind}: kafka, docker, embedded or HOST:PORT")
        try:
            broker = STARTERS[kind](folder / kind).start()
        except BrokerError as error:
            said(f"{kind}: {error}")
            if index + 1 == len(kinds):
                raise
            continue
        try:
            yield TestBroker(kind, broker.settings)
        finally:
            broker.stop()
        return


class DockerKafka:
    """Apache Kafka from an image, by testcontainers; `folder` is not used."""

    def __init__(self, folder: Path) -> None:
        self.port = free_ports(1)[0]

    @property
    def settings(self) -> BrokerSettings:
        return BrokerSettings(bootstrap=f"127.0.0.1:{self.port}")

    def start(self) -> Self:
        import docker
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        testcontainers_config.ryuk_disabled = True  # `stop` ends it; one image less to fetch
        environment = {
            "NODE_ID": "1",
            "PROCESS_ROLES": "broker,controller",
            # It speaks to itself as well (the ends of transactions), where the port has no map.
            "LISTENERS": "INSIDE://:9094,PLAINTEXT://:9092,CONTROLLER://:9093",
            "ADVERTISED_LISTENERS": "INSIDE://localhost:9094,"
            f"PLAINTEXT://{self.settings.bootstrap}",
            "INTER_BROKER_LISTENER_NAME": "INSIDE",
            "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "AUTO_CREATE_TOPICS_ENABLE": "false",
            **{key.replace(".", "_").upper(): value for key, value in TEST_PROPERTIES.items()},
        }
        self._container = DockerContainer(IMAGE)
        # On loopback only, which `with_bind_ports` has no word for; the engine takes it as it is.
        self._container.ports["9092"] = ("127.0.0.1", self.port)
        for key, value in environment.items():
            self._container.with_env("KAFKA_" + key, value)
        try:
            self._container.start()
        except (docker.errors.DockerException, OSError) as error:
            raise BrokerError(f"{IMAGE} did not start: {error}") from error
        try:
            wait_for_brokers(self.settings, [], 120)
        except BaseException:
            self._container.stop()
            raise
        return self

    def stop(self) -> None:
        self._container.stop()


def _kafka(folder: Path) -> KafkaCluster:
    return KafkaCluster(folder, properties=TEST_PROPERTIES)


STARTERS: dict[str, Callable[[Path], EmbeddedBroker | KafkaCluster | DockerKafka]] = {
    EMBEDDED: EmbeddedBroker,
    KAFKA: _kafka,
    DOCKER: DockerKafka,
}
