"""Apache Kafka without Docker: KRaft from the jars, one process a node, on 127.0.0.1.

Needs Java 17 or later; Maven only the first time, to fetch the jars (93 files, 54 MB, seconds) into
a cache. Then: write server.properties, format the storage, start, wait until every node has joined.
About five seconds from nothing. With `nodes` = 3 it is a real cluster (replication 3, a quorum of
controllers), in which a leader can be lost.

Rejected: the release archive (needs a mirror and unpacks scripts nobody runs), a container (needs
an engine; tests/ has that one beside this), and writing the storage's meta files by hand (their
format changes with each release; the tool's does not).
"""

import os
import re
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.broker.process import LOOPBACK, Server, free_ports, wait_for_brokers
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError

VERSION = "4.1.0"
JAVA_MIN = 17
START_TIMEOUT_S = 180.0
STOP_PATIENCE_S = 20.0
MAVEN_TIMEOUT_S = 600.0
HEAP_ALONE, HEAP_IN_CLUSTER = "1g", "512m"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>edgesteer</groupId><artifactId>kafka</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version></dependency>
  </dependencies>
</project>
"""


def quiet(_: str) -> None:
    """Progress for nobody."""


def jars_folder() -> Path:
    """Where the jars are, or will be: EDGESTEER_KAFKA_LIBS, else the user's cache."""
    named = os.environ.get("EDGESTEER_KAFKA_LIBS")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edgesteer" / f"kafka-{VERSION}"


def has_jars() -> bool:
    """Whether nothing needs to be downloaded."""
    return any(jars_folder().glob(f"kafka_*-{VERSION}.jar"))


