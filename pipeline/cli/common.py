"""What commands share: the broker's options, output for scripts and for people, times, the loop.

Data goes to stdout and nothing else does: with --json one object a line (`emit`), else lines and
tables (`say`, `table`). Everything said about the work goes to stderr (`note`).
"""

import asyncio
import functools
import inspect
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, TypeVar

import typer

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings

R = TypeVar("R")

_PANEL = "Broker"
_PROGRESS_EVERY_S = 0.2

BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker", metavar="HOST:PORT", help="Broker to talk to.", rich_help_panel=_PANEL
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
LastOption = Annotated[int, typer.Option("--last", min=0, help="So many of the newest.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Then go on with what comes.")]


def _flag(name: str, metavar: str, text: str) -> Any:
    return Annotated[
        str | None, typer.Option(name, metavar=metavar, help=text, rich_help_panel=_PANEL)
    ]


_BROKER_FLAGS: dict[str, Any] = {
    "broker": BrokerOption,
    "tls_ca": _flag("--tls-ca", "FILE", "PEM file of the authorities to trust; means TLS."),
    "tls_cert": _flag("--tls-cert", "FILE", "PEM file of this client's certificate."),
    "tls_key": _flag("--tls-key", "FILE", "PEM file of its key, when not in the certificate's."),
    "sasl_mechanism": _flag("--sasl-mechanism", "NAME", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."),
    "sasl_user": _flag(
        "--sasl-user", "NAME", "User; the password from EDGESTEER_SASL_PASSWORD or the file."
    ),
    "security_protocol": _flag(
        "--security-protocol", "NAME", "SSL, SASL_SSL ...; follows from the others."
    ),
}


_TOPICS_FLAG = Annotated[
    str | None,
    typer.Option(
        "--topics",
        metavar="PREFIX.",
        envvar="EDGESTEER_TOPICS",
        help="Read the topics under this prefix, where `replay --into` wrote them.",
        rich_help_panel=_PANEL,
    ),
]


class FindBroker:
    """Finds the settings when it is called; raises BrokerUnknown where there are none. `named`:
    whether the command line says anything of a broker."""

    def __init__(self, flags: dict[str, str | None], topics: str | None) -> None:
        self._flags, self._topics = flags, topics
        self.named = any(value is not None for value in flags.values())

    def __call__(self) -> "BrokerSettings":
        from pipeline.broker.isolated import isolated_prefix  # heavy: brings aiokafka
        from pipeline.broker.settings import find_broker

        quiet_clients()
        flags = dict(self._flags)
        found = find_broker(flags.pop("broker"), **flags)
        if not self._topics:
            return found
        return found.model_copy(update={"topics": isolated_prefix(self._topics)})


def takes_broker(command: Callable[..., R]) -> Callable[..., R]:
    """Give `command` the broker's options and hand it the settings they come to.

    `command` has a parameter `broker: BrokerSettings`; on the command line it becomes --broker and
    the TLS and SASL flags, completed from environment, configuration file and the running demo.
    """
    return _with_broker(command, lambda find: find())


def asks_broker(command: Callable[..., R]) -> Callable[..., R]:
    """The same for a command that reads what workers publish: --topics PREFIX. too."""
    return _with_broker(command, lambda find: find(), topics=True)


def may_take_broker(command: Callable[..., R]) -> Callable[..., R]:
    """The same for a command that can do without: its `broker` is a FindBroker."""
    return _with_broker(command, lambda find: find)


def _with_broker(
    command: Callable[..., R], hand: Callable[[FindBroker], Any], *, topics: bool = False
) -> Callable[..., R]:
    own = inspect.signature(command)
    kinds = {**_BROKER_FLAGS, "topics": _TOPICS_FLAG} if topics else _BROKER_FLAGS
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]
    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        if name != "broker"
    ]

    @functools.wraps(command)
    def wrapper(**given: Any) -> R:
        asked = {name: given.pop(name) for name in _BROKER_FLAGS}
        given["broker"] = hand(FindBroker(asked, given.pop("topics", None)))
        return command(**given)

    parameters = [*kept, *flags]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapper


def quiet_clients() -> None:
    """A command says in one sentence what failed; the client library need not say it again."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def run_async(work: Coroutine[Any, Any, R]) -> R:
    """Run to the end on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


# -- output ---------------------------------------------------------------------------------------


def _reader_is_gone() -> NoReturn:
    """`edgesteer table | head`: the reader has what it wanted, which is no failure. What is still
    in the buffer goes to the null device, so that the interpreter's last flush is quiet too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_is_gone()


def emit(value: object) -> None:
    """One JSON object, one line, on stdout."""
    import orjson

    _write(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")


def say(line: str = "") -> None:
    """One line of data for a person, on stdout."""
    _write(line + "\n")


def note(text: str) -> None:
    """One line about the work, on stderr."""
    print(text, file=sys.stderr)  # noqa: T201


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to be told (done, total), which a terminal on stderr shows as one line that
    changes and is gone in the end; nothing elsewhere."""
    shown_at, terminal = 0.0, sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        nonlocal shown_at
        if terminal and time.monotonic() - shown_at >= _PROGRESS_EVERY_S:
            shown_at = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{done:,} of {total:,} {what}")
            sys.stderr.flush()

    try:
        yield show
    finally:
        if shown_at:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def table(header: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> None:
    """Rows that line up. `right`: one letter a column, r for right-aligned (short: rest is left).

    A terminal gets a dim header; a pipe gets the same text without colours."""
    from rich.cells import cell_len

    text = [list(map(str, row)) for row in rows]
    widths = [
        max(cell_len(row[index]) for row in (list(header), *text)) for index in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            pad = " " * (width - cell_len(cell))
            cells.append(pad + cell if right[index : index + 1] == "r" else cell + pad)
        return "  ".join(cells).rstrip()

    _write("\n".join([dim(line(list(header))), *map(line, text)]) + "\n")


def _colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def dim(text: str) -> str:
    """Dim on a terminal, as it is elsewhere."""
    return f"\x1b[2m{text}\x1b[0m" if _colour(sys.stdout) else text


def bold(text: str) -> str:
    """Bold on a terminal, as it is elsewhere."""
    return f"\x1b[1m{text}\x1b[0m" if _colour(sys.stdout) else text


# -- times ----------------------------------------------------------------------------------------

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration_ms(text: str) -> int:
    """`500ms`, `60s`, `1h30m`, `2d` in milliseconds. Raises UsageError."""
    parts = _PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        raise UsageError(f"{text!r} is not a duration; write it as 500ms, 60s, 5m, 2h or 1h30m")
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def parse_time_ms(text: str, now_ms: int | None = None) -> int:
    """ISO 8601 (without a zone: UTC), `now`, or before now (`-40s`, `-2h`), as Unix milliseconds.
    Raises UsageError."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if text == "now":
        return now_ms
    if text.startswith("-"):
        return now_ms - parse_duration_ms(text[1:])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a time; write it as 2026-01-31T12:00:00Z, now, -40s or -2h"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def iso(at_ms: int) -> str:
    """Unix milliseconds as ISO 8601 in UTC; what no calendar holds as the number it is."""
    try:
        moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def si(value: float, unit: str) -> str:
    """`12.3 Gbps`: three figures and a prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:  # what is more is 1,000 in three figures
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:.3g} P{unit}"
