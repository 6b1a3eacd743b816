"""The running demo's broker, so that a second terminal needs no address.

The demo writes `.edgesteer/broker.json` into the checkout and takes it away when it ends. A demo
that was killed leaves the file behind, so a reader also asks whether that process still lives.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """What the demo says of itself; `pid` is the process that owns the broker."""

    bootstrap: str
    pid: int
    kind: str  # embedded | kafka


def checkout() -> Path:
    """The checkout this code runs from; installed elsewhere, the working directory."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def demo_folder() -> Path:
    """Where the demo keeps what it needs while it runs."""
    return checkout() / ".edgesteer"


def demo_file() -> Path:
    """Where the running demo says which broker it uses."""
    return demo_folder() / "broker.json"


def announce(broker: RunningBroker) -> None:
    """Say which broker the demo uses; in one step, so that no reader sees half a file."""
    path = demo_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{broker.pid}")
    draft.write_text(json.dumps(asdict(broker)) + "\n", encoding="utf-8")
    draft.replace(path)


def withdraw(pid: int) -> None:
    """Take the announcement away, if it is this process's own."""
    try:
        broker = _read(demo_file())
    except (OSError, ValueError):
        return
    if broker.pid == pid:
        demo_file().unlink(missing_ok=True)


def demo_broker() -> tuple[RunningBroker | None, str]:
    """The running demo's broker, or None and why there is none."""
    path = demo_file()
    try:
        broker = _read(path)
    except FileNotFoundError:
        return None, f"none: {path} is not there"
    except (OSError, ValueError) as error:
        return None, f"{path} cannot be read: {error}"
    if not is_running(broker.pid):
        return None, f"{path} is left over from one that has ended"
    return broker, f"{path}"


def _read(path: Path) -> RunningBroker:
    data = json.loads(path.read_text(encoding="utf-8"))
    try:
        return RunningBroker(str(data["bootstrap"]), int(data["pid"]), str(data["kind"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a demo's announcement ({error!r})") from None


def is_running(pid: int) -> bool:
    """Whether a process with this id lives."""
    with suppress(PermissionError):  # somebody else's: it lives
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