def find_java() -> str:
    """The path of a Java that is new enough. Raises BrokerError."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    remedy = (
        f"Install Java {JAVA_MIN} or later (Debian: openjdk-17-jre-headless), or set JAVA_HOME."
    )
    if java is None:
        raise BrokerError(f"Apache Kafka needs Java, and there is none. {remedy}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if found is None:  # macOS has a `java` that only says where to get one
        raise BrokerError(f"Apache Kafka needs Java, and {java} is not one. {remedy}")
    if int(found[1]) < JAVA_MIN:
        raise BrokerError(
            f"Apache Kafka {VERSION} needs Java {JAVA_MIN}; {java} is {found[1]}. {remedy}"
        )
    return java


def why_not() -> str:
    """Why Apache Kafka cannot be started here; empty when it can."""
    try:
        find_java()
    except BrokerError as error:
        return str(error)
    if not has_jars() and shutil.which("mvn") is None:
        return (
            f"Apache Kafka's jars are not in {jars_folder()}, and there is no Maven to fetch them. "
            "Install it (Debian: maven), or set EDGESTEER_KAFKA_LIBS."
        )
    return ""


def fetch_jars(progress: Callable[[str], None] = quiet) -> Path:
    """The folder with all jars, downloaded if need be. Raises BrokerError, with Maven's words."""
    folder = jars_folder()
    if has_jars():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError(why_not())
    progress(f"fetching Apache Kafka {VERSION} through Maven (once; 54 MB) ...")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=folder.parent) as draft:
        pom, libs = Path(draft) / "pom.xml", Path(draft) / "libs"
        pom.write_text(POM, encoding="utf-8")
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        try:
            done = subprocess.run(  # noqa: S603
                [*command, f"-DoutputDirectory={libs}"],
                capture_output=True,
                text=True,
                timeout=MAVEN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BrokerError(f"Maven did not fetch the jars in {MAVEN_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise BrokerError(f"Maven could not fetch Apache Kafka {VERSION}:\n{words}")
        try:
            libs.rename(folder)
        except OSError:  # somebody else was quicker
            if not has_jars():
                raise
    return folder


class KafkaCluster:
    """`nodes` brokers of Apache Kafka, their data in `folder`; a context manager.

    `properties` go into every node's server.properties; `client` is what its clients then need
    beside the address (BrokerSettings: TLS, SASL). `progress` is told what takes time.
    """

    kind = "kafka"

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        properties: Mapping[str, str] | None = None,
        client: Mapping[str, object] | None = None,
        progress: Callable[[str], None] = quiet,
    ) -> None:
        self.folder, self.nodes, self.progress = folder, nodes, progress
        self._extra, self._client = dict(properties or {}), dict(client or {})
        self._ports = free_ports(2 * nodes)
        self._servers: dict[int, Server] = {}

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{LOOPBACK}:{port}" for port in self._ports[: self.nodes])

    @property
    def settings(self) -> BrokerSettings:
        return BrokerSettings.model_validate({"bootstrap": self.bootstrap, **self._client})

    def start(self) -> Self:
        """Return when every node has joined. Raises BrokerError when one does not."""
        self._java = find_java()
        self._classpath = str(fetch_jars(self.progress) / "*")
        self.progress(f"starting Apache Kafka {VERSION} ({self.nodes} node(s)) ...")
        try:
            self._format()
            for node in range(self.nodes):
                self._launch(node)
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def check_alive(self) -> None:
        """Raise BrokerError when a node has ended by itself."""
        for server in self._servers.values():
            server.check_alive()

    def kill_node(self, node: int) -> None:
        """End one node at once, as a power cut would (nodes count from 0)."""
        self._servers.pop(node).kill()

    def stop_node(self, node: int) -> None:
        """End one node in good order: it hands its partitions over first."""
        self._servers.pop(node).stop(STOP_PATIENCE_S)

    def start_node(self, node: int) -> None:
        """Bring a node back that was ended, with its data; return when it has joined."""
        self._launch(node)
        self._wait()

    def stop(self) -> None:
        """End every node, and only them. Idempotent."""
        for server in self._servers.values():
            server.ask_to_stop()
        for server in self._servers.values():
            server.stop(STOP_PATIENCE_S)
        self._servers.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        up = ",".join(f"{LOOPBACK}:{self._ports[node]}" for node in sorted(self._servers))
        settings = self.settings.model_copy(update={"bootstrap": up})
        wait_for_brokers(settings, list(self._servers.values()), START_TIMEOUT_S)

    def _properties_file(self, node: int) -> Path:
        return self.folder / f"node-{node}.properties"

    def _properties(self, node: int) -> dict[str, str]:
        copies = str(min(3, self.nodes))
        controllers = self._ports[self.nodes :]
        voters = ",".join(f"{i + 1}@{LOOPBACK}:{port}" for i, port in enumerate(controllers))
        return {
            "process.roles": "broker,controller",
            "node.id": str(node + 1),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self._ports[node]},"
            f"CONTROLLER://{LOOPBACK}:{controllers[node]}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / f"node-{node}"),
            "auto.create.topics.enable": "false",  # a misspelt topic is a mistake
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "8",
            "group.initial.rebalance.delay.ms": "0",
            **self._extra,
        }

    def _format(self) -> None:
        """Write each node's properties and prepare its storage, all nodes at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tools = []
        for node in range(self.nodes):
            file = self._properties_file(node)
            lines = (f"{key}={value}\n" for key, value in self._properties(node).items())
            file.write_text("".join(lines), encoding="utf-8")
            arguments = [
                "format",
                f"--cluster-id={cluster}",
                "-c",
                str(file),
            ]  # an id may begin with -
            log = self.folder / f"format-{node}.log"
            tools.append(self._run("kafka.tools.StorageTool", arguments, "256m", log, "formatting"))
        for tool in tools:
            status = tool.process.wait(START_TIMEOUT_S)
            tool.stop(STOP_PATIENCE_S)
            if status:
                raise BrokerError(f"Apache Kafka's storage could not be formatted:\n{tool.said()}")

    def _launch(self, node: int) -> None:
        heap = HEAP_ALONE if self.nodes == 1 else HEAP_IN_CLUSTER
        arguments = [str(self._properties_file(node))]
        log = self.folder / f"node-{node}.log"
        name = f"Apache Kafka (node {node})"
        self._servers[node] = self._run("kafka.Kafka", arguments, heap, log, name)

    def _run(self, main: str, arguments: list[str], heap: str, log: Path, name: str) -> Server:
        options = [f"-Xmx{heap}", "-Djava.awt.headless=true", "-cp", self._classpath]
        return Server(name, [self._java, *options, main, *arguments], log)
