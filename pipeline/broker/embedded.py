"""The embedded broker: Kafka's protocol from one small binary (noida-db), to try things out.

It comes as a wheel with the other dependencies, so `make demo` and `make test` need neither Docker
nor Java, and it answers within a tenth of a second. What it is not: durable (a kill -9 loses
acknowledged records), clustered, or strict about sessions (a dead member of a group stays until it
comes back under the same static id). It has no long poll, so an idle consumer should pause for 2 ms
after an empty fetch. tests/contract holds it to what we need of it; production is Apache Kafka.
"""

import os
import sys
from importlib import metadata, resources
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.broker.process import LOOPBACK, Server, free_ports, wait_for_brokers
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError

VERSION = "0.2.3"
START_TIMEOUT_S = 60.0
STOP_PATIENCE_S = 10.0


def _binary() -> Path:
    """The binary inside the wheel. Raises BrokerError where there is none, or another version."""
    platform = f"{sys.platform} on {os.uname().machine if hasattr(os, 'uname') else 'this machine'}"
    remedy = (
        "Use Apache Kafka (Java 17: --broker kafka) or a broker of your own (--broker HOST:PORT)."
    )
    try:
        found = metadata.version("noida-db")
        binary = resources.files("noida_db") / ("noida-db.exe" if os.name == "nt" else "noida-db")
    except (metadata.PackageNotFoundError, ModuleNotFoundError):
        raise BrokerError(
            f"the embedded broker (noida-db {VERSION}) is not installed: no wheel of it for "
            f"{platform}, or `make setup` has not run. {remedy}"
        ) from None
    if found != VERSION:
        raise BrokerError(
            f"the embedded broker is noida-db {found}, but {VERSION} is the one that was tested: "
            "run `make setup`."
        )
    path = Path(str(binary))
    if not path.is_file():
        raise BrokerError(f"noida-db {VERSION} has no binary for {platform}. {remedy}")
    return path


class EmbeddedBroker:
    """A broker of our own on 127.0.0.1, its data in `folder`; a context manager.

    `port` 0 takes a free one.
    """

    kind = "embedded"

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self._server: Server | None = None

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def settings(self) -> BrokerSettings:
        return BrokerSettings(bootstrap=self.bootstrap)

    def start(self) -> Self:
        """Return when it answers. Raises BrokerError, with what it said, when it does not."""
        binary = _binary()
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_ports(1)[0]
        command = [str(binary), "start", "--data-dir", str(self.folder), "--host", LOOPBACK]
        command += ["--only", "kafka", "--kafka-port", str(self.port)]
        self._server = Server("the embedded broker", command, self.folder / "broker.log")
        try:
            wait_for_brokers(self.settings, [self._server], START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def check_alive(self) -> None:
        """Raise BrokerError when it has ended by itself."""
        if self._server is not None:
            self._server.check_alive()

    def stop(self) -> None:
        """End it, and only it. Idempotent."""
        if self._server is not None:
            self._server.stop(STOP_PATIENCE_S)
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
