"""What the brokers that we start have in common: free ports, waiting for an answer, an orderly end.

Each runs in a session of its own: Ctrl-C in a terminal reaches only us, and we end the broker last,
after everything that still writes to it. Only that process group is ever signalled. Should we be
killed ourselves, a shell that waits at the other end of a pipe sees it close and ends the broker in
our stead. (Linux's parent-death signal was rejected: it fires when the *thread* that started the
broker ends, and macOS has none.)
"""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError

LOOPBACK = "127.0.0.1"
#: A line said at each start on a Linux older than the embedded broker's, and the rest of a Java
#: stack: neither helps who reads why a broker ended.
NOISE = ("version `GLIBC_", "\tat ")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind((LOOPBACK, 0))
        return [int(held.getsockname()[1]) for held in sockets]
    finally:
        for held in sockets:
            held.close()


#: Reads until told that all is done; ends process group $1 when the pipe closes without a word.
WATCH = 'read -r word || kill -s TERM -- "-$1"'


class Server:
    """One subprocess with its output in a file; it does not outlive us."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603  (our own command line, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watch = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", WATCH, "edgesteer-watch", str(self.process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self, lines: int = 8) -> str:
        """The last lines of its output that mean something."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        kept = [line for line in text.splitlines() if not any(noise in line for noise in NOISE)]
        return "\n".join(kept[-lines:])

    def check_alive(self) -> None:
        """Raise BrokerError, with its last words, when it has ended."""
        status = self.process.poll()
        if status is not None:
            raise BrokerError(f"{self.name} ended with status {status}:\n{self.said()}")

    def ask_to_stop(self) -> None:
        """Ask it to end; return at once."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)

    def stop(self, patience_s: float) -> None:
        """End it: asked first, then made to. Idempotent."""
        for kind, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
            if self.process.poll() is not None:
                break
            self._signal(kind)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(wait_s)
        self._dismiss_watch()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._dismiss_watch()

    def _dismiss_watch(self) -> None:
        if self._watch.poll() is None:
            with suppress(BrokenPipeError):
                self._watch.communicate(b"done\n")

    def _signal(self, kind: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.killpg(self.process.pid, kind)


def wait_for_brokers(settings: BrokerSettings, servers: Sequence[Server], timeout_s: float) -> None:
    """Return when all of them (at least one) are members of the cluster; raise BrokerError when one
    ends or the time is over."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for server in servers:
            server.check_alive()
        if _listening(settings.bootstrap) and _members(settings) >= max(1, len(servers)):
            return
        time.sleep(0.05)
    raise BrokerError(
        f"no broker answered on {settings.bootstrap} within {timeout_s:.0f} s\n"
        + "\n".join(f"{server.name}: {server.said()}" for server in servers)
    )


def _listening(bootstrap: str) -> bool:
    for server in bootstrap.split(","):
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
    return True


def _members(settings: BrokerSettings) -> int:
    with ThreadPoolExecutor(1) as pool:  # a loop of its own, since the caller may be in one
        return pool.submit(asyncio.run, _ask_members(settings)).result()


async def _ask_members(settings: BrokerSettings) -> int:
    admin = AIOKafkaAdminClient(**settings.client_kwargs(), request_timeout_ms=2000)
    try:
        await admin.start()
        return len((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return 0
    finally:
        await admin.close()
